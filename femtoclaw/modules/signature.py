"""What a publisher signs, and whether one did: a signed note over name, version and manifest digest. Pure.

The note names the publisher's key. So a signature that does not hold (BAD_SIGNATURE) is told from one that holds, but
by somebody whom this node does not trust (UNTRUSTED_KEY), without knowing every key there is.
"""

from __future__ import annotations

from collections.abc import Sequence

from femtoclaw.manifest import Manifest
from femtoclaw.modules.refusal import Refusal
from wal.errors import SignatureError
from wal.note import PublicKey, Signer, open_note, sign_note, text_of

TITLE = "femtoclaw module v1"
_LINES = 5


def statement(name: str, version: str, digest: str, publisher: PublicKey) -> str:
    """The text that is signed."""
    lines = (TITLE, f"name {name}", f"version {version}", f"manifest {digest}", f"publisher {publisher.vkey()}")
    return "\n".join(lines) + "\n"


def sign(manifest: Manifest, signer: Signer) -> bytes:
    """The bytes of ``module.sig``."""
    return sign_note(statement(manifest.name, manifest.version, manifest.digest(), signer.public), [signer])


def verify_signature(key: str, name: str, version: str, digest: str, note: bytes) -> bool:
    """Whether ``note`` is the signature of the verifier key ``key`` over exactly this name, version and digest."""
    try:
        publisher = PublicKey.parse(key)
        text = text_of(note)
        open_note(note, [publisher])
    except SignatureError:
        return False
    return text == statement(name, version, digest, publisher)


def check(raw: bytes, manifest: Manifest, trusted: Sequence[PublicKey]) -> PublicKey | Refusal:
    """Whose signature ``raw`` holds over this manifest, when that is one of the ``trusted``; else why not.

    UNSIGNED for no bytes, BAD_SIGNATURE for anything but a valid signature over exactly this manifest by the key that it
    names, UNTRUSTED_KEY for a valid one by another key.
    """
    if not raw:
        return _refused("UNSIGNED", "it has no module.sig", manifest)
    publisher = _named_publisher(raw)
    if publisher is None:
        return _refused("BAD_SIGNATURE", "module.sig is no signed note over a module", manifest)
    if not verify_signature(publisher.vkey(), manifest.name, manifest.version, manifest.digest(), raw):
        return _refused("BAD_SIGNATURE", "the signature in module.sig does not hold for this manifest", manifest)
    if publisher not in trusted:
        return _refused("UNTRUSTED_KEY", f"it is signed by {publisher.vkey()}, which is not trusted", manifest)
    return publisher


def _named_publisher(raw: bytes) -> PublicKey | None:
    """The key that the note names as its own, unproven."""
    try:
        lines = text_of(raw).split("\n")
        return PublicKey.parse(lines[_LINES - 1].removeprefix("publisher ")) if len(lines) == _LINES + 1 else None
    except SignatureError:
        return None


def _refused(code: str, detail: str, manifest: Manifest) -> Refusal:
    return Refusal(code, detail, manifest.name, manifest.digest())
