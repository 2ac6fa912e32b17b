"""Why the last process ended: what it left behind, and what whoever supervised it said.

A served node keeps a small file in its home while it is at work. An exception writes the digest of its traceback there, a fatal
signal that the interpreter can still notice its own words; who is killed writes nothing. The service file has the service
manager put its word beside it. What was said is never taken for more than that: nothing depends on it but the record.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import os
from typing import Any, NamedTuple

from femtoclaw.errors import ConfigurationError
from femtoclaw.home import Home, read_bounded

FILE_NAME, WORD_FILE = "serve.trace", "serve.word"
TRACE_BYTES_MAX = 256 * 1024
WORD_CHARACTERS_MAX = 200
HOST_BOOT = "/proc/sys/kernel/random/boot_id"

EXCEPTION, SIGNAL, MEMORY = "exception", "signal", "out of memory"
HOST, STOP_LOST, NO_TRACE = "the host was restarted", "stop not recorded", "unclean end without trace"


class Cause(NamedTuple):
    """Why a process ended: one of the words above, the digest of the traceback (empty without one), and more about it."""

    kind: str
    digest: str
    detail: str


class Trace:
    """The file of one process at work. To be opened while the log's lock is held."""

    def __init__(self, home: Home, boot_id: str) -> None:
        """Begin the file anew. A home where it cannot be written has none: then the next start knows less."""
        import faulthandler
        import json

        self._path = os.path.join(home.path, FILE_NAME)
        self._fd = -1
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(home.path, WORD_FILE))
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self._path, flags, 0o600)
            self._write(json.dumps({"boot_id": boot_id, "host_boot": host_boot(), "pid": os.getpid()}))
            faulthandler.enable(self._fd, all_threads=False)
        except OSError:
            self.close()

    def died(self, error: BaseException) -> None:
        """Write why the process ends: type, place and digest of the traceback. Its text may hold anything (I12)."""
        import hashlib
        import json
        import traceback

        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{os.path.basename(each.filename)}:{each.lineno} {each.name}" for each in frames]
        text = "\n".join([type(error).__name__, *places])
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        with contextlib.suppress(OSError):
            self._write(json.dumps({"exception": _named(error), "where": places[-1:], "digest": digest}))

    def _write(self, line: str) -> None:
        if self._fd >= 0:
            os.write(self._fd, line.encode() + b"\n")

    def close(self, *, remove: bool = False) -> None:
        """Stop writing; ``remove`` it behind an end in order."""
        import faulthandler

        if self._fd >= 0:
            faulthandler.disable()
            os.close(self._fd)
            self._fd = -1
        if remove:
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def host_boot() -> str:
    """Which boot of the host this is; empty where it does not say."""
    try:
        with open(HOST_BOOT, encoding="ascii") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        return ""


def _named(error: BaseException) -> str:
    """The type of the error and, where it says what the authority had stopped for, the type of that."""
    import re

    behind = re.match("([A-Z][A-Za-z]{2,60}Error): ", str(getattr(error, "found", "")))
    return type(error).__name__ + (f" ({behind[1]})" if behind else "")


def died(home: Home, boot_id: str) -> bool:
    """Whether the trace says that this process died by an exception, however its log was left."""
    return "exception" in _trace(home, boot_id)


def cause_of_end(home: Home, boot_id: str, *, closed: bool, told: str) -> Cause:
    """Why the process that had started as ``boot_id`` ended without a stop on record. ``closed``: its log was left in order;
    ``told`` is what its journal says of that."""
    trace = _trace(home, boot_id)
    if "exception" in trace:
        where = trace["where"] if isinstance(trace.get("where"), list) else []
        detail = " at ".join(_line(str(each)) for each in (trace["exception"], *where[:1]))
        return Cause(EXCEPTION, _line(str(trace.get("digest", "")))[:64], detail)
    if "fault" in trace:
        return Cause(SIGNAL, str(trace["digest"]), _line(str(trace["fault"])))
    if closed:
        return Cause(STOP_LOST, "", _line(told))
    word = _word(home) if trace else ""
    if word:
        return Cause(MEMORY if "oom-kill" in word else SIGNAL, "", f"the service manager says: {word}")
    before, now = str(trace.get("host_boot", "")), host_boot()
    if before and now and before != now:
        return Cause(HOST, "", "")
    return Cause(NO_TRACE, "", "")


def _trace(home: Home, boot_id: str) -> dict[str, Any]:
    """What the trace of this process says, empty where there is none, or one of another process."""
    import hashlib
    import json

    try:
        raw = read_bounded(os.path.join(home.path, FILE_NAME), TRACE_BYTES_MAX)
    except ConfigurationError:
        return {}
    first, _, rest = raw.partition(b"\n")
    found: dict[str, Any] = {}
    try:
        found |= json.loads(first)
        if found["boot_id"] != boot_id:
            return {}
        found.pop("exception", None)
        if rest.startswith(b"{"):
            found |= json.loads(rest.partition(b"\n")[0])
        elif rest.startswith(b"Fatal Python error"):
            fault = rest.partition(b"\n")[0].decode("utf-8", "replace")
            found |= {"fault": fault, "digest": hashlib.sha256(rest).hexdigest()}
    except (ValueError, TypeError, KeyError, RecursionError):
        pass  # cut by the end that it tells of
    return found if found.get("boot_id") == boot_id else {}


def _word(home: Home) -> str:
    try:
        raw = read_bounded(os.path.join(home.path, WORD_FILE), TRACE_BYTES_MAX)
    except ConfigurationError:
        return ""
    return _line(raw.decode("utf-8", "replace").partition("\n")[0])


def _line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:WORD_CHARACTERS_MAX]
