"""Checks of what trust rests on: declared by a command, and by nothing else in the sources."""

from __future__ import annotations

import os
import re
from typing import Any

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.sources import PACKAGES, sources
from femtoclaw.compliance.twin import twin
from femtoclaw.distribution import ROOT

PARTS = ("trust_anchors", "signing_keys", "verification_keys", "hash_functions", "routines")
_NAMES = re.compile(r"\bhashlib\.(\w+)\(|^\s*from hashlib import ([\w, ]+)", re.MULTILINE)
CRYPTOGRAPHIC = ("nacl", "_sha2", "Crypto", "OpenSSL")
"""Libraries with which something could be signed or sealed."""

SPEAKS_TLS = ("cluster/tls.py",)
"""Where certificates for gRPC's TLS are made: no record is signed with them."""

_HASHES = {
    "sha256": "SHA-256",
    "sha512": "SHA-512",
    "blake2b": "BLAKE2b",
    "md5": "MD5",
    "sha1": "SHA-1",
    "new": "by name",
}


def trust(laboratory: Laboratory) -> dict[str, Any]:
    """What `key trust` says of a twin, and what the sources use."""
    home = laboratory.once(twin)
    answer = laboratory.run(home, "key", "trust")
    used: dict[str, list[str]] = {}
    for package in PACKAGES:
        for folder, _, files in os.walk(os.path.join(ROOT, package)):
            for name in (each for each in files if each.endswith(".py")):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    text = file.read()
                for called, imported in _NAMES.findall(text):
                    for one in [called] if called else re.split(r",\s*", imported.strip()):
                        used.setdefault(_HASHES.get(one, one), []).append(os.path.relpath(path, ROOT))
    modules = sorted(
        name for name, source in laboratory.once(sources).items()
        if (source.roots & set(CRYPTOGRAPHIC) or name == "femtoclaw/launcher/ed25519.py") and name not in SPEAKS_TLS
    )  # fmt: skip
    return {"answer": answer, "hashes": {name: sorted(set(where)) for name, where in used.items()}, "modules": modules}


@shows("CRYPTO-3.1")
def trust_is_declared(laboratory: Laboratory) -> str:
    """`key trust` prints anchors, signing and verification keys, hash functions, routines; the sources use nothing else."""
    found = laboratory.once(trust)
    body = found["answer"].body
    need(found["answer"].code == 0 and tuple(body) == PARTS, "the five", sorted(body))
    every(((part, body[part]) for part in PARTS), "something declared")
    for part in PARTS[:3]:
        every(((row["what"], re.fullmatch(r"[0-9a-f]{8}", row["id"])) for row in body[part]), "an id of each key")
    said = {row["name"] for row in body["hash_functions"]}
    every(((name, name in said) for name in found["hashes"]), "a declared hash function")
    routines = {row["module"] for row in body["routines"]}
    measuring = {name for name in found["modules"] if name.startswith("femtoclaw/compliance/")}
    need(set(found["modules"]) - measuring == routines, "keys in the declared modules alone",
         sorted(set(found["modules"]) - measuring ^ routines))  # fmt: skip
    counts = ", ".join(f"{part} {len(body[part])}" for part in PARTS)
    return f"{counts}; {', '.join(sorted(said))}; keys in {len(routines)} modules alone"
