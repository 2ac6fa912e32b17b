"""Events to bytes and back, versions, and bytes that are no events."""

import typing

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from femtoclaw import event_codec, events
from femtoclaw.event_codec import CODES, EventFormatError, check_types, declared_types, decode, encode

FIELDS = {
    str: st.text(max_size=40),
    int: st.integers(-(2**63), 2**63 - 1),
    bytes: st.binary(max_size=60),
    tuple[str, ...]: st.lists(st.text(max_size=10), max_size=4).map(tuple),
}


def of(kind: type) -> st.SearchStrategy[events.Event]:
    return st.tuples(*(FIELDS[declared] for declared in declared_types(kind).values())).map(kind._make)


ANY_EVENT = st.sampled_from(sorted(CODES.values(), key=lambda kind: kind.__name__)).flatmap(of)


def test_the_union_and_the_codes_name_the_same_types() -> None:
    """A new event type cannot be forgotten in the codec."""
    assert set(typing.get_args(events.Event)) == set(CODES.values())


@given(ANY_EVENT)
@pytest.mark.requirement("MEMORY-17.1")
def test_round_trip(event: events.Event) -> None:
    """Decode inverts encode, and encoding again gives the same bytes."""
    raw = encode(event)
    assert decode(raw) == event
    assert encode(decode(raw)) == raw
    assert check_types(decode(raw)) is None


@given(ANY_EVENT, st.data())
def test_any_truncation_is_refused_or_another_event_is_never_invented(event: events.Event, data: st.DataObject) -> None:
    """A cut encoding never decodes."""
    raw = encode(event)
    with pytest.raises(EventFormatError):
        decode(raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(st.binary(max_size=80))
def test_arbitrary_bytes_raise_only_the_typed_error(raw: bytes) -> None:
    """Bytes from a damaged or foreign log are a typed error, never a crash."""
    try:
        event = decode(raw)
    except EventFormatError:
        return
    assert type(event) in CODES.values()


@pytest.mark.requirement("CONFIG-7.1")
@pytest.mark.parametrize(
    "event", [events.NodeProvisioned("id", "0.1", "o"), events.RuntimeStarted("b", "0.1", "p", "open", 0)]
)
def test_who_a_node_is_has_no_missing_field(event: events.Event) -> None:
    """Its id, its version, who provisioned it: with any one left out it is no such event, and nothing is put in its place."""
    code, version, *fields = msgpack.unpackb(encode(event))
    for left_out in range(len(fields)):
        with pytest.raises(EventFormatError):
            decode(msgpack.packb((code, version, *fields[:left_out], *fields[left_out + 1 :])))


def test_a_newer_version_is_refused_with_both_versions_named() -> None:
    """An event of a later program is news from the future, not damage."""
    with pytest.raises(EventFormatError, match="newer") as caught:
        decode(msgpack.packb([31, 2, "id", "success"]))
    assert "version 2" in str(caught.value)


def test_an_old_version_is_upcast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 1 bytes stay readable when version 2 adds a field: the upcaster fills it in memory."""
    monkeypatch.setitem(event_codec.VERSIONS, 31, 2)
    monkeypatch.setitem(event_codec.UPCASTERS, (31, 1), lambda fields: (fields[0], "success"))
    monkeypatch.delitem(event_codec._MAKE, (31, 1))
    assert decode(msgpack.packb([31, 1, "id"])) == events.ExecutionCompleted("id", "success")


def test_check_types_names_the_wrong_field() -> None:
    """Verification reports a field of another type by its name."""
    assert check_types(events.ExecutionCompleted("id", 7)) == "outcome"  # type: ignore[arg-type]
    assert check_types(events.RunEnded("id", "a", "b")) is None
