"""Why a module is refused: a stable code, and a text that holds nothing of the module's own words. Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple

from femtoclaw.errors import SecurityError

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
    "INCOMPATIBLE_RUNTIME",
    "INIT_FAILED",
    "NAME_TAKEN",
)


class Refusal(NamedTuple):
    """``code`` is one of ``CODES``; ``name`` and ``digest`` are the module's and its manifest's, empty when unknown."""

    code: str
    detail: str
    name: str = ""
    digest: str = ""


class ModuleRejectedError(SecurityError):
    """A module that is not taken, as an error for an operator: exit code 3."""

    code = "MODULE_REJECTED"
    default_remedy = "do not use this module; get it again from its publisher, and compare the publisher's key"

    def __init__(self, refusal: Refusal) -> None:
        what = f"the module is refused: {refusal.code}"
        super().__init__(what, where=refusal.name, expected=None, found=refusal.detail)
        self.refusal = refusal
