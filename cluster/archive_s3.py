"""An archive in an S3-compatible object store, by ``obstore``, which is loaded with the first archive of this kind.

Objects are put with ``If-None-Match: *``. A service that does not know that header would overwrite: before the first object
is put, one of a fixed name is put twice, and a service that takes it twice is refused. Credentials and region are those of
the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL). What the
service answers is not repeated in errors but for its status: a body may hold anything (I12).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cluster.archive import PAGE_NAMES_MAX, check_name, check_prefix, is_name
from cluster.archive_errors import ArchiveBoundError, ArchiveTargetError, ArchiveUnavailableError

if TYPE_CHECKING:
    from obstore.store import S3Store

RETRIES_MAX = 4
"""Attempts beside the first one, of a request that did not arrive or was answered with 5xx."""

RETRY_SECONDS_MAX = 60
"""How long one request is tried again."""

CONNECT_SECONDS_MAX = 10
REQUEST_SECONDS_MAX = 600
"""One request with its body: the largest segment at 7 MB/s."""

GET_CHUNK_BYTES = 8 * 1024 * 1024
_CHECKED = "conditional-put"
"""The object by which a service shows that it does not overwrite."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_STATUS = re.compile(r"status code: (\d{3})")


class S3Archive:
    """An ``ArchiveStore`` in a bucket, below a prefix."""

    def __init__(self, target: str, *, endpoint: str | None = None) -> None:
        """``target`` is ``s3://BUCKET`` or ``s3://BUCKET/PREFIX``. Nothing is sent yet.

        Raises ArchiveTargetError (no such form; ``obstore`` is not installed).
        """
        bucket, _, prefix = target.removeprefix("s3://").partition("/")
        if (
            not target.startswith("s3://")
            or _BUCKET.fullmatch(bucket) is None
            or not is_name(prefix.rstrip("/") or "x")
        ):
            raise ArchiveTargetError(
                "not an S3 archive", where="target", expected="s3://BUCKET/PREFIX", found=target[:80]
            )
        self._name = f"s3://{bucket}/{prefix}".rstrip("/")
        self._store: S3Store | None = _opened(bucket, prefix.rstrip("/"), endpoint, self._name)
        self._conditional = False

    @property
    def name(self) -> str:
        return self._name

    def put_if_absent(self, name: str, raw: bytes) -> bool:
        check_name(name, self._name)
        self._require_conditional()
        return self._put(name, raw)

    def _require_conditional(self) -> None:
        """Raise ArchiveUnavailableError when the service overwrites what must not be overwritten."""
        if self._conditional:
            return
        self._put(_CHECKED, b"put once\n")
        if self._put(_CHECKED, b"put once\n"):
            raise ArchiveUnavailableError(
                "this service ignores If-None-Match: it would overwrite archived objects", where=self._name,
                expected="412 Precondition Failed", found="200 OK",
                remedy="use a service that knows conditional puts, or a folder; nothing of a log was put",
            )  # fmt: skip
        self._conditional = True

    def _put(self, name: str, raw: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            # In one request: a multipart upload is made visible by another one, without the condition.
            obstore.put(self._opened(), name, raw, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except Exception as error:
            raise self._unavailable(error, name) from None
        return True

    def get(self, name: str, limit: int) -> bytes | None:
        import obstore

        check_name(name, self._name)
        try:
            result = obstore.get(self._opened(), name)
            if result.meta["size"] > limit:
                raise self._too_large(name, limit, result.meta["size"])
            parts, size = [], 0
            for part in result.stream(min_chunk_size=GET_CHUNK_BYTES):
                size += len(part)
                if size > limit:  # the service said otherwise
                    raise self._too_large(name, limit, "more")
                parts.append(bytes(part))
        except FileNotFoundError:
            return None
        except ArchiveBoundError:
            raise
        except Exception as error:
            raise self._unavailable(error, name) from None
        return b"".join(parts)

    def list(self, prefix: str = "", after: str = "") -> Iterator[tuple[str, ...]]:
        import obstore

        folder = check_prefix(prefix, self._name).removesuffix("/")
        try:
            pages = obstore.list(self._opened(), folder or None, offset=after or None, chunk_size=PAGE_NAMES_MAX)
            for page in pages:
                names = tuple(each["path"] for each in page if is_name(each["path"]) and each["path"] > after)
                if names:
                    yield names
        except Exception as error:
            raise self._unavailable(error, prefix) from None

    def _opened(self) -> S3Store:
        if self._store is None:
            raise ArchiveUnavailableError("the archive was closed", where=self._name)
        return self._store

    def _too_large(self, name: str, limit: int, found: object) -> ArchiveBoundError:
        return ArchiveBoundError(
            "an object is too large", where=f"{self._name}/{name}", expected=f"<= {limit} bytes", found=found
        )

    def _unavailable(self, error: Exception, name: str) -> ArchiveUnavailableError:
        return ArchiveUnavailableError(
            "the archive cannot be used", where=f"{self._name}/{name}", found=_found(error),
            remedy="check the address, the bucket, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION; the same command "
            "may be run again",
        )  # fmt: skip

    def close(self) -> None:
        self._store = None


def _opened(bucket: str, prefix: str, endpoint: str | None, where: str) -> S3Store:
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise ArchiveTargetError(
            "archives in S3 need the package obstore", where=where, found=error.name,
            remedy="install femtoclaw[archive], or archive to a folder",
        ) from error  # fmt: skip
    settings: dict[str, Any] = {}
    if endpoint is not None:
        settings["endpoint"] = endpoint
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            client_options={
                "allow_http": True,  # only where the address that the operator gave says http://
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS_MAX),
                "timeout": timedelta(seconds=REQUEST_SECONDS_MAX),
            },
            retry_config={"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=RETRY_SECONDS_MAX)},
            **settings,
        )
    except Exception as error:
        raise ArchiveTargetError(
            "the S3 settings cannot be used", where=where, found=type(error).__name__,
            expected="AWS_* variables and --endpoint as S3 clients take them",
        ) from None  # fmt: skip


def _found(error: Exception) -> str:
    status = _STATUS.search(str(error)[:4096])
    return f"{type(error).__name__}, status {status[1]}" if status is not None else type(error).__name__
