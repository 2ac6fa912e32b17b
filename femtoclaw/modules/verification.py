"""Load, hash, check the signature, check the trust in its key, allow or deny: in this order, as one step (BOOT-10.1)."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from femtoclaw.manifest import Manifest
from femtoclaw.modules.declared import check_declared
from femtoclaw.modules.package import Package, compare, read_package
from femtoclaw.modules.refusal import Refusal
from femtoclaw.modules.signature import check
from femtoclaw.version import VERSION
from wal.note import PublicKey


class Verified(NamedTuple):
    """A module that may be installed: exactly these bytes, vouched for by ``publisher``."""

    manifest: Manifest
    files: Mapping[str, bytes]
    signature: bytes
    publisher: PublicKey


def verify(
    package: Package | Refusal, trusted: Sequence[PublicKey], *, taken: Collection[str] = (), runtime: str = VERSION
) -> Verified | Refusal:
    """Judge what ``read_package`` found. ``taken`` are names of claws that this one must not replace.

    Runs nothing of the module; whether it loads is for ``femtoclaw.modules.probe``.
    """
    if isinstance(package, Refusal):
        return package
    manifest = package.manifest
    files = compare(package.files, manifest)
    if isinstance(files, Refusal):
        return files._replace(name=manifest.name, digest=manifest.digest())
    publisher = check(package.signature, manifest, trusted)
    if isinstance(publisher, Refusal):
        return publisher
    fault = check_declared(manifest, runtime, taken)
    return fault if fault is not None else Verified(manifest, files, package.signature, publisher)


def verify_folder(
    folder: str, trusted: Sequence[PublicKey], *, taken: Collection[str] = (), runtime: str = VERSION
) -> Verified | Refusal:
    """``verify`` of what the folder holds now. Raises OSError when the folder cannot be read."""
    return verify(read_package(folder), trusted, taken=taken, runtime=runtime)
