"""The validator: golden corpus, property tests, and a naive oracle beside it.

``tests/golden/protocol/messages.json`` holds messages and their verdicts under the claws of ``registry.json``. To add
one, append an entry without a verdict and run this file with FEMTOCLAW_REWRITE_GOLDEN=1. A changed verdict of an old
entry breaks the protocol's compatibility (PROTO-15.1): commit one only with a new protocol version.
"""

from __future__ import annotations

import json
import os
import runpy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.errors import ConfigurationError
from femtoclaw.manifest import Manifest
from femtoclaw.protocol import (
    CONTENT_BYTES_MAX,
    KINDS,
    Message,
    Rejected,
    ToolCall,
    call_digest,
    canonical_args,
    validate,
)
from femtoclaw.strict_json import parse

NAIVE = runpy.run_path(str(Path(__file__).with_name("naive_protocol.py")))
GOLDEN, MANIFESTS, SCHEMAS, ENTRIES = (NAIVE[name] for name in ("GOLDEN", "MANIFESTS", "SCHEMAS", "ENTRIES"))
raw_of = NAIVE["raw_of"]
ECHO: dict[str, dict[str, Any]] = {"tool_call": {"tool": "shell", "args": {"bin": "echo", "argv": ["Hello"]}}}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
keys = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["content", "tool", "args", "message", "tool_call", "Message", "message ", "version", "id", ""]
)


def verdict_of(raw: bytes) -> dict[str, Any]:
    """A verdict as the golden file holds it; contents over 200 characters by their length."""
    verdict = validate(raw, SCHEMAS)
    if isinstance(verdict, Rejected):
        return verdict._asdict()
    if isinstance(verdict, Message):
        content: str | int = verdict.content if len(verdict.content) <= 200 else len(verdict.content)
        return {"form": "message", "content": content}
    manifest = next(each for each in MANIFESTS if each.name == verdict.tool)
    digest = call_digest(verdict.tool, verdict.args, manifest.digest())
    return {
        "form": "tool_call",
        "tool": verdict.tool,
        "args": canonical_args(verdict.args).decode(),
        "digest": digest,
    }


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def test_golden_corpus_can_be_rewritten_on_request() -> None:
    """With FEMTOCLAW_REWRITE_GOLDEN=1 the stored verdicts are written anew; otherwise none is missing."""
    if os.environ.get("FEMTOCLAW_REWRITE_GOLDEN") == "1":
        for entry in ENTRIES:
            entry["verdict"] = verdict_of(raw_of(entry))
        (GOLDEN / "messages.json").write_text(json.dumps(ENTRIES, indent=1) + "\n")
    assert [entry["name"] for entry in ENTRIES if "verdict" not in entry] == []
    assert len({entry["name"] for entry in ENTRIES}) == len(ENTRIES) >= 120


@pytest.mark.requirement("PROTO-15.1")
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_verdicts_of_version_1_never_change(entry: dict[str, Any]) -> None:
    """Every stored message still has its stored verdict, to the letter of pointer and detail."""
    assert verdict_of(raw_of(entry)) == entry["verdict"]


def test_golden_corpus_has_every_code() -> None:
    """No code is without an example, but the one that needs a broken registry; both forms are there too."""
    seen = {entry["verdict"].get("code", entry["verdict"].get("form")) for entry in ENTRIES}
    assert seen == set(KINDS) - {"SCHEMA_UNUSABLE"} | {"message", "tool_call"}


@pytest.mark.requirement("PROTO-15.1")
@pytest.mark.parametrize("marker", ["version", "v", "protocol", "$schema", "jsonrpc"])
def test_unknown_version_marker_is_rejected(marker: str) -> None:
    """A message that says it is of another version is refused, whatever the version is."""
    for value in (1, 2, "1", "2.0", None):
        verdict = validate(encoded({marker: value, **ECHO}), SCHEMAS)
        assert isinstance(verdict, Rejected) and (verdict.step, verdict.code) == (2, "UNKNOWN_KEY")


@pytest.mark.requirement("PROTO-4.1")
@settings(deadline=None)
@given(
    top=st.dictionaries(keys, json_values, max_size=2),
    inner=st.dictionaries(keys, json_values, max_size=2),
    use=st.booleans(),
)
def test_only_the_exact_key_set_is_accepted(top: dict[str, Any], inner: dict[str, Any], use: bool) -> None:
    """Extra keys at either level, of any name and value, turn an accepted message into a rejected one."""
    form, body = ("tool_call", ECHO["tool_call"]) if use else ("message", {"content": "Hello"})
    document = {**top, form: {**inner, **body}}
    verdict = validate(encoded(document), SCHEMAS)
    exact = set(document) == {form} and set(document[form]) == set(body)
    assert isinstance(verdict, Rejected) is not exact
    if isinstance(verdict, Rejected):
        assert verdict.step == (3 if set(document) == {form} else 2)


AMBIGUITIES = [
    (b'{"message":{"content":"a"},"message":{"content":"b"}}', "AMBIGUOUS", "DUPLICATE_KEY"),
    (b'{"tool_call":{"tool":"shell","args":{"bin":"echo","bin":"rm"}}}', "AMBIGUOUS", "DUPLICATE_KEY"),
    (b'{"message":{"content":"a"},"tool_call":{"tool":"shell","args":{}}}', "AMBIGUOUS", "BOTH_FORMS"),
    (b'{"message":{"content":"a"}}{"message":{"content":"b"}}', "AMBIGUOUS", "TRAILING_BYTES"),
    (b'\xef\xbb\xbf{"message":{"content":"a"}}', "AMBIGUOUS", "BYTE_ORDER_MARK"),
    (b'{"Message":{"content":"a"}}', "MALFORMED_STRUCTURE", "UNKNOWN_KEY"),
    (b'{"message":{"CONTENT":"a"}}', "MALFORMED_STRUCTURE", "UNKNOWN_KEY"),
    (
        b'{"tool_call":{"tool":"shell ","args":{"bin":"echo"}}}',
        "UNKNOWN_CAPABILITY",
        "CAPABILITY_NAME_MALFORMED",
    ),
]


@pytest.mark.requirement("ARCH-5.3")
@pytest.mark.parametrize(("raw", "kind", "code"), AMBIGUITIES)
def test_ambiguous_output_is_rejected_not_repaired(raw: bytes, kind: str, code: str) -> None:
    """Each doubtful reading is refused with a code that says so, never read in the likely way."""
    verdict = validate(raw, SCHEMAS)
    assert isinstance(verdict, Rejected)
    assert (verdict.kind, verdict.code) == (kind, code)


@pytest.mark.requirement("PROTO-7.1")
@pytest.mark.parametrize(
    "name", ["Shell", "shell ", "\uff53\uff48\uff45\uff4c\uff4c", "SHELL", "shel", "shell\u200b", "rm"]
)
def test_capability_names_match_exactly(name: str) -> None:
    """Case, blanks and look-alikes are other names; only the registered spelling passes."""
    call = {"tool_call": {"tool": name, "args": {"bin": "echo"}}}
    verdict = validate(encoded(call), SCHEMAS)
    assert isinstance(verdict, Rejected) and (verdict.kind, verdict.step) == ("UNKNOWN_CAPABILITY", 4)
    assert isinstance(validate(encoded(ECHO), SCHEMAS), ToolCall)


@settings(deadline=None)
@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=400))
def test_text_about_a_foreign_name_is_bounded_ascii(name: str) -> None:
    """Whatever a brain calls a tool, the detail stays short and printable."""
    verdict = validate(encoded({"tool_call": {"tool": name, "args": {}}}), SCHEMAS)
    if isinstance(verdict, Rejected):
        assert len(verdict.detail) <= 120 and all(" " <= char <= "~" for char in verdict.detail)


WRONG: dict[str, list[Any]] = {
    "string": [1, None, ["x"]],
    "integer": ["1", 1.5, 5.0, 1e300, True],
    "number": ["1", None],
    "array": ["x", {}],
    "object": [[], 1],
}
BEYOND: dict[str, Callable[[Any], Any]] = {
    "minimum": lambda limit: limit - 1,
    "maximum": lambda limit: limit + 1,
    "exclusiveMaximum": lambda limit: limit,
    "minLength": lambda limit: "x" * (limit - 1),
    "maxLength": lambda limit: "x" * (limit + 1),
    "maxItems": lambda limit: ["x"] * (limit + 1),
    "enum": lambda options: f"{options}",
    "pattern": lambda _: "\x00",
}


def violations(manifest: Manifest, args: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Arguments that break the schema once, from arguments that satisfy it; with the expected code and pointer."""
    schema = manifest.arguments
    yield {**args, "no_such": 1}, "ARGUMENT_UNKNOWN", "/no_such"
    for name in schema.get("required", ()):
        yield {key: value for key, value in args.items() if key != name}, "ARGUMENT_MISSING", f"/{name}"
    for name, rule in schema["properties"].items():
        for value in WRONG.get(rule.get("type", ""), ()):
            yield {**args, name: value}, "ARGUMENT_TYPE", f"/{name}"
        for keyword in rule.keys() & BEYOND.keys():
            yield {**args, name: BEYOND[keyword](rule[keyword])}, "ARGUMENT_CONSTRAINT", f"/{name}"


SATISFYING = {
    "shell": {"bin": "echo"}, "fs.read": {"path": "a"}, "fs.write": {"path": "a", "content": "b"},
    "web.get": {"url": "https://example.org/"}, "system.info": {}, "measure": {},
}  # fmt: skip


@pytest.mark.requirement("PROTO-8.1")
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest.name)
def test_every_schema_violation_is_rejected_at_its_place(manifest: Manifest) -> None:
    """Missing, extra, wrong type and out of range: rejected at step five with a pointer to the fault."""
    good = SATISFYING[manifest.name]
    assert validate(encoded({"tool_call": {"tool": manifest.name, "args": good}}), SCHEMAS) == ToolCall(
        manifest.name, good
    )
    for args, code, pointer in violations(manifest, good):
        verdict = validate(encoded({"tool_call": {"tool": manifest.name, "args": args}}), SCHEMAS)
        assert isinstance(verdict, Rejected), args
        assert verdict[:3] == ("INVALID_ARGUMENTS", code, 5), args
        assert verdict.pointer == f"/tool_call/args{pointer}"


def test_an_integer_is_told_from_a_real_by_how_it_is_written() -> None:
    """5.0 is a number but no integer, beside other reals and inside of alternatives too."""
    number, integer = {"type": "number"}, {"type": "integer"}
    rules = {
        "n": number,
        "i": integer,
        "l": {"type": ["integer", "null"]},
        "any": {"anyOf": [integer, {"type": "string"}]},
    }
    one = ArgumentSchemas([MANIFESTS[0]._replace(name="one", arguments={"properties": rules})]).compile()

    def code(args: dict[str, Any]) -> str:
        verdict = validate(encoded({"tool_call": {"tool": "one", "args": args}}), one)
        return f"{verdict.code} {verdict.pointer}" if isinstance(verdict, Rejected) else repr(verdict.args)  # type: ignore[union-attr]

    assert code({"n": 5.0, "i": 5, "l": None, "any": 5}) == "{'n': 5.0, 'i': 5, 'l': None, 'any': 5}"
    assert code({"n": 0.5, "i": 5.0}) == "ARGUMENT_TYPE /tool_call/args/i"
    assert code({"l": -0.0}) == "ARGUMENT_TYPE /tool_call/args/l"
    assert code({"any": 1e300}) == "ARGUMENT_CONSTRAINT /tool_call/args/any"
    assert code({"n": True, "i": 5.0}) == "ARGUMENT_TYPE /tool_call/args/i"


@pytest.mark.requirement("PROTO-10.1")
@settings(deadline=None)
@given(faults=st.sets(st.sampled_from([1, 2, 3, 4, 5])))
def test_the_earliest_step_is_the_one_reported(faults: set[int]) -> None:
    """A message broken at any set of steps is rejected for the first of them, and accepted when there is none."""
    args: dict[str, Any] = {"bin": 1} if 5 in faults else {"bin": "echo"}
    call: dict[str, Any] = {"tool": "nope" if 4 in faults else "shell", "args": args}
    if 3 in faults:
        call["extra"] = 1
    document: dict[str, Any] = {"tool_call": call}
    if 2 in faults:
        document["extra"] = 1
    verdict = validate(encoded(document) + (b"x" if 1 in faults else b""), SCHEMAS)
    assert (verdict.step if isinstance(verdict, Rejected) else 6) == min(faults, default=6)


@pytest.mark.invariant("I12")
@settings(deadline=None)
@given(
    value=st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=8, max_size=40),
    data=st.data(),
)
def test_a_rejection_never_repeats_an_argument(value: str, data: st.DataObject) -> None:
    """A secret in any wrong place of the arguments is in no field of the rejection."""
    secret = f"hunter2{value}"
    manifest = data.draw(st.sampled_from([each for each in MANIFESTS if each.arguments["properties"]]))
    name = data.draw(st.sampled_from(sorted(manifest.arguments["properties"])))
    wrong = data.draw(st.sampled_from([f"{secret}!", [f"{secret}\n"], {"k": secret}, [[secret], [secret]]]))
    args = {**SATISFYING[manifest.name], name: wrong}
    verdict = validate(encoded({"tool_call": {"tool": manifest.name, "args": args}}), SCHEMAS)
    if isinstance(verdict, Rejected):
        assert "hunter2" not in repr(verdict)


def test_bounds_of_content_are_in_bytes() -> None:
    """Content at the bound is accepted, one byte more is not, counted in UTF-8."""
    for char in ("x", "é", "世", "😀"):
        fits = char * (CONTENT_BYTES_MAX // len(char.encode()))
        fits += "x" * (CONTENT_BYTES_MAX - len(fits.encode()))
        assert validate(encoded({"message": {"content": fits}}), SCHEMAS) == Message(fits)
        verdict = validate(encoded({"message": {"content": fits + "x"}}), SCHEMAS)
        assert isinstance(verdict, Rejected) and verdict.code == "CONTENT_TOO_LARGE"


def test_registry_digest_follows_names_and_manifests() -> None:
    """The digest changes with any manifest and not with their order; a name may stand only once."""
    fewer = ArgumentSchemas(MANIFESTS[1:])
    changed = ArgumentSchemas([MANIFESTS[0]._replace(version="9"), *MANIFESTS[1:]])
    assert len({SCHEMAS.registry_digest, fewer.registry_digest, changed.registry_digest}) == 3
    assert "shell" in SCHEMAS and "shell" not in fewer
    with pytest.raises(ConfigurationError, match="same name"):
        ArgumentSchemas([MANIFESTS[0], MANIFESTS[0]._replace(version="9")])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"$ref": "https://example.org/other.json"},
        {"$ref": "#/$defs/none"},
        {"properties": {"a": {"pattern": "("}}},
        {"properties": {"a": {"pattern": "(?=a)b"}}},
        {"properties": {"a": {"pattern": "(a+)+\\1$"}}},
    ],
)
def test_unusable_schema_fails_at_registration_and_closed(schema: dict[str, Any]) -> None:
    """A schema that is invalid, reaches outside or could run away is refused; a call to its claw is rejected."""
    broken = ArgumentSchemas([MANIFESTS[0]._replace(name="broken", arguments=schema)])
    with pytest.raises(ConfigurationError, match="schema cannot be used"):
        broken.compile()
    verdict = validate(encoded({"tool_call": {"tool": "broken", "args": {}}}), broken)
    assert isinstance(verdict, Rejected) and verdict.code == "SCHEMA_UNUSABLE"


def test_a_schema_reads_no_file(tmp_path: Path) -> None:
    """A reference to a schema that lies ready on this machine is refused like any other outside of the manifest."""
    other = tmp_path / "other.json"
    other.write_text("{}")
    outside = ArgumentSchemas([MANIFESTS[0]._replace(arguments={"$ref": other.as_uri()})])
    with pytest.raises(ConfigurationError, match="schema cannot be used"):
        outside.compile()


def test_a_pattern_made_to_backtrack_takes_linear_time() -> None:
    """The pattern that takes other engines exponential time judges 200,000 characters within a second."""
    schema = {"properties": {"a": {"type": "string", "pattern": "^(x+x+)+y$"}}}
    slow = ArgumentSchemas([MANIFESTS[0]._replace(name="slow", arguments=schema)]).compile()
    began = time.perf_counter()
    verdict = validate(encoded({"tool_call": {"tool": "slow", "args": {"a": "x" * 200_000}}}), slow)
    assert isinstance(verdict, Rejected) and verdict.code == "ARGUMENT_CONSTRAINT"
    assert time.perf_counter() - began < 1.0


@settings(deadline=None)
@given(args=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), json_values, max_size=5))
def test_canonical_arguments_survive_a_round_trip(args: dict[str, Any]) -> None:
    """Canonical bytes parse strictly to the same value, give the same bytes again, and hide the key order."""
    raw = canonical_args(args)
    again = parse(raw)
    assert again == args and canonical_args(again) == raw
    backwards = dict(reversed(args.items()))
    assert canonical_args(backwards) == raw
    assert call_digest("t", backwards, "m") == call_digest("t", args, "m")


def test_call_digest_binds_every_part_and_keeps_them_apart() -> None:
    """Changing or shifting tool, arguments or manifest gives another digest; the first is pinned."""
    parts: list[tuple[str, dict[str, Any], str]] = [
        ("ab", {"a": 1}, "c"),
        ("a", {"a": 1}, "bc"),
        ("ab", {"a": 2}, "c"),
        ("ab", {"a": "1"}, "c"),
        ("ab", {"a": 1.0}, "c"),
    ]
    digests = [call_digest(tool, args, manifest) for tool, args, manifest in parts]
    assert len(set(digests)) == len(parts)
    assert digests[0] == "ec74c06d9aaf265b8d05be436910ad10a6870679dfab897570c13ac42ab02b08"
