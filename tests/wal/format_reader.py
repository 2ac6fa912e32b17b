"""A second reader of the log format, written from docs/log-format.md alone: it imports nothing of this project.

``python format_reader.py BUNDLE VKEY`` prints ``ok SIZE ROOT`` or ``no: WHY`` (exit 1). Sections are the document's.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from typing import Any

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
        self.newest = self.version = 0
        self.in_epoch = 1
        self.ended: list[bytes] = []
        self.members: dict[str, list[Any]] = {}

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
        elif kind[0] in (3, 4, 5):
            need(len(self.keys) <= 4096, "authority records")
            (self.begin, self.rotate, self.join)[kind[0] - 3](index, number(epoch), payload)
        need(number(epoch) == self.in_epoch, f"record {index} is of an epoch that nothing began")
        self.link, self.epoch, self.time = link, number(epoch), number(time)
        self.links.append(link)

    def rotate(self, index: int, epoch: int, payload: bytes) -> None:
        """Section 12: the next key, when it leads on from the one in force and both have signed."""
        name, before, old, new, reason, *signatures = fields = msgpack.unpackb(payload)
        need(msgpack.packb(fields) == payload and name == "rotated" and len(signatures) == 2, "rotation spelling")
        need(reason in ("scheduled", "compromised") and old == self.keys[-1][1], "rotation by the key in force")
        need(before == self.newest and len(self.ended) < 256, "rotation before")
        taken = [vkey for _, vkey in self.keys] + [member[1] for member in self.members.values()]
        need(all(raw_key(new)[1] != raw_key(vkey)[1] for vkey in taken), "rotation to a new key")
        for vkey, signature in zip((old, new), signatures, strict=True):
            self.signed("key rotation", vkey, signature, index, before, old, new, reason)
        self.ended.append(raw_key(old)[1])
        for member in self.members.values():
            member[1] = new if member[1] == old else member[1]
        self.keys.append((index, new))
        self.newest = index

    def join(self, index: int, epoch: int, payload: bytes) -> None:
        """Section 12: who takes part, one voter away from who did, when the key in force has signed."""
        name, before, version, rows, signature = fields = msgpack.unpackb(payload)
        need(msgpack.packb(fields) == payload and name == "members", "members spelling")
        need((before, version) == (self.newest, self.version + 1), "members before")
        names, keys = [row[0] for row in rows], {raw_key(row[1])[1] for row in rows}
        need(names == sorted(set(names)) and len(keys) == len(rows) <= 31 and not keys & set(self.ended), "members")
        old, new = ({m[0]: m[1] for m in each if m[4]} for each in (self.members.values(), rows))
        changed = [each for each in {*old, *new} if old.get(each) != new.get(each)]
        need(len(changed) <= 1 and self.keys[-1][1] in new.values(), "voters")
        roles = [" ".join([*row[:3], b64(row[3]), "voter" if row[4] else "learner"]) for row in rows]
        self.signed("membership", self.keys[-1][1], signature, index, before, version, *roles)
        self.members, self.version, self.newest = {row[0]: row for row in rows}, version, index

    def begin(self, index: int, epoch: int, payload: bytes) -> None:
        """Section 12: a member takes over, when a majority that has no more than it promised, and it has signed."""
        name, before, stated, leader, promises, signature = fields = msgpack.unpackb(payload)
        need(msgpack.packb(fields) == payload and (name, before) == ("epoch", self.newest), "epoch spelling")
        need(stated == epoch > self.in_epoch, "epoch")
        voters = {member[0]: member[1] for member in self.members.values() if member[4]}
        names = [each[0] for each in promises]
        need(names == sorted(set(names)) and leader in names and len(names) > len(voters) // 2, "majority")
        for member, last_epoch, size, root, word in promises:
            need((last_epoch, size) <= (self.in_epoch, index - 1), "promise outranks")
            lines = ["femtoclaw promise v1", self.origin, epoch, voters[leader], member, last_epoch, size, b64(root)]
            VerifyKey(raw_key(voters[member])[1]).verify("".join(f"{line}\n" for line in lines).encode(), word)
        told = [f"{m} {last} {size} {b64(root)} {b64(word)}" for m, last, size, root, word in promises]
        self.signed("epoch start", voters[leader], signature, index, before, epoch, leader, *told)
        self.keys.append((index, voters[leader]))
        self.in_epoch, self.newest = epoch, index

    def signed(self, what: str, vkey: str, signature: bytes, index: int, *rest: object) -> None:
        """Section 2: a statement with its place in the chain."""
        lines = [f"femtoclaw {what} v1", self.origin, index, b64(self.link), *rest]
        VerifyKey(raw_key(vkey)[1]).verify("".join(f"{line}\n" for line in lines).encode(), signature)

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
