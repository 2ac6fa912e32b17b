"""``module.tests.json``: what a claw's author says it does. Strict JSON, ``{"cases": [...]}``, each case an object with

- ``name`` and ``args``;
- one of ``result`` (the object that comes back; null for any), ``error`` (the class of the claw's error) or ``refused``
  (the code by which its schema refuses the arguments);
- and, where they matter, ``settings``, ``secrets`` (test values by name) and ``files`` (texts in the workspace by path).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Mapping
from typing import Any, NamedTuple

from femtoclaw.errors import ConfigurationError
from femtoclaw.strict_json import StrictJSONError, parse

ENDS = ("result", "error", "refused")
_MORE = ("settings", "secrets", "files")


class Case(NamedTuple):
    """One execution and its expected end: ``end`` is one of ``ENDS``, ``expected`` what stands behind it."""

    name: str
    args: Mapping[str, Any]
    end: str
    expected: Any
    settings: Mapping[str, Any] = {}
    secrets: Mapping[str, str] = {}
    files: Mapping[str, str] = {}


def read_cases(raw: bytes) -> tuple[Case, ...]:
    """The cases in ``module.tests.json``. Raises ConfigurationError, naming the case by its place."""
    try:
        body = parse(raw)
    except StrictJSONError as error:
        raise _refused(f"strict JSON; {error.code}", "module.tests.json") from None
    cases = body.get("cases")
    if set(body) != {"cases"} or not isinstance(cases, list):
        raise _refused('{"cases": [...]}', "module.tests.json")
    return tuple(_case(found, f"case {at}") for at, found in enumerate(cases, 1))


def _case(body: Any, where: str) -> Case:
    if not isinstance(body, dict) or not {"name", "args"} <= set(body) <= {"name", "args", *ENDS, *_MORE}:
        raise _refused("an object with name, args and one of result, error, refused", where)
    ends = [end for end in ENDS if end in body]
    if len(ends) != 1:
        raise _refused("one of result, error, refused", where)
    expected = body[ends[0]]
    fits = isinstance(expected, dict) or expected is None if ends[0] == "result" else isinstance(expected, str)
    more = {name: body.get(name, {}) for name in _MORE}
    if not fits or not all(isinstance(value, dict) for value in (body["args"], *more.values())):
        raise _refused("objects for args, result, settings, secrets and files, texts for the rest", where)
    texts = (body["name"], *more["secrets"].values(), *more["files"].values())
    if not all(isinstance(text, str) for text in texts):
        raise _refused("texts as name, secrets and files", where)
    return Case(body["name"], body["args"], ends[0], expected, **more)


def _refused(expected: str, where: str) -> ConfigurationError:
    return ConfigurationError(
        "the test cases cannot be read", where=where, expected=expected, found="something else",
        remedy="see docs/modules.md for their form",
    )  # fmt: skip
