"""What ``importlib.metadata`` may know of sealed packages: their name and version, from verified bytes."""

from __future__ import annotations

import os
from importlib.metadata import Distribution
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.launcher.loading import Distribution as Sealed


class Description(Distribution):
    """One package's."""

    def __init__(self, sealed: Sealed, folder: str) -> None:
        self._sealed = sealed
        self._folder = folder

    def read_text(self, filename: str) -> str | None:
        """A sealed file of the description; None for every other."""
        try:
            return self._sealed.data(f"{self._folder}/{filename}").decode()
        except FileNotFoundError:
            return None

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        """Where a file of the package is."""
        return Path(self._sealed.place(f"@/{path}"))


def descriptions(sealed: Sealed, name: str | None) -> list[Distribution]:
    """All packages', or those of one name. Raises the launcher's Refused for one that was altered."""
    from femtoclaw.launcher.loading import METADATA

    ending = f".dist-info/{METADATA}"
    folders = [path.removesuffix(f"/{METADATA}") for path in sealed.manifest.files if path.endswith(ending)]
    return [Description(sealed, folder) for folder in folders if name is None or _named(folder) == _plain(name)]


def _named(folder: str) -> str:
    return _plain(folder.removeprefix("@/").removesuffix(".dist-info").rpartition("-")[0])


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")
