"""What a stop takes with it when the log cannot be read any more, and a machine on which no claw would have room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from femtoclaw.home import Home
from femtoclaw.isolation.scratch import temporary_root
from femtoclaw.preflight import preflight
from femtoclaw.telemetry.following import Following
from tests.femtoclaw.simulated import POLICY, Simulated
from tests.femtoclaw.telemetered import Kept, nobody


def test_a_record_that_does_not_read_holds_up_no_stop() -> None:
    """Telemetry takes what is before it; the records after are nobody's that stops."""
    node = Simulated(policy=POLICY)
    node.intent("fs.read", path="a.txt")
    lines = Kept()
    following = Following(nobody, lines=lines, lines_from=1)  # type: ignore[arg-type]
    following._new_from = 1
    following.use(node.log, lambda: node.log.size)
    index = node.log.size - 1
    raw = bytearray(node.storage.records[index])
    raw[60] ^= 1
    node.storage.records[index] = bytes(raw)
    following.stop()
    assert lines.items and max(line["index"] for line in lines.items) < index


def test_a_machine_without_a_temporary_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As beneath a root file system that is read-only: health and preflight name it, before a claw finds no room."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    home = Home(str(tmp_path / "home"))
    assert [each.ok for each in preflight(home) if each.check == "temporary folder"] == [True]
    monkeypatch.setattr(os, "access", lambda *_: False)
    (found,) = [each for each in preflight(home) if each.check == "temporary folder"]
    assert not found.ok and not found.warning and "no claw" in found.text
    with pytest.raises(FileNotFoundError):
        temporary_root()
