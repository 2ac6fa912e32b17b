"""Calls to etcd: one of several endpoints, each call within its time, every failure typed, nothing retried blindly.

A call goes to the endpoint that answered last and, when that fails, to the others, within one time limit. So a request
may have been carried out although its answer was lost, and be sent twice: what is asked here tolerates that (reads, grants
that end by themselves, and transactions whose refusal tells whether they are already done). Each endpoint says its version
before it is used. All must be of one cluster, and its revision must not go back while this object lives.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import grpc

from cluster.errors import (
    ClusterConfigurationError,
    CoordinatorUnavailableError,
    EpochRegressionError,
)
from cluster.etcd_endpoint import (
    AUTHENTICATE,
    GRANT,
    KEEP_ALIVE,
    RANGE,
    REVOKE,
    STATUS,
    TXN,
    WATCH,
    Endpoint,
    boot_clock,
    failure_text,
    is_misconfigured,
    is_overdue,
    token_is_old,
)
from cluster.etcd_messages import COMPARE_CREATE_REVISION, COMPARE_EQUAL, COMPARE_VERSION, message
from cluster.etcd_settings import EtcdSettings, check_version

Answer = TypeVar("Answer")


class LeaseGoneError(Exception):
    """etcd does not know the lease (any more)."""


class KeyValue(NamedTuple):
    """One key as etcd holds it, and the store's revision when it was read. All numbers 0 when there is no such key."""

    value: bytes
    create_revision: int
    version: int
    lease: int
    revision: int


class EtcdClient:
    """The few calls that a coordinator needs. Methods may be called from any thread, in the process that made this."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._endpoints = [Endpoint(address, settings) for address in settings.endpoints]
        self._at = 0
        self._token: str | None = None
        self._revision = 0
        self._cluster_id = settings.cluster_id
        self._halted: EpochRegressionError | None = None
        self._closed = False
        self._watches: set[Any] = set()

    @property
    def usable(self) -> bool:
        """False in a forked child, after close, and once etcd was seen to have gone back."""
        return os.getpid() == self._pid and not self._closed and self._halted is None

    def get(self, key: bytes) -> KeyValue:
        """The newest confirmed value of a key."""
        return self._each(lambda endpoint, ends_s: self._get(endpoint, key, ends_s))

    def swap(self, compare: list[Any], put: Any, *look: bytes) -> tuple[bool, list[KeyValue], int]:
        """If all comparisons hold: put. If not: read the keys ``look``. Whether it was put, what was read, the revision."""
        failure = [message("Operation", range=message("RangeRequest", key=key)) for key in look]
        request = message("TxnRequest", compare=compare, success=[message("Operation", put=put)], failure=failure)

        def act(endpoint: Endpoint, ends_s: float) -> tuple[bool, list[KeyValue], int]:
            seen = self._revision
            answer = self._invoke(endpoint, TXN, request, ends_s)
            revision = self._forward(answer.header, seen, endpoint)
            read = [] if answer.succeeded else [_first(outcome.range, revision) for outcome in answer.responses]
            return answer.succeeded, read, revision

        return self._each(act)

    def grant(self, lease_s: int) -> tuple[int, float]:
        """A new lease: its id, and its time in seconds from before this call. etcd may grant more than was asked."""
        request = message("LeaseGrantRequest", ttl=lease_s)
        answer = self._each(lambda endpoint, ends_s: self._invoke(endpoint, GRANT, request, ends_s))
        if answer.error or answer.id == 0 or answer.ttl <= 0:
            raise self._unavailable([answer.error[:200] or "no lease"])
        return answer.id, float(answer.ttl)

    def renew(self, lease: int, key: bytes) -> tuple[float, KeyValue]:
        """Prolong a lease; its time in seconds from before this call, and the key as it was afterwards.

        An etcd member that was overtaken without noticing may still confirm keepalives. The read goes to the same
        member, and a majority has to agree to it; so only both together say that the lease is alive. Raises
        LeaseGoneError.
        """

        def send(endpoint: Endpoint, ends_s: float, token: str | None) -> Any:
            call = endpoint.stream(KEEP_ALIVE, iter([message("LeaseKeepAliveRequest", id=lease)]), ends_s, token)
            try:
                return next(call, None)
            finally:
                call.cancel()

        def act(endpoint: Endpoint, ends_s: float) -> tuple[float, KeyValue]:
            answer = self._authorized(endpoint, ends_s, lambda token: send(endpoint, ends_s, token))
            if answer is None:
                raise ValueError("no answer to a keepalive")
            self._same_cluster(answer.header, endpoint)
            if answer.ttl <= 0:
                raise LeaseGoneError
            return float(answer.ttl), self._get(endpoint, key, ends_s)

        return self._each(act)

    def revoke(self, lease: int) -> None:
        """End a lease, and with it its keys. It may have ended already."""
        request = message("LeaseRevokeRequest", id=lease)
        try:
            self._each(lambda endpoint, ends_s: self._invoke(endpoint, REVOKE, request, ends_s))
        except LeaseGoneError:
            return

    def wait_event(self, key: bytes, after: int, ends_s: float) -> bool:
        """Whether the key changed after revision ``after``; waits for it until ``ends_s`` of the boot clock."""
        self._check_usable()
        endpoint, ended = self._endpoints[self._at], threading.Event()

        def requests() -> Iterator[Any]:
            yield message("WatchRequest", create=message("WatchCreate", key=key, start_revision=after + 1))
            ended.wait()

        call = endpoint.stream(WATCH, requests(), ends_s, self._token)
        with self._lock:
            self._watches.add(call)
        try:
            for answer in call:
                self._same_cluster(answer.header, endpoint)
                if answer.events or answer.canceled:
                    return True
            raise self._unavailable([f"{endpoint.address}: a watch ended"])
        except grpc.RpcError as error:
            if self._closed or is_overdue(error):
                return False
            raise self._failed(error, endpoint) from error
        finally:
            ended.set()
            call.cancel()
            with self._lock:
                self._watches.discard(call)

    def halt(self, error: EpochRegressionError) -> EpochRegressionError:
        """From now on every call raises ``error``."""
        self._halted = error
        return error

    def close(self) -> None:
        """End waits and connections. Calls that are under way raise CoordinatorUnavailableError."""
        with self._lock:
            self._closed = True
            watches = list(self._watches)
        for call in watches:
            call.cancel()
        if os.getpid() == self._pid:
            for endpoint in self._endpoints:
                endpoint.channel.close()

    def _each(self, act: Callable[[Endpoint, float], Answer]) -> Answer:
        """Do it at the endpoint that answered last, else at the next: all within the time of one call."""
        self._check_usable()
        ends_s = boot_clock() + self._settings.call_s
        failures: list[str] = []
        for left in range(len(self._endpoints), 0, -1):
            at = self._at
            endpoint = self._endpoints[at]
            until_s = boot_clock() + (ends_s - boot_clock()) / left
            try:
                self._accept(endpoint, until_s)
                return act(endpoint, until_s)
            except (grpc.RpcError, ValueError) as error:
                # ValueError: no answer, or the channel was closed by another thread.
                if self._closed:
                    raise self._unavailable(["closed"]) from error
                failures.append(str(self._failed(error, endpoint).found))
                self._at = (at + 1) % len(self._endpoints)
        raise self._unavailable(failures)

    def _accept(self, endpoint: Endpoint, ends_s: float) -> None:
        if not endpoint.accepted:
            status = self._invoke(endpoint, STATUS, message("StatusRequest"), ends_s)
            check_version(status.version, endpoint.address)
            endpoint.accepted = True

    def _invoke(self, endpoint: Endpoint, method: tuple[str, str], request: Any, ends_s: float) -> Any:
        try:
            answer = self._authorized(endpoint, ends_s, lambda token: endpoint.invoke(method, request, ends_s, token))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise LeaseGoneError from error
            raise
        self._same_cluster(answer.header, endpoint)
        return answer

    def _authorized(self, endpoint: Endpoint, ends_s: float, send: Callable[[str | None], Answer]) -> Answer:
        """Send with a token; once more with a new one when etcd has forgotten or outdated it."""
        token = self._token or self._new_token(endpoint, ends_s)
        try:
            return send(token)
        except grpc.RpcError as error:
            if token is None or not token_is_old(error):
                raise
        return send(self._new_token(endpoint, ends_s))

    def _new_token(self, endpoint: Endpoint, ends_s: float) -> str | None:
        if self._settings.user is None:
            return None
        request = message("AuthenticateRequest", name=self._settings.user, password=self._settings.password)
        self._token = endpoint.invoke(AUTHENTICATE, request, ends_s, None).token
        return self._token

    def _get(self, endpoint: Endpoint, key: bytes, ends_s: float) -> KeyValue:
        seen = self._revision
        answer = self._invoke(endpoint, RANGE, message("RangeRequest", key=key), ends_s)
        return _first(answer, self._forward(answer.header, seen, endpoint))

    def _same_cluster(self, header: Any, endpoint: Endpoint) -> None:
        with self._lock:
            expected = self._cluster_id = self._cluster_id or header.cluster_id
        if header.cluster_id != expected:
            raise self.halt(
                EpochRegressionError(
                    "another etcd cluster answers", where=endpoint.address, expected=f"{expected:x}",
                    found=f"{header.cluster_id:x}",
                )
            )  # fmt: skip

    def _forward(self, header: Any, seen: int, endpoint: Endpoint) -> int:
        """The revision of an answer that a majority stood behind: not below what was seen before it was asked for."""
        revision: int = header.revision
        if revision < seen:
            raise self.halt(
                EpochRegressionError(
                    "etcd's revision went back", where=endpoint.address, expected=f">= {seen}", found=revision
                )
            )
        with self._lock:
            self._revision = max(self._revision, revision)
        return revision

    def _check_usable(self) -> None:
        if self._halted is not None:
            raise self._halted
        if not self.usable:
            raise CoordinatorUnavailableError("the connection to etcd was closed, or made in another process")

    def _failed(self, error: Exception, endpoint: Endpoint) -> CoordinatorUnavailableError:
        """What a failed call means; raises ClusterConfigurationError when trying again will not help."""
        endpoint.accepted = False
        text = failure_text(error)
        if is_misconfigured(error):
            raise ClusterConfigurationError("etcd refuses us", where=endpoint.address, found=text) from error
        return self._unavailable([f"{endpoint.address}: {text}"])

    def _unavailable(self, failures: list[str]) -> CoordinatorUnavailableError:
        return CoordinatorUnavailableError("etcd does not answer as it must", found="; ".join(failures)[:1000])


def absent(key: bytes) -> Any:
    """The comparison that a key does not exist."""
    return created(key, 0)


def created(key: bytes, revision: int) -> Any:
    """The comparison that a key was created by that revision (0: does not exist)."""
    return message("Compare", result=COMPARE_EQUAL, target=COMPARE_CREATE_REVISION, key=key, create_revision=revision)


def changed_times(key: bytes, version: int) -> Any:
    """The comparison that a key has been put that often since it was created."""
    return message("Compare", result=COMPARE_EQUAL, target=COMPARE_VERSION, key=key, version=version)


def _first(answer: Any, revision: int) -> KeyValue:
    for kv in answer.kvs:
        return KeyValue(kv.value, kv.create_revision, kv.version, kv.lease, revision)
    return KeyValue(b"", 0, 0, 0, revision)
