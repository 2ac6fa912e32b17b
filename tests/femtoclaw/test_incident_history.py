"""What the detectors make of the records that they read, one after the other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from femtoclaw import events
from femtoclaw.claws.shell import MANIFEST as SHELL
from femtoclaw.incidents.detection import History, Limits
from femtoclaw.isolation import Isolation
from tests.femtoclaw.controlled import SECOND

BREACH = """
int main(void) {
    int answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(20));
    return answer < 0;
}
"""
"""getpid, asked for as a program of another architecture asks: its numbers mean other calls, so the filter ends it."""


def test_a_burst_is_so_many_denials_in_so_many_seconds() -> None:
    """One less, or one second too late, is none; nor is what a contained node denies."""
    denial = events.AuthorizationDecided("x", "c", "DENIED_POLICY_VIOLATION", "NO_PERMIT", (), "", "", "", "")
    contained = denial._replace(reason="CONTAINED")
    for count, apart, event, found in ((5, 2, denial, 1), (4, 2, denial, 0), (5, 3, denial, 0), (9, 1, contained, 0)):
        history = History(Limits(5, 10))
        for number in range(count):
            history.take(number + 1, number * apart * SECOND, event)
        assert len(history.findings(count * SECOND)) == found


@pytest.mark.requirement("RUNBOOK-9.1")
@pytest.mark.skipif(os.uname().machine != "x86_64" or shutil.which("cc") is None, reason="the call is x86's")
def test_a_program_that_leaves_its_sandbox_is_a_security_violation() -> None:
    """In the real sandbox: the filter ends it, its claw reports it, and the node is contained."""
    folder = Path(tempfile.mkdtemp(prefix="femtoclaw-test-"))
    try:
        folder.chmod(0o755)
        (folder / "workspace").mkdir(mode=0o755)
        (folder / "breach.c").write_text(BREACH)
        program = str(folder / "breach")
        subprocess.run(["cc", "-o", program, str(folder / "breach.c")], check=True, timeout=60)
        os.chmod(program, 0o755)  # whatever the umask is: the claw is another user's
        isolation = Isolation(str(folder / "workspace"))
        try:
            outcome = isolation.run(SHELL, {"bin": program}, {"binaries": [program]})
        finally:
            isolation.close()
    finally:
        shutil.rmtree(folder)
    assert outcome.result is not None, outcome
    assert outcome.result["status"] == -signal.SIGSYS
    found = History()
    finished = events.ExecutionFinished(
        "x", outcome.status, json.dumps(outcome.result, separators=(",", ":")).encode(), "", "", "", 0, 1, 1, 1, ""
    )
    found.take(7, 1, finished)
    found.take(8, 1, finished._replace(result=b'{"status":-9,"x":"\\"status\\":-31"}'))
    (finding,) = found.findings(1)
    assert (finding.kind, finding.evidence) == ("security_violation", ("7",))


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("", "crash"),
        ("exception: ValueError at gate.py:7 dispatch", "crash"),
        ("exception: UnavailableError (LogFullError) at serve.py:111 _single", "audit_failure"),
        ("exception: UnavailableError (LogFailedError) at serve.py:111 _single", "audit_failure"),
    ],
)
def test_a_life_that_ended_since_the_log_took_nothing_is_no_mere_crash(cause: str, kind: str) -> None:
    """What to do is another: free the disk. One cause is of one life."""
    history = History(Limits(), lambda digest: True)
    started = events.RuntimeStarted("boot", "1", "3", "open", 0)
    history.take(1, 1, started)
    for index in (2, 4):
        if index == 2:
            history.take(2, 2, events.StepTaken("boot", "recover", "cause", "done", "", cause, 2))
        history.take(index + 1, 3, started)
        (found,) = history.findings(5)
        assert found.kind == (kind if index == 2 else "crash")
        assert (cause in found.detail) == (not cause or (kind == "audit_failure" and index == 2))
