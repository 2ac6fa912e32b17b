"""The API on a socket in the node's home: who may connect is whom the file system lets, which is the home's owner.

The socket is made in a folder of its own that only its owner enters, gets mode 0600, and then takes its name: nobody can connect
before, and one that a crash left behind is replaced. Only the process that holds the log's lock makes one, so there is one.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from femtoclaw.api import limits
from femtoclaw.errors import ConfigurationError, SecurityError, UnavailableError
from femtoclaw.home import Home

FILE_NAME = "serve.sock"
_MAKING = "serve.new"
ADDRESS_BYTES_MAX = 107
"""What the kernel takes as the path of a socket."""

SOCKET_MODE = 0o600
STOP_SECONDS = 5.0


def socket_path(home: Home) -> str:
    """Where it is."""
    return os.path.join(home.path, FILE_NAME)


@contextlib.contextmanager
def address(folder: str, name: str) -> Iterator[str]:
    """A path to ``name`` in ``folder`` that is short enough for the kernel while this is entered: the plain one, or one through
    a descriptor of the folder. Raises ConfigurationError where neither is."""
    path = os.path.join(folder, name)
    if len(os.fsencode(path)) <= ADDRESS_BYTES_MAX:
        yield path
        return
    if not os.path.isdir("/proc/self/fd"):
        raise ConfigurationError(
            "the home's path is too long for a socket", where=path, expected=f"<= {ADDRESS_BYTES_MAX} bytes",
            found=len(os.fsencode(path)), remedy="use a home with a shorter path, or mount /proc",
        )  # fmt: skip
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


class Served:
    """A node's API at its socket, until ``stop``."""

    def __init__(self, home: Home, service: Any, others: Sequence[Any] = ()) -> None:
        """Begin to answer with a ``Service``, and with ``others``: handlers of gRPC beside it. The caller holds the lock of the
        home's log. Raises ConfigurationError for a path that is too long, UnavailableError when there can be no socket,
        SecurityError when something else has its name."""
        from concurrent.futures import ThreadPoolExecutor

        import grpc

        self._home = home
        self.path = socket_path(home)
        self._at = contextlib.ExitStack()
        workers = service.working_max + limits.READERS_MAX + 1 + limits.OTHERS_MAX * len(others)
        self._server = grpc.server(
            ThreadPoolExecutor(workers, thread_name_prefix="api"), options=_OPTIONS, maximum_concurrent_rpcs=4 * workers
        )  # fmt: skip
        self._server.add_generic_rpc_handlers((service.handler(), *others))
        try:
            self._bind()
        except BaseException:
            self._server.stop(None)
            self._at.close()
            raise

    def _bind(self) -> None:
        making = os.path.join(self._home.path, _MAKING)
        _remove(making)
        try:
            os.mkdir(making, 0o700)
            short = self._at.enter_context(address(making, "s"))
            if self._server.add_insecure_port(f"unix:{short}") == 0:
                raise OSError("the kernel refused it")
            os.chmod(os.path.join(making, "s"), SOCKET_MODE)
            self._server.start()
            check_replaceable(self.path)
            os.rename(os.path.join(making, "s"), self.path)
            self._identity = _identity(self.path)
            os.rmdir(making)
        except (OSError, RuntimeError) as error:
            raise UnavailableError(
                "the node cannot be served", where=self.path, found=getattr(error, "strerror", None) or error,
                remedy="see whether the home can be written, and whether its file system has sockets",
            ) from error  # fmt: skip

    def refuse(self) -> None:
        """Let nobody connect any more; who is connected is answered until ``stop``. Idempotent."""
        if self._home is not None and _identity(self.path) == getattr(self, "_identity", None):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Take no call any more, and wait for those under way: those that are not done then go on, and are answered to
        nobody. To be called before the log is closed. Idempotent."""
        self.refuse()
        self._server.stop(seconds).wait()
        self._at.close()


_OPTIONS = (
    ("grpc.max_receive_message_length", limits.REQUEST_BYTES_MAX + 1024),
    ("grpc.max_send_message_length", limits.REPLY_BYTES_MAX),
    ("grpc.so_reuseport", 0),
)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def check_replaceable(path: str) -> None:
    """Raise SecurityError when something else than a socket has the name."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SecurityError(
            "something else stands where the node's socket belongs", where=path, expected="a socket, or nothing",
            found=stat.filemode(mode), remedy="find out who put it there, and remove it",
        )  # fmt: skip


def _remove(making: str) -> None:
    """What a start that was cut left behind."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(making, "s"))
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(making)


def is_served(home: Home) -> bool:
    """Whether somebody listens at the home's socket. Loads nothing but the socket module, and that only where there is one.

    Raises SecurityError for a socket that belongs to somebody else than the home.
    """
    path = socket_path(home)
    try:
        status = os.lstat(path)
    except OSError:
        return False
    if not stat.S_ISSOCK(status.st_mode):
        return False
    owner = os.stat(home.path).st_uid
    if status.st_uid not in (owner, os.geteuid()):
        raise SecurityError(
            "the node's socket is somebody else's", where=path, expected=f"user {owner}", found=f"user {status.st_uid}"
        )
    import socket

    with address(home.path, FILE_NAME) as short, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(limits.CONNECT_SECONDS)
        try:
            probe.connect(short)
        except (ConnectionRefusedError, FileNotFoundError):
            return False  # left behind by a process that was killed
        except OSError as error:
            raise UnavailableError("the node's socket cannot be reached", where=path, found=error.strerror) from error
    return True
