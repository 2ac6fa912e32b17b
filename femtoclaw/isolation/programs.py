"""What the kernel executes when one program is executed: the program, its script interpreter, its dynamic loader.

These and nothing else get the right to be executed, so that no program of the node's list can start one that is not on
it. An interpreter that is asked for through ``env`` is looked for in the two folders where ``env`` looks without PATH.
"""

from __future__ import annotations

import os
import struct

_HEAD_BYTES = 4096
"""Read of a program's beginning; the kernel itself reads 256 bytes of a script's first line."""
_SHEBANG_BYTES = 256
_INTERPRETERS_MAX = 4
"""The kernel follows so many scripts that are interpreted by scripts."""
_PROGRAM_HEADERS_MAX = 64
_ELF_BYTES = 64
_SEGMENT_INTERPRETER = 3
_ENV_FOLDERS = ("/bin", "/usr/bin")


def needed(binary: str) -> list[str]:
    """Absolute paths that must be executable for ``binary`` to run, itself first; only itself when it is unreadable."""
    found: list[str] = []
    waiting = [binary]
    while waiting and len(found) <= 2 * _INTERPRETERS_MAX:
        path = waiting.pop()
        if path in found:
            continue
        found.append(path)
        try:
            waiting += _interpreters(path)
        except (OSError, ValueError, OverflowError, struct.error):  # no program that the kernel would run
            continue
    return found


def _interpreters(path: str) -> list[str]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        head = os.pread(fd, _HEAD_BYTES, 0)
        if head.startswith(b"#!"):
            return _of_script(head[2:_SHEBANG_BYTES])
        return _of_elf(fd, head) if head.startswith(b"\x7fELF") else []
    finally:
        os.close(fd)


def _of_script(line: bytes) -> list[str]:
    words = os.fsdecode(line.split(b"\n", 1)[0]).split()
    if not words or not os.path.isabs(words[0]):
        return []
    if os.path.basename(words[0]) != "env" or len(words) < 2:
        return words[:1]
    name = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), "")
    wanted = [name] if os.path.isabs(name) else [os.path.join(folder, name) for folder in _ENV_FOLDERS if name]
    return [words[0], *(path for path in wanted if os.path.isfile(path))]


def _of_elf(fd: int, head: bytes) -> list[str]:
    """The loader that a dynamic program names. Raises ValueError or struct.error for a header that is none."""
    if len(head) < _ELF_BYTES:
        return []
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    offset, size, count = (
        (*struct.unpack_from(order + "Q", head, 32), *struct.unpack_from(order + "HH", head, 54)) if wide
        else (*struct.unpack_from(order + "I", head, 28), *struct.unpack_from(order + "HH", head, 42))
    )  # fmt: skip
    headers = os.pread(fd, size * min(count, _PROGRAM_HEADERS_MAX), offset)
    for at in range(0, len(headers) - size + 1, size or 1):
        if struct.unpack_from(order + "I", headers, at)[0] != _SEGMENT_INTERPRETER:
            continue
        start, length = (
            (struct.unpack_from(order + "Q", headers, at + where)[0] for where in (8, 32)) if wide
            else (struct.unpack_from(order + "I", headers, at + where)[0] for where in (4, 16))
        )  # fmt: skip
        name = os.fsdecode(os.pread(fd, min(length, _HEAD_BYTES), start).rstrip(b"\0"))
        return [name] if os.path.isabs(name) else []
    return []
