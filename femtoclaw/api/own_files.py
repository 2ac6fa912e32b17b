"""The home's own files around a change that comes over the API: a start compares them with the record, so a change that is
recorded has to reach them.

A command of the command line stages its file before it asks, and puts it in place afterwards. For any other program the
serving process does so itself. One at a time: whoever stages holds a lock on the home's folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from femtoclaw import commands
from femtoclaw.api.executor import NotTakenError
from femtoclaw.errors import ConfigurationError, ControlRefusedError
from femtoclaw.home import Home
from femtoclaw.integrity import STAGED, discard, put_in_place, stage
from femtoclaw.key_file import KeySigner
from femtoclaw.secret_store import SecretStore

LOCK_SECONDS = 10.0
_POLL_SECONDS = 0.05
CONFIGURING = ("configuration.set", "claw.enable", "claw.disable")


@contextlib.contextmanager
def alone(home: Home) -> Iterator[None]:
    """Nobody else stages files in this home. Raises NotTakenError when somebody does for longer than ``LOCK_SECONDS``."""
    until = time.monotonic() + LOCK_SECONDS
    fd = os.open(home.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while not _locked(fd):
            if time.monotonic() > until:
                raise NotTakenError(
                    "somebody else is changing this node's files", where=home.path, remedy="wait until that has ended"
                )
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def staged_for(home: Home, settings: dict[str, Any], command: commands.Control) -> Iterator[Callable[[], None]]:
    """Have the file that goes with this change staged, unless whoever asks has done it. What is yielded puts it in place; left
    without that, it is removed. Raises NotTakenError."""
    path, raw = _file_of(home, settings, command)
    if not path or os.path.lexists(path + STAGED):
        yield lambda: None
        return
    with alone(home):
        stage(path, raw)
        try:
            yield lambda: put_in_place(path)
        except (ControlRefusedError, ConfigurationError, NotTakenError):
            discard(path)  # other errors do not say whether the change is on record: the next start settles the file
            raise
        discard(path)


def _file_of(home: Home, settings: dict[str, Any], command: commands.Control) -> tuple[str, bytes]:
    """Path and content, or two empty ones; content that is malformed is the gate's to refuse."""
    try:
        if command.action == "policy.set":
            return home.inside(settings["policy"]["file"]), json.loads(command.content)["text"].encode()
        if command.action in CONFIGURING:
            return home.config_file, configuration_text(command.content)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return "", b""


def configuration_text(content: bytes) -> bytes:
    """A TOML file that resolves to this canonical configuration. Raises ValueError, TypeError for content that is none."""
    import tomlkit

    head = "# As the log says: made by the serving node for a change that came over its API.\n\n"
    return (head + tomlkit.dumps(json.loads(content))).encode()


def require_secret(home: Home, signer: KeySigner, command: commands.Control) -> None:
    """Raise ConfigurationError or SecurityError where the value whose digest is to be recorded is not in the store: nobody could
    use it afterwards."""
    try:
        mark = json.loads(command.content)["mark"]
    except (ValueError, TypeError, KeyError):
        return  # the gate's to refuse
    if not isinstance(mark, str):
        return
    try:
        SecretStore(home, signer).get(command.resource, mark)
    except ConfigurationError as error:
        error.remedy = "set it with `femtoclaw secret set`, which puts the value there"
        raise
