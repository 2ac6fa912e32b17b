"""The validator against a naive second one, against mutated messages, and against itself elsewhere."""

from __future__ import annotations

import json
import os
import random
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.protocol import KINDS, Message, Rejected, ToolCall, validate

NAIVE = runpy.run_path(str(Path(__file__).with_name("naive_protocol.py")))
MANIFESTS, SCHEMAS, ENTRIES = (NAIVE[name] for name in ("MANIFESTS", "SCHEMAS", "ENTRIES"))
mutated, oracle = NAIVE["mutated"], NAIVE["oracle"]
ORACLE_SCHEMAS = ArgumentSchemas([each for each in MANIFESTS if each.name in ("shell", "system.info")])
PIECES = [
    *('{"message":{"content":', '{"tool_call":{"tool":"shell","args":{', '{"tool_call":{"tool":'),
    *('"bin":"echo"', '"argv":['),
    *('"timeout":', '"args":{', '"content":', '"tool":'),
    *("{", "}", "}}", "}}}", "[", "]", ",", ":", '"a"', '"shell"', '"é"'),
    *('"\\ud800"', '"\\ud83d\\ude00"', '"\\n"', '"\\q"', "1", "-0", "01", "1.0", "1.", "5e2", "1e999", "600", "601"),
    *("NaN", "-Infinity", "true", "nul", "null", "9223372036854775807", "9223372036854775808"),
    *(" ", "\n", "\x0b", "\ufeff", "\x00", '"', "\\", "'"),
]  # fmt: skip


@pytest.mark.invariant("I10")
def test_no_bytes_make_the_validator_raise() -> None:
    """20,000 mutated messages and 2,000 random ones each give one of the three verdicts, well formed."""
    chance = random.Random(20260801)
    messages = [mutated(chance) for _ in range(20_000)] + [chance.randbytes(chance.randrange(64)) for _ in range(2_000)]
    accepted = 0
    for raw in messages:
        verdict = validate(raw, SCHEMAS)
        if isinstance(verdict, Rejected):
            assert KINDS[verdict.code] == verdict.kind and 1 <= verdict.step <= 5
            assert all(" " <= char <= "~" for char in verdict.detail + verdict.pointer)
            assert len(verdict.detail) <= 400 and len(verdict.pointer) <= 400
        else:
            accepted += 1
            assert isinstance(verdict, (Message, ToolCall))
    assert 0 < accepted < len(messages)


@pytest.mark.requirement("PROTO-14.1")
@pytest.mark.invariant("I6")
def test_verdicts_are_the_same_in_every_thread_and_order() -> None:
    """10,000 messages judged by eight threads, shuffled, by a fresh registry, give what one thread gave."""
    chance = random.Random(7)
    messages = [mutated(chance) for _ in range(10_000)]
    expected = [validate(raw, SCHEMAS) for raw in messages]
    other = ArgumentSchemas(reversed(MANIFESTS))
    assert other.registry_digest == SCHEMAS.registry_digest
    order = list(range(len(messages)))
    chance.shuffle(order)
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda at: validate(messages[at], other), order, chunksize=50))
    assert [expected[at] for at in order] == verdicts


@pytest.mark.requirement("PROTO-14.1")
@pytest.mark.invariant("I6")
def test_verdicts_do_not_depend_on_the_process() -> None:
    """Other hash seeds and another limit on integer digits give the golden verdicts too."""
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import test_protocol as t;"
        "print(json.dumps([t.verdict_of(t.raw_of(e)) for e in t.ENTRIES]))"
    )
    here = Path(__file__).parent
    for seed, digits in (("0", "640"), ("4242", "0")):
        environment = os.environ | {
            "PYTHONHASHSEED": seed, "PYTHONINTMAXSTRDIGITS": digits, "PYTHONPATH": str(here.parent.parent),
        }  # fmt: skip
        run = subprocess.run(
            [sys.executable, "-c", program, str(here)], env=environment, capture_output=True, check=True
        )
        assert json.loads(run.stdout) == [entry["verdict"] for entry in ENTRIES]


@settings(max_examples=600, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=14))
def test_verdict_equals_a_naive_reading_of_the_rules(pieces: list[str]) -> None:
    """Messages put together from pieces get the step, form and value that a second, naive implementation gives."""
    raw = "".join(pieces).encode()
    step, value = oracle(raw)
    verdict = validate(raw, ORACLE_SCHEMAS)
    assert (verdict.step if isinstance(verdict, Rejected) else 6) == step
    if step == 6:
        assert repr(verdict) == repr(value)


def test_mutations_agree_with_the_naive_reading() -> None:
    """So do 4,000 mutated corpus messages, accepted ones among them."""
    chance = random.Random(99)
    steps = set()
    for _ in range(4_000):
        raw = mutated(chance)
        step, value = oracle(raw)
        verdict = validate(raw, ORACLE_SCHEMAS)
        assert (verdict.step if isinstance(verdict, Rejected) else 6) == step, raw
        assert step != 6 or repr(verdict) == repr(value)
        steps.add(step)
    assert steps == {1, 2, 3, 4, 5, 6}
