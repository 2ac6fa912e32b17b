"""Argument schemas: what could run away or reach outside is refused at registration, and no finding shows a value."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.claws import FS_READ, SHIPPED
from femtoclaw.errors import ConfigurationError
from femtoclaw.schema_bounds import COST_MAX, SCHEMA_DEPTH_MAX, check_schema

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS_MAX = 20


def compiled(arguments: Any) -> ArgumentSchemas:
    return ArgumentSchemas([FS_READ._replace(name="x", arguments=arguments)]).compile()


def nested(count: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(count):
        schema = {"not": schema}
    return schema


def doubling(count: int, **more: Any) -> dict[str, Any]:
    """2 ** count ways lead to the last definition."""
    ways: dict[str, Any] = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2, **more} for n in range(count)
    }  # fmt: skip
    return {"$defs": ways | {f"d{count}": {"required": ["no"]}}, "$ref": "#/$defs/d0"}


def unevaluated(count: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"properties": {"a": True}}
    for _ in range(count):
        schema = {"anyOf": [schema, {"properties": {"b": True}}], "unevaluatedProperties": False}
    return schema


@pytest.mark.parametrize(
    "arguments, why",
    [
        ({"$ref": "#"}, "in a circle"),
        ({"allOf": [{"$ref": "#"}]}, "in a circle"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, "in a circle"),
        ({"properties": {"a": {"$ref": "#"}}, "if": {"$ref": "#"}}, "circles that multiply"),
        ({"anyOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}, "circles that multiply"),
        ({"properties": {"a": {"$ref": "#"}}, "patternProperties": {"": {"$ref": "#"}}}, "circles that multiply"),
        ({"properties": {"a": {"$ref": "#"}}, "unevaluatedProperties": False}, "unevaluated keyword"),
        ({"$ref": "https://example.org/a.json"}, "out of the schema"),
        ({"$ref": "file:///etc/hostname"}, "out of the schema"),
        ({"$ref": "other.json#/a"}, "out of the schema"),
        ({"$ref": "#/%24defs/a", "$defs": {"a": {}}}, "out of the schema"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"$dynamicRef": "#a"}, "dynamicRef is not supported"),
        ({"$defs": {"a": {"$id": "https://example.org/a"}}}, "id is not supported"),
        ({"$defs": {"a": {"$anchor": "a"}}, "$ref": "#a"}, "anchor is not supported"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "schema is not"),
        (doubling(20), "subschemas"),
        (unevaluated(14), "subschemas"),
        ({"allOf": [{}] * COST_MAX}, "subschemas"),
        ({"properties": {f"a{n}": {"pattern": "^a$"} for n in range(40)}}, "subschemas"),
        (nested(SCHEMA_DEPTH_MAX + 1), "nested deeper"),
        ({"enum": ["x" * 70_000]}, "bytes"),
        ({"pattern": "[^\\u0000]{1,8000}c"}, "regex"),
        ({"pattern": "((a{1000}){1000}){1000}"}, "regex"),
        ({"patternProperties": {"(?=a)b": {}}}, "regex"),
        ({"pattern": "(a)\\1"}, "regex"),
    ],
)  # fmt: skip
def test_a_schema_that_could_run_away_is_refused(arguments: dict[str, Any], why: str) -> None:
    """Circles, outside references, exponential shapes and patterns that grow: refused by name, with exit code 2."""
    with pytest.raises(ConfigurationError, match="schema cannot be used") as refused:
        compiled(arguments)
    assert why in str(refused.value.found)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("arguments", [nested(100_000), {"enum": [float("nan")]}, {"enum": [object()]}, {"enum": [b""]}])
def test_arguments_that_are_no_json_are_refused(arguments: dict[str, Any]) -> None:
    """What cannot be written into the log is no schema: refused in our words."""
    with pytest.raises(ConfigurationError, match="cannot be written as JSON"):
        compiled(arguments)


def test_ordinary_schemas_pass() -> None:
    """The shipped claws, references inside the schema, and shapes right below the bounds are accepted."""
    ArgumentSchemas(SHIPPED).compile()
    inside = {"$defs": {"p": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/p"}, "b": {"$ref": "#/$defs/p"}}}
    fault = compiled(inside).fault("x", {"a": "", "b": 1})
    assert fault is not None and fault.path == ("b",)
    tree = {"items": {"$ref": "#/$defs/n"}, "properties": {"l": {"$ref": "#/$defs/n"}, "r": {"not": {"$ref": "#/$defs/n"}}}}
    assert compiled({"$defs": {"n": tree}, "$ref": "#/$defs/n"}).fault("x", {"l": {"r": 1}}) is not None
    for fits in (nested(SCHEMA_DEPTH_MAX), doubling(7), unevaluated(3), {"allOf": [{}] * (COST_MAX - 1)}, True):
        compiled(fits).fault("x", {})


RUNAWAY = """
from tests.femtoclaw.test_argument_schemas import compiled, doubling
from femtoclaw.errors import ConfigurationError
try:
    compiled(doubling(40)).fault("x", {})
except ConfigurationError:
    print("refused")
"""


def test_refusing_takes_no_time() -> None:
    """A schema of 2^40 ways is refused at once, by counting them and not by walking them."""
    done = subprocess.run(
        [sys.executable, "-c", RUNAWAY], cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS_MAX
    )
    assert done.stdout == "refused\n", done.stderr[-300:]


def test_judging_the_worst_that_is_accepted_ends() -> None:
    """The most expensive shapes inside the bounds judge the largest arguments within seconds."""
    chance = random.Random(1)
    text = "".join(chance.choice("ab") for _ in range(60_000))
    worst: list[tuple[Any, Any]] = [
        ({"pattern": "[ab]*a[ab]{500}[cd]"}, text),
        ({"pattern": "^(a+)+$"}, "a" * 250_000 + "!"),
        (unevaluated(3), {f"k{n}": n for n in range(4000)}),
        ({"items": doubling(7)["$defs"]["d7"]}, [{}] * 4000),
        ({"uniqueItems": True}, [{"k": n} for n in range(2000)] + [{"k": 0}]),
        ({"items": {"enum": [f"n{n}" for n in range(1000)]}}, ["n"] * 4000),
    ]
    for schema, value in worst:
        schemas = compiled({"properties": {"a": schema}})
        began = time.perf_counter()
        assert schemas.fault("x", {"a": value}) is not None
        assert time.perf_counter() - began < SECONDS_MAX


KEYWORDS: list[tuple[str, Any]] = [
    ("type", "integer"), ("type", ["integer", "null"]), ("enum", ["a", 1]), ("const", 7), ("pattern", "^x$"), ("minLength", 500),
    ("maxLength", 1), ("minimum", 1e9), ("multipleOf", 0.7), ("not", True), ("anyOf", [False, {"const": 1}]),
    ("oneOf", [True, True]), ("allOf", [False]), ("items", {"type": "integer"}), ("prefixItems", [False]), ("contains", False),
    ("maxItems", 0), ("minItems", 99), ("uniqueItems", True), ("propertyNames", {"maxLength": 1}), ("minProperties", 50),
    ("maxProperties", 0), ("dependentRequired", {"k": ["zz"]}), ("dependentSchemas", {"k": False}),
    ("additionalProperties", {"type": "integer"}), ("unevaluatedProperties", {"type": "integer"}),
    ("unevaluatedItems", False), ("if", True), ("then", {"const": 2}), ("contentEncoding", "base64"), ("required", ["zz"]),
]  # fmt: skip


def test_no_finding_shows_a_value(seed: int) -> None:
    """Hundreds of random schemas over values that are all secret: no text of a finding holds any of them."""
    chance = random.Random(seed)
    secret = "s3cr3t-4711"
    values = [secret, [secret, secret], {"k": secret}, {"k": [secret]}, 471147114711, 4711.4711, [4711.4711], secret * 50]
    codes: set[str] = set()
    for _ in range(600):
        rule = dict(chance.sample(KEYWORDS, chance.randint(1, 4)))
        value = chance.choice(values)
        fault = compiled({"properties": {"a": rule}}).fault("x", {"a": value})
        if fault is not None:
            codes.add(fault.code)
            assert "4711" not in f"{fault.detail} {fault.path}", (rule, fault)
    assert codes >= {"ARGUMENT_TYPE", "ARGUMENT_CONSTRAINT", "ARGUMENT_MISSING"}


def test_the_bounds_are_judged_by_text_alone() -> None:
    """A schema of any JSON type, also one nested beyond the decoder's reach, is accepted or a ValueError."""
    for text in ("true", "[]", "7", '{"properties": 7, "allOf": {}, "items": [1], "$defs": []}'):
        check_schema(text)
    with pytest.raises(ValueError, match="deeper"):
        check_schema("[" * 30_000 + "]" * 30_000)
