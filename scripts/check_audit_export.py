"""Check a `femtoclaw audit export --format jsonl` on another machine: order, completeness, chain, and the signature.

    python check_audit_export.py EXPORT NAME+HASH+BASE64

Needs Python and the package `blake3`, and nothing of FemtoClaw. The key is the node's (keys/node.pub), got by another way than
the export. Prints one line and exits 0 when everything holds; 3 with what does not; 2 when it was called wrongly.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
from typing import Any

import blake3

HEADER = struct.Struct(">4sBBHIQQQ32s")


class Broken(Exception):
    """What does not hold."""


NO_EXPORT = (ValueError, KeyError, TypeError, IndexError, struct.error)
"""What reading something else ends with."""


def need(holds: object, what: str) -> None:
    if not holds:
        raise Broken(what)


# --- Ed25519 verification (RFC 8032), slow and plain ---

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
Point = tuple[int, int, int, int]


def add(a: Point, b: Point) -> Point:
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    i, j, k, m = f - e, h - g, h + g, f + e
    return i * j % P, k * m % P, j * k % P, i * m % P


def times(number: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = add(result, point)
        point = add(point, point)
        number >>= 1
    return result


def point_of(raw: bytes) -> Point | None:
    value = int.from_bytes(raw, "little")
    sign, y = value >> 255, value & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signed_by(key: bytes, message: bytes, signature: bytes) -> bool:
    a, r, s = point_of(key), point_of(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= Q or BASE is None:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % Q
    left, right = times(s, BASE), add(r, times(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# --- the tree (RFC 9162) ---


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The complete subtrees of a growing tree, largest first."""

    def __init__(self, size: int, subtrees: list[bytes]) -> None:
        need(len(subtrees) == bin(size).count("1"), "the tree before the range has another size")
        self.size, self.parts = size, subtrees

    def append(self, leaf: bytes) -> None:
        size = self.size
        while size & 1:
            leaf = node(self.parts.pop(), leaf)
            size >>= 1
        self.parts.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        root = self.parts[-1]
        for part in reversed(self.parts[:-1]):
            root = node(part, root)
        return root


def check_prefix(old: int, new: int, proof: list[bytes], old_root: bytes, new_root: bytes) -> None:
    """RFC 9162, 2.1.4.2."""
    if old == new:
        need(not proof and old_root == new_root, "the root is not the signed one")
        return
    need(0 < old < new and proof, "no proof that the range is part of what was signed")
    parts = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = parts[0]
    for part in parts[1:]:
        need(sn, "the proof is too long")
        if fn & 1 or fn == sn:
            fr, sr = node(part, fr), node(part, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, part)
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0 and fr == old_root and sr == new_root, "the root is not the signed one")


def check_note(note: str, vkey: str, origin: str) -> tuple[int, bytes]:
    """Size and root of a checkpoint that the key signed."""
    name, key_hash, encoded = vkey.split("+", 2)
    body = base64.b64decode(encoded, validate=True)
    need(body[:1] == b"\x01" and len(body) == 33, "not an Ed25519 key")
    told = hashlib.sha256(name.encode() + b"\n" + body).digest()[:4]
    need(told.hex() == key_hash, "the key's hash is another")
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    for line in signatures.splitlines():
        dash, signer, signature = line.split(" ")
        raw = base64.b64decode(signature)
        if dash == "\u2014" and signer == name and raw[:4] == told:
            need(signed_by(body[1:], text.encode(), raw[4:]), "the checkpoint's signature does not verify")
            lines = text.split("\n")
            need(lines[0] == origin, "the checkpoint is another log's")
            return int(lines[1]), base64.b64decode(lines[2], validate=True)
    raise Broken("the checkpoint is not signed by this key")


# --- msgpack, as far as events use it ---


def unpack(raw: bytes, at: int) -> tuple[Any, int]:
    first = raw[at]
    at += 1
    if first < 0x80:
        return first, at
    if first >= 0xE0:
        return first - 256, at
    if first in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[first], at
    if first & 0xF0 == 0x90:
        return unpack_items(raw, at, first & 15)
    if first & 0xE0 == 0xA0:
        return raw[at : at + (first & 31)].decode(), at + (first & 31)
    if 0xCC <= first <= 0xCF or 0xD0 <= first <= 0xD3:
        size = 1 << (first & 3)
        return int.from_bytes(raw[at : at + size], "big", signed=first >= 0xD0), at + size
    kinds = {0xC4: (1, bytes), 0xC5: (2, bytes), 0xC6: (4, bytes), 0xD9: (1, str), 0xDA: (2, str), 0xDB: (4, str),
             0xDC: (2, list), 0xDD: (4, list)}  # fmt: skip
    need(first in kinds, "a payload is no event")
    width, kind = kinds[first]
    size, at = int.from_bytes(raw[at : at + width], "big"), at + width
    if kind is list:
        return unpack_items(raw, at, size)
    part = raw[at : at + size]
    need(len(part) == size, "a payload is cut short")
    return (part.decode() if kind is str else part), at + size


def unpack_items(raw: bytes, at: int, count: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(count):
        item, at = unpack(raw, at)
        items.append(item)
    return items, at


def check_event(shown: dict[str, Any], payload: bytes, where: str) -> None:
    """What is shown of an event is what was recorded; fields that only a newer version has may follow."""
    (code, _, *recorded), end = unpack(payload, 0)
    need(end == len(payload) and code == shown["code"], f"{where}: another event is shown")
    values = [{"base64": base64.b64encode(each).decode()} if isinstance(each, bytes) else each for each in recorded]
    need(values == shown["fields"][: len(values)], f"{where}: what is shown is not what was recorded")


# --- the export ---


def check(lines: list[bytes], vkey: str) -> str:
    """One sentence when everything holds. Raises Broken."""
    bodies = []
    chain = bytes(32)
    for number, line in enumerate(lines, 1):
        body = json.loads(line)
        told = bytes.fromhex(body.pop("chain"))
        chain = hashlib.sha256(chain + json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()
        need(told == chain, f"line {number}: altered, or not behind the line before it")
        bodies.append(body)
    need(len(bodies) >= 3, "lines are missing")
    header, *records, trailer = bodies
    need((header["type"], trailer["type"]) == ("header", "trailer"), "no header, or no trailer")
    need(header["count"] == trailer["count"] == len(records), "lines are missing, or there are too many")
    need(header["last"] - header["first"] + 1 == len(records), "the range has another size")
    tree = Tree(header["first"] - 1, [bytes.fromhex(part) for part in header["before"]["subtrees"]])
    link = header["before"]["link"]
    for index, record in enumerate(records, header["first"]):
        where = f"record {index}"
        need(record["type"] == "record" and record["index"] == index, f"{where}: out of order")
        need(record["prev"] == link, f"{where}: does not follow from the one before it")
        payload = base64.b64decode(record["payload"], validate=True)
        frame = HEADER.pack(
            b"FCR1", 1, record["kind"], record["flags"], len(payload), index, record["epoch"], record["time_ns"],
            bytes.fromhex(record["prev"]),
        )  # fmt: skip
        link = blake3.blake3(frame + payload).hexdigest()
        need(record["link"] == link, f"{where}: its fields have another digest")
        leaf = hashlib.sha256(b"\x00" + bytes.fromhex(link)).digest()
        need(record["leaf"] == leaf.hex(), f"{where}: its leaf is another")
        if record["event"] is not None:
            check_event(record["event"], payload, where)
        tree.append(leaf)
    size, root = check_note(header["checkpoint"], vkey, header["origin"])
    proof = [bytes.fromhex(part) for part in header["consistency"]]
    check_prefix(tree.size, size, proof, tree.root(), root)
    return f"ok: records {header['first']} to {header['last']} of {header['origin']}, under a checkpoint of {size}"


def main() -> int:
    if len(sys.argv) != 3:
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    try:
        _, key_hash, encoded = sys.argv[2].split("+", 2)
        need(len(bytes.fromhex(key_hash)) == 4 and len(base64.b64decode(encoded, validate=True)) == 33, "a key of another length")
        with open(sys.argv[1], "rb") as file:
            lines = file.read().splitlines()
    except (*NO_EXPORT, Broken):
        print("the key is not of the form NAME+HASH+BASE64", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"the export cannot be read: {error}", file=sys.stderr)
        return 2
    try:
        print(check(lines, sys.argv[2]))
    except Broken as broken:
        print(f"NOT ok: {broken}")
        return 3
    except NO_EXPORT as error:
        print(f"NOT ok: not an export ({type(error).__name__})")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
