"""Checks of brains, libraries, locks, bounds and latencies: what the other areas leave."""

from __future__ import annotations

from femtoclaw.compliance.checking import CannotMeasureError, every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.measures_more import (
    SHIPPINGS,
    brains,
    changes,
    growing,
    latencies,
    libraries,
    locked,
    parsed_twice,
    rows_under_load,
    shipped,
    standing_words,
    storages,
)
from femtoclaw.compliance.operating import backed_up
from femtoclaw.compliance.session import session


@shows("WHITE-5.2")
def three_kinds_of_brains(laboratory: Laboratory) -> str:
    """A script, an engine in this process and one over HTTP with bounds pass the same call; replay asks none of them."""
    found = laboratory.once(brains)
    every(((name, found.get(name)) for name in ("script", "echo", "http")), "an answer")
    need(found["http unreachable"] and found["http too long"], "a bounded failure of the remote one", found)
    return ", ".join(f"{name}: {said[:60]}" for name, said in found.items())


@shows("WHITE-8.1", "PROTO-14.1")
def parsing_is_a_function(laboratory: Laboratory) -> str:
    """Ten thousand mutated messages get the same verdicts in two orders, and none is repaired."""
    found = laboratory.once(parsed_twice)
    need(found["messages"] >= 10_000, "ten thousand messages", found["messages"])
    need(found["first"] == found["second"], "equal verdicts", (found["first"], found["second"]))
    need(found["rejected"] > found["messages"] // 2, "most of them rejected", found["rejected"])
    return f"{found['messages']} messages, verdicts {found['first'][:16]} twice"


@shows("WHITE-12.2", "CERT-14.1")
def libraries_are_pinned(laboratory: Laboratory) -> str:
    """Every library that is imported is installed with a known version, and the node runs without any outside service."""
    found = laboratory.once(libraries)
    need(not found["foreign"], "only libraries that are declared", found["foreign"])
    every(found["versions"].items(), "a version of each")
    step = laboratory.once(session).steps["message"]
    need(step.outcome == "answered", "work without an outside service", step)
    return ", ".join(f"{name} {version}" for name, version in found["versions"].items())


@shows("STORAGE-18.1")
def one_writer_at_a_time(laboratory: Laboratory) -> str:
    """A second process that opens the log for writing is refused by the writer's lock; a reader cannot write."""
    found = laboratory.once(locked)
    need(found["second"] == "LogLockedError", "a refused second writer", found["second"])
    need(not found["reader_writes"], "a reader without any way to write", found["reader_writes"])
    return f"second writer: {found['second']}; methods of a reader: {', '.join(found['reader'])[:160]}"


@shows("STORAGE-5.2", "STORAGE-6.2")
def records_cannot_be_changed(laboratory: Laboratory) -> str:
    """The log's interface has no update and no delete; an append on a used index is refused; earlier bytes stay the same."""
    found = laboratory.once(locked)
    need(not found["changing"], "no method that changes or removes records", found["changing"])
    need(found["overwrite"], "a refused append on a used index", found["overwrite"])
    need(
        found["before"] == found["after"] and found["before"], "the same bytes after more appends", found["before"][:16]
    )
    return f"{found['overwrite']}; records 1 to 10 keep digest {found['before'][:24]}"


@shows("STORAGE-4.2")
def two_backends_keep_the_contract(laboratory: Laboratory) -> str:
    """The same appends give the same records, the same refusals and the same verification on LMDB and on the second backend."""
    found = laboratory.once(storages)
    need(len(found) == 2, "two backends", sorted(found))
    need(len({tuple(each.items()) for each in found.values()}) == 1, "the same of both", found)
    every(next(iter(found.values())).items(), "kept")
    return f"{' and '.join(found)}: {', '.join(next(iter(found.values())))}"


@shows("STORAGE-12.2", "MEMORY-6.1")
def readers_see_whole_states(laboratory: Laboratory) -> str:
    """While writers append, each snapshot that a reader takes has a head, a count and a last record that agree."""
    found = laboratory.once(rows_under_load)
    need(found["snapshots"] >= 100 and found["appended"] > 0, "snapshots during appends", found)
    need(not found["torn"], "no torn one", found["torn"])
    return f"{found['snapshots']} snapshots during {found['appended']} appends, none torn"


@shows("STORAGE-19.1")
def slow_storage_is_only_slow(laboratory: Laboratory) -> str:
    """With 50 ms a write nothing is acknowledged early, the order stays, and the log verifies."""
    found = laboratory.once(rows_under_load)
    need(found["slow_ms"] >= 45, "an acknowledgement that waits for the disk", found["slow_ms"])
    need(found["slow_sound"], "a log that verifies")
    return f"acknowledged after {found['slow_ms']:.0f} ms at the earliest, with 50 ms a write"


@shows("PERF-7.1", "PERF-6.1")
def verdicts_are_fast(laboratory: Laboratory) -> str:
    """Validation and authorization take less than 2 ms of processor time, at the 99th percentile too."""
    found = laboratory.once(latencies)
    for name in ("validate 1 KB", "validate 10 KB", "validate 100 KB", "authorize"):
        need(found[name][1] < 2000, f"p99 of {name} below 2 ms", f"{found[name][1]:.0f} us")
    return ", ".join(f"{name}: median {median:.0f} us, p99 {late:.0f} us" for name, (median, late) in found.items())


@shows("WHITE-11.1", "PERF-10.1")
def a_start_is_below_a_second(laboratory: Laboratory) -> str:
    """A whole start and stop of the program is below the limit of one second; interpreter and runtime are told apart."""
    found = laboratory.once(latencies)
    whole = found["start of the process"][0] / 1e6
    need(whole < 1.0, "below one second", f"{whole:.2f} s")
    bare = found["interpreter alone"][0] / 1e6
    goal = "met" if whole < 0.01 else "missed"
    return f"median {whole * 1000:.0f} ms, of which the interpreter {bare * 1000:.0f} ms; the White Paper's 10 ms is {goal}"


@shows("RUNBOOK-21.2")
def the_banner_follows_the_record(laboratory: Laboratory) -> str:
    """UNVERIFIED until a report on this build is on record, then what it says; another build's does not count."""
    found = laboratory.once(standing_words)
    wanted = {
        "no report": "UNVERIFIED",
        "a good one": "COMPLIANT",
        "a failing one": "NON_COMPLIANT",
        "another build": "UNVERIFIED",
    }
    for name, word in wanted.items():
        need(found[name] == word, f"{word} with {name}", found[name])
    need(found["recorded"], "the run on record with operator, scope, result and digest", found["recorded"])
    return f"{', '.join(f'{name}: {word}' for name, word in wanted.items())}; on record: {found['recorded'][:120]}"


@shows("UPGRADE-21.1", "CONFIG-12.1")
def changes_need_their_role(laboratory: Laboratory) -> str:
    """Without credentials or with a wrong role, a change of configuration, claws or mode is refused and changes nothing."""
    found = laboratory.once(changes)
    every(((name, code != 0) for name, code in found["codes"].items()), "a refusal")
    need(found["before"] == found["after"], "the same digests in force", found)
    return ", ".join(f"{name}: exit {code}" for name, code in found["codes"].items())


@shows("RUNBOOK-19.2")
def restores_say_what_is_lost(laboratory: Laboratory) -> str:
    """A restored node does not go on in silence: what it says before is on record, with what was lost, and both logs verify."""
    found = laboratory.once(backed_up)
    need(found.answers["resume"].code == 0, "a stated resumption", found.answers["resume"].stderr[-160:])
    need("lost_first" in found.answers["resume"].body, "the range that was lost", found.answers["resume"].body)
    need(found.answers["restored verify"].code == 0, "a restored log that verifies")
    return f"recorded at {found.answers['resume'].body['recorded_at']}: lost from {found.answers['resume'].body['lost_first']}"


RSS_GROWTH_KB_MAX = 150_000
PROGRAM_BYTES_MAX = 20_000_000
APPEND_FACTOR_MAX = 10.0


@shows("WHITE-11.2")
def memory_is_bounded(laboratory: Laboratory) -> str:
    """Over hundreds of executions the served node's resident memory grows by less than the stated limit of 150 MB."""
    found = laboratory.once(session)
    before, after = (int(found.process[name].split()[0]) for name in ("VmRSS", "RSS after"))
    need(len(found.trail.of("InputReceived")) > 100, "a hundred executions")
    need(after - before < RSS_GROWTH_KB_MAX, f"less than {RSS_GROWTH_KB_MAX} kB more", after - before)
    return f"{before} kB, then {after} kB after {len(found.trail.of('InputReceived'))} executions"


@shows("WHITE-12.1")
def it_needs_no_network(laboratory: Laboratory) -> str:
    """The served node holds no TCP socket at all: it serves at a socket of its home, as in an air-gapped place."""
    found = laboratory.once(session)
    if found.process["TCP"] == "unreadable":
        raise CannotMeasureError("root alone sees which sockets a process with keys holds")
    need(found.process["TCP"] == "", "no TCP socket", found.process["TCP"])
    need(found.steps["message"].outcome == "answered", "a node at work")
    return f"pid {found.pid}: no TCP socket; served at {found.home}/serve.sock"


@shows("STORAGE-19.2")
def appends_do_not_slow_down(laboratory: Laboratory) -> str:
    """An append to a log of 10,000 records takes less than ten times as long as to one of 1,000."""
    found = laboratory.once(growing)
    small, large = found["append at 1000"], found["append at 10000"]
    need(
        large < APPEND_FACTOR_MAX * max(small, 0.01),
        f"less than {APPEND_FACTOR_MAX:g} times",
        f"{small:.2f} ms and {large:.2f} ms",
    )
    return f"median of 40: {small:.2f} ms at 1,000 records, {large:.2f} ms at 10,000"


@shows("WHITE-11.3")
def the_program_is_small(laboratory: Laboratory) -> str:
    """Bytes of the program without its libraries, and processor time of a decision, both below their stated limits."""
    size, decided = laboratory.once(growing)["program bytes"], laboratory.once(latencies)["authorize"][0]
    need(size < PROGRAM_BYTES_MAX, f"less than {PROGRAM_BYTES_MAX} bytes", size)
    need(decided < 2000, "a decision below 2 ms", decided)
    return f"{size / 1e6:.1f} MB of sources; a decision takes {decided:.0f} us of processor time"


@shows("SUITE-3.6")
def shipped_records_are_checked(laboratory: Laboratory) -> str:
    """What a follower takes in goes through one door: a flipped bit, a gap, a swap, a repetition and a cut are refused there."""
    found = laboratory.once(shipped)
    need(found["whole"] == "", "whole frames taken", found["whole"])
    every(((name, found[name]) for name in SHIPPINGS), "a refusal")
    return ", ".join(f"{name}: {found[name]}" for name in SHIPPINGS)
