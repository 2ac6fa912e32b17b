"""What an argument schema may be, so that judging by it ends soon and always says the same. Pure.

The cost of judging is read off the schema: every subschema counts once for each way that leads to it, a pattern and an
``unevaluated`` keyword count for more. References are followed only inside the schema. A schema may lead back to itself
(a tree of values), but only one level deeper in the value, and in one way for each part of it; then every part of a
value is still judged a fixed number of times, and the count is taken without doing the work that it counts.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

SCHEMA_BYTES_MAX = 64 * 1024
"""Bytes of one argument schema as JSON."""

SCHEMA_DEPTH_MAX = 64
"""Objects and lists of a schema inside each other, and references one behind the other."""

COST_MAX = 1024
"""Subschemas that judging one value may visit: 1 each, ``PATTERN_COST`` for a pattern, doubled by ``unevaluated``."""

PATTERN_COST = 32

PATTERN_BYTES_MAX = 128 * 1024
"""Memory of one compiled pattern. The engine is linear in the text, but its slope grows with this."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_HERE = ("not", "if", "then", "else")
_HERE_LISTS = ("allOf", "anyOf", "oneOf")
_HERE_MAPS = ("dependentSchemas", "dependencies")
_APART = ("items", "additionalProperties")
_APART_MAPS = ("properties", "prefixItems")
_DEEPER = ("contains", "propertyNames", "unevaluatedItems", "unevaluatedProperties")
_UNEVALUATED = ("unevaluatedItems", "unevaluatedProperties")
_REFUSED = ("$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary")


def check_schema(schema: str) -> None:
    """Raises ValueError, naming the bound or keyword, for a schema (JSON text) that could make judging slow or open."""
    if len(schema.encode()) > SCHEMA_BYTES_MAX:
        raise ValueError(f"over {SCHEMA_BYTES_MAX} bytes")
    try:
        root = json.loads(schema)
    except RecursionError:
        raise ValueError(f"nested deeper than {SCHEMA_DEPTH_MAX}") from None
    _check_depth(root)
    if isinstance(root, dict) and root.get("$schema", DIALECT) != DIALECT:
        raise ValueError(f"$schema is not {DIALECT}")
    if _Cost(root).of(root) > COST_MAX:
        raise ValueError(f"judging one value could visit over {COST_MAX} subschemas")


def _check_depth(root: Any) -> None:
    """Bounds the depth, and refuses what would make a reference mean something else than a place in this schema."""
    level = [root]
    for _ in range(SCHEMA_DEPTH_MAX + 1):
        for keyword in _REFUSED:
            if any(isinstance(node, dict) and keyword in node for node in level):
                raise ValueError(f"{keyword} is not supported: only $ref to a place in the same schema is")
        level = [part for node in level for part in _parts(node)]
        if not level:
            return
    raise ValueError(f"nested deeper than {SCHEMA_DEPTH_MAX}")


def _parts(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


class _Way(NamedTuple):
    """From a schema to one of its parts: where that judges the same value (here), or something in it.

    What the ways ``apart`` of one schema judge never overlaps: named properties, the other properties, elements.
    """

    part: Any
    kind: str  # here | apart | deeper
    weight: int = 0


class _Cost:
    """The cost of each subschema, by Tarjan's strongly connected components: circles are found, checked and summed."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._known: dict[int, int] = {}
        self._order: dict[int, int] = {}
        self._open: list[dict[str, Any]] = []

    def of(self, schema: Any) -> int:
        if not isinstance(schema, dict):
            return 1
        self._visit(schema, 0)
        return self._known[id(schema)]

    def _visit(self, schema: dict[str, Any], depth: int) -> int:
        """The earliest open schema that this one leads back to, as its number."""
        if depth > SCHEMA_DEPTH_MAX:
            raise ValueError(f"references and nesting deeper than {SCHEMA_DEPTH_MAX}")
        earliest = self._order[id(schema)] = len(self._order)
        place = len(self._open)
        self._open.append(schema)
        for way in self._ways(schema):
            if not isinstance(way.part, dict) or id(way.part) in self._known:
                continue
            met = self._order.get(id(way.part))
            earliest = min(earliest, self._visit(way.part, depth + 1) if met is None else met)
        if earliest == self._order[id(schema)]:
            members = self._open[place:]
            del self._open[place:]
            self._settle(members)
        return earliest

    def _settle(self, members: list[dict[str, Any]]) -> None:
        """The cost of schemas that lead to each other, or of the one schema that does not lead back to itself."""
        inside = {id(member) for member in members}
        ways = {id(member): list(self._ways(member)) for member in members}
        circle = {key: [way for way in found if id(way.part) in inside] for key, found in ways.items()}
        circular = any(circle.values())
        cost = 0
        for member in members:
            own = 1 + PATTERN_COST * ("pattern" in member)
            own += sum(way.weight + self._cost(way.part) for way in ways[id(member)] if id(way.part) not in inside)
            if any(keyword in member for keyword in _UNEVALUATED):
                # The parts are judged again, to learn what they evaluated.
                own *= 2
            cost += own
        if circular:
            _check_circle(members, circle)
        for member in members:
            self._known[id(member)] = cost

    def _cost(self, part: Any) -> int:
        return self._known[id(part)] if isinstance(part, dict) else 1

    def _ways(self, schema: dict[str, Any]) -> Iterator[_Way]:
        """Every part that a value, or something in it, may be judged by."""
        if "$ref" in schema:
            yield _Way(self._target(schema["$ref"]), "here")
        yield from (_Way(schema[keyword], "here") for keyword in _HERE if keyword in schema)
        for keyword in _HERE_LISTS:
            yield from (_Way(part, "here") for part in _parts(schema.get(keyword)))
        for keyword in _HERE_MAPS:
            yield from (_Way(part, "here") for part in _parts(schema.get(keyword)))
        yield from (_Way(schema[keyword], "apart") for keyword in _APART if keyword in schema)
        for keyword in _APART_MAPS:
            yield from (_Way(part, "apart") for part in _parts(schema.get(keyword)))
        yield from (_Way(part, "deeper", PATTERN_COST) for part in _parts(schema.get("patternProperties")))
        yield from (_Way(schema[keyword], "deeper") for keyword in _DEEPER if keyword in schema)

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")) or "%" in reference:
            raise ValueError("$ref leads out of the schema")
        node = self._root
        for token in reference.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and name in node:
                node = node[name]
            elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            else:
                raise ValueError("$ref leads nowhere")
        return node


def _check_circle(members: list[dict[str, Any]], circle: dict[int, list[_Way]]) -> None:
    """A circle must go deeper into the value, and may only fork where the forks judge different parts of it."""
    for member in members:
        ways = circle[id(member)]
        if len(ways) > 1 and any(way.kind != "apart" for way in ways):
            raise ValueError("$ref leads in circles that multiply")
        if any(keyword in member for keyword in _UNEVALUATED):
            raise ValueError("$ref leads in a circle through an unevaluated keyword")
    for member in members:
        steps, at = 0, circle[id(member)]
        while at and at[0].kind == "here":
            steps, at = steps + 1, circle[id(at[0].part)]
            if steps > len(members):
                raise ValueError("$ref leads in a circle")
