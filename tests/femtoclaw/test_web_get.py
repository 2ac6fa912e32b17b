"""``web.get`` against servers that lie, stall, flood and redirect, and names that lead where they must not."""

from __future__ import annotations

import base64
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.claws import WEB_GET
from femtoclaw.claws.errors import ClawError
from femtoclaw.claws.http_answer import Pace
from femtoclaw.claws.web_exchange import Resolve, fetch
from femtoclaw.isolation import Isolation
from tests.femtoclaw.web_site import CERTIFICATES, Behave, Site, answer, site

LOOPBACK = ["127.0.0.0/8", "::1/128"]


def at_home(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def settings_for(*sites: Site, **more: Any) -> dict[str, Any]:
    ports = [each.port for each in sites]
    base = {"hosts": ["site.test"], "ports": ports, "plain_http": True, "private_networks": LOOPBACK}
    return base | more


def get(
    where: Site, path: str = "/", resolve: Resolve = at_home, seconds: float = 10, window: float = 5.0, **more: Any
) -> dict[str, Any]:
    """One exchange with ``http://site.test``; settings by keyword, and ``args`` beside the address."""
    args = {"url": f"http://site.test:{where.port}{path}"} | more.pop("args", {})
    pace = Pace(time.monotonic() + seconds, window_seconds=window)
    return fetch(args, settings_for(where) | more, resolve, pace)


def refused(kind: str, text: str, exchange: Callable[[], Any]) -> None:
    with pytest.raises(ClawError) as caught:
        exchange()
    assert (caught.value.kind, text in str(caught.value)) == (kind, True), str(caught.value)
    assert "site.test" not in str(caught.value)


def test_an_answer_is_told_with_what_led_to_it() -> None:
    """Status, address, chosen headers, text; the request names one host and asks for nothing compressed."""
    body = answer(b"gr\xc3\xbc\xc3\x9fe", "200 Fine", "Content-Type: text/plain", "Set-Cookie: secret=1", "ETag: x")
    with site(body) as where:
        result = get(where, "/a?b=c", args={"headers": {"accept": "text/*"}})
        assert result == {
            "status": 200, "url": f"http://site.test:{where.port}/a?b=c", "content": "grüße", "bytes": 7,
            "headers": {"content-type": "text/plain", "etag": "x"}, "truncated": False, "redirects": [],
            "address": "127.0.0.1",
        }  # fmt: skip
        (request,) = where.requests
    assert request.startswith(b"GET /a?b=c HTTP/1.1\r\nhost: site.test:%d\r\n" % where.port)
    assert b"accept-encoding: identity\r\n" in request
    assert b"accept: text/*\r\n" in request


def test_every_status_is_a_result_and_bytes_stay_bytes() -> None:
    """404 and 304 are no errors; what is no plain text comes as base64."""
    raw = bytes(range(256))
    with site(answer(raw, "404 Not Found")) as where:
        result = get(where)
        assert (result["status"], base64.b64decode(result["content_base64"])) == (404, raw)
    with site(answer(b"\x01" * 10)) as where:
        assert "content" not in get(where)
    with site(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 900\r\n\r\n") as where:
        assert (get(where)["status"], get(where)["bytes"]) == (304, 0)


def test_chunks_and_bodies_without_length_are_read() -> None:
    """Chunk extensions and trailers are passed over; a body may end with the connection."""
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nWiki\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n"
    )
    with site(b"HTTP/1.1 100 Continue\r\n\r\n" + chunked) as where:
        assert get(where)["content"] == "Wiki0123456789"
    with site(b"HTTP/1.1 200 OK\r\n\r\nuntil the end") as where:
        assert get(where)["content"] == "until the end"


def test_the_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that other clients obey change nothing."""
    with site(answer(b"proxy")) as proxy, site(answer(b"direct")) as where:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert get(where)["content"] == "direct"
        assert proxy.peers == 0


NAMES = {
    "rebinding": [["93.184.216.34", "127.0.0.1"]], "private": [["10.0.0.1"]], "metadata": [["169.254.169.254"]],
    "mapped": [["::ffff:127.0.0.1"]], "scoped": [["fe80::1%eth0"]], "nat64": [["64:ff9b::7f00:1"]],
}  # fmt: skip


@pytest.mark.requirement("POLICY-12.1")
@pytest.mark.parametrize("answers", NAMES.values(), ids=NAMES)
def test_one_forbidden_address_of_a_name_refuses_them_all(answers: list[list[str]]) -> None:
    """Before a connection is made to any of them."""
    with site(answer(b"inside")) as where:
        more = {"private_networks": []}
        refused("AuthorizationError", "not allowed", lambda: get(where, resolve=lambda *_: answers[0], **more))
        assert where.peers == 0


def test_a_name_is_looked_up_once_and_the_judged_address_is_the_one_connected_to() -> None:
    """A name that changes its mind has only been asked once, and its second answer is never seen."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with site(answer(b"first")) as where:
        assert get(where, resolve=rebinding)["address"] == "127.0.0.1"
    assert asked == ["site.test"]


def test_literal_addresses_are_judged_too() -> None:
    """A listed host that is an address still has to be in an allowed network, and asks no resolver."""

    def never(host: str, port: int) -> list[str]:
        raise AssertionError("asked")

    with site(answer(b"here")) as where:
        args = {"url": f"http://127.0.0.1:{where.port}/"}
        hosts = {"hosts": ["127.0.0.1"]}
        refused(
            "AuthorizationError",
            "not allowed",
            lambda: get(where, resolve=never, args=args, private_networks=[], **hosts),
        )
        assert get(where, resolve=never, args=args, **hosts)["content"] == "here"


@pytest.mark.requirement("WHITE-9.5")
def test_redirects_are_results_unless_the_node_says_otherwise() -> None:
    """Policy judged one address: following is for the operator to allow."""
    with site(answer(b"", "302 Found", "Location: /next")) as where:
        result = get(where)
        assert (result["status"], result["headers"]["location"], len(where.requests)) == (302, "/next", 1)


def redirecting(to: Callable[[bytes], str]) -> Behave:
    def behave(sock: socket.socket, head: bytes) -> None:
        path = head.split(b" ", 2)[1]
        target = to(path)
        sock.sendall(answer(b"there") if not target else answer(b"", "302 Found", f"Location: {target}"))

    return behave


@pytest.mark.requirement("WHITE-9.5")
@pytest.mark.parametrize(
    "target, kind, text",
    [
        ("http://169.254.169.254/latest/", "AuthorizationError", "not in the node's list"),
        ("http://other.test/", "AuthorizationError", "not in the node's list"),
        ("file:///etc/passwd", "AuthorizationError", "no web address"),
        ("//user@site.test/", "AuthorizationError", "no web address"),
        ("http://site.test:1/", "AuthorizationError", "port is not"),
        ("http://[::1/", "AuthorizationError", "no web address"),
        ("http://0x7f.1/", "AuthorizationError", "no web address"),
        ("http://inside.test:{port}/", "AuthorizationError", "not allowed"),
        ("/again", "ExecutionError", "redirects_max"),
    ],
)
def test_a_redirect_begins_again_from_nothing(target: str, kind: str, text: str) -> None:
    """Scheme, host, port and addresses of the next hop are judged as those of the first; their number is bounded."""

    def resolve(host: str, port: int) -> list[str]:
        return ["10.0.0.1"] if host == "inside.test" else ["127.0.0.1"]

    with site(redirecting(lambda _: target.format(port=where.port))) as where:
        hosts = ["site.test", "inside.test"]
        refused(kind, text, lambda: get(where, resolve=resolve, redirects_max=5, hosts=hosts))
        refused(kind, "bytes read", lambda: get(where, resolve=resolve, redirects_max=5, hosts=hosts))
        assert len(where.requests) == 2 * (6 if target == "/again" else 1)


def test_an_allowed_redirect_is_followed_and_told() -> None:
    """Relative ones too; the answer names where it came from."""
    with site(redirecting(lambda path: {b"/": "a/b?x#part", b"/a/b?x": "/end"}.get(path, ""))) as where:
        result = get(where, redirects_max=2)
        base = f"http://site.test:{where.port}"
        assert (result["content"], result["url"], result["redirects"]) == (
            "there", f"{base}/end", [f"{base}/", f"{base}/a/b?x"],
        )  # fmt: skip


def hanging(sock: socket.socket, head: bytes) -> None:
    sock.recv(1)  # until the other end hangs up


def dripping(sock: socket.socket, head: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    pause = threading.Event()
    while not pause.wait(0.05):
        sock.sendall(b"x")


def flooding(sock: socket.socket, head: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    block = bytes(1 << 20)
    for _ in range(1024):
        sock.sendall(block)


def head_flooding(sock: socket.socket, head: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"X-A: " + b"b" * 60_000 + b"\r\n")


def header_flooding(sock: socket.socket, head: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"X: y\r\n" * 1000)


def line_flooding(sock: socket.socket, head: bytes) -> None:
    while True:
        sock.sendall(b"x" * 65536)


def interim_flooding(sock: socket.socket, head: bytes) -> None:
    while True:
        sock.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)


def chunk_flooding(sock: socket.socket, head: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        sock.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")


BOMB = zlib.compress(bytes(1 << 24))

HOSTILE: dict[str, tuple[Behave | bytes, dict[str, Any], str]] = {
    "hanging": (hanging, {"seconds": 0.4}, "seconds_max is used up; 0 bytes read"),
    "hanging after half a line": (lambda sock, head: (sock.sendall(b"HTTP/1."), hanging(sock, head))[1],
                                  {"seconds": 0.4}, "seconds_max is used up; 7 bytes read"),
    "dripping": (dripping, {"window": 0.4, "seconds": 4}, "slower than 1024 bytes"),
    "dripping to the end": (dripping, {"seconds": 0.4}, "seconds_max is used up"),
    "a gigabyte": (flooding, {"bytes_max": 100_000}, "over bytes_max, 100000 bytes"),
    "chunks for ever": (chunk_flooding, {"bytes_max": 100_000}, "over bytes_max, 100000 bytes"),
    "a head for ever": (head_flooding, {}, "over"),
    "headers for ever": (header_flooding, {}, "more than 128 headers"),
    "a line for ever": (line_flooding, {}, "over 65536 bytes"),
    "interim answers for ever": (interim_flooding, {}, "interim answers"),
    "a bomb": (answer(BOMB, "200 OK", "Content-Encoding: deflate"), {}, "compressed"),
    "a bomb as coding": (answer(BOMB, "200 OK", "Transfer-Encoding: gzip"), {}, "contradictory"),
    "shorter than it said": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", {}, "before its declared length"),
    "chunks without an end": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nWiki\r\n", {}, "ended within"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", {}, "no number"),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", {}, "no number"),
    "length and chunks": (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", {}, "contradictory"),
    "a negative chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", {}, "chunk is malformed"),
    "a long chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", {}, "longer than its size"),
    "a folded header": (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", {}, "header is malformed"),
    "bare line ends": (b"HTTP/1.1 200 OK\nA: b\n\n", {}, "CR LF"),
    "another protocol": (b"SSH-2.0-OpenSSH_9\r\n\r\n", {}, "not HTTP/1.1"),
    "nothing at all": (b"", {}, "ended within"),
}  # fmt: skip


@pytest.mark.requirement("WHITE-9.5")
@pytest.mark.parametrize("behave, more, text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers_end_in_time_and_say_which_bound_was_met(
    behave: Behave | bytes, more: dict[str, Any], text: str
) -> None:
    """Each names the bound, and how many bytes had been read."""
    with site(behave) as where:
        began = time.monotonic()
        refused("ExecutionError", text, lambda: get(where, **more))
        refused("ExecutionError", "bytes read", lambda: get(where, **more))
        assert time.monotonic() - began < 10


def test_a_caller_may_ask_for_the_beginning() -> None:
    """`max_bytes` cuts and says so; it cannot go beyond the node's bound."""
    with site(flooding) as where:
        result = get(where, args={"max_bytes": 5})
        assert (result["bytes"], result["truncated"]) == (5, True)
        refused("ExecutionError", "bytes_max", lambda: get(where, args={"max_bytes": 500}, bytes_max=100))


def test_a_resolver_that_hangs_is_left_behind() -> None:
    """In time, as any other step."""
    release = threading.Event()

    def hangs(host: str, port: int) -> list[str]:
        release.wait(30)
        return ["127.0.0.1"]

    with site(answer()) as where:
        refused("EnvironmentError", "looking the name up", lambda: get(where, resolve=hangs, seconds=0.2))
        release.set()

    def fails(host: str, port: int) -> list[str]:
        raise socket.gaierror("no such name")

    for resolve in (fails, lambda *_: [], lambda *_: ["127.0.0.1"] * 5 + [f"127.0.0.{at}" for at in range(2, 30)]):
        refused("EnvironmentError", "no address", lambda resolve=resolve: get(where, resolve=resolve))


@pytest.mark.parametrize(
    "headers", [{"host": "other.test"}, {"accept": "a\r\nX: y"}, {"accept": "é"}, {"authorization": "x"}, {"accept": 1}]
)
def test_headers_cannot_name_hosts_or_hold_others(headers: dict[str, Any]) -> None:
    """The claw refuses them itself, whatever the schema let through."""
    with site(answer()) as where:
        refused("ArgumentError", "header", lambda: get(where, args={"headers": headers}))
        assert where.requests == []


def over_tls(where: Site, seconds: float = 10, **more: Any) -> dict[str, Any]:
    settings = settings_for(where, ca_file=str(CERTIFICATES / "authority.pem")) | more
    return fetch({"url": f"https://site.test:{where.port}/"}, settings, at_home, Pace(time.monotonic() + seconds))


def test_tls_checks_the_name_and_the_authority() -> None:
    """The address is pinned, the name still has to be certified, by the authority that the node trusts."""
    with site(answer(b"secure"), "site.pem") as where:
        assert over_tls(where)["content"] == "secure"
        refused("AuthorizationError", "certificate", lambda: over_tls(where, ca_file=None))
        refused("EnvironmentError", "trusted certificates", lambda: over_tls(where, ca_file="/nowhere/at/all.pem"))
    with site(answer(b"other"), "other.pem") as where:
        refused("AuthorizationError", "certificate", lambda: over_tls(where))
        assert where.requests == []
    with site(lambda sock, head: sock.sendall(b"no TLS at all")) as where:
        refused("ExecutionError", "TLS", lambda: over_tls(where, seconds=0.3))


def test_tls_is_not_left_by_a_redirect() -> None:
    """Not even where plain http is allowed."""
    with site(answer(b"plain")) as plain:
        target = f"http://site.test:{plain.port}/"
        with site(answer(b"", "302 Found", f"Location: {target}"), "site.pem") as where:
            ports = [where.port, plain.port]
            refused("AuthorizationError", "from https to http", lambda: over_tls(where, ports=ports, redirects_max=5))
        assert plain.peers == 0


@pytest.fixture
def isolation(workspace: Path) -> Iterator[Isolation]:
    isolation = Isolation(str(workspace))
    yield isolation
    isolation.close()


@pytest.mark.requirement("WHITE-9.5")
def test_in_its_sandbox(isolation: Isolation) -> None:
    """The claw as it runs: in plain text, over TLS that nobody vouches for, and refused where nothing was opened."""
    with site(answer(b"plain")) as where:
        args = {"url": f"http://localhost:{where.port}/"}
        outcome = isolation.run(WEB_GET, args, settings_for(where, hosts=["localhost"]))
        assert (outcome.result or {}).get("content") == "plain", outcome
        for settings in ({}, settings_for(where), settings_for(where, hosts=["localhost"], private_networks=[])):
            outcome = isolation.run(WEB_GET, args, settings)
            assert (outcome.status, (outcome.error or {})["class"]) == ("error", "AuthorizationError")
        assert where.peers == 1
    with site(answer(b"secure"), "site.pem") as where:
        args = {"url": f"https://localhost:{where.port}/"}
        outcome = isolation.run(WEB_GET, args, settings_for(where, hosts=["localhost"]))
        assert (outcome.error or {})["message"].startswith("the host's certificate was refused"), outcome
