"""A node whose memory changed ends by itself: whether a caller is still told why is a matter of which of the two comes first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.errors import OutcomeUnknownError
from femtoclaw.compliance import faults
from femtoclaw.compliance.checking import NotSoError
from femtoclaw.compliance.checks_faults import a_changed_record_stops_everything
from femtoclaw.compliance.faults import FLIPPED, NEEDLE, faulted
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.twin import Serving


class _Gone:
    """The other end of a connection whose node ends with the first call."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def intent(self, raw: bytes) -> Any:
        if NEEDLE in raw:
            return SimpleNamespace(outcome="success")
        self.process.wait(20)
        raise OutcomeUnknownError("the request was sent, and what became of it is not known")


@pytest.mark.parametrize("code", [0, 4])
def test_a_node_that_ended_between_two_calls_is_not_asked_on(tmp_path: Path, code: int) -> None:
    """Its exit code tells what no call was told."""
    (tmp_path / "log" / "data").mkdir(parents=True)
    store = tmp_path / "log" / "data" / "data.mdb"
    store.write_bytes(b"before " + NEEDLE + b" behind")
    process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    found = faults._flipped(Serving(process, _Gone(process)), str(tmp_path))  # type: ignore[arg-type]
    assert found["changed"] == 1 and FLIPPED in store.read_bytes() and found["steps"] == 0
    assert found["refused"].endswith(f"the node has ended with exit {code}") and found["again"] == "OutcomeUnknownError"


@pytest.mark.requirement("ERROR-8.1")
@pytest.mark.parametrize("code", [0, 4])
def test_only_the_exit_of_a_refused_node_counts(laboratory: Laboratory, code: int) -> None:
    """A node that ended as if all was well has refused nothing."""
    measured = laboratory.once(faulted)
    flip = {**measured.found["flip"], "refused": f"OutcomeUnknownError: gone; the node has ended with exit {code}"}
    replaced = laboratory.replaced(faulted, measured._replace(found={**measured.found, "flip": flip}))
    if code == 4:
        assert "exit 4" in a_changed_record_stops_everything(replaced)
    else:
        with pytest.raises(NotSoError, match="no call taken any more"):
            a_changed_record_stops_everything(replaced)
