"""``cluster rejoin``: an operator's word that a member whose disk was put back votes again: nobody is left to catch up from."""

from __future__ import annotations

import os

from femtoclaw.cli.entitled import entitled
from femtoclaw.cli.member_words import refuse_single
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import UnavailableError
from femtoclaw.home import Home, require


def rejoin(home: Home, arguments: Arguments, output: Output) -> int:
    """0 when this member votes again. It accepts that records which it had acknowledged may be lost: for when all members were put
    back, or rebuilt from an archive. Raises ControlRefusedError for whom the control policy does not let name who leads."""
    from cluster.replica_store import STATE_FILE, decode_durable, encode_durable
    from femtoclaw.api.socket import is_served
    from femtoclaw.cluster_home import ETCD, read_settings
    from femtoclaw.home import journal
    from femtoclaw.sources import live
    from wal.durable_file import read_file, write_file

    require(home)
    refuse_single(home)
    if is_served(home):
        raise UnavailableError(
            "the node is at work", where=home.path, remedy="stop `femtoclaw serve` for this home, then run this again"
        )
    settings = read_settings(home)
    operator = entitled(home, arguments, "leadership.transfer", settings.name)
    path = os.path.join(home.log, STATE_FILE)
    durable = decode_durable(read_file(path), home.log)
    if not durable.restored:
        output.data({"member": settings.name, "restored": False})
        output.line(f"{settings.name} votes: nothing was changed")
        return 0
    write_file(path, encode_durable(durable._replace(restored=False, commit=0, vouched=0, leader="")))
    journal(home, live().wall_ns(), "cluster_rejoin", member=settings.name, operator=operator)
    output.data({"member": settings.name, "restored": False, "operator": operator})
    output.line(f"{settings.name} votes again from its next start on", "green")
    output.note(
        "do this on a majority of machines only when the records that are missing are nowhere: they are given up by it"
    )
    if settings.coordinator == ETCD:
        output.note(
            "etcd's register still says what was stored before: give all members another `etcd_prefix` in cluster.toml"
        )
    return 0
