"""FC-ABI-1.0.0, the contract between this program and a module, without any of the ways to load one. Pure.

Native code and WebAssembly meet it through memory (``native``, ``webassembly``), Python through objects
(``python_files``); versions, handles, status codes and what makes a response valid are the same for all of them.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import re
from typing import Any, NamedTuple

from femtoclaw.claws.errors import AccessError, ArgumentError, ClawError, SurroundingsError

VERSION = "FC-ABI-1.0.0"
"""The version that this program implements."""

VERSION_BYTES_MAX = 64
"""Bytes of what ``femtoclaw_module_version`` returns, without the zero at its end."""

MESSAGE_CHARS_MAX = 2000
"""Characters of a module's error message that are kept."""

FUNCTIONS = ("version", "init", "execute", "shutdown")
SYMBOLS = tuple(f"femtoclaw_module_{name}" for name in FUNCTIONS)
"""What every module exports, by these very names."""

SUCCESS = 0
ERRORS: dict[int, type[ClawError]] = {1: ClawError, 2: ArgumentError, 3: AccessError, 4: SurroundingsError}
"""``status_code`` of a response that holds an error, and what it becomes."""

NO_RESPONSE = -1
"""``status_code`` before the module has filled it."""

_VERSION = re.compile(r"FC-ABI-(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})")


class ABIVersion(NamedTuple):
    """MAJOR.MINOR.PATCH; a breaking change raises the major, which alone decides about compatibility."""

    major: int
    minor: int
    patch: int

    def number(self) -> int:
        """As ``abi_version`` of a RuntimeContext: major, minor and patch in 16, 8 and 8 bits."""
        return self.major << 16 | self.minor << 8 | self.patch


class ModuleRefusedError(ClawError):
    """The module is not one that may be called. ``code`` is stable; nothing of ``detail`` comes from arguments."""

    kind = "EnvironmentError"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"module refused: {code}: {detail}")
        self.code = code
        self.detail = detail


def parse_version(text: object) -> ABIVersion:
    """The version in ``text``. Raises ModuleRefusedError(WRONG_ABI) for anything but ``FC-ABI-MAJOR.MINOR.PATCH``."""
    found = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ModuleRefusedError("WRONG_ABI", "its version is not of the form FC-ABI-MAJOR.MINOR.PATCH")
    major, minor, patch = map(int, found.groups())
    return ABIVersion(major, minor, patch)


def compatible(runtime: ABIVersion, module: ABIVersion) -> bool:
    """Whether a module of one version runs under a runtime of the other: exactly when the majors are the same."""
    return runtime.major == module.major


def check_version(text: object) -> ABIVersion:
    """The version of a module that this program can run. Raises ModuleRefusedError(WRONG_ABI)."""
    version = parse_version(text)
    if not compatible(parse_version(VERSION), version):
        raise ModuleRefusedError("WRONG_ABI", f"it is of major {version.major}; this program runs {VERSION}")
    return version


def decode_version(raw: bytes) -> str:
    """What a module returned as its version, as text. Raises ModuleRefusedError(WRONG_ABI) for other bytes."""
    try:
        return raw[: VERSION_BYTES_MAX + 1].decode()
    except UnicodeDecodeError:
        raise ModuleRefusedError("WRONG_ABI", "its version is not UTF-8") from None


def check_status(returned: object, code: str, what: str) -> None:
    """Raises ModuleRefusedError unless a module's function returned 0."""
    if type(returned) is not int or returned != 0:
        shown = returned if type(returned) is int else type(returned).__name__
        raise ModuleRefusedError(code, f"{what} returned {shown} instead of 0")


def execution_handle(key: str) -> int:
    """The ``execution_id`` of a request: 64 bits of the BLAKE3 of the execution's own id, the same wherever computed."""
    from blake3 import blake3

    return int.from_bytes(blake3(b"femtoclaw execution handle\n" + key.encode()).digest()[:8], "big")


def runtime_handle(name: str) -> int:
    """The ``runtime_id`` of a context: 64 bits that stand for the node ``name``; 0 for none."""
    from blake3 import blake3

    return int.from_bytes(blake3(b"femtoclaw runtime\n" + name.encode()).digest()[:8], "big") if name else 0


def check_executed(returned: object) -> None:
    """Raises ClawError unless ``femtoclaw_module_execute`` returned 0, which says that it filled the response."""
    if type(returned) is not int or returned != 0:
        raise ClawError("the module did not answer: its execute function failed")


def result_of(status: object, raw: bytes | None) -> dict[str, Any]:
    """The result in a response. Raises the ClawError that an error response stands for, and ClawError for a response
    that is none: another status, no payload, one that is not UTF-8 or not one strict JSON object, or an error payload
    that is anything but a message."""
    if status == NO_RESPONSE or raw is None:
        raise ClawError("the module gave no response")
    if type(status) is not int or (status != SUCCESS and status not in ERRORS):
        raise ClawError("the module's response has an unknown status")
    from femtoclaw.isolation.answer import parse

    try:
        body = parse(raw)
    except (ValueError, RecursionError):
        raise ClawError("the module's response is not a JSON object in UTF-8") from None
    if status == SUCCESS:
        return body
    match body:
        case {"message": str(message), **rest} if not rest:
            raise ERRORS[status](message[:MESSAGE_CHARS_MAX])
    raise ClawError("the module's error response is not a message")
