"""The distribution manifest: its text, its signature, and the pin by which a home says which one it trusts.

Both are signed notes over lines of text, so that reading them takes no parser of anything larger. The manifest:

    femtoclaw distribution v1
    program 0.1.0
    counter 3
    hash sha256
    signature ed25519
    python cpython 3.11.7 cpython-311 x86_64
    dependencies .venv/lib/python3.11/site-packages
    host 17584 93…  /usr/bin/python3.11
    file 1234 0a…  femtoclaw/gate.py
    bytecode 3085320 77…
    code 0 5678 femtoclaw/gate.py

``file`` is size in bytes, hash in hex, path; a path that begins with ``@/`` is below the dependencies. ``bytecode`` is size
and hash of the file ``code``, ``code`` offset and length in it of what a source was compiled to. ``host`` files are the
interpreter's.
"""

from __future__ import annotations

import binascii
import os

from femtoclaw.launcher.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FOLDER = "femtoclaw.sealed"
"""Stands beside the packages."""

TITLE = "femtoclaw distribution v1"
PIN_TITLE = "femtoclaw distribution pin v1"
PIN_FILE = "distribution.pin"
MANIFEST_BYTES_MAX = 4 * 1024 * 1024
PIN_BYTES_MAX = 64 * 1024
APPROVED = ("sha256", "sha384", "sha512", "blake2b")
"""Hash functions that a manifest may name."""

NOT_SUPPORTED = ("ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096", "blake3")
"""Approved by the suite, but not known to this launcher, which has only what the standard library offers it."""

DASH = "\u2014 "
_ALGORITHM = b"\x01"


class Entry:
    """One file of the distribution: size in bytes, hash in hex."""

    __slots__ = ("digest", "size")

    def __init__(self, size: int, digest: str) -> None:
        self.size = size
        self.digest = digest


class Manifest:
    """What a distribution consists of. ``files`` and ``code`` are keyed by the path in the manifest."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.program = ""
        self.counter = -1
        self.hash = ""
        self.signature = ""
        self.python = ""
        self.dependencies = ""
        self.host: dict[str, Entry] = {}
        self.files: dict[str, Entry] = {}
        self.code: dict[str, tuple[int, int]] = {}
        self.bytecode = Entry(0, "")

    def hasher(self) -> Callable[[Any], Any]:
        """Constructor of the hash function that the manifest names."""
        return hasher(self.hash)


class Pin:
    """What a home trusts. ``state`` is ``sealed``, or ``unverified``: made by a process that nothing had verified.

    ``also`` is a second distribution, digest of its manifest and key, while a release takes the place of another: whichever of
    the two a power cut leaves in place starts.
    """

    def __init__(
        self, state: str, digest: str = "", key: str = "", floor: int = 0, revoked: tuple[str, ...] = (),
        also: tuple[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.state = state
        self.digest = digest
        self.key = key
        self.floor = floor
        self.revoked = revoked
        self.also = also

    def for_digest(self, digest: str) -> Pin:
        """The pin as a distribution with this digest has to meet it."""
        if self.also is None or self.state != "sealed" or self.also[0] != digest:
            return self
        return Pin(self.state, *self.also, self.floor, self.revoked)

    def text(self) -> str:
        """The signed text."""
        lines = [PIN_TITLE, f"state {self.state}"]
        if self.state == "sealed":
            lines += [f"digest {self.digest}", f"key {self.key}", f"floor {self.floor}"]
            lines += [f"also {' '.join(self.also)}"] if self.also is not None else []
        return "\n".join([*lines, *(f"revoked {key}" for key in self.revoked), ""])


def hasher(name: str) -> Callable[[Any], Any]:
    """Constructor of an approved hash function. Raises Refused for any other, by name."""
    if name not in APPROVED:
        known = name in NOT_SUPPORTED
        code = "ALGORITHM_NOT_SUPPORTED" if known else "ALGORITHM_NOT_APPROVED"
        what = f"hash algorithm {name!r} is {'not supported by this launcher' if known else 'not approved'}"
        raise Refused(code, what, "distribution manifest", ", ".join(APPROVED), name)
    try:
        import _hashlib

        found: Callable[[Any], Any] = getattr(_hashlib, f"openssl_{name}")
    except (ImportError, AttributeError):
        import hashlib

        found = getattr(hashlib, name)
    return found


def split(raw: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """A note's text and its signatures (signer's name, 4 bytes of key id and 64 of signature). Raises ValueError."""
    text, separator, tail = raw.decode().rpartition("\n\n")
    if not separator:
        return raw.decode(), []
    signatures = []
    for line in tail.splitlines():
        name, _, encoded = line.removeprefix(DASH).partition(" ")
        if not line.startswith(DASH) or not name:
            raise ValueError("not a signature line")
        signatures.append((name, binascii.a2b_base64(encoded, strict_mode=True)))
    return text + "\n", signatures


def check_signature(raw: bytes, key: str, where: str) -> str:
    """The text of a note that ``key`` (name+hash+base64) signed. Raises Refused, with what exactly is wrong."""
    from femtoclaw.launcher.ed25519 import verify

    try:
        text, signatures = split(raw)
    except ValueError as error:
        raise Refused(
            "BAD_MANIFEST", "the manifest is no signed note", where, "text and signatures", str(error)
        ) from None
    if not signatures:
        raise Refused("UNSIGNED", "the manifest is not signed", where, key, "no signature")
    try:
        name, identity, public = parse_key(key)
    except ValueError:
        raise Refused("UNTRUSTED_KEY", "the key to check the manifest with is none", where, "a key", key) from None
    signers = []
    for signer, body in signatures:
        signers.append(signer)
        if signer != name or body[:4] != identity:
            continue
        if verify(public, text.encode(), body[4:]):
            return text
        raise Refused(
            "BAD_SIGNATURE", "the manifest's signature does not hold", where, f"a signature by {key}", "another"
        )
    raise Refused(
        "UNTRUSTED_KEY", "the manifest is signed by a key that is not trusted here", where, key, ", ".join(signers)
    )


def parse_key(text: str) -> tuple[str, bytes, bytes]:
    """Name, id (4 bytes) and raw key (32 bytes) of ``name+hash+base64``. Raises ValueError."""
    name, identity, encoded = text.split("+", 2)
    body = binascii.a2b_base64(encoded, strict_mode=True)
    if body[:1] != _ALGORITHM or len(body) != 33 or len(identity) != 8:
        raise ValueError("not an Ed25519 key")
    return name, bytes.fromhex(identity), body[1:]


def parse(text: str, digest: str, where: str) -> Manifest:
    """The manifest of a text. Raises Refused: BAD_MANIFEST, or that an algorithm is not to be used."""
    manifest = Manifest(digest)
    lines = text.split("\n")
    try:
        if lines[0] != TITLE or lines[-1] != "":
            raise ValueError("another title, or no last line")
        for line in lines[1:-1]:
            _take(manifest, line)
        if manifest.counter < 0 or not manifest.files or not manifest.python or not manifest.hash:
            raise ValueError("something is missing")
    except ValueError as error:
        raise Refused("BAD_MANIFEST", "the manifest cannot be read", where, f"a {TITLE}", str(error)) from None
    if manifest.signature != "ed25519":
        known = manifest.signature in NOT_SUPPORTED
        code = "ALGORITHM_NOT_SUPPORTED" if known else "ALGORITHM_NOT_APPROVED"
        raise Refused(code, "the manifest's signature algorithm is not used here", where, "ed25519", manifest.signature)
    hasher(manifest.hash)
    return manifest


def _take(manifest: Manifest, line: str) -> None:
    kind, _, rest = line.partition(" ")
    if kind == "file":
        size, digest, path = rest.split(" ", 2)
        manifest.files[inside(path)] = Entry(int(size), digest)
    elif kind == "code":
        offset, length, path = rest.split(" ", 2)
        manifest.code[path] = (int(offset), int(length))
    elif kind == "host":
        size, digest, path = rest.split(" ", 2)
        manifest.host[path] = Entry(int(size), digest)
    elif kind == "bytecode":
        size, digest = rest.split(" ")
        manifest.bytecode = Entry(int(size), digest)
    elif kind == "counter":
        manifest.counter = int(rest)
    elif kind in ("program", "hash", "signature", "python", "dependencies"):
        setattr(manifest, kind, rest)
    else:
        raise ValueError(f"a line of kind {kind[:20]!r}")


def inside(path: str) -> str:
    """The same path, which stays in its folder. Raises ValueError for one that leads elsewhere."""
    if not path or path.startswith("/") or "/../" in f"/{path}/" or "\0" in path:
        raise ValueError("a path that leads elsewhere")
    return path


def read_pin(home: str) -> Pin | None:
    """The home's pin; None when it has none. Raises Refused for one that cannot be read.

    Its signature is the node key's and is checked when the log is opened, which knows that key
    (``femtoclaw.distribution.require``): a launcher that took the key from the same folder would learn nothing.
    """
    where = os.path.join(home, PIN_FILE)
    try:
        raw = read(where, PIN_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Refused(
            "BAD_PIN", "the home's pin cannot be read", where, "a readable file", str(error.strerror)
        ) from None
    try:
        return parse_pin(split(raw)[0])
    except ValueError as error:
        raise Refused("BAD_PIN", "the home's pin cannot be read", where, f"a {PIN_TITLE}", str(error)) from None


def parse_pin(text: str) -> Pin:
    """The pin of a text. Raises ValueError."""
    lines = text.split("\n")
    if lines[0] != PIN_TITLE or lines[-1] != "":
        raise ValueError("another title, or no last line")
    fields = [line.partition(" ")[::2] for line in lines[1:-1]]
    said = dict(field for field in fields if field[0] != "revoked")
    revoked = tuple(key for kind, key in fields if kind == "revoked")
    pin = Pin(said.get("state", ""), said.get("digest", ""), said.get("key", ""), revoked=revoked)
    if pin.state not in ("sealed", "unverified"):
        raise ValueError("another state")
    pin.floor = int(said.get("floor", "0"))
    if "also" in said:
        digest, _, key = said["also"].partition(" ")
        pin.also = (digest, key)
    if pin.state == "sealed" and (not pin.digest or not pin.key or (pin.also is not None and not all(pin.also))):
        raise ValueError("sealed, and not by what")
    return pin


def read(path: str, limit: int) -> bytes:
    """A whole file of at most ``limit`` bytes. Raises OSError, also for a longer one."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        pieces = []
        while piece := os.read(fd, limit + 1):
            pieces.append(piece)
            limit -= len(piece)
            if limit < 0:
                raise OSError(27, "larger than it may be")
        return b"".join(pieces)
    finally:
        os.close(fd)
