"""A witness and its client against what a network brings: slow, endless, broken and lying others, and a disk that fails."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import witness_server
from cluster.errors import (
    ClusterConfigurationError,
    ClusterError,
    CosignatureMissingError,
    PeerProtocolError,
    WitnessAheadError,
    WitnessDisagreesError,
    WitnessRefusedError,
    WitnessStateError,
    WitnessUnavailableError,
)
from cluster.limits import WITNESS_ANSWER_BYTES_MAX, WITNESS_EVIDENCE_MAX, WITNESS_REQUEST_BYTES_MAX
from cluster.witness import encode_request
from cluster.witness_client import WitnessAddress, submit_checkpoint
from cluster.witness_server import Witness, WitnessServer, serve
from cluster.witness_store import WitnessStore, add_log, create_witness, open_witness
from tests.cluster.witnessed_log import (
    FORKED,
    ORIGIN,
    OTHER_WITNESS,
    OWN,
    SIGNER,
    TRUE,
    WITNESS,
    formula_line,
    text_of,
)
from wal.cosignature import cosigner_of

NOW = 1_800_000_000
SECONDS = 20.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WitnessStore]:
    folder = str(tmp_path / "witness")
    create_witness(folder, OWN, "127.0.0.1:0", lambda: None)
    add_log(folder, ORIGIN, SIGNER.public)
    opened = open_witness(folder)
    yield opened
    opened.close()


@pytest.fixture
def run(store: WitnessStore) -> Iterator[Callable[[], WitnessServer]]:
    """Starts the server in this process, so that its bounds can be made small before."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start() -> WitnessServer:
        server = WitnessServer(Witness(store, WITNESS, lambda: NOW, lambda line: None), "127.0.0.1", 0)
        threads.append(threading.Thread(target=serve, args=(server, stop)))
        threads[-1].start()
        return server

    yield start
    stop.set()
    for thread in threads:
        thread.join(30)


def connect(server: WitnessServer) -> socket.socket:
    return socket.create_connection(server.server_address[:2], timeout=SECONDS)  # type: ignore[arg-type]


def head(length: object, path: str = "/add-checkpoint", more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def read_all(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass  # the other side closed with something of ours unread
    return b"".join(parts)


def told(server: WitnessServer, raw: bytes) -> bytes:
    """All that the server says to these bytes until it closes."""
    with connect(server) as connection:
        connection.sendall(raw)
        return read_all(connection)


def test_no_cosignature_leaves_before_its_state_is_durable(store: WitnessStore) -> None:
    """A disk that fails: no answer but 503, to the first and to every later request, and the state is what it was. After a
    restart the witness goes on from what is there."""
    told_operator: list[str] = []
    witness = Witness(store, WITNESS, lambda: NOW, told_operator.append)
    assert witness.submit(TRUE.request(0, 7)).status == 200
    logs = Path(store.folder) / "logs"
    aside = logs.rename(logs.with_name("aside"))
    logs.write_bytes(b"in the way")
    for size in (9, 9, 12):
        answer = witness.submit(TRUE.request(7, size))
        assert answer.status == 503 and b"\xe2\x80\x94" not in answer.body
    assert len(told_operator) == 1
    logs.unlink()
    aside.rename(logs)
    assert witness.submit(TRUE.request(7, 9)).status == 503
    again = Witness(store, WITNESS, lambda: NOW, told_operator.append)
    assert again.submit(TRUE.request(0, 9)).body == b"7\n"
    assert again.submit(TRUE.request(7, 9)).status == 200


def test_the_state_is_on_the_disk_when_the_answer_is_given(store: WitnessStore) -> None:
    """Read by another set of eyes between any two answers."""
    witness = Witness(store, WITNESS, lambda: NOW, lambda line: None)
    old = 0
    for size in (1, 7, 8, 30):
        assert witness.submit(TRUE.request(old, size)).status == 200
        assert store.load()[ORIGIN].size == size
        old = size


def test_one_request_of_a_log_at_a_time(store: WitnessStore) -> None:
    """Twenty at once from the same size: one is cosigned, all others are told the new size."""
    witness = Witness(store, WITNESS, lambda: NOW, lambda line: None)
    assert witness.submit(TRUE.request(0, 7)).status == 200
    barrier, statuses = threading.Barrier(20), []

    def ask(size: int) -> None:
        barrier.wait()
        statuses.append(witness.submit(TRUE.request(7, size)).status)

    threads = [threading.Thread(target=ask, args=(size,)) for size in range(8, 28)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [200] + [409] * 19


def test_evidence_is_kept_once_and_within_a_bound(store: WitnessStore) -> None:
    """The same refusal leaves one file; who can sign can fill the folder up to the bound and no further."""
    witness = Witness(store, WITNESS, lambda: NOW, lambda line: None)
    assert witness.submit(TRUE.request(0, 8)).status == 200
    folder = Path(store.folder) / "evidence"
    for _ in range(3):
        assert witness.submit(FORKED.request(8, 8)).status == 422
    assert len(list(folder.iterdir())) == 1
    for size in range(9, 9 + WITNESS_EVIDENCE_MAX + 3):
        assert witness.submit(FORKED.request(8, size)).status == 422
    assert len(list(folder.iterdir())) == WITNESS_EVIDENCE_MAX


def test_another_witness_key_is_not_taken(store: WitnessStore) -> None:
    """Its cosignatures would be nobody's."""
    with pytest.raises(ClusterConfigurationError):
        Witness(store, OTHER_WITNESS, lambda: NOW, lambda line: None)


def test_a_state_that_another_key_cosigned_is_not_taken(store: WitnessStore) -> None:
    """A directory whose key was exchanged."""
    assert Witness(store, WITNESS, lambda: NOW, lambda line: None).submit(TRUE.request(0, 7)).status == 200
    store.own = cosigner_of(OTHER_WITNESS.public)
    with pytest.raises(WitnessStateError):
        Witness(store, OTHER_WITNESS, lambda: NOW, lambda line: None)


def test_a_slow_client_loses_its_place(run: Callable[[], WitnessServer], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sends a byte now and then, in the head or in the body, or nothing at all: the server ends it in its time,
    and others are answered meanwhile."""
    monkeypatch.setattr(witness_server, "WITNESS_REQUEST_SECONDS", 1.0)
    server = run()
    for begin in (b"", b"POST /add", head(1000) + b"old 0"):
        began = time.monotonic()
        with connect(server) as slow:
            slow.sendall(begin)
            ended = threading.Event()
            dripping = threading.Thread(target=_drip, args=(slow, ended))
            dripping.start()
            assert told(server, head(5, more="Connection: close\r\n") + b"old 0").startswith(b"HTTP/1.1 400")
            assert not read_all(slow).startswith(b"HTTP/1.1 2")
            ended.set()
            dripping.join(30)
        assert time.monotonic() - began < 10


def _drip(connection: socket.socket, ended: threading.Event) -> None:
    while not ended.wait(0.05):
        try:
            connection.send(b"a")
        except OSError:
            return


def test_connections_are_bounded(run: Callable[[], WitnessServer], monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than there are places is told so at once; a place that is given back serves the next."""
    monkeypatch.setattr(witness_server, "WITNESS_CONNECTIONS_MAX", 2)
    server = run()
    request = head(3) + b"old"
    with connect(server) as one, connect(server) as two:
        for each in (one, two):
            each.sendall(request)
            assert each.recv(65536).startswith(b"HTTP/1.1 400")
        with connect(server) as third:
            assert read_all(third).startswith(b"HTTP/1.1 503")
    deadline = time.monotonic() + SECONDS
    while not (answer := told(server, head(3, more="Connection: close\r\n") + b"old")).startswith(b"HTTP/1.1 400"):
        assert time.monotonic() < deadline, answer


def test_requests_out_of_bounds_are_not_read(run: Callable[[], WitnessServer]) -> None:
    """Too large, of unknown length, in chunks, at another place, by another method; the connection ends with the answer."""
    server = run()
    asked = [
        (head(WITNESS_REQUEST_BYTES_MAX + 1), b"413"), (head("9" * 4000), b"413"), (head("-1"), b"411"), (head("x"), b"411"),
        (head(3, more="Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", b"411"),
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: here\r\n\r\n", b"411"), (head(3, "/elsewhere") + b"old", b"404"),
        (b"PUT /add-checkpoint HTTP/1.1\r\nConnection: close\r\n\r\n", b"501"), (b"\x00\xff\r\n\r\n", b"400"),
    ]  # fmt: skip
    for raw, status in asked:
        answer = told(server, raw)
        assert answer.split(b"\r\n")[0].split(b" ")[1] == status or status in answer, (raw[:60], answer[:60])


def test_one_connection_may_ask_again(run: Callable[[], WitnessServer]) -> None:
    """Kept alive, as the protocol recommends: two requests, two answers in order."""
    server = run()
    with connect(server) as connection:
        for old, size in ((0, 7), (7, 9)):
            raw = TRUE.request(old, size)
            connection.sendall(head(len(raw)) + raw)
            answer = connection.recv(65536)
            while formula_line(text_of(TRUE.note(size)), NOW) not in answer:
                part = connection.recv(65536)
                assert part, answer
                answer += part


class FakeWitness:
    """Answers each connection with the next of some raw answers, after it has read a request."""

    def __init__(self, *answers: bytes, drip: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answers, self._drip = answers, drip
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def address(self) -> WitnessAddress:
        return WitnessAddress(OWN, f"http://127.0.0.1:{self._listener.getsockname()[1]}/prefix/")

    def _run(self) -> None:
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection:
                try:
                    self.requests.append(_read_request(connection))
                    for at in range(0, len(answer), 1 if self._drip else len(answer)):
                        connection.sendall(answer[at : at + 1] if self._drip else answer)
                        if self._drip:
                            time.sleep(0.05)
                except OSError:
                    continue

    def __enter__(self) -> FakeWitness:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)
        self._listener.close()


def _read_request(connection: socket.socket) -> bytes:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += _some(connection)
    before, _, body = raw.partition(b"\r\n\r\n")
    length = int(before.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += _some(connection)
    return before.split(b"\r\n")[0] + b"\n" + body


def _some(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    if not part:
        raise ConnectionError("the client went away")
    return part


def http(status: int, body: bytes, kind: str = "text/plain") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def size_is(size: object) -> bytes:
    return http(409, f"{size}\n".encode(), "text/x.tlog.size")


LINE = formula_line(text_of(TRUE.note(9)), NOW)
OTHERS_LINE = formula_line(text_of(TRUE.note(9)), NOW, OTHER_WITNESS.public.name, bytes(range(3, 35)))


def test_the_client_sends_again_from_the_named_size() -> None:
    """With the proof from there, and under the prefix; lines of other witnesses do not disturb."""
    with FakeWitness(size_is(3), size_is(5), http(200, OTHERS_LINE + LINE)) as fake:
        found = submit_checkpoint(fake.address, TRUE.note(9), TRUE.prove, seconds=SECONDS)
    assert (found.line.encode(), found.cosignature) == (LINE, (OWN, NOW))
    asked = [encode_request(old, TRUE.prove(old, 9), TRUE.note(9)) for old in (0, 3, 5)]
    assert fake.requests == [b"POST /prefix/add-checkpoint HTTP/1.1\n" + raw for raw in asked]


REFUSALS: dict[str, tuple[list[bytes], type[ClusterError]]] = {
    "another history": ([http(422, b"no")], WitnessDisagreesError),
    "another history, first version": ([http(409, b"no")], WitnessDisagreesError),
    "the size that was sent": ([size_is(3), size_is(3)], PeerProtocolError),
    "another history, first version with a size": ([size_is(9), size_is(9)], WitnessDisagreesError),
    "ahead": ([size_is(10)], WitnessAheadError),
    "no end": ([size_is(size) for size in (1, 2, 3, 4, 5)], WitnessUnavailableError),
    "no size": ([size_is("x")], PeerProtocolError),
    "a padded size": ([size_is("03")], PeerProtocolError),
    "an endless size": ([size_is("9" * 5000)], PeerProtocolError),
    "unknown log": ([http(404, b"")], WitnessRefusedError),
    "untrusted key": ([http(403, b"")], WitnessRefusedError),
    "malformed": ([http(400, b"")], PeerProtocolError),
    "elsewhere": ([b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"], PeerProtocolError),
    "failing": ([http(503, b"\x1b[2J")], WitnessUnavailableError),
    "no cosignature": ([http(200, b"")], CosignatureMissingError),
    "another witness's": ([http(200, OTHERS_LINE)], CosignatureMissingError),
    "of another checkpoint": ([http(200, formula_line(text_of(TRUE.note(8)), NOW))], CosignatureMissingError),
    "no note line": ([http(200, b"yes\n" + LINE)], CosignatureMissingError),
    "no text": ([http(200, b"\xff\xfe")], CosignatureMissingError),
    "too large": ([http(200, LINE + b"\n" * WITNESS_ANSWER_BYTES_MAX)], PeerProtocolError),
    "no HTTP": ([b"SSH-2.0-OpenSSH\r\n"], PeerProtocolError),
    "nothing": ([b"\r"], PeerProtocolError),
    "cut": ([http(200, LINE)[:-5]], WitnessUnavailableError),
    "cut behind its line": ([http(200, LINE + b"\n")[:-1]], WitnessUnavailableError),
    "a cut size": ([size_is(12)[:-2]], WitnessUnavailableError),
    "cut before its text": ([http(422, b"no")[:-2]], WitnessUnavailableError),
    "cut in a part": ([b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc"], WitnessUnavailableError),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_else_a_witness_may_answer(name: str) -> None:
    """Each has its error; none counts as a cosignature, and nothing of it reaches a terminal as it came."""
    answers, expected = REFUSALS[name]
    with FakeWitness(*answers) as fake, pytest.raises(expected) as caught:
        submit_checkpoint(fake.address, TRUE.note(9), TRUE.prove, seconds=SECONDS)
    assert type(caught.value) is expected
    assert str(caught.value).isprintable()


def test_a_witness_that_answers_byte_by_byte_is_given_up() -> None:
    """The time is for the whole exchange."""
    began = time.monotonic()
    with FakeWitness(http(200, LINE * 20), drip=True) as fake, pytest.raises(WitnessUnavailableError):
        submit_checkpoint(fake.address, TRUE.note(9), TRUE.prove, seconds=0.5)
    assert time.monotonic() - began < 10


def test_nobody_there_and_no_address() -> None:
    """A closed port is unavailable; what is no address is the operator's to correct."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(WitnessUnavailableError):
        submit_checkpoint(WitnessAddress(OWN, closed), TRUE.note(9), TRUE.prove, seconds=SECONDS)
    for url in (
        "",
        "witness",
        "ftp://a",
        "http://",
        "http://a:b",
        "http://a?b",
        "http://u@a",
        f"http://{'a' * 70}.{'b' * 300}",
    ):
        with pytest.raises(ClusterConfigurationError):
            submit_checkpoint(WitnessAddress(OWN, url), TRUE.note(9), TRUE.prove, seconds=SECONDS)
