"""The shipped claws on real files and programs; what must not work does not."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.claws import SHIPPED
from femtoclaw.isolation import Isolation, Outcome
from femtoclaw.manifest import Limits

BY_NAME = {manifest.name: manifest for manifest in SHIPPED}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "workspace").mkdir()
    (folder / "secret").write_text("outside")
    return folder


@pytest.fixture(scope="module")
def isolation(place: Path) -> Iterator[Isolation]:
    isolation = Isolation(str(place / "workspace"))
    yield isolation
    isolation.close()


def call(isolation: Isolation, tool: str, **args: Any) -> Outcome:
    return isolation.run(BY_NAME[tool], args, {"binaries": ["/bin/echo", "/bin/sh", "/usr/bin/printf", "/bin/cat"]})


def test_write_read_and_list(isolation: Isolation, place: Path) -> None:
    """A file is created, extended, replaced, read whole and in part, and listed."""
    assert call(isolation, "fs.write", path="a.txt", content="one\n", mode="create").result == {"bytes": 4}
    assert call(isolation, "fs.write", path="a.txt", content="two\n", mode="append").status == "success"
    assert call(isolation, "fs.read", path="a.txt").result == {"content": "one\ntwo\n", "bytes": 8, "size": 8}
    assert call(isolation, "fs.read", path="./a.txt", offset=4, length=3).result == {
        "content": "two",
        "bytes": 3,
        "size": 8,
    }
    refused = call(isolation, "fs.write", path="a.txt", content="", mode="create")
    assert (refused.status, (refused.error or {})["class"]) == ("error", "EnvironmentError")
    assert call(isolation, "fs.write", path="a.txt", content="new", mode="replace").status == "success"
    assert (place / "workspace" / "a.txt").read_text() == "new"
    (place / "workspace" / "folder").mkdir()
    entries = (call(isolation, "fs.list", path=".").result or {})["entries"]
    assert {"name": "a.txt", "type": "file", "bytes": 3} in entries
    assert [entry["name"] for entry in entries] == sorted(entry["name"] for entry in entries)


def test_bytes_that_are_no_text_are_not_invented(isolation: Isolation, place: Path) -> None:
    """Binary content comes back as base64, byte for byte."""
    import base64

    raw = bytes(range(256)) * 10
    (place / "workspace" / "raw").write_bytes(raw)
    result = call(isolation, "fs.read", path="raw").result or {}
    assert base64.b64decode(result["content_base64"]) == raw


ESCAPES = [
    "../secret",
    "folder/../../secret",
    "/etc/passwd",
    "link",
    "linked/secret",
    "a\nb",
    "",
    "folder/./../../secret",
]


@pytest.mark.requirement("WHITE-6.2", "CLAW-16.1")
@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("tool", ["fs.read", "fs.list", "fs.write"])
def test_no_path_leads_out(isolation: Isolation, place: Path, tool: str, path: str) -> None:
    """Dots, absolute paths and symlinks are refused by the claw itself, whatever the gate let through."""
    workspace = place / "workspace"
    for link, target in {"link": place / "secret", "linked": place}.items():
        if not (workspace / link).is_symlink():
            (workspace / link).symlink_to(target)
    more = {"content": "overwritten", "mode": "append"} if tool == "fs.write" else {}
    outcome = call(isolation, tool, path=path, **more)
    assert outcome.status == "error"
    assert "outside" not in str(outcome.result)
    assert (place / "secret").read_text() == "outside"


def test_replace_does_not_follow_a_symlink(isolation: Isolation, place: Path) -> None:
    """Replacing a link replaces the link, never its target."""
    target = place / "secret"
    link = place / "workspace" / "replaced"
    link.symlink_to(target)
    assert call(isolation, "fs.write", path="replaced", content="mine", mode="replace").status == "success"
    assert target.read_text() == "outside"
    assert not link.is_symlink()


@pytest.mark.parametrize("name", ["a.txt", "\U0001f980" * 63 + "abc"], ids=["short", "255 bytes"])
def test_a_replace_that_failed_leaves_nothing_and_bars_nothing(isolation: Isolation, place: Path, name: str) -> None:
    """The medium takes a part only, or the name is a folder's: the old content stays alone, the next replace works."""
    within = place / "workspace" / f"failing-{len(name)}"
    (within / "taken").mkdir(parents=True)
    path = f"{within.name}/{name}"
    assert call(isolation, "fs.write", path=path, content="old", mode="replace").status == "success"
    full = BY_NAME["fs.write"]._replace(limits=Limits(file_bytes=4))
    for _ in range(2):
        failed = isolation.run(full, {"path": path, "content": "much too long", "mode": "replace"}, {})
        assert (failed.error or {})["message"] == os.strerror(errno.EFBIG)
        failed = call(isolation, "fs.write", path=f"{within.name}/taken", content="new", mode="replace")
        assert (failed.error or {})["message"] == os.strerror(errno.EISDIR)
    assert (sorted(os.listdir(within)), (within / name).read_text()) == (sorted([name, "taken"]), "old")
    assert call(isolation, "fs.write", path=path, content="new", mode="replace").status == "success"
    assert (sorted(os.listdir(within)), (within / name).read_text()) == (sorted([name, "taken"]), "new")


def test_replaces_of_one_file_at_once_all_succeed(isolation: Isolation, place: Path) -> None:
    """Each is whole, the last one stays, and nothing else is left in the folder."""
    within = place / "workspace" / "at-once"
    within.mkdir()
    contents = [f"{number}" * 5_000 for number in range(6)]
    outcomes: list[Outcome] = []

    def replacing(content: str) -> None:
        outcomes.extend(
            call(isolation, "fs.write", path="at-once/a.txt", content=content, mode="replace") for _ in range(15)
        )

    threads = [threading.Thread(target=replacing, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.error for outcome in outcomes if outcome.status != "success"] == []
    assert len(outcomes) == 90
    assert os.listdir(within) == ["a.txt"]
    assert (within / "a.txt").read_text() in contents


def test_a_symlink_race_does_not_lead_out(isolation: Isolation, place: Path) -> None:
    """While a folder is swapped with a link to the outside as fast as possible, reads see the inside or an error."""
    workspace = place / "workspace"
    inside, swap = workspace / "race", workspace / "race-link"
    inside.mkdir()
    (inside / "secret").write_text("inside")
    swap.symlink_to(place)
    stop = threading.Event()

    def swapping() -> None:
        while not stop.is_set():
            os.rename(inside, workspace / "race-away")
            os.rename(swap, inside)
            os.rename(inside, swap)
            os.rename(workspace / "race-away", inside)

    thread = threading.Thread(target=swapping)
    thread.start()
    try:
        outcomes = [call(isolation, "fs.read", path="race/secret") for _ in range(60)]
    finally:
        stop.set()
        thread.join()
    contents = {(outcome.result or {}).get("content") for outcome in outcomes}
    assert contents <= {"inside", None}


def test_special_files_do_not_block(isolation: Isolation, place: Path) -> None:
    """A fifo is refused at once instead of waited for."""
    os.mkfifo(place / "workspace" / "fifo")
    outcome = call(isolation, "fs.read", path="fifo")
    assert (outcome.status, (outcome.error or {})["class"]) == ("error", "AuthorizationError")


@pytest.mark.requirement("WHITE-9.3", "WHITE-9.4", "PROTO-6.2")
@pytest.mark.parametrize(
    "text",
    ["; id", "$(id)", "`id`", "| cat /etc/passwd", "&& id", "--help\n", "a b", "*", "'\"", "\\x41", "__import__('os')"],
)
def test_arguments_are_data(isolation: Isolation, text: str) -> None:
    """What a shell would run is printed as it is."""
    result = call(isolation, "shell", bin="printf", argv=["%s", text]).result
    assert result is not None
    assert (result["stdout"], result["status"]) == (text, 0)


@pytest.mark.requirement("WHITE-9.3")
@pytest.mark.parametrize(
    "name", ["/bin/ls", "ls", "../bin/echo", "echo ", "ECHO", "/bin/../bin/echo", "/usr/bin/echo", "bin/echo"]
)
def test_only_listed_programs_run(isolation: Isolation, name: str) -> None:
    """No search path, no other spelling of a listed path, no unlisted program."""
    outcome = call(isolation, "shell", bin=name)
    assert (outcome.status, (outcome.error or {})["class"]) == ("error", "AuthorizationError")


@pytest.mark.requirement("EXEC-4.6", "CLAW-13.1")
def test_status_and_streams_are_told_apart(isolation: Isolation) -> None:
    """Both streams, a non-zero exit, and death by a signal as a negative status."""
    script = "echo out; echo err >&2; exit 3"
    result = call(isolation, "shell", bin="sh", argv=["-c", script]).result or {}
    assert (result["stdout"], result["stderr"], result["status"]) == ("out\n", "err\n", 3)
    killed = call(isolation, "shell", bin="sh", argv=["-c", "kill -9 $$"]).result or {}
    assert killed["status"] == -9


@pytest.mark.requirement("EXEC-4.7")
def test_a_long_output_says_what_was_cut(isolation: Isolation, place: Path) -> None:
    """Of 5 MB of random bytes the beginning is kept; whole size and hash are those of the original."""
    import base64

    raw = os.urandom(5_000_000)
    (place / "workspace" / "random").write_bytes(raw)
    outcome = call(isolation, "shell", bin="cat", argv=["random"])
    result = outcome.result or {}
    assert base64.b64decode(result["stdout_base64"]) == raw[: result["stdout_kept_bytes"]]
    assert (result["stdout_truncated"], result["stdout_bytes"]) == (True, 5_000_000)
    assert result["stdout_sha256"] == hashlib.sha256(raw).hexdigest()
    assert outcome.original_bytes == 5_000_000


@pytest.mark.requirement("CLAW-6.1")
def test_manifests_are_constant_and_unique() -> None:
    """Names are unique, canonical bytes round-trip, digests do not change between calls."""
    from femtoclaw.manifest import manifest_from_canonical

    assert len(BY_NAME) == len(SHIPPED)
    for manifest in SHIPPED:
        assert manifest_from_canonical(manifest.canonical()) == manifest
        assert manifest.digest() == manifest_from_canonical(manifest.canonical()).digest()
