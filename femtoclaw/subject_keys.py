"""The keys of subjects: one file each, sealed under a key that follows from the node's. Destroying one is an erasure."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from femtoclaw.errors import ConfigurationError, SecurityError
from femtoclaw.sealing import KEY_BYTES, NONCE_BYTES, SUBJECT, TAG_BYTES, UNSEALED, Sealer
from wal.durable_file import read_file, sync_folder, temporary_name, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from femtoclaw.home import Home
    from femtoclaw.key_file import KeySigner

CONTEXT = "femtoclaw subject keys v1"
_ENDING = ".key"
_FILE_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES
_DESTROYED = bytes(_FILE_BYTES)
"""What a key's file holds between its overwriting and its removal."""


class StoredKeys:
    """The subject keys of a home. ``make`` creates one; ``key`` only looks."""

    def __init__(self, home: Home, signer: KeySigner, next_signer: KeySigner | None = None) -> None:
        """``next_signer`` is for who reads while a rotation is cut: some files are sealed under that one already."""
        self._folder = folder(home)
        self._wrapping = signer.derive(CONTEXT)
        self._next = next_signer.derive(CONTEXT) if next_signer is not None else None
        self._known: dict[str, bytes] = {}

    def key(self, subject: str) -> bytes | None:
        """The key, or None. Raises SecurityError for a file that does not open under the node's key."""
        known = self._known.get(subject)
        if known is None and SUBJECT.fullmatch(subject):
            raw = read_file(_path(self._folder, subject))
            if raw is not None and raw != _DESTROYED:
                under_next = self._next is not None and _opens(raw, subject, self._next)
                wrapping = self._next if self._next is not None and under_next else self._wrapping
                known = self._known[subject] = _unwrap(raw, subject, wrapping)
        return known

    def make(self, subject: str) -> None:
        """Have a key for this subject, durable when this returns. Raises ConfigurationError for an unusable name."""
        if not SUBJECT.fullmatch(subject):
            raise ConfigurationError("a subject's name is not usable", expected=f"the form {SUBJECT.pattern}")
        if self.key(subject) is None:
            write_file(_path(self._folder, subject), _wrap(os.urandom(KEY_BYTES), subject, self._wrapping))

    def destroy(self, subject: str) -> None:
        """Overwrite and remove the key; nothing where there is none. What backups hold of it is theirs to erase."""
        self._known.pop(subject, None)
        if not SUBJECT.fullmatch(subject):
            return
        path = _path(self._folder, subject)
        # What a crash left of a file in the making holds the same key.
        for each in (os.path.join(self._folder, temporary_name(subject + _ENDING)), path):
            if os.path.lexists(each):
                _overwrite(each)
                os.unlink(each)
                sync_folder(self._folder)


def _overwrite(path: str) -> None:
    """Zeros over a regular file, and so over its other names, which a backup of hard links has; what a symbolic link or a
    pipe stands for is not ours to touch."""
    if stat.S_ISREG(os.lstat(path).st_mode):
        with open(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "wb", buffering=0) as file:
            file.write(_DESTROYED)
            os.fsync(file.fileno())


def folder(home: Home) -> str:
    """Where they are."""
    return os.path.join(home.path, "subjects")


def sealer_at(home: Home) -> Sealer:
    """What opens the texts of this home's subjects, for who reads it: the keys where they can be had without asking for
    a passphrase, none otherwise. Raises SecurityError for keys that were changed by hand."""
    if not os.path.isdir(folder(home)):
        return UNSEALED
    from femtoclaw.keys import load_public_key, select_signer, staged_signer
    from femtoclaw.passphrase import KeyLockedError, given_passphrase

    try:
        signer = select_signer(home, load_public_key(home.public_key_file), given_passphrase)
        return Sealer(StoredKeys(home, signer, staged_signer(home, given_passphrase)))
    except (KeyLockedError, ConfigurationError):
        return UNSEALED


def destroy_erased(home: Home, signer: KeySigner, erased: Iterable[str]) -> None:
    """Finish what a crash cut between the record of an erasure and the destruction of its key."""
    if os.path.isdir(folder(home)):
        keys = StoredKeys(home, signer)
        for subject in erased:
            keys.destroy(subject)


def rewrap(home: Home, old: KeySigner, new: KeySigner) -> None:
    """Seal every key anew, for a node whose own key changes; the same again does nothing. Raises SecurityError."""
    place = folder(home)
    if not os.path.isdir(place):
        return
    before, after = old.derive(CONTEXT), new.derive(CONTEXT)
    for name in sorted(os.listdir(place)):
        subject, path = name.removesuffix(_ENDING), os.path.join(place, name)
        if not name.endswith(_ENDING) or not SUBJECT.fullmatch(subject):
            continue  # left by a crash in the middle of writing a file: the next writing replaces it
        raw = read_file(path) or b""
        if raw != _DESTROYED and not _opens(raw, subject, after):
            write_file(path, _wrap(_unwrap(raw, subject, before), subject, after))


def _path(place: str, subject: str) -> str:
    return os.path.join(place, subject + _ENDING)


def _wrap(key: bytes, subject: str, wrapping: bytes) -> bytes:
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

    nonce = os.urandom(NONCE_BYTES)
    return nonce + bytes(encrypt(key, subject.encode(), nonce, wrapping))


def _opens(raw: bytes, subject: str, wrapping: bytes) -> bool:
    try:
        return bool(_unwrap(raw, subject, wrapping))
    except SecurityError:
        return False


def _unwrap(raw: bytes, subject: str, wrapping: bytes) -> bytes:
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
    from nacl.exceptions import CryptoError

    try:
        key: bytes = decrypt(raw[NONCE_BYTES:], subject.encode(), raw[:NONCE_BYTES], wrapping)
    except (CryptoError, ValueError, TypeError):
        raise SecurityError(
            "a subject's key does not open", where=f"subject {subject}", expected="a file that this node sealed",
            found="another's, or an altered one", remedy="restore it from a backup, unless the subject was erased",
        ) from None  # fmt: skip
    return key
