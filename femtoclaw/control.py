"""An operator at this machine: whose key it is, the signed request, and the files that follow what was recorded."""

from __future__ import annotations

import json
import os
from typing import Any

from femtoclaw import commands
from femtoclaw.errors import ConfigurationError, ControlRefusedError
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner
from femtoclaw.keys import load_operator
from femtoclaw.sources import Sources
from femtoclaw.state import Node
from femtoclaw.statement import sign_statement, statement

KEY_VARIABLE = "FEMTOCLAW_OPERATOR_KEY"
"""Names a file with the operator's key, where it is not in the home."""


def operator_signer(home: Home, node: Node, name: str | None = None, key_file: str | None = None) -> KeySigner:
    """The key of the operator who is asking: by name and file, by the file alone, the login's, or the only one there is.

    Raises ControlRefusedError when no key of an operator of this node is found, ConfigurationError for a file that is no
    key, KeyLockedError for one that cannot be opened.
    """
    key_file = key_file or os.environ.get(KEY_VARIABLE) or None
    if key_file is not None:
        return load_operator(home, name or _name_in(key_file), key_file)
    if name is None:
        name = _default_name(home, node)
    if not os.path.exists(os.path.join(home.operators, f"{name}.key")):
        raise ControlRefusedError(
            "there is no key to sign with", where=home.operators, expected=f"{name}.key, or --operator-key FILE", found="nothing",
            remedy=f"name the file with --operator-key or {KEY_VARIABLE}",
        )  # fmt: skip
    return load_operator(home, name)


def _name_in(path: str) -> str:
    """The name that a key file states; whether it is true shows when it signs. Raises ConfigurationError."""
    from femtoclaw.key_file import read_key_file, stated_key

    stated = stated_key(read_key_file(path), path)
    if stated is None:
        raise ConfigurationError("the key has no name", where=path, expected="a key file made by `operator keygen`")
    return stated.name


def _default_name(home: Home, node: Node) -> str:
    """The login name where it is an operator with a key here, else the only operator with one."""
    from femtoclaw.boot import operator_name

    try:
        files = {name.removesuffix(".key") for name in os.listdir(home.operators) if name.endswith(".key")}
    except OSError:
        files = set()
    here = sorted(name for name in files if name in node.operators and node.operators[name].active)
    login = operator_name()
    if login in here:
        return login
    if len(here) == 1:
        return here[0]
    raise ControlRefusedError(
        "it is not clear who is asking", where=home.operators, expected="one operator's key, or --as NAME",
        found=", ".join(here) or "no operator's key", remedy="say who you are with --as NAME, or --operator-key FILE",
    )  # fmt: skip


def request(
    node: Node, signer: KeySigner, sources: Sources, action: str, resource: str, content: bytes | dict[str, Any], *,
    cosigners: tuple[KeySigner, ...] = (),
) -> commands.Control:  # fmt: skip
    """A request signed now. ``content`` other than bytes becomes canonical JSON. Raises ConfigurationError when it is
    too long to sign."""
    raw = content if isinstance(content, bytes) else encode(content)
    request_id, now, name = sources.new_id(), sources.wall_ns(), signer.public.name
    told = statement(node.runtime_id, request_id, name, action, resource, raw, now)
    others = tuple(text for each in cosigners for text in (each.public.name, sign_statement(each, told).hex()))
    return commands.Control(request_id, name, action, resource, raw, now, now, sign_statement(signer, told), others, "")


def encode(content: dict[str, Any]) -> bytes:
    """Canonical JSON of a request's content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def load_cosigners(home: Home, files: list[str]) -> tuple[KeySigner, ...]:
    """The keys of other operators who are present and sign too."""
    return tuple(load_operator(home, _name_in(path), path) for path in files)
