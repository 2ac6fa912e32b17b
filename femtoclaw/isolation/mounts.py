"""A claw's own view of the file system: everything read-only, the workspace and a bounded temporary folder apart.

Works wherever a mount namespace can be had (Linux 5.12), and without Landlock: writing, changing modes and owners,
which Landlock does not know, and executing what was written are stopped by the mounts themselves. The node's own files
are covered, so that not even their names are there.

Root runs claws as another user, who could not use root's workspace. An *idmapped* mount shows root's files in the
workspace as that user's, and what the user makes there becomes root's on the disk.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from femtoclaw.isolation import kernel

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _IDMAP = 0x1, 0x2, 0x4, 0x8, 0x100000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_RDONLY = 2, 4, 8, 1
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18

TEMPORARY_INODES_MAX = 16_384
"""Files and folders in the temporary folder of one claw."""

_EMPTY = b"size=64k,nr_inodes=256,mode=755"
_USERS = 1 << 32


class View(NamedTuple):
    """What one claw sees.

    ``module_store`` is the folder of installed modules or empty; ``needed`` are paths that must stay reachable;
    ``user`` is None for the user that the process has; ``mapping`` a descriptor that ``mapping`` made, or -1.
    """

    workspace: str
    folder: str
    folder_bytes: int
    module_store: str
    needed: tuple[str, ...]
    protected: tuple[str, ...]
    user: tuple[int, int] | None
    mapping: int


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace")]


def enter(view: View) -> None:
    """Move this process into a mount namespace of this view. Raises OSError; needs CAP_SYS_ADMIN."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount(b"none", b"/", b"", _MS_REC | _MS_PRIVATE, b"")
    mask = os.umask(0o022)  # folders on the way to the workspace are for the claw's user to pass
    trees: dict[str, int] = {}
    try:
        trees[view.workspace] = _copy(view.workspace, _NOEXEC, view.mapping)
        if view.module_store and os.path.isdir(view.module_store):
            trees[view.module_store] = _copy(view.module_store, _RDONLY, view.mapping)
        covered = _closed_folders((view.folder, *trees, *view.needed), view.user)
        for path in view.needed:
            if _within(path, covered):
                trees[path] = _copy(path, _RDONLY, -1)
        for closed in covered:
            kernel.mount(b"tmpfs", os.fsencode(closed), b"tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, _EMPTY)
        for place in (view.folder, *trees):
            if _within(place, covered):
                _make_place(place, folder=place not in trees or stat.S_ISDIR(os.fstat(trees[place]).st_mode))
        _hide([path for path in view.protected if not _within(path, covered) and not _within(view.workspace, [path])])
        _change(_AT_FDCWD, "/", _RDONLY | _NOSUID)
        for place, tree in trees.items():
            kernel.call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(place), _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.umask(mask)
        for tree in trees.values():
            os.close(tree)
    _mount_folder(view)


def make_read_only(path: str) -> None:
    """The mount at ``path``, and those below it, for everybody in this mount namespace. Raises OSError."""
    _change(_AT_FDCWD, path, _RDONLY)


def mapping(user: int, group: int) -> int:
    """A descriptor of a user namespace that shows root's files as those of ``user`` and ``group``. Raises OSError.

    Needs root's rights over users: only from outside can a namespace be given more users than its maker is.
    """
    ready, made = os.pipe()
    waiting, done = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ready)
            os.close(done)
            kernel.unshare(kernel.CLONE_NEWUSER)
            os.write(made, b"x")
            os.read(waiting, 1)
        finally:
            os._exit(0)
    os.close(made)
    os.close(waiting)
    try:
        if not os.read(ready, 1):
            raise OSError(errno.EPERM, "no user namespace can be made")
        for name, number in (("uid_map", user), ("gid_map", group)):
            _write(f"/proc/{child}/{name}", _swapped(number))
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.close(done)
        os.waitpid(child, 0)


def _swapped(number: int) -> str:
    """Root on the disk is ``number`` in the mount, and nobody else is; everyone else is who they are."""
    return f"0 {number} 1\n1 1 {number - 1}\n{number + 1} {number + 1} {_USERS - number - 2}\n"


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _copy(path: str, attributes: int, mapping: int) -> int:
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
    tree = kernel.call(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags)
    try:
        _change(tree, "", attributes | _NOSUID | _NODEV)
        if mapping >= 0:
            _change(tree, "", _IDMAP, recursive=False, user_namespace=mapping)
    except OSError:
        os.close(tree)
        raise
    return tree


def _change(fd: int, path: str, attributes: int, *, recursive: bool = True, user_namespace: int = 0) -> None:
    flags = (0 if path else _AT_EMPTY_PATH) | (_AT_RECURSIVE if recursive else 0)
    given = _Attributes(attributes, 0, 0, user_namespace)
    kernel.call(_MOUNT_SETATTR, fd, os.fsencode(path), flags, given, ctypes.sizeof(given))


def _mount_folder(view: View) -> None:
    owner = b"" if view.user is None else b",uid=%d,gid=%d" % view.user
    options = b"size=%d,nr_inodes=%d,mode=700" % (view.folder_bytes, TEMPORARY_INODES_MAX) + owner
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    kernel.mount(b"tmpfs", os.fsencode(view.folder), b"tmpfs", flags, options)


def _make_place(path: str, *, folder: bool) -> None:
    """Something to mount a folder or a file on."""
    if folder:
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _closed_folders(places: Iterable[str], user: tuple[int, int] | None) -> list[str]:
    """The topmost folder on the way to each of ``places`` that the claw's new user cannot pass."""
    found: list[str] = []
    for place in places if user is not None else ():
        parts = place.split("/")[1:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/" + "/".join(parts[:depth])
            if folder in found:
                break
            if not _passable(os.stat(folder), user):
                found.append(folder)
                break
    return found


def _passable(status: os.stat_result, user: tuple[int, int] | None) -> bool:
    if user is None:
        return True
    bit = 0o100 if status.st_uid == user[0] else 0o010 if status.st_gid == user[1] else 0o001
    return bool(status.st_mode & bit)


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _hide(paths: Iterable[str]) -> None:
    for path in paths:
        try:
            kind = os.lstat(path).st_mode
        except OSError:  # nothing there to be hidden
            continue
        if stat.S_ISDIR(kind):
            flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_RDONLY
            kernel.mount(b"tmpfs", os.fsencode(path), b"tmpfs", flags, b"size=4k,nr_inodes=2,mode=000")
        elif stat.S_ISREG(kind):
            kernel.mount(b"/dev/null", os.fsencode(path), b"", _MS_BIND, b"")
