"""What a follower makes of the checkpoint in a heartbeat: kept when all of it is here, and never fatal."""

from __future__ import annotations

from typing import Any

from cluster.following import Following
from cluster.messages import Ack, Heartbeat, Reason, Refused
from cluster.standing import ReplicaConfig, Standing
from cluster.steps import Durable, KeepCheckpoint, Ready, Send
from wal.checkpoint import Checkpoint
from wal.errors import SignatureError
from wal.record import Head

EPOCH, SIZE, ROOT, NOTE = 3, 9, b"r" * 32, b"a note"


class Here:
    """A log of ``size`` records up to epoch ``epoch``, all of whose roots are the same."""

    def __init__(self, size: int, epoch: int) -> None:
        self._size, self._epoch = size, epoch

    def head(self) -> Head:
        return Head(self._size, b"l" * 32)

    def last_epoch(self) -> int:
        return self._epoch

    def membership_before(self) -> tuple[int, None]:
        return 0, None

    def root_at(self, size: int) -> bytes:
        assert size <= self._size
        return ROOT


class Reading:
    """Opens every note as the same checkpoint, or refuses it."""

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        self._checkpoint = checkpoint

    def open_checkpoint(self, note: bytes) -> Checkpoint:
        assert note == NOTE
        if self._checkpoint is None:
            raise SignatureError("note is not signed by a known key")
        return self._checkpoint


def told(size: int, *, epoch: int = EPOCH, root: bytes = ROOT, signed: bool = True) -> tuple[Ready, str]:
    """What a heartbeat over ``SIZE`` records comes to at a follower that has ``size``; and why it is frozen."""
    view: Any = Here(size, epoch)
    auth: Any = Reading(Checkpoint("origin", SIZE, root) if signed else None)
    standing = Standing("b", b"i" * 32, ReplicaConfig(), view, auth, Durable(epoch=EPOCH, leader="a"))
    standing.now_ns = 10**12
    following = Following(standing)
    following.source, following._aligned = "a", True
    following.heartbeat("a", Heartbeat(EPOCH, SIZE, NOTE))
    return standing.ready(), standing.durable.frozen


def kept(ready: Ready) -> bool:
    return KeepCheckpoint(NOTE) in ready.persist


def test_one_that_is_all_here_is_kept() -> None:
    ready, _ = told(SIZE)
    assert kept(ready) and Send("a", Ack(EPOCH, SIZE, b"")) in ready.send


def test_one_that_reaches_beyond_the_log_is_left() -> None:
    """Also where its key cannot be known yet, as the record of its epoch has not come."""
    for ready, frozen in (told(SIZE - 1, signed=False), told(SIZE, epoch=EPOCH - 1, signed=False)):
        assert not kept(ready) and not frozen
        assert [type(each.message) for each in ready.send if isinstance(each, Send)] == [Ack]


def test_one_that_does_not_verify_is_refused() -> None:
    ready, frozen = told(SIZE, signed=False)
    answers = [each.message for each in ready.send if isinstance(each, Send)]
    assert isinstance(answers[0], Refused) and answers[0].reason is Reason.BAD_RECORDS
    assert ready.drop == ("a",) and not kept(ready) and not frozen


def test_another_root_freezes() -> None:
    ready, frozen = told(SIZE, root=b"s" * 32)
    assert "another root" in frozen and not kept(ready)
