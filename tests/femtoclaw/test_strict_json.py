"""Strict JSON: what is refused and why, bounds to the value, and a naive parser by RFC 8259 beside it."""

from __future__ import annotations

import json
import runpy
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from femtoclaw.strict_json import (
    DEPTH_MAX,
    DOCUMENT_BYTES_MAX,
    NUMBER_CHARS_MAX,
    POINTER_CHARS_MAX,
    VALUES_MAX,
    StrictJSONError,
    parse,
    pointer_to,
    printable,
)

NAIVE = runpy.run_path(str(Path(__file__).with_name("naive_protocol.py")))
naive_parse, Refused = NAIVE["naive_parse"], NAIVE["Refused"]


def refusal(raw: bytes) -> StrictJSONError:
    with pytest.raises(StrictJSONError) as caught:
        parse(raw)
    return caught.value


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
documents = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), values, max_size=5)


@settings(deadline=None)
@given(document=documents, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_whatever_a_correct_writer_writes_is_read_back(
    document: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    """Every object of JSON values, in any usual spelling, comes back equal."""
    raw = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    assert repr(parse(raw)) == repr(document)


ALPHABET = st.sampled_from(
    [*'{}[]:,"\\ud8dcbn0123456789eE+-. \n\t\x0btrufalsnN\x00é', "\\ud83d", "\\udE00", '"a":', '"b":']
)


@settings(max_examples=1000, deadline=None)
@given(inner=st.lists(ALPHABET, max_size=16), wrap=st.sampled_from(["%s", '{"a":%s}', "{%s}", '{"a":["%s"]}']))
@example(inner=["-0"], wrap='{"a":%s}')
@example(inner=["\\\\", "ud800"], wrap='{"a":["%s"]}')
def test_agrees_with_a_naive_parser(inner: list[str], wrap: str) -> None:
    """Accepted by one if and only if accepted by the other, with the same value down to the type of a number."""
    raw = (wrap % "".join(inner)).encode()
    try:
        expected = naive_parse(raw)
    except Refused:
        assert refusal(raw).code != "NOT_AN_OBJECT"
        return
    if isinstance(expected, dict):
        assert repr(parse(raw)) == repr(expected)
    else:
        assert refusal(raw).code == "NOT_AN_OBJECT"


@settings(deadline=None)
@given(raw=st.binary(max_size=40))
def test_any_bytes_are_an_object_or_a_typed_error(raw: bytes) -> None:
    """No input raises anything but StrictJSONError."""
    try:
        assert isinstance(parse(raw), dict)
    except StrictJSONError as error:
        assert error.code and error.detail


@settings(deadline=None)
@given(document=documents, data=st.data())
def test_no_prefix_of_an_object_is_an_object(document: dict[str, Any], data: st.DataObject) -> None:
    """A truncated document is refused at every length."""
    raw = json.dumps(document, ensure_ascii=False).encode()
    assert refusal(raw[: data.draw(st.integers(0, len(raw) - 1))]).code in ("EMPTY", "SYNTAX", "NOT_UTF8")


@pytest.mark.requirement("PROTO-4.1")
@settings(deadline=None)
@given(document=documents, data=st.data())
def test_a_key_twice_is_refused_at_any_depth(document: dict[str, Any], data: st.DataObject) -> None:
    """The same key twice in one object is refused wherever the object stands and however the key is spelled."""
    spelled = data.draw(st.sampled_from(['"key"', '"\\u006bey"', '"ke\\u0079"']))
    text = f'{{"key":1,{spelled}:1}}'
    for _ in range(data.draw(st.integers(0, DEPTH_MAX - 2))):
        text = data.draw(st.sampled_from(["[%s]", '{"o":%s}', "[0,%s]"])) % text
    error = refusal(f'{{"outer":{text}}}'.encode())
    assert error.code == "DUPLICATE_KEY" and '"key"' in error.detail


@pytest.mark.requirement("PROTO-4.1")
@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("around", ["%s", '{"a":%s}', '{"a":[1,{"b":%s}]}'])
def test_numbers_that_are_none_are_refused(literal: str, around: str) -> None:
    """NaN and the infinities are refused at the top and inside."""
    assert refusal((around % literal).encode()).code == "NON_FINITE_NUMBER"


@pytest.mark.requirement("PROTO-4.1")
@pytest.mark.parametrize(
    "escape",
    ["\\ud800", "\\uDBFF", "\\udc00", "\\uDFFF", "\\ude00\\ud83d", "\\ud83d\\ud83d\\ude00", "\\ud83d\\n"],
)
@pytest.mark.parametrize(
    ("around", "pointer"),
    [
        ('{"a":"%s"}', "/a"),
        ('{"%s":1}', ""),
        ('{"a/b":[1,{"c":["x","y%sz"]}]}', "/a~1b/1/c/1"),
        ('{"a":{"%s":1}}', "/a"),
    ],
)
def test_half_a_surrogate_pair_is_refused(escape: str, around: str, pointer: str) -> None:
    """A lone surrogate in a value or a key is refused, with the place of it; a pair is one character."""
    error = refusal((around % escape).encode())
    assert (error.code, error.pointer) == ("LONE_SURROGATE", pointer)
    assert parse((around % "\\uD83D\\ude00").encode())


def test_integers_are_64_bit() -> None:
    """Both ends of the range pass and the next ones do not."""
    for edge, beyond in ((2**63 - 1, 2**63), (-(2**63), -(2**63) - 1)):
        assert parse(b'{"a":%d}' % edge) == {"a": edge}
        assert refusal(b'{"a":%d}' % beyond).code == "NUMBER_OUT_OF_RANGE"


@pytest.mark.parametrize("literal", ["1e999", "-1e999", "1e309", "1.8e308", "0." + "1" * NUMBER_CHARS_MAX])
def test_reals_are_finite_doubles(literal: str) -> None:
    """What a double cannot hold is refused rather than made infinite, and so is an endless literal."""
    assert refusal(f'{{"a":{literal}}}'.encode()).code == "NUMBER_OUT_OF_RANGE"
    assert parse(b'{"a":1.7976931348623157e308,"b":-0.0,"c":5e-324}')["c"] == 5e-324


@pytest.mark.parametrize(
    ("raw", "code", "offset"),
    [
        (b"", "EMPTY", -1),
        (b" \r\n\t", "EMPTY", -1),
        (b"\xef\xbb\xbf{}", "BYTE_ORDER_MARK", 0),
        (b'{"a":"\xff"}', "NOT_UTF8", 6),
        (b'{"\xc3\xa9":"\xed\xa0\x80"}', "NOT_UTF8", 7),
        (b"{}{}", "TRAILING_BYTES", 2),
        (b'{"\xc3\xa9":1} x', "TRAILING_BYTES", 8),
        (b"{}\x00", "TRAILING_BYTES", 2),
        (b"[1] 2", "TRAILING_BYTES", 3),
        (b"[]", "NOT_AN_OBJECT", -1),
        (b'"a"', "NOT_AN_OBJECT", -1),
        (b"null", "NOT_AN_OBJECT", -1),
    ],
)
def test_refusals_say_where(raw: bytes, code: str, offset: int) -> None:
    """Code and byte offset of the faults that are not inside of the grammar."""
    error = refusal(raw)
    assert (error.code, error.offset) == (code, offset)


def test_white_space_may_stand_around() -> None:
    """Space, tab, carriage return and line feed before and behind are no fault; other blanks are."""
    assert parse(b' \t\r\n{"a" : 1}\n\r\t ') == {"a": 1}
    for blank in ("\x0b", "\x0c", "\u00a0", "\u2028", "\ufeff"):
        assert refusal(f"{{}}{blank}".encode()).code == "TRAILING_BYTES"
        assert refusal(f"{blank}{{}}".encode()).code in ("SYNTAX", "BYTE_ORDER_MARK")


@pytest.mark.invariant("I11")
def test_bounds_hold_to_the_value() -> None:
    """Size, nesting and number of values: the bound itself is accepted, one more is refused."""
    fill = DOCUMENT_BYTES_MAX - len(b'{"a":""}')
    assert len(parse(b'{"a":"%s"}' % (b"x" * fill))["a"]) == fill
    assert refusal(b'{"a":"%s"}' % (b"x" * (fill + 1))).code == "TOO_LARGE"
    nested = DEPTH_MAX - 1
    assert parse(b'{"a":%s%s}' % (b"[" * nested, b"]" * nested))
    assert refusal(b'{"a":%s%s}' % (b"[" * (nested + 1), b"]" * (nested + 1))).code == "TOO_DEEP"
    for item in (b"0", b'"long enough, so that many of them reach the length"'):
        assert parse(b'{"a":[%s]}' % b",".join([item] * (VALUES_MAX - 1)))
        assert refusal(b'{"a":[%s]}' % b",".join([item] * VALUES_MAX)).code == "TOO_MANY_VALUES"


@pytest.mark.invariant("I11")
@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":' * 50_000, b'{"a":[' * 40_000 + b'"', b'\\"' + b"[" * 200_000])
def test_deep_nesting_is_refused_before_recursion(raw: bytes) -> None:
    """A hundred thousand brackets are refused in a fraction of a second, by depth and not by a stack."""
    began = time.perf_counter()
    assert refusal(raw).code in ("TOO_DEEP", "SYNTAX")
    assert time.perf_counter() - began < 0.5


@pytest.mark.invariant("I11")
@pytest.mark.parametrize(
    "literal", [b"9" * 100_000, b"-" + b"9" * 250_000, b"0." + b"9" * 100_000, b"1e" + b"9" * 100_000]
)
def test_digit_bombs_are_refused_fast(literal: bytes) -> None:
    """A number of 100,000 digits is refused by its length, before it is converted."""
    began = time.perf_counter()
    assert refusal(b'{"a":%s}' % literal).code == "NUMBER_OUT_OF_RANGE"
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    "raw", [b'"' * 250_000, b'"\\' * 120_000, b'{"a":"' + b'\\"' * 125_000, b"\\" * 250_000, b'{"' * 120_000]
)
def test_quotes_and_backslashes_take_linear_time(raw: bytes) -> None:
    """No arrangement of quotes and backslashes makes the look at the shape quadratic."""
    began = time.perf_counter()
    refusal(raw)
    assert time.perf_counter() - began < 0.5


@settings(deadline=None)
@given(depth=st.integers(1, 40), text=st.text(st.sampled_from('[]{}\\",'), max_size=60))
def test_brackets_in_strings_do_not_count(depth: int, text: str) -> None:
    """Nesting is counted outside of strings only, whatever quotes and backslashes the strings hold."""
    raw = ('{"a":' + "[" * (depth - 1) + json.dumps(text * 4) + "]" * (depth - 1) + "}").encode()
    if depth <= DEPTH_MAX:
        assert parse(raw)
    else:
        assert refusal(raw).code == "TOO_DEEP"


def test_a_string_that_ends_in_a_backslash_hides_nothing() -> None:
    """Brackets behind a string like "\\\\" count, and brackets in the next string do not."""
    deep = "[" * DEPTH_MAX + "]" * DEPTH_MAX
    assert refusal(f'{{"a":["\\\\",{deep}]}}'.encode()).code == "TOO_DEEP"
    assert parse(f'{{"a":"\\\\","b":"{deep * 2}"}}'.encode())


def test_nul_in_a_string_is_legal() -> None:
    """U+0000 is JSON when escaped; a schema has to forbid it where it hurts."""
    assert parse(b'{"a":"\\u0000"}') == {"a": "\x00"}
    assert refusal(b'{"a":"\x00"}').code == "SYNTAX"


@settings(deadline=None)
@given(path=st.lists(st.text(max_size=80) | st.integers(0, 9), max_size=8))
def test_pointers_are_bounded_ascii(path: list[str | int]) -> None:
    """A pointer within the bound reads back to its path; one over it ends with its mark."""
    pointer = pointer_to(*path)
    assert len(pointer) <= POINTER_CHARS_MAX + 4 and all(" " <= char <= "~" for char in pointer)
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in json.loads(f'"{pointer}"').split("/")[1:]]
    wanted = [str(step) for step in path]
    assert tokens == wanted or (tokens[-1] == "..." and tokens[:-1] == wanted[: len(tokens) - 1])


@settings(deadline=None)
@given(text=st.text(max_size=200))
def test_printable_text_is_bounded_ascii(text: str) -> None:
    """Short text reads back exactly; long text is cut; nothing in it can drive a terminal."""
    shown = printable(text)
    assert len(shown) <= 69 and all(" " <= char <= "~" for char in shown)
    assert shown.endswith('..."') or json.loads(shown) == text
