"""How long a leadership is believed in, to the second: with a clock and an etcd whose every answer is chosen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.errors import ClusterConfigurationError, CoordinatorUnavailableError, EpochRegressionError
from cluster.etcd_client import EtcdClient, KeyValue, LeaseGoneError
from cluster.etcd_lease import Leadership, LeaseKeeper

EPOCH = 7
LEASE_S = 10.0


class SlowEtcd:
    """Renews leases of ``lease_s`` as long as ``fails`` is None; each answer takes ``slow_s`` of the clock ``now_s``."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slow_s = 0.0
        self.lease_s = LEASE_S
        self.epoch = EPOCH
        self.fails: Exception | None = None
        self.meanwhile: Callable[[], object] = lambda: None

    def renew(self, lease: int, key: bytes) -> tuple[float, KeyValue]:
        self.now_s += self.slow_s
        self.meanwhile()
        if self.fails is not None:
            raise self.fails
        return self.lease_s, KeyValue(b"a", self.epoch, 1, lease, 50)


class ChosenEtcd(EtcdClient):
    """The client's place taken by ``SlowEtcd``; no connection is made."""

    def __init__(self, etcd: SlowEtcd) -> None:
        self.etcd = etcd

    def renew(self, lease: int, key: bytes) -> tuple[float, KeyValue]:
        return self.etcd.renew(lease, key)


@pytest.fixture
def etcd() -> SlowEtcd:
    return SlowEtcd()


@pytest.fixture
def keeper(etcd: SlowEtcd) -> LeaseKeeper:
    return LeaseKeeper(ChosenEtcd(etcd), b"/leader", Leadership(EPOCH, 3, LEASE_S), etcd.now_s, lambda: etcd.now_s)


def test_a_lease_is_held_for_nine_tenths(etcd: SlowEtcd, keeper: LeaseKeeper) -> None:
    """Counted from before it was asked for."""
    etcd.now_s = 108.99
    assert keeper.held()
    etcd.now_s = 109.0
    assert not keeper.held()


def test_a_renewal_counts_from_its_request(etcd: SlowEtcd, keeper: LeaseKeeper) -> None:
    """An answer that took three seconds gives three seconds less: etcd may have begun counting when it was sent."""
    etcd.slow_s = 3.0
    etcd.now_s = 102.0
    keeper.renew()
    etcd.now_s = 110.99
    assert keeper.held()
    etcd.now_s = 111.0
    assert not keeper.held()


def test_a_shorter_lease_is_taken_as_it_is(etcd: SlowEtcd, keeper: LeaseKeeper) -> None:
    """What etcd grants counts, not what was asked."""
    etcd.lease_s = 4.0
    keeper.renew()
    etcd.now_s = 103.6
    assert not keeper.held()


def test_a_lapsed_lease_stays_lapsed(etcd: SlowEtcd, keeper: LeaseKeeper) -> None:
    """A confirmation that arrives afterwards changes nothing, whether or not anybody asked in between."""
    etcd.slow_s = 9.5
    keeper.renew()
    etcd.now_s = 105.0
    assert not keeper.held()


def test_a_lease_that_was_seen_lapsed_stays_lapsed(etcd: SlowEtcd, keeper: LeaseKeeper) -> None:
    etcd.now_s = 109.5
    assert not keeper.held()
    etcd.now_s = 101.0
    keeper.renew()
    assert not keeper.held()


def test_a_stop_during_a_renewal_is_final(etcd: SlowEtcd, keeper: LeaseKeeper) -> None:
    etcd.meanwhile = keeper.stop
    keeper.renew()
    assert not keeper.held()


def test_another_epochs_key_ends_it(etcd: SlowEtcd, keeper: LeaseKeeper) -> None:
    """The lease may live on: the key that it carried is gone, or somebody else's."""
    etcd.epoch = EPOCH + 1
    keeper.renew()
    assert not keeper.held()


@pytest.mark.parametrize(
    "error", [LeaseGoneError(), EpochRegressionError("went back"), ClusterConfigurationError("refused")], ids=repr
)
def test_a_refusal_ends_it(etcd: SlowEtcd, keeper: LeaseKeeper, error: Exception) -> None:
    """etcd has answered, and the answer is no."""
    etcd.fails = error
    keeper.renew()
    assert not keeper.held()


def test_silence_ends_it_by_time_only(etcd: SlowEtcd, keeper: LeaseKeeper) -> None:
    """Without an answer the old time goes on running."""
    etcd.fails = CoordinatorUnavailableError("no answer")
    etcd.now_s = 105.0
    with pytest.raises(CoordinatorUnavailableError):
        keeper.renew()
    assert keeper.held()
    etcd.now_s = 109.0
    assert not keeper.held()
