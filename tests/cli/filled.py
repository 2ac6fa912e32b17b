"""A node whose log has a sealed segment."""

from __future__ import annotations

from femtoclaw import boot, commands
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from femtoclaw.sources import live
from tests.cli.node import Node
from wal.directory import open_log_directory
from wal.limits import SEGMENT_RECORDS


def fill(node: Node) -> None:
    """As many records as fill a segment, without a commit for each."""
    home = Home(str(node.path))
    started = boot.start(home, live())
    started.authority.perform(commands.RecordError("0" * 26, "RUNTIME", "INFO", "TEST", "test", "a line of history"))
    line = started.log.read(started.log.size).payload
    boot.stop(started, "worked")
    log, _ = open_log_directory(home.log, signer=load_signer(home), clock=live().wall_ns)
    for _ in range(SEGMENT_RECORDS):
        log.submit([line])
    log.close()
