"""The register of requirements, as data of the package, and how it is divided into documents and domains."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
from functools import lru_cache
from typing import NamedTuple

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "register.toml")

DOMAINS = {
    "core": ("SUITE", "WHITE", "ARCH"),
    "execution engine": ("EXEC",),
    "protocol": ("PROTO",),
    "capabilities": ("CLAW", "SDK"),
    "authorization and policy": ("POLICY",),
    "security": ("SECURITY", "BOOT"),
    "memory and persistence": ("MEMORY", "STORAGE"),
    "observability": ("OBSERVE", "ERROR"),
    "configuration and deployment": ("CONFIG", "DEPLOY"),
    "compliance and certification": ("CONFORM", "CERT", "AUDIT"),
    "performance": ("PERF", "BENCH"),
    "extensions": ("EXT",),
    "upgrade": ("UPGRADE",),
    "threat model and cryptography": ("THREAT", "CRYPTO"),
    "operations": ("OPS", "RUNBOOK"),
    "ABI": ("ABI",),
    "distributed runtime": (),
    "formal verification": ("STATE",),
}
"""The eighteen domains of the suite (SUITE-6.1), by the documents that are theirs."""

_SINGLE = {
    "distributed runtime": ("SUITE-3.2", "SUITE-3.6", "SUITE-3.7", "SUITE-3.8", "SUITE-8.1", "DEPLOY-16.1", "DEPLOY-16.2"),
}  # fmt: skip
"""Requirements that stand in another domain than their document."""


class Requirement(NamedTuple):
    """One entry: ``level`` is MUST, SHOULD or MAY; ``check`` is what a running program shows."""

    id: str
    source: str
    seed: bool
    level: str
    text: str
    check: str

    @property
    def document(self) -> str:
        """The token before the dash."""
        return self.id.partition("-")[0]


@lru_cache(maxsize=1)
def requirements() -> dict[str, Requirement]:
    """Id to requirement, in the register's order."""
    import tomllib

    with open(FILE, "rb") as file:
        entries = tomllib.load(file)["requirement"]
    made = (
        Requirement(
            entry["id"], entry["source"], entry.get("seed", False), entry["level"], entry["text"], entry["check"]
        )
        for entry in entries
    )
    return {each.id: each for each in made}


def documents() -> dict[str, list[Requirement]]:
    """Document to its requirements, seeds first, as they stand in the register."""
    found: dict[str, list[Requirement]] = {}
    for each in requirements().values():
        found.setdefault(each.document, []).append(each)
    return found


def domain_of(requirement: Requirement) -> str:
    """The domain that a requirement counts for."""
    for name, ids in _SINGLE.items():
        if requirement.id in ids:
            return name
    return next(name for name, tokens in DOMAINS.items() if requirement.document in tokens)
