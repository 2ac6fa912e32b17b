"""Measurements of the log itself: verified and derived again as it stands, and copies of its records that were tampered with.

Only copies in memory are changed. A log of more than ``COPIED_MAX`` records is not copied: then the twin's takes its place.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw.audit import verify_home
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import session
from femtoclaw.home import Home
from wal.errors import LogError
from wal.memory_storage import MemoryStorage
from wal.reader import CHECKPOINT_FILE, LogReader, read_log_directory
from wal.record import decode
from wal.verification import check_keys, check_promises, check_range, join_ranges, read_promises

COPIED_MAX = 4000
FLIPPED_RECORDS = 50


class Copied(NamedTuple):
    """A log in memory: where it comes from, and its records, promises and signed checkpoint."""

    name: str
    storage: MemoryStorage
    origin: str


class Proofs(NamedTuple):
    """Proofs from the tree of a log: whether each verified, and whether each failed once what it is about was another."""

    size: int
    root: str
    included: bool
    altered_refused: bool
    consistent: bool
    rewritten_refused: bool
    hashes: int
    checkpoint: str


def verified(laboratory: Laboratory) -> dict[str, Any]:
    """``verify --deep`` of the installation: bytes, chain, tree, signatures, and every decision derived again."""
    return verify_home(laboratory.home, deep=True)


def twin_verified(laboratory: Laboratory) -> dict[str, Any]:
    """The same of the twin after its session."""
    return verify_home(Home(laboratory.once(session).home), deep=True)


def copied(laboratory: Laboratory) -> Copied:
    """The installation's log in memory, or the twin's where that is too long."""
    for name, path in (("log", laboratory.home.log), ("twin", Home(laboratory.once(session).home).log)):
        reader = read_log_directory(path)
        try:
            if reader.size <= COPIED_MAX or name == "twin":
                return Copied(name, _in_memory(reader), reader.origin)
        finally:
            reader.close()
    raise AssertionError("the twin's log is always copied")


def _in_memory(reader: LogReader) -> MemoryStorage:
    storage = MemoryStorage("a copy")
    storage.append(list(reader.storage.scan(1, reader.size + 1)))
    for slot, raw in enumerate(reader.storage.read_slots()):
        storage.write_slot(slot, raw)
    note = reader.checkpoint_note()
    if note is not None:
        storage.put_file(CHECKPOINT_FILE, note)
    return storage


def findings(storage: MemoryStorage) -> list[str]:
    """What verification says of a log: code and place of each finding."""
    stop = storage.last_index() + 1
    try:
        chain = join_ranges([check_range(storage.scan(1, stop), 1, stop)])
        found = [*chain.findings, *check_promises(storage, chain), *check_keys(storage, chain, read_promises(storage))]
    except LogError as error:
        return [f"{type(error).__name__} {error.where}"]
    return [f"{finding.code} {finding.where}" for finding in found]


def _edit(storage: MemoryStorage, middle: int) -> None:
    raw = bytearray(storage.records[middle])
    raw[len(raw) // 2] ^= 1
    storage.records[middle] = bytes(raw)


def _delete(storage: MemoryStorage, middle: int) -> None:
    del storage.records[middle]


def _swap(storage: MemoryStorage, middle: int) -> None:
    records = storage.records
    records[middle], records[middle + 1] = records[middle + 1], records[middle]


def _insert(storage: MemoryStorage, middle: int) -> None:
    records = list(storage.records.values())
    records.insert(middle, records[middle - 1])
    storage.records = dict(enumerate(records, 1))


def _drop(storage: MemoryStorage, middle: int) -> None:
    for index in sorted(storage.records)[-10:]:
        del storage.records[index]


def _forge(storage: MemoryStorage, middle: int) -> None:
    """A record more at the end, of another log's chain."""
    last = storage.last_index()
    storage.records[last + 1] = storage.records[last]


def _backdate(storage: MemoryStorage, middle: int) -> None:
    """Another time in a record: one bit in the bytes that hold it."""
    raw = bytearray(storage.records[middle])
    place = bytes(raw).find(decode(bytes(raw)).time_ns.to_bytes(8, "big"))
    place = place if place >= 0 else bytes(raw).find(decode(bytes(raw)).time_ns.to_bytes(8, "little"))
    raw[place + 6] ^= 4
    storage.records[middle] = bytes(raw)


TAMPERINGS: dict[str, Callable[[MemoryStorage, int], None]] = {
    "edited": _edit, "deleted": _delete, "swapped": _swap, "inserted": _insert, "end dropped": _drop, "end forged": _forge,
    "time changed": _backdate,
}  # fmt: skip


def tampered(laboratory: Laboratory) -> dict[str, list[str]]:
    """What verification finds in copies that were tampered with, by the kind of tampering."""
    return tamper_with(laboratory, TAMPERINGS)


def tamper_with(
    laboratory: Laboratory, tamperings: dict[str, Callable[[MemoryStorage, int], None]]
) -> dict[str, list[str]]:
    """The same with these tamperings."""
    original = laboratory.once(copied).storage
    found = {"untouched": findings(original.copy())}
    for name, tamper in tamperings.items():
        storage = original.copy()
        tamper(storage, max(2, storage.last_index() // 2))
        found[name] = findings(storage)
    return found


def flipped(laboratory: Laboratory) -> tuple[int, list[str]]:
    """One bit of each byte of the newest records flipped, one at a time: how many, and which of them nothing noticed."""
    records = laboratory.once(copied).storage.records
    tried, missed = 0, []
    for index in sorted(records)[-FLIPPED_RECORDS:]:
        raw = records[index]
        for place in range(len(raw)):
            changed = bytearray(raw)
            changed[place] ^= 1 << (place % 8)
            tried += 1
            try:
                decode(bytes(changed))
            except LogError:
                continue
            missed.append(f"index {index} byte {place}")
    return tried, missed


def proofs(laboratory: Laboratory) -> Proofs:
    """Inclusion of a record and consistency of two sizes, against roots that are computed from all records."""
    from wal.merkle import ProofError, leaf_hash, root_of, verify_consistency, verify_inclusion

    reader = read_log_directory(laboratory.home.log)
    try:
        tree, size = reader.tree(), reader.size
        middle = max(1, size // 2)
        leaf, root = leaf_hash(reader.read(middle).link), tree.root(size)
        proof, between = tree.inclusion(middle, size), tree.consistency(middle, size)
        old = tree.root(middle)
        note = reader.checkpoint_note()
        signed = "" if note is None else reader.keys().open_checkpoint(note, reader.origin).checkpoint.root.hex()
        leaves = [leaf_hash(record.link) for record in reader.scan(1, size + 1)] if size <= COPIED_MAX else []
    finally:
        reader.close()

    def refuses(work: Callable[[], None]) -> bool:
        try:
            work()
        except ProofError:
            return True
        return False

    other = bytes([root[0] ^ 1]) + root[1:]
    changed = leaf_hash(b"another record")
    rewritten = [changed, *leaves[1:]] if leaves else []
    return Proofs(
        size, root.hex(),
        not refuses(lambda: verify_inclusion(leaf, middle - 1, size, proof, root)),
        refuses(lambda: verify_inclusion(changed, middle - 1, size, proof, root)),
        not refuses(lambda: verify_consistency(middle, size, between, old, root)),
        refuses(lambda: verify_consistency(middle, size, between, old, root_of(rewritten) if rewritten else other)),
        len(proof), signed,
    )  # fmt: skip
