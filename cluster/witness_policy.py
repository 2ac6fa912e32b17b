"""Whose cosignatures are enough: a witness policy in the form of C2SP tlog-policy (as of 2026-06-22). Pure.

One item a line: ``log VKEY [URL]``, ``witness NAME VKEY [URL]``, ``group NAME all|any|K NAME...``, and once ``quorum NAME|none``.
A group counts as one that has cosigned when so many of its members have. The names mean something in the policy only.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Sequence
from typing import NamedTuple

from cluster.errors import ClusterConfigurationError
from cluster.limits import WITNESS_POLICY_BYTES_MAX, WITNESS_POLICY_NAMES_MAX
from wal.checkpoint import parse_checkpoint
from wal.cosignature import CosignerKey, open_cosignatures
from wal.errors import SignatureError
from wal.note import PublicKey, open_note, text_of

NONE = "none"


class PolicyLog(NamedTuple):
    """A log whose signature counts; its key's name is its origin. ``url`` may be empty."""

    key: PublicKey
    url: str = ""


class PolicyWitness(NamedTuple):
    """A witness, its name in the policy, and its submission prefix, which may be empty."""

    name: str
    key: CosignerKey
    url: str = ""


class Group(NamedTuple):
    """Has cosigned when ``needed`` of its members (witnesses and earlier groups) have."""

    name: str
    needed: int
    members: tuple[str, ...]


class WitnessPolicy(NamedTuple):
    """``quorum`` is the witness or group that must have cosigned, or ``none``. Without logs any will do: the caller then
    checks the log's own signature."""

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[Group, ...]
    quorum: str

    def encode(self) -> bytes:
        """The policy's text, which ``parse_policy`` reads back."""
        lines = [" ".join(["log", log.key.vkey(), log.url]).rstrip() for log in self.logs]
        lines += [" ".join(["witness", each.name, each.key.vkey(), each.url]).rstrip() for each in self.witnesses]
        lines += [" ".join(["group", each.name, str(each.needed), *each.members]) for each in self.groups]
        return "".join(f"{line}\n" for line in [*lines, f"quorum {self.quorum}"]).encode("utf-8", "surrogateescape")


class Judgement(NamedTuple):
    """Whether the quorum has cosigned, and the names of the witnesses that have and have not."""

    satisfied: bool
    cosigned: tuple[str, ...]
    missing: tuple[str, ...]


def threshold_policy(
    witnesses: Sequence[PolicyWitness], required: int, logs: Sequence[PolicyLog] = ()
) -> WitnessPolicy:
    """The policy by which any ``required`` of the witnesses are enough (0: none). Raises ClusterConfigurationError."""
    if required == 0:
        policy = WitnessPolicy(tuple(logs), tuple(witnesses), (), NONE)
    else:
        group = Group("required-witnesses", required, tuple(each.name for each in witnesses))
        policy = WitnessPolicy(tuple(logs), tuple(witnesses), (group,), group.name)
    return parse_policy(policy.encode(), "threshold")


def parse_policy(raw: bytes, where: str = "witness policy") -> WitnessPolicy:
    """Read a policy. Raises ClusterConfigurationError naming the line."""
    if len(raw) > WITNESS_POLICY_BYTES_MAX:
        raise _wrong(where, f"<= {WITNESS_POLICY_BYTES_MAX} bytes", f"{len(raw)} bytes")
    if any((byte < 0x20 and byte not in b"\t\n") or byte == 0x7F for byte in raw):
        raise _wrong(where, "no control characters but tab and newline", "another")
    if raw and not raw.endswith(b"\n"):
        raise _wrong(where, "a newline at the end of each line", "none at the last one")
    reading = _Reading()
    for number, line in enumerate(raw.split(b"\n"), 1):
        words = [word.decode("utf-8", "surrogateescape") for word in line.replace(b"\t", b" ").split(b" ") if word]
        if words and not words[0].startswith("#"):
            reading.take(words, f"{where}, line {number}")
    if reading.quorum is None:
        raise _wrong(where, "one quorum line", "none")
    return WitnessPolicy(tuple(reading.logs), tuple(reading.witnesses), tuple(reading.groups), reading.quorum)


class _Reading:
    """The lines read so far: what may be named, and what has been a member already."""

    def __init__(self) -> None:
        self.logs: list[PolicyLog] = []
        self.witnesses: list[PolicyWitness] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self._names: set[str] = set()
        self._members: set[str] = set()

    def take(self, words: list[str], where: str) -> None:
        kinds = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._quorum}
        kind = kinds.get(words[0])
        if kind is None:
            raise _wrong(where, f"one of {', '.join(kinds)}", f"a word of {len(words[0])} characters")
        if len(self.logs) + len(self._names) >= WITNESS_POLICY_NAMES_MAX and words[0] != "quorum":
            raise _wrong(where, f"at most {WITNESS_POLICY_NAMES_MAX} logs, witnesses and groups", "more")
        kind(words[1:], where)

    def _log(self, words: list[str], where: str) -> None:
        if not 1 <= len(words) <= 2:
            raise _wrong(where, "log VKEY [URL]", f"{len(words)} words")
        try:
            key = PublicKey.parse(words[0])
        except SignatureError as error:
            raise _wrong(where, f"a log's key: {error.expected}", str(error.found)) from error
        if any(log.key.raw == key.raw for log in self.logs):
            raise _wrong(where, "each log's key once", key.vkey())
        self.logs.append(PolicyLog(key, *words[1:]))

    def _witness(self, words: list[str], where: str) -> None:
        if not 2 <= len(words) <= 3:
            raise _wrong(where, "witness NAME VKEY [URL]", f"{len(words)} words")
        try:
            key = CosignerKey.parse(words[1])
        except SignatureError as error:
            raise _wrong(where, f"a witness's key: {error.expected}", str(error.found)) from error
        if any(each.key.raw == key.raw for each in self.witnesses):
            raise _wrong(where, "each witness's key once", key.vkey())
        self._define(words[0], where)
        self.witnesses.append(PolicyWitness(words[0], key, *words[2:]))

    def _group(self, words: list[str], where: str) -> None:
        if len(words) < 3:
            raise _wrong(where, "group NAME all|any|K NAME...", f"{len(words)} words")
        name, needed, *members = words
        for member in members:
            if member not in self._names:
                raise _wrong(where, "members that are defined above", printed(member))
            if member in self._members:
                raise _wrong(where, "each name as a member once", printed(member))
            self._members.add(member)
        self._define(name, where)
        self.groups.append(Group(name, _needed(needed, len(members), where), tuple(members)))

    def _quorum(self, words: list[str], where: str) -> None:
        if len(words) != 1 or self.quorum is not None:
            raise _wrong(where, "quorum NAME|none, once", f"{len(words)} words, or a second time")
        if words[0] != NONE and words[0] not in self._names:
            raise _wrong(where, "a witness or group that is defined above", printed(words[0]))
        self.quorum = words[0]

    def _define(self, name: str, where: str) -> None:
        if name == NONE or name in self._names:
            raise _wrong(where, "a name that is not taken", printed(name))
        self._names.add(name)


def _needed(word: str, members: int, where: str) -> int:
    if word in ("all", "any"):
        return members if word == "all" else 1
    if not (word.isascii() and word.isdigit() and len(word) <= 4 and 1 <= int(word) <= members):
        raise _wrong(where, f"all, any, or 1 to {members}", printed(word))
    return int(word)


def printed(name: str) -> str:
    """A policy's name for people: at most 80 characters, printable."""
    return "".join(char if char.isprintable() else "?" for char in name[:80])


def _wrong(where: str, expected: str, found: str) -> ClusterConfigurationError:
    return ClusterConfigurationError("the witness policy cannot be used", where=where, expected=expected, found=found)


def judge_note(note: bytes, policy: WitnessPolicy) -> Judgement:
    """What a signed checkpoint has of the policy's cosignatures.

    Raises SignatureError when it is no checkpoint, when a line of a known log or witness does not hold, and when the policy
    names logs and none of them signed it under its own origin.
    """
    cosigned = {each.key for each in open_cosignatures(note, [each.key for each in policy.witnesses])}
    origin = parse_checkpoint(text_of(note)).origin
    if policy.logs:
        opened = open_note(note, [log.key for log in policy.logs])
        if origin not in {key.name for key in opened.verified}:
            raise SignatureError(
                "the log that signed has another origin", expected=origin, found=opened.verified[0].name
            )
    holds = {each.name: each.key in cosigned for each in policy.witnesses}
    names = tuple(name for name, there in holds.items() if there)
    missing = tuple(name for name, there in holds.items() if not there)
    for group in policy.groups:
        holds[group.name] = sum(holds[member] for member in group.members) >= group.needed
    return Judgement(policy.quorum == NONE or holds[policy.quorum], names, missing)


def satisfied(note: bytes, policy: WitnessPolicy) -> bool:
    """Whether the policy's quorum has cosigned. Raises as ``judge_note``."""
    return judge_note(note, policy).satisfied
