"""Checks of the log: what stands on the disk, verified and derived again, and what tampering with it comes to."""

from __future__ import annotations

import os
import stat

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.checks_events import trails
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.logs import TAMPERINGS, flipped, proofs, tampered, twin_verified, verified
from femtoclaw.compliance.session import session
from femtoclaw.compliance.stores import STORE_NAMES, metadata, stores
from femtoclaw.compliance.tracing import CLIENTS, failures, synced


@shows("STORAGE-25.1", "SUITE-2.2", "WHITE-15.2", "STORAGE-13.2")
def everything_derives_again(laboratory: Laboratory) -> str:
    """The state and every decision follow again from the records alone, and equal what the node hashed into its log."""
    said = []
    for name, report in (("log", laboratory.once(verified)), ("twin", laboratory.once(twin_verified))):
        need(report["ok"], f"nothing found in the {name}", report["findings"][:2])
        need(report["state_hash"], f"a state hash of the {name}")
        said.append(
            f"{name}: {report['size']} records, {report['decisions']} decisions, state {report['state_hash'][:16]}"
        )
    hashed = laboratory.once(session).trail.of("StateHashed")
    need(hashed, "state hashes in the twin's log")
    need(laboratory.once(twin_verified)["decisions"] > 100, "the twin's decisions derived again")
    return "; ".join([*said, f"compared with the hashes at twin: {', '.join(str(each.index) for each in hashed)}"])


@shows("STORAGE-12.1")
def every_record_decodes(laboratory: Laboratory) -> str:
    """Each record of the whole log has its checksum, its place in the chain, and the schema of its event type."""
    report = laboratory.once(verified)
    need(report["ok"], "no finding", report["findings"][:2])
    own, twin = trails(laboratory)
    for trail in (own, twin):
        every(
            ((f"index {each.index}", len(each.link) == 64 and each.time_ns > 0) for each in trail.told), "link and time"
        )
    need(not report["skipped"], "nothing skipped", report["skipped"][:1])
    return f"{report['size']} records, root {report['root']}"


@shows("STORAGE-6.3", "AUDIT-8.1", "AUDIT-22.1", "RUNBOOK-23.2")
def tampering_is_found(laboratory: Laboratory) -> str:
    """A record that is edited, deleted, swapped, inserted, cut off, forged or dated anew is found and its index named."""
    found = laboratory.once(tampered)
    need(not found["untouched"], "an untouched copy without findings", found["untouched"][:2])
    every(((name, found.get(name)) for name in TAMPERINGS), "a finding for each kind of tampering")
    return "; ".join(f"{name}: {codes[0]}" for name, codes in found.items() if codes)


@shows("STORAGE-16.2")
def every_flipped_bit_is_found(laboratory: Laboratory) -> str:
    """One bit of every byte of the newest records, one at a time: each flip is detected by the record's own checks."""
    tried, missed = laboratory.once(flipped)
    need(tried > 1000, "more than 1000 flips", tried)
    need(not missed, "every flip detected", missed[:3])
    return f"{tried} flips in the newest records, none missed"


@shows("STORAGE-15.1", "STORAGE-16.1", "CRYPTO-9.1")
def the_tree_proves_growth(laboratory: Laboratory) -> str:
    """Inclusion and consistency are proven against the root, with log2(N) hashes; a rewritten history fails its proof."""
    found = laboratory.once(proofs)
    need(found.included and found.consistent, "proofs that verify", found)
    need(found.altered_refused, "an altered record whose proof fails")
    need(found.rewritten_refused, "a rewritten history whose proof fails")
    need(found.hashes <= max(1, found.size - 1).bit_length() + 1, "log2(N) hashes", found.hashes)
    return f"root {found.root} over {found.size} records, {found.hashes} hashes a proof"


@shows("STORAGE-10.2", "STORAGE-10.1")
def the_disk_is_synced(laboratory: Laboratory) -> str:
    """An append is written, then its promise, both synced to the disk, and only then is it acknowledged."""
    found = laboratory.once(synced)
    need(found["order"], "the append, then the promise, then the receipt", found["calls"])
    need(found["flags"]["sync"] and found["flags"]["metasync"], "LMDB with sync and metasync", found["flags"])
    need(not found["flags"]["map_async"] and not found["flags"]["writemap"], "no asynchronous map", found["flags"])
    need(found["head_synchronous"], "a HEAD whose writes return when they are durable")
    return f"{' > '.join(found['calls'])} > receipt; {found['by']}"


@shows("STORAGE-10.3", "STORAGE-21.1", "STORAGE-21.2", "AUDIT-21.1")
def a_failed_write_stops_everything(laboratory: Laboratory) -> str:
    """After a failed write or sync every waiting caller is told, nothing is written again, and what was acknowledged is kept."""
    said = []
    for name, found in laboratory.once(failures).items():
        need(found.told == CLIENTS, f"all {CLIENTS} callers told of: {name}", found.told)
        need(not found.wrote_on, f"no write after: {name}")
        need(
            found.opens_again and found.kept >= found.acknowledged,
            f"all that was acknowledged kept after: {name}",
            found,
        )
        said.append(f"{name}: {found.told} told, {found.kept} of {found.acknowledged} acknowledged kept")
    need(len(said) >= 4, "four kinds of faults", len(said))
    return "; ".join(said)


@shows("STORAGE-18.2", "DEPLOY-9.2", "STORAGE-17.1")
def files_are_their_owners(laboratory: Laboratory) -> str:
    """The home is 0700, log and keys are 0600 or 0700, all owned by one user; a claw cannot reach any of them."""
    home = laboratory.home
    owner = os.stat(home.path).st_uid
    paths = [home.log, os.path.join(home.log, "data", "data.mdb"), home.key_file, home.operators]
    paths += [os.path.join(home.operators, name) for name in os.listdir(home.operators) if name.endswith(".key")]
    for path in paths:
        status = os.stat(path)
        need(not stat.S_IMODE(status.st_mode) & 0o077, f"no right of others on {path}", oct(status.st_mode))
        need(status.st_uid == owner, f"{path} owned as the home", status.st_uid)
    need(not stat.S_IMODE(os.stat(home.path).st_mode) & 0o022, "a home that others cannot write")
    attacks = laboratory.once(session).attacks
    reached = [name for name, got in attacks.items() if got and name != "read its own file"]
    need(not reached, "no attack of a claw that reaches them", reached)
    named = ", ".join(os.path.relpath(path, home.path) for path in paths[:3])
    return f"{len(paths)} paths of uid {owner}: {named}; {len(attacks) - 1} attacks"


@shows("STORAGE-4.1", "STORAGE-1.1", "STORAGE-3.1", "MEMORY-3.1")
def there_are_five_stores(laboratory: Laboratory) -> str:
    """Execution, audit, telemetry, configuration and metadata answer, each with rows that follow from the log."""
    found = laboratory.once(stores)
    every(((name, found[name]) for name in STORE_NAMES), "rows in each store")
    return ", ".join(f"{name} {len(rows)}" for name, rows in found.items())


@shows("STORAGE-7.1", "OBSERVE-4.1", "OBSERVE-2.1")
def telemetry_counts_what_happened(laboratory: Laboratory) -> str:
    """Telemetry has executions, errors, decisions and transitions, as many as the log has of them."""
    rows = laboratory.once(stores)["telemetry"]
    trail = laboratory.once(session).trail
    kinds = {row["event_type"] for row in rows}
    wanted = {
        "input_received", "protocol_validated", "authorization_decision", "capability_start", "capability_complete",
        "memory_write", "execution_complete", "execution_failed",
    }  # fmt: skip
    need(wanted <= kinds, f"the eight points {sorted(wanted)}", sorted(kinds))
    pairs = {
        "InputReceived": "input_received",
        "AuthorizationDecided": "authorization_decision",
        "ExecutionStarted": "capability_start",
    }
    said = []
    for event, point in pairs.items():
        counts = len(trail.of(event)), sum(row["event_type"] == point for row in rows)
        need(counts[0] == counts[1], f"as many {point} as {event}", counts)
        said.append(f"{counts[0]} {point}")
    return ", ".join(said)


@shows("STORAGE-7.2")
def telemetry_tells_what_the_audit_tells(laboratory: Laboratory) -> str:
    """Execution and outcome from telemetry alone equal those from the log, and each row names the record it comes from."""
    rows = laboratory.once(stores)["telemetry"]
    trail = laboratory.once(session).trail
    ends = {each.event.execution_id: each.index for each in trail.of("ExecutionCompleted", "ExecutionFailed")}
    points = {
        row["execution_id"]: row["log_index"]
        for row in rows
        if row["event_type"] in ("execution_complete", "execution_failed")
    }
    need(ends == points, "the same ends in both", f"{len(ends)} and {len(points)}")
    return f"{len(ends)} executions, joined by index {min(ends.values())} to {max(ends.values())}"


@shows("STORAGE-20.1")
def storage_tells_of_itself(laboratory: Laboratory) -> str:
    """Writes, commits and recoveries are telemetry of the storage, with store, sequence and bytes."""
    rows = [row for row in laboratory.once(stores)["telemetry"] if row["class"] == "storage"]
    kinds = {row["event_type"] for row in rows}
    need({"storage_write", "storage_commit", "storage_recovery"} <= kinds, "write, commit and recovery", sorted(kinds))
    writes = [row for row in rows if row["event_type"] == "storage_write"]
    every(
        ((f"row {row['number']}", row["store"] and row["sequence"] and row["bytes"]) for row in writes),
        "store, sequence, bytes",
    )
    return f"{len(rows)} rows: {', '.join(sorted(kinds))}"


@shows("STORAGE-8.1", "STORAGE-8.2", "CONFIG-17.1")
def configurations_have_a_history(laboratory: Laboratory) -> str:
    """Each version of the configuration is kept with its digest, operator and time, and the digest is of its content."""
    from femtoclaw import config

    rows = [row for row in laboratory.once(stores)["configuration"] if row["kind"] == "configuration"]
    need(len(rows) > 1, "several versions in the twin's session", len(rows))
    before = ""
    for row in rows:
        need(row["previous"] == before, "each version names the one before", row["version"])
        need(row["operator"] and row["time_ns"], "operator and time", row["version"])
        content = row["content"].encode() if isinstance(row["content"], str) else row["content"]
        need(config.digest(content) == row["digest"], "a digest of the content", row["version"])
        before = row["digest"]
    return "; ".join(
        f"version {row['version']} {row['digest'][:12]} at {row['log_index']} by {row['operator']}" for row in rows
    )


@shows("STORAGE-9.1")
def metadata_is_kept(laboratory: Laboratory) -> str:
    """Runtime id, version, module versions and the registry's state are in the metadata, and a switched-off claw stays off."""
    found = laboratory.once(metadata)
    need(found["runtime_id"] and found["runtime_version"], "id and version", found)
    need(found["modules"], "module versions", found)
    need(
        found["switched_off"] == "DENIED_CAPABILITY_DISABLED",
        "a claw that stays off behind a restart",
        found["switched_off"],
    )
    need(found["runtime_id"] == found["runtime_id_after"], "one runtime id", found)
    return f"runtime {found['runtime_id']}, {len(found['modules'])} claws, system.info stays disabled"


@shows("STORAGE-9.2")
def metadata_follows_from_the_log(laboratory: Laboratory) -> str:
    """Without the derived tables they are made again, equal; without the log nothing starts."""
    found = laboratory.once(metadata)
    need(found["rebuilt"] == found["before"] and found["before"], "equal rows after the index was deleted")
    need(found["without_log"] != 0, "a refused start without the log", found["without_log"])
    return f"{len(found['before'])} rows rebuilt equal; without the log: exit {found['without_log']}"
