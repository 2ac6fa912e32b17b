"""What an operator says about etcd, and which of its versions are accepted. Light: no gRPC here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cluster.errors import ClusterConfigurationError, CoordinatorVersionError
from cluster.limits import (
    COORDINATOR_CALL_S_MAX,
    COORDINATOR_CALL_S_MIN,
    COORDINATOR_ENDPOINTS_MAX,
    LEASE_S_MAX,
    LEASE_S_MIN,
)

VERSION_TEXT = re.compile(r"([0-9]{1,5})\.([0-9]{1,5})\.([0-9]{1,5})(?:[-+][0-9A-Za-z.+-]{1,64})?")
ENDPOINT_TEXT = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,64}\]):[0-9]{1,5}")
PREFIX_TEXT = re.compile(r"(?:/[A-Za-z0-9._-]{1,64}){1,8}")


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """PEM bytes: whom to trust, and our own certificate and key where etcd asks for one (both, or none)."""

    authority: bytes
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if not self.authority or bool(self.certificate) != bool(self.key):
            raise ClusterConfigurationError(
                "TLS for etcd is half configured", expected="an authority, and certificate and key together or neither"
            )


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """How one member reaches etcd.

    ``endpoints``: host:port of members of one etcd cluster, tried in this order. ``lease_s``: how long leadership outlives
    a silent leader. ``call_s``: the most one call takes; at most a third of the lease, so that a lost keepalive can be
    repeated. ``cluster_id``: refuse any other etcd; None takes the first that answers. Raises ClusterConfigurationError.
    """

    endpoints: tuple[str, ...]
    prefix: str = "/femtoclaw"
    lease_s: int = 5
    call_s: float = 1.5
    tls: EtcdTls | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    cluster_id: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.endpoints) <= COORDINATOR_ENDPOINTS_MAX:
            raise _wrong("endpoints", f"1 to {COORDINATOR_ENDPOINTS_MAX}", len(self.endpoints))
        for endpoint in self.endpoints:
            if not ENDPOINT_TEXT.fullmatch(endpoint):
                raise _wrong("endpoint", "host:port", endpoint[:300])
        if not PREFIX_TEXT.fullmatch(self.prefix):
            raise _wrong("prefix", "/name or /name/name", self.prefix[:300])
        if not LEASE_S_MIN <= self.lease_s <= LEASE_S_MAX:
            raise _wrong("lease", f"{LEASE_S_MIN} to {LEASE_S_MAX} s", self.lease_s)
        most = min(COORDINATOR_CALL_S_MAX, self.lease_s / 3)
        if not COORDINATOR_CALL_S_MIN <= self.call_s <= most:
            raise _wrong("time limit of a call", f"{COORDINATOR_CALL_S_MIN} s to {most:.1f} s", self.call_s)
        if (self.user is None) != (self.password is None):
            raise _wrong("user", "a user with a password, or neither", "one of the two")


def check_version(text: str, where: str) -> None:
    """Refuse an etcd that is known to lose or repeat confirmed writes, and one whose version cannot be read.

    Before 3.4.22 and from 3.5.0 to 3.5.5 a member may forget, or apply twice, what was confirmed, after a crash. Raises
    CoordinatorVersionError.
    """
    found = VERSION_TEXT.fullmatch(text)
    version = tuple(int(part) for part in found.groups()) if found else (0, 0, 0)
    if version < (3, 4, 22) or (3, 5, 0) <= version < (3, 5, 6):
        raise CoordinatorVersionError(
            "this version of etcd cannot be relied on", where=where, expected="3.4.22 or newer of 3.4, or 3.5.6 or newer",
            found=text[:64],
        )  # fmt: skip


def _wrong(what: str, expected: str, found: object) -> ClusterConfigurationError:
    return ClusterConfigurationError(f"the {what} for etcd cannot be used", expected=expected, found=found)
