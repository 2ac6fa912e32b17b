"""What another policy would have decided: every recorded call judged again under two policies, and a report of it that
another party can compute again. Pure.

A counterfactual is of one decision: each call is judged in the state that the log folds to before it, with what was
counted, done and read as it happened. What would have followed from another decision is not guessed.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw import events
from femtoclaw.apply import apply
from femtoclaw.authorization import HELD, Decision
from femtoclaw.engines import EngineCache, load_policy
from femtoclaw.errors import ConfigurationError, PolicyError, SecurityError
from femtoclaw.events import Event
from femtoclaw.judging import Case, judge
from femtoclaw.policy import engine_version
from femtoclaw.protocol import ToolCall
from femtoclaw.replay import Batch, event_batches, subject_of
from femtoclaw.restore import STUMBLES, impossible
from femtoclaw.sealing import UNSEALED, NoSubjectKeyError, SealedError, Sealer
from femtoclaw.state import EMPTY, FOLD_VERSION, Run, State
from wal import Record
from wal.genesis import decode_genesis
from wal.merkle import Frontier, leaf_hash

RECORDED = "recorded"
"""Instead of a policy's text: those that were in force, each as long as it was."""

FORMAT = "femtoclaw policy diff v1"
NOT_LOADED = "POLICY_NOT_LOADED"
"""Reason where a policy does not fit the claws that were registered then: it could not have been in force."""

NOTE = (
    "Each decision alone, on recorded inputs: counts, history, origin and time are those of what happened under the "
    "recorded policies. Calls are judged when they were proposed; what operators approved or refused later is not judged."
)
_NANOSECONDS = 1_000_000_000
_LOG = ("origin", "size", "root", "link")


class Outcome(NamedTuple):
    """What became of a call: one of the five decisions or ``HELD``, with (count, roles, seconds) of the approval."""

    decision: str
    reason: str
    determining: tuple[str, ...]
    approval: tuple[int, tuple[str, ...], int] | None = None

    def body(self) -> dict[str, Any]:
        """The outcome as data."""
        body: dict[str, Any] = {
            "decision": self.decision,
            "reason": self.reason,
            "determining": list(self.determining),
        }
        if self.approval is not None:
            count, roles, seconds = self.approval
            body["approval"] = {"count": count, "roles": list(roles), "seconds": seconds}
        return body


class Judged(NamedTuple):
    """A call that the log says was judged: the index of its decision, the state before it, and what became of it."""

    index: int  # type: ignore[assignment]  # shadows tuple.index
    execution_id: str
    state: State
    run_id: str
    run: Run | None
    at_ns: int
    raw: bytes
    call: ToolCall
    recorded: Outcome
    subject: str = ""

    def case(self, engines: EngineCache) -> Case:
        """The same question put to these engines."""
        return Case(self.state, self.execution_id, self.run_id, self.run, self.at_ns, "", engines, self.subject)


class History:
    """The calls among verified records, and the identity of exactly the records that were read.

    ``origin``, ``size``, ``root`` and ``link`` are complete once ``judged`` has come to its end, and so is ``state``.
    """

    def __init__(self, records: Iterable[Record], sealer: Sealer = UNSEALED) -> None:
        """``sealer`` has the keys of subjects; calls that it cannot open are counted in ``sealed`` and not judged."""
        self._records = records
        self._sealer = sealer
        self.sealed = 0
        self._frontier = Frontier()
        self._engines = EngineCache(sealer=sealer)
        self.state: State = EMPTY
        self.origin = ""
        self.size = 0
        self.link = b""
        self.policies: list[dict[str, Any]] = []

    @property
    def log(self) -> dict[str, Any]:
        """What a report is bound to."""
        return {
            "origin": self.origin,
            "size": self.size,
            "root": self._frontier.root().hex(),
            "link": self.link.hex(),
        }

    def judged(self) -> Iterator[Judged]:
        """Every call that was judged, in order. Raises EventFormatError, or SecurityError where the log does not say
        what its own policy decides."""
        for batch in event_batches(self._read()):
            found = self._opened_question(batch)
            if found is not None:
                recorded = _recorded(batch.events)
                if recorded is not None:
                    yield found._replace(index=recorded[0], recorded=recorded[1])
            for index, event in batch.events:
                self._take(index, event)

    def _opened_question(self, batch: Batch) -> Judged | None:
        try:
            happened = self._sealer.open_all((event for _, event in batch.events), subject_of(self.state, batch))
            return self._question(happened)
        except NoSubjectKeyError:
            self.sealed += 1
            return None
        except SealedError as error:
            raise SecurityError(
                "the log holds a text that is not sealed as its subject's texts are",
                where=f"index {batch.events[0][0]}", expected=error.expected, found=error.found,
                remedy="run `femtoclaw verify`",
            ) from error  # fmt: skip

    def _read(self) -> Iterator[Record]:
        for record in self._records:
            if record.index == 1:
                self.origin = decode_genesis(record).origin
            self._frontier.append(leaf_hash(record.link))
            self.size, self.link = record.index, record.link
            yield record

    def _take(self, index: int, event: Event) -> None:
        if isinstance(event, events.PolicyAdopted):
            self.policies.append({"index": index, "digest": event.digest, "schema_digest": event.schema_digest,
                                  "engine": event.engine})  # fmt: skip
        try:
            self.state = apply(self.state, event)
        except STUMBLES as error:
            raise impossible(index, error) from error

    def _question(self, happened: list[Event]) -> Judged | None:
        first = happened[0]
        if isinstance(first, events.InferenceReceived):
            raw = first.raw
        elif isinstance(first, events.InputReceived) and first.role == "intent":
            raw = first.content
        else:
            return None
        call = self._engines.engines(self.state.node).validate(raw)
        if not isinstance(call, ToolCall):
            return None
        execution = self.state.live.executions.get(first.execution_id)
        run_id = execution.run_id if execution is not None else ""
        run = self.state.live.runs.get(run_id)
        nothing = Outcome("", "", ())
        subject = execution.subject if execution is not None else getattr(first, "subject", "")
        return Judged(0, first.execution_id, self.state, run_id, run, first.at_ns, raw, call, nothing, subject)


def compare(
    records: Iterable[Record], old: str | None, new: str | None, sealer: Sealer = UNSEALED
) -> dict[str, Any]:  # fmt: skip
    """Judge every recorded call under two policies (None: those that were in force) and report every flip.

    Raises PolicyError when a policy does not load for the claws that are registered at the end, EventFormatError, or
    SecurityError when the log does not hold what its own policies decide: a report about a forged history says nothing.
    """
    history = History(records, sealer)
    recorded_engines = EngineCache(sealer=sealer)
    sides = [EngineCache(text, sealer) if text is not None else None for text in (old, new)]
    count = 0
    flips: list[dict[str, Any]] = []
    for judged in history.judged():
        count += 1
        recorded = _outcome(judged, recorded_engines)
        if recorded != judged.recorded:
            raise SecurityError(
                "the log holds another decision than its own policy makes", where=f"index {judged.index}",
                expected=recorded.body(), found=judged.recorded.body(), remedy="run `femtoclaw verify`",
            )  # fmt: skip
        before, after = (recorded if side is None else _outcome(judged, side) for side in sides)
        if (before.decision, before.approval) != (after.decision, after.approval):
            flips.append(
                {
                    "index": judged.index,
                    "execution": judged.execution_id,
                    "claw": judged.call.tool,
                    "old": before.body(),
                    "new": after.body(),
                }
            )
    body = {
        "format": FORMAT,
        "log": history.log,
        "engine": engine_version(),
        "fold": FOLD_VERSION,
        "old": _side(old, history),
        "new": _side(new, history),
        "decisions": count,
        "sealed": history.sealed,
        "flips": flips,
        "note": NOTE,
    }
    return {**body, "digest": report_digest(body)}


def flips_to_allow(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The flips of a report that loosen: a denial that would be held or allowed, a held call that would be allowed, or
    one that fewer or other operators could approve, or for longer."""
    return [flip for flip in report["flips"] if _looser(flip["old"], flip["new"])]


def verify(
    report: Mapping[str, Any], records: Iterable[Record], sealer: Sealer = UNSEALED
) -> list[str]:  # fmt: skip
    """Compute a report again from ``records``, verified and as many as ``report["log"]["size"]``; the names of the parts
    that are not equal, none when all are.

    Raises ConfigurationError for a report that is none, and as ``compare`` does.
    """
    check_report(report)
    if report["digest"] != report_digest(report):
        return ["digest"]
    again = compare(records, _text_of(report["old"]), _text_of(report["new"]), sealer)
    return sorted(name for name in again.keys() | report.keys() if again.get(name) != report.get(name))


def check_report(report: Mapping[str, Any]) -> None:
    """Raises ConfigurationError for what is no report of this form."""
    log = report.get("log")
    sides = [report.get(name) for name in ("old", "new")]
    shaped = (
        report.get("format") == FORMAT
        and isinstance(log, dict)
        and log.keys() == set(_LOG)
        and type(log["size"]) is int
        and log["size"] >= 1
        and all(
            isinstance(side, dict) and (side.get("policy") == RECORDED or type(side.get("text")) is str)
            for side in sides
        )
        and isinstance(report.get("flips"), list)
        and isinstance(report.get("digest"), str)
    )
    if not shaped:
        raise ConfigurationError(
            "this is no report of `policy diff`", where=f"a report in the form {FORMAT!r}",
            expected="what `femtoclaw policy diff OLD NEW --json` wrote", found="something else",
        )  # fmt: skip


def read_report(raw: bytes, where: str) -> dict[str, Any]:
    """The report in a file. Raises ConfigurationError for what is none."""
    try:
        report = json.loads(raw)
        if not isinstance(report, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError):
        raise ConfigurationError("this is no JSON object", where=where, expected="a report of `policy diff`") from None
    check_report(report)
    return report


def report_digest(report: Mapping[str, Any]) -> str:
    """BLAKE3 over the canonical JSON of a report without its ``digest``, domain-tagged, 64 hex digits."""
    body = {name: value for name, value in report.items() if name != "digest"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return blake3(FORMAT.encode() + b"\x00" + text.encode()).hexdigest()


def _outcome(judged: Judged, engines: EngineCache) -> Outcome:
    """What the gate does with the call under these engines."""
    try:
        derived = judge(judged.case(engines), judged.raw)
    except PolicyError:
        return Outcome(Decision.DENIED_POLICY_VIOLATION.value, NOT_LOADED, ())
    found = _recorded([(0, event) for event in derived])
    return found[1] if found is not None else Outcome("", "", ())


def _recorded(happened: Iterable[tuple[int, Event]]) -> tuple[int, Outcome] | None:
    """The first decision among events, with its index; None where the batch's end is missing."""
    for index, event in happened:
        if isinstance(event, events.AuthorizationDecided):
            return index, Outcome(event.decision, event.reason, event.determining)
        if isinstance(event, events.ApprovalRequested):
            seconds = (event.expires_ns - event.requested_ns) // _NANOSECONDS
            return index, Outcome(HELD, HELD, event.policies, (event.needed, event.roles, seconds))
    return None


def _side(text: str | None, history: History) -> dict[str, Any]:
    if text is None:
        return {"policy": RECORDED, "in_force": history.policies}
    engine = load_policy(text, history.state.node)
    return {"policy": "given", "digest": engine.digest, "schema_digest": engine.schema_digest, "text": text}


def _text_of(side: Mapping[str, Any]) -> str | None:
    return None if side.get("policy") == RECORDED else str(side["text"])


def _looser(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    before, after = _rank(old["decision"]), _rank(new["decision"])
    if before != after or "approval" not in old:
        return after > before
    was, will = old["approval"], new["approval"]
    # No role named: any operator whom the control policy lets approve.
    wider = bool(was["roles"]) and (not will["roles"] or not set(will["roles"]) <= set(was["roles"]))
    return bool(will["count"] < was["count"] or will["seconds"] > was["seconds"] or wider)


def _rank(decision: str) -> int:
    return {Decision.AUTHORIZED.value: 2, HELD: 1}.get(decision, 0)
