"""One spelling for each web address, or none: what policy judges is what is connected to."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from femtoclaw.claws import WEB_GET
from femtoclaw.claws.network_ranges import judged, may_connect
from femtoclaw.facts import ArgumentInvalid, Facts, facts
from femtoclaw.web_address import AddressInvalid, host_matches, read_address, read_pattern, refusal


@pytest.mark.requirement("POLICY-12.1")
@pytest.mark.parametrize(
    "text, canonical",
    [
        ("HTTPS://Example.ORG", "https://example.org/"),
        ("https://example.org.:443/a", "https://example.org/a"),
        ("http://example.org:80/?q=%2e", "http://example.org/?q=%2e"),
        ("https://example.org:8443/%7euser/%c3%a9", "https://example.org:8443/~user/%C3%A9"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://BÜCHER。example/", "https://xn--bcher-kva.example/"),
        ("https://[2001:DB8:0:0::1]/", "https://[2001:db8::1]/"),
        ("https://[::ffff:10.0.0.1]/", "https://10.0.0.1/"),
        ("https://[::ffff:a00:1]/", "https://10.0.0.1/"),
        ("https://10.0.0.1/a/", "https://10.0.0.1/a/"),
    ],
)
def test_an_address_has_one_spelling(text: str, canonical: str) -> None:
    """Case, dots, ports, escapes, IDNA and wrapped IPv4 addresses come out the same, and are then their own spelling."""
    assert read_address(text).text() == canonical
    assert read_address(canonical).text() == canonical


REFUSED = {
    "ADDRESS_MALFORMED": [
        "", "example.org", "//example.org/", "https:/example.org", "https:///a", "https://example.org/#part",
        "https://example.org\\@10.0.0.1/", "https://example.org/ a", "https://exa\tmple.org/", "https://example.org/\n",
        "https://example.org:0/", "https://example.org:65536/", "https://example.org:+443/", "https://example.org:/",
        "https://::1/", "https://[::1/", "https://[fe80::1%25eth0]/", "https://example.org\u00a0/", "https://a:b:1/",
    ],
    "ADDRESS_SCHEME": ["file:///etc/passwd", "ftp://example.org/", "gopher://example.org:70/", "data://a/"],
    "ADDRESS_USER": ["https://user@example.org/", "https://example.org:443@10.0.0.1/", "https://@example.org/"],
    "ADDRESS_HOST": [
        "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/", "https://127.0.0.01/",
        "https://127.0.0.1./", "https://256.0.0.1/", "https://1.2.3.4.5/", "https://0x7f.0.0.1/", "https://127.0.0.0x1/",
        "https://１２７.0.0.1/", "https://127。0。0。1/", "https://①②⑦.0.0.1/", "https://ex%61mple.org/", "https://-a.org/",
        "https://a..b/", "https://./", "https://" + "a" * 64 + ".org/", "https://exa℀mple.org/", "https://a*b.org/",
    ],
    "ADDRESS_PATH": [
        "https://example.org/a/../b", "https://example.org/./b", "https://example.org/%2e%2E/b",
        "https://example.org/a%2fb", "https://example.org/a%5cb", "https://example.org/%252e%252e/", "https://a.org//b",
        "https://example.org/%00", "https://example.org/%zz", "https://example.org/ö", "https://example.org/..;x=1/b",
    ],
    "ADDRESS_QUERY": ["https://example.org/?ö", "https://example.org/?%"],
    "ADDRESS_TOO_LONG": ["https://example.org/" + "a" * 8192],
}  # fmt: skip


@pytest.mark.requirement("POLICY-12.1", "WHITE-9.4")
@pytest.mark.parametrize("code, text", [(code, text) for code, texts in REFUSED.items() for text in texts])
def test_what_could_be_read_in_two_ways_is_refused(code: str, text: str) -> None:
    """By the gate, with a stable code, and without a word of the address."""
    found = facts(WEB_GET, {"url": text}, {"hosts": ["example.org"]})
    assert isinstance(found, ArgumentInvalid)
    assert found.code == code
    assert not text or text not in found.detail


def test_the_gate_judges_parts_and_lists() -> None:
    """Four facts in canonical form; a host, port or scheme beyond the node's list never gets as far as policy."""
    settings = {"hosts": ["example.org", "*.example.net", "::1"], "ports": [443, 8080]}
    found = facts(WEB_GET, {"url": "https://A.example.NET:8080/%7Ex?q"}, settings)
    assert found == Facts({"scheme": "https", "host": "a.example.net", "port": 8080, "url_path": "/~x"})
    for text, code in {
        "https://example.net/": "HOST_NOT_LISTED",
        "https://badexample.net/": "HOST_NOT_LISTED",
        "https://example.org.evil.test/": "HOST_NOT_LISTED",
        "https://[::2]/": "HOST_NOT_LISTED",
        "https://example.org:444/": "PORT_NOT_LISTED",
        "http://example.org:8080/": "PLAIN_HTTP",
    }.items():
        refused = facts(WEB_GET, {"url": text}, settings)
        assert isinstance(refused, ArgumentInvalid)
        assert refused.code == code
    assert refusal(read_address("https://example.org/"), {}) == "HOST_NOT_LISTED"
    assert refusal(read_address("https://[::1]/"), settings) == ""


@given(st.text(max_size=30), st.sampled_from(["https://{}/", "https://{}", "http://a.{}:8/x", "https://e.org/{}"]))
def test_reading_ends_in_one_spelling_or_a_refusal(text: str, shape: str) -> None:
    """Whatever is given: no other exception, and what is accepted is ASCII and its own spelling."""
    try:
        address = read_address(shape.format(text))
    except AddressInvalid:
        return
    assert address.text().isascii()
    assert read_address(address.text()) == address
    assert not any(char.isspace() for char in address.text())


def test_patterns_match_names_beneath_and_nothing_else() -> None:
    """`*.` stands for at least one label."""
    assert host_matches("a.b.example.org", "*.example.org")
    assert not host_matches("example.org", "*.example.org")
    assert not host_matches("xexample.org", "*.example.org")
    assert [read_pattern(text) for text in ("*.Example.org.", "::1", "10.0.0.1")] == [
        "*.example.org",
        "::1",
        "10.0.0.1",
    ]
    for text in ("*.10.0.0.1", "*", "*.*.org", "a/b", "https://a"):
        with pytest.raises(AddressInvalid):
            read_pattern(text)


KEPT_FROM = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.1.1", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fec0::1",
    "fc00::1", "fd00:ec2::254", "ff02::1", "100::1", "2001:db8::1", "2001:10::1", "2001:20::1", "3ffe::1", "5f00::1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::", "2002:c0a8:101::5",
    "2001:0:7f00:1::", "2001:0:808:808:0:0:80ff:fffe", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "11.0.0.0", "223.255.255.255",
    "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("text", KEPT_FROM)
def test_addresses_that_are_not_the_public_networks(text: str) -> None:
    """Private, local, reserved, metadata, multicast; also inside of mapped, NAT64, 6to4, Teredo and ISATAP addresses."""
    assert not may_connect(judged(text), [])


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses(text: str) -> None:
    """Their neighbours are reached."""
    assert may_connect(judged(text), [])


def test_networks_are_opened_one_by_one_and_metadata_never() -> None:
    """A setting opens what it names, for addresses that carry one too; no setting opens the metadata services."""
    assert may_connect(judged("10.1.2.3"), ["10.1.0.0/16"])
    assert not may_connect(judged("10.2.2.3"), ["10.1.0.0/16", "::/0"])
    assert may_connect(judged("::ffff:10.1.2.3"), ["10.1.0.0/16"])
    assert may_connect(judged("64:ff9b::a01:203"), ["10.1.0.0/16"])
    assert may_connect(judged("fd00::1"), ["fd00::/8"])
    for text in ("169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "168.63.129.16"):
        assert not may_connect(judged(text), ["0.0.0.0/0", "::/0"])


@given(st.ip_addresses(v=4).filter(lambda address: not address.is_global or address.is_multicast))
def test_nothing_that_python_calls_private_is_public(address: ipaddress.IPv4Address) -> None:
    """The tables are their own, and no wider than the standard library's."""
    assert not may_connect(address, [])


@given(st.ip_addresses(v=6))
def test_the_same_for_ipv6(address: ipaddress.IPv6Address) -> None:
    """Whatever is allowed is in the public part, or carries a public IPv4 address."""
    if may_connect(address, []):
        carried = address.ipv4_mapped
        assert int(address) >> 125 == 1 or int(address) >> 32 == 0x64FF9B << 64 or (carried and carried.is_global)
