"""The embedded coordinator's own ways: a small file, an owner, a takeover by an operator."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.coordinator import NUMBER_MAX, Register, decode_register, encode_register
from cluster.errors import ClusterConfigurationError, CoordinatorUnavailableError, CorruptRegisterError
from cluster.static_coordinator import Kept, RegisterFile, RegisterMemory, StaticCoordinator, decode_kept, encode_kept

KEPT = Register(3, 10, b"r" * 32, ("a", "b"), 0)


def test_a_restarted_owner_goes_on_from_its_file(tmp_path: Path) -> None:
    """Epochs go up over restarts, the register stays; nothing is held before the new campaign."""
    path = str(tmp_path / "coordinator")
    first = StaticCoordinator("a", "a", RegisterFile(path))
    epoch = first.campaign("a")
    assert epoch == 1
    published = first.publish(epoch, KEPT)
    second = StaticCoordinator("a", "a", RegisterFile(path))
    assert not second.held()
    assert second.register() == published
    assert second.publish(epoch, KEPT._replace(version=1)) is None
    assert second.campaign("a") == 2


def test_a_takeover_has_a_higher_epoch() -> None:
    """The operator's epoch is the lowest; what the member itself has stored or promised counts too."""
    assert StaticCoordinator("b", "b", RegisterMemory(), epoch=7).campaign("b") == 7
    assert StaticCoordinator("b", "b", RegisterMemory(), epoch=7).campaign("b", above=9) == 10


def test_the_others_know_the_owner() -> None:
    """And its lowest epoch; they obtain nothing."""
    b = StaticCoordinator("b", "a", RegisterMemory(), epoch=4)
    assert b.leader() == ("a", 4)
    assert b.attests("a", 6)
    assert not b.attests("a", 3)
    assert b.campaign("b") is None
    assert b.publish(4, KEPT) is None


@pytest.mark.parametrize("epoch", [0, -1, NUMBER_MAX + 1])
def test_an_epoch_out_of_range_is_refused(epoch: int) -> None:
    with pytest.raises(ClusterConfigurationError):
        StaticCoordinator("a", "a", RegisterMemory(), epoch)


def test_the_last_epoch_is_the_last() -> None:
    """Nothing wraps around."""
    a = StaticCoordinator("a", "a", RegisterMemory(), NUMBER_MAX)
    assert a.campaign("a") == NUMBER_MAX
    with pytest.raises(ClusterConfigurationError):
        a.campaign("a")
    assert not a.held()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Every truncation and every flipped bit: refused, or read as what stands there, never a crash."""
    path = tmp_path / "coordinator"
    a = StaticCoordinator("a", "a", RegisterFile(str(path)))
    epoch = a.campaign("a")
    assert epoch is not None
    a.publish(epoch, KEPT)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptRegisterError):
            a.campaign("a")
        assert not a.held()
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            kept = decode_kept(bytes(flipped))
            decode_register(kept.raw, kept.version)
        except CorruptRegisterError:
            continue
        assert encode_kept(kept) == bytes(flipped)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """No epoch is granted that was not kept."""
    (tmp_path / "coordinator").mkdir()
    a = StaticCoordinator("a", "a", RegisterFile(str(tmp_path / "coordinator")))
    with pytest.raises(CoordinatorUnavailableError):
        a.campaign("a")
    assert not a.held()


class FullStore(RegisterMemory):
    """Keeps nothing more once ``full``."""

    full = False

    def save(self, raw: bytes) -> None:
        from wal.errors import LogFailedError

        if self.full:
            raise LogFailedError("a file could not be written durably; outcome unknown")
        super().save(raw)


def test_what_was_not_kept_was_not_published() -> None:
    store = FullStore()
    a = StaticCoordinator("a", "a", store)
    epoch = a.campaign("a")
    assert epoch is not None
    store.full = True
    with pytest.raises(CoordinatorUnavailableError):
        a.publish(epoch, KEPT)
    assert a.register() is None
    with pytest.raises(CoordinatorUnavailableError):
        a.campaign("a")
    assert not a.held()


NAMES = st.lists(st.text("abc-0", min_size=1, max_size=64), max_size=31, unique=True).map(
    lambda names: tuple(sorted(names))
)
NUMBERS = st.integers(0, NUMBER_MAX)


@given(NUMBERS, NUMBERS, st.binary(min_size=32, max_size=32), NAMES, NUMBERS, st.data())
def test_a_register_has_one_spelling(
    epoch: int, size: int, root: bytes, names: tuple[str, ...], version: int, data: st.DataObject
) -> None:
    """It comes back as it was; changed bytes are refused, or are another register's only spelling."""
    register = Register(epoch, size, root, names, version, tuple((name, size) for name in names))
    raw = encode_register(register)
    assert decode_register(raw, version) == register
    changed = bytearray(raw)
    changed[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert encode_register(decode_register(bytes(changed), version)) == bytes(changed)
    except CorruptRegisterError:
        pass


def test_other_spellings_of_a_register_are_refused() -> None:
    """The same values in more bytes than needed, with a boolean for a number, or with something behind."""
    raw = encode_register(KEPT)
    assert raw[:3] == b"\x96\x01\x03"
    for other in (b"\x96\x01\xcc\x03" + raw[3:], b"\x96\xc3" + raw[2:], b"\xdc\x00\x06" + raw[1:], raw + b"\x00"):
        with pytest.raises(CorruptRegisterError):
            decode_register(other, 1)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_register_or_a_typed_error(raw: bytes) -> None:
    try:
        assert encode_register(decode_register(raw, 1)) == raw
    except CorruptRegisterError:
        pass


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": -1}, {"size": NUMBER_MAX + 1}, {"epoch": True}, {"root": b"short"}, {"in_sync": ("b", "a")},
        {"in_sync": ("a", "a")}, {"in_sync": ("",)}, {"in_sync": ("a" * 65,)}, {"in_sync": tuple(f"{n:02}" for n in range(32))},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_register_is_not_written(wrong: dict[str, object]) -> None:
    """That would be the caller's defect."""
    with pytest.raises(ValueError, match=r"not|names"):
        encode_register(KEPT._replace(**wrong))  # type: ignore[arg-type]


def test_kept_bytes_are_strict() -> None:
    """A version without a register, or a register without a version, is nothing that this program wrote."""
    for kept in (Kept(1, 0, b"x"), Kept(1, 1, b""), Kept(-1, 0, b""), Kept(1, -1, b"x")):
        with pytest.raises(CorruptRegisterError):
            decode_kept(encode_kept(kept))
