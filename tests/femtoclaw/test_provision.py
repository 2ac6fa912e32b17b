"""``init`` at the places people have: new, empty, mounted, linked, not ours, cut in the middle, and twice at once."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from femtoclaw import boot
from femtoclaw.errors import ConfigurationError, FemtoClawError, PolicyError
from femtoclaw.home import Home, effective_configuration, require
from femtoclaw.place import MADE, _mark, unfinished
from femtoclaw.policy import default_policy
from femtoclaw.provision import initialize
from femtoclaw.sources import Sources, live
from tests.cli.node import ROOT, START, environment

POLICY = '@id("read") permit (principal, action == Action::"fs.read", resource);\n'
SOURCES = live()
NOBODY = 65534


def init(path: Path, **changes: Any) -> dict[str, Any]:
    wanted = {"enable": ["fs.read"], "binaries": [], "policy": POLICY, "operator": "tester", "sources": SOURCES}
    return initialize(Home(str(path)), **(wanted | changes))


def works(path: Path) -> None:
    """It starts and stops, and nothing is in it but a home."""
    boot.stop(boot.start(Home(str(path)), SOURCES), "done")
    members_only = {"cluster", "cluster.toml"}
    assert set(os.listdir(path)) - {"lost+found"} == {*MADE, "boot.journal"} - {"log.new"} - members_only


def command(path: Path, *words: str) -> list[str]:
    return [sys.executable, "-c", START, "--home", str(path), *words]


def test_places_where_a_home_can_be_made(tmp_path: Path) -> None:
    """Nothing, an empty directory, a link to one, a link to nothing, a volume with its own folder: each becomes a home."""
    new, empty, target, link, dangling = (tmp_path / name for name in ("new", "empty", "target", "link", "dangling"))
    empty.mkdir()
    target.mkdir()
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "later")
    volume = tmp_path / "volume"
    (volume / "lost+found").mkdir(parents=True)
    for place in (new, empty, link, dangling, volume):
        before = place.stat().st_ino if place.is_dir() else None
        made = init(place)
        assert made["home"] == str(place)
        assert before in (None, place.stat().st_ino)
        works(place)
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["dangling", "empty", "later", "link", "new", "target", "volume"]


@pytest.mark.parametrize("kind", ["file", "occupied", "link to a file", "home"])
def test_what_is_there_is_never_touched(tmp_path: Path, kind: str) -> None:
    """A file, something of somebody's, and a node: refused, with mode, names and bytes as they were."""
    place = tmp_path / "place"
    if kind == "home":
        init(place)
    elif kind == "occupied":
        place.mkdir(mode=0o777)
        place.chmod(0o777)
        (place / "keys").mkdir()
        (place / "keys" / "mine").write_text("mine")
    else:
        (tmp_path / "file").write_text("mine")
        place = tmp_path / "file" if kind == "file" else place
        if kind != "file":
            place.symlink_to(tmp_path / "file")

    def seen() -> list[tuple[str, int, bytes]]:
        return [(str(p), p.stat().st_mode, p.read_bytes() if p.is_file() else b"") for p in tmp_path.rglob("*")]

    before = seen()
    with pytest.raises(ConfigurationError):
        init(place)
    assert seen() == before


@pytest.mark.parametrize("existing", [False, True])
def test_an_init_that_fails_leaves_the_place_as_it_was(tmp_path: Path, existing: bool) -> None:
    """A policy that does not parse is found late: what was built by then is gone."""
    place = tmp_path / "place"
    if existing:
        place.mkdir()
        place.chmod(0o775)
    with pytest.raises(PolicyError):
        init(place, policy="permit (")
    assert place.exists() == existing
    if existing:
        assert os.listdir(place) == []
        assert stat.S_IMODE(place.stat().st_mode) == 0o775
    init(place)
    works(place)


def test_parents_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask: with 000 no part of a new path, and nothing in the home, is open to others."""
    done = subprocess.run(
        ["sh", "-c", 'umask 000; exec "$@"', "sh", *command(tmp_path / "a" / "b" / "home", "init", "--json")],
        capture_output=True, env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for path in tmp_path.rglob("*"):
        allowed = 0o644 if path.name == "node.pub" else 0o700
        assert stat.S_IMODE(path.stat().st_mode) & ~allowed == 0, path
    boot.stop(boot.start(Home(str(tmp_path / "a" / "b" / "home")), SOURCES), "done")


def test_a_umask_that_takes_the_owners_rights(tmp_path: Path) -> None:
    """With 777 the directories on the way to a home, and the home, are the owner's to use all the same."""
    path = tmp_path / "a" / "home"
    script = f"import os; os.umask(0o777); from femtoclaw.place import _make_directory; _make_directory({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path)] == [0o700, 0o700]


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
def test_a_directory_of_ours_below_one_that_is_not(tmp_path: Path) -> None:
    """Somebody may write in their directory and not beside it."""
    parent = Path("/var/tmp") / f"femtoclaw-provision-{os.getpid()}"
    home = parent / "home"
    home.mkdir(parents=True)
    try:
        os.chown(home, NOBODY, NOBODY)
        parent.chmod(0o755)
        script = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.femtoclaw.test_provision import init, works, Path
init(Path({str(tmp_path / "first")!r})); works(Path({str(tmp_path / "first")!r}))  # what Python loads, nobody may not read
os.setgid({NOBODY}); os.setuid({NOBODY})
assert not os.access({str(parent)!r}, os.W_OK)
init(Path({str(home)!r})); works(Path({str(home)!r}))
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment(), check=False)
        assert done.returncode == 0, done.stderr.decode()
        assert {entry.stat().st_uid for entry in home.rglob("*")} == {NOBODY}
    finally:
        shutil.rmtree(parent)


def test_an_empty_mounted_volume(tmp_path: Path) -> None:
    """A mount point can neither be removed nor renamed over: the home is made inside of it."""
    place = tmp_path / "volume"
    place.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    words, status = (shlex.join(command(place, *words)) for words in (["init", "--json"], ["status"]))
    script = f"mount -t tmpfs -o size=40m,mode=0777 none {place} || exit 77; {words} && {status}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, env=environment(), check=False)
    if done.returncode == 77 or b"unshare" in done.stderr:
        pytest.skip("this process may not mount a file system")
    assert done.returncode == 0, done.stderr
    assert b"last_stop" in done.stdout


def test_an_init_that_is_killed_is_recognised_and_begins_anew(tmp_path: Path, seed: int) -> None:
    """``kill -9`` at any moment: no command takes what is there for a home, and the next ``init`` makes one of it."""
    seen = set()
    for number in range(6):
        place = tmp_path / f"home{number}"
        wanted = [place / "init.unfinished", place / "keys" / "node.key", place / "log.new" / "data",
                  place / "log" / "data", place / "workspace", place / "policy.cedar"][number]  # fmt: skip
        child = subprocess.Popen(
            command(place, "init", "--json"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
        )
        deadline = time.monotonic() + 20
        while not wanted.exists() and child.poll() is None and time.monotonic() < deadline:
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
        if (place / "init.unfinished").exists():
            seen.add("cut")
            with pytest.raises(ConfigurationError, match="init"):
                require(Home(str(place)))
            init(place)
        elif not (place / "manifest.json").exists():
            init(place)
        works(place)
    assert seen == {"cut"}, f"no kill met an init at work (seed {seed})"


@pytest.mark.parametrize("left", ["keys/.new-index.note", "keys/.new-node.key", ".new-femtoclaw.toml", ".new-manifest.json"])
def test_a_file_that_an_init_had_not_finished_is_its_own(tmp_path: Path, left: str) -> None:
    """Killed between the file's temporary name and its own: the next ``init`` begins anew, and nothing is left of it."""
    place = tmp_path / "home"
    (place / "keys").mkdir(parents=True, mode=0o700)
    place.chmod(0o700)
    (place / "init.unfinished").write_bytes(b"")
    (place / left).write_bytes(b"half of it")
    init(place)
    assert not (place / left).exists()
    works(place)


def test_two_inits_at_once_make_one_node(tmp_path: Path) -> None:
    """One makes the home; the others are refused and take nothing of it away."""
    for number in range(8):
        place = tmp_path / f"home{number}"
        place.mkdir()
        outcomes: list[object] = []

        def one(place: Path = place, outcomes: list[object] = outcomes) -> None:
            try:
                outcomes.append(init(place)["runtime_id"])
            except FemtoClawError as error:
                outcomes.append(type(error))

        threads = [threading.Thread(target=one) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert outcomes.count(ConfigurationError) == 2, outcomes
        works(place)


@pytest.mark.parametrize("kind", ["worked", "only its log", "file", "key", "work", "index"])
def test_a_stray_marker_destroys_nothing(tmp_path: Path, kind: str) -> None:
    """A marker beside what no ``init`` makes: refused, the thing is named, and all of it is as it was."""
    place = tmp_path / "home"
    init(place)
    if kind in ("worked", "only its log"):
        boot.stop(boot.start(Home(str(place)), SOURCES), "done")
    if kind == "only its log":
        (place / "boot.journal").unlink()
    strange = {"worked": "boot.journal", "only its log": "log", "file": "mine", "key": "keys/mine",
               "work": "workspace/mine", "index": "index"}[kind]  # fmt: skip
    if kind == "index":
        (place / "index").mkdir()
    elif not (place / strange).exists():
        (place / strange).write_text("mine")
    (place / "init.unfinished").touch()

    def seen() -> dict[str, bytes]:  # lock.mdb holds LMDB's table of readers
        found = [path for path in place.rglob("*") if path.is_file() and path.name != "lock.mdb"]
        return {str(path): path.read_bytes() for path in found}

    before = seen()
    with pytest.raises(ConfigurationError) as caught:
        init(place)
    assert caught.value.found == strange
    assert str(place / "init.unfinished") in str(caught.value.remedy)
    assert seen() == before
    if kind in ("worked", "only its log"):  # as the remedy says
        (place / "init.unfinished").unlink()
        boot.stop(boot.start(Home(str(place)), SOURCES), "done")


def test_a_marker_on_a_whole_home_that_never_worked_begins_anew(tmp_path: Path) -> None:
    """As a crash before the marker goes leaves it: nothing is refused."""
    first = init(tmp_path / "home")
    (tmp_path / "home" / "init.unfinished").touch()
    assert init(tmp_path / "home")["runtime_id"] != first["runtime_id"]
    works(tmp_path / "home")


def test_a_marker_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Opening one to write would wait for a reader."""
    os.mkfifo(tmp_path / "init.unfinished")
    done = subprocess.run(
        command(tmp_path, "init", "--json"), capture_output=True, env=environment(), check=False, timeout=20
    )
    assert done.returncode == 2, done.stderr
    assert b"a regular file" in done.stderr
    assert os.listdir(tmp_path) == ["init.unfinished"]


def test_a_marker_of_a_living_init_is_not_taken_over(tmp_path: Path) -> None:
    """While one is at work another is refused, and finds nothing to remove."""
    place = Home(str(tmp_path / "home"))
    with unfinished(place):
        (tmp_path / "home" / "workspace").mkdir()
        with pytest.raises(ConfigurationError, match="at work"):
            init(tmp_path / "home")
        assert (tmp_path / "home" / "workspace").is_dir()
    assert os.listdir(place.path) == ["workspace"]


def test_what_came_while_the_marker_was_put_up_is_not_ours(tmp_path: Path) -> None:
    """Another one began and finished since we looked: nothing of it is taken, and the marker is gone again."""
    (tmp_path / "keys").mkdir()
    with pytest.raises(ConfigurationError, match="something here"):
        _mark(Home(str(tmp_path)))
    assert os.listdir(tmp_path) == ["keys"]


def test_the_last_things_made_durable_are_the_keys_the_home_and_its_name(tmp_path: Path) -> None:
    """By the system calls: a folder of keys is synced after the last file in it, the home after its last file, and the
    marker goes after all of that."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    trace = tmp_path / "trace"
    words = ["strace", "-f", "-y", "-o", str(trace), "-e", "trace=fsync,rename,renameat,unlink,unlinkat"]
    done = subprocess.run(
        [*words, *command(tmp_path / "new" / "home", "init", "--json")], capture_output=True, env=environment(),
        check=False,
    )  # fmt: skip
    if done.returncode != 0 and b"ptrace" in done.stderr:
        pytest.skip("this process may not trace another")
    lines = trace.read_text().splitlines()
    home = str(tmp_path / "new" / "home")

    def last(*parts: str) -> int:
        return max(number for number, line in enumerate(lines) if all(part in line for part in parts))

    written = last("fsync", f"<{home}/manifest.json>")
    marker = last("unlink", "init.unfinished")
    synced = [number for number, line in enumerate(lines) if "fsync" in line and f"<{home}>" in line]
    assert last("rename", "/keys/index.note") < last("fsync", f"<{home}/keys>") < marker
    assert last("fsync", f"<{home}/keys/node.pub>") < last("fsync", f"<{home}/keys>")
    assert last("fsync", f"<{home}/keys/operators/") < last("fsync", f"<{home}/keys/operators>") < marker
    assert any(written < number < marker for number in synced)
    assert max(synced) > marker
    for folder in (tmp_path, tmp_path / "new"):
        assert last("fsync", f"<{folder}>") < written


@pytest.mark.parametrize("binary", ["echo", "/no/such", "/bin", "/etc/passwd", "", "/bin/\udcff"])
def test_a_program_that_cannot_be_run_is_refused(tmp_path: Path, binary: str) -> None:
    """Not absolute, not there, a folder, not to be executed, not UTF-8: told before anything is made."""
    with pytest.raises(ConfigurationError) as caught:
        init(tmp_path / "home", enable=["shell"], binaries=["/bin/sh", binary])
    assert caught.value.where == "--binary"
    assert os.listdir(tmp_path) == []


def test_a_clock_before_1970_is_refused(tmp_path: Path) -> None:
    """A record cannot hold its time."""
    with pytest.raises(ConfigurationError, match="clock"):
        init(tmp_path / "home", sources=Sources(lambda: -1, SOURCES.elapsed_ns, SOURCES.new_id))
    assert os.listdir(tmp_path) == []


def test_a_workspace_that_became_a_link_starts_nothing(tmp_path: Path) -> None:
    """What a link names changes without an operator: claws would read another folder than the recorded one."""
    home = Home(str(tmp_path / "home"))
    initialize(home, enable=[], binaries=[], policy=default_policy(), operator="tester", sources=live())
    os.rmdir(home.inside("workspace"))
    os.symlink("/etc", home.inside("workspace"))
    with pytest.raises(ConfigurationError, match="a link"):
        effective_configuration(home, None)
