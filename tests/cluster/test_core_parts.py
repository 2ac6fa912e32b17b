"""The small parts under the protocol core and its driver, each against a naive one."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.acknowledgement import Waiters
from cluster.errors import NotReplicatedError, ReplicaStateError
from cluster.links import whole_appends
from cluster.messages import Span
from cluster.recent_frames import BYTES_MAX, RecentFrames
from cluster.replica_store import decode_durable, encode_durable
from cluster.standing import common_end
from cluster.steps import Durable
from wal.checkpoint import Checkpoint
from wal.errors import SignatureError
from wal.proposal import epoch_of, proposal
from wal.record import FLAG_BATCH_END, KIND_EVENT, NO_LINK, encode

# --- where two histories part ----------------------------------------------------------------------------------------


def spans(records: list[int]) -> tuple[Span, ...]:
    """The history of a log that is written as the epoch of each record."""
    return tuple(
        Span(epoch, at) for at, epoch in enumerate(records, 1) if at == 1 or records[at - 2] != epoch
    )  # fmt: skip


@st.composite
def two_logs(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """A common beginning, then epochs that rise; an epoch that both have goes on in both, or began in one place only."""
    common = sorted(draw(st.lists(st.integers(1, 4), min_size=1, max_size=8)))
    common[0] = 1
    common.sort()
    tails = []
    for parity in (0, 1):
        more = sorted(draw(st.lists(st.sampled_from([e for e in range(5, 12) if e % 2 == parity]), max_size=6)))
        tails.append(common + [common[-1]] * draw(st.integers(0, 3)) + more)
    return tails[0], tails[1]


@given(two_logs())
def test_histories_part_where_their_records_do(logs: tuple[list[int], list[int]]) -> None:
    """As far as records of one epoch stand at one index in both, and no further: the same from both sides."""
    one, other = logs
    naive = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        naive += 1
    assert common_end(spans(one), len(one), spans(other), len(other)) == naive
    assert common_end(spans(other), len(other), spans(one), len(one)) == naive


def test_an_epoch_that_began_elsewhere_is_not_common() -> None:
    """One epoch at two first indexes: somebody lies; the histories part before it."""
    assert common_end((Span(1, 1), Span(3, 5)), 9, (Span(1, 1), Span(3, 6)), 9) == 4
    assert common_end((Span(2, 1),), 3, (Span(1, 1),), 3) == 0


# --- what is remembered, and what is proposed -----------------------------------------------------------------------------


@given(st.builds(Durable, st.integers(1, 1 << 62), st.text("abc-", max_size=9), st.integers(0, 1 << 62), st.booleans(),
                 st.text(max_size=20), st.integers(0, 1 << 62)))  # fmt: skip
def test_what_is_remembered_comes_back(durable: Durable) -> None:
    assert decode_durable(encode_durable(durable), "here") == durable


@given(st.binary(max_size=60))
def test_damaged_memory_is_refused(raw: bytes) -> None:
    """Nothing else is taken for what was promised; a missing file is a node that has seen nothing."""
    try:
        assert encode_durable(decode_durable(raw, "here")) == raw
    except ReplicaStateError as error:
        assert "cluster/state" in error.where
    assert decode_durable(None, "here") == Durable()


def test_a_proposal_names_its_epoch() -> None:
    assert epoch_of(proposal("log", 7, 3, bytes(32))) == 7
    for lines in ((), ("epoch 07",), ("epoch x",), ("epoch 7", "epoch 7"), ("epoch \u0663",), ("7",)):
        with pytest.raises(SignatureError):
            epoch_of(Checkpoint("log", 3, bytes(32), lines))


# --- waiting for acknowledgements ---------------------------------------------------------------------------------------


def test_receipts_return_in_order_and_not_before() -> None:
    """Each waiter returns when its own size is reached."""
    waiters, returned = Waiters(20.0), []
    threads = [
        threading.Thread(target=lambda size=size: (waiters.wait(size), returned.append(size))) for size in (3, 1, 2)
    ]
    for each in threads:
        each.start()
    waiters.reached(1)
    threads[1].join(10)
    assert returned == [1]
    waiters.reached(3)
    for each in threads:
        each.join(10)
    assert sorted(returned) == [1, 2, 3]
    waiters.wait(2)


def test_what_is_not_acknowledged_is_in_doubt() -> None:
    """By the end of the leadership, or of the time: the outcome is unknown (exit 5), never failed."""
    with pytest.raises(NotReplicatedError) as late:
        Waiters(0.01).wait(1)
    assert late.value.exit_code == 5
    waiters, errors = Waiters(20.0), []

    def wait() -> None:
        try:
            waiters.wait(9)
        except NotReplicatedError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    waiters.end("it is over")
    thread.join(10)
    assert "it is over" in str(errors[0])
    with pytest.raises(NotReplicatedError):
        waiters.wait(10)
    waiters.begin()
    waiters.reached(10)
    waiters.wait(10)


# --- frames in memory, and on their way -------------------------------------------------------------------------------


@given(st.lists(st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=5), max_size=8), st.data())
def test_recent_frames_are_the_newest(groups: list[list[bytes]], data: st.DataObject) -> None:
    """Any run of them is there whole, or not at all."""
    recent, all_frames = RecentFrames(), [b""]
    for group in groups:
        recent.add(len(all_frames), tuple(group))
        all_frames += group
    first = data.draw(st.integers(1, len(all_frames)))
    stop = data.draw(st.integers(first, len(all_frames)))
    assert recent.run(first, stop) in (None, all_frames[first:stop])
    assert not groups or recent.run(1, len(all_frames)) == all_frames[1:]


def test_recent_frames_are_bounded() -> None:
    recent = RecentFrames()
    for index in range(1, 40):
        recent.add(index, (bytes(1024 * 1024),))
    assert recent.run(1, 2) is None
    assert recent.run(40 - BYTES_MAX // (1024 * 1024), 40) is not None
    recent.add(100, (b"after a gap",))
    assert recent.run(39, 40) is None


def frame(index: int, size: int, *, end: bool) -> bytes:
    return encode(index, 1, 0, KIND_EVENT, bytes(size), NO_LINK, FLAG_BATCH_END if end else 0)[0]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3_000_000)), max_size=12))
def test_messages_hold_whole_appends(appends: list[tuple[int, int]]) -> None:
    """Cut anywhere else, a follower could end inside of an append."""
    frames = []
    for count, size in appends:
        frames += [frame(len(frames) + 1, min(size, 1_000_000), end=each == count - 1) for each in range(count)]
    chunks = list(whole_appends(frames))
    assert [raw for chunk in chunks for raw in chunk] == frames
    assert all(chunk[-1][7] & FLAG_BATCH_END for chunk in chunks)
