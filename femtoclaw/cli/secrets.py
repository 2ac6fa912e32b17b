"""``secret``: values that claws are granted by name. A value comes from standard input and is shown nowhere."""

from __future__ import annotations

import sys
from typing import Any

from femtoclaw.cli.asking import ask, change, tell
from femtoclaw.cli.execute import Node, open_node
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.recorded_state import recorded_state
from femtoclaw.cli.render import Output, when
from femtoclaw.errors import ConfigurationError, FemtoClawError, UsageError
from femtoclaw.home import locate
from femtoclaw.secret_store import VALUE_BYTES_MAX, SecretStore, check_name, check_value, list_secrets


def secret(arguments: Arguments, output: Output) -> int:
    """``set NAME``, ``list``, ``remove NAME``, ``grant NAME CLAW``, ``withdraw NAME CLAW``."""
    acts = {"set": _set, "list": _list, "remove": _remove, "grant": _grant, "withdraw": _grant}
    return acts[arguments.what](arguments, output)


def _set(arguments: Arguments, output: Output) -> int:
    """Seal the value beside the old one, have its digest recorded, and put it in place: 0 done, 1 refused."""
    name, value = _name(arguments), _value()
    check_value(value)
    with open_node(getattr(arguments, "home", None), output, files=True) as node:
        store, before = _store(node), _recorded(node, name)
        store.settle(name, before)
        mark = store.stage(name, value, node.started.sources.wall_ns())
        try:
            asked = ask(node, arguments, "secret.set", name, {"mark": mark})
        except FemtoClawError:
            store.settle(name, before)
            raise
        store.settle(name, mark if asked.permitted else before)
        return tell(asked, output, "secret.set", name)


def _value() -> str:
    """The value from standard input, without one line break at its end; asked for, unseen, on a terminal."""
    if sys.stdin is None:
        raise UsageError("standard input is closed", where="secret set", expected="the value on it")
    if sys.stdin.isatty():
        from getpass import getpass

        return getpass("value: ")
    raw = sys.stdin.buffer.read(VALUE_BYTES_MAX + 3)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(
            "this value cannot be a secret", where="standard input", expected="UTF-8", found="other bytes",
            remedy="encode it first, in base64 for example",
        ) from None  # fmt: skip
    return text[:-1].removesuffix("\r") if text.endswith("\n") else text


def _store(node: Node) -> SecretStore:
    return SecretStore(node.started.home, node.started.signer)


def _recorded(node: Node, name: str) -> str:
    """The digest of the value in force, empty without one."""
    known = node.started.authority.state.node.secrets.get(name)
    return known.mark if known is not None else ""


def _list(arguments: Arguments, output: Output) -> int:
    """What the log knows, beside what the files say of themselves; needs no key."""
    home = locate(getattr(arguments, "home", None))
    recorded = recorded_state(home).node.secrets
    files = {each.name: each for each in list_secrets(home)}
    body: list[dict[str, Any]] = [
        {
            "name": name,
            "claws": sorted(recorded[name].claws) if name in recorded else [],
            "recorded": name in recorded,
            "bytes": files[name].size if name in files else None,
            "set_ns": files[name].set_ns if name in files else None,
        }
        for name in sorted(recorded.keys() | files.keys())
    ]
    output.data({"secrets": body})
    for each in body:
        output.line(each["name"], "bold")
        kept = (
            f"{each['bytes']} bytes, set {when(each['set_ns'])}"
            if each["bytes"] is not None
            else "no file: set it again"
        )
        granted = ", ".join(each["claws"]) or "no claw"
        output.fields([("value", kept), ("granted to", granted if each["recorded"] else "not in the log: remove it")])
    if not body:
        output.line("no secrets")
    return 0


def _remove(arguments: Arguments, output: Output) -> int:
    name = _name(arguments)
    with open_node(getattr(arguments, "home", None), output, files=True) as node:
        asked = ask(node, arguments, "secret.remove", name, {})
        if asked.permitted:
            _store(node).settle(name, "")
        return tell(asked, output, "secret.remove", name)


def _grant(arguments: Arguments, output: Output) -> int:
    name, claw = _name(arguments), arguments.claw
    if not claw:
        raise UsageError("which claw?", where=f"secret {arguments.what}", expected="NAME CLAW")
    if arguments.what == "withdraw":
        return change(arguments, output, "secret.withdraw", name, lambda node: {"claw": claw})
    return change(
        arguments, output, "secret.grant", name, lambda node: {"claw": claw, "manifest": _manifest_digest(node, claw)}
    )


def _manifest_digest(node: Node, claw: str) -> str:
    """Of the registered claw, empty for one that is not: the gate refuses that one by its name."""
    known = node.started.authority.state.node.registry.get(claw)
    return known.digest if known is not None else ""


def _name(arguments: Arguments) -> str:
    if not arguments.name:
        raise UsageError("which secret?", where=f"secret {arguments.what}", expected="a NAME")
    check_name(arguments.name)
    return str(arguments.name)
