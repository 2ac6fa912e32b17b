"""Named secrets in files of their own, sealed under a key that follows from the node's: HOME/secrets/NAME.box.

A box binds its name and the node key it is sealed under. Beside the value it holds a random key, under which the value's
digest is taken: that digest is what the log records. It says which value is meant, also after a rotation, and cannot be
guessed at from the log. Setting a secret stages a box, has the log record its digest, and settles the file after that.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
import os
from typing import Any, NamedTuple

from femtoclaw.errors import ConfigurationError, SecurityError
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner
from femtoclaw.passphrase import read_private
from femtoclaw.redaction import VALUE_CHARS_MIN
from wal.durable_file import sync_folder, write_file

FORMAT = "femtoclaw secret v1"
CONTEXT = "femtoclaw secret store v1"
VALUE_BYTES_MAX = 64 * 1024
NAME_CHARS_MAX = 64
SECRETS_MAX = 1024
NONCE_BYTES = 24
_DIGEST_KEY_BYTES = 32
_OVERHEAD = _DIGEST_KEY_BYTES + 16
_FILE_BYTES_MAX = 128 * 1024
_BOX, _NEXT = ".box", ".next.box"
_FIELDS = {"format": str, "name": str, "key": str, "set_ns": int, "nonce": str, "box": str}
_ALTERED = "set the secret again, and find out who changed the file"


class Secret(NamedTuple):
    """What may be told of a secret: name, bytes of its value, when it was set (nanoseconds since 1970)."""

    name: str
    size: int
    set_ns: int


def check_name(name: str) -> None:
    """Raise ConfigurationError unless it is 1 to ``NAME_CHARS_MAX`` of A-Z, a-z, 0-9, _ and -, not beginning with -."""
    fits = all(char.isascii() and (char.isalnum() or char in "_-") for char in name)
    if not fits or not 1 <= len(name) <= NAME_CHARS_MAX or name[0] == "-":
        raise ConfigurationError(
            "not a name for a secret", found=f"{len(name)} characters",
            expected=f"1 to {NAME_CHARS_MAX} letters, digits, _ and -, not beginning with -",
        )  # fmt: skip


def check_value(value: str) -> None:
    """Raise ConfigurationError for a value that is too short to be struck out of text, or too long."""
    size = len(value.encode("utf-8", "surrogatepass"))
    if len(value) < VALUE_CHARS_MIN or size > VALUE_BYTES_MAX or any("\ud800" <= char <= "\udfff" for char in value):
        raise ConfigurationError(
            "this value cannot be a secret", found=f"{len(value)} characters, {size} bytes",
            expected=f"UTF-8 of {VALUE_CHARS_MIN} characters to {VALUE_BYTES_MAX} bytes",
        )  # fmt: skip


class SecretStore:
    """The secrets of one node, for whoever holds its key. Nothing that it raises holds anything of a value."""

    def __init__(self, home: Home, signer: KeySigner) -> None:
        self._folder = secrets_folder(home)
        self._signer = signer

    def stage(self, name: str, value: str, set_ns: int) -> str:
        """Seal a value beside the one in force, durable; return the digest that the log is to record. What was staged
        before is gone: ``settle`` first, in case the log has recorded that one.

        Raises ConfigurationError for a name or value that does not fit, or for one secret too many.
        """
        check_name(name)
        check_value(value)
        if not os.path.lexists(self._path(name, _BOX)) and len(_names(self._folder)) >= SECRETS_MAX:
            raise ConfigurationError("there are too many secrets", where=self._folder, expected=f"<= {SECRETS_MAX}")
        inside = os.urandom(_DIGEST_KEY_BYTES) + value.encode()
        write_file(self._path(name, _NEXT), _seal(self._signer, name, set_ns, inside))
        return _digest(name, inside)

    def settle(self, name: str, digest_id: str) -> None:
        """Bring the files to what the log says: the staged value is in force when its digest was recorded, and goes
        when not (an empty ``digest_id``: no value is). The same again does nothing. Raises ConfigurationError, or
        SecurityError when the staged box does not open."""
        check_name(name)
        staged, box = self._path(name, _NEXT), self._path(name, _BOX)
        if not digest_id:
            self._remove(staged)
            self._remove(box)
        elif os.path.lexists(staged):
            if _digest(name, self._open(name, staged)) == digest_id:
                os.replace(staged, box)
                sync_folder(self._folder)
            else:
                self._remove(staged)

    def get(self, name: str, digest_id: str) -> str:
        """The value whose digest the log has recorded.

        Raises ConfigurationError when there is none, SecurityError when what is there is another, or does not open.
        """
        check_name(name)
        there = [path for path in (self._path(name, _BOX), self._path(name, _NEXT)) if os.path.lexists(path)]
        if not there:
            raise ConfigurationError(
                "there is no value for this secret", where=self._path(name, _BOX), remedy="set it again"
            )
        for path in there:
            inside = self._open(name, path)
            if _digest(name, inside) == digest_id:
                return inside[_DIGEST_KEY_BYTES:].decode()
        raise SecurityError(
            "a secret is not the one that was recorded", where=there[0], expected="the value whose digest is in the log",
            found="another value", remedy=_ALTERED,
        )  # fmt: skip

    def _open(self, name: str, path: str) -> bytes:
        return _open(_read(path), name, self._signer, path)

    def _path(self, name: str, ending: str) -> str:
        return os.path.join(self._folder, name + ending)

    def _remove(self, path: str) -> None:
        if os.path.lexists(path):
            os.unlink(path)
            sync_folder(self._folder)


def secrets_folder(home: Home) -> str:
    """Where the boxes are."""
    return os.path.join(home.path, "secrets")


def stored_names(home: Home) -> list[str]:
    """Names of the secrets that have a box, or a staged one, whatever is in it. Raises ConfigurationError."""
    return _names(secrets_folder(home))


def list_secrets(home: Home) -> list[Secret]:
    """What the files say of themselves, unproven and without any key. Raises ConfigurationError or SecurityError for
    a file that is no box."""
    folder = secrets_folder(home)
    found = []
    for name in _names(folder):
        path = os.path.join(folder, name + _BOX)
        if not os.path.lexists(path):
            continue  # staged only: the log has not recorded it yet
        fields = _read(path)
        if fields["name"] != name:
            raise _malformed(path)
        found.append(Secret(name, max(0, len(_bytes(fields["box"], path)) - _OVERHEAD), fields["set_ns"]))
    return found


def reseal(home: Home, old: KeySigner, new: KeySigner) -> None:
    """Seal every box of ``old`` under ``new``; a box that is under ``new`` already stays. Whole boxes at every moment.

    Raises SecurityError for a box that neither opens, ConfigurationError for one that cannot be read.
    """
    folder = secrets_folder(home)
    for name in _names(folder):
        for path in (os.path.join(folder, name + _BOX), os.path.join(folder, name + _NEXT)):
            if not os.path.lexists(path):
                continue
            fields = _read(path)
            if fields["key"] == new.public.raw.hex():
                _open(fields, name, new, path)
            else:
                write_file(path, _seal(new, name, fields["set_ns"], _open(fields, name, old, path)))


def _names(folder: str) -> list[str]:
    """Names of the secrets that have a box, or a staged one."""
    try:
        files = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError("the secrets cannot be read", where=folder, found=error.strerror) from error
    boxes = {file.removesuffix(_BOX).removesuffix(".next") for file in files if file.endswith(_BOX) and file[0] != "."}
    return sorted(boxes)


def _seal(signer: KeySigner, name: str, set_ns: int, inside: bytes) -> bytes:
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

    nonce = os.urandom(NONCE_BYTES)
    fields = {"format": FORMAT, "name": name, "key": signer.public.raw.hex(), "set_ns": set_ns}
    box = encrypt(inside, _encode(fields), nonce, signer.derive(CONTEXT))
    return _encode(fields | {"nonce": base64.b64encode(nonce).decode(), "box": base64.b64encode(box).decode()})


def _open(fields: dict[str, Any], name: str, signer: KeySigner, where: str) -> bytes:
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
    from nacl.exceptions import CryptoError

    nonce, box = _bytes(fields["nonce"], where), _bytes(fields["box"], where)
    bound = {"format": FORMAT, "name": name, "key": signer.public.raw.hex(), "set_ns": fields["set_ns"]}
    try:
        if len(nonce) != NONCE_BYTES or len(box) < _OVERHEAD or not fields.items() >= bound.items():
            raise CryptoError
        inside: bytes = decrypt(box, _encode(bound), nonce, signer.derive(CONTEXT))
    except CryptoError:
        raise SecurityError(
            "a secret does not open", where=where, expected=f"a box of this name, sealed under {signer.public.vkey()}",
            found="another key's, another name's, or an altered file", remedy=_ALTERED,
        ) from None  # fmt: skip
    return inside


def _digest(name: str, inside: bytes) -> str:
    """Hex of the keyed BLAKE3 of name and value, under the random key that the box holds."""
    from blake3 import blake3

    return blake3(name.encode() + b"\x00" + inside[_DIGEST_KEY_BYTES:], key=inside[:_DIGEST_KEY_BYTES]).hexdigest()


def _read(path: str) -> dict[str, Any]:
    """The fields of a box, each of its type. Raises ConfigurationError, SecurityError when it is none."""
    import json

    try:
        fields = json.loads(read_private(path, _FILE_BYTES_MAX))
    except (ValueError, RecursionError):
        raise _malformed(path) from None
    if not isinstance(fields, dict) or {name: type(value) for name, value in fields.items()} != _FIELDS:
        raise _malformed(path)
    if fields["format"] != FORMAT:
        raise ConfigurationError("the secret's format is unknown", where=path, expected=FORMAT, found="another")
    return fields


def _malformed(path: str) -> SecurityError:
    return SecurityError(
        "a secret's file is malformed", where=path, expected=FORMAT, found="other bytes", remedy=_ALTERED
    )


def _bytes(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise _malformed(where) from None


def _encode(fields: dict[str, Any]) -> bytes:
    import json

    return json.dumps(fields, sort_keys=True).encode() + b"\n"
