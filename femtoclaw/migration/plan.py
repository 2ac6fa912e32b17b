"""What a migration would do to a home: applicability, and the facts that everything else follows from. Changes nothing.

The home's log is continued by a log of its own: same records, each event in its newest version, then what the newer format adds.
Rewriting a log under its own name would be a second history by the same key. So the successor has a name of its own, which
follows from the old root, and its first record names the old log by identity, size, link and root, signed by the node's key.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
from typing import Any, NamedTuple

from femtoclaw.event_codec import CODES, VERSIONS
from femtoclaw.home import Home, require
from femtoclaw.migration.formats import CONTROLLED, FIRST, format_of
from femtoclaw.migration.refusal import NotApplicableError
from femtoclaw.restore import load_state
from wal.genesis import Genesis, Predecessor, decode_genesis
from wal.note import PublicKey, Signer, sign_note
from wal.reader import LogReader, read_log_directory
from wal.record import KIND_EVENT, KIND_GENESIS, KIND_RECOVERED

FOLDER = "migrations"
TITLE = "femtoclaw migration v1"
STEPS = (
    "check that it applies", "copy every append, events in their newest version", "first operator and control policy",
    "claws, configuration and policy of this program", "verify", "seal the old log", "put in place in one step", "record",
)  # fmt: skip
_TAKEN_OVER = (KIND_GENESIS, KIND_EVENT, KIND_RECOVERED)


class Plan(NamedTuple):
    """One migration. ``root`` is the old log's Merkle root at ``size`` in hex; ``events`` counts its events, ``outdated`` those
    of an earlier version by type; ``new_origin`` is the successor's name."""

    source: int
    target: int
    origin: str
    log_id: bytes
    size: int
    link: bytes
    root: str
    began_ns: int
    ended_ns: int
    events: int
    outdated: dict[str, int]
    nonce: bytes
    control: str

    @property
    def new_origin(self) -> str:
        """The successor's name."""
        return f"femtoclaw.log/{self.nonce.hex()}"

    @property
    def name(self) -> str:
        """Under which name the migration is kept in the home."""
        return f"{self.source}-{self.target}-{self.root[:12]}"

    def text(self) -> str:
        """What the successor's first record says of the old log, for the node's key to sign."""
        lines = [TITLE, f"from {self.source}", f"to {self.target}", f"origin {self.origin}", f"log {self.log_id.hex()}",
                 f"size {self.size}", f"link {self.link.hex()}", f"root {self.root}"]  # fmt: skip
        return "\n".join([*lines, ""])

    def genesis(self, signer: Signer) -> Genesis:
        """The successor's first record."""
        statement = sign_note(self.text(), [signer])
        before = Predecessor(self.origin, self.log_id, self.size, self.link, self.size, statement)
        return Genesis(self.new_origin, signer.public, self.nonce, before)

    def told(self) -> dict[str, Any]:
        """For people and machines."""
        return {
            "from": self.source, "to": self.target, "log": self.origin, "size": self.size, "root": self.root,
            "events": self.events, "outdated": dict(sorted(self.outdated.items())), "successor": self.new_origin,
            "steps": list(STEPS),
        }  # fmt: skip


def folder_of(home: Home, plan: Plan) -> str:
    """Where a migration works, and where the old log stays."""
    return os.path.join(home.path, FOLDER, plan.name)


def plan_of(home: Home) -> Plan:
    """What would be done to ``home``. Raises NotApplicableError, ConfigurationError, LogError."""
    from femtoclaw.cluster_home import is_member

    require(home)
    if is_member(home):
        raise NotApplicableError("a member of a cluster has no earlier format", where=home.path)
    reader = read_log_directory(home.log)
    try:
        return plan_of_log(reader, home.log)
    finally:
        reader.close()


def plan_of_log(reader: LogReader, where: str) -> Plan:
    """The same of an open log. Raises NotApplicableError for one that is of the newest format, or that holds records of a kind
    that no earlier format had."""
    found = format_of(load_state(reader).node)
    if found != FIRST:
        raise NotApplicableError(
            "the home is of the newest format", where=where, expected=f"format {FIRST}", found=f"format {found}"
        )
    size, counted, outdated = reader.size, 0, dict[str, int]()
    began = ended = 0
    for record in reader.scan(1, size + 1):
        if record.kind not in _TAKEN_OVER:
            raise NotApplicableError(
                "the log holds a record of a kind that the format has not", where=f"index {record.index}",
                expected=f"format {FIRST}", found=f"a record of kind {record.kind}",
            )  # fmt: skip
        began, ended = began or record.time_ns, record.time_ns
        if record.kind == KIND_EVENT:
            counted += 1
            _count_outdated(record.payload, outdated)
    genesis, root = decode_genesis(reader.read(1)), reader.tree().root(size)
    return Plan(
        FIRST, CONTROLLED, genesis.origin, reader.log_id, size, reader.head_at(size).link, root.hex(), began, ended, counted,
        outdated, _nonce(root, reader.log_id), _control(),
    )  # fmt: skip


def _count_outdated(payload: bytes, outdated: dict[str, int]) -> None:
    from femtoclaw.releases.history import type_of

    code, version = type_of(payload)
    if code in CODES and version < VERSIONS[code]:
        name = CODES[code].__name__
        outdated[name] = outdated.get(name, 0) + 1


def _nonce(root: bytes, log_id: bytes) -> bytes:
    """16 bytes that follow from the old log alone: two copies of it get the same successor."""
    from blake3 import blake3

    return blake3(f"{TITLE}\n{FIRST} {CONTROLLED}\n".encode() + log_id + root).digest()[:16]


def _control() -> str:
    from femtoclaw.provision import default_control

    return default_control()


def statement_of(genesis: Genesis, key: PublicKey) -> dict[str, str] | None:
    """What a log's first record says of the log that it was migrated from; None for a log that was not. Raises SignatureError
    when the node's key did not sign it."""
    from wal.note import open_note, text_of

    before = genesis.predecessor
    if before is None or not text_of(before.statement).startswith(f"{TITLE}\n"):
        return None
    text = open_note(before.statement, [key]).text
    return dict(line.split(" ", 1) for line in text.split("\n")[1:-1])
