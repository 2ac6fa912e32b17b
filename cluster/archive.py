"""The archive port: what keeping sealed history elsewhere needs of a folder or an object store, as a contract in prose.

Objects are written once and never changed or removed through this port. Two implementations pass one contract suite
(``tests/contract/test_archive_store.py``): ``FolderArchive`` and ``S3Archive``. A name is a path of plain lower-case names
(``check_name``). Nothing that comes back is trusted: whoever reads an object checks it against its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Protocol

from cluster.archive_errors import ArchiveBoundError, ArchiveTargetError

NAME_CHARACTERS_MAX = 512
"""One object's name."""

PAGE_NAMES_MAX = 1000
"""Names in one page of a listing: what S3 gives at once."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*(?:/[a-z0-9][a-z0-9.-]*)*")


class ArchiveStore(Protocol):
    """Objects by name, each written once. Errors: ArchiveUnavailableError, and ArchiveTargetError for what is no name."""

    @property
    def name(self) -> str:
        """Where this is, for error texts; without credentials."""

    def put_if_absent(self, name: str, raw: bytes) -> bool:
        """Store an object under a free name; False when something is there already, which is left as it is.

        When it returns, what stands under the name is whole and durable: after any crash it is there entirely. Of any number
        of callers at once, one at most is told True.
        """

    def get(self, name: str, limit: int) -> bytes | None:
        """The bytes of an object, None when there is none. Raises ArchiveBoundError for one over ``limit`` bytes, of which
        nothing is taken into memory."""

    def list(self, prefix: str = "", after: str = "") -> Iterator[tuple[str, ...]]:
        """Names in the folder ``prefix`` (empty, or ending in a slash) and below it, in the order of their bytes, only those
        behind ``after``; in pages of at most ``PAGE_NAMES_MAX``. What nobody could have put is left out."""

    def close(self) -> None:
        """Release everything. Idempotent."""


def check_name(name: str, where: str) -> str:
    """``name``. Raises ArchiveTargetError for one that no object has."""
    if len(name) > NAME_CHARACTERS_MAX or _NAME.fullmatch(name) is None:
        raise ArchiveTargetError(
            "not an object's name", where=where, expected="plain lower-case names with slashes between", found=name[:80]
        )
    return name


def is_name(name: str) -> bool:
    """True for a name that ``put_if_absent`` takes."""
    return len(name) <= NAME_CHARACTERS_MAX and _NAME.fullmatch(name) is not None


def check_prefix(prefix: str, where: str) -> str:
    """``prefix``. Raises ArchiveTargetError when it is neither empty nor a name with a slash behind it."""
    if prefix:
        check_name(prefix.removesuffix("/"), where)
    if prefix and not prefix.endswith("/"):
        raise ArchiveTargetError(
            "not a folder of an archive", where=where, expected=f"{prefix[:80]}/", found=prefix[:80]
        )
    return prefix


def names_in(store: ArchiveStore, prefix: str, limit: int) -> Iterator[str]:
    """All names in ``prefix``, in order. Raises ArchiveBoundError when there are more than ``limit``."""
    for count, name in enumerate(chain.from_iterable(store.list(prefix)), 1):
        if count > limit:
            raise ArchiveBoundError("too many objects", where=f"{store.name}/{prefix}", expected=f"<= {limit}")
        yield name


def open_archive(target: str, *, endpoint: str | None = None, create: bool = False) -> ArchiveStore:
    """The archive that ``target`` names: a folder (made when ``create``), or ``s3://BUCKET/PREFIX``.

    ``endpoint`` is the address of an S3-compatible service; without it AWS_ENDPOINT_URL, else Amazon's. Raises
    ArchiveTargetError or ArchiveUnavailableError.
    """
    if target.startswith("s3://"):
        from cluster.archive_s3 import S3Archive

        return S3Archive(target, endpoint=endpoint)
    if endpoint is not None:
        raise ArchiveTargetError(
            "a folder has no endpoint", where=target, expected="s3://BUCKET/PREFIX with --endpoint"
        )
    from cluster.archive_folder import FolderArchive

    return FolderArchive(target, create=create)
