"""What a publisher does: a folder with code becomes a package, by a complete ``module.json`` and a ``module.sig``.

Without a ``module.json`` the code's own declaration (``femtoclaw.sdk.claw``) is asked for it: in the sandbox, as any code
of a module.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from blake3 import blake3

from femtoclaw.isolation.loading import read_beneath
from femtoclaw.manifest import Manifest
from femtoclaw.modules.declared import manifest_of
from femtoclaw.modules.package import MANIFEST_FILE, RESERVED, SIGNATURE_FILE, Package, read_files
from femtoclaw.modules.probe import Runner, probe
from femtoclaw.modules.refusal import Refusal
from femtoclaw.modules.signature import sign
from femtoclaw.strict_json import DOCUMENT_BYTES_MAX, StrictJSONError, parse
from wal.durable_file import write_file
from wal.note import Signer

_PACKAGE_MODE = 0o644
_SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def draft(folder: str, entry: str = "", run: Runner | None = None) -> Package | Refusal:
    """The folder's files with a manifest that lists them, unsigned. ``module.json`` gives the manifest's other fields,
    or, without one, the claw that ``entry`` (``python:FILE.py:NAME``) names.

    Raises OSError when the folder cannot be read, CapabilityError when the claw could not be asked.
    """
    files = read_files(folder, reserved=RESERVED)
    if isinstance(files, Refusal):
        return files
    body = _stated(folder)
    if body is None:
        if not entry:
            return Refusal("BAD_MANIFEST", "there is no module.json, and no entry was named")
        body = _declared(files, entry, run)
    if isinstance(body, Refusal):
        return body
    manifest = manifest_of(body | {"files": _digests(files)} | ({"entry": entry} if entry else {}))
    return manifest if isinstance(manifest, Refusal) else Package(manifest, files, b"")


def pack(folder: str, package: Package, signer: Signer) -> None:
    """Write ``module.json`` and ``module.sig``. Raises LogFailedError when they cannot be written."""
    raw = json.dumps(_fields(package.manifest), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    for name, content in ((MANIFEST_FILE, raw), (SIGNATURE_FILE, sign(package.manifest, signer))):
        path = os.path.join(folder, name)
        write_file(path, content)
        os.chmod(path, _PACKAGE_MODE)  # nothing in it is secret, and others are to read it


def _stated(folder: str) -> dict[str, Any] | Refusal | None:
    try:
        return parse(read_beneath(folder, MANIFEST_FILE, DOCUMENT_BYTES_MAX))
    except FileNotFoundError:
        return None
    except StrictJSONError as error:
        return Refusal("BAD_MANIFEST", f"module.json is not one strict JSON object: {error.code}")
    except OSError:
        return Refusal("BAD_MANIFEST", "module.json cannot be read")


def _declared(files: Mapping[str, bytes], entry: str, run: Runner | None) -> dict[str, Any] | Refusal:
    asked = manifest_of(
        {
            "type": "capability", "name": "module.draft", "version": "0.0.0", "description": "", "category": "system",
            "arguments": _SCHEMA, "entry": entry, "permissions": [], "files": _digests(files),
        }
    )  # fmt: skip
    said = asked if isinstance(asked, Refusal) else probe(asked, files, run, compare=False)
    if isinstance(said, Refusal):
        return said
    declaration = said.get("declaration")
    if not isinstance(declaration, dict):
        return Refusal("BAD_MANIFEST", "there is no module.json, and the entry is no claw with a declaration")
    return {name: value for name, value in declaration.items() if name != "trusted_output"} | {"entry": entry}


def _digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {path: blake3(raw).hexdigest() for path, raw in files.items()}


def _fields(manifest: Manifest) -> dict[str, Any]:
    """For ``module.json``: without what has its default, but with what must be stated."""
    body: dict[str, Any] = json.loads(manifest.canonical())
    return body | {"permissions": list(manifest.permissions)}
