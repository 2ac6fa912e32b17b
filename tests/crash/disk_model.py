"""A disk that keeps what was synced apart from what was only written: replays a trace, builds crash states.

Assumed of the machine, and nothing more: fsync and fdatasync make one file's bytes durable, a write through an O_DSYNC
descriptor its own bytes, a folder's fsync its entries; 8 aligned bytes are atomic, and so is one entry of a folder. A
synced file may still lack its name, a rename may happen without the bytes, pages may arrive in any order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from blake3 import blake3

from tests.crash.tracing import Call, Op

PAGE_BYTES = 4096
SECTOR_BYTES = 512
ATOM_BYTES = 8
_UNMODELLED = {"LOCK", "lock.mdb"}
"""Never synced and never read for content: advisory locks and process ids only."""


class Node:
    """A file or a folder. ``durable`` (bytes) or ``entries`` (names) is what certainly survives."""

    __slots__ = ("durable", "entries", "is_folder", "number", "version", "visible")

    def __init__(self, number: int, is_folder: bool) -> None:
        self.number = number
        self.is_folder = is_folder
        self.durable = b""
        self.version = 0
        self.entries: dict[str, Node] = {}
        self.visible: dict[str, Node] = {}


class Unit(NamedTuple):
    """One thing that a crash may keep, lose or (bytes) tear: part of a page, a size, or one change of a folder.

    ``kind`` is write, truncate, link, unlink or rename; ``tears`` are the offsets inside ``data`` where it may break.
    """

    node: Node
    kind: str
    offset: int = 0
    data: bytes = b""
    name: str = ""
    new_name: str = ""
    child: Node | None = None
    tears: tuple[int, ...] = ()
    prefix_only: bool = False

    def variants(self) -> list[str]:
        """Every torn form: ``p512`` keeps the first 512 bytes, ``s512`` all but those."""
        torn = [f"p{cut}" for cut in self.tears]
        return torn if self.prefix_only else torn + [f"s{cut}" for cut in self.tears]


Choice = tuple[str, ...]
"""One letter a pending unit: ``1`` kept, ``0`` lost, or a torn form."""

State = dict[str, bytes | None]
"""Files of a crash state by path below the root; None is a folder."""


class Disk:
    """The files below ``root`` while a trace is replayed."""

    def __init__(self, root: str) -> None:
        self._root_path = root
        self._count = 0
        self.root = self._node(is_folder=True)
        self.pending: list[Unit] = []
        self._open: dict[int, tuple[Node | None, int]] = {}
        self._contents: dict[tuple[int, int, Choice], tuple[bytes, bytes]] = {}

    def _node(self, *, is_folder: bool) -> Node:
        self._count += 1
        return Node(self._count, is_folder)

    def begin(self, call: Call) -> list[Unit]:
        """Start a call: what it may leave behind joins ``pending``; returns those units. Then call ``end``."""
        units = self._units(call)
        self.pending.extend(units)
        return units

    def end(self, call: Call, units: Sequence[Unit]) -> None:
        """The call returned: a sync makes its file's units durable, an O_DSYNC write its own and those it overlaps."""
        if call.op is Op.SYNC:
            node, _ = self._open[call.a]
            self._persist([unit for unit in self.pending if unit.node is node])
        elif call.op is Op.WRITE and self._open[call.a][1] & os.O_DSYNC:
            pages = {(unit.node.number, unit.offset // PAGE_BYTES) for unit in units}
            self._persist(
                [
                    unit
                    for unit in self.pending
                    if (unit.node.number, unit.offset // PAGE_BYTES) in pages and unit.kind == "write"
                ]
            )
        elif call.op is Op.CLOSE:
            self._open.pop(call.a, None)

    def _persist(self, chosen: list[Unit]) -> None:
        if not chosen:
            return
        node = chosen[0].node
        kept = {id(unit) for unit in chosen}
        if node.is_folder:
            for unit in chosen:
                _change(node.entries, unit)
        else:
            node.durable = _written(node.durable, [(unit, "1") for unit in chosen])
            node.version += 1
        self._contents.clear()
        self.pending = [unit for unit in self.pending if id(unit) not in kept]

    def _units(self, call: Call) -> list[Unit]:
        if call.op is Op.OPEN:
            return self._opened(call)
        if call.op in (Op.WRITE, Op.TRUNCATE):
            node, flags = self._open[call.a]
            if node is None:
                return []
            if call.op is Op.TRUNCATE:
                return [Unit(node, "truncate", call.b)]
            return list(_pages(node, call.b, call.one, small=bool(flags & os.O_DSYNC)))
        if call.op is Op.MKDIR:
            folder, name = self._find(call.one)
            return [self._enter(folder, name, self._node(is_folder=True))]
        if call.op is Op.RENAME:
            folder, name = self._find(call.one)
            same, new = self._find(call.two)
            assert folder is same
            child = folder.visible.pop(name)
            folder.visible[new] = child
            return [Unit(folder, "rename", name=name, new_name=new, child=child)]
        if call.op is Op.UNLINK:
            folder, name = self._find(call.one)
            del folder.visible[name]
            return [Unit(folder, "unlink", name=name)]
        if call.op is Op.MARK and call.one.startswith(b"RESTART"):
            self._open.clear()
        return []

    def _opened(self, call: Call) -> list[Unit]:
        if call.one.decode() == self._root_path:
            self._open[call.a] = (self.root, call.b)
            return []
        folder, name = self._find(call.one)
        if name in _UNMODELLED:
            self._open[call.a] = (None, call.b)
            return []
        node, units = folder.visible.get(name), []
        if node is None:
            node = self._node(is_folder=False)
            units.append(self._enter(folder, name, node))
        elif call.b & os.O_TRUNC:
            units.append(Unit(node, "truncate", 0))
        self._open[call.a] = (node, call.b)
        return units

    def _enter(self, folder: Node, name: str, child: Node) -> Unit:
        folder.visible[name] = child
        return Unit(folder, "link", name=name, child=child)

    def _find(self, path: bytes) -> tuple[Node, str]:
        parts = path.decode().removeprefix(self._root_path + "/").split("/")
        node = self.root
        for part in parts[:-1]:
            node = node.visible[part]
        return node, parts[-1]

    def state(self, choice: Choice) -> State:
        """The files that a crash now leaves, when ``choice`` says what became of each pending unit."""
        return {path: content for path, content, _ in self._walk(choice)}

    def digest(self, choice: Choice) -> bytes:
        """Hash of ``state(choice)``: names and contents."""
        total = blake3()
        for path, content, digest in self._walk(choice):
            total.update(path.encode() + (b"\0/" if content is None else b"\0" + digest))
        return total.digest()

    def _walk(self, choice: Choice) -> Iterator[tuple[str, bytes | None, bytes]]:
        by_node: dict[int, list[tuple[Unit, str]]] = {}
        for unit, fate in zip(self.pending, choice, strict=True):
            if fate != "0":
                by_node.setdefault(unit.node.number, []).append((unit, fate))
        yield from self._descend("", self.root, by_node)

    def _descend(
        self, prefix: str, node: Node, chosen: dict[int, list[tuple[Unit, str]]]
    ) -> Iterator[tuple[str, bytes | None, bytes]]:
        entries = dict(node.entries)
        for unit, _ in chosen.get(node.number, []):
            _change(entries, unit)
        for name in sorted(entries):
            child = entries[name]
            if child.is_folder:
                yield prefix + name, None, b""
                yield from self._descend(f"{prefix}{name}/", child, chosen)
            else:
                content, digest = self._content(child, chosen.get(child.number, []))
                yield prefix + name, content, digest

    def _content(self, node: Node, fates: list[tuple[Unit, str]]) -> tuple[bytes, bytes]:
        key = (node.number, node.version, tuple(f"{id(unit)}{fate}" for unit, fate in fates))
        found = self._contents.get(key)
        if found is None:
            content = _written(node.durable, fates)
            found = self._contents[key] = (content, blake3(content).digest())
            if len(self._contents) > 2_000:
                self._contents.clear()
        return found


def _change(entries: dict[str, Node], unit: Unit) -> None:
    entries.pop(unit.name, None)
    if unit.kind != "unlink":
        assert unit.child is not None
        entries[unit.new_name or unit.name] = unit.child


def _written(content: bytes, fates: Sequence[tuple[Unit, str]]) -> bytes:
    if not fates:
        return content
    raw = bytearray(content)
    for unit, fate in fates:
        if unit.kind == "truncate":
            del raw[unit.offset :]
            raw.extend(bytes(unit.offset - len(raw)))
            continue
        first, last = 0, len(unit.data)
        if fate[0] == "p":
            last = int(fate[1:])
        elif fate[0] == "s":
            first = int(fate[1:])
        start = unit.offset + first
        if len(raw) < start:
            raw.extend(bytes(start - len(raw)))
        raw[start : unit.offset + last] = unit.data[first:last]
    return bytes(raw)


def _pages(node: Node, offset: int, data: bytes, *, small: bool) -> Iterator[Unit]:
    """A write as one unit a page: pages reach the disk on their own, in any order."""
    end, at = offset + len(data), offset
    while at < end:
        stop = min(end, (at // PAGE_BYTES + 1) * PAGE_BYTES)
        part = data[at - offset : stop - offset]
        # A short write lies in one sector, which disks write whole; tearing it by 8 bytes is the harsher assumption.
        step = SECTOR_BYTES if len(part) > SECTOR_BYTES else ATOM_BYTES
        tears = tuple(cut - at for cut in range((at // step + 1) * step, stop, step))
        # LMDB's meta page ends with its transaction number: LMDB relies on that not arriving before the rest.
        yield Unit(node, "write", at, part, tears=tears, prefix_only=small and len(part) == _META_BYTES)
        at = stop


_META_BYTES = 120
"""What LMDB writes of a meta page; a HEAD slot is 144 bytes."""
