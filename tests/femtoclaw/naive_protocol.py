"""The protocol said again, naively: a second JSON parser and validator that share no code with the first.

Loaded by path (``runpy``) from the test files beside it.
"""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.manifest import manifest_from_canonical
from femtoclaw.protocol import Message, ToolCall
from femtoclaw.strict_json import DEPTH_MAX, DOCUMENT_BYTES_MAX, NUMBER_CHARS_MAX, VALUES_MAX

GOLDEN = Path(__file__).parent.parent / "golden" / "protocol"
MANIFESTS = [
    manifest_from_canonical(json.dumps(each).encode()) for each in json.loads((GOLDEN / "registry.json").read_text())
]
SCHEMAS = ArgumentSchemas(MANIFESTS).compile()
ENTRIES: list[dict[str, Any]] = json.loads((GOLDEN / "messages.json").read_text())


class Refused(Exception):
    """The naive parser's only complaint."""


class Naive:
    """RFC 8259 by recursive descent over single characters, with the bounds of ``strict_json``."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.separators = text, 0, 0

    def document(self) -> Any:
        self.space()
        value = self.value(0)
        self.space()
        if self.at != len(self.text) or self.separators > VALUES_MAX:
            raise Refused
        return value

    def space(self) -> None:
        while self.peek() in (" ", "\t", "\n", "\r"):
            self.at += 1

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, wanted: str) -> None:
        if not self.text.startswith(wanted, self.at):
            raise Refused
        self.at += len(wanted)

    def value(self, depth: int) -> Any:
        match self.peek():
            case "{":
                return self.container(depth + 1, "{}", self.member)
            case "[":
                return self.container(depth + 1, "[]", self.value)
            case '"':
                return self.string()
            case "t":
                self.take("true")
                return True
            case "f":
                self.take("false")
                return False
            case "n":
                self.take("null")
                return None
            case _:
                return self.number()

    def container(self, depth: int, brackets: str, one: Any) -> Any:
        self.separators += 1
        if depth > DEPTH_MAX:
            raise Refused
        self.take(brackets[0])
        items: list[Any] = []
        self.space()
        while self.peek() != brackets[1] or items:
            self.space()
            items.append(one(depth))
            self.space()
            if self.peek() == brackets[1]:
                break
            self.separators += 1
            self.take(",")
        self.take(brackets[1])
        if brackets == "[]":
            return items
        if len({key for key, _ in items}) != len(items):
            raise Refused
        return dict(items)

    def member(self, depth: int) -> tuple[str, Any]:
        key = self.string()
        self.space()
        self.take(":")
        self.space()
        return key, self.value(depth)

    def string(self) -> str:
        self.take('"')
        units = bytearray()
        while self.peek() != '"':
            char = self.peek()
            self.at += 1
            if char == "" or char < " ":
                raise Refused
            units += self.escape() if char == "\\" else char.encode("utf-16-be")
        self.at += 1
        try:
            return units.decode("utf-16-be")
        except UnicodeDecodeError:
            raise Refused from None

    def escape(self) -> bytes:
        letter = self.peek()
        self.at += 1
        if letter == "u":
            digits = self.text[self.at : self.at + 4]
            self.at += 4
            if len(digits) != 4 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
                raise Refused
            return bytes.fromhex(digits)
        if letter == "" or letter not in '"\\/bfnrt':
            raise Refused
        return dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))[letter].encode("utf-16-be")

    def digits(self) -> None:
        if self.peek() == "" or self.peek() not in "0123456789":
            raise Refused
        while self.peek() != "" and self.peek() in "0123456789":
            self.at += 1

    def number(self) -> int | float:
        began, real = self.at, False
        if self.peek() == "-":
            self.at += 1
        if self.peek() == "0":
            self.at += 1
        else:
            self.digits()
        if self.peek() == ".":
            real = True
            self.at += 1
            self.digits()
        if self.peek() in ("e", "E"):
            real = True
            self.at += 1
            if self.peek() in ("+", "-"):
                self.at += 1
            self.digits()
        literal = self.text[began : self.at]
        if real:
            if len(literal) > NUMBER_CHARS_MAX or math.isinf(float(literal)):
                raise Refused
            return float(literal)
        if len(literal) > 20:
            raise Refused
        try:
            struct.pack(">q", int(literal))
        except struct.error:
            raise Refused from None
        return int(literal)


def naive_parse(raw: bytes) -> Any:
    """Any one value, or Refused."""
    if len(raw) > DOCUMENT_BYTES_MAX or raw.startswith(b"\xef\xbb\xbf"):
        raise Refused
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Refused from None
    return Naive(text).document()


def oracle(raw: bytes) -> tuple[int, Any]:
    """The protocol said again, naively: (step that fails or 6, the value). Slow, and independent of ``strict_json``."""
    try:
        document = naive_parse(raw)
    except Refused:
        return 1, None
    if not isinstance(document, dict) or set(document) not in ({"message"}, {"tool_call"}):
        return 2, None
    (form, body), = document.items()  # fmt: skip
    wanted = {"content"} if form == "message" else {"tool", "args"}
    if not isinstance(body, dict) or set(body) != wanted:
        return 3, None
    if form == "message":
        content = body["content"]
        fine = isinstance(content, str) and len(content.encode()) <= 65_536
        return (6, Message(content)) if fine else (3, None)
    tool, args = body["tool"], body["args"]
    if not isinstance(tool, str) or tool == "" or not isinstance(args, dict):
        return 3, None
    if tool not in ("shell", "system.info"):
        return 4, None
    fine = shell_accepts(args) if tool == "shell" else args == {}
    return (6, ToolCall(tool, args)) if fine else (5, None)


def shell_accepts(args: dict[str, Any]) -> bool:
    """The golden shell claw's schema, by hand."""
    name, argv, timeout = args.get("bin"), args.get("argv", []), args.get("timeout", 1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return (
        args.keys() <= {"bin", "argv", "timeout"}
        and isinstance(name, str) and 1 <= len(name) <= 64
        and name[0] in letters and all(char in letters + "0123456789_-" for char in name)
        and isinstance(argv, list) and len(argv) <= 64
        and all(isinstance(word, str) and len(word) <= 4096 for word in argv)
        and type(timeout) is int and 1 <= timeout <= 600
    )  # fmt: skip


def raw_of(entry: dict[str, Any]) -> bytes:
    """The message of a golden entry: ``text``, ``hex``, or ``parts`` of [text, times]."""
    if "hex" in entry:
        return bytes.fromhex(entry["hex"])
    if "text" in entry:
        return str(entry["text"]).encode()
    return "".join(text * times for text, times in entry["parts"]).encode()


def mutated(chance: random.Random) -> bytes:
    """A corpus message after a few random edits."""
    raw = bytearray(raw_of(chance.choice(ENTRIES)))[:2000]
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(raw) + 1)
        match chance.randrange(5):
            case 0 if at < len(raw):
                raw[at] ^= 1 << chance.randrange(8)
            case 1:
                del raw[at:]
            case 2:
                raw[at:at] = chance.choice(
                    (b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\ud800", b"NaN", b"\x00", b"1e9")
                )
            case 3:
                del raw[at : at + chance.randrange(8)]
            case _:
                raw[at:at] = raw[: chance.randrange(40)]
    return bytes(raw)
