"""THE ONE PLACE where a claw's bytes become an outcome: on the node's side, by one rule, and never an exception.

The answer of a claw is one strict JSON text in UTF-8: an object with either ``result``, an object, or ``error``, with
a known class and a message; of an installed module also with ``stages``.
Strict means: no duplicate keys, no lone surrogates, no NaN or infinity, integers in
signed 64 bit, nesting and number of values bounded. Whatever else comes is *crashed: the answer is not valid JSON*,
and nothing of it is kept.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import re
import signal
from itertools import accumulate
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw.isolation.outcome import Outcome
from femtoclaw.isolation.stages import STAGES

DEPTH_MAX = 64
"""Nested objects and arrays of an answer; its outer object counts as 1."""

VALUES_MAX = 200_000
"""Commas and opening brackets outside of strings."""

ERROR_CHARACTERS_MAX = 2000
"""Characters of an error message of a claw that are kept."""

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

ERROR_CLASSES = frozenset({"ArgumentError", "ExecutionError", "AuthorizationError", "EnvironmentError"})

VERDICTS = {
    "timeout": "wall time is used up",
    "output_limit": "output is over its bound",
    "killed": "more processes than its bound",
    "crashed": "the fork server ended before the claw did",
}
"""Why a supervisor ends a claw, as it reports it, and the message of the outcome."""

_LAYER_CHARACTERS_MAX = 64
_INVALID = "the answer is not valid JSON"
_STRING = re.compile(r'"[^"]*"?')
_NO_BRACKETS = re.compile(r"[^\[\]{}]+")
_NESTING = {"[": 1, "{": 1, "]": -1, "}": -1}


class Report(NamedTuple):
    """How a claw ended, from its supervisor.

    ``verdict`` is a key of ``VERDICTS``, or empty for a claw that ended by itself; ``exit_status`` is negative for a
    signal; ``seen_bytes`` were read of the answer, ``kept_bytes`` of them follow the report; times are monotonic
    nanoseconds; ``unconfined`` names the layer that could not be put in force, so that the claw's code did not run.
    """

    verdict: str
    exit_status: int
    seen_bytes: int
    kept_bytes: int
    started_ns: int
    ended_ns: int
    unconfined: str


def report(body: dict[str, Any], limit: int) -> Report:
    """The report in a supervisor's message; ``limit`` bounds the bytes that follow it. Raises ValueError."""
    try:
        found = Report(**body)
    except TypeError:
        raise ValueError("the report has other fields") from None
    numbers = (found.exit_status, found.seen_bytes, found.kept_bytes, found.started_ns, found.ended_ns)
    if not all(type(number) is int and -256 < number <= INTEGER_MAX for number in numbers):
        raise ValueError("the report's numbers are none")
    if not (isinstance(found.verdict, str) and found.verdict in ("", *VERDICTS) and isinstance(found.unconfined, str)):
        raise ValueError("the report's texts are none")
    if not 0 <= found.kept_bytes <= min(found.seen_bytes, limit):
        raise ValueError("the report's sizes cannot be")
    return found


def judge(ended: Report, raw: bytes, limit: int) -> Outcome:
    """The outcome of a claw whose answer is ``raw``; a result of more than ``limit`` canonical bytes is refused."""
    if ended.verdict:
        return _without_result(ended, ended.verdict, VERDICTS[ended.verdict])
    if ended.unconfined:
        layer = ended.unconfined[:_LAYER_CHARACTERS_MAX]
        message = f"the sandbox could not be built ({layer}); the claw's code did not run"
        return _without_result(ended, "crashed", message, "EnvironmentError")
    if ended.exit_status < 0:
        return _without_result(ended, "killed", _end_by_signal(-ended.exit_status))
    if ended.exit_status > 0 or not raw:
        message = f"the process ended with status {ended.exit_status} and without an answer"
        return _without_result(ended, "crashed", message)
    try:
        body = parse(raw)
        stages = _stages(body.pop("stages", []))
        return _answer(ended, body, limit)._replace(stages=stages)
    except (ValueError, RecursionError):
        return _without_result(ended, "crashed", _INVALID)


def parse(raw: bytes) -> dict[str, Any]:
    """The object in ``raw``. Raises ValueError for bytes, shapes and integers that are refused.

    Lone surrogates, NaN and infinity pass here: what is kept has a canonical form, and they have none.
    """
    text = raw.decode()
    if text.count(",") + text.count("[") + text.count("{") > VALUES_MAX or _brackets(text) > DEPTH_MAX:
        _check_shape(text)
    body = _decoder.decode(text)
    if not isinstance(body, dict):
        raise ValueError("no object")
    return body


def _stages(told: object) -> tuple[str, ...]:
    """Raises ValueError for anything but stages of a module's life."""
    if not isinstance(told, list) or len(told) > len(STAGES) or not all(each in STAGES for each in told):
        raise ValueError("no stages")
    return tuple(told)


def _answer(ended: Report, body: dict[str, Any], limit: int) -> Outcome:
    match body:
        case {"result": dict(result), **rest} if not rest:
            return _with_result(ended, result, limit)
        case {"error": {"class": str(kind), "message": str(message), **more}, **rest} if not rest and not more:
            message.encode()  # a lone surrogate is a ValueError
            if kind in ERROR_CLASSES:
                return _without_result(ended, "error", message[:ERROR_CHARACTERS_MAX], kind)
    raise ValueError("neither result nor error")


def _with_result(ended: Report, result: dict[str, Any], limit: int) -> Outcome:
    # A ValueError for a number that is none, and for a lone surrogate.
    canonical = json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    if len(canonical) > limit:
        return _without_result(ended, "output_limit", VERDICTS["output_limit"])
    claimed = result.get("original_bytes", 0)
    if type(claimed) is not int or claimed < 0:
        return _without_result(ended, "crashed", "the answer's original_bytes is not a number of bytes")
    return Outcome(
        "success", result, None, ended.exit_status, ended.started_ns, ended.ended_ns, max(ended.seen_bytes, claimed),
        len(canonical), blake3(canonical).hexdigest(),
    )  # fmt: skip


def _without_result(ended: Report, status: str, message: str, kind: str = "ExecutionError") -> Outcome:
    error = {"class": kind, "message": message}
    return Outcome(status, None, error, ended.exit_status, ended.started_ns, ended.ended_ns, ended.seen_bytes, 0, "")


def _end_by_signal(number: int) -> str:
    return "processor time is used up" if number == signal.SIGXCPU else f"the process ended by {_signal_name(number)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _brackets(text: str) -> int:
    return text.count("[") + text.count("{")


def _check_shape(text: str) -> None:
    """Refuse deep or wide answers before the scanner recurses into them and allocates them.

    Without its escaped backslashes and quotes a string ends at the next quote; where a text is no JSON this may read
    it wrongly, but there the scanner stops.
    """
    bare = _STRING.sub("", text.replace("\\\\", "").replace('\\"', ""))
    if bare.count(",") + _brackets(bare) > VALUES_MAX:
        raise ValueError("too many values")
    if max(accumulate(map(_NESTING.__getitem__, _NO_BRACKETS.sub("", bare))), default=0) > DEPTH_MAX:
        raise ValueError("too deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key occurs twice")
    return made


def _integer(literal: str) -> int:
    # Length first: int() of many digits is slow, and limited by a setting of the process.
    if len(literal) > len(str(INTEGER_MIN)) or not INTEGER_MIN <= (number := int(literal)) <= INTEGER_MAX:
        raise ValueError("an integer outside of signed 64 bit")
    return number


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, strict=True)
