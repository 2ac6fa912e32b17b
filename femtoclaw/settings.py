"""What an operator may set for claws and brains: which keys exist, and what they may hold. Pure.

A claw's manifest says what a caller may ask of it; this is what its node may allow it. Kept beside the manifests
because their digests are in every log.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from femtoclaw.errors import ConfigurationError

DEPTH_MAX = 16
"""Tables and lists inside each other; a dotted key of a hostile file could nest thousands."""

INTEGER_BITS = 64
PATH_BYTES_MAX = 4096
BINARIES_MAX = 1024
LIST_ENTRIES_MAX = 1024

ADDRESS_CHARACTERS_MAX = 8192
"""Of a web address."""

WEB_BYTES_MAX = 2 * 1024 * 1024
"""Body bytes of one answer to ``web.get``, at most: as JSON they may take three times as many."""

WEB_SECONDS_MAX = 25
"""Below the wall time of ``web.get``, so that it can say itself what took so long."""

WEB_REDIRECTS_MAX = 5

BRAINS = ("echo", "openai", "script")

Check = Callable[[Any, str], None]
"""Takes a value and where it stands; raises ConfigurationError, whose text never holds the value."""


def check_plain(value: Any, at: str, depth: int = 0) -> None:
    """Refuse what canonical JSON cannot hold, or no setting needs.

    Raises ConfigurationError for dates, floats that are no number, integers over 64 bits, NUL characters, and more
    than ``DEPTH_MAX`` levels.
    """
    if depth > DEPTH_MAX:
        raise ConfigurationError("configuration is too deep", where=at[:PATH_BYTES_MAX], expected=f"<= {DEPTH_MAX}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_plain(item, f"{at}.{key}" if at else str(key), depth + 1)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            check_plain(item, f"{at}[{number}]", depth + 1)
    elif isinstance(value, bool):
        return
    elif isinstance(value, str):
        if "\x00" in value:
            raise ConfigurationError("text holds a NUL character", where=at, expected="text without it")
    elif isinstance(value, int):
        if value.bit_length() >= INTEGER_BITS:
            raise ConfigurationError("integer is too large", where=at, expected=f"{INTEGER_BITS} bits", found="more")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigurationError("not a number", where=at, expected="a finite number", found="nan or infinity")
    else:
        raise ConfigurationError(
            "wrong type", where=at, expected="text, number, boolean, list or table", found=type(value).__name__
        )


def check_path(value: Any, at: str) -> None:
    """Refuse all but an absolute path of UTF-8 text."""
    if not isinstance(value, str):
        raise ConfigurationError("wrong type", where=at, expected="text: an absolute path", found=type(value).__name__)
    if not value.startswith("/"):
        raise ConfigurationError(
            "path is not absolute", where=at, expected="a path that begins with /", found="another"
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ConfigurationError("path is not UTF-8", where=at, expected="UTF-8") from None
    if size > PATH_BYTES_MAX:
        raise ConfigurationError("path is too long", where=at, expected=f"<= {PATH_BYTES_MAX} bytes", found=size)


def check_binaries(value: Any, at: str) -> None:
    """Refuse all but a list of absolute paths."""
    if not isinstance(value, list):
        raise ConfigurationError(
            "wrong type", where=at, expected="a list of absolute paths", found=type(value).__name__
        )
    if len(value) > BINARIES_MAX:
        raise ConfigurationError("list is too long", where=at, expected=f"<= {BINARIES_MAX} paths", found=len(value))
    for number, path in enumerate(value):
        check_path(path, f"{at}[{number}]")


def check_programs(value: Any, at: str) -> None:
    """Refuse all but a table of absolute paths, each with a program that ``femtoclaw.shell_hazards`` knows."""
    from femtoclaw.shell_hazards import known

    if not isinstance(value, Mapping):
        raise ConfigurationError("wrong type", where=at, expected="a table", found=type(value).__name__)
    if len(value) > BINARIES_MAX:
        raise ConfigurationError("table is too long", where=at, expected=f"<= {BINARIES_MAX} paths", found=len(value))
    for path, program in value.items():
        check_path(path, f"{at}: a key")
        if not isinstance(program, str) or not known(program):
            raise ConfigurationError(
                "unknown program", where=at, expected="a program that docs/claws.md names, or `plain`", found="another"
            )


def check_flag(value: Any, at: str) -> None:
    """Refuse all but true and false."""
    if not isinstance(value, bool):
        raise ConfigurationError("wrong type", where=at, expected="true or false", found=type(value).__name__)


def integer_within(low: int, high: int) -> Check:
    """A check that refuses all but integers from ``low`` to ``high``."""

    def check(value: Any, at: str) -> None:
        if type(value) is not int:
            raise ConfigurationError("wrong type", where=at, expected="an integer", found=type(value).__name__)
        if not low <= value <= high:
            raise ConfigurationError("out of bounds", where=at, expected=f"{low} to {high}", found=value)

    return check


def list_of(check: Check, what: str) -> Check:
    """A check that refuses all but lists of at most LIST_ENTRIES_MAX values that ``check`` takes."""

    def check_list(value: Any, at: str) -> None:
        if not isinstance(value, list):
            raise ConfigurationError("wrong type", where=at, expected=f"a list of {what}", found=type(value).__name__)
        if len(value) > LIST_ENTRIES_MAX:
            raise ConfigurationError("list is too long", where=at, expected=f"<= {LIST_ENTRIES_MAX}", found=len(value))
        for number, item in enumerate(value):
            check(item, f"{at}[{number}]")

    return check_list


def check_host(value: Any, at: str) -> None:
    """Refuse all but a host, or `*.NAME`, in the spelling that addresses are compared in."""
    from femtoclaw.web_address import AddressInvalid, read_pattern

    try:
        fits = isinstance(value, str) and read_pattern(value) == value
    except AddressInvalid:
        fits = False
    if not fits:
        raise ConfigurationError(
            "no host", where=at, expected="a name in lower case ASCII (xn--...), `*.` and a name, or an IP address",
            found="something else",
        )  # fmt: skip


def check_network(value: Any, at: str) -> None:
    """Refuse all but a network as address and prefix length, such as 10.1.0.0/16."""
    import ipaddress

    try:
        if not isinstance(value, str) or "/" not in value:
            raise ValueError
        ipaddress.ip_network(value)
    except ValueError:
        raise ConfigurationError("no network", where=at, expected="ADDRESS/LENGTH", found="something else") from None


CLAWS: dict[str, dict[str, Check]] = {
    "process.list": {"arguments": check_flag},
    "shell": {"binaries": check_binaries, "programs": check_programs, "readable": check_binaries},
    "system.info": {"host_name": check_flag},
    "web.get": {
        "bytes_max": integer_within(1, WEB_BYTES_MAX),
        "ca_file": check_path,
        "hosts": list_of(check_host, "hosts"),
        "plain_http": check_flag,
        "ports": list_of(integer_within(1, 65535), "ports"),
        "private_networks": list_of(check_network, "networks"),
        "redirects_max": integer_within(0, WEB_REDIRECTS_MAX),
        "seconds_max": integer_within(1, WEB_SECONDS_MAX),
    },
}
"""Settings by claw. A claw that is not here has none."""


def check_claw(name: str, settings: Mapping[str, Any], at: str) -> None:
    """Refuse a setting that the claw does not have, and a value that it cannot take. Raises ConfigurationError."""
    known = CLAWS.get(name, {})
    for key, value in settings.items():
        if key not in known:
            raise ConfigurationError(
                "unknown claw setting", where=f"{at}.{key}", expected=", ".join(sorted(known)) or "no settings"
            )
        known[key](value, f"{at}.{key}")


def check_brains(brains: Mapping[str, Any], at: str) -> None:
    """Refuse settings of a brain that does not exist, or that it does not take. Raises ConfigurationError."""
    for name, settings in brains.items():
        where = f"{at}.{name}"
        if name not in BRAINS:
            raise ConfigurationError("unknown brain", where=where, expected=", ".join(BRAINS))
        if not isinstance(settings, Mapping):
            raise ConfigurationError("wrong type", where=where, expected="a table", found=type(settings).__name__)
        if name == "openai":
            from femtoclaw.brains.openai import read_settings

            try:
                read_settings(settings)
            except ConfigurationError as error:
                error.where = f"{at.removesuffix('runtime.brains')}{error.where}"
                raise
        elif settings:
            raise ConfigurationError("unknown brain setting", where=f"{where}.{min(settings)}", expected="no settings")


def check_brain_name(value: str, at: str) -> None:
    """Refuse a default brain that does not exist. Raises ConfigurationError."""
    if value.partition(":")[0] not in BRAINS:
        raise ConfigurationError("unknown brain", where=at, expected="script:FILE, echo or openai:MODEL")


def check_webhook(value: str, at: str) -> None:
    """Refuse all but nothing and an address that alerts may be sent to: https, or http to this machine, without user, query or
    fragment. Raises ConfigurationError, which never repeats the address: somebody may have put a password in it."""
    _check_target(value, at, "alerts cannot be sent there")


def check_collector(value: str, at: str) -> None:
    """Refuse all but nothing and an address that traces may be sent to, as ``check_webhook`` does."""
    _check_target(value, at, "traces cannot be sent there")


def _check_target(value: str, at: str, what: str) -> None:
    if not value:
        return
    from femtoclaw.web_address import AddressInvalid, read_address

    try:
        address = read_address(value)
        local = address.host in ("localhost", "::1") or address.host.startswith("127.")
        fits = not address.query and (address.scheme == "https" or local)
    except AddressInvalid:
        fits = False
    if not fits:
        raise ConfigurationError(
            what, where=at, expected="https://HOST[:PORT][/PATH], or http:// and this machine", found="another address"
        )


def check_listen(value: str, at: str) -> None:
    """Refuse all but nothing and HOST:PORT: an address of this machine in digits, an IPv6 one in brackets, port 0 to 65535."""
    if not value:
        return
    from ipaddress import ip_address

    host, colon, port = value.rpartition(":")
    try:
        fits = bool(colon) and port.isascii() and port.isdigit() and int(port) < 1 << 16
        ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        fits = False
    if not fits:
        raise ConfigurationError(
            "not an address to listen at", where=at, expected="such as 127.0.0.1:9464 or [::1]:9464", found="another text"
        )


def check_line_file(value: str, at: str) -> None:
    """Refuse all but nothing, ``stderr``, and the path of a file whose name ends in .jsonl: none of a node's own files has one."""
    if value and value != "stderr" and (not value.endswith(".jsonl") or len(value.encode()) > PATH_BYTES_MAX):
        raise ConfigurationError(
            "not a place for lines", where=at, expected="`stderr`, or the path of a file that ends in .jsonl", found="another"
        )
