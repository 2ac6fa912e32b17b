"""One spelling for each web address: what policy judges, and what a claw connects to. Pure.

Programs disagree about addresses: on `http://127.1/`, on `http://a@b/`, on `\\`, on what `%2e%2e` does. Whoever judges
must read one as whoever uses it does. So the gate and the claw read it here, and what could be read in two ways is
refused instead of repaired.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from femtoclaw.settings import ADDRESS_CHARACTERS_MAX

HOST_CHARACTERS_MAX = 253
PORTS = {"http": 80, "https": 443}

_SHAPE = re.compile(r"(?P<scheme>[A-Za-z]+)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
_LABEL = re.compile("(?!-)[a-z0-9_-]{1,63}(?<!-)")
_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_NUMBER = re.compile("[0-9]+|0x[0-9a-f]*")
_IN_PATH = re.compile("(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_IN_QUERY = re.compile("(?:[A-Za-z0-9._~!$&'()*+,;=:@/?|^`{}\\[\\]\"<>-]|%[0-9A-Fa-f]{2})*")
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class AddressInvalid(ValueError):
    """Not one address: ``code`` is stable, the text never holds the address."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class WebAddress(NamedTuple):
    """An address in its only spelling.

    ``host`` is a lower-case name without final dot, in ASCII (IDNA), or an IP address in its shortest form without
    brackets; an IPv6 address that only wraps an IPv4 one is that one. ``path`` begins with a slash and has no `.`, `..`
    or empty component; ``query`` is without its question mark.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def authority(self) -> str:
        """Host and port as they stand in an address and a `Host` header; the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if PORTS[self.scheme] == self.port else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """Path and query as they stand in a request."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def text(self) -> str:
        """The address as one text."""
        return f"{self.scheme}://{self.authority}{self.target}"


def read_address(text: str) -> WebAddress:
    """The address that ``text`` is, at most ADDRESS_CHARACTERS_MAX characters. Raises AddressInvalid."""
    if len(text) > ADDRESS_CHARACTERS_MAX:
        raise AddressInvalid("ADDRESS_TOO_LONG", f"the address is over {ADDRESS_CHARACTERS_MAX} characters")
    if any(char <= " " or char == "\\" or "\x7f" <= char <= "\xa0" for char in text):
        raise AddressInvalid("ADDRESS_MALFORMED", "the address has a blank, a control character or a backslash")
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise AddressInvalid("ADDRESS_MALFORMED", "not a scheme, a host and a path, or there is a fragment")
    scheme = shape["scheme"].lower()
    if scheme not in PORTS:
        raise AddressInvalid("ADDRESS_SCHEME", "the scheme is neither https nor http")
    if "@" in shape["authority"]:
        raise AddressInvalid("ADDRESS_USER", "the address names a user")
    authority = _AUTHORITY.fullmatch(shape["authority"])
    if authority is None:
        raise AddressInvalid("ADDRESS_MALFORMED", "the host or the port is malformed")
    port = int(authority["port"] or PORTS[scheme])
    if port > 65535:
        raise AddressInvalid("ADDRESS_MALFORMED", "there is no such port")
    query = shape["query"] or ""
    if not _IN_QUERY.fullmatch(query):
        raise AddressInvalid("ADDRESS_QUERY", "the query has characters that must be percent-encoded")
    return WebAddress(scheme, read_host(authority["host"]), port, _path(shape["path"] or "/"), query)


def read_host(text: str) -> str:
    """The one spelling of a host: a name, or an IP address (IPv6 in brackets). Raises AddressInvalid."""
    if text.startswith("["):
        return _ipv6(text)
    name = text.lower() if text.isascii() else _to_ascii(text)
    name = name.removesuffix(".")
    if not name or len(name) > HOST_CHARACTERS_MAX:
        raise AddressInvalid("ADDRESS_HOST", "the host's name is empty or too long")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Resolvers take 127.1, 2130706433, 0x7f.1 and 0177.0.0.1 for addresses, and not all for the same ones.
        if not (text.isascii() and _QUAD.fullmatch(text)) or any(int(label) > 255 for label in labels):
            raise AddressInvalid("ADDRESS_HOST", "the host is a number, and not an IPv4 address in its plain form")
        return name
    if not all(map(_LABEL.fullmatch, labels)):
        raise AddressInvalid("ADDRESS_HOST", "the host is no name")
    return name


def _to_ascii(text: str) -> str:
    try:
        return text.encode("idna").decode().lower()
    except UnicodeError:
        raise AddressInvalid("ADDRESS_HOST", "the host's name has no ASCII form") from None


def _ipv6(text: str) -> str:
    import ipaddress

    try:
        address = ipaddress.IPv6Address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise AddressInvalid("ADDRESS_HOST", "the host is no IPv6 address") from None
    return str(address.ipv4_mapped or address)


def _path(text: str) -> str:
    """Escapes in capitals, and none where none is needed. Refused: what servers may take for another path."""
    if not _IN_PATH.fullmatch(text):
        raise AddressInvalid("ADDRESS_PATH", "the path has characters that must be percent-encoded")
    path = _ESCAPE.sub(_escape, text)
    # Some servers cut a component at its `;` before they look for dots.
    parts = [part.partition(";")[0] for part in path.split("/")[1:]]
    if "." in parts or ".." in parts or "" in parts[:-1]:
        raise AddressInvalid("ADDRESS_PATH", "the path has `.`, `..` or empty components")
    if any(byte in b"/\\%" or byte < 0x20 or byte == 0x7F for byte in _escaped(path)):
        raise AddressInvalid("ADDRESS_PATH", "the path hides a slash, a backslash, a percent or a control character")
    return path


def _escaped(path: str) -> bytes:
    return bytes(int(escape[1:], 16) for escape in _ESCAPE.findall(path))


def _escape(match: re.Match[str]) -> str:
    char = chr(int(match[0][1:], 16))
    return char if char in _PLAIN else match[0].upper()


def refusal(address: WebAddress, settings: Mapping[str, Any]) -> str:
    """Why the node's settings do not let this address be asked: a stable code, or the empty string when they do.

    ``hosts`` lists exact hosts, and `*.NAME` for all names beneath NAME; ``ports`` is [443] unless set; ``plain_http``
    must be true for http.
    """
    if not any(host_matches(address.host, pattern) for pattern in settings.get("hosts", ())):
        return "HOST_NOT_LISTED"
    if address.port not in settings.get("ports", (443,)):
        return "PORT_NOT_LISTED"
    if address.scheme != "https" and settings.get("plain_http") is not True:
        return "PLAIN_HTTP"
    return ""


def host_matches(host: str, pattern: str) -> bool:
    """``host`` in its only spelling against one entry of ``hosts`` in its own."""
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def read_pattern(text: str) -> str:
    """An entry of ``hosts`` in its only spelling: a host, or `*.NAME`. Raises AddressInvalid."""
    if text.startswith("*."):
        name = read_host(text[2:])
        if _QUAD.fullmatch(name):
            raise AddressInvalid("ADDRESS_HOST", "nothing is beneath an IP address")
        return f"*.{name}"
    return read_host(f"[{text}]" if ":" in text else text)
