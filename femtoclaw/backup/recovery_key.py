"""The recovery key: what a backup is sealed to. Its private half is made by ``backup keygen`` and kept away from the node.

It is a key file like an operator's (``femtoclaw.key_file``), encrypted under a passphrase where one is given; sealing uses the
Curve25519 form of the same pair and libsodium's sealed boxes, so whoever holds the public half can write and not read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from femtoclaw.backup.layout import BackupDamagedError
from femtoclaw.errors import ConfigurationError
from femtoclaw.keys import load_public_key, protect_process
from femtoclaw.passphrase import operator_passphrase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from femtoclaw.home import Home
    from femtoclaw.key_file import KeySigner
    from wal.note import PublicKey

NAME = "recovery"
PUBLIC_NAME = "recovery.pub"
PUBLIC_FILE = f"keys/{PUBLIC_NAME}"
"""In the home: the public half that is in force, listed in the signed index of the keys."""

SEALED_OVERHEAD_BYTES = 48


def load_recovery_public(path: str) -> PublicKey:
    """The public half. Raises ConfigurationError for what is none, or another kind of key."""
    public = load_public_key(path)
    if public.name != NAME:
        raise ConfigurationError(
            "not a recovery key", where=path, expected=f"{NAME}+hash+base64, of `femtoclaw backup keygen`",
            found=f"a key of {public.name!r}",
        )  # fmt: skip
    return public


def in_force(home: Home, known: Sequence[PublicKey]) -> PublicKey:
    """The public half to which this node seals: the one in the signed index of its keys, and no other.

    ``known`` are the keys that may have signed the index. Raises ConfigurationError when there is none, SecurityError when a key
    file was changed by hand.
    """
    from femtoclaw.home import OTHERS_WRITE, check_mode
    from femtoclaw.key_index import FILE_NAME, read_index
    from femtoclaw.keys import check_index, folder

    path = home.inside(PUBLIC_FILE)
    if not os.path.lexists(path):
        raise ConfigurationError(
            "there is no recovery key to seal the backup to", where=path, expected="its public half, put in force",
            found="nothing", remedy="run `femtoclaw backup keygen --out FILE`, and keep FILE away from this machine; or "
            "`femtoclaw backup keygen --key FILE.pub` for one that you have, also where an older version left HOME/recovery.pub",
        )  # fmt: skip
    check_mode(path, OTHERS_WRITE)
    check_index(home, known)
    if PUBLIC_NAME not in (read_index(folder(home), known) or {}):
        raise ConfigurationError(
            "nobody put this recovery key in force", where=path, expected=f"a file that keys/{FILE_NAME} lists",
            found="no entry", remedy="when it is yours: `femtoclaw backup keygen --key FILE.pub --replace`",
        )  # fmt: skip
    return load_recovery_public(path)


class RecoveryKey:
    """The private half, open."""

    def __init__(self, path: str) -> None:
        """Raises ConfigurationError, KeyLockedError; asks for the passphrase as for an operator's key."""
        from femtoclaw.key_file import open_key, read_key_file

        protect_process()
        signer = open_key(read_key_file(path), path, operator_passphrase)
        if signer.public.name != NAME:
            raise ConfigurationError("not a recovery key", where=path, expected=NAME, found=signer.public.name)
        self.public = signer.public
        self._public, self._private = _exchange_pair(signer)

    def check(self, vkey: str, where: str) -> None:
        """Raises ConfigurationError when a backup is sealed to another key, ``vkey``."""
        if self.public.vkey() != vkey:
            raise ConfigurationError(
                "this backup is sealed to another recovery key", where=where, expected=vkey, found=self.public.vkey(),
                remedy="give the key that `femtoclaw backup list` shows for this backup",
            )  # fmt: skip

    def open(self, sealed: bytes, where: str) -> bytes:
        """What was sealed. Raises BackupDamagedError, also for another key's."""
        from nacl.bindings import crypto_box_seal_open
        from nacl.exceptions import CryptoError

        try:
            raw: bytes = crypto_box_seal_open(sealed, self._public, self._private)
        except CryptoError:
            raise BackupDamagedError(
                "an object does not open under this recovery key", where=where, expected=self.public.vkey(),
                found="another key's object, or an altered one", remedy="take another backup (`femtoclaw backup list`)",
            ) from None  # fmt: skip
        return raw


def _exchange_pair(signer: KeySigner) -> tuple[bytes, bytes]:
    from nacl.bindings import crypto_sign_ed25519_pk_to_curve25519

    return crypto_sign_ed25519_pk_to_curve25519(signer.public.raw), signer.exchange_key()


class Sealing:
    """Seals to a recovery key, and names what it seals so that only who has the node's key can tell what is the same."""

    def __init__(self, recovery: PublicKey, signer: KeySigner) -> None:
        from nacl.bindings import crypto_sign_ed25519_pk_to_curve25519

        self._public = crypto_sign_ed25519_pk_to_curve25519(recovery.raw)
        self._naming = signer.derive(f"femtoclaw backup names v1 {recovery.vkey()}")

    def content(self, identity: str) -> str:
        """32 hex digits for what an object holds: equal for equal ``identity``, of which they say nothing."""
        from blake3 import blake3

        return blake3(identity.encode(), key=self._naming).hexdigest()[:32]

    def seal(self, raw: bytes) -> bytes:
        """``raw`` for the holder of the private half alone."""
        from nacl.bindings import crypto_box_seal

        sealed: bytes = crypto_box_seal(raw, self._public)
        return sealed
