"""A home of the format before, made by this program: for measurements of migrations, which need something to migrate.

It is what a node of that format had: no operators, no control policy, no index of the key files, no pin; and events of types
that have gained fields since are recorded in their first version. Its history is that of a node that executed, denied and
rejected.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time

import msgpack

from femtoclaw import commands, config
from femtoclaw.authority import Authority
from femtoclaw.claws import SHIPPED
from femtoclaw.compliance.simulation import CALLS, Counting
from femtoclaw.distribution import pin_path
from femtoclaw.event_codec import UPCASTERS
from femtoclaw.gate import Gate
from femtoclaw.home import Home, claw_names, effective_configuration, policy_text
from femtoclaw.key_index import FILE_NAME as KEY_INDEX
from femtoclaw.keys import load_signer
from femtoclaw.migration.building import appends
from femtoclaw.policy import engine_version
from femtoclaw.runtime import Runtime
from femtoclaw.sources import scripted
from femtoclaw.state import EMPTY
from wal import Genesis, create_log_directory, open_log_directory
from wal.log import Log, create_log
from wal.memory_storage import MemoryStorage
from wal.note import Signer

HOUR_NS = 3600 * 10**9


def make_earlier(fresh: str, to: str, records: int = 0) -> Home:
    """A home of format 1 at ``to``, with the key, configuration and policy of the home ``fresh``; with at least ``records``
    records. Raises ConfigurationError, LogError, OSError."""
    made, signer = Home(to), load_signer(Home(fresh))
    shutil.copytree(
        fresh, to, symlinks=True, ignore=shutil.ignore_patterns("log", "index", "boot.journal", "operators")
    )
    os.mkdir(made.operators, 0o700)
    for path in (os.path.join(os.path.dirname(made.key_file), KEY_INDEX), pin_path(made)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    effective = effective_configuration(made, claw_names(SHIPPED))
    genesis = Genesis(signer.public.name, signer.public, bytes(16))
    worked = _work(made, genesis, signer)
    map_bytes = int(effective["memory"]["map_bytes"])
    create_log_directory(made.log, genesis, signer=signer, clock=time.time_ns, map_bytes=map_bytes)
    clock = _Times()
    log, _ = open_log_directory(made.log, signer=signer, clock=clock, map_bytes=map_bytes)
    for batch in appends(worked.scan(2, worked.size + 1)):
        clock.now_ns = max(clock.now_ns, batch[0].time_ns)
        log.append([earlier_bytes(record.payload) for record in batch])
    line = worked.read(worked.size).payload
    for _ in range(records - log.size):
        log.submit([line])  # an append for each, and one commit for many
    log.close()
    return made


class _Times:
    """The clock of the log that is made: an hour ago, from there on as the history says."""

    def __init__(self) -> None:
        self.now_ns = time.time_ns() - HOUR_NS

    def __call__(self) -> int:
        return self.now_ns


def _work(home: Home, genesis: Genesis, signer: Signer) -> Log:
    """A log in memory with the identity and the history of the node."""
    sources = scripted(11, start_ns=time.time_ns() - HOUR_NS)
    log = create_log(MemoryStorage(), genesis, signer=signer, clock=sources.wall_ns, threaded=False)
    authority = Authority(log, EMPTY)
    effective = effective_configuration(home, claw_names(SHIPPED))
    authority.perform(commands.Provision(sources.new_id(), "0.0.1", "owner"))
    for claw in SHIPPED:
        authority.perform(commands.RegisterClaw(claw.canonical()))
    authority.perform(commands.AdoptConfiguration(config.canonical(effective), "owner"))
    authority.perform(commands.AdoptPolicy(policy_text(home, effective), engine_version(), "owner"))
    authority.perform(commands.StartRuntime("boot", "0.0.1", "python", "open"))
    runtime = Runtime(log, authority, Gate(Counting(), lambda: authority.state), sources, concurrency_max=8)
    for raw in CALLS:
        runtime.intent(raw)
    authority.perform(commands.RecordError("0" * 26, "RUNTIME", "INFO", "HISTORY", "measurement", "a line of history"))
    return log


def earlier_bytes(payload: bytes) -> bytes:
    """The event as its first version had it, without what was added later; as it is where it never changed."""
    code, version, *fields = msgpack.unpackb(payload, use_list=False)
    while (code, version - 1) in UPCASTERS:
        version -= 1
        fields = fields[: len(fields) - len(UPCASTERS[code, version](()))]
    raw: bytes = msgpack.packb((code, version, *fields), use_bin_type=True)
    return raw
