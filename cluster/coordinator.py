"""The port to who may lead a log, and to the register of what is known to be stored. Pure.

A coordinator decides nothing about records. It grants leadership together with an *epoch*, a number that no later grant
repeats or goes below, and keeps one *register*. It is never the reason why a record is safe: voters fence by epochs that
they keep themselves. So a wrong answer here may stop a cluster, but takes no acknowledged record away.

What every implementation promises (``tests/contract/test_coordinator.py`` holds each to it):

- ``campaign`` gives back what this object still held, then seeks leadership anew. It answers with a new epoch, above
  ``above``, or None while somebody else has it (also an earlier run of the same member, until its lease ends). One
  atomic act: of any number of candidates at most one obtains an epoch.
- ``above`` is the highest epoch that the caller has stored or promised. A coordinator that is behind it has lost what it
  had confirmed: EpochRegressionError, and what was obtained has been given back.
- ``leader``, ``attests`` and ``register`` see everything that was confirmed to anyone before the call began.
- ``attests`` says whether this member leads with this epoch now, as far as can be told here: the embedded one on another
  node than the owner's knows only the owner's name and a lowest epoch.
- ``publish`` is one atomic act: the register becomes the given one only while the leadership of ``epoch`` stands and the
  register's version is still ``register.version`` (0 when there is none yet). It answers with the new version, None
  when nothing was changed. To publish the same again, because an answer was lost, is answered as the first was.
- ``held`` is a local view that asks nobody: True only while the leadership cannot have ended by its lease. It counts from
  before the request that prolonged the lease, on a clock that also runs while the machine is suspended, and once it
  was False it stays False until the next ``campaign``. It is early, never late; but it says nothing about what is still
  under way, which is why voters compare epochs.
- ``resign`` gives leadership back at once; ``held`` is False afterwards, even when the call raises.
- ``wait_change`` returns True as soon as the leadership may differ from what this object last saw (nobody, at first), and
  False when the time is over, at the latest its own call's time limit later.
- ``close`` lets go of all resources. It does not resign: leadership that was not given back ends with its lease.

Every call returns or raises within its stated time. CoordinatorUnavailableError: no answer; for ``campaign``, ``publish`` and
``resign`` the outcome is then unknown, and asking again is safe. After an EpochRegressionError the object answers
nothing else any more: somebody must look.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import Any, NamedTuple, Protocol

import msgpack

from cluster.errors import CorruptRegisterError
from cluster.limits import NAME_CHARACTERS_MAX, PROMISES_MAX, REGISTER_BYTES_MAX, WAIT_S_MAX

FORMAT = 1
ROOT_BYTES = 32
NUMBER_MAX = (1 << 63) - 1


class Register(NamedTuple):
    """What a leader last said was committed: record ``size`` of ``epoch`` under ``root``, and who stores all of it.

    ``in_sync`` is sorted and holds each name once. ``version`` counts publications from 1; it is what the next
    ``publish`` must have seen, and 0 when there is none yet. ``stored`` are (name, size) pairs, sorted by name: how much each
    member had acknowledged then. A member that starts with less has lost its disk, or got an older one back.
    """

    epoch: int
    size: int
    root: bytes
    in_sync: tuple[str, ...]
    version: int
    stored: tuple[tuple[str, int], ...] = ()


class Coordinator(Protocol):
    """Who leads one log, seen by one member. Methods may be called from any thread."""

    def campaign(self, member: str, above: int = 0) -> int | None: ...

    def leader(self) -> tuple[str, int] | None: ...

    def attests(self, member: str, epoch: int) -> bool: ...

    def register(self) -> Register | None: ...

    def publish(self, epoch: int, register: Register) -> Register | None: ...

    def held(self) -> bool: ...

    def resign(self) -> None: ...

    def wait_change(self, timeout_s: float) -> bool: ...

    def close(self) -> None: ...


def encode_register(register: Register) -> bytes:
    """msgpack array: format, epoch, size, root, names, pairs of name and size. The version is not in it: the coordinator counts.

    Raises ValueError for a register that ``decode_register`` would refuse: that is the caller's defect.
    """
    raw: bytes = msgpack.packb(
        [FORMAT, register.epoch, register.size, register.root, list(register.in_sync), list(register.stored)]
    )
    _check(register._replace(version=max(register.version, 0)))
    if len(raw) > REGISTER_BYTES_MAX:
        raise ValueError(f"a register of {len(raw)} bytes")
    return raw


def decode_register(raw: bytes, version: int, where: str = "register") -> Register:
    """Read the register's bytes; every type, length and range is checked, and there is one spelling only.

    Raises CorruptRegisterError.
    """
    try:
        if len(raw) > REGISTER_BYTES_MAX:
            raise ValueError(f"{len(raw)} bytes")
        fields = msgpack.unpackb(raw, use_list=False, max_ext_len=0)
        if type(fields) is not tuple or len(fields) != 6 or fields[0] != FORMAT:
            raise ValueError("not format 1")
        _, epoch, size, root, in_sync, stored = fields
        register = Register(epoch, size, root, in_sync, version, stored)
        _check(register)
        if encode_register(register) != raw:
            raise ValueError("another spelling")
        return register
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CorruptRegisterError("the coordinator's register does not decode", where=where, found=error) from error


def check_wait(timeout_s: float) -> float:
    """A bounded time to wait in seconds. Raises ValueError below 0 or above ``WAIT_S_MAX``."""
    if not 0 <= timeout_s <= WAIT_S_MAX:
        raise ValueError(f"a wait of {timeout_s} s")
    return timeout_s


def _check(register: Register) -> None:
    for number in (register.epoch, register.size, register.version):
        if type(number) is not int or not 0 <= number <= NUMBER_MAX:
            raise ValueError("not a number of 63 bits")
    if type(register.root) is not bytes or len(register.root) != ROOT_BYTES:
        raise ValueError(f"not a root of {ROOT_BYTES} bytes")
    names: Any = register.in_sync
    if type(names) is not tuple or len(names) > PROMISES_MAX:
        raise ValueError(f"not at most {PROMISES_MAX} names")
    if not all(type(name) is str and 0 < len(name) <= NAME_CHARACTERS_MAX for name in names):
        raise ValueError("not a member's name")
    if list(names) != sorted(set(names)):
        raise ValueError("names are not sorted, or are doubled")
    pairs: Any = register.stored
    if type(pairs) is not tuple or len(pairs) > PROMISES_MAX:
        raise ValueError(f"not at most {PROMISES_MAX} pairs")
    if any(type(pair) is not tuple or [type(each) for each in pair] != [str, int] for pair in pairs):
        raise ValueError("not pairs of a name and a size")
    if any(not 0 < len(name) <= NAME_CHARACTERS_MAX or not 0 <= size <= NUMBER_MAX for name, size in pairs):
        raise ValueError("not a member's name, or not a size")
    if [name for name, _ in pairs] != sorted({name for name, _ in pairs}):
        raise ValueError("pairs are not sorted, or are doubled")
