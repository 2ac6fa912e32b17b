"""``audit export``: a range of the log in a form that others take; ``audit statement``: checking one of those forms."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, program
from femtoclaw.errors import ConfigurationError, UnavailableError, UsageError
from femtoclaw.home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from femtoclaw.auditing.lines import Range
    from femtoclaw.cli.execute import Node
    from wal.reader import LogReader

    Form = Callable[[Node, LogReader, Range, Arguments], Iterable[bytes]]

JSONL, OCSF, SCITT = "jsonl", "ocsf", "scitt"
STATEMENT_BYTES_MAX = 256 * 1024 * 1024
STATEMENT_REMEDY = "this file proves nothing: get the statement again from who issued it, and keep this file beside it"


def export(home: Home, arguments: Arguments, output: Output) -> int:
    """Write the file, as a procedure on record: 0 done, 1 refused."""
    from femtoclaw.auditing.lines import Range
    from femtoclaw.auditing.verified_range import verify_range
    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.execute import open_node
    from femtoclaw.control import load_cosigners
    from femtoclaw.goals import reading
    from femtoclaw.procedures import procedure
    from wal.bundle import signed_checkpoint

    form = arguments.format or JSONL
    forms: dict[str, Form] = {JSONL: _jsonl, OCSF: _ocsf, SCITT: _scitt}
    path = _target(home, arguments, form)
    if arguments.dry_run:
        return _tell_range(home, arguments, form, output)
    with open_node(getattr(arguments, "home", None), output) as node, _removed_on_error(path):
        cosigners = load_cosigners(home, arguments.cosign)
        with procedure(node.started, signer_of(node, arguments), "audit.export", form, cosigners=cosigners) as told:
            with reading(node.started) as reader:
                output.progress("verifying ...")
                verify_range(reader)
                wanted = Range(signed_checkpoint(reader), arguments.first, arguments.last)
                output.progress("exporting ...")
                digest, size = _write(path, forms[form](node, reader, wanted, arguments))
                output.progress("")
                left_out = reader.size - wanted.covered.checkpoint.size
            checkpoint = wanted.covered.checkpoint
            told.detail = f"{wanted.count} records as {form}"
            told.content = {
                "format": form, "first": wanted.first, "last": wanted.last, "count": wanted.count, "sha256": digest,
                "bytes": size, "execution": arguments.execution or "", "checkpoint": checkpoint.size,
                "root": checkpoint.root.hex(),
            }  # fmt: skip
        output.data({"file": path, "procedure": told.id, "begun": told.begun, "ended": told.ended} | told.content)
        output.line(f"wrote {path}: records {wanted.first} to {wanted.last}", "green")
        output.fields([("sha256", digest), ("on record", f"audit.export {told.id}, index {told.begun}")])
        if left_out and arguments.last is None:
            output.note(
                f"{left_out} newest records are not covered by a signed checkpoint yet and are not in the export"
            )
        _tell_check(form, path, output)
    return 0


def _tell_range(home: Home, arguments: Arguments, form: str, output: Output) -> int:
    """What an export would cover, verified now."""
    from femtoclaw.auditing.lines import Range
    from femtoclaw.auditing.verified_range import verify_range
    from wal.bundle import signed_checkpoint
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        verified = verify_range(reader)
        wanted = Range(signed_checkpoint(reader), arguments.first, arguments.last)
    finally:
        reader.close()
    body = {"format": form, "first": wanted.first, "last": wanted.last, "count": wanted.count}
    output.data({"dry_run": True, "verified": verified.body()} | body)
    output.line(f"would export records {wanted.first} to {wanted.last} as {form}")
    output.line(verified.sentence(), "dim")
    return 0


def _tell_check(form: str, path: str, output: Output) -> None:
    if form == JSONL:
        output.line(f"check it anywhere with: python check_audit_export.py {path} KEY")
    elif form == SCITT:
        output.line(f"check it anywhere with: {program()} audit statement {path} --key KEY")


def _target(home: Home, arguments: Arguments, form: str) -> str:
    """Where to write: a new file, and none of the node's own. Raises UsageError, ConfigurationError."""
    from femtoclaw.cli.evidence import refuse_own

    if arguments.targets or arguments.out is None:
        raise UsageError("where to?", where="audit export", expected="--out FILE")
    if arguments.execution is not None and (form != SCITT or arguments.first is not None or arguments.last is not None):
        raise UsageError(
            "--execution is for --format scitt, without a range", where="audit export",
            remedy="export the range of records that `femtoclaw audit trace` names",
        )  # fmt: skip
    path: str = os.path.abspath(arguments.out)
    refuse_own(home, path, "--out")
    if os.path.lexists(path):
        raise ConfigurationError("there is something already", where=path, expected="a new file")
    return path


@contextlib.contextmanager
def _removed_on_error(path: str) -> Iterator[None]:
    """What is not on record as done must not stay. A goal that was lost meanwhile undoes nothing: the end is on record."""
    from femtoclaw.procedures import GoalsLostError

    try:
        yield
    except GoalsLostError:
        raise
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def _write(path: str, parts: Iterable[bytes]) -> tuple[str, int]:
    """Create the file, for its owner alone, durable; SHA-256 and size. Raises UnavailableError."""
    hasher, size = hashlib.sha256(), 0
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            for part in parts:
                file.write(part)
                hasher.update(part)
                size += len(part)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UnavailableError("the export cannot be written", where=path, found=error.strerror) from error
    return hasher.hexdigest(), size


def _jsonl(node: Node, reader: LogReader, wanted: Range, arguments: Arguments) -> Iterable[bytes]:
    from femtoclaw.auditing.lines import export_lines

    return export_lines(reader, wanted)


def _ocsf(node: Node, reader: LogReader, wanted: Range, arguments: Arguments) -> Iterator[bytes]:
    from femtoclaw.auditing.ocsf import ocsf_event
    from femtoclaw.version import VERSION

    log_id, runtime = reader.log_id.hex(), node.started.authority.state.node.runtime_id
    for record in reader.scan(wanted.first, wanted.last + 1):
        yield json.dumps(ocsf_event(record, log_id, runtime, VERSION), sort_keys=True).encode() + b"\n"


def _scitt(node: Node, reader: LogReader, wanted: Range, arguments: Arguments) -> Iterable[bytes]:
    """One statement: about an execution, or a range."""
    from femtoclaw.auditing.receipts import RECORDS_MAX, make_statement

    require_cbor()
    signer, checkpoint = node.started.signer, wanted.covered.checkpoint
    if reader.keys().newest.key != signer.public:
        raise UnavailableError(
            "this node's key is not the one in force", where="audit export --format scitt",
            expected=reader.keys().newest.key.vkey(), found=signer.public.vkey(), remedy="run it at the leader",
        )  # fmt: skip
    indexes: list[int] = list(range(wanted.first, wanted.last + 1))
    subject = f"records {wanted.first} to {wanted.last}"
    if arguments.execution is not None:
        subject, indexes = _of_execution(node, reader, checkpoint.size, arguments.execution)
    if len(indexes) > RECORDS_MAX:
        raise UsageError(
            "too many records for one statement",
            where="--first, --last",
            expected=f"<= {RECORDS_MAX}",
            found=len(indexes),
        )
    tree = reader.tree()
    prove = lambda index: tree.inclusion(index, checkpoint.size)  # noqa: E731  # one expression
    return [make_statement(subject, [reader.read(index) for index in indexes], checkpoint, prove, signer)]


def _of_execution(node: Node, reader: LogReader, signed: int, part: str) -> tuple[str, list[int]]:
    """An execution's whole id and its records. Raises NoSuchExecutionError, UsageError for one that is not signed yet."""
    from femtoclaw.cli.filters import resolve_execution
    from femtoclaw.projections.consulting import consult
    from femtoclaw.projections.database import Projections
    from femtoclaw.projections.queries import Filter, records

    def question(kept: Projections) -> tuple[str, list[int]]:
        found = resolve_execution(kept, part, "--execution")
        return found, records(kept, Filter(execution=found))

    found, indexes = consult(node.started.home.index_file, reader, question, lambda text: None)
    if indexes[-1] > signed:
        raise UsageError("this execution is not signed yet", where="--execution", expected=f"records up to {signed}",
                         found=indexes[-1], remedy="it is signed when its segment is full, or when the node stops")  # fmt: skip
    return f"execution {found}", indexes


def require_cbor() -> None:
    """Raise UnavailableError where the library for CBOR is not installed."""
    try:
        import cbor2  # noqa: F401
    except ImportError:
        raise UnavailableError(
            "the library cbor2 is not installed", where="COSE statements", expected="cbor2",
            remedy="install femtoclaw[receipts], or export another format",
        ) from None  # fmt: skip


def statement(home: Home, arguments: Arguments, output: Output) -> int:
    """Check a statement and its receipt: 0, or 3. Needs no node."""
    from femtoclaw.auditing.receipts import open_statement
    from femtoclaw.cli.evidence import trusted_key
    from femtoclaw.cli.history import print_record, record_body
    from femtoclaw.home import read_bounded
    from wal.errors import CorruptFileError, CorruptRecordError

    if len(arguments.targets) != 1 or arguments.key is None:
        raise UsageError(
            "which statement, and which key do you trust?", where="audit statement", expected="FILE --key KEY"
        )
    require_cbor()
    path = arguments.targets[0]
    raw, key = read_bounded(path, STATEMENT_BYTES_MAX), trusted_key(arguments.key)
    try:
        opened = open_statement(raw, key)
    except (CorruptFileError, CorruptRecordError) as error:
        error.where, error.remedy = error.where or path, STATEMENT_REMEDY
        raise
    body: dict[str, Any] = {"ok": True, "issuer": opened.issuer, "subject": opened.subject, "size": opened.size}
    body |= {"root": opened.root.hex(), "count": len(opened.records)}
    output.data(body | {"events": [record_body(record) for record in opened.records]})
    output.line(f"ok: {path}", "green")
    output.fields(list(body.items()))
    if not output.as_json:
        for record in opened.records:
            print_record(record, output)
    return 0
