"""``log`` and ``show`` over real homes: ids, kinds, times, bytes, stores, and an index that nobody has to trust."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgpack
import pytest

from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from tests.cli.node import READ, Answer, Node, call, environment
from tests.cli.test_bad_input import wait_for_start
from wal import open_log_directory

FAR_SECONDS = str(10**20 - 1)


def execution_ids(node: Node) -> list[str]:
    return [entry["execution_id"] for entry in node.call("log", "--kind", "InputReceived").objects]


def append(node: Node, *payloads: bytes, clock: Callable[[], int] = lambda: 1_900_000_000_000_000_000) -> int:
    """Records that a node of another version would have written; the index of the last."""
    log, _ = open_log_directory(str(node.path / "log"), signer=load_signer(Home(str(node.path))), clock=clock)
    try:
        return log.append(payloads).last
    finally:
        log.close()


def refusal(answer: Answer) -> tuple[str, str]:
    error = answer.body["error"]
    assert error["exit_code"] == answer.code
    assert error["remedy"]
    return error["what"], error["found"]


def test_the_ids_that_log_prints_are_the_ids_that_show_and_log_take(node: Node) -> None:
    """The whole id is on each line; it, its beginning and its end lead to the one execution."""
    ids = execution_ids(node)
    lines = node.call("log", "--kind", "InputReceived", human=True).stdout.splitlines()
    assert [line.split()[3] for line in lines] == ids
    for part in (ids[1], ids[1][:20], ids[1][-8:]):
        assert node.call("show", part).body["execution"]["execution_id"] == ids[1]
        entries = node.call("log", "--execution", part).objects
        assert {entry["execution_id"] for entry in entries} == {ids[1]}
        assert entries == node.call("show", part).body["trace"]


def test_an_id_that_fits_none_or_several(node: Node) -> None:
    """None: exit 1 with a hint. Several: exit 2 with the candidates. Neither prints a record."""
    ids = execution_ids(node)
    common = ids[0][:4]  # ids begin with the time in milliseconds: these digits change every few months
    for words in (("show",), ("log", "--execution"), ("log", "--store", "execution", "--execution")):
        assert refusal(node.call(*words, "nobody", expect=1)) == ("no such execution", "nobody")
        assert "femtoclaw log --kind InputReceived" in node.call(*words, "nobody", expect=1, human=True).stderr
        what, found = refusal(node.call(*words, common, expect=2))
        assert what == "several executions fit"
        assert all(one in found for one in ids)
        assert refusal(node.call(*words, "", expect=2))[0] == "nothing was given"


@pytest.mark.parametrize(
    "words",
    [("--kind", "Typo"), ("--kind", "²"), ("--kind", b"\xff"), ("--execution", b"\xff"), ("--capability", b"fs\xff"),
     ("--since", "9" * 5000), ("--since", "²"), ("--until", b"\xff"), ("--since", "2026-13-01"), ("--since", ""),
     ("--since", "-1"), ("--store", "nothing"), ("--store", b"\xff"), ("--store", "telemetry", "--kind", "InputReceived"),
     ("--store", "metadata", "--since", "1"), ("--store", "execution", "--kind", "InputReceived"),
     ("--store", "audit", "--follow")],
)  # fmt: skip
def test_mistakes_exit_with_2_and_say_what_is_expected(node: Node, words: tuple[str | bytes, ...]) -> None:
    """A typed error, nothing printed, no defect."""
    command = [*node.command("--json", "log"), *words]
    done = subprocess.run(command, capture_output=True, env=environment(), check=False)
    assert done.returncode == 2, done
    (error,) = [json.loads(line)["error"] for line in done.stdout.decode().splitlines()]
    assert error["exit_code"] == 2
    if words == ("--kind", "Typo"):
        assert {"AuthorizationDecided", "StateTransition", "log:recovered"} <= set(
            error["remedy"].removeprefix("give one of: ").split(", ")
        )


def test_times_at_the_ends_of_what_a_log_can_hold(node: Node) -> None:
    """Before 1970 is everything, the last second is nothing, and a record of the far future hides none of the others."""
    every = [entry["index"] for entry in node.call("log", "--limit", "0").objects]
    for words in (("--since", "1960-01-01"), ("--since", "0"), ("--until", FAR_SECONDS), ("--until", "9999-12-31")):
        assert [entry["index"] for entry in node.call("log", *words, "--limit", "0").objects] == every
    assert node.call("log", "--since", FAR_SECONDS).objects == []
    late = append(node, msgpack.packb([6, 1, "fs.read", "tester"]), clock=lambda: int(FAR_SECONDS))
    for words in (("--since", "2200-01-01"), ("--until", FAR_SECONDS), ("--until", "9999-12-31")):
        assert node.call("log", *words).objects[-1]["index"] == late
    assert len(node.call("log", "--since", "2200-01-01").objects) == 1
    assert len(node.call("log", "--kind", "AuthorizationDecided").objects) == 3
    assert node.call("log", "--store", "audit", "--since", "2200-01-01").objects[-1]["log_index"] == late


def test_bytes_and_text_that_looks_like_them_differ(node: Node) -> None:
    """A byte 0xff and the text \\xff are told apart, and both give the original bytes back."""
    originals = [b"\xff{", rb"\xff{", "ÿ{".encode()]
    for raw in originals:
        node.intent(raw, expect=1)
    contents = [entry["content"] for entry in node.call("log", "--kind", "InputReceived").objects][-3:]
    assert contents == [{"base64": base64.b64encode(b"\xff{").decode()}, r"\xff{", "ÿ{"]
    shown = [node.call("show", one).body["trace"][0]["content"] for one in execution_ids(node)[-3:]]
    assert [base64.b64decode(c["base64"]) if isinstance(c, dict) else c.encode() for c in shown] == originals
    text = node.call("show", execution_ids(node)[-3], human=True).stdout
    assert "finished_ns  20" in text  # a date for people
    assert f"base64:{base64.b64encode(originals[0]).decode()}" in text


def test_what_a_newer_program_wrote_is_passed_through(node: Node) -> None:
    """Unknown types and versions are printed raw with code and version; what is around them is printed as ever."""
    payloads = [msgpack.packb([99, 3, "news"]), msgpack.packb([26, 2, execution_ids(node)[0], "more"]), b"\xc1"]
    last = append(node, *payloads)
    told = [(entry["code"], entry["version"], base64.b64decode(entry["payload"]["base64"]))
            for entry in node.call("log", "--kind", "unknown").objects]  # fmt: skip
    assert told == [(99, 3, payloads[0]), (26, 2, payloads[1]), (-1, -1, payloads[2])]
    assert node.call("log", "--limit", "0").objects[-1]["index"] == last
    assert node.call("log", "--limit", "-1", expect=2).body["error"]["where"] == "--limit"
    assert "base64:" in node.call("log", human=True).stdout.splitlines()[-1]
    assert node.call("show", execution_ids(node)[0]).body["transitions"][-1] == "COMPLETED>IDLE"
    assert node.call("log", "--store", "audit", "--kind", "unknown").objects[0]["outcome"] == "type 99 version 3"


@pytest.mark.requirement("STORAGE-4.1", "STORAGE-8.1", "STORAGE-9.1", "STORAGE-7.1", "STORAGE-5.1")
def test_each_store_can_be_read(node: Node) -> None:
    """JSON lines with the fields of the register, text for people, and the same filters."""
    execution, *_ = executions = node.call("log", "--store", "execution").objects
    assert {row["status"] for row in executions} == {"success", "denied", "rejected", "answered"}
    assert {"execution_id", "capability", "arguments", "result", "status", "received_ns", "finished_ns"} <= set(
        execution
    )
    (one,) = node.call("log", "--store", "execution", "--execution", execution["execution_id"][:20]).objects
    assert one == execution
    audit = node.call("log", "--store", "audit", "--execution", execution["execution_id"], "--limit", "0").objects
    assert audit[0]["type"] == "InputReceived"
    assert len([row for row in audit if row["type"] == "StateTransition"]) == 7
    telemetry = node.call("log", "--store", "telemetry", "--kind", "authorization_decision").objects
    assert [row["status"] for row in telemetry] == ["AUTHORIZED", "DENIED_POLICY_VIOLATION", "AUTHORIZED"]
    configuration, policy = node.call("log", "--store", "configuration").objects
    assert (configuration["kind"], configuration["version"], policy["kind"]) == ("configuration", 1, "policy")
    assert policy["content"] == (node.path / "policy.cedar").read_text()
    metadata = {row["key"]: row["value"] for row in node.call("log", "--store", "metadata").objects}
    assert metadata["runtime_id"] == node.call("status").body["runtime_id"]
    assert (metadata["enabled.shell"], metadata["enabled.fs.write"]) == ("true", "false")
    for store in ("execution", "audit", "telemetry", "configuration", "metadata"):
        assert len(node.call("log", "--store", store, "--limit", "2").objects) == 2
        assert len(node.call("log", "--store", store, "--limit", "2", human=True).stdout.splitlines()) == 3


def spoil(node: Node, *statements: str) -> None:
    with closing(sqlite3.connect(node.path / "index" / "projections.db")) as db, db:
        for statement in statements:
            db.execute(statement)


def test_an_index_without_its_rows_gives_the_logs_answer(node: Node) -> None:
    """Deleted through SQLite: the operator is told, the answer is whole, and the next one says nothing of it."""
    asked = ("log", "--kind", "AuthorizationDecided")
    before = node.call(*asked).objects
    assert len(before) == 3
    spoil(node, "DELETE FROM audit_log")
    answer = node.call(*asked)
    assert answer.objects == before
    assert "was changed by another program: rebuilt from the log" in answer.stderr
    assert node.call(*asked).stderr == ""


def test_rebuild_finds_what_opening_trusts(node: Node) -> None:
    """Edited with every check kept right: exit 3 naming the store, once; afterwards the index is the log's again."""
    before = node.call("log", "--store", "execution").objects
    sound = node.call("log", "--rebuild").body
    assert (sound["sound"], sound["different"]) == (True, [])
    assert sound["stores"]["execution"]["rows"] == 4
    spoil(node, "UPDATE execution_log SET status = 'success'", "UPDATE position SET changes = changes + 1")
    assert node.call("verify").body["ok"]
    (finding,) = node.call("verify", "--deep", expect=3).body["findings"]
    assert (finding["code"], finding["found"]) == ("INDEX_DIFFERS", "execution")
    assert node.call("log", "--rebuild", expect=3).body["different"] == ["execution"]
    assert node.call("verify", "--deep").body["ok"]
    assert node.call("log", "--rebuild").body == sound
    assert node.call("log", "--store", "execution").objects == before


def test_an_index_that_cannot_be_used(node: Node) -> None:
    """A file where its directory should be: questions are answered from the log, and a rebuild says exit 4."""
    (node.path / "index").rmdir() if (node.path / "index").exists() else None
    (node.path / "index").write_text("")
    assert len(node.call("log", "--kind", "AuthorizationDecided").objects) == 3
    assert refusal(node.call("log", "--rebuild", expect=4))[0] == "the index cannot be used"


def test_many_readers_of_one_new_index(node: Node) -> None:
    """Processes that all find no index make one together: none fails, none answers less, none doubles a row."""
    for _ in range(3):
        node.intent(READ)
    words = node.command("--json", "log", "--kind", "AuthorizationDecided")
    asked = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) for _ in range(4)
    ]
    answers = [process.communicate() for process in asked]
    assert {len(out.splitlines()) for out, _ in answers} == {6}, answers
    assert [error for _, error in answers] == [b""] * 4
    assert node.call("log", "--rebuild").body["sound"]


def test_dropped_telemetry_is_told(node: Node) -> None:
    """The configuration's bound holds from its adoption on, and the number of dropped rows is said."""
    node.call("config", "set", "observability.telemetry_retention_events=5")
    node.intent(READ)
    answer = node.call("log", "--store", "telemetry", "--limit", "0")
    assert len(answer.objects) == 5
    dropped = answer.objects[0]["number"] - 1
    assert f"{dropped} older telemetry rows were dropped" in answer.stderr
    assert node.call("log", "--rebuild").body["telemetry_dropped"] == dropped


@pytest.mark.requirement("STORAGE-7.2", "STORAGE-13.1")
def test_after_a_kill_the_stores_are_told_and_agree(node: Node, tmp_path: Path) -> None:
    """The next start tells each store's head as a copy of the killed node gives it; telemetry and audit log give the
    same decisions and outcomes."""
    words = node.command("--json", "intent", json.dumps(call("shell", bin="sleep", argv=["30"])))
    busy = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=environment())
    try:
        wait_for_start(node)
    finally:
        busy.kill()
        busy.wait()
    before = node.copy(tmp_path / "copy").call("log", "--rebuild").body["stores"]
    node.call("recover")
    telemetry = node.call("log", "--store", "telemetry", "--limit", "0").objects
    recovery = [row for row in telemetry if row["event_type"] == "storage_recovery"][-4:]
    heads = {row["store"]: (row["sequence"], row["hash"]) for row in recovery}
    rows = node.call("log", "--limit", "0").objects
    begun = max(row["index"] for row in rows if row["type"] == "RuntimeStarted")
    recovered = [row for row in rows if before["audit"]["index"] < row["index"] < begun]
    assert {row["type"] for row in recovered} == {"StepTaken"}  # the recovery's own steps come first, for audit and telemetry
    told = {name: (before[name]["index"], before[name]["link"]) for name in ("execution", "configuration")}
    assert heads == told | dict.fromkeys(("audit", "telemetry"), (recovered[-1]["index"], recovered[-1]["link"]))
    assert set(heads) == {"execution", "audit", "telemetry", "configuration"}
    audit = node.call("log", "--store", "audit", "--limit", "0").objects
    told = [(row["execution_id"], row["status"]) for row in telemetry if row["event_type"] in TOLD]
    assert told == [(row["execution_id"], row["outcome"]) for row in audit if row["type"] in TOLD.values()]
    assert told[-1][1] == "outcome_unknown"


TOLD = {
    "authorization_decision": "AuthorizationDecided",
    "execution_complete": "ExecutionCompleted",
    "execution_failed": "ExecutionFailed",
}


def test_the_index_is_for_its_owner_only(node: Node) -> None:
    """It holds arguments and results: nobody else may read it."""
    node.call("log", "--kind", "InputReceived")
    assert Path(node.path / "index" / "projections.db").stat().st_mode & 0o777 == 0o600
