"""A path that is swapped for a link while ``fs.read`` and ``fs.write`` use it leads nowhere outside of the workspace."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from femtoclaw.isolation import Isolation
from femtoclaw.isolation.layers import REQUIRED
from tests.femtoclaw.isolated import ROOT, declared

FACTS = "tests.femtoclaw.hostile_facts"
BARE = (
    "tests.femtoclaw.without_landlock", "tests.femtoclaw.without_seccomp", "tests.femtoclaw.without_namespaces"
)  # fmt: skip
TURNS_MAX = 10
"""Where the swapping thread hardly gets a processor, a thousand tries may all meet the same one of the two."""


@contextmanager
def always(work: Callable[[], None]) -> Iterator[None]:
    """A thread that does it again and again."""
    over = threading.Event()

    def repeat() -> None:
        while not over.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def swap(path: Path, target: Path) -> Callable[[], None]:
    """Exchange what has the name ``path`` for a link to ``target``, and back; the name is never without either."""
    link, kept = path.with_name("link"), path.with_name("kept")

    def work() -> None:
        link.symlink_to(target)
        if path.is_dir():  # a folder is not replaced by a rename
            os.rename(path, kept)
            os.rename(link, path)
            os.rename(path, link)
            os.rename(kept, path)
            link.unlink()
        else:
            os.rename(link, path)
            kept.write_text("mine")
            os.rename(kept, path)

    return work


@pytest.mark.requirement("DEPLOY-13.1")
@pytest.mark.parametrize("layers", ["all", "none"])
@pytest.mark.parametrize("write", ["", "append", "replace"])
@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_swapped_path_leads_nowhere(tmp_path: Path, swapped: str, write: str, layers: str) -> None:
    """By the claws' own way of opening alone, and with the sandbox around it: a thousand times each."""
    workspace, outside = tmp_path / "workspace", tmp_path / "outside"
    for folder in (workspace, outside, workspace / "folder"):
        folder.mkdir()
    (outside / "file").write_text("secret")
    for file in (workspace / "file", workspace / "folder" / "file"):
        file.write_text("mine")
    isolation = Isolation(
        str(workspace), modules=(*(BARE if layers == "none" else ()), FACTS), search_path=str(ROOT),
        accept_missing=REQUIRED if layers == "none" else (),
    )  # fmt: skip
    path = "folder/file" if swapped == "folder" else "file"
    target = outside if swapped == "folder" else outside / "file"
    claw = declared(FACTS, "raced", 30.0, ("workspace.read", "workspace.write"))
    try:
        with always(swap(workspace / swapped, target)):
            for _ in range(TURNS_MAX):
                outcome = isolation.run(claw, {"path": path, "write": write}, {})
                assert outcome.result is not None, outcome
                assert outcome.result["reached"] == 0
                if outcome.result["done"]:
                    break
    finally:
        isolation.close()
    assert outcome.result["done"] > 0
    assert (outside / "file").read_text() == "secret"
    assert sorted(entry.name for entry in outside.iterdir()) == ["file"]
