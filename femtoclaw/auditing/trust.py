"""What trust in a node rests on, declared in one place: anchors, keys, hash functions, and the code that computes with them
(CRYPTO-3.1). What signs or seals is in the modules of ``ROUTINES`` and in no other."""

from __future__ import annotations

import os
from typing import Any

from femtoclaw.home import Home
from wal.note import PublicKey

HASH_FUNCTIONS = {
    "BLAKE3": "links of records, digests of manifests, policies, configurations and reports, keyed names of backup objects",
    "SHA-256": "the Merkle tree, ids of keys, files of distributions, releases, bundles and exports",
    "SHA-512": "inside of Ed25519 alone (RFC 8032)",
}
"""Every hash function in use, and for what. The sources name no other."""

ROUTINES = {
    "wal/note.py": "signing and verification of notes: checkpoints, manifests, control requests (Ed25519, libsodium)",
    "femtoclaw/launcher/ed25519.py": "verification before anything is loaded (Ed25519, in plain Python)",
    "femtoclaw/statement.py": "verification of signed control requests (Ed25519, libsodium)",
    "femtoclaw/key_file.py": "private keys, encrypted at rest (Argon2id, XChaCha20-Poly1305)",
    "femtoclaw/secret_store.py": "secrets at rest (XChaCha20-Poly1305)",
    "femtoclaw/sealing.py": "texts of a subject (XChaCha20-Poly1305)",
    "femtoclaw/subject_keys.py": "keys of subjects, drawn and destroyed",
    "femtoclaw/backup/recovery_key.py": "objects of backups (sealed boxes: X25519, XSalsa20-Poly1305)",
    "femtoclaw/auditing/vectors.py": "the test of each of these against published vectors",
}
"""Module to what of signing, verifying and sealing it does. TLS between members is gRPC's."""


def declared(home: Home) -> dict[str, Any]:
    """The five for one home, keys by their id: who is believed at first, what signs, what verifies, hashes, routines. Needs no
    private key. Raises LogError, SecurityError for a pin or key file that cannot be read."""
    from femtoclaw.restore import load_state
    from wal.genesis import decode_genesis
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        node, tenures, genesis = load_state(reader).node, list(reader.keys()), decode_genesis(reader.read(1))
    finally:
        reader.close()
    operators = {name: each for name, each in sorted(node.operators.items()) if each.active}
    return {
        "trust_anchors": _anchors(home, genesis.key.vkey()),
        "signing_keys": [
            _key("the node's, in force", tenures[-1].key.vkey()),
            *(_key(f"operator {name}: {', '.join(each.roles)}", each.public_key) for name, each in operators.items()),
        ],
        "verification_keys": [
            *(_key(f"the node's, from record {each.first} on", each.key.vkey()) for each in tenures),
            *(_key(f"operator {name}", each.public_key) for name, each in operators.items()),
            *(_key(f"publisher {name}", key) for name, key in sorted(node.publishers.items())),
        ],
        "hash_functions": [{"name": name, "used_for": use} for name, use in HASH_FUNCTIONS.items()],
        "routines": [{"module": name, "does": does} for name, does in ROUTINES.items()],
    }  # fmt: skip


def _anchors(home: Home, genesis: str) -> list[dict[str, str]]:
    """Who is believed without anybody vouching: the log's first key, who signed the program, who opens backups."""
    from femtoclaw.backup.recovery_key import PUBLIC_FILE
    from femtoclaw.distribution import trusted
    from femtoclaw.home import read_bounded
    from femtoclaw.launcher.start import RELEASE_KEYS

    found = [_key("the log's first record", genesis)]
    pin = trusted(home)
    if pin is not None and pin.key:
        found.append(_key("the program, pinned by the home", pin.key))
    found += [_key("the program's releases", key) for key in RELEASE_KEYS]
    recovery = os.path.join(home.path, PUBLIC_FILE)
    if os.path.exists(recovery):
        found.append(_key("backups are sealed to", read_bounded(recovery, 4096).decode("ascii", "replace").strip()))
    return found


def _key(what: str, vkey: str) -> dict[str, str]:
    """A key with its id, as signed notes name it."""
    return {"what": what, "id": PublicKey.parse(vkey).key_id.hex(), "public_key": vkey}
