"""What lies outside of a sandbox, with bait in it: files with tokens that nobody may read, and sockets that nobody may
touch. Everything is as open as file modes go, so that nothing but the sandbox keeps a claw from it."""

from __future__ import annotations

import os
import shutil
import socket
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import NamedTuple


class Token(NamedTuple):
    """A text that stands in one file only, and that file."""

    text: str
    path: Path


class World:
    """A workspace, what it holds, and what lies beside it."""

    def __init__(self) -> None:
        self.mark = f"fcbait{os.urandom(6).hex()}"
        self.folder = Path(tempfile.mkdtemp(prefix="femtoclaw-bait-"))
        self.folder.chmod(0o755)
        self.workspace, self.outside = self.folder / "workspace", self.folder / "outside"
        self.workspace.mkdir(mode=0o755)
        self.outside.mkdir(mode=0o777)
        self.outside.chmod(0o777)
        self.key = self._bait("node.key")
        self.store = self._bait("store.data")
        self.etc = Path("/etc") / self.mark
        self.script = self.outside / "script"
        self.script.write_text(f"#!/bin/sh\necho {self.mark}-ran\n")
        self.script.chmod(0o755)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(self.outside / "socket"))
        (self.outside / "socket").chmod(0o777)
        self.unix.listen()
        for trap in (self.tcp, self.udp, self.unix):
            trap.setblocking(False)
        self._furnish()
        self.before = self.seen()

    def _bait(self, name: str) -> Token:
        token = Token(f"{self.mark}-{os.urandom(8).hex()}", self.outside / name)
        token.path.write_text(token.text + "\n")
        token.path.chmod(0o666)
        return token

    def _furnish(self) -> None:
        """What a claw may find: a text, something to sort, links that lead out, archives that climb."""
        work = self.workspace
        (work / "inside.txt").write_text("inside\n")
        (work / "big").write_text("".join(f"{number * 7919 % 10_007} line\n" for number in range(1_000)))
        (work / "evil").write_text(f"#!/bin/sh\ncat {self.key.path}\ntouch {self.outside}/planted\n")
        (work / "evil").chmod(0o755)
        self.link()
        with tarfile.open(work / "bad.tar", "w") as tar:
            for name in (
                "../outside/planted",
                str(self.outside / "planted"),
                "link-dir/planted",
                f"/etc/{self.mark}",
                "fine",
            ):
                member = tarfile.TarInfo(name)
                member.size = 7
                tar.addfile(member, BytesIO(b"escaped"))
            for name, kind in (("hard", tarfile.LNKTYPE), ("soft", tarfile.SYMTYPE)):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, str(self.key.path)
                tar.addfile(member)
        for path in work.iterdir():
            if os.geteuid() == 0 and not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o666)

    def link(self) -> None:
        """Put the links that lead out where they belong, whatever is there now."""
        for name, to in (
            ("link-key", str(self.key.path)),
            ("link-store", "../outside/store.data"),
            ("link-dir", str(self.outside)),
        ):
            path = self.workspace / name
            if path.is_symlink() and os.readlink(path) == to:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.symlink_to(to)

    def spellings(self, path: Path) -> list[str]:
        """Ways to name a file of the outside from the workspace."""
        name = path.name
        link = "link-key" if path == self.key.path else "link-store"
        return [
            str(path), f"../outside/{name}", link, f"link-dir/{name}", f"/proc/self/root{path}",
            f"/proc/self/cwd/../outside/{name}", f"./../workspace/../outside//{name}",
            f"/proc/{os.getpid()}/root{path}", f"/proc/{os.getpid()}/cwd/../../../..{path}",
        ]  # fmt: skip

    def seen(self) -> dict[str, tuple[int, int, bytes]]:
        """Everything outside of the workspace: mode, owner and content of each file."""
        found: dict[str, tuple[int, int, bytes]] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_relative_to(self.workspace):
                continue
            status = path.lstat()
            found[str(path)] = (status.st_mode, status.st_uid, path.read_bytes() if path.is_file() else b"")
        return found

    def touched(self) -> list[str]:
        """The sockets that somebody reached."""
        found = []
        for name, trap in (("tcp", self.tcp), ("unix", self.unix)):
            try:
                trap.accept()[0].close()
            except BlockingIOError:
                continue
            found.append(name)
        try:
            self.udp.recv(1)
        except BlockingIOError:
            return found
        return [*found, "udp"]

    def strays(self) -> list[str]:
        """Files with the mark in their name, where programs like to leave some."""
        places = ("/etc", "/tmp", "/var/tmp", "/dev/shm", "/run", str(Path.home()))
        return [
            f"{place}/{name}" for place in places if os.path.isdir(place) for name in os.listdir(place) if self.mark in name
        ]  # fmt: skip

    def copies(self) -> list[str]:
        """Files of the workspace that hold a token."""
        tokens = [token.text.encode() for token in (self.key, self.store)]
        files = [path for path in self.workspace.rglob("*") if path.is_file() and not path.is_symlink()]
        return [str(path) for path in files if any(token in path.read_bytes() for token in tokens)]

    def processes(self) -> list[int]:
        """Those that work in this world, or whose command line has the mark."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command, place = (entry / "cmdline").read_bytes(), os.readlink(entry / "cwd")
            except OSError:
                continue
            if self.mark.encode() in command or place.startswith(str(self.workspace)):
                found.append(int(entry.name))
        return found

    def close(self) -> None:
        for trap in (self.tcp, self.udp, self.unix):
            trap.close()
        shutil.rmtree(self.folder)
