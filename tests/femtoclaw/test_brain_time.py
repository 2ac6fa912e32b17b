"""An HTTP brain's time: every way in which a server, a name or a connection can waste it has its bound."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from femtoclaw.brains import Context, Turn
from femtoclaw.brains.openai import OpenAIBrain, Settings
from femtoclaw.errors import BrainError
from tests.femtoclaw.brain_peer import CONTEXT, KEY, MESSAGE, Peer
from tests.femtoclaw.openai_server import Behaviour, says, status

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
DELTA = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
ENOUGH_SECONDS = 8.0
"""How long a server drips on, if nobody stops it: far more than any bound in these tests, and the tests' own bound."""


def drips(first: bytes, then: bytes) -> Behaviour:
    """Raw bytes: ``first`` at once, then ``then`` again and again, each long before the read timeout."""

    def behave(handler: Any, body: dict[str, Any]) -> None:
        handler.close_connection = True
        handler.wfile.write(first)
        ends = time.monotonic() + ENOUGH_SECONDS
        while time.monotonic() < ends and not handler.server.stalled.wait(0.02):
            handler.wfile.write(then)

    return behave


@pytest.mark.requirement("WHITE-9.5")
@pytest.mark.parametrize(
    "first, then, streaming",
    [
        (b"", b"H", False),
        (HEAD + b"X: ", b"x", False),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", False),
        (HEAD + b"Content-Length: 100000\r\n\r\n", b" ", False),
        (HEAD + b"\r\n", b" ", False),
        (CHUNKED + b"1;", b"x", False),
        (CHUNKED, b"1\r\n \r\n", False),
        (CHUNKED + b"0\r\n", b"x: y\r\n", False),
        (CHUNKED, b"%x\r\n%s\r\n" % (len(DELTA), DELTA), True),
        (CHUNKED + b"ffff\r\n", b":", True),
    ],
    ids=[
        "status line", "header", "100 Continue", "body", "body without length", "chunk size", "chunks", "trailers",
        "deltas", "stream byte by byte",
    ],
)  # fmt: skip
def test_a_dripping_server_cannot_outlast_the_total_time(
    peer: Peer, first: bytes, then: bytes, streaming: bool
) -> None:
    """Bytes that keep each read alive do not keep the exchange alive, wherever in the answer they drip; and the time
    that is used up is not asked for again."""
    began = time.monotonic()
    with pytest.raises(BrainError, match="total time is used up") as caught:
        peer.brain(drips(first, then), total_seconds=0.4, attempts=3, stream=streaming).think(CONTEXT)
    assert time.monotonic() - began < ENOUGH_SECONDS / 2
    assert (caught.value.code, len(peer.requests), peer.slept) == ("BRAIN_TIMEOUT", 1, [])
    assert KEY not in f"{caught.value} {caught.value!r}"


def test_a_server_that_sips_cannot_outlast_the_total_time() -> None:
    """It takes a long request in small pieces, so that every single write gets on: sending ends in time all the same."""
    done = threading.Event()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def sip() -> None:
            sock, _ = listening.accept()
            with sock:
                ends = time.monotonic() + 2 * ENOUGH_SECONDS
                while time.monotonic() < ends and not done.wait(0.02) and sock.recv(1 << 17):
                    pass

        sipping = threading.Thread(target=sip, daemon=True)
        sipping.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        brain = OpenAIBrain("m", Settings(base_url=url, total_seconds=0.8, attempts=1), KEY)
        began = time.monotonic()
        try:
            with pytest.raises(BrainError) as caught:
                brain.think(Context((Turn("user", "x" * 64_000_000),), ()))
            assert (caught.value.code, time.monotonic() - began < ENOUGH_SECONDS / 2) == ("BRAIN_TIMEOUT", True)
        finally:
            done.set()
            sipping.join(ENOUGH_SECONDS)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_takes_nothing_cannot_outlast_the_total_time(scheme: str) -> None:
    """It lets connect and then neither reads the request nor greets back: sending and the TLS handshake end in time."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/v1"
        brain = OpenAIBrain("m", Settings(base_url=url, connect_seconds=30.0, total_seconds=0.4), KEY)
        began = time.monotonic()
        with pytest.raises(BrainError) as caught:
            brain.think(Context((Turn("user", "x" * 24_000_000),), ()))
    assert caught.value.code == "BRAIN_TIMEOUT"
    assert time.monotonic() - began < 20


def test_connecting_has_its_own_bound() -> None:
    """A TLS greeting that never comes costs the time to connect, not the time to read, at each attempt."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        slept: list[float] = []
        bounds = Settings(base_url=url, connect_seconds=0.1, read_seconds=60.0, total_seconds=60.0, attempts=2)
        began = time.monotonic()
        with pytest.raises(BrainError) as caught:
            OpenAIBrain("m", bounds, KEY, sleep=slept.append).think(CONTEXT)
    assert (caught.value.code, slept) == ("BRAIN_TIMEOUT", [0.5])
    assert time.monotonic() - began < 30


class Names:
    """A name service that hangs until it is let go, and counts who asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []
        self.addresses = addresses
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: int, **more: Any) -> list[Any]:
        self.asked.append(host)
        self.go.wait(ENOUGH_SECONDS)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in self.addresses]


@pytest.mark.requirement("WHITE-9.5")
@pytest.mark.parametrize("bounds", [{"connect_seconds": 0.1}, {"total_seconds": 0.2}])
def test_a_name_lookup_that_hangs_costs_its_bound_and_one_thread(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, bounds: dict[str, float]
) -> None:
    """Each attempt gives up in time; the later ones wait for the lookup that is under way instead of beginning more;
    once the name service is back, so is the brain."""
    peer.brain(says(MESSAGE))
    port = peer.servers[-1].server_address[1]
    settings = Settings(base_url=f"http://brain.example:{port}/v1", attempts=3, **bounds)  # type: ignore[arg-type]
    brain = OpenAIBrain("m", settings, KEY, sleep=peer.slept.append)
    names = Names(monkeypatch, ("127.0.0.1", int(port)))
    try:
        began = time.monotonic()
        with pytest.raises(BrainError) as caught:
            brain.think(CONTEXT)
        assert time.monotonic() - began < ENOUGH_SECONDS / 2
        assert caught.value.code == "BRAIN_TIMEOUT"
        assert caught.value.where == f"brain.example:{port}"
        assert names.asked == ["brain.example"]
        hanging = [thread for thread in threading.enumerate() if thread.name == "brain-lookup"]
        assert [thread.daemon for thread in hanging] == [True]
    finally:
        names.go.set()
    hanging[0].join(ENOUGH_SECONDS)
    assert brain.think(CONTEXT).raw == MESSAGE.encode()
    assert len(names.asked) == 2


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "no-such-host.invalid"])
def test_a_name_that_does_not_exist_is_unreachable(host: str) -> None:
    """So is what cannot be a name: the typed error, whatever the lookup raised."""
    settings = Settings(base_url=f"http://{host}/v1", attempts=1, connect_seconds=20.0)
    with pytest.raises(BrainError) as caught:
        OpenAIBrain("m", settings, None).think(CONTEXT)
    assert caught.value.code in ("BRAIN_UNREACHABLE", "BRAIN_TIMEOUT")


def test_the_next_address_of_a_name_is_tried(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One address refuses and one takes no connection at all; the third, with its share of the time, answers."""
    peer.brain(says(MESSAGE))
    port = int(peer.servers[-1].server_address[1])
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    callers = [socket.socket() for _ in range(4)]
    for caller in callers:  # until its queue is full and the next one hangs
        caller.setblocking(False)
        caller.connect_ex(full.getsockname())
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refusing = unused.getsockname()
    names = Names(monkeypatch, refusing, full.getsockname(), ("127.0.0.1", port))
    names.go.set()
    settings = Settings(base_url="http://brain.example/v1", attempts=1, connect_seconds=1.0)
    try:
        assert OpenAIBrain("m", settings, None).think(CONTEXT).raw == MESSAGE.encode()
    finally:
        for sock in (*callers, full):
            sock.close()
    assert peer.requests[0][1]["Host"] == "brain.example"


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(
    "behaviour, total, waits, code",
    [
        (status(503), 100.0, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0], "BRAIN_HTTP_ERROR"),
        (status(503), 3.5, [0.5, 1.0], "BRAIN_HTTP_ERROR"),
        (status(503), 3.6, [0.5, 1.0, 2.0], "BRAIN_HTTP_ERROR"),
        (status(503), 0.5, [], "BRAIN_HTTP_ERROR"),
        (status(429, Retry_After="7"), 20.0, [7.0, 7.0], "BRAIN_RATE_LIMITED"),
        (status(429, Retry_After="7"), 6.0, [], "BRAIN_RATE_LIMITED"),
        (status(429, Retry_After="86400"), 100.0, [30.0, 30.0, 30.0], "BRAIN_RATE_LIMITED"),
        (status(429, Retry_After="9" * 5000), 40.0, [30.0], "BRAIN_RATE_LIMITED"),
        (status(429, Retry_After="\u00b2"), 1.0, [0.5], "BRAIN_RATE_LIMITED"),
        (status(429, Retry_After="-5"), 1.0, [0.5], "BRAIN_RATE_LIMITED"),
        (status(429, Retry_After="Wed, 21 Oct 2099 07:28:00 GMT"), 1.0, [0.5], "BRAIN_RATE_LIMITED"),
    ],
)
def test_waits_and_retries_stay_inside_the_total_time(
    peer: Peer, behaviour: Behaviour, total: float, waits: list[float], code: str
) -> None:
    """However many attempts are left and whatever Retry-After asks: a wait that would reach the end is not begun, and
    what the last attempt came to is told at once."""
    clock = Clock()
    peer.brain(behaviour)
    settings = Settings(base_url=peer.servers[-1].base_url, total_seconds=total, attempts=9)
    with pytest.raises(BrainError) as caught:
        OpenAIBrain("m", settings, KEY, sleep=clock.sleep, clock=clock).think(CONTEXT)
    assert (caught.value.code, clock.slept) == (code, waits)
    assert len(peer.requests) == len(waits) + 1
    assert sum(waits) < total


def test_a_real_wait_is_not_begun_either(peer: Peer) -> None:
    """With the real clock and the real sleep: half a minute is asked for, some seconds are there, and none is spent."""
    peer.brain(status(429, Retry_After="30"))
    settings = Settings(base_url=peer.servers[-1].base_url, total_seconds=ENOUGH_SECONDS, attempts=9)
    began = time.monotonic()
    with pytest.raises(BrainError) as caught:
        OpenAIBrain("m", settings, KEY).think(CONTEXT)
    assert time.monotonic() - began < ENOUGH_SECONDS / 2
    assert (caught.value.code, len(peer.requests)) == ("BRAIN_RATE_LIMITED", 1)
