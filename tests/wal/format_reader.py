"""A second reader of the log format, written from docs/log-format.md alone: it imports nothing of this project.

``python format_reader.py BUNDLE VKEY`` prints ``ok SIZE ROOT`` or ``no: WHY`` (exit 1). Sections are the document's.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile

import msgpack
from blake3 import blake3
from nacl.signing import VerifyKey


def need(condition: bool, why: str) -> None:
    if not condition:
        raise ValueError(why)


def number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def leaf(link: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + link).digest()


def tree_root(leaves: list[bytes]) -> bytes:
    """Section 3: RFC 6962, by its recursive definition."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + tree_root(leaves[:split]) + tree_root(leaves[split:])).digest()


def note_lines(note: bytes, vkeys: list[str]) -> list[str]:
    """Section 4: the lines of a C2SP signed note, once its signature by one of ``vkeys`` holds."""
    text, _, signatures = note.decode().rpartition("\n\n")
    for line in signatures.splitlines():
        _, signer, signature = line.split(" ")
        raw = base64.b64decode(signature)
        for vkey in vkeys:
            name, key = raw_key(vkey)
            if signer == name and raw[:4] == hashlib.sha256(name.encode() + b"\n\x01" + key).digest()[:4]:
                VerifyKey(key).verify((text + "\n").encode(), raw[4:])
                return text.split("\n")
    raise ValueError("not signed by a key that counts here")


def raw_key(vkey: str) -> tuple[str, bytes]:
    name, _, encoded = vkey.split("+", 2)
    return name, base64.b64decode(encoded)[1:]


class Chain:
    """Sections 1 and 7: grows segment by segment, each record checked against the one before."""

    def __init__(self) -> None:
        self.links: list[bytes] = []
        self.link, self.epoch, self.time, self.origin = bytes(32), 0, 0, ""
        self.keys: list[tuple[int, str]] = []
        self.seals: list[tuple[int, bytes, list[str]]] = []

    def add(self, raw: bytes) -> None:
        need(raw[:8] == b"FCSEG001", "segment magic")
        first, count, prev = number(raw[8:16]), number(raw[16:20]), raw[20:52]
        at = 60 + 55 * count
        end = at + number(raw[52:60])
        need(blake3(raw[:end]).digest() == raw[end : end + 32], "segment digest")
        need((first, prev) == (len(self.links) + 1, self.link), "segment does not follow")
        for start in range(60, 60 + 55 * count, 55):
            row = raw[start : start + 55]
            payload = raw[at : at + number(row[19:23])]
            self.record(row[0:8], row[8:16], row[16:19], row[19:23], payload, row[23:])
            at += len(payload)
        need(at == end, "segment payloads")
        if raw[end + 32 :]:
            root = tree_root([leaf(link) for link in self.links[first - 1 :]])
            facts = [f"{first} {count}", *map(b64, (root, prev, self.link, raw[end : end + 32]))]
            self.seals.append((first + count - 1, raw[end + 32 :], facts))

    def record(self, epoch: bytes, time: bytes, kind: bytes, length: bytes, payload: bytes, link: bytes) -> None:
        index = len(self.links) + 1
        frame = b"FCR1\x01" + kind + length + index.to_bytes(8, "big") + epoch + time + self.link + payload
        need(blake3(frame).digest() == link, f"record {index}")
        need(number(epoch) >= self.epoch and number(time) >= self.time, f"record {index} runs backwards")
        if index == 1:
            form, self.origin, vkey, *_ = msgpack.unpackb(payload)
            need(form == 1 and kind[0] == 1, "genesis")
            self.keys.append((1, vkey))
        elif kind[0] == 4:
            self.rotate(index, payload)
        self.link, self.epoch, self.time = link, number(epoch), number(time)
        self.links.append(link)

    def rotate(self, index: int, payload: bytes) -> None:
        """Section 12: the next key, when it leads on from the one in force and both have signed."""
        name, before, old, new, reason, *signatures = fields = msgpack.unpackb(payload)
        need(msgpack.packb(fields) == payload and name == "rotated" and len(signatures) == 2, "rotation spelling")
        need(reason in ("scheduled", "compromised") and old == self.keys[-1][1], "rotation by the key in force")
        need(before == (self.keys[-1][0] if len(self.keys) > 1 else 0) and len(self.keys) <= 256, "rotation before")
        need(all(raw_key(new)[1] != raw_key(vkey)[1] for _, vkey in self.keys), "rotation to a new key")
        lines = ["femtoclaw key rotation v1", self.origin, str(index), b64(self.link), str(before), old, new, reason]
        for vkey, signature in zip((old, new), signatures, strict=True):
            VerifyKey(raw_key(vkey)[1]).verify("".join(f"{line}\n" for line in lines).encode(), signature)
        self.keys.append((index, new))

    def key_at(self, size: int) -> int:
        """Place of the key in force at a size."""
        return max(place for place, (first, _) in enumerate(self.keys) if first <= size)

    def check_seals(self) -> None:
        """Section 7: each by the key in force at its last record, or a later one."""
        for last, note, facts in self.seals:
            lines = note_lines(note, [vkey for _, vkey in self.keys[self.key_at(last) :]])
            need(lines[:2] == ["femtoclaw segment v1", self.origin] and lines[2:] == facts, "segment seal")


def read_bundle(path: str, vkey: str) -> tuple[int, str]:
    """Section 9: size and root of a bundle that holds in every respect."""
    with zipfile.ZipFile(path) as bundle:
        members = {name: bundle.read(name) for name in bundle.namelist()}
    chain = Chain()
    for name in sorted(name for name in members if name.startswith("segments/")):
        chain.add(members[name])
    chain.check_seals()
    need(vkey in [known for _, known in chain.keys], "the log never had this key")
    in_force = chain.keys[chain.key_at(len(chain.links))][1]
    origin, size, root = note_lines(members["checkpoint"], [in_force])
    need(origin == chain.origin, "checkpoint origin")
    need((len(chain.links), b64(tree_root([leaf(link) for link in chain.links]))) == (int(size), root), "checkpoint")
    for name, raw in members.items():
        need(not name.startswith("blobs/") or blake3(raw).hexdigest() == name[6:], name)
    return int(size), base64.b64decode(root).hex()


if __name__ == "__main__":
    try:
        print("ok", *read_bundle(*sys.argv[1:]))
    except Exception as error:
        sys.exit(f"no: {type(error).__name__} {error}")
