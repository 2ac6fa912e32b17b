"""The format document suffices: a reader written from it alone checks a real bundle, and refuses a changed one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.wal.sample_log import GENESIS, OTHER_SIGNER, SIGNER, ticking_clock
from wal.bundle import write_bundle
from wal.limits import SEGMENT_RECORDS
from wal.log import create_log
from wal.memory_storage import MemoryStorage

READER = Path(__file__).with_name("format_reader.py")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bundle of one sealed segment, a tail and a blob; and the log's root."""
    log = create_log(MemoryStorage(), GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    digest = log.put_blob(b"large output")
    while log.head.index < SEGMENT_RECORDS + 50:
        log.append([b"payload %d" % number for number in range(500)])
    log.checkpoint()
    path = tmp_path_factory.mktemp("bundle") / "log.bundle"
    write_bundle(log, str(path), [digest])
    return path, f"ok {log.head.index} {log.frontier().root().hex()}"


def second_reader(path: Path, vkey: str, alone: Path) -> str:
    """What the reader says, run from a folder of its own where this project cannot be imported."""
    script = shutil.copy(READER, alone / "reader.py")
    done = subprocess.run(
        [sys.executable, "-I", script, str(path), vkey], capture_output=True, text=True, check=False, cwd=alone
    )
    return (done.stdout + done.stderr).strip()


@pytest.mark.requirement("STORAGE-16.1")
def test_a_reader_written_from_the_document_agrees(bundle: tuple[Path, str], tmp_path: Path) -> None:
    """About a hundred lines without any of this project's code find the same size and root, and know the key."""
    path, expected = bundle
    assert second_reader(path, SIGNER.public.vkey(), tmp_path) == expected
    assert second_reader(path, OTHER_SIGNER.public.vkey(), tmp_path).startswith("no:")
    assert "import wal" not in READER.read_text()
    assert "from wal" not in READER.read_text()


@pytest.mark.requirement("STORAGE-16.1")
@pytest.mark.parametrize("prefix", ["checkpoint", "segments/0000000000000001", "segments/0000000000004097", "blobs/"])
def test_it_refuses_a_changed_bundle(bundle: tuple[Path, str], tmp_path: Path, prefix: str) -> None:
    """One byte changed in any member is found by the document's rules alone."""
    changed = tmp_path / "changed"
    with zipfile.ZipFile(bundle[0]) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            raw = bytearray(source.read(name))
            if name.startswith(prefix):
                raw[len(raw) // 2] ^= 1
            target.writestr(name, bytes(raw))
    assert second_reader(changed, SIGNER.public.vkey(), tmp_path).startswith("no:")
