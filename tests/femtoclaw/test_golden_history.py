"""Old histories replay for ever: a recorded log gives its pinned state and decisions, in any process.

The frames of a history are never written again: they are what a node of its time left. Its JSON is pinned to the version
of the fold. With FEMTOCLAW_REWRITE_GOLDEN=1, only when a new fold, event version or format is intended, that of each is
written anew, and the frames of one that has none yet: so add a version to ``HISTORIES``, and keep the old ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from femtoclaw.state import FOLD_VERSION
from tests.femtoclaw.simulated import Simulated
from tests.femtoclaw.test_core_replay import lived
from tests.femtoclaw.test_replay import worked

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "history"

HISTORIES: dict[str, Callable[[], Simulated]] = {"v1": worked, "v2": lived}
"""Who made each: v1 before there were operators; v2 a controlled node, with approvals, requests, taint and usage."""

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


def rewrite(version: str) -> None:
    frames = GOLDEN / f"{version}.frames"
    if not frames.exists():
        records = HISTORIES[version]().storage.records
        frames.write_bytes(b"".join(records[index] for index in sorted(records)))
    pinned = {"fold": FOLD_VERSION, "frames": blake3(frames.read_bytes()).hexdigest(), **replayed(frames, "0")}
    (GOLDEN / f"{version}.json").write_text(json.dumps(pinned, indent=1) + "\n")


@pytest.mark.parametrize("version", HISTORIES)
@pytest.mark.requirement("SUITE-10.2")
def test_a_golden_history_replays_to_its_pinned_state(version: str) -> None:
    """Size, state hash and number of decisions are the pinned ones; nothing diverges; its bytes are what they were."""
    if os.environ.get("FEMTOCLAW_REWRITE_GOLDEN"):
        rewrite(version)
    pinned = json.loads((GOLDEN / f"{version}.json").read_text())
    frames = GOLDEN / f"{version}.frames"
    assert pinned.pop("fold") == FOLD_VERSION, "another fold: pin the states anew"
    assert pinned.pop("frames") == blake3(frames.read_bytes()).hexdigest()
    assert replayed(frames, "0") == pinned
    assert pinned["divergences"] == []


def test_the_golden_histories_hold_every_event_of_their_time() -> None:
    """The newest one has what the control plane and approvals record, so that a change of its replay is noticed."""
    from femtoclaw.event_codec import decode
    from wal.chain import follow
    from wal.lmdb_storage import split_frames
    from wal.record import EMPTY, KIND_EVENT

    raw = (GOLDEN / "v2.frames").read_bytes()
    found = {
        type(decode(record.payload)).__name__
        for record in follow(EMPTY, split_frames(1, raw)) if record.kind == KIND_EVENT
    }  # fmt: skip
    assert found >= {
        "OperatorAdded", "OperatorRevoked", "ControlPolicyAdopted", "ControlRequested", "ControlDecided",
        "ApprovalRequested", "ApprovalGranted", "ApprovalRefused", "ApprovalExpired", "PublisherTrusted",
        "SecretChanged", "SecretGranted", "SubjectErased", "NodeContained", "NodeReleased", "ExecutionStarted",
        "ExecutionFinished", "AuthorizationDecided", "RunEnded", "StateHashed",
    }  # fmt: skip


@pytest.mark.invariant("I6")
@pytest.mark.requirement("STORAGE-25.1")
@pytest.mark.parametrize("version", HISTORIES)
def test_hash_seeds_and_missing_parts_change_nothing(version: str) -> None:
    """Two hash seeds, in processes that may open no socket and start no program and load neither brain nor claw."""
    first, second = (replayed(GOLDEN / f"{version}.frames", seed) for seed in ("1", "4242"))
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
