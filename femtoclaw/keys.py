"""The keys of a node: which file signs, keys of operators, rotation of files. Loaded lazily: reading needs none.

``keys/node.key`` signs the log, ``keys/node.pub`` is its public half. A rotation stages ``keys/node.next.key``, has the
log record it, and settles the files after that; whenever a crash comes, the files of both keys are there until the log
says which one is in force.
"""

from __future__ import annotations

import os

from femtoclaw.errors import ConfigurationError
from femtoclaw.home import Home, read_bounded
from femtoclaw.key_file import SEED_BYTES, KeySigner, open_key, read_key_file, resealed, seal, stated_key
from femtoclaw.passphrase import node_passphrase, operator_passphrase
from wal.errors import LogError
from wal.note import PublicKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from femtoclaw.key_index import Finding

NODE_KEY, NODE_PUBLIC, NEXT_KEY = "node.key", "node.pub", "node.next.key"
OPERATOR_CHARS_MAX = 64
_PR_SET_DUMPABLE = 4


def folder(home: Home) -> str:
    """Where the keys are."""
    return os.path.dirname(home.key_file)


def load_signer(home: Home) -> KeySigner:
    """The signer that ``keys/node.pub`` names, after the key files were checked against their index, if there is one.

    Raises ConfigurationError when the key or its public half is missing, malformed, open to others, or locked
    (KeyLockedError); SecurityError when a key file was changed by hand.
    """
    public = load_public_key(home.public_key_file)
    check_index(home, [public])
    return select_signer(home, public)


def select_signer(home: Home, expected: PublicKey, ask: Callable[[str], str] | None = None) -> KeySigner:
    """The signer of the key that the log says is in force, whichever file a rotation has left it in.

    Raises as ``load_signer``.
    """
    protect_process()
    path = _staged(home) if _is(home, _staged(home), expected) else home.key_file
    return open_key(read_key_file(path), path, ask or node_passphrase, expected)


def staged_signer(home: Home, ask: Callable[[str], str]) -> KeySigner | None:
    """The signer of a rotation that is not settled yet, None when there is none. Raises as ``load_signer``."""
    path = _staged(home)
    if not os.path.lexists(path):
        return None
    raw = read_key_file(path)
    return open_key(raw, path, ask, stated_key(raw, path))


def _staged(home: Home) -> str:
    return os.path.join(folder(home), NEXT_KEY)


def _is(home: Home, path: str, expected: PublicKey) -> bool:
    """True when the key file at ``path`` says that it holds this key; staged ones always say it."""
    return os.path.lexists(path) and stated_key(read_key_file(path), path) == expected


def load_operator(home: Home, name: str, path: str | None = None) -> KeySigner:
    """An operator's signer, from ``path`` or from the home. Raises as ``load_signer``, and when it is another's."""
    protect_process()
    where = path if path is not None else operator_file(home, name)
    raw = read_key_file(where)
    public = stated_key(raw, where)
    if public is None or public.name != name:
        raise ConfigurationError(
            "this is another's key", where=where, expected=f"a key file of {name[:OPERATOR_CHARS_MAX]!r}",
            found="a key without a name" if public is None else f"one of {public.name!r}",
        )  # fmt: skip
    return open_key(raw, where, operator_passphrase)


def operator_file(home: Home, name: str) -> str:
    """Where the key of an operator is kept. Raises ConfigurationError for a name that is no file name."""
    allowed = all(char.isascii() and (char.isalnum() or char in "_.@-") for char in name)
    if not allowed or not 1 <= len(name) <= OPERATOR_CHARS_MAX or name[0] == ".":
        raise ConfigurationError(
            "not a name for an operator", found=f"{len(name)} characters",
            expected=f"1 to {OPERATOR_CHARS_MAX} letters, digits, _ . @ -, not beginning with a dot",
        )  # fmt: skip
    return os.path.join(folder(home), "operators", f"{name}.key")


def check_index(home: Home, known: Sequence[PublicKey] | None = None) -> bool:
    """Compare the key files with their index; False when there is none, which is for the log to judge.

    ``known`` are the keys that may have signed it, by default ``keys/node.pub``. Raises SecurityError naming the first
    file that was added, replaced or removed by hand.
    """
    findings = index_findings(home, known)
    for finding in findings or ():
        raise finding.error()
    return findings is not None


def index_findings(home: Home, known: Sequence[PublicKey] | None = None) -> list[Finding] | None:
    """All that differs from the index, None when there is none. Raises SecurityError for an index that is not ours."""
    from femtoclaw.key_index import find_changes

    return find_changes(folder(home), [load_public_key(home.public_key_file)] if known is None else known)


def write_index(home: Home, signer: KeySigner) -> None:
    """Sign the key files as they are: at ``init``, or when an operator has looked at every one of them."""
    from femtoclaw.key_index import write_index as write

    write(folder(home), [signer])


def change_keys(home: Home, signer: KeySigner, changes: Mapping[str, bytes | None]) -> None:
    """Write or remove (None) files of the key folder by their names in it, such as ``operators/ada.pub``, with the index.

    Raises SecurityError when a file was changed by hand before, ConfigurationError, LogFailedError.
    """
    from femtoclaw.key_index import change_files

    change_files(folder(home), changes, during=[signer], after=[signer])


def stage_key(home: Home, signer: KeySigner, passphrase: str | None) -> KeySigner:
    """Make the key that will follow ``signer``'s, of the same name, in a file beside it; durable when this returns.

    Raises ConfigurationError when one is staged already: ``settle`` first.
    """
    if os.path.lexists(_staged(home)):
        raise ConfigurationError(
            "a rotation is under way", where=_staged(home), remedy="start the node once: that finishes it, or undoes it"
        )
    seed = os.urandom(SEED_BYTES)
    name = signer.public.name
    change_keys(home, signer, {NEXT_KEY: seal(name, seed, passphrase)})
    return KeySigner(name, seed)


def settle(home: Home, in_force: PublicKey, opened: Sequence[KeySigner] = ()) -> bool:
    """Bring the files to what the log says: the staged key takes its place when it is ``in_force``, and goes when it is
    not. True when something was changed; the same again does nothing. Safe against a crash at every step.

    ``opened`` are signers that need no passphrase any more. Secrets and keys of subjects are sealed anew, and the pin is
    signed anew, before the old key goes.
    Raises as ``load_signer``, and as ``secret_store.reseal``.
    """
    staged = _staged(home)
    if not os.path.lexists(staged):
        return False
    own = load_public_key(home.public_key_file)
    new = _opened(home, in_force, opened)
    from femtoclaw.key_index import change_files

    if not _is(home, staged, in_force):
        change_keys(home, new, {NEXT_KEY: None})
        return True
    raw = read_key_file(staged)
    during = [new]
    changes: dict[str, bytes | None] = {NODE_KEY: raw, NEXT_KEY: None}
    if own != in_force:
        from femtoclaw.distribution import pass_on
        from femtoclaw.secret_store import reseal
        from femtoclaw.subject_keys import rewrap

        old = _opened(home, own, opened)
        reseal(home, old, new)
        rewrap(home, old, new)
        pass_on(home, own, new)
        # Signed by both: until the public half has changed, whoever checks the index knows the old key only.
        during = [old, new]
        public = {f"old/{own.key_id.hex()}.pub": own, NODE_PUBLIC: in_force}
        changes = {**{name: key.vkey().encode() + b"\n" for name, key in public.items()}, **changes}
    change_files(folder(home), changes, during=during, after=[new])
    return True


def _opened(home: Home, public: PublicKey, opened: Sequence[KeySigner]) -> KeySigner:
    return next((signer for signer in opened if signer.public == public), None) or select_signer(home, public)


def protect_key(home: Home, name: str, passphrase: str, ask: Callable[[str], str]) -> None:
    """Encrypt the key file ``name`` of the key folder under ``passphrase``; ``ask`` gives the one it is under now.

    Raises as ``load_signer``, and for a passphrase that is too short.
    """
    path = os.path.join(folder(home), name)
    own = load_public_key(home.public_key_file)
    node = name == NODE_KEY
    signer = open_key(read_key_file(path), path, ask, own) if node else select_signer(home, own)
    changed = resealed(read_key_file(path), path, passphrase, ask, own if node else None)
    change_keys(home, signer, {name: changed})


def protect_process() -> None:
    """Keep what this process holds from dumps and other processes: no core file, no ptrace, no /proc/PID/mem by
    another process of the same user (a claw that escaped, for one). Processes that it starts are not affected.

    Where the system has no such switch the process goes on without: the file modes still hold.
    """
    import ctypes
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (OSError, AttributeError, ValueError):
        return


def load_public_key(path: str) -> PublicKey:
    """A verifier key from a file. Raises ConfigurationError."""
    return parse_public_key(read_bounded(path, 1024).decode("utf-8", "replace").strip(), path)


def parse_public_key(text: str, where: str) -> PublicKey:
    """A verifier key from text ``name+hash+base64``. Raises ConfigurationError, whose text holds nothing of ``text``:
    what stands where a public key belongs may be a private one."""
    try:
        return PublicKey.parse(text)
    except (LogError, ValueError):
        raise ConfigurationError(
            "not a public key", where=where, expected="name+hash+base64, as in keys/node.pub", found=_shape(text)
        ) from None


def _shape(text: str) -> str:
    """What a text that is no public key looks like, without a character of it."""
    if not text:
        return "nothing"
    if text.startswith("{"):
        return "an object, which is the form of a private key"
    try:
        private = len(bytes.fromhex(text)) == SEED_BYTES
    except ValueError:
        private = False
    return "64 hex digits, which is the form of a private key" if private else "another text"
