"""An etcd that stops, freezes, forgets, is another one, or is too old: told in time, and never believed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest

from cluster.errors import (
    CoordinatorUnavailableError,
    CoordinatorVersionError,
    EpochRegressionError,
)
from cluster.etcd_messages import message
from tests.cluster.etcd_members import (
    CALL_S,
    LEASE_S,
    WAIT_S,
    Candidates,
    answers_late,
    campaign_until_obtained,
    obtained,
    refused_within,
    register,
)
from tests.cluster.etcd_process import EtcdCluster, free_ports, poll


def test_a_stopped_etcd_is_an_answer_in_time(own_etcd: EtcdCluster, candidates: Candidates) -> None:
    """Every call raises within its time; held() ends by itself; afterwards everything goes on, register included."""
    a, b = candidates.member(own_etcd.endpoints), candidates.member(own_etcd.endpoints)
    epoch = obtained(a)
    kept = a.publish(epoch, register(4, 0))
    own_etcd.members[0].kill()
    assert a.held()
    for act in (
        a.leader, a.register, lambda: a.publish(epoch, register(5, 1)), lambda: b.campaign("b"), lambda: a.wait_change(30),
    ):  # fmt: skip
        assert refused_within(act, CoordinatorUnavailableError, 4 * CALL_S).exit_code == 4
    poll(lambda: not a.held(), LEASE_S + 1)
    refused_within(a.resign, CoordinatorUnavailableError, 4 * CALL_S)
    own_etcd.members[0].start()
    own_etcd.members[0].wait()
    poll(lambda: not answers_late(b))
    assert b.register() == kept
    newer = campaign_until_obtained(b, "b", epoch)
    assert newer > epoch
    assert not a.held()
    assert a.publish(epoch, register(5, 1)) is None
    assert b.publish(newer, register(5, 1)) == register(5, 2)


def test_a_frozen_etcd_is_an_answer_in_time(own_etcd: EtcdCluster, candidates: Candidates) -> None:
    """An etcd that takes requests and never answers: the time limit ends every call, and a wait just passes."""
    a = candidates.member(own_etcd.endpoints)
    epoch = obtained(a)
    own_etcd.members[0].freeze()
    for act in (a.leader, a.register, lambda: a.publish(epoch, register(5, 0)), a.resign):
        refused_within(act, CoordinatorUnavailableError, 4 * CALL_S)
    assert not a.held()
    own_etcd.members[0].thaw()
    poll(lambda: not answers_late(a))
    assert campaign_until_obtained(a, "a", epoch) > epoch


def test_a_lease_that_lapsed_here_stays_lapsed(own_etcd: EtcdCluster, candidates: Candidates) -> None:
    """etcd comes back before it ended the lease itself: held() was false once, and stays so."""
    a = candidates.member(own_etcd.endpoints)
    obtained(a)
    own_etcd.members[0].freeze()
    poll(lambda: not a.held(), LEASE_S + 1, pause_s=0.01)
    own_etcd.members[0].thaw()
    poll(lambda: not answers_late(a))
    assert not a.wait_change(LEASE_S) or a.leader() is None
    assert not a.held()


@pytest.mark.parametrize("above", [1000])
def test_an_etcd_that_forgot_is_refused(own_etcd: EtcdCluster, candidates: Candidates, above: int) -> None:
    """A fresh folder under the same addresses has the same cluster id: its epochs give it away, and nobody leads."""
    a = candidates.member(own_etcd.endpoints)
    error = refused_within(lambda: a.campaign("a", above), EpochRegressionError, 4 * CALL_S)
    assert error.exit_code == 3
    assert not a.held()
    # Given back, not left to its lease; and this object answers nothing else any more.
    other = candidates.member(own_etcd.endpoints)
    assert other.leader() is None
    refused_within(a.leader, EpochRegressionError, CALL_S)
    # Somebody who knows of no such epoch leads; a candidate that does refuses to follow it.
    obtained(other, "b")
    third = candidates.member(own_etcd.endpoints)
    refused_within(lambda: third.campaign("c", above), EpochRegressionError, 4 * CALL_S)
    assert other.held()


def test_an_etcd_that_is_emptied_meanwhile_is_found_out(own_etcd: EtcdCluster, candidates: Candidates) -> None:
    """The register cannot just be gone: the revision is lower than what was seen before."""
    a, b = candidates.member(own_etcd.endpoints), candidates.member(own_etcd.endpoints)
    epoch = obtained(a)
    for version in range(5):
        assert a.publish(epoch, register(4, version)) is not None
    assert b.leader() == ("a", epoch)
    own_etcd.members[0].kill()
    own_etcd.members[0].wipe()
    own_etcd.members[0].start()
    own_etcd.members[0].wait()

    def halted() -> bool:
        try:
            b.register()
        except CoordinatorUnavailableError:
            return False
        except EpochRegressionError:
            return True
        raise AssertionError("the empty register was believed")

    poll(halted)
    poll(lambda: not a.held(), LEASE_S + 1)
    refused_within(b.leader, EpochRegressionError, CALL_S)


def test_another_etcd_is_refused(etcd: EtcdCluster, own_etcd: EtcdCluster, candidates: Candidates) -> None:
    """One list of endpoints, two clusters: the second one to answer is not believed. Nor is one that was not expected."""
    a = candidates.member((*own_etcd.endpoints, *etcd.endpoints))
    assert a.leader() is None
    own_etcd.members[0].stop()
    refused_within(a.leader, EpochRegressionError, 4 * CALL_S)
    expecting = candidates.member(etcd.endpoints, cluster_id=1)
    refused_within(expecting.connect, EpochRegressionError, 4 * CALL_S)


@contextmanager
def etcd_of_version(text: str) -> Iterator[str]:
    """A server that answers one question: its version."""

    def status(request: bytes, context: grpc.ServicerContext) -> bytes:
        answer: bytes = message(
            "StatusResponse", version=text, header=message("Header", cluster_id=7)
        ).SerializeToString()
        return answer

    handlers = {"Status": grpc.unary_unary_rpc_method_handler(status)}
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("etcdserverpb.Maintenance", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(WAIT_S)


@pytest.mark.parametrize("version", ["3.4.21", "3.5.0", "3.5.5"])
def test_an_etcd_of_a_bad_version_is_refused(candidates: Candidates, version: str) -> None:
    """Asked before anything else, and refused with both versions in the text."""
    with etcd_of_version(version) as endpoint:
        error = refused_within(candidates.member((endpoint,)).connect, CoordinatorVersionError, 5)
    assert error.exit_code == 2
    assert version in str(error)
    assert "3.4.22" in str(error)


def test_nobody_there_is_an_answer_in_time(candidates: Candidates) -> None:
    """A port that nobody listens on, and one that takes connections and says nothing."""
    import socket

    refused_within(
        candidates.member((f"127.0.0.1:{free_ports(1)[0]}",)).connect, CoordinatorUnavailableError, 4 * CALL_S
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        refused_within(candidates.member((endpoint,)).connect, CoordinatorUnavailableError, 4 * CALL_S)
