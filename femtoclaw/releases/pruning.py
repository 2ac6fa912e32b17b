"""What an installation needs no more: releases that nobody goes back to, states that were kept before them, cut attempts."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
from typing import NamedTuple

from femtoclaw.errors import UnavailableError
from femtoclaw.releases.installation import RELEASES, UNPACKING, Installation, remove
from femtoclaw.releases.keeping import KEPT_FOLDER


class Pruned(NamedTuple):
    """Paths below the installation that went (or would go), and bytes that they took; the releases that stay."""

    removed: list[str]
    size: int
    kept: list[str]


def prune(installation: Installation, stay: set[str], *, dry_run: bool = False) -> Pruned:
    """Remove every release that is neither in use nor named in ``stay``, all but the newest state that was kept before each of
    these, and what cut attempts left. Raises UnavailableError."""
    kept = sorted({*stay, installation.current() or ""} & {*installation.names()})
    gone = [os.path.join(RELEASES, name) for name in _names(installation, RELEASES) if _goes(name, kept)]
    gone += [os.path.join(KEPT_FOLDER, name) for name in _states(installation, kept)]
    size = sum(_size(os.path.join(installation.root, path)) for path in gone)
    try:
        for path in [] if dry_run else gone:
            remove(os.path.join(installation.root, path))
    except OSError as error:
        raise UnavailableError(
            "something cannot be removed", where=installation.root, found=error.strerror,
            remedy="permit it, and run this again; what is in use has not changed",
        ) from error  # fmt: skip
    return Pruned(gone, size, kept)


def _goes(name: str, kept: list[str]) -> bool:
    return name not in kept and (name.startswith(UNPACKING) or not name.startswith("."))


def _states(installation: Installation, kept: list[str]) -> list[str]:
    """Kept states that go: of each release that stays, the one with the most records stays."""
    sizes: dict[str, list[int]] = {}
    for folder in _names(installation, KEPT_FOLDER):
        release, _, size = folder.rpartition("-")
        if size.isdecimal():
            sizes.setdefault(release, []).append(int(size))
    stays = {f"{release}-{max(found)}" for release, found in sizes.items() if release in kept}
    return [f"{release}-{size}" for release, found in sorted(sizes.items()) for size in sorted(found)
            if f"{release}-{size}" not in stays]  # fmt: skip


def _names(installation: Installation, folder: str) -> list[str]:
    try:
        return sorted(os.listdir(os.path.join(installation.root, folder)))
    except OSError:
        return []


def _size(path: str) -> int:
    return sum(os.lstat(os.path.join(place, file)).st_size for place, _, files in os.walk(path) for file in files)
