"""``backup`` where something is in the way: another key, a point that is not in a backup, no room, a kill while it verifies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from femtoclaw.backup.on_record import last
from femtoclaw.home import Home
from tests.cli.backed import Backed, ended, find_newest, make
from tests.cli.in_process import answer_here
from tests.cli.node import READ, START, Node, environment
from wal.errors import LogFullError
from wal.lmdb_storage import LmdbStorage
from wal.reader import read_log_directory

WAIT_S = 30


@pytest.fixture(scope="module")
def made(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Backed:
    return make(template, tmp_path_factory.mktemp("backed") / "at")


@pytest.fixture
def backed(made: Backed, tmp_path: Path) -> Backed:
    return made.moved(tmp_path / "at")


def test_another_recovery_key_is_a_wrong_option(made: Backed, tmp_path: Path) -> None:
    """Not a damaged backup. The key that it needs is the one that the list shows, to people too."""
    other = str(tmp_path / "other.key")
    Node(tmp_path / "nowhere").call("backup", "keygen", "--out", other)
    words = ("--from", str(made.place), "--key", other)
    verified = made.call("backup", "verify", *words, expect=2).body["error"]
    restored = made.call("backup", "restore", *words, "--to", str(tmp_path / "new"), expect=2).body["error"]
    assert verified["what"] == restored["what"] == "this backup is sealed to another recovery key"
    shown = made.call("backup", "list", "--from", str(made.place), human=True).stdout
    assert verified["expected"] in shown and "backup list" in verified["remedy"]


def test_another_recovery_key_comes_into_force_by_request_alone(backed: Backed, tmp_path: Path) -> None:
    """Not by a file that somebody puts there, nor by an option, nor without a word: backups go on under the one in force."""
    other = str(tmp_path / "other.key")
    theirs = Node(tmp_path / "nowhere").call("backup", "keygen", "--out", other).body["public_key"]
    public = other.replace(".key", ".pub")
    (backed.path / "recovery.pub").write_text(f"{theirs}\n")
    assert backed.backup()["recovery_key"] == backed.backup()["recovery_key"] != theirs
    create = ("backup", "create", "--to", str(backed.place))
    assert backed.call(*create, "--key", public, expect=2).body["error"]["what"] == "this recovery key is not in force"
    for words in (("--key", public), ("--out", str(tmp_path / "third.key"))):
        refused = backed.call("backup", "keygen", *words, expect=2).body["error"]
        assert refused["what"] == "a recovery key is in force here already" and "--replace" in refused["remedy"]
    assert not (tmp_path / "third.key").exists()
    file = backed.path / "keys" / "recovery.pub"
    kept = file.read_bytes()
    file.write_text(f"{theirs}\n")
    assert backed.call(*create, expect=3).body["error"]["where"] == str(file)
    file.write_bytes(kept)
    size = backed.call("status").body["size"]
    told = backed.call("backup", "keygen", "--key", public, "--replace").body
    assert (told["public_key"], told["replaced"], told["recorded_at"] > size) == (theirs, kept.decode().strip(), True)
    assert json.loads(ended(backed, "backup.create").content) == {"in_force": theirs, "replaced": kept.decode().strip()}
    made = backed.call(*create, "--key", public).body
    recorded = json.loads(ended(backed, "backup.create").content)
    assert made["recovery_key"] == recorded["recovery_key"] == theirs


def test_who_may_not_back_up_does_not_say_to_which_key(backed: Backed, tmp_path: Path) -> None:
    """And then no key is made."""
    key, new = tmp_path / "ada.key", tmp_path / "new.key"
    public = backed.call("operator", "keygen", "ada", "--out", str(key)).body["public_key"]
    backed.call("operator", "add", "ada", "--public-key", public, "--role", "ComplianceOfficer")
    backed.call("backup", "keygen", "--out", str(new), "--replace", "--operator-key", str(key), expect=1)
    assert not new.exists() and backed.backup()["recovery_key"] == find_newest(backed).recovery_key


def test_what_is_named_of_a_damaged_object_is_a_path(backed: Backed) -> None:
    gone = backed.objects()[0]
    gone.rename(gone.with_name("x"))
    assert backed.verify("--key", backed.key, expect=3)["error"]["where"] == str(gone)


@pytest.mark.parametrize(
    ("option", "point"), [("--at-index", "99999999"), ("--at-index", "0"), ("--at-time", "2099-01-01T00:00:00Z")]
)
def test_a_point_that_is_not_in_the_backup_is_refused(made: Backed, tmp_path: Path, option: str, point: str) -> None:
    """Nobody is told that all is there as was asked."""
    words = ("--from", str(made.place), "--key", made.key, "--to", str(tmp_path / "new"), option, point)
    for more in ((), ("--dry-run",)):
        refused = made.call("backup", "restore", *words, *more, expect=2).body["error"]
        assert (refused["what"], refused["where"]) == ("this backup does not reach as far as that", option)
    assert not (tmp_path / "new").exists()


def test_what_is_no_time_is_told_of_its_own_option(made: Backed, tmp_path: Path) -> None:
    words = ("--from", str(made.place), "--key", made.key, "--to", str(tmp_path / "new"), "--at-time", "yesterday")
    refused = made.call("backup", "restore", *words, expect=2).body["error"]
    assert (refused["what"], refused["where"]) == ("not a time", "--at-time")


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("restore", ("--known", "700")),
        ("restore", ("--nothing-newer",)),
        ("create", ("--at-index", "3")),
        ("verify", ("--at-index", "3")),
        ("resume", ("--at-index", "3")),
        ("prune", ("--id", "x")),
        ("list", ("--keep", "1")),
        ("keygen", ("--to", "x")),
    ],
)
def test_an_option_of_another_act_is_a_mistake(made: Backed, act: str, words: tuple[str, ...]) -> None:
    """Whoever gives it believes that it was heard."""
    refused = made.call("backup", act, *words, expect=2).body["error"]
    assert (refused["what"], refused["where"]) == (f"{words[0]} has no meaning here", f"backup {act}")


@pytest.mark.parametrize("option", ["--to", "--from"])
def test_a_place_without_a_name_is_not_the_current_folder(made: Backed, tmp_path: Path, option: str) -> None:
    """A variable that is not set, in a script."""
    act = "create" if option == "--to" else "list"
    refused = made.call("backup", act, option, "", expect=2).body["error"]
    assert (refused["what"], refused["where"]) == ("nothing was given", option)


def test_a_place_that_lost_all_its_backups_is_named(backed: Backed, tmp_path: Path) -> None:
    """Also where it is reached by a link; how many of the older ones were pruned rightly nobody can say."""
    newest = backed.backup()["id"]
    (tmp_path / "link").symlink_to(backed.place)
    for manifest in backed.place.rglob("manifests/*"):
        manifest.unlink()
    for place in (backed.place, tmp_path / "link"):
        assert backed.call("backup", "list", "--from", str(place), expect=3).body["lacking"] == [newest]
    (tmp_path / "other").mkdir()
    assert backed.call("backup", "list", "--from", str(tmp_path / "other")).body["lacking"] == []


def test_a_backup_that_is_on_record_and_not_in_the_place_is_named(backed: Backed) -> None:
    """By the log of the home: the newest is gone, or one between. What is older than all that is there was pruned, perhaps."""
    made = [find_newest(backed).id, backed.backup()["id"], backed.backup()["id"]]
    manifests = sorted(backed.place.rglob("manifests/*"))
    place = ("--from", str(backed.place))
    kept = manifests[2].read_bytes()
    manifests[2].unlink()
    assert backed.call("backup", "list", *place, expect=3).body["lacking"] == [made[2]]
    body = backed.verify(expect=3)
    assert (body["ok"], body["id"], body["lacking"]) == (True, made[1], [made[2]])
    assert backed.verify("--id", made[1])["lacking"] == [made[2]]
    assert Node(backed.path.parent / "nowhere").call("backup", "list", *place).body["lacking"] == []
    manifests[2].write_bytes(kept)
    manifests[0].unlink()
    assert backed.call("backup", "list", *place).body["lacking"] == []


def test_that_backups_stopped_is_told(
    template: Node, backed: Backed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the log's own records, once one was made: a warning, not a node that is unhealthy. The home's note is not believed by
    itself, and not needed for a new one."""
    never = template.copy(tmp_path / "never")
    assert never.call("status").body["last_backup"] is None
    assert backups(never) == ("ok", "no backup is on record")
    made = backed.backup()
    last = backed.call("status").body["last_backup"]
    assert (last["id"], last["size"], last["place"], last["age_s"] < 600) == (
        made["id"],
        made["size"],
        str(backed.place),
        True,
    )
    assert backups(backed)[0] == "ok"
    (backed.path / "backup.json").write_text('{"index": 1}')
    assert backed.call("status").body["last_backup"]["id"] == made["id"]
    backed.call("config", "set", "observability.backup_age_s=1")
    recorded = on_record(backed)
    for later_ns, expected in ((10**9, "ok"), (10**9 + 1, "warning")):
        monkeypatch.setattr(time, "time_ns", lambda later_ns=later_ns: recorded + later_ns)
        checks = answer_here(backed.path, "health").body["checks"]
        (check,) = [each for each in checks if each["name"] == "backups"]
        assert check["result"] == expected and "than 1 s" in check["text"]


def on_record(node: Node) -> int:
    """When the last backup was made."""
    home = Home(str(node.path))
    with contextlib.closing(read_log_directory(home.log)) as reader:
        found = last(home, reader)
    assert found is not None
    return found.time_ns


def backups(node: Node) -> tuple[str, str]:
    """What ``health`` says of them."""
    (check,) = [each for each in node.call("health", expect=None).body["checks"] if each["name"] == "backups"]
    return check["result"], check["text"]


def test_no_room_is_told_of_what_has_none(backed: Backed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of the node's own log, nor of an archive: of the place that was named."""

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def no_room(*_: object) -> None:
        raise LogFullError("the LMDB map is full", where="here")

    with monkeypatch.context() as patch:
        patch.setattr(LmdbStorage, "append", no_room)
        told = backed.verify("--key", backed.key, "--work", str(tmp_path), expect=4)["error"]
    assert told["where"].startswith(str(tmp_path / "femtoclaw-verify-")) and "--work" in told["remedy"]
    assert "map_bytes" not in str(told)
    assert list(tmp_path.glob("femtoclaw-verify-*")) == []
    with monkeypatch.context() as patch:
        patch.setattr("cluster.archive_folder._put", full)
        told = backed.call("backup", "create", "--to", str(backed.place), expect=4).body["error"]
    assert told["what"] == "the place of the backups cannot be used" and "archive" not in str(told)
    assert ended(backed, "backup.create").detail == told["what"]


SLOW = """
import signal
from femtoclaw.backup import verifying
verifying.fold = lambda log: signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_killed_verification_left_goes(made: Backed, tmp_path: Path, number: signal.Signals) -> None:
    """The restored log is plain: one that is asked to end removes it, and the next removes what a kill left; what another process
    is at work with stays."""
    words = ["--json", "--home", str(made.path), "backup", "verify", "--from", str(made.place), "--key", made.key]
    words += ["--work", str(tmp_path)]
    processes = [_paused(words, tmp_path, count) for count in (1, 2)]
    try:
        ends, stays = processes
        ends.send_signal(number)
        ends.wait(WAIT_S)
        left = len(list(tmp_path.glob("femtoclaw-verify-*")))
        assert left == (1 if number == signal.SIGTERM else 2)
        assert made.call(*words[3:])
        assert len(list(tmp_path.glob("femtoclaw-verify-*"))) == 1
        stays.send_signal(signal.SIGTERM)
        assert stays.wait(WAIT_S) == 5
        assert list(tmp_path.glob("femtoclaw-verify-*")) == []
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _paused(words: list[str], work: Path, count: int) -> subprocess.Popen[bytes]:
    """A verification that waits with all of the log restored."""
    process = subprocess.Popen([sys.executable, "-c", SLOW + START, *words], env=environment(), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    until = time.monotonic() + WAIT_S
    while len(list(work.glob("femtoclaw-verify-*/log/cluster/restored"))) < count:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    return process


@pytest.mark.requirement("STORAGE-22.1")
def test_a_log_that_was_put_back_adds_no_backup_and_takes_none_away(backed: Backed, tmp_path: Path) -> None:
    """The newer backup may be all that is left of what was acknowledged: every command about the place names it; also when the log
    has gone on, with other records of the same numbers."""
    shutil.copytree(backed.path, tmp_path / "old", symlinks=True)
    backed.intent(READ)
    newest, place = backed.backup(), ("--from", str(backed.place))
    shutil.rmtree(backed.path)
    shutil.move(tmp_path / "old", backed.path)
    for why in ("the log was put back or cut", "two nodes went on with one log"):
        refused = backed.call("backup", "create", "--to", str(backed.place), expect=3).body["error"]
        assert newest["id"] in refused["where"] and why in refused["found"]
        assert backed.call("backup", "list", *place, expect=3).body["other_histories"] == [newest["id"]]
        for words in ((), ("--dry-run",)):
            told = backed.call("backup", "prune", *place, "--keep", "1", *words, expect=3).body["error"]
            assert why in told["found"]
        while backed.call("status").body["size"] <= newest["size"]:
            backed.intent(READ)
    assert backed.verify("--key", backed.key, expect=3)["other_histories"] == [newest["id"]]
    assert len(backed.call("backup", "list", *place, expect=3).body["backups"]) == 2, "nothing went"


def test_a_log_from_before_a_rotation_is_found_put_back_too(backed: Backed, tmp_path: Path) -> None:
    """The newer backup is signed by a key that such a log has never had."""
    shutil.copytree(backed.path, tmp_path / "old", symlinks=True)
    backed.call("key", "rotate")
    newest = backed.backup()
    shutil.rmtree(backed.path)
    shutil.move(tmp_path / "old", backed.path)
    assert newest["id"] in backed.call("backup", "create", "--to", str(backed.place), expect=3).body["error"]["where"]
    listed = backed.call("backup", "list", "--from", str(backed.place), expect=3).body
    assert listed["other_histories"] == [newest["id"]]


def test_an_older_backup_with_more_records_does_not_go(backed: Backed, tmp_path: Path) -> None:
    """Also where no node is at hand: its name says what it holds."""
    shutil.copytree(backed.path, tmp_path / "old", symlinks=True)
    backed.intent(READ)
    larger = backed.backup()
    shutil.rmtree(backed.path)
    shutil.move(tmp_path / "old", backed.path)
    name = next(backed.place.rglob(f"manifests/*{larger['id']}*"))
    name.rename(tmp_path / "aside")
    backed.backup()
    (tmp_path / "aside").rename(name)
    nobody = Node(tmp_path / "nowhere")
    words = ("backup", "prune", "--from", str(backed.place))
    refused = nobody.call(*words, "--keep", "1", expect=3).body["error"]
    assert larger["id"] in refused["where"] and "--keep 2" in refused["remedy"]
    assert nobody.call(*words, "--keep", "2").body["manifests"] == 1
