"""``module.result``: a signed note that says how a module did in its tests, for whoever installs it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from femtoclaw.isolation.loading import read_beneath
from femtoclaw.manifest import Manifest
from femtoclaw.modules.package import RESULT_FILE
from femtoclaw.version import VERSION
from wal.durable_file import write_file
from wal.errors import SignatureError
from wal.note import NOTE_BYTES_MAX, PublicKey, Signer, open_note, sign_note

TITLE = "femtoclaw module test v1"
_FILE_MODE = 0o644


def write_result(folder: str, manifest: Manifest, groups: Mapping[str, tuple[int, int]], signer: Signer) -> None:
    """Sign and write it: for each group how many checks passed, of how many. Raises LogFailedError."""
    lines = [
        *_subject(manifest),
        f"runtime {VERSION}",
        *(f"{name} {passed} of {count}" for name, (passed, count) in groups.items()),
        f"result {'passed' if _passed(groups) else 'failed'}",
    ]
    path = os.path.join(folder, RESULT_FILE)
    write_file(path, sign_note("\n".join(lines) + "\n", [signer]))
    os.chmod(path, _FILE_MODE)


def has_passed(folder: str, manifest: Manifest, trusted: Sequence[PublicKey]) -> bool:
    """Whether the folder holds a result, signed by one of the ``trusted``, that says this very module passed."""
    try:
        note = open_note(read_beneath(folder, RESULT_FILE, NOTE_BYTES_MAX), trusted)
    except (OSError, SignatureError):
        return False
    lines = note.text.splitlines()
    return lines[: len(_subject(manifest))] == _subject(manifest) and lines[-1] == "result passed"


def _subject(manifest: Manifest) -> list[str]:
    return [TITLE, f"name {manifest.name}", f"version {manifest.version}", f"manifest {manifest.digest()}"]


def _passed(groups: Mapping[str, tuple[int, int]]) -> bool:
    return all(passed == count > 0 for passed, count in groups.values())
