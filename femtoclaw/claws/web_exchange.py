"""What ``web.get`` does: judge an address, look its name up once, connect to what was judged, read one answer.

A name that leads elsewhere on a second look gets no second look: the connection goes to an address of the one answer,
and every address of that answer must be allowed. TLS still checks the name. A redirect begins again from nothing.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urldefrag, urljoin

from femtoclaw.claws.errors import AccessError, ArgumentError, ClawError, SurroundingsError
from femtoclaw.claws.http_answer import Answer, Pace, Stream, read_answer
from femtoclaw.claws.network_ranges import Address, judged, may_connect
from femtoclaw.claws.web_get import REQUEST_HEADERS
from femtoclaw.settings import WEB_BYTES_MAX, WEB_REDIRECTS_MAX, WEB_SECONDS_MAX
from femtoclaw.web_address import AddressInvalid, WebAddress, read_address, refusal

SECONDS = 20
BYTES = 1024 * 1024
"""Bounds of one exchange where the settings have no others."""

ADDRESSES_MAX = 16
"""Addresses of one name that are looked at; more of them are refused."""

Resolve = Callable[[str, int], list[str]]
"""Host and port to IP addresses as texts. Raises OSError when there are none."""

_TOLD = ("cache-control", "content-language", "content-range", "content-type", "date", "etag", "expires",
         "last-modified", "location", "retry-after")  # fmt: skip
_TOLD_CHARACTERS_MAX = 2048
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_SENT = re.compile("[ -~]{1,1024}")
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REFUSALS = {
    "HOST_NOT_LISTED": "the host is not in the node's list",
    "PORT_NOT_LISTED": "the port is not in the node's list",
    "PLAIN_HTTP": "the node's settings allow no plain http",
}


class _Reached(NamedTuple):
    sock: socket.socket
    address: Address


def execute(args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
    """{"status", "url", "headers", "content" or "content_base64", "bytes", "truncated", "redirects", "address"}.

    ``url`` is the last address that was asked, ``redirects`` those before it, ``address`` the IP address that answered.
    A status outside of 2xx is a result. Raises ClawError: the kinds say whether the address may not be asked
    (AuthorizationError), cannot be one (ArgumentError), was not reached (EnvironmentError), or answered what cannot be
    taken (ExecutionError).
    """
    return fetch(args, settings, _look_up, Pace(time.monotonic() + _seconds(settings)))


def fetch(args: dict[str, Any], settings: Mapping[str, Any], resolve: Resolve, pace: Pace) -> dict[str, Any]:
    """``execute`` with the lookup and the pace given."""
    address = _read(args["url"])
    most = min(settings.get("redirects_max", 0), WEB_REDIRECTS_MAX)
    redirects: list[str] = []
    read_bytes = 0
    try:
        while True:
            answer, reached, read = _ask(address, args, settings, resolve, pace)
            read_bytes += read
            if not most or answer.status not in _REDIRECTS or "location" not in answer.headers:
                return _result(answer, address, reached, redirects)
            if len(redirects) >= most:
                raise ClawError("redirects_max is reached")
            redirects.append(address.text())
            address = _next(address, answer.headers["location"])
    except ClawError as error:
        if redirects:
            raise type(error)(f"{error}; redirects: {len(redirects)}, with {read_bytes} bytes read") from None
        raise


def _seconds(settings: Mapping[str, Any]) -> int:
    return min(int(settings.get("seconds_max", SECONDS)), WEB_SECONDS_MAX)


def _read(text: str) -> WebAddress:
    try:
        return read_address(text)
    except AddressInvalid as error:
        raise ArgumentError(str(error)) from None


def _next(address: WebAddress, location: str) -> WebAddress:
    try:
        following = read_address(urldefrag(urljoin(address.text(), location)).url)
    except ValueError:  # AddressInvalid, or what cannot even be joined
        raise AccessError("a redirect leads to what is no web address") from None
    if address.scheme == "https" and following.scheme != "https":
        raise AccessError("a redirect leads from https to http")
    return following


def _ask(
    address: WebAddress, args: Mapping[str, Any], settings: Mapping[str, Any], resolve: Resolve, pace: Pace
) -> tuple[Answer, Address, int]:
    """What the address answers, who answered, and how many bytes that took."""
    refused = refusal(address, settings)
    if refused:
        raise AccessError(_REFUSALS[refused])
    reached = _connect(_judge(address, settings, resolve, pace), address.port, pace)
    sock = reached.sock
    try:
        if address.scheme == "https":
            sock = _secure(sock, address.host, settings.get("ca_file"), pace)
        stream = Stream(sock, pace)
        _send(sock, _request(address, args.get("headers", {})), pace)
        most = min(int(settings.get("bytes_max", BYTES)), WEB_BYTES_MAX)
        wanted = args.get("max_bytes", most + 1)
        answer = read_answer(stream, min(wanted, most), cut=wanted <= most)
        return answer, reached.address, stream.read_bytes
    finally:
        sock.close()


def _judge(address: WebAddress, settings: Mapping[str, Any], resolve: Resolve, pace: Pace) -> list[Address]:
    """The addresses of the host, every one of them allowed. One that is not refuses them all."""
    try:
        found = [judged(address.host)]
    except ValueError:  # a name
        try:
            found = [judged(text) for text in dict.fromkeys(_in_time(resolve, address, pace))]
        except (OSError, ValueError):
            raise SurroundingsError("the host's name has no address") from None
    if not 0 < len(found) <= ADDRESSES_MAX:
        raise SurroundingsError(f"the host's name has no address, or more than {ADDRESSES_MAX}")
    if not all(may_connect(each, settings.get("private_networks", ())) for each in found):
        raise AccessError("the host leads into a network that is not allowed")
    return found


def _in_time(resolve: Resolve, address: WebAddress, pace: Pace) -> list[str]:
    """The system's lookup has no deadline of its own: it is left behind when time is up; the process ends soon."""
    answers: list[list[str] | OSError] = []

    def look() -> None:
        try:
            answers.append(resolve(address.host, address.port))
        except (OSError, UnicodeError) as error:
            answers.append(OSError(str(error)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(pace.left())
    if not answers:
        raise SurroundingsError("seconds_max is used up by looking the name up; 0 bytes read")
    if isinstance(answers[0], OSError):
        raise answers[0]
    return answers[0]


def _look_up(host: str, port: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _connect(addresses: list[Address], port: int, pace: Pace) -> _Reached:
    """A connection to the first that answers; each gets its share of the time, so a dead one leaves some."""
    for number, address in enumerate(addresses):
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        except OSError:  # no such family on this machine
            continue
        try:
            sock.settimeout(pace.left() / (len(addresses) - number))
            sock.connect((str(address), port))
            return _Reached(sock, address)
        except OSError:
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise SurroundingsError("no address of the host took the connection; 0 bytes read")


def _secure(sock: socket.socket, host: str, ca_file: str | None, pace: Pace) -> ssl.SSLSocket:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise SurroundingsError("the file of trusted certificates cannot be used") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    sock.settimeout(pace.left())
    try:
        return context.wrap_socket(sock, server_hostname=host, suppress_ragged_eofs=False)
    except ssl.SSLCertVerificationError as error:
        raise AccessError(f"the host's certificate was refused (code {error.verify_code})") from None
    except (OSError, ValueError):
        raise ClawError("TLS could not be agreed on in time; 0 bytes read") from None


def _request(address: WebAddress, headers: Mapping[str, Any]) -> bytes:
    """The request, each header as it was given. Nothing compressed is asked for."""
    lines = [f"GET {address.target} HTTP/1.1", f"host: {address.authority}", "accept-encoding: identity",
             "connection: close", "user-agent: FemtoClaw"]  # fmt: skip
    for name, value in sorted(headers.items()):
        if name not in REQUEST_HEADERS or not isinstance(value, str) or not _SENT.fullmatch(value):
            raise ArgumentError("a header may not be set, or has other characters than printable ASCII")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _send(sock: socket.socket, request: bytes, pace: Pace) -> None:
    sock.settimeout(pace.left())
    try:
        sock.sendall(request)
    except OSError:
        raise ClawError("the request could not be sent in time; 0 bytes read") from None


def _result(answer: Answer, address: WebAddress, reached: Address, redirects: list[str]) -> dict[str, Any]:
    told = {name: answer.headers[name] for name in _TOLD if name in answer.headers}
    return {
        "status": answer.status,
        "url": address.text(),
        "headers": {name: value[:_TOLD_CHARACTERS_MAX] for name, value in told.items()},
        **_content(answer.body),
        "bytes": len(answer.body),
        "truncated": answer.truncated,
        "redirects": redirects,
        "address": str(reached),
    }


def _content(raw: bytes) -> dict[str, str]:
    """Text only where its JSON stays within three times its size: control characters take six."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "\0"
    if _NO_TEXT.search(text):
        return {"content_base64": base64.b64encode(raw).decode()}
    return {"content": text}
