"""A node's home directory: where things are, making a new one, and refusing one that others could have changed."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import os
import stat
from typing import Any, NamedTuple

from femtoclaw.errors import ConfigurationError, UnavailableError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from femtoclaw.manifest import Manifest

CONFIG_BYTES_MAX = 1024 * 1024
DIRECTORY_MODE = 0o700
OTHERS_WRITE = 0o022
PLACE_REMEDY = "check the path, its permissions and its mount"

JOURNAL_BYTES_MAX = 1024 * 1024
"""Size at which the boot journal becomes the old one, replacing the one before: twice this is the most they take."""

JOURNAL_TEXT_MAX = 4096
"""Characters kept of one text in a line of it."""


class Home(NamedTuple):
    """Paths of one node."""

    path: str

    @property
    def config_file(self) -> str:
        """Operator's configuration."""
        return os.path.join(self.path, "femtoclaw.toml")

    @property
    def log(self) -> str:
        """The log's directory."""
        return os.path.join(self.path, "log")

    @property
    def key_file(self) -> str:
        """Ed25519 seed, 32 bytes as hex, mode 0600."""
        return os.path.join(self.path, "keys", "node.key")

    @property
    def public_key_file(self) -> str:
        """The verifier key to hand to auditors."""
        return os.path.join(self.path, "keys", "node.pub")

    @property
    def modules(self) -> str:
        """Installed modules, by the digest of their manifest."""
        return os.path.join(self.path, "modules")

    @property
    def operators(self) -> str:
        """Key files of operators who work on this machine."""
        return os.path.join(self.path, "keys", "operators")

    @property
    def index_file(self) -> str:
        """Derived projections; may be deleted, is rebuilt from the log."""
        return os.path.join(self.path, "index", "projections.db")

    @property
    def journal(self) -> str:
        """Boot journal: starts and failures before the log is open."""
        return os.path.join(self.path, "boot.journal")

    @property
    def old_journal(self) -> str:
        """The boot journal before this one."""
        return os.path.join(self.path, "boot.journal.old")

    @property
    def unfinished(self) -> str:
        """Stands here while ``init`` is at work: with it the home is none yet."""
        return os.path.join(self.path, "init.unfinished")

    @property
    def manifest_file(self) -> str:
        """What ``init`` provisioned, with hashes."""
        return os.path.join(self.path, "manifest.json")

    def inside(self, name: str) -> str:
        """A path from the configuration: relative ones are inside the home."""
        return name if os.path.isabs(name) else os.path.join(self.path, name)


def locate(flag: str | None) -> Home:
    """The home by flag, FEMTOCLAW_HOME, or ``~/.femtoclaw``, in this order.

    Raises UsageError for an empty name, which is a variable that was not set more often than a wish, for one that is
    not UTF-8 (the log's store takes no other), and for a relative one where the working directory is gone.
    """
    named = flag if flag is not None else os.environ.get("FEMTOCLAW_HOME")
    where = "--home" if flag is not None else "FEMTOCLAW_HOME"
    if named == "":
        raise UsageError("the home has no name", where=where, expected="a directory", found="an empty text",
                         remedy=f"name a directory, or leave {where} out for ~/.femtoclaw")  # fmt: skip
    path = named if named is not None else os.path.expanduser("~/.femtoclaw")
    if path.startswith("~") and named is None:
        raise UsageError("this user has no home directory", expected="--home, FEMTOCLAW_HOME or HOME")
    try:
        home = os.path.abspath(path)
        home.encode()
    except FileNotFoundError:
        raise UsageError(
            "the working directory is gone", where=where, expected="an absolute path", found=path
        ) from None
    except UnicodeEncodeError:
        raise UsageError("the home's name is not UTF-8", where=where, expected="a path in UTF-8", found=path) from None
    return Home(home)


def require(home: Home) -> None:
    """Raise ConfigurationError when there is no home, UnavailableError when it cannot be read."""
    try:
        os.listdir(home.path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigurationError(
            "there is no node here",
            where=home.path,
            expected="a home made by `femtoclaw init`",
            found="a file" if os.path.lexists(home.path) else "nothing",
            remedy="run `femtoclaw init`, or give the right --home",
        ) from error
    except OSError as error:
        raise UnavailableError(
            "the home cannot be read", where=home.path, found=error.strerror, remedy=PLACE_REMEDY
        ) from error
    if os.path.lexists(home.unfinished):
        raise ConfigurationError(
            "`init` has not finished here", where=home.path, expected="a home that `init` finished",
            found=os.path.basename(home.unfinished), remedy="run `femtoclaw init` again: it begins anew",
        )  # fmt: skip
    if not os.path.exists(home.log) or not os.path.exists(home.config_file):
        missing = home.log if not os.path.exists(home.log) else home.config_file
        raise ConfigurationError(
            "this is not a complete home",
            where=home.path,
            expected=missing,
            found="nothing",
            remedy="restore the missing part from a backup, or run `femtoclaw init` in an empty directory",
        )


def check_permissions(home: Home) -> None:
    """Refuse a home or configuration that others may write, or a log or key that others may even read (DEPLOY-4.2)."""
    forbidden = {
        home.path: OTHERS_WRITE,
        home.config_file: OTHERS_WRITE,
        home.log: 0o077,
        os.path.join(home.log, "data", "data.mdb"): 0o077,
        home.key_file: 0o077,
    }
    with contextlib.suppress(OSError):
        forbidden |= {
            os.path.join(home.operators, name): 0o077 for name in os.listdir(home.operators) if name.endswith(".key")
        }
    for path, bits in forbidden.items():
        check_mode(path, bits)


def check_mode(path: str, forbidden: int) -> None:
    """Refuse a file or directory with any of the ``forbidden`` permission bits; a missing one is another's finding."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    if mode & forbidden:
        raise ConfigurationError(
            "permissions are too wide",
            where=path,
            expected=f"mode {mode & ~forbidden:04o}",
            found=f"{mode:04o}",
            remedy=f"run `chmod {mode & ~forbidden:o} {path}` after checking who changed it",
        )


def read_bounded(path: str, limit: int = CONFIG_BYTES_MAX) -> bytes:
    """An operator's file. Raises ConfigurationError as ``open_regular`` does, or when it is over ``limit`` bytes."""
    with open_regular(path) as file:
        try:
            raw = file.read(limit + 1)
        except OSError as error:
            raise ConfigurationError("file cannot be read", where=path, found=error.strerror) from error
    if len(raw) > limit:
        raise ConfigurationError("file is too large", where=path, expected=f"<= {limit} bytes")
    return raw


def open_regular(path: str) -> "BinaryIO":
    """An operator's file, to be read. Raises ConfigurationError when it is missing, unreadable, or no regular file: a pipe
    could keep a command waiting for ever, and a device has no end."""
    try:
        file = open(path, "rb", opener=_at_once)  # noqa: SIM115  # the caller's
    except OSError as error:
        raise ConfigurationError(
            "file cannot be read", where=path, expected="a regular file", found=error.strerror
        ) from error
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise ConfigurationError(
            "file cannot be read", where=path, expected="a regular file", found=stat.filemode(status.st_mode)
        )
    return file


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for whoever holds the other end of a pipe, and without a terminal becoming our own."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def effective_configuration(home: Home, claws: frozenset[str] | None) -> dict[str, Any]:
    """The configuration on disk, resolved. Raises ConfigurationError, also when the workspace that it names is not
    there: no claw could run."""
    effective = resolved_configuration(home, claws)
    check_workspace(home, effective)
    return effective


def check_workspace(home: Home, effective: dict[str, Any]) -> None:
    """Raise ConfigurationError when the workspace is not there, or not apart from the node's own files."""
    workspace = home.inside(effective["security"]["workspace"])
    refuse_overlap(home, workspace)
    if os.path.islink(workspace.rstrip("/")):
        raise ConfigurationError(
            "the workspace is a link: what it names can change without an operator",
            where=f"{home.config_file}: security.workspace",
            expected="a directory", found="a symbolic link", remedy="name the directory itself: `femtoclaw config set`",
        )  # fmt: skip
    if not os.path.isdir(workspace):
        raise ConfigurationError(
            "the workspace is not there", where=f"{home.config_file}: security.workspace",
            expected=f"a directory: {workspace}", found="no directory", remedy=f"make it (`mkdir {workspace}`), or name another",
        )  # fmt: skip


def refuse_overlap(home: Home, workspace: str) -> None:
    """A claw that may write its workspace must not reach what decides about it: a sandbox can let a folder through, and
    not keep a part of it back."""
    place, root = os.path.realpath(workspace), os.path.realpath(home.path)
    own = [root, *(os.path.join(root, name) for name in ("log", "keys", "secrets", "subjects", "modules", "index"))]
    for path in own:
        inside = path != root and os.path.commonpath([place, path]) == path
        if os.path.commonpath([place, path]) == place or inside:
            raise ConfigurationError(
                "the workspace is not apart from the node's own files", where=f"{home.config_file}: security.workspace",
                expected="a directory that holds nothing of them, and is in none of theirs", found=path,
                remedy="name another directory, such as `workspace`",
            )  # fmt: skip


def resolved_configuration(home: Home, claws: frozenset[str] | None) -> dict[str, Any]:
    """The configuration of all sources over its defaults, whatever it names. Raises ConfigurationError."""
    from femtoclaw.config_sources import gather, resolve_sources

    return resolve_sources(gather(home), claws)


def policy_text(home: Home, effective: dict[str, Any]) -> str:
    """The policy file's text. Raises ConfigurationError when others may write it, or as ``read_text`` does."""
    path = home.inside(effective["policy"]["file"])
    check_mode(path, OTHERS_WRITE)
    return read_text(path)


def read_text(path: str) -> str:
    """An operator's text file. Raises ConfigurationError as ``read_bounded`` does, or when it is not UTF-8."""
    try:
        return read_bounded(path).decode()
    except UnicodeDecodeError as error:
        found = f"a wrong byte at {error.start}"
        raise ConfigurationError("file is not UTF-8", where=path, expected="UTF-8", found=found) from None


_complained: set[str] = set()
"""Journals that could not be written when it was last tried."""


def journal(home: Home, wall_ns: int, event: str, **fields: object) -> None:
    """Append one line to the boot journal, which with the old one stays within twice ``JOURNAL_BYTES_MAX`` (I11).

    A journal that cannot be written never stops a start: the error shows, once in a process until it can be written again.
    """
    import json

    texts = {name: str(value)[:JOURNAL_TEXT_MAX] if isinstance(value, str) else value for name, value in fields.items()}
    line = json.dumps({"time_ns": wall_ns, "event": event, **texts}, sort_keys=True, default=str).encode() + b"\n"
    try:
        _append(home, line)
        _complained.discard(home.journal)
    except OSError:
        import sys

        if home.journal not in _complained:
            print(f"femtoclaw: boot journal cannot be written: {home.journal}", file=sys.stderr)
        _complained.add(home.journal)


def _append(home: Home, line: bytes) -> None:
    import fcntl

    while True:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(home.journal, flags, 0o600)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError("not a regular file")
            if status.st_size + len(line) <= JOURNAL_BYTES_MAX:
                os.write(fd, line)
                return
            fcntl.flock(fd, fcntl.LOCK_EX)
            if names(home.journal, fd):  # whoever waited finds it done: renaming again would lose the old journal
                os.replace(home.journal, home.old_journal)
        finally:
            os.close(fd)


def names(path: str, fd: int) -> bool:
    """True when the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def claw_names(manifests: "tuple[Manifest, ...]") -> frozenset[str]:
    """Names of the shipped claws: the only ones a configuration may mention."""
    return frozenset(manifest.name for manifest in manifests)
