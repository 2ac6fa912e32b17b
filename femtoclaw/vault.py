"""Secrets on their way: to the claws that operators granted them to, and out of whatever is recorded.

The log knows names, marks and grants; the values are in the node's secret store. What a claw returns, and what users and
brains say, goes through ``redact`` before it becomes a command: no later step could take it out of the log again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from femtoclaw.errors import CapabilityError, ConfigurationError
from femtoclaw.isolation import Outcome
from femtoclaw.manifest import Manifest
from femtoclaw.protocol import ArgumentSchemas, Message, validate
from femtoclaw.state import Node

if TYPE_CHECKING:
    from femtoclaw.home import Home
    from femtoclaw.key_file import KeySigner


class Vault(Protocol):
    """Where values of secrets come from."""

    def granted(self, node: Node, manifest: Manifest) -> dict[str, str]:
        """Name to value of the secrets that this claw asks for and was granted. Raises CapabilityError when the store has
        another value than the log knows of, or none."""

    def redact(self, raw: bytes) -> bytes:
        """The bytes without any value of a secret."""

    def redact_message(self, raw: bytes) -> bytes:
        """The same for what will be judged as an intent. A message for a person stays one; anything else that held a
        value is no valid intent any more: with a part struck out it could be another call than the one meant."""

    def redact_outcome(self, outcome: Outcome) -> Outcome:
        """The outcome without any value of a secret."""


STRUCK = b"[a secret was struck out of this, so it is no intent] "
"""What stands before such bytes. It is no JSON, so the protocol refuses them, now and on every replay."""

_NO_CLAWS = ArgumentSchemas(())


class _Empty:
    """No secrets: everything passes as it is."""

    def granted(self, node: Node, manifest: Manifest) -> dict[str, str]:
        return {}

    def redact(self, raw: bytes) -> bytes:
        return raw

    def redact_message(self, raw: bytes) -> bytes:
        return raw

    def redact_outcome(self, outcome: Outcome) -> Outcome:
        return outcome


EMPTY_VAULT: Vault = _Empty()


class StoredVault:
    """Values read from the secret store when the node starts; marks are compared with the log's at every use."""

    def __init__(self, values: Mapping[str, str], marks: Mapping[str, str]) -> None:
        """``marks`` are those that the log had for these values."""
        from femtoclaw.redaction import Redactor

        self._values = values
        self._marks = marks
        self._redactor = Redactor(values)

    def granted(self, node: Node, manifest: Manifest) -> dict[str, str]:
        """As ``Vault.granted``. A secret that the claw asks for and was not granted is not there."""
        found: dict[str, str] = {}
        for name in manifest.secrets:
            known = node.secrets.get(name)
            if known is None or manifest.name not in known.claws:
                continue
            if name not in self._values or self._marks.get(name) != known.mark:
                raise CapabilityError(
                    "a secret's value is not the one that an operator set; nothing was executed",
                    where=f"secret {name}",
                    expected="the value behind the recorded mark",
                    found="another" if name in self._values else "none",
                    remedy=f"set it again: `femtoclaw secret set {name}`",
                )
            found[name] = self._values[name]
        return found

    def redact(self, raw: bytes) -> bytes:
        """As ``Vault.redact``."""
        return self._redactor.raw(raw)

    def redact_message(self, raw: bytes) -> bytes:
        """As ``Vault.redact_message``."""
        clean = self._redactor.raw(raw)
        if clean is raw or all(isinstance(validate(each, _NO_CLAWS), Message) for each in (raw, clean)):
            return clean
        return STRUCK + clean

    def redact_outcome(self, outcome: Outcome) -> Outcome:
        """As ``Vault.redact_outcome``; size and digest are of what is kept, so that nothing tells of what was not."""
        result, error = self._redactor.json(outcome.result), self._redactor.json(outcome.error)
        if result == outcome.result and error == outcome.error:
            return outcome
        from blake3 import blake3

        kept = b""
        if result is not None:
            kept = json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
                "utf-8", "surrogatepass"
            )
        digest = blake3(kept).hexdigest() if kept else ""
        return outcome._replace(result=result, error=error, kept_bytes=len(kept), output_digest=digest)


def open_vault(home: Home, signer: KeySigner, node: Node, *, tidy: bool = True) -> tuple[Vault, tuple[str, ...]]:
    """The vault of a node, and the names of secrets whose recorded value is not in the store: no claw gets those. With
    ``tidy`` boxes that the log does not know go: at a start nobody is about to have one recorded."""
    if not node.secrets and not os.path.isdir(os.path.join(home.path, "secrets")):
        return EMPTY_VAULT, ()
    from femtoclaw.errors import FemtoClawError
    from femtoclaw.secret_store import SecretStore, stored_names

    store = SecretStore(home, signer)
    for name in stored_names(home) if tidy else ():
        if name not in node.secrets:
            with contextlib.suppress(ConfigurationError):  # the name of no secret, so it is none of ours
                store.settle(name, "")  # a crash came between the record of its removal and that of its file
    values: dict[str, str] = {}
    missing: list[str] = []
    for name, secret in sorted(node.secrets.items()):
        try:
            values[name] = store.get(name, secret.mark)
        except FemtoClawError:
            missing.append(name)
    if not node.secrets:
        return EMPTY_VAULT, ()
    return StoredVault(values, {name: node.secrets[name].mark for name in values}), tuple(missing)
