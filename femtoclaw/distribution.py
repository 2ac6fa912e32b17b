"""Sealing a distribution, accepting one, and telling whether the running one is still what was verified.

Start-up itself is the launcher's (``femtoclaw/launcher``). This is the side that may use libraries: it writes what the
launcher reads.
"""

from __future__ import annotations

import os
import sys

from femtoclaw.errors import ConfigurationError, SecurityError
from femtoclaw.home import Home
from femtoclaw.launcher import sealed, start
from femtoclaw.launcher.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wal.note import PublicKey, Signer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DIGEST_TYPED_MIN = 16
"""Characters of a manifest's digest that an operator must give to accept it: 64 bits nobody hits by chance."""


class Integrity:
    """What a process knows of the distribution it runs from.

    ``result`` is ``verified`` or ``unverified``; ``digest`` of the manifest, ``anchor`` the key that vouches for it and
    ``trust`` why that key counts (pin, release, first use); empty where nothing was verified.
    """

    def __init__(self, result: str, digest: str = "", anchor: str = "", trust: str = "", counter: int = 0) -> None:
        self.result = result
        self.digest = digest
        self.anchor = anchor
        self.trust = trust
        self.counter = counter

    def check(self) -> tuple[str, str, str, str]:
        """As a start records its checks: component, result, digest, anchor."""
        return "distribution", self.result, self.digest, self.anchor


def integrity() -> Integrity:
    """Of this process. Waits for the large files that the launcher is still hashing. Raises launcher's Refused."""
    found = start.verified
    if found is None:
        return Integrity("unverified")
    found.sweep.settle()
    return Integrity("verified", found.manifest.digest, found.anchor, found.trust, found.manifest.counter)


def require(home: Home, node_key: PublicKey | None = None) -> Integrity:
    """To be called before the log is opened for work: this process is what ``home`` trusts.

    ``node_key`` is the key in force of the node's log: the pin's signature is checked with it when it is given. Raises
    SecurityError for a home that trusts a sealed distribution when this process was not verified or runs another one,
    or when the pin was not signed by the node; Refused (exit 3) when a large file turns out to be changed.
    """
    found = integrity()
    pin = trusted(home)
    if pin is None:
        return found
    if node_key is not None:
        _check_signer(home, node_key)
    pin = pin.for_digest(found.digest)
    if pin.state == "sealed" and found.digest != pin.digest:
        raise SecurityError(
            "this home trusts another distribution than the one that runs", where=pin_path(home), expected=pin.digest,
            found=found.digest or "a process that the launcher did not verify",
            remedy="start the sealed distribution (`scripts/femtoclaw` or the installed command); an operator accepts "
            "another one with `femtoclaw distribution accept`",
        )  # fmt: skip
    return found


def trusted(home: Home) -> sealed.Pin | None:
    """What the home says that it trusts; None when it says nothing. Raises SecurityError for a pin that is none."""
    try:
        return sealed.read_pin(home.path)
    except Refused as refused:
        raise SecurityError(
            refused.what, where=refused.where, expected=refused.expected, found=refused.found, remedy=refused.remedy
        ) from None


def pin_path(home: Home) -> str:
    """Where a home keeps what it trusts."""
    return os.path.join(home.path, sealed.PIN_FILE)


def _check_signer(home: Home, key: PublicKey) -> None:
    if not _signed_by(home, key):
        raise SecurityError(
            "the home's pin was not signed by this node", where=pin_path(home), expected=key.vkey(), found="another",
            remedy="find out who changed it; then `femtoclaw distribution accept` makes a new one",
        )  # fmt: skip


def _signed_by(home: Home, key: PublicKey) -> bool:
    from wal.errors import LogError
    from wal.note import open_note

    try:
        return bool(open_note(sealed.read(pin_path(home), sealed.PIN_BYTES_MAX), [key]).verified)
    except (LogError, OSError):
        return False


def pin(home: Home, signer: Signer) -> Integrity:
    """Write what a new home trusts from now on: the verified distribution of this process, or that it was unverified.

    For ``init``. The file is signed by the node's key.
    """
    found = integrity()
    made = sealed.Pin("unverified")
    if found.result == "verified":
        made = sealed.Pin("sealed", found.digest, found.anchor, found.counter)
    _write_pin(home, made, signer)
    return found


def accept(home: Home, digest: str, signer: Signer) -> Integrity:
    """Let ``home`` trust the distribution of this process. Raises as ``acceptable``."""
    found = acceptable(home, digest)
    before = trusted(home) or sealed.Pin("unverified")
    _write_pin(home, sealed.Pin("sealed", found.digest, found.anchor, found.counter, before.revoked), signer)
    return found


def acceptable(home: Home, digest: str) -> Integrity:
    """The distribution of this process, which the operator names by its digest (at least 16 characters of it), when
    ``home`` may come to trust it. Raises ConfigurationError for another digest, SecurityError for a revoked key or a
    version counter below the home's floor, which never falls."""
    found = integrity()
    if found.result != "verified":
        raise SecurityError(
            "nothing verified this process", where=ROOT, expected="a sealed distribution", found="none",
            remedy="start it by `scripts/femtoclaw` or the installed command",
        )  # fmt: skip
    if len(digest) < DIGEST_TYPED_MIN or not found.digest.startswith(digest):
        raise ConfigurationError(
            "that is not the distribution that runs", where="DIGEST", expected=found.digest, found=digest,
            remedy="give the digest that you expect, from whoever made the distribution",
        )  # fmt: skip
    before = trusted(home) or sealed.Pin("unverified")
    if found.anchor in before.revoked:
        raise SecurityError("the key of this distribution was revoked", where=found.anchor, found="REVOKED_KEY")
    if found.counter < before.floor:
        raise SecurityError(
            "an older distribution than this home has had", where=ROOT, expected=f"version counter {before.floor} or more",
            found=found.counter, remedy="install one that is not older; the floor never falls",
        )  # fmt: skip
    return found


def trust_both(home: Home, digest: str, key: str, signer: Signer) -> None:
    """While a release takes the place of another: the distribution with this digest, by this key, may start beside the one
    that is trusted. Nothing is done for a home that trusts whatever runs."""
    before = trusted(home)
    if before is not None and before.state == "sealed":
        also = (digest, key) if digest != before.digest else None
        _write_pin(home, sealed.Pin("sealed", before.digest, before.key, before.floor, before.revoked, also), signer)


def trust_only(home: Home, digest: str, key: str, floor: int, signer: Signer) -> None:
    """From now on nothing but the distribution with this digest. The floor is the higher of ``floor`` and what it was."""
    before = trusted(home) or sealed.Pin("unverified")
    _write_pin(home, sealed.Pin("sealed", digest, key, max(floor, before.floor), before.revoked), signer)


def trust_one_again(home: Home, signer: Signer) -> None:
    """Forget the second distribution of ``trust_both``. Nothing is done where there is none."""
    before = trusted(home)
    if before is not None and before.also is not None:
        before.also = None
        _write_pin(home, before, signer)


def revoke(home: Home, key: str, signer: Signer) -> None:
    """From now on ``key`` (name+hash+base64) vouches for nothing in this home. Raises ConfigurationError."""
    check_key(key)
    before = trusted(home) or sealed.Pin("unverified")
    if key not in before.revoked:
        before.revoked += (key,)
    _write_pin(home, before, signer)


def check_key(key: str) -> None:
    """Raises ConfigurationError for what is no public key."""
    try:
        sealed.parse_key(key)
    except ValueError:
        raise ConfigurationError(
            "not a public key", where="KEY", expected="name+hash+base64", found="another"
        ) from None


def sign_again(home: Home, signer: Signer) -> None:
    """Have the pin signed by the node's new key, unchanged otherwise: for a rotation, or a log that follows a lost one.
    Nothing is done where there is no pin."""
    before = trusted(home)
    if before is not None:
        _write_pin(home, before, signer)


def pass_on(home: Home, old: PublicKey, new: Signer) -> None:
    """The same after a rotation: only of a pin that ``old`` signed. Whatever else is there the next start refuses; done
    twice it is done once."""
    if _signed_by(home, old):
        sign_again(home, new)


def _write_pin(home: Home, made: sealed.Pin, signer: Signer) -> None:
    from wal.durable_file import write_file
    from wal.note import sign_note

    write_file(pin_path(home), sign_note(made.text(), [signer]))


def stages() -> tuple[dict[str, str], ...]:
    """The first two lines of a start in the boot journal: host and launcher, distribution."""
    from femtoclaw.preflight import secure_boot

    found = integrity()
    anchor = {"anchor": found.anchor, "trust": found.trust, "digest": found.digest} if found.digest else {}
    return (
        {"stage": "launcher", "verifier": "host", "result": "ok" if found.digest else "not used",
         "secure_boot": secure_boot()},
        {"stage": "distribution", "verifier": "launcher", "result": found.result, **anchor},
    )  # fmt: skip


def interpreter_files() -> list[str]:
    """Files that are the interpreter: its program, and its library where it has one."""
    files = [os.path.realpath(sys.executable)]
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            path = line[73:].rstrip("\n") if len(line) > 73 else ""
            if "/libpython" in path and path not in files:
                files.append(path)
    return files


def altered_interpreter() -> list[str]:
    """Files of the interpreter that are not as they were sealed. They are read whole: some 20 ms."""
    from femtoclaw.launcher.sweep import measure

    manifest = start.verified.manifest if start.verified is not None else None
    found = []
    if manifest is None:
        return []
    for path, entry in manifest.host.items():
        try:
            if measure(path, manifest.hasher(), entry.size)[1] != entry.digest:
                found.append(path)
        except OSError:
            found.append(path)
    return found
