"""Why a release is not taken: one stable code each. Nothing of the installation has changed when one of these is raised."""

from __future__ import annotations

from femtoclaw.errors import FemtoClawError, SecurityError

CODES = {
    "UNSIGNED": "the release is not signed",
    "UNTRUSTED_KEY": "the release is signed by a key that is not trusted here",
    "BAD_SIGNATURE": "the release's signature does not hold",
    "REVOKED_KEY": "the release's key was revoked",
    "BAD_RELEASE": "this is no release",
    "HASH_MISMATCH": "a file of the release is not the one that was signed",
    "UNLISTED_FILE": "something lies in the release that was not signed",
    "FILE_MISSING": "a file of the release is missing",
    "ROLLBACK": "the release is older than this installation goes back to",
}
"""Stable code to its sentence."""

KINDS = ("runtime", "storage", "module", "capability")
"""What a release must fit, in the order in which it is asked."""


class ReleaseRefusedError(SecurityError):
    """A release that is not what somebody trusted signed, or one below the floor. ``refused`` is one of ``CODES``."""

    code = "RELEASE_REFUSED"
    default_remedy = "get the release and its key again from whoever made it; nothing was installed"

    def __init__(self, refused: str, *, where: str, expected: object = None, found: object = None) -> None:
        super().__init__(f"{CODES[refused]} ({refused})", where=where, expected=expected, found=found)
        self.refused = refused


class IncompatibleReleaseError(FemtoClawError):
    """A release that is whole, and does not fit this node. ``kind`` is one of ``KINDS``."""

    code = "RELEASE_INCOMPATIBLE"
    exit_code = 1
    default_remedy = "deploy a release that fits, or change what is named above first; nothing was installed"

    def __init__(self, kind: str, what: str, *, where: str = "", expected: object = None, found: object = None) -> None:
        super().__init__(f"{kind}: {what}", where=where, expected=expected, found=found)
        self.kind = kind
