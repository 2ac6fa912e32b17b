"""What a claw answers is judged in one place by one rule, and is always an outcome: nothing it says is an exception."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from femtoclaw.isolation import Isolation, Outcome, answer
from femtoclaw.isolation.outcome import STATUSES
from femtoclaw.manifest import Limits, Manifest

ROOT = Path(__file__).resolve().parent.parent.parent
HOSTILE = "tests.femtoclaw.hostile_processes"
NO_JSON = {"class": "ExecutionError", "message": "the answer is not valid JSON"}


def claw(name: str, **limits: Any) -> Manifest:
    bounds = Limits()._replace(**limits)
    return Manifest(name, "1.0.0", "a test claw", "system", {"type": "object"}, {}, f"{HOSTILE}:{name}", limits=bounds,
                    permissions=("workspace.read", "processes"))  # fmt: skip


@pytest.fixture(scope="module")
def isolation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Isolation]:
    isolation = Isolation(str(tmp_path_factory.mktemp("workspace")), modules=(HOSTILE,), search_path=str(ROOT))
    yield isolation
    isolation.close()


def says(isolation: Isolation, raw: bytes, **limits: Any) -> Outcome:
    return isolation.run(claw("says", **limits), {"base64": base64.b64encode(raw).decode()}, {})


def ended(**changes: Any) -> answer.Report:
    return answer.Report("", 0, 10, 10, 1, 2, "")._replace(**changes)


INVALID = {
    "half": b'{"result":{',
    "two values": b'{"result":{}}{"result":{}}',
    "not UTF-8": b'{"result":{"a":"\xff"}}',
    "byte order mark": b'\xef\xbb\xbf{"result":{}}',
    "lone surrogate": b'{"result":{"a":"\\ud800"}}',
    "lone surrogate in a key": b'{"result":{"\\udfff":1}}',
    "lone surrogate in an error": b'{"error":{"class":"ExecutionError","message":"\\ud800"}}',
    "NaN": b'{"result":{"a":NaN}}',
    "infinity": b'{"result":{"a":-Infinity}}',
    "overflow to infinity": b'{"result":{"a":1e999}}',
    "65 bits": b'{"result":{"a":9223372036854775808}}',
    "a million digits": b'{"result":{"a":' + b"9" * 1_000_000 + b"}}",
    "a key twice": b'{"result":{"a":1,"a":2}}',
    "depth 1000": b'{"result":{"a":' + b"[" * 1000 + b"]" * 1000 + b"}}",
    "depth 1000000": b'{"result":' + b'{"a":' * 1_000_000,
    "too many values": b'{"result":{"a":[' + b"0," * 400_000 + b"0]}}",
    "a list": b"[]",
    "a string": b'"result"',
    "neither": b"{}",
    "both": b'{"result":{},"error":{"class":"ExecutionError","message":""}}',
    "more": b'{"result":{},"status":"success"}',
    "result is null": b'{"result":null}',
    "result is a list": b'{"result":[]}',
    "error is a string": b'{"error":"no"}',
    "error is null": b'{"error":null}',
    "error without a class": b'{"error":{"message":"x"}}',
    "error of its own class": b'{"error":{"class":"SecurityError","message":"x"}}',
    "error class is a list": b'{"error":{"class":[],"message":"x"}}',
    "error message is a number": b'{"error":{"class":"ExecutionError","message":1}}',
    "control character": b'{"result":{"a":"\x01"}}',
}


@pytest.mark.requirement("CLAW-13.1")
@pytest.mark.parametrize("raw", INVALID.values(), ids=INVALID)
def test_what_is_no_strict_json_is_a_crash(isolation: Isolation, raw: bytes) -> None:
    """From a real claw's pipe to a typed outcome without a result."""
    outcome = says(isolation, raw)
    assert (outcome.status, outcome.result, outcome.error) == ("crashed", None, NO_JSON)
    assert (outcome.kept_bytes, outcome.output_digest) == (0, "")


@pytest.mark.parametrize("number", [True, "12", -1, 1.5, None, [], {}], ids=repr)
def test_a_size_that_is_none_is_a_crash(isolation: Isolation, number: Any) -> None:
    """``original_bytes`` in a result is the claw's own word: a count or nothing."""
    outcome = isolation.run(claw("odd_number"), {"number": number}, {})
    assert (outcome.status, outcome.result) == ("crashed", None)
    assert outcome.error == {
        "class": "ExecutionError",
        "message": "the answer's original_bytes is not a number of bytes",
    }


def test_a_size_beyond_64_bits_is_a_crash(isolation: Isolation) -> None:
    """As every integer of that size; the largest that is recorded passes."""
    assert isolation.run(claw("odd_number"), {"number": 2**63}, {}).error == NO_JSON
    assert isolation.run(claw("odd_number"), {"number": 2**63 - 1}, {}).original_bytes == 2**63 - 1


def test_a_deep_result_of_an_ordinary_claw(isolation: Isolation) -> None:
    """The bound of the nesting is exact, and one more is refused."""
    levels = answer.DEPTH_MAX - 2  # the answer's object, and the result's
    assert isolation.run(claw("nests"), {"depth": levels}, {}).status == "success"
    assert isolation.run(claw("nests"), {"depth": levels + 1}, {}).error == NO_JSON


def test_silence_is_a_crash_with_its_own_text(isolation: Isolation) -> None:
    """No answer at all is told from a wrong one."""
    outcome = says(isolation, b"")
    assert outcome.status == "crashed"
    assert outcome.error == {
        "class": "ExecutionError",
        "message": "the process ended with status 0 and without an answer",
    }


def test_a_long_error_is_cut(isolation: Isolation) -> None:
    """The bound of an error text holds for claws that write their own."""
    raw = json.dumps({"error": {"class": "ArgumentError", "message": "m" * 50_000}}).encode()
    outcome = says(isolation, raw)
    assert outcome.status == "error"
    assert outcome.error == {"class": "ArgumentError", "message": "m" * answer.ERROR_CHARACTERS_MAX}


@pytest.mark.invariant("I11")
def test_a_result_that_grows_over_its_bound_is_cut_off(isolation: Isolation) -> None:
    """1e15 has four characters on the pipe and 18 in the record: the bound is that of the record, too."""
    raw = b'{"result":{"a":[' + b",".join([b"1e15"] * 1000) + b"]}}"
    outcome = says(isolation, raw, output_bytes=len(raw))
    assert (outcome.status, outcome.result) == ("output_limit", None)
    assert says(isolation, raw, output_bytes=len(raw) * 4).status == "success"


def test_a_good_answer_is_kept_with_its_digest(isolation: Isolation) -> None:
    """Extreme, but JSON: everything comes back, the digest is over the canonical bytes."""
    result = {"z": [2**63 - 1, -(2**63), 1.5, None, True, "\u0000\U0001f600"], "a": {"": {}}}
    outcome = says(isolation, b" \n" + json.dumps({"result": result}).encode() + b"\n")
    canonical = json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert (outcome.status, outcome.result, outcome.error) == ("success", result, None)
    assert (outcome.kept_bytes, outcome.output_digest) == (len(canonical), blake3(canonical).hexdigest())


def test_no_bytes_make_an_exception() -> None:
    """Valid answers with bytes changed, cut and doubled: always an outcome, with a result only as a success."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    seeds = [raw for raw in INVALID.values() if len(raw) < 5000] + [
        b'{"result":{"original_bytes":7,"a":[1.5e3,"\\u00e9"]}}'
    ]
    for _ in range(3000):
        raw = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(raw) + 1)
            raw[at : at + rng.randrange(3)] = rng.choice(
                [b"", b'"', b"{", b"]", b"\\ud800", b"\xff", b"1e999", raw[:at]]
            )
        outcome = answer.judge(ended(exit_status=rng.choice([0, 0, 0, 1, -9, -63])), bytes(raw), 10_000)
        assert outcome.status in STATUSES
        assert (outcome.result is not None) == (outcome.status == "success") == (outcome.error is None)
        if outcome.result is not None:
            json.dumps(outcome.result, ensure_ascii=False, allow_nan=False).encode()


REPORT: dict[str, Any] = {
    "verdict": "", "exit_status": 0, "seen_bytes": 5, "kept_bytes": 5, "started_ns": 1, "ended_ns": 2,
    "unconfined": "",
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "success"}, {"verdict": []}, {"exit_status": "0"}, {"exit_status": True}, {"exit_status": -300},
        {"seen_bytes": -1}, {"kept_bytes": 6}, {"kept_bytes": 101, "seen_bytes": 200}, {"started_ns": None},
        {"ended_ns": 2**63}, {"unconfined": 1}, {"more": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_a_report_is_checked_before_it_is_believed(change: dict[str, Any]) -> None:
    """Without a PID namespace a claw shares its user with its supervisor: the report is input, too."""
    assert answer.report(REPORT, 100).seen_bytes == 5
    with pytest.raises(ValueError):
        answer.report(REPORT | change, 100)
