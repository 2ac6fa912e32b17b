"""A leader whose settings name an archive: what is committed and sealed goes there by itself, and the archive verifies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from femtoclaw.cluster_home import read_settings, settings_path, settings_text
from femtoclaw.event_codec import encode
from femtoclaw.events import ErrorRecorded
from femtoclaw.keys import load_signer
from tests.cli.node import SAY
from tests.cluster.links_between import Loopback, until
from tests.cluster.members import ClusterProcesses, MemberProcess
from wal.limits import SEGMENT_RECORDS
from wal.lmdb_storage import LmdbStorage
from wal.opening import open_log

SEALED_S = 40.0


def fill(member: MemberProcess, records: int) -> None:
    """So many events more, at once: what a year of work leaves behind."""
    line = encode(ErrorRecorded("0" * 26, "RUNTIME", "INFO", "TEST", "test", "a line of history"))
    storage = LmdbStorage(member.home.log, writable=True)
    signer = load_signer(member.home)
    log, _ = open_log(storage, signer=signer, clock=time.time_ns, leading=lambda log: None)
    for ticket in [log.submit([line] * 512) for _ in range(records // 512)]:
        log.settle(ticket)
    log.close()


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[MemberProcess]:
    """The only voter of its cluster, with more than a segment of records; not started."""
    network = Loopback()
    cluster = ClusterProcesses(tmp_path, network, names=("a",))
    try:
        member = cluster["a"]
        fill(member, SEGMENT_RECORDS + 512)
        settings = read_settings(member.home)._replace(archive="archive")
        Path(settings_path(member.home)).write_text(settings_text(settings))
        cluster.start()
        cluster.wait_leader()
        yield member
    finally:
        print(cluster["a"].last_words())
        cluster.close()
        network.close()


def test_a_leader_archives_what_is_sealed(leader: MemberProcess) -> None:
    """The segment lies in the folder while the leader works on, and `archive verify` is clean: all of it is committed."""
    archive = leader.node.path / "archive"
    until(
        lambda: any(archive.glob("*/segments/*")), "a segment is archived", SEALED_S, lambda: list(archive.rglob("*"))
    )
    assert leader.node.intent(SAY).body["decision"] == "AUTHORIZED"
    body = leader.node.call("archive", "verify", str(archive)).body
    assert (body["ok"], body["size"], body["findings"]) == (True, SEGMENT_RECORDS, [])
    assert int(leader.status()["commit"]) > SEGMENT_RECORDS
    assert not (leader.node.path / "boot.journal").read_text().count('"ARCHIVE"')
