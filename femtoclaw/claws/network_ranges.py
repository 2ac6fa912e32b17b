"""Which IP addresses are the public network's. Pure: judged from tables, the same under every version of Python."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "169.254.169.253", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16",
         "192.0.0.192", "fd00:ec2::254", "fd00:ec2::253", "fd00:ec2::23", "fd20:ce::254", "fe80::a9fe:a9fe"),
    )
)  # fmt: skip
"""Where cloud hosts hand out their machines' credentials. No setting opens these."""

_V4_REFUSED = tuple(
    map(
        ipaddress.IPv4Network,
        ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
         "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
         "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)  # fmt: skip
_V6_PUBLIC = ipaddress.IPv6Network("2000::/3")
_V6_REFUSED = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20", "3ffe::/16"))
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_TEREDO = ipaddress.IPv6Network("2001::/32")
_ISATAP = (0x00005EFE, 0x02005EFE)


def judged(text: str) -> Address:
    """The address in ``text``; one that only wraps an IPv4 address is that one. Raises ValueError for none."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def may_connect(address: Address, allowed: Iterable[str]) -> bool:
    """Whether the address is public or in a network of ``allowed``, and so is each IPv4 address that it carries."""
    networks = [ipaddress.ip_network(text) for text in allowed]
    if address in METADATA or any(each in METADATA for each in _carried(address)):
        return False
    for each in _carried(address):
        if not (_public_v4(each) or _within(each, networks)):
            return False
    return _within(address, networks) or _public(address)


def _within(address: Address, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return _public_v4(address)
    if address in _NAT64 or address in _TEREDO:
        return True  # as far as what they carry is, which is judged beside this
    return address in _V6_PUBLIC and not any(address in network for network in _V6_REFUSED)


def _public_v4(address: ipaddress.IPv4Address) -> bool:
    return not any(address in network for network in _V4_REFUSED)


def _carried(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """IPv4 addresses that a relay would take out of this IPv6 address, and talk to."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    number = int(address)
    if address in _NAT64:
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)
    elif address in _SIX_TO_FOUR:
        yield ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF)
    elif address in _TEREDO:
        yield ipaddress.IPv4Address(number >> 64 & 0xFFFFFFFF)
        yield ipaddress.IPv4Address(~number & 0xFFFFFFFF)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)
