"""``policy``: what an author of policies uses. Only ``set`` writes to the log (``femtoclaw.cli.policy_change``)."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import ConfigurationError, PolicyError, UsageError
from femtoclaw.home import locate, read_bounded, require
from femtoclaw.policy_starters import chosen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from femtoclaw.manifest import Manifest
    from femtoclaw.policy import PolicyEngine
    from femtoclaw.sealing import Sealer
    from femtoclaw.state import State
    from wal import Record

REPORT_BYTES_MAX = 64 * 1024 * 1024
CASES_BYTES_MAX = 8 * 1024 * 1024
CASE_COLUMNS_MAX = 60
"""Columns of a case's name in the table; longer ones push the rest of their line to the right."""


def policy(arguments: Arguments, output: Output) -> int:
    """One of the commands below, by its word."""
    return _WHICH[arguments.which](arguments, output)


def check(arguments: Arguments, output: Output) -> int:
    """0 when the policy loads for the registered claws, whatever the warnings say; 2 with the reason otherwise."""
    from femtoclaw.policy_warnings import warnings

    (word,) = _files(arguments, "FILE")
    state = _state(arguments)
    manifests = _manifests(state)
    engine = _load(word, manifests)
    found = warnings(engine, manifests, _agents(state))
    output.data(
        {
            "policy": word,
            "digest": engine.digest,
            "schema_digest": engine.schema_digest,
            "claws": sorted(manifest.name for manifest in manifests),
            "reads": sorted(engine.needs),
            "warnings": [warned._asdict() for warned in found],
        }
    )
    output.line(f"ok: {word}", "green")
    output.fields([("digest", engine.digest), ("reads", ", ".join(sorted(engine.needs)) or "arguments and facts only")])
    for warned in found:
        output.line(f"  {warned.code}  {printable(warned.subject)}: {printable(warned.text)}", "yellow")
    return 0


def test(arguments: Arguments, output: Output) -> int:
    """0 when every case is decided as expected, 1 when one is not."""
    from femtoclaw.policy_cases import approval_body, decided, read_cases, run_cases

    (word,) = _files(arguments, "FILE")
    if arguments.cases is None:
        raise UsageError("which cases?", where="policy test", expected="--cases CASES", remedy=_EXAMPLE)
    manifests = _manifests(_state(arguments))
    results = run_cases(
        read_cases(read_bounded(arguments.cases, CASES_BYTES_MAX), arguments.cases), _load(word, manifests), manifests
    )
    rows: list[dict[str, Any]] = [
        {
            "case": result.case.name,
            "ok": not result.wrong,
            "wrong": list(result.wrong),
            "expected": dict(result.case.expect),
            "decision": decided(result.verdict),
            "reason": result.verdict.reason,
            "determining": list(result.verdict.determining),
            "approval": approval_body(result.verdict),
        }
        for result in results
    ]
    failed = sum(not row["ok"] for row in rows)
    output.data({"policy": word, "cases": len(rows), "failed": failed, "results": rows})
    _print_table(rows, output)
    output.line(f"{len(rows)} cases, {failed} failed", "red" if failed else "green")
    return 1 if failed else 0


def _sealer(arguments: Arguments) -> Sealer:
    """What opens the texts of subjects: the keys of the home, where its history is what is asked about."""
    from femtoclaw.sealing import UNSEALED
    from femtoclaw.subject_keys import sealer_at

    return UNSEALED if arguments.bundle is not None else sealer_at(locate(getattr(arguments, "home", None)))


def _print_table(rows: list[dict[str, Any]], output: Output) -> None:
    width = min(CASE_COLUMNS_MAX, max(len(printable(row["case"])) for row in rows))
    for row in rows:
        named = ", ".join(row["determining"]) or "-"
        told = f"{printable(row['case']):<{width}}  {row['decision']}  {row['reason']}  {printable(named)}"
        output.line(f"  {'ok  ' if row['ok'] else 'FAIL'}  {told}", "" if row["ok"] else "red")
        for name in row["wrong"]:
            output.line(f"        expected {name}  {printable(json.dumps(row['expected'][name]))}", "red")


def diff(arguments: Arguments, output: Output) -> int:
    """0 when the policies decide every recorded call alike, 1 with every flip. With ``--verify``: 0 when the report
    comes out the same, 1 when it does not."""
    from femtoclaw.counterfactual import RECORDED, compare, flips_to_allow, read_report, verify

    if arguments.verify is not None:
        _files(arguments)
        report = read_report(read_bounded(arguments.verify, REPORT_BYTES_MAX), arguments.verify)
        with _records(arguments, report["log"]["size"]) as records:
            wrong = verify(report, records, _sealer(arguments))
        output.data({"report": arguments.verify, "equal": not wrong, "differs": wrong, "digest": report["digest"]})
        told = f"NOT equal: {', '.join(wrong)}" if wrong else f"equal: {len(report['flips'])} flips, {report['digest']}"
        output.line(printable(told), "red" if wrong else "green")
        return 1 if wrong else 0
    old, new = _files(arguments, "OLD", "NEW")
    texts = [None if word == RECORDED else chosen(word) for word in (old, new)]
    with _records(arguments, None) as records:
        report = compare(records, texts[0], texts[1], _sealer(arguments))
    output.data(report)
    loosened = {flip["index"] for flip in flips_to_allow(report)}
    for flip in report["flips"]:
        before, after = (f"{flip[side]['decision']} {flip[side]['reason']}" for side in ("old", "new"))
        named = ", ".join(flip["new"]["determining"]) or "-"
        mark = "  LOOSER" if flip["index"] in loosened else ""
        output.line(f"  {flip['index']}  {flip['execution']}  {flip['claw']}{mark}", "yellow")
        output.line(f"    {before} -> {after}  by {printable(named)}")
    output.line(
        f"{report['decisions']} decisions, {len(report['flips'])} flips, {len(loosened)} of them loosen", "bold"
    )
    output.fields(
        [("log", f"{report['log']['origin']}, {report['log']['size']} records"), ("digest", report["digest"])]
    )
    output.line(f"  {report['note']}", "dim")
    return 1 if report["flips"] else 0


def explain(arguments: Arguments, output: Output) -> int:
    """Why a recorded or a given call is decided as it is; always 0 when it could be explained."""
    from femtoclaw.cli.policy_explanation import explain_execution, explain_message, print_explanation

    _files(arguments)
    if (arguments.execution is None) == (arguments.message is None):
        raise UsageError(
            "what is to be explained?", where="policy explain", expected="--execution ID or --message JSON"
        )
    text = chosen(arguments.policy) if arguments.policy is not None else None
    try:
        if arguments.execution is not None:
            with _records(arguments, None) as records:
                body = explain_execution(records, arguments.execution, text, _sealer(arguments))
        else:
            body = explain_message(_state(arguments), _message(arguments.message), arguments.agent, text)
    except PolicyError as error:
        error.where = error.where or arguments.policy or ""
        raise
    print_explanation(body, output)
    return 0


def _message(word: str) -> bytes:
    if word != "-":
        return word.encode("utf-8", "surrogateescape")
    import sys

    from femtoclaw.strict_json import DOCUMENT_BYTES_MAX

    if sys.stdin is None:
        raise UsageError("standard input is closed", where="--message -", expected="a message on it")
    return sys.stdin.buffer.read(DOCUMENT_BYTES_MAX + 1)  # the validator refuses what is longer


_EXAMPLE = "see the files in femtoclaw/policies/cases of the installed program"
_WHICH: dict[str, Callable[[Arguments, Output], int]] = {
    "check": check,
    "test": test,
    "explain": explain,
    "diff": diff,
    "set": lambda arguments, output: _policy_change().set_policy(arguments, output),
    "show": lambda arguments, output: _policy_change().show_policy(arguments, output),
}


def _policy_change() -> ModuleType:
    """Loaded for the two that need it: it brings everything that opens a node."""
    from femtoclaw.cli import policy_change

    return policy_change


def _files(arguments: Arguments, *names: str) -> list[str]:
    if len(arguments.files) != len(names):
        expected = " ".join(names) or "no file"
        raise UsageError("wrong number of files", where=f"policy {arguments.which}", expected=expected,
                         found=len(arguments.files))  # fmt: skip
    return list(arguments.files)


def _load(word: str, manifests: list[Manifest]) -> PolicyEngine:
    from femtoclaw.policy import PolicyEngine

    text = chosen(word)
    try:
        return PolicyEngine.load(text, manifests)
    except PolicyError as error:
        error.where = f"{word}: {error.where}" if error.where else word
        raise


def _state(arguments: Arguments) -> State:
    """The state of the home, or, where there is none and none was named, of a node with every shipped claw enabled."""
    home = locate(getattr(arguments, "home", None))
    try:
        require(home)
    except ConfigurationError:
        if getattr(arguments, "home", None) is not None:
            raise
        return _without_home()
    from femtoclaw.cli.recorded_state import recorded_state

    return recorded_state(home)


def _without_home() -> State:
    from immutables import Map

    from femtoclaw import config
    from femtoclaw.claws import SHIPPED
    from femtoclaw.home import claw_names
    from femtoclaw.state import EMPTY, Claw, Configuration

    effective = config.resolve(
        {"capabilities": {claw.name: {"enabled": True} for claw in SHIPPED}}, "shipped", claw_names(SHIPPED)
    )
    content = config.canonical(effective)
    registry = Map({claw.name: Claw(claw.name, claw.canonical(), claw.digest(), True) for claw in SHIPPED})
    node = EMPTY.node._replace(registry=registry, configuration=Configuration(1, config.digest(content), content))
    return EMPTY._replace(node=node)


def _manifests(state: State) -> list[Manifest]:
    from femtoclaw.recorded import recorded_manifest

    return [recorded_manifest(name, claw.manifest) for name, claw in state.node.registry.items()]


def _agents(state: State) -> frozenset[str]:
    from femtoclaw.recorded import recorded_configuration

    runtime = recorded_configuration(state.node.configuration.content).get("runtime", {})
    return frozenset(("operator", runtime.get("agent", "agent")))


@contextmanager
def _records(arguments: Arguments, size: int | None) -> Iterator[Iterator[Record]]:
    """The first ``size`` verified records (default: all) of the home's log, or of ``--bundle``."""
    if arguments.bundle is not None:
        with _bundled(arguments, size) as records:
            yield records
        return
    from wal import read_log_directory

    home = locate(getattr(arguments, "home", None))
    require(home)
    reader = read_log_directory(home.log)
    try:
        yield reader.scan(1, min(reader.size, reader.size if size is None else size) + 1)
    finally:
        reader.close()


@contextmanager
def _bundled(arguments: Arguments, size: int | None) -> Iterator[Iterator[Record]]:
    from itertools import islice

    from femtoclaw.cli.evidence import trusted_key
    from femtoclaw.errors import SecurityError
    from wal.bundle import Bundle

    if arguments.key is None:
        raise UsageError("which key do you trust?", where="--bundle", expected="--key FILE or --key NAME+HASH+BASE64")
    bundle = Bundle(arguments.bundle)
    try:
        checked = bundle.check(trusted_key(arguments.key))
        if not checked.ok:
            raise SecurityError(
                "the bundle does not hold", where=arguments.bundle, expected="no findings",
                found=checked.findings[0].code, remedy="run `femtoclaw verify --bundle FILE --key KEY`",
            )  # fmt: skip
        yield islice(bundle.records(), size)
    finally:
        bundle.close()
