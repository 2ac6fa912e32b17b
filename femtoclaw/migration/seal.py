"""The seal of a migration: what was migrated from and to, by root, signed by the node's key, beside the old log.

femtoclaw migration v1
from 1 ... root 8e…            what the successor's first record says of the old log
successor femtoclaw.log/5a…
migrated 41 7c…                size and Merkle root of what the migration made
configuration 5b…              SHA-256 of the operator's file as it was
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
from hashlib import sha256
from typing import NamedTuple

from femtoclaw.home import Home
from femtoclaw.migration.plan import FOLDER, Plan, statement_of
from femtoclaw.migration.refusal import MigrationUnsoundError, NotApplicableError
from wal.durable_file import read_file, write_file
from wal.errors import SignatureError
from wal.genesis import decode_genesis
from wal.note import PublicKey, Signer, open_note, sign_note
from wal.reader import LogReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.migration.building import Built

FILE_NAME, OLD_CONFIGURATION = "seal.note", "femtoclaw.toml"


class Seal(NamedTuple):
    """One migration that was made: formats, the old log's origin, size and root, the successor's, the folder that keeps both."""

    source: int
    target: int
    origin: str
    size: int
    root: str
    successor: str
    migrated_size: int
    migrated_root: str
    configuration: str
    folder: str


def write_seal(folder: str, plan: Plan, built: "Built", configuration: bytes, signer: Signer) -> None:
    """Keep the operator's file as it was, and sign what was made. Raises LogFailedError."""
    text = plan.text() + f"successor {plan.new_origin}\nmigrated {built.size} {built.root}\n"
    text += f"configuration {sha256(configuration).hexdigest()}\n"
    write_file(os.path.join(folder, OLD_CONFIGURATION), configuration)
    write_file(os.path.join(folder, FILE_NAME), sign_note(text, [signer]))


def read_seal(folder: str, key: PublicKey) -> Seal:
    """The seal in ``folder``. Raises MigrationUnsoundError for one that is missing, malformed, or not by ``key``."""
    where = os.path.join(folder, FILE_NAME)
    raw = read_file(where)
    try:
        if raw is None:
            raise ValueError("nothing")
        lines = open_note(raw, [key]).text.split("\n")[1:-1]
        said = dict(line.split(" ", 1) for line in lines)
        size, root = said["migrated"].split(" ")
        return Seal(
            int(said["from"]), int(said["to"]), said["origin"], int(said["size"]), said["root"], said["successor"], int(size),
            root, said["configuration"], folder,
        )  # fmt: skip
    except (ValueError, KeyError, SignatureError) as error:
        raise MigrationUnsoundError(
            "the seal of a migration does not hold", where=where, expected="a seal by this node's key", found=error
        ) from None


def seal_of(home: Home, reader: LogReader) -> Seal:
    """The seal of the migration that the home's log came from. Raises NotApplicableError for a log that was not migrated,
    MigrationUnsoundError for one whose seal is gone, or says another thing than its first record."""
    key = reader.keys().newest.key
    genesis = decode_genesis(reader.read(1))
    try:
        said = statement_of(genesis, genesis.key)
    except SignatureError as error:
        raise MigrationUnsoundError("the first record's statement does not hold", where=home.log, found=error) from None
    if said is None:
        raise NotApplicableError(
            "this home was not migrated", where=home.log, expected="a log that continues an older one"
        )
    folder = os.path.join(home.path, FOLDER, f"{said['from']}-{said['to']}-{said['root'][:12]}")
    found = read_seal(folder, genesis.key if key != genesis.key else key)
    if (found.root, found.successor) != (said["root"], reader.origin):
        raise MigrationUnsoundError(
            "the seal is of another migration", where=folder, expected=said["root"], found=found.root
        )
    return found


def recheck(home: Home, reader: LogReader) -> Seal | None:
    """For a start: that the log still begins with what the migration made. None for a log that was not migrated. Some
    milliseconds. Raises MigrationUnsoundError."""
    if decode_genesis(reader.read(1)).predecessor is None:
        return None
    try:
        found = seal_of(home, reader)
    except NotApplicableError:
        return None
    root = reader.tree().root(found.migrated_size).hex() if reader.size >= found.migrated_size else "fewer records"
    if root != found.migrated_root:
        raise MigrationUnsoundError(
            "the log is not the one that was migrated", where=home.log, expected=found.migrated_root, found=root
        )
    return found
