"""What of the distribution changed on disk while the node runs: asked every few seconds by who watches over it."""

from __future__ import annotations

import os
import threading

from femtoclaw.distribution import ROOT, pin_path
from femtoclaw.home import Home
from femtoclaw.launcher import sealed, start
from femtoclaw.launcher.refusal import Refused
from femtoclaw.launcher.sweep import measure


class Watch:
    """Tells what of the distribution changed since it was made; cheap enough to be asked every few seconds.

    The first question reads every file once; later ones only those whose status changed. A verified process compares
    with its manifest, another with what the first question found.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, ...]] = {}
        self._expected: dict[str, str] = {}
        self._changed: dict[str, str] = {}
        self._first = True
        self._asking = threading.Lock()

    def changed(self) -> list[str]:
        """Paths of files that are altered, gone or new, in order. Never raises for a file that cannot be read: it is
        one of them. Thread-safe: several monitors ask."""
        with self._asking:
            return self._now()

    def _now(self) -> list[str]:
        found = start.verified
        wanted = self._wanted(found)
        for where, (size, digest) in wanted.items():
            self._look(where, size, digest, found)
        present = set(_present(found)) if found is not None else set(_own_files())
        new = sorted(present - set(wanted)) if found is not None or not self._first else []
        self._first = False
        return sorted({*self._changed, *new})

    def _wanted(self, found: start.Verified | None) -> dict[str, tuple[int, str]]:
        if found is not None:
            place = found.sweep.place
            return {place(path): (entry.size, entry.digest) for path, entry in found.manifest.files.items()}
        if self._first:
            self._expected = dict.fromkeys(_own_files(), "")
        return {where: (0, digest) for where, digest in self._expected.items()}

    def _look(self, where: str, size: int, digest: str, found: start.Verified | None) -> None:
        try:
            status = os.stat(where)
            seen = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            if self._seen.get(where) == seen:
                return
            hasher = sealed.hasher(found.manifest.hash if found is not None else "sha256")
            real = measure(where, hasher, size or status.st_size)[1]
        except OSError:
            self._changed[where] = "gone"
            self._seen.pop(where, None)
            return
        self._seen[where] = seen
        if found is None and not digest:
            self._expected[where] = digest = real
        if real == digest:
            self._changed.pop(where, None)
        else:
            self._changed[where] = real


def _present(found: start.Verified) -> list[str]:
    """Files that lie where the distribution's do, of the kinds that a manifest lists."""
    return [where for _, where in found.sweep.present()]


def _own_files() -> list[str]:
    from femtoclaw.seal import source_files

    return [os.path.join(ROOT, path) for path in source_files(ROOT)]


_watch = Watch()


def distribution_changed(home: Home) -> list[str]:
    """Files of the running distribution that changed since it was verified, and the home's pin when it names another
    one. For the integrity monitor of a running node; about 2 ms when nothing did."""
    changed = _watch.changed()
    found = start.verified
    try:
        trusted = sealed.read_pin(home.path)
    except Refused:
        return [*changed, pin_path(home)]
    other = False
    if found is not None and trusted is not None:
        other = trusted.for_digest(found.manifest.digest).digest not in ("", found.manifest.digest)
    if other:
        changed.append(pin_path(home))
    return changed
