"""Standard error of a node that is served for machines: lines of JSON only, whoever writes there."""

from __future__ import annotations

import io
import json
import sys
import threading
import warnings

import jsonschema_rs
import pytest

from femtoclaw.telemetry.error_lines import TEXT_CHARS_MAX, ErrorLines, structure_stderr
from femtoclaw.telemetry.lines import sample, schema, text


@pytest.mark.requirement("OBSERVE-5.1", "OBSERVE-9.1")
def test_remarks_warnings_and_tracebacks_become_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of a thread that nobody waits for; each is of the published schema, and what is a line already stays it."""
    inner = io.StringIO()
    monkeypatch.setattr("sys.stderr", inner)
    structure_stderr()
    structured = sys.stderr
    structure_stderr()
    assert sys.stderr is structured
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)

    def fail() -> None:
        raise RuntimeError("broken")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    print(warnings.formatwarning("old", DeprecationWarning, "library.py", 1), file=sys.stderr)
    print("one\ntwo", end="", file=sys.stderr)
    already = text(sample("health_sample", 0, "ok", checks={})).decode()
    print(f" ends\n\n{'x' * 2 * TEXT_CHARS_MAX}\n{already}cut", end="", file=sys.stderr)
    sys.stderr.close()
    is_valid = jsonschema_rs.validator_for(schema()).is_valid
    bodies = [json.loads(line) for line in inner.getvalue().splitlines()]
    assert [body for body in bodies if not is_valid(body)] == []
    texts = [body.get("text", "") for body in bodies]
    assert any("Traceback" in each for each in texts) and "RuntimeError: broken" in texts
    assert any("DeprecationWarning" in each for each in texts)
    assert texts[-5:] == ["one", "two ends", "x" * TEXT_CHARS_MAX, "", "cut"]
    assert inner.getvalue().count(already) == 1


def test_a_stream_hands_its_descriptor_on() -> None:
    """Whoever starts a process with it gets the one behind it."""
    with open("/dev/null", "w") as inner:
        assert ErrorLines(inner).fileno() == inner.fileno()
        assert ErrorLines(inner).writable()
