"""Why a module is refused: a stable code, and a text that holds nothing of the module's own words. Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple

from femtoclaw.errors import SecurityError

DETAIL_CHARS_MAX = 200
"""Of a text that a module's own process had a part in."""

PREFIX = "module refused: "
"""How the message of an error begins with which a module's process says that it was not loaded."""

CODES = (
    "UNSIGNED",
    "BAD_SIGNATURE",
    "UNTRUSTED_KEY",
    "HASH_MISMATCH",
    "UNLISTED_FILE",
    "WRONG_ABI",
    "SYMBOL_MISSING",
    "BAD_MANIFEST",
    "BAD_VERSION",
    "UNSUPPORTED_TYPE",
    "INCOMPATIBLE_RUNTIME",
    "INIT_FAILED",
    "NAME_TAKEN",
    "NOT_DETERMINISTIC",
)


class Refusal(NamedTuple):
    """``code`` is one of ``CODES``; ``name`` and ``digest`` are the module's and its manifest's, empty when unknown."""

    code: str
    detail: str
    name: str = ""
    digest: str = ""


def refused_at_load(message: object, name: str, digest: str) -> Refusal | None:
    """The refusal that the error message of an outcome tells, when a module was refused in its own process.

    A module's own code can answer with such a message, too: it is then believed against itself.
    """
    text = message if isinstance(message, str) else ""
    code, _, detail = text.removeprefix(PREFIX).partition(": ")
    if not text.startswith(PREFIX) or code not in CODES:
        return None
    return Refusal(code, detail if detail.isprintable() and len(detail) <= DETAIL_CHARS_MAX else "", name, digest)


class ModuleRejectedError(SecurityError):
    """A module that is not taken, as an error for an operator: exit code 3."""

    code = "MODULE_REJECTED"
    default_remedy = "do not use this module; get it again from its publisher, and compare the publisher's key"

    def __init__(self, refusal: Refusal) -> None:
        what = f"the module is refused: {refusal.code}"
        super().__init__(what, where=refusal.name, expected=None, found=refusal.detail)
        self.refusal = refusal
