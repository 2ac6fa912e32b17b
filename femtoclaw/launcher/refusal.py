"""The one way a start that was not verified ends: said on stderr, written in the boot journal, exit code 3."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXIT_CODE = 3
JOURNAL_BYTES_MAX = 1024 * 1024
"""The runtime's own bound on the boot journal: at twice this size the launcher adds nothing more to it."""

REMEDY = (
    "a home that a release was deployed for is started by that installation (ROOT/femtoclaw), not by this program; else "
    "put back what was sealed (an installed release: `release repair FILE`), or install a trusted replacement; "
    "in a checkout that you changed or pulled yourself: "
    "`scripts/seal`, then `distribution accept` in each home (docs/boot.md)"
)
"""Names no way past the check: sealing again is an act of whoever owns the checkout, and each home still decides."""

REVOKED_REMEDY = (
    "install a replacement that another key signed, and with it: `distribution accept DIGEST`; nothing that this key signed starts "
    "or is put back here any more"
)


class Refused(BaseException):
    """Something of the distribution is not what was sealed, or not what this home trusts.

    No ``Exception``: a library that tries another import when one fails must not go on with this one. ``code`` is
    stable: UNSIGNED, BAD_SIGNATURE, UNTRUSTED_KEY, REVOKED_KEY, NOT_ACCEPTED, ROLLBACK, BAD_MANIFEST,
    ALGORITHM_NOT_APPROVED, ALGORITHM_NOT_SUPPORTED, WRONG_INTERPRETER, HASH_MISMATCH, FILE_MISSING, UNLISTED_FILE,
    NOT_SEALED, BAD_PIN, ENVIRONMENT; and that of ``Misused``.
    """

    exit_code = EXIT_CODE

    def __init__(self, code: str, what: str, where: str, expected: str, found: str, remedy: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.where = where
        self.expected = expected
        self.found = found
        self.remedy = remedy or REMEDY

    def __str__(self) -> str:
        return f"{self.what}; at {self.where}; expected {self.expected}, found {self.found}"


class Misused(Refused):
    """The words of ``release repair`` are wrong: nothing was found of the distribution. ``code`` is USAGE."""

    exit_code = 2

    def __init__(self, what: str, where: str, expected: str, found: str) -> None:
        super().__init__("USAGE", what, where, expected, found, "ROOT/femtoclaw --home HOME release repair FILE")


def mismatch(where: str, expected: str, found: str) -> Refused:
    """What to raise for a file with other bytes."""
    return Refused("HASH_MISMATCH", "a file of the distribution was changed", where, expected, found)


def missing(where: str, expected: str, error: OSError) -> Refused:
    """What to raise for a file that cannot be read."""
    return Refused("FILE_MISSING", "a file of the distribution cannot be read", where, expected, str(error.strerror))


def tell(refused: Refused, as_json: bool) -> int:
    """Print what, where, expected, found and next as every error of the program does; return the exit code."""
    fields = (("where", refused.where), ("expected", refused.expected), ("found", refused.found),
              ("next", refused.remedy))  # fmt: skip
    lines = [f"femtoclaw: {_plain(refused.what)} ({refused.code})"]
    lines += [f"  {name:<9} {_plain(text)}" for name, text in fields]
    if as_json:
        import json

        misused = isinstance(refused, Misused)
        kind, category = ("UsageError", "CONFIGURATION") if misused else ("SecurityError", "SECURITY")
        body = {"type": kind, "category": category, "code": refused.code, "what": refused.what}
        body |= {"where": refused.where, "expected": refused.expected, "found": refused.found}
        told = {"error": body | {"remedy": refused.remedy, "exit_code": refused.exit_code}}
        _write(1, json.dumps(told) + "\n")
    _write(2, "\n".join([*lines, f"  exit code {refused.exit_code}", ""]))
    return refused.exit_code


def record(refused: Refused, home: str | None, anchor: str) -> None:
    """Two lines in the home's boot journal, if there is a home: the launcher ran, and what the distribution was.

    A journal that cannot be written changes nothing: the start is refused in any case.
    """
    if home is None or not os.path.isdir(home):
        return
    stages: tuple[dict[str, Any], ...] = (
        {"stage": "launcher", "verifier": "host", "result": "ok"},
        {"stage": "distribution", "verifier": "launcher", "result": "refused", "code": refused.code,
         "component": refused.where, "expected": refused.expected, "found": refused.found, "text": refused.what},
    )  # fmt: skip
    journal(home, [{"anchor": anchor, **stage} for stage in stages])


def journal(home: str, stages: list[dict[str, Any]]) -> None:
    """One line for each stage at the end of the home's boot journal. One that cannot be written is told, and changes nothing."""
    import json

    moment = time.time_ns()
    lines = "".join(
        json.dumps({"time_ns": moment, "event": "stage", **stage}, sort_keys=True) + "\n" for stage in stages
    )
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        fd = os.open(os.path.join(home, "boot.journal"), flags, 0o600)
        try:
            if os.fstat(fd).st_size <= 2 * JOURNAL_BYTES_MAX:
                os.write(fd, lines.encode())
        finally:
            os.close(fd)
    except OSError as error:
        _write(2, f"femtoclaw: boot journal cannot be written: {error.strerror}\n")


def note(text: str) -> None:
    """A remark on stderr."""
    _write(2, f"femtoclaw: {_plain(text)}\n")


def _plain(text: str) -> str:
    """One line that is safe on a terminal: names of files may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text[:1000])


def _write(descriptor: int, text: str) -> None:
    """Past the buffers: a stream that nobody reads must not stand in the way of the exit code."""
    raw = text.encode("utf-8", "backslashreplace")
    stream = sys.stdout if descriptor == 1 else sys.stderr
    try:
        if stream is not None:
            stream.flush()
        os.write(descriptor, raw)
    except (OSError, ValueError):
        return
