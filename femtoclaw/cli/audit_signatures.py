"""``audit signatures FILE ...``: does the log account for what the node's key signed?"""

from __future__ import annotations

import os

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import UsageError
from femtoclaw.home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.projections.database import Projections

INTEGRITY = 3
SIGNED_BYTES_MAX = 256 * 1024 * 1024


def signatures(home: Home, arguments: Arguments, output: Output) -> int:
    """0 when everything by a key of this log is accounted for, 3 otherwise."""
    from femtoclaw import events
    from femtoclaw.auditing.questions import of_types
    from femtoclaw.auditing.signatures import UNACCOUNTED, digests_on_record, judge
    from femtoclaw.auditing.verified_range import verify_range
    from femtoclaw.home import read_bounded
    from femtoclaw.key_index import FILE_NAME
    from femtoclaw.launcher.sealed import PIN_FILE
    from femtoclaw.projections.consulting import consult
    from wal.reader import read_log_directory

    if not arguments.targets:
        raise UsageError("which files?", where="audit signatures", expected="one FILE at least")
    files = [(path, read_bounded(path, SIGNED_BYTES_MAX)) for path in arguments.targets]
    own = [os.path.join(home.path, PIN_FILE), os.path.join(os.path.dirname(home.key_file), FILE_NAME)]
    reader = read_log_directory(home.log)
    try:
        verified = verify_range(reader)

        def question(kept: Projections) -> frozenset[str]:
            rows = of_types(reader, kept, events.ProcedureBegun, events.ProcedureEnded)
            return digests_on_record(event for _, event in rows)

        on_record = consult(home.index_file, reader, question, output.note)
        judged = [judge(path, raw, reader, on_record, own) for path, raw in files]
    finally:
        reader.close()
    sound = all(each.verdict != UNACCOUNTED for each in judged)
    output.data({"ok": sound, "verified": verified.body(), "signatures": [each._asdict() for each in judged]})
    for each in judged:
        output.line(
            f"{each.verdict:<14} {printable(each.name)}: {each.kind}, {printable(each.why)}",
            "red" if each.verdict == UNACCOUNTED else "",
        )
    if not sound:
        output.note(
            "the node's key signed what its log does not know: contain the node, keep these files, "
            "`femtoclaw key rotate --compromised`"
        )
    return 0 if sound else INTEGRITY
