"""An auditor's commands, and what tests do to the histories that he gets."""

from __future__ import annotations

from pathlib import Path

from tests.cli.forgery import (
    Payloads,
)
from tests.cli.node import Answer, femtoclaw


def audit(folder: Path, bundle: bytes, key: str, expect: int | None = 3) -> Answer:
    """Verify in a directory that holds a bundle and a key file, with a HOME that does not exist."""
    (folder / "b").write_bytes(bundle)
    (folder / "key").write_text(key)
    answer = femtoclaw(
        "verify", "--bundle", "b", "--key", "key", "--json", cwd=folder, expect=expect, HOME=str(folder / "nowhere")
    )
    assert "Traceback" not in answer.stderr
    return answer


def edit_time(payloads: Payloads) -> None:
    """What replay cannot find: nothing is derived from a time."""
    time_ns, kind, payload, flags = payloads[-1]
    payloads[-1] = (time_ns + 1, kind, payload, flags)
