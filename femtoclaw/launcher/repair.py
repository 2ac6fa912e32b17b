"""``release repair FILE``: an installed release that was altered becomes again what the home trusts.

Nothing of the installation runs for it but the launcher, which runs before every other start as well. The release file is believed
as far as the home's pin vouches for it: its statement is signed by the pinned key and names the pinned distribution, and each file
that is put back has the digest that the statement says. Nobody is asked: no other program than the trusted one can come of it.
"""

from __future__ import annotations

import os
import sys
import time

from femtoclaw.launcher import sealed
from femtoclaw.launcher.refusal import REVOKED_REMEDY, Misused, Refused, journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from zipfile import ZipFile

TITLE = "femtoclaw release v1"
STATEMENT = "release.note"
STATEMENT_BYTES_MAX = 8 * 1024 * 1024
FILE_BYTES_MAX = 256 * 1024 * 1024
ALTERED = "altered"
"""Where in an installation the files are kept that were not the released ones: somebody has to look at them."""


def main(root: str, home: str | None, words: list[str], as_json: bool) -> int:
    """Repair the release whose packages are at ``root`` from the one named file, and tell; 0. Raises Refused."""
    if len(words) != 1 or words[0].startswith("-"):
        raise Misused("release repair takes the release's file", "release repair", "FILE", " ".join(words) or "nothing")
    if not os.path.isfile(words[0]):
        raise Misused("there is no such file", words[0], "the release's file", "none")
    done, aside = repair(root, home, words[0])
    if as_json:
        import json

        sys.stdout.write(json.dumps({"repaired": done, "altered_kept_in": aside}) + "\n")
    else:
        sys.stdout.write("".join(f"put back: {path}\n" for path in done) or "nothing was altered\n")
        sys.stdout.write(f"what was there is kept in {aside}: look at it\n" if aside else "")
    sys.stdout.flush()
    return 0


def repair(root: str, home: str | None, path: str) -> tuple[list[str], str]:
    """Paths in the release that were put back or taken out, and the folder with what was there; empty for none.

    Raises Refused: nothing was changed, unless the disk failed.
    """
    from zipfile import BadZipFile, ZipFile

    folder, installation = _installed(os.path.realpath(root))
    pin = sealed.read_pin(home) if home is not None else None
    if pin is None or pin.state != "sealed":
        raise Refused("BAD_PIN", "this home trusts no release", home or "no home", "a pin", "none")
    try:
        with ZipFile(path) as opened:
            note = _read(opened, STATEMENT, STATEMENT_BYTES_MAX)
            files = _listed(note, pin, path)
            wrong = [each for each in files if not _same(os.path.join(folder, each), files[each])]
            raw = {each: _member(opened, path, each, files[each]) for each in wrong}
    except (OSError, BadZipFile, KeyError, ValueError) as error:
        raise Refused("BAD_MANIFEST", "the release cannot be read", path, "a release", str(error)) from None
    if not _same(os.path.join(folder, STATEMENT), sealed.hasher("sha256")(note).hexdigest()):
        raw[STATEMENT] = note
    surplus = [each for each in _present(folder) if each not in files and each != STATEMENT]
    aside = os.path.join(installation, ALTERED, f"{os.path.basename(folder)}-{time.time_ns()}")
    try:
        kept = [_put(folder, aside, each, raw.get(each)) for each in [*surplus, *raw]]
    except OSError as error:
        raise Refused(
            "FILE_MISSING", "the installation cannot be written", str(error.filename), "a file", str(error.strerror)
        ) from None
    done = sorted([*surplus, *raw])
    if home is not None and done:
        journal(home, [{"stage": "distribution", "verifier": "launcher", "result": "repaired", "files": done[:100]}])
    return done, aside if any(kept) else ""


def _installed(root: str) -> tuple[str, str]:
    """The release's folder and the installation's. Raises Refused for a program that was not installed by a deployment."""
    folder = os.path.dirname(root)
    if os.path.basename(root) != "site-packages" or os.path.basename(os.path.dirname(folder)) != "releases":
        raise Refused(
            "NOT_SEALED", "this program was not installed from a release", root, "an installed release", "none"
        )
    return folder, os.path.dirname(os.path.dirname(folder))


def _listed(note: bytes, pin: sealed.Pin, where: str) -> dict[str, str]:
    """Path to SHA-256 of a release's files, when it is the one that the home trusts. Raises Refused, ValueError."""
    lines = sealed.split(note)[0].split("\n")
    said = next((line[13:] for line in lines if line.startswith("distribution ")), "")
    trusted = pin.for_digest(said)
    if trusted.key in trusted.revoked:
        raise Refused("REVOKED_KEY", "the release's key was revoked", where, "another key", "a revoked one", REVOKED_REMEDY)
    text = sealed.check_signature(note, trusted.key, where)
    if not text.startswith(f"{TITLE}\n") or said != trusted.digest:
        raise Refused("NOT_ACCEPTED", "another release than this home trusts", where, trusted.digest, said or "none")
    rows = (line.split(" ", 3) for line in text.split("\n") if line.startswith("file "))
    return {sealed.inside(path): digest for _, _, digest, path in rows}


def _read(opened: ZipFile, name: str, limit: int) -> bytes:
    entry = opened.getinfo(name)
    if entry.file_size > limit:
        raise ValueError(f"{name} is larger than it may be")
    return opened.read(entry)


def _member(opened: ZipFile, where: str, name: str, digest: str) -> bytes:
    raw = _read(opened, name, FILE_BYTES_MAX)
    found = sealed.hasher("sha256")(raw).hexdigest()
    if found != digest:
        raise Refused(
            "HASH_MISMATCH", "a file of the release is not the one that was signed", f"{where}: {name}", digest, found
        )
    return raw


def _same(path: str, digest: str) -> bool:
    try:
        return (
            not os.path.islink(path)
            and sealed.hasher("sha256")(sealed.read(path, FILE_BYTES_MAX)).hexdigest() == digest
        )
    except OSError:
        return False


def _present(folder: str) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if each != "__pycache__"]
        linked = [each for each in folders if os.path.islink(os.path.join(place, each))]
        yield from (os.path.relpath(os.path.join(place, each), folder) for each in [*files, *linked])


def _put(folder: str, aside: str, name: str, raw: bytes | None) -> bool:
    """Move what lies at a place aside, and put the released file there (None: nothing); whether something lay there."""
    path, away = os.path.join(folder, name), os.path.join(aside, name)
    place = os.path.dirname(path)
    os.makedirs(place, 0o755, exist_ok=True)
    os.chmod(place, 0o755)
    there = os.path.lexists(path)
    if there:
        os.makedirs(os.path.dirname(away), 0o700, exist_ok=True)
        os.rename(path, away)
    if raw is not None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o444)
        with os.fdopen(fd, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
    os.chmod(place, 0o755 if place == folder else 0o555)
    return there
