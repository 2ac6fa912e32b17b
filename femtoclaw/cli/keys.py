"""``key``: the keys of this node and its operators: which there are, whether they are as they were left, encrypting, rotating."""

from __future__ import annotations

import os
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import FemtoClawError, UnavailableError
from femtoclaw.home import Home, locate, require
from femtoclaw.keys import NEXT_KEY, NODE_KEY, folder, load_public_key, operator_file, protect_key
from wal.errors import LogError
from wal.note import PublicKey
from wal.reader import read_log_directory


def key(arguments: Arguments, output: Output) -> int:
    """``list``, ``trust``, ``verify``, ``protect [OPERATOR]``, ``rotate``, ``selftest``."""
    acts = {"list": _list, "trust": _trust, "verify": _verify, "protect": _protect, "rotate": _rotate}
    if arguments.what == "selftest":  # needs no node
        return _selftest(output)
    home = locate(getattr(arguments, "home", None))
    require(home)
    return acts[arguments.what](home, arguments, output)


def _list(home: Home, arguments: Arguments, output: Output) -> int:
    """The keys that signed the log, and the private keys here; needs no passphrase."""
    history, files = _history(home), _private(home)
    output.data({"node": history, "files": files})
    for each in history:
        told = (
            f"in force since record {each['first']}"
            if each["in_force"]
            else f"from record {each['first']} on, then rotated"
        )
        output.line(f"{each['public_key']}", "bold" if each["in_force"] else "dim")
        output.fields(
            [("", told if each["reason"] != "compromised" else f"{told} (the one before it was compromised)")]
        )
    output.fields([(each["file"], each["at_rest"]) for each in files])
    return 0


def _trust(home: Home, arguments: Arguments, output: Output) -> int:
    """What trust in this node rests on: anchors, keys, hash functions, routines; needs no passphrase."""
    from femtoclaw.auditing.trust import declared

    found = declared(home)
    output.data(found)
    for part, rows in found.items():
        output.line(part.replace("_", " "), "bold")
        for row in rows:
            output.line("  " + "  ".join(printable(value) for value in row.values()))
    return 0


def _history(home: Home) -> list[dict[str, Any]]:
    reader = read_log_directory(home.log)
    try:
        tenures = list(reader.keys())
    finally:
        reader.close()
    return [
        {"public_key": each.key.vkey(), "first": each.first, "reason": each.reason, "in_force": each is tenures[-1]}
        for each in tenures
    ]


def _private(home: Home) -> list[dict[str, Any]]:
    """Every private key of the home, with how it is kept."""
    from femtoclaw.key_file import at_rest

    names = [name for name in (NODE_KEY, NEXT_KEY) if os.path.lexists(os.path.join(folder(home), name))]
    if os.path.isdir(home.operators):
        names += [f"operators/{name}" for name in sorted(os.listdir(home.operators)) if name.endswith(".key")]
    return [{"file": name, "at_rest": at_rest(os.path.join(folder(home), name))} for name in names]


def _verify(home: Home, arguments: Arguments, output: Output) -> int:
    """Compare the key files with their signed index: 0 as they were left, 1 no index, 3 changed by hand. Recorded as a procedure
    where the node can be opened and an operator's key is at hand; with changed keys no node opens, which its start tells."""
    from femtoclaw.keys import index_findings

    own, in_force = load_public_key(home.public_key_file), _history(home)[-1]["public_key"]
    findings = index_findings(home, _known(home, own, in_force))
    told = [
        {"file": each.path, "how": each.how, "expected": each.expected, "found": each.found} for each in findings or ()
    ]
    if own.vkey() != in_force and not os.path.lexists(os.path.join(folder(home), NEXT_KEY)):
        told.append({"file": home.public_key_file, "how": "replaced", "expected": in_force, "found": own.vkey()})
    recorded = 0 if told or arguments.unrecorded else _record(home, arguments, output, in_force, findings is not None)
    output.data({"index": findings is not None, "in_force": in_force, "findings": told, "recorded": recorded})
    for each in told:
        output.line(f"{each['file']} was {each['how']} by hand", "red")
        output.fields([("expected", each["expected"]), ("found", each["found"])])
    if told:
        output.note("find out who changed it; until the files are as they were, the node does not start")
        return 3
    if findings is None:
        output.line("there is no index of the keys: the next change of a key makes one", "yellow")
        return 1
    output.line("the key files are as they were left", "green")
    if recorded:
        output.line(f"  recorded at index {recorded}")
    return 0


def _record(home: Home, arguments: Arguments, output: Output, in_force: str, index: bool) -> int:
    """Have the verification recorded; the index of its end, 0 where it could not be."""
    import hashlib

    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.execute import open_node
    from femtoclaw.control import load_cosigners
    from femtoclaw.procedures import procedure

    key = PublicKey.parse(in_force)
    try:
        with open_node(getattr(arguments, "home", None), output) as node:
            signer, cosigners = signer_of(node, arguments), load_cosigners(home, arguments.cosign)
            with procedure(node.started, signer, "key.verify", "keys", cosigners=cosigners) as told:
                told.content = {
                    "key_id": key.key_id.hex(), "fingerprint": hashlib.sha256(key.raw).hexdigest(), "index": index,
                    "files": [each["file"] for each in _private(home)],
                }  # fmt: skip
                told.detail = "the key files are as they were left" if index else "there is no index of the keys"
    except (
        FemtoClawError,
        LogError,
    ) as error:  # what was found stands, whoever looked and whether or not the node can start
        output.note(f"it is not on record: {error}")
        return 0
    return told.ended


def _selftest(output: Output) -> int:
    """Every algorithm in use against published vectors, and one case each that must be refused: 0, or 3."""
    from femtoclaw.auditing.vectors import try_vectors

    tried = try_vectors()
    sound = all(each.ok for each in tried)
    output.data({"ok": sound, "vectors": [each._asdict() | {"ok": each.ok} for each in tried]})
    for each in tried:
        output.line(
            f"{'ok' if each.ok else 'WRONG':<6} {each.algorithm}: {each.source}; for {each.used_for}",
            "" if each.ok else "red",
        )
    if not sound:
        output.note("this program, its libraries or this machine cannot be trusted with keys: stop the node")
    return 0 if sound else 3


def _known(home: Home, own: PublicKey, in_force: str) -> list[PublicKey]:
    """Who may have signed the index: the key in force, and the one before it while a rotation is not settled."""
    key = PublicKey.parse(in_force)
    return [key, own] if os.path.lexists(os.path.join(folder(home), NEXT_KEY)) else [key]


def _protect(home: Home, arguments: Arguments, output: Output) -> int:
    """Encrypt a key under a new passphrase: the node's, or an operator's by name."""
    from femtoclaw.cli.node import locked
    from femtoclaw.key_file import is_sealed
    from femtoclaw.passphrase import new_passphrase, node_passphrase, operator_passphrase

    if locked(home):
        raise UnavailableError("the node is at work", where=home.path, remedy="stop it, then run this again")
    name = arguments.name
    path = home.key_file if name is None else operator_file(home, name)
    passphrase = new_passphrase(path, sealed=is_sealed(path))
    ask = node_passphrase if name is None else operator_passphrase
    protect_key(home, os.path.relpath(path, folder(home)), passphrase, ask)
    output.data({"file": path, "at_rest": "encrypted"})
    output.line(f"{path} is encrypted", "green")
    output.note("the disk and its backups may still hold the file as it was: rotate the key if that matters")
    return 0


def _rotate(home: Home, arguments: Arguments, output: Output) -> int:
    """Pass the log on to a new key: 0 done, 1 refused. The new key is kept as the old one was, under its passphrase."""
    from femtoclaw.cli.asking import ask, tell
    from femtoclaw.cli.execute import at_rest, open_node
    from femtoclaw.keys import settle, stage_key

    reason = "compromised" if arguments.compromised else "scheduled"
    if arguments.dry_run:
        return _preview_rotation(home, arguments, output, reason)
    passphrase = _kept_under(home)
    with open_node(getattr(arguments, "home", None), output) as node:
        started = at_rest(node, "key rotate").started
        old = started.signer
        new = stage_key(home, old, passphrase)
        content = {"old": old.public.vkey(), "new": new.public.vkey(), "reason": reason}
        try:
            asked = ask(node, arguments, "key.rotate", "node", content)
        except FemtoClawError:
            settle(home, old.public, [old, new])
            raise
        if asked.permitted:
            started.log.rotate(new, reason)
        settle(home, (new if asked.permitted else old).public, [old, new])
        code = tell(asked, output, "key.rotate", "node")
    if asked.permitted:
        output.line(f"  public key  {new.public.vkey()}")
        output.note("hand the new keys/node.pub to whoever checks this log; the old private key is gone from keys/")
        if arguments.compromised:
            output.note(
                "whoever had the old key could read every secret: set them anew, and change them where they are used"
            )
    return code


def _preview_rotation(home: Home, arguments: Arguments, output: Output, reason: str) -> int:
    """Whether it would be permitted, with a key that is made for the question and kept nowhere."""
    from femtoclaw.cli.previewing import preview
    from femtoclaw.key_file import SEED_BYTES
    from wal.note import Ed25519Signer

    old = load_public_key(home.public_key_file)
    new = Ed25519Signer(old.name, os.urandom(SEED_BYTES)).public
    content = {"old": old.vkey(), "new": new.vkey(), "reason": reason}
    return preview(arguments, output, "key.rotate", "node", lambda node: content)


def _kept_under(home: Home) -> str | None:
    """The passphrase of the node's key, tried on it: what was mistyped must not become the new key's."""
    from femtoclaw.key_file import is_sealed, open_key, read_key_file
    from femtoclaw.passphrase import node_passphrase

    if not is_sealed(home.key_file):
        return None
    passphrase = node_passphrase(home.key_file)
    open_key(read_key_file(home.key_file), home.key_file, lambda where: passphrase)
    return passphrase
