"""``audit``: what auditors ask of a node, each answer with the range of the log that was verified for it."""

from __future__ import annotations

from femtoclaw.cli.filters import read_kind, read_since, read_text, read_until, resolve_execution
from femtoclaw.cli.member_standing import tell_uncommitted
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable, when
from femtoclaw.errors import UsageError
from femtoclaw.home import Home, locate, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from femtoclaw.auditing.operator_actions import OperatorAction
    from femtoclaw.auditing.verified_range import Verified
    from femtoclaw.projections.database import Projections
    from wal.reader import LogReader

    Answer = TypeVar("Answer")

def audit(arguments: Arguments, output: Output) -> int:
    """What auditors ask and take away; see ``--help`` for the acts."""
    from femtoclaw.cli.audit_export import export, statement
    from femtoclaw.cli.audit_retain import retain
    from femtoclaw.cli.audit_signatures import signatures

    acts = {
        "query": _query,
        "trace": _trace,
        "export": export,
        "statement": statement,
        "retain": retain,
        "signatures": signatures,
    }
    home = locate(getattr(arguments, "home", None))
    if arguments.what != "statement":  # whoever checks one needs no node
        require(home)
    return acts[arguments.what](home, arguments, output)


def _verified(home: Home, output: Output) -> tuple[LogReader, Verified]:
    """The log, all of it verified. Raises as ``verify_range``."""
    from femtoclaw.auditing.verified_range import verify_range
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        output.progress("verifying ...")
        verified = verify_range(reader)
        output.progress("")
    except BaseException:
        reader.close()
        raise
    return reader, verified


def _query(home: Home, arguments: Arguments, output: Output) -> int:
    """0, also where nothing fits: the answer says so."""
    from femtoclaw.auditing.operator_actions import OPERATOR_ACTION

    if arguments.targets:
        raise UsageError("a query takes options only", where="audit query", expected="--execution ID and the like")
    since, until = read_since(arguments.since), read_until(arguments.until)
    if since is not None and until is not None and since > until:
        raise UsageError(
            "no time is in between", where="--since", expected="a time before --until", found=arguments.since
        )
    if arguments.limit < 0:
        raise UsageError(
            "not a number of records", where="--limit", expected="0 for all, or more", found=arguments.limit
        )
    if arguments.type is not None and arguments.type.casefold() == OPERATOR_ACTION:
        return _query_actions(home, arguments, output)
    from femtoclaw.auditing.questions import ask
    from femtoclaw.cli.history import print_record, record_body
    from femtoclaw.projections.queries import Filter
    from femtoclaw.projections.reading import KINDS

    kind = read_kind(arguments.type, (*KINDS, OPERATOR_ACTION), "--type")
    wanted = Filter(
        None, kind, read_text(arguments.capability, "--capability"), read_since(arguments.since),
        read_until(arguments.until), arguments.limit and arguments.limit + 1,
    )  # fmt: skip
    operator = read_text(arguments.operator, "--operator")
    reader, verified = _verified(home, output)
    try:
        wanted = wanted._replace(execution=_execution(home, reader, arguments, output))
        found = ask(home.index_file, reader, wanted, operator, output.note)
        found = _newest([record for record in found if record.index <= verified.last], arguments.limit, output)
        tell_uncommitted(home, reader, (record.index for record in found), output)
        output.data(
            {"verified": verified.body(), "count": len(found), "events": [record_body(record) for record in found]}
        )
        if not output.as_json:
            for record in found:
                print_record(record, output)
        if not found:
            _tell_unknown(reader, operator, wanted.capability, output)
    finally:
        reader.close()
    _tell_count(len(found), verified, output)
    return 0


def _execution(home: Home, reader: LogReader, arguments: Arguments, output: Output) -> str | None:
    """The whole id of --execution."""
    part = read_text(arguments.execution, "--execution")
    if part is None:
        return None
    return _consult(home, reader, output, lambda kept: resolve_execution(kept, part, "--execution"))


def _consult(home: Home, reader: LogReader, output: Output, question: Callable[[Projections], Answer]) -> Answer:
    """An answer from the index, after its rows were compared with their digests."""
    from femtoclaw.auditing.questions import check_rows
    from femtoclaw.projections.consulting import consult

    def checked(kept: Projections) -> Answer:
        check_rows(kept)
        return question(kept)

    return consult(home.index_file, reader, checked, output.note)


def _query_actions(home: Home, arguments: Arguments, output: Output) -> int:
    """What operators did, permitted or refused."""
    from femtoclaw.auditing.operator_actions import SEEN, Wanted, operator_actions
    from femtoclaw.auditing.questions import of_types

    resource = read_text(arguments.capability, "--capability") or read_text(arguments.execution, "--execution")
    wanted = Wanted(
        read_text(arguments.operator, "--operator"), resource, read_since(arguments.since), read_until(arguments.until)
    )
    reader, verified = _verified(home, output)
    try:
        actions = _consult(home, reader, output, lambda kept: operator_actions(of_types(reader, kept, *SEEN)))
        found = [each for each in actions if wanted.fits(each) and each.index <= verified.last]
        if not found:
            _tell_unknown(reader, wanted.operator, None, output)
    finally:
        reader.close()
    found = _newest(found, arguments.limit, output)
    output.data({"verified": verified.body(), "count": len(found), "events": [each.body() for each in found]})
    for each in found:
        _print_action(each, output)
    _tell_count(len(found), verified, output)
    return 0


def _print_action(action: OperatorAction, output: Output) -> None:
    permitted = action.outcome == "AUTHORIZED"
    output.line(
        f"{action.index:>7}  {when(action.time_ns)}  {printable(action.operator, 64)}  {action.action}  "
        f"{printable(action.resource, 64)}  {action.outcome} ({action.reason})",
        "" if permitted else "red",
    )
    output.line(f"         {', '.join(action.roles) or 'no role'}; arguments {action.arguments_digest[:16]}...", "dim")


def _newest(found: list[Answer], limit: int, output: Output) -> list[Answer]:
    """At most ``limit`` of them, the newest; where there are more, that is said: of an auditor's question it is not the total."""
    if not limit or len(found) <= limit:
        return found
    output.note(f"only the newest {limit} are shown: --limit 0 for all")
    return found[-limit:]


def _tell_unknown(reader: LogReader, operator: str | None, claw: str | None, output: Output) -> None:
    """Where nothing fits: whether that may be a name that nobody has."""
    from femtoclaw.restore import load_state

    node = load_state(reader, reader.size).node
    if operator is not None and operator not in node.operators:
        output.note(f"no operator here has the name {printable(operator, 64)}: `femtoclaw operator list`")
    if claw is not None and claw not in node.registry:
        output.note(f"no claw here has the name {printable(claw, 64)}: `femtoclaw claw list`")


def _tell_count(count: int, verified: Verified, output: Output) -> None:
    output.line(f"{count} found" if count else "nothing found", "bold")
    output.line(verified.sentence(), "dim")


def _trace(home: Home, arguments: Arguments, output: Output) -> int:
    """Everything that stood behind one execution."""
    from femtoclaw.auditing.tracing import trace

    if len(arguments.targets) != 1:
        raise UsageError("which execution?", where="audit trace", expected="one EXECUTION_ID")
    part = read_text(arguments.targets[0], "audit trace")
    reader, verified = _verified(home, output)
    try:
        found: dict[str, Any] = _consult(
            home, reader, output, lambda kept: trace(reader, kept, resolve_execution(kept, part or "", home.path))
        )
        tell_uncommitted(home, reader, found["records"], output)
    finally:
        reader.close()
    output.data({"verified": verified.body()} | found)
    output.line(f"execution {found['execution_id']}", "bold")
    for name, value in found.items():
        if name != "execution_id":
            output.line(f"{name}:")
            _print_part(value, output)
    output.line(verified.sentence(), "dim")
    return 0


def _print_part(value: Any, output: Output) -> None:
    for each in value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]:
        if isinstance(each, dict):
            output.fields([(name, part) for name, part in each.items() if part not in ("", ())])
        else:
            output.line(f"  {printable(str(each)) if each not in (None, '', []) else 'none'}")
