"""``operator``: who may sign control requests; ``contain``: taking the node out of service and back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.asking import change
from femtoclaw.cli.execute import Node
from femtoclaw.cli.key_places import refuse_among_keys
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.recorded_state import recorded_state
from femtoclaw.cli.render import Output, program
from femtoclaw.control_policy import ROLES
from femtoclaw.errors import UsageError
from femtoclaw.home import locate, read_bounded
from femtoclaw.keys import load_public_key, operator_file, parse_public_key

if TYPE_CHECKING:
    from femtoclaw.key_file import KeySigner


def operator(arguments: Arguments, output: Output) -> int:
    """``list``, ``keygen NAME``, ``add NAME``, ``rekey NAME``, ``revoke NAME``."""
    acts = {"list": _list, "keygen": _keygen, "add": _add, "rekey": _rekey, "revoke": _revoke}
    return acts[arguments.what](arguments, output)


def _list(arguments: Arguments, output: Output) -> int:
    home = locate(getattr(arguments, "home", None))
    operators = recorded_state(home).node.operators
    body: list[dict[str, Any]] = [
        {"name": name, "roles": list(each.roles), "active": each.active, "public_key": each.public_key}
        for name, each in sorted(operators.items())
    ]
    output.data({"operators": body, "roles": list(ROLES)})
    for each in body:
        output.line(f"{each['name']}  {'' if each['active'] else 'revoked'}", "bold" if each["active"] else "dim")
        output.fields([("roles", ", ".join(each["roles"])), ("public key", each["public_key"])])
    if not body:
        output.line("no operators: this node is from before there was a control plane")
    return 0


def _keygen(arguments: Arguments, output: Output) -> int:
    """Make an operator's key, on the operator's own machine; the public half, beside it, is what another operator adds."""
    from femtoclaw.key_file import public_path
    from wal.durable_file import write_file

    name, path = _name(arguments), arguments.out
    beside = public_path(path) if path else ""
    if beside and os.path.lexists(beside):
        raise UsageError("there is a file already", where=beside, expected="a new file", remedy="choose another name")
    signer, encrypted = _new_key(name, arguments)
    key = signer.public.vkey()
    write_file(os.path.abspath(beside), key.encode() + b"\n")  # the name alone has no folder to make durable
    output.data({"name": name, "public_key": key, "file": path, "public_file": beside, "encrypted": encrypted})
    output.line(f"key of {name} in {path}", "green")
    output.fields([("public key", key), ("in", beside)])
    if not encrypted:
        output.note("the key is not encrypted at rest: set FEMTOCLAW_PASSPHRASE_FILE before you make one")
    output.note(f"an operator adds it with: {program()} operator add {name} --role ROLE --public-key '{key}'")
    return 0


def _rekey(arguments: Arguments, output: Output) -> int:
    """Give an operator another key, signed by the old and the new one. The new one is in its file before anything else."""
    from femtoclaw.control_effects import rekeying
    from femtoclaw.keys import change_keys
    from femtoclaw.statement import sign_statement

    name, made = _name(arguments), {}

    def content(node: Node) -> dict[str, str]:
        signer, _ = _new_key(name, arguments)
        made["public"] = key = signer.public.vkey()
        told = rekeying(node.started.authority.state.node, name, key)
        return {"public_key": key, "signature": sign_statement(signer, told).hex()}

    def put_in_place(node: Node) -> None:
        home = node.started.home
        if os.path.exists(os.path.join(home.operators, f"{name}.key")):
            raw = read_bounded(arguments.out)
            changes = {f"operators/{name}.key": raw, f"operators/{name}.pub": made["public"].encode() + b"\n"}
            change_keys(home, node.started.signer, changes)

    setattr(arguments, "as", getattr(arguments, "as", None) or name)
    return change(arguments, output, "operator.rekey", name, content, after=put_in_place)


def _new_key(name: str, arguments: Arguments) -> tuple[KeySigner, bool]:
    """A new key in a new file, durable, and whether it is encrypted."""
    from femtoclaw.key_file import SEED_BYTES, KeySigner, seal
    from femtoclaw.passphrase import chosen_passphrase

    path = arguments.out
    operator_file(locate(getattr(arguments, "home", None)), name)  # says what is wrong with a name that no node takes
    if not path:
        raise UsageError("where should the key go?", where=f"operator {arguments.what}", expected="--out FILE")
    refuse_among_keys(locate(getattr(arguments, "home", None)), path)
    if os.path.lexists(path):
        raise UsageError("there is a file already", where=path, expected="a new file", remedy="choose another name")
    seed = os.urandom(SEED_BYTES)
    passphrase = chosen_passphrase(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(seal(name, seed, passphrase))
        file.flush()
        os.fsync(file.fileno())
    return KeySigner(name, seed), passphrase is not None


def _add(arguments: Arguments, output: Output) -> int:
    name, given = _name(arguments), arguments.public_key
    if not given or not arguments.role:
        raise UsageError(
            "who, and what may they do?", where="operator add", expected="--public-key KEY and --role ROLE"
        )
    key = load_public_key(given) if os.path.isfile(given) else parse_public_key(given, "--public-key")
    content = {"public_key": key.vkey(), "roles": sorted(set(arguments.role))}
    return change(arguments, output, "operator.add", name, lambda node: content)


def _revoke(arguments: Arguments, output: Output) -> int:
    return change(
        arguments, output, "operator.revoke", _name(arguments), lambda node: {"reason": arguments.reason or ""}
    )


def _name(arguments: Arguments) -> str:
    if not arguments.name:
        raise UsageError("which operator?", where=f"operator {arguments.what}", expected="a NAME")
    return str(arguments.name)


def redact(arguments: Arguments, output: Output) -> int:
    """Erase what users, brains and claws said in a subject's executions: its key is destroyed, the records stay."""
    subject = arguments.subject

    def destroy(node: Node) -> None:
        node.started.subjects.destroy(subject)

    code = change(
        arguments, output, "data.erase", subject, lambda node: {"reason": arguments.reason or ""}, after=destroy
    )
    if code == 0:
        output.note("copies of the key in backups of this home are not erased by this: destroy them too")
    return code


def contain(arguments: Arguments, output: Output) -> int:
    """Take the node out of service: every call is denied until that is lifted."""
    action = "node.release" if arguments.lift else "node.contain"
    return change(arguments, output, action, "node", lambda node: {"reason": arguments.reason or ""})
