"""Hypothesis strategies: every message of the wire, within its bounds."""

from __future__ import annotations

from hypothesis import strategies as st

from cluster.messages import (
    Ack,
    Align,
    Entries,
    Heartbeat,
    Hello,
    Promised,
    PromiseRequest,
    PullRequest,
    Reason,
    Refused,
    SealedSegment,
    Span,
    TransferNow,
    Welcome,
)
from cluster.reading import ConsistencyProof, Freshness, InclusionProof, RecordsPage, Status
from cluster.steps import Role
from wal.epoch_start import Promise
from wal.record import FRAME_OVERHEAD_BYTES, Head

NUMBER_MAX = 2**63 - 1
numbers = st.one_of(st.integers(0, 300), st.integers(0, NUMBER_MAX))
positive = numbers.map(lambda value: max(value, 1))
digests = st.binary(min_size=32, max_size=32)
names = st.text("abcxyz019-", min_size=1, max_size=64)
notes = st.binary(max_size=600)
heads = st.builds(Head, numbers, digests)
frames = st.lists(st.binary(min_size=FRAME_OVERHEAD_BYTES, max_size=400), max_size=6).map(tuple)
details = st.text(st.characters(blacklist_categories=("Cs",)), max_size=60).filter(str.isprintable)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Span, ...]:
    """Growing epochs and first indexes."""
    count = draw(st.integers(0, 5))
    steps = st.lists(st.integers(1, 2**40), min_size=count, max_size=count)
    spans, epoch, first = [], 0, 0
    for more, further in zip(draw(steps), draw(steps), strict=True):
        epoch, first = epoch + more, first + further
        spans.append(Span(epoch, first))
    return tuple(spans)


refused = st.builds(Refused, numbers, st.sampled_from(Reason), details, numbers)
entries = st.builds(Entries, numbers, heads, frames, notes, numbers)
to_follower = st.one_of(
    st.builds(Hello, digests, numbers, names, heads, histories(), numbers),
    st.builds(Align, numbers, heads),
    entries,
    st.builds(SealedSegment, numbers, st.binary(min_size=1, max_size=3000), notes, numbers),
    st.builds(Heartbeat, numbers, numbers, notes),
    st.builds(TransferNow, numbers),
)
to_source = st.one_of(
    st.builds(Welcome, numbers, heads, histories(), numbers, numbers), st.builds(Ack, numbers, numbers, notes), refused
)
promise_requests = st.builds(PromiseRequest, digests, numbers, names)
promises = st.builds(Promise, names, numbers, numbers, digests, st.binary(min_size=64, max_size=64))
promise_replies = st.one_of(st.builds(Promised, numbers, promises), refused)
pull_requests = st.builds(PullRequest, digests, numbers, heads, histories())
freshness = st.builds(Freshness, st.sampled_from(Role), numbers, numbers, numbers, st.none() | numbers, notes)
paths = st.lists(digests, max_size=6).map(tuple)
statuses = st.builds(Status, freshness, digests, names, names | st.just(""), heads, histories())
pages = st.builds(RecordsPage, freshness, positive, frames)
inclusions = st.builds(InclusionProof, freshness, digests, paths)
consistencies = st.builds(ConsistencyProof, freshness, digests, digests, paths)
