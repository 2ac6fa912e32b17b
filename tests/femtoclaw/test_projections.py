"""The five stores are projections: kept up, rebuilt from the log to equal content, replaced when not sound."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.projections import database
from femtoclaw.projections.binding import CHANGED, DAMAGED, FOREIGN, OUTDATED
from femtoclaw.projections.consulting import compare, consult, rebuild
from femtoclaw.projections.database import Projections
from femtoclaw.projections.queries import select
from tests.femtoclaw.projected import adopt_retention, content, interrupted_node, projected
from tests.femtoclaw.simulated import Simulated
from tests.femtoclaw.test_replay import worked


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "index" / "projections.db")


@pytest.mark.requirement("STORAGE-9.2")
def test_a_deleted_projection_is_rebuilt_equal(file: str) -> None:
    """The five stores come back from the log to the same content after the file is gone."""
    node = worked()
    before = projected(node, file)
    Path(file).unlink()
    assert projected(node, file) == before
    assert all(before.values())


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_the_pieces_in_which_the_log_is_taken_do_not_matter(
    file: str, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Catching up after every intent, in small transactions, under changing bounds on telemetry: the same rows."""
    monkeypatch.setattr(database, "CHUNK_RECORDS", chunk)
    monkeypatch.setattr(database, "BATCH_RECORDS", 3)
    node = Simulated()
    with closing(Projections(file)) as pieces:
        for number, kept in enumerate((50, 7, 3, 900)):
            adopt_retention(node, kept)
            node.intent("fs.read", path=f"{number}")
            pieces.catch_up(node.log)
        assert pieces.catch_up(node.log) == 0
        assert pieces.damaged_batches() == []
        found = content(pieces)
    monkeypatch.undo()
    assert found == projected(node)


def test_every_opening_goes_on_where_the_last_one_stopped(file: str) -> None:
    """Stopped and opened again every few records, in the middle of appends and of executions: the same rows."""
    node = interrupted_node()
    for size in [*range(1, node.log.size, 3), node.log.size]:
        with closing(Projections(file)) as projections:
            projections.catch_up(node.log, size)
            assert projections.replaced == ""
    assert projected(node, file) == projected(node)


def test_what_another_process_has_projected_is_not_projected_again(file: str) -> None:
    """Two that began at the same place: the slower one takes up what the quicker one wrote, and goes on behind it."""
    node = worked()
    with closing(Projections(file)) as quick, closing(Projections(file)) as slow:
        quick.catch_up(node.log)
        node.intent("fs.read", path="later")
        slow.catch_up(node.log)
        assert content(slow) == projected(node)
    assert compare(file, node.log).sound


def damage_page(file: str, table: str) -> None:
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(file)) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    with open(file, "r+b") as opened:
        opened.seek((page - 1) * size)
        opened.write(b"\xee" * size)


def execute(file: str, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as db, db:
        for statement in statements:
            db.execute(statement)


SAME_CHANGES = "UPDATE position SET changes = changes + 1"
"""What somebody adds who knows of the change counter."""


SPOILED: dict[str, tuple[Callable[[str], object], str]] = {
    "no database": (lambda file: Path(file).write_bytes(b"this is no database" * 100), DAMAGED),
    "cut short": (lambda file: os.truncate(file, 5000), DAMAGED),
    "audit lines deleted": (lambda file: execute(file, "DELETE FROM audit_log"), CHANGED),
    "an audit line edited": (
        lambda file: execute(file, "UPDATE audit_log SET type = 'x' WHERE log_index = 9"),
        CHANGED,
    ),
    "deleted with the counter kept right": (
        lambda file: execute(file, "DELETE FROM audit_log WHERE log_index = 20", SAME_CHANGES),
        DAMAGED,
    ),
    "rows deleted where no counter counts": (
        lambda file: execute(file, "PRAGMA journal_mode = wal", SAME_CHANGES, "DELETE FROM telemetry WHERE number = 5"),
        CHANGED,
    ),
    "no position": (lambda file: execute(file, "DELETE FROM position"), DAMAGED),
    "other rules": (lambda file: execute(file, "UPDATE position SET rules = '1:'", SAME_CHANGES), OUTDATED),
    "another schema": (lambda file: execute(file, "PRAGMA user_version = 77"), OUTDATED),
    "another link": (lambda file: execute(file, "UPDATE position SET link = x'00'", SAME_CHANGES), FOREIGN),
    "another log's id": (lambda file: execute(file, "UPDATE position SET log_id = x'00'", SAME_CHANGES), FOREIGN),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_file_that_is_not_what_was_written_is_replaced(file: str, name: str) -> None:
    """Whatever was done to it, the next answer is the log's, and the operator can be told why."""
    node = worked()
    expected = projected(node, file)
    spoil, why = SPOILED[name]
    spoil(file)
    with closing(Projections(file)) as projections:
        projections.catch_up(node.log)
        assert projections.replaced == why
        assert content(projections) == expected
    with closing(Projections(file)) as projections:
        assert projections.replaced == ""
        assert projections.catch_up(node.log) == 0


def test_another_logs_projection_is_replaced(file: str) -> None:
    """A file that a different log made, shorter or longer, is no answer for this one."""
    node, other = worked(), Simulated(seed=9)
    other.intent("fs.read", path="other")
    expected = projected(node, file)
    assert projected(other, file) != expected
    assert projected(node, file) == expected


def test_damage_that_a_question_meets_is_mended_once(file: str) -> None:
    """Pages that opening does not look at: the answer is right, the file is new, and the next question reads it."""
    node = worked()
    expected = projected(node, file)
    damage_page(file, "telemetry")
    notes: list[str] = []

    def question(projections: Projections) -> list[dict[str, Any]]:
        return select(projections, "telemetry")

    assert consult(file, node.log, question, notes.append) == expected["telemetry"]
    assert ["rebuilt" in note for note in notes] == [True]
    assert consult(file, node.log, question, notes.append) == expected["telemetry"]
    assert len(notes) == 1


FORGED = {
    "an execution in no state": "INSERT INTO execution_log (execution_id, state) VALUES ('x', 'NOWHERE')",
    "a position of another type": "UPDATE position SET telemetry_rows = 'many'",
    "rows behind the position": "INSERT INTO telemetry (number) VALUES (100000), (1 + (SELECT max(number) FROM telemetry))",
}


@pytest.mark.parametrize("name", FORGED)
def test_what_goes_on_from_a_forged_row_is_damage(file: str, name: str) -> None:
    """Made with the counter kept right: going on fails, the file is derived again, and the answer is the log's."""
    node = worked()
    projected(node, file)
    execute(file, FORGED[name], SAME_CHANGES)
    node.intent("fs.read", path="later")
    notes: list[str] = []
    assert consult(file, node.log, content, notes.append) == projected(node)
    assert ["is damaged" in note for note in notes] == [True]


def test_a_place_that_cannot_be_written_is_told_and_answered_from_the_log(tmp_path: Path) -> None:
    """No directory can be made below a file: the answer comes from memory."""
    node = worked()
    (tmp_path / "index").write_text("")
    notes: list[str] = []
    rows = consult(str(tmp_path / "index" / "p.db"), node.log, lambda kept: select(kept, "audit"), notes.append)
    assert rows == projected(node)["audit"]
    assert ["cannot be used" in note for note in notes] == [True]


def test_a_comparison_finds_what_no_quick_check_can(file: str) -> None:
    """An edit that keeps counter and digests right: opening trusts it, deriving again finds and mends it."""
    node = worked()
    expected = projected(node, file)
    assert compare(file, node.log).sound
    execute(file, "UPDATE execution_log SET decision = 'AUTHORIZED'", SAME_CHANGES)
    with closing(Projections(file)) as projections:
        assert projections.replaced == ""
    compared = compare(file, node.log)
    assert (compared.sound, compared.different, compared.replaced) == (False, ("execution",), "")
    assert rebuild(file, node.log).different == ("execution",)
    assert compare(file, node.log).sound
    assert projected(node, file) == expected


def test_a_comparison_replaces_a_file_that_cannot_be_read_through(file: str) -> None:
    """Damage that only reading everything meets: told as damage, and mended."""
    node = worked()
    expected = projected(node, file)
    damage_page(file, "telemetry")
    compared = compare(file, node.log)
    assert (compared.sound, compared.replaced) == (False, DAMAGED)
    assert compare(file, node.log).sound
    assert projected(node, file) == expected


def test_a_comparison_tells_of_a_replaced_file(file: str) -> None:
    """Deleted rows are noticed on opening, so the comparison itself finds nothing: the reason tells."""
    node = worked()
    projected(node, file)
    execute(file, "DELETE FROM audit_log")
    compared = compare(file, node.log)
    assert (compared.sound, compared.replaced) == (False, CHANGED)
    assert compare(file, node.log).sound
