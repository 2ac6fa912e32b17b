"""Commands in processes forked from one that has third-party packages loaded, and nothing of the project.

Each command still is a process of its own with its own environment, folder and streams; what it saves is loading the same libraries
again, half of a short command's time. The forked child imports the project's modules as they are then.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from typing import Any

SERVER = r"""
import array, importlib, json, os, signal, socket, sys

for name in {preloaded!r}:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
assert not [name for name in sys.modules if name.partition(".")[0] in ("femtoclaw", "wal", "cluster", "tests")]
here = socket.socket(fileno=0)


def run(order, streams):
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 64)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering, encoding="utf-8", errors=errors, closefd=False)
        for number, mode, buffering, errors in ((0, "r", -1, "strict"), (1, "w", -1, "strict"), (2, "w", 1, "backslashreplace"))
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.argv = ["-c", *order["words"]]
    sys.path[:0] = [each for each in order["env"].get("PYTHONPATH", "").split(":") if each]
    exec(compile(order["code"], "<string>", "exec"), {{"__name__": "__main__"}})


while True:
    raw, ancillary, _, _ = here.recvmsg(1 << 20, socket.CMSG_SPACE(3 * 4))
    if not raw:
        break
    streams = array.array("i", ancillary[0][2])
    child = os.fork()
    if child == 0:
        import threading, atexit, traceback
        code = 0
        try:
            run(json.loads(raw), streams)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            traceback.print_exc()
            code = 1
        try:
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            code = code or 120
        os._exit(code)
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(child, 0)
    here.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
"""

PRELOADED = ("argparse", "blake3", "cedarpy", "immutables", "json", "jsonschema_rs", "lmdb", "msgpack", "nacl.bindings",
             "nacl.signing", "subprocess", "tempfile", "tenacity", "traceback", "typing", "uuid")  # fmt: skip
ORDER_BYTES_MAX = 1 << 18


class WarmProcess:
    """The server of one test process; one command at a time, which is the caller's to see to."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("FEMTOCLAW", "PYTHON"))}
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVER.format(preloaded=PRELOADED)], stdin=there.fileno(), env=bare, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        atexit.register(self._close)

    @property
    def usable(self) -> bool:
        """False in a fork of the process that made it, and when the server has ended."""
        return os.getpid() == self._owner and self._process.poll() is None

    def run(self, code: str, words: list[str], cwd: str, env: dict[str, str], stdin: bytes) -> tuple[int, bytes, bytes] | None:
        """Exit code, standard output and error; None when an order is too long to be sent."""
        order = json.dumps({"code": code, "words": words, "cwd": cwd, "env": env}).encode("utf-8", "surrogateescape")
        if len(order) > ORDER_BYTES_MAX:
            return None
        with contextlib.ExitStack() as stack:
            given, out, errors = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            given.write(stdin)
            given.seek(0)
            streams = array.array("i", [given.fileno(), out.fileno(), errors.fileno()])
            self._here.sendmsg([order], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
            try:
                answer = self._here.recv(64)
            except BaseException:
                # Its time is up, say: nobody may take this command's answer for the next one's, or wait for it at the end.
                self._kill()
                raise
            if not answer:
                raise RuntimeError("the process that starts commands has ended")
            return int(answer), _all_of(out), _all_of(errors)

    def _kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _close(self) -> None:
        if os.getpid() == self._owner:
            self._here.close()
            self._process.wait()


def _all_of(file: Any) -> bytes:
    file.seek(0)
    raw: bytes = file.read()
    return raw
