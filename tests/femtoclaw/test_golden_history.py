"""Old histories replay for ever: a recorded log gives its pinned state and decisions, in any process.

Rewrite with FEMTOCLAW_REWRITE_GOLDEN=1 only when a new event version or format is intended; then keep the old one too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.femtoclaw.test_replay import worked

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "history"

PROGRAM = textwrap.dedent(
    """
    import json, sys
    sys.path.insert(0, sys.argv[1])

    REFUSED = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system")

    def refuse(event, args):
        if event.startswith(REFUSED):
            raise RuntimeError(f"replay asked for {event}")

    sys.addaudithook(refuse)
    from femtoclaw.replay import replay
    from wal.chain import follow
    from wal.lmdb_storage import split_frames
    from wal.record import EMPTY

    with open(sys.argv[2], "rb") as file:
        report = replay(follow(EMPTY, split_frames(1, file.read())))
    loaded = [name for name in sys.modules if name.startswith(("femtoclaw.brains", "femtoclaw.isolation", "grpc"))]
    print(json.dumps({
        "size": report.size, "state_hash": report.state_hash, "decisions": report.decisions,
        "divergences": [list(d) for d in report.divergences], "loaded": loaded,
    }))
    """
)


def replayed(file: Path, hash_seed: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT), str(file)],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_the_golden_history_replays_to_its_pinned_state() -> None:
    """Size, state hash and number of decisions are the pinned ones; nothing diverges."""
    if os.environ.get("FEMTOCLAW_REWRITE_GOLDEN"):
        node = worked()
        GOLDEN.mkdir(parents=True, exist_ok=True)
        records = node.storage.records
        (GOLDEN / "v1.frames").write_bytes(b"".join(records[index] for index in sorted(records)))
        (GOLDEN / "v1.json").write_text(json.dumps(replayed(GOLDEN / "v1.frames", "0"), indent=1) + "\n")
    assert replayed(GOLDEN / "v1.frames", "0") == json.loads((GOLDEN / "v1.json").read_text())


@pytest.mark.invariant("I6")
@pytest.mark.requirement("STORAGE-25.1")
def test_hash_seeds_and_missing_parts_change_nothing() -> None:
    """Two hash seeds, in processes that may open no socket and start no program and load neither brain nor claw."""
    first, second = (replayed(GOLDEN / "v1.frames", seed) for seed in ("1", "4242"))
    assert first == second
    assert first["divergences"] == []
    assert first["loaded"] == []


def test_a_changed_golden_history_diverges(tmp_path: Path) -> None:
    """The comparison can fail: one decision changed and chained again is found with its index."""
    from femtoclaw import events
    from femtoclaw.event_codec import decode, encode
    from wal.chain import follow
    from wal.lmdb_storage import split_frames
    from wal.record import EMPTY, KIND_EVENT
    from wal.record import encode as frame

    raw = (GOLDEN / "v1.frames").read_bytes()
    link, changed, out = bytes(32), 0, b""
    for record in follow(EMPTY, split_frames(1, raw)):
        payload = record.payload
        if record.kind == KIND_EVENT and not changed:
            event = decode(payload)
            if isinstance(event, events.AuthorizationDecided) and event.decision != "AUTHORIZED":
                payload, changed = encode(event._replace(decision="AUTHORIZED", reason="PERMITTED")), record.index
        made, link = frame(record.index, record.epoch, record.time_ns, record.kind, payload, link, record.flags)
        out += made
    forged = tmp_path / "forged.frames"
    forged.write_bytes(out)
    divergences = replayed(forged, "0")["divergences"]
    assert isinstance(divergences, list)
    assert divergences[0][0] == changed
    assert "DENIED_POLICY_VIOLATION" in divergences[0][1]
    assert "AUTHORIZED" in divergences[0][2]
