"""Measurements of the configuration: forms of files, what keys do, secrets by reference, and what is old and archived."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from functools import partial
from typing import Any

from femtoclaw import config
from femtoclaw.claws import SHIPPED
from femtoclaw.compliance.governed import _error
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import Quiet
from femtoclaw.compliance.trails import read_trail
from femtoclaw.compliance.twin import call, serving, twin
from femtoclaw.config_sources import FILE, Source, parse_file, resolve_sources
from femtoclaw.errors import ConfigurationError, FemtoClawError
from femtoclaw.home import Home, claw_names

_BODY: dict[str, Any] = {
    "runtime": {"steps_max": 9, "environment": "staging"}, "observability": {"denial_burst": 7},
    "capabilities": {"shell": {"enabled": True, "settings": {"binaries": ["/bin/echo"]}}},
}  # fmt: skip
_TOML = """\
[observability]
denial_burst = 7
[runtime]
environment = "staging"  # the same, in another order
steps_max = 9
[capabilities.shell]
enabled = true
settings.binaries = ["/bin/echo"]
"""
NOT_TAKEN = {
    "c.json": {
        "duplicate key": b'{"runtime":{"steps_max":9,"steps_max":10}}', "not a number": b'{"runtime":{"steps_max":NaN}}',
        "a list": b"[]", "cut": b'{"runtime":',
    },
    "c.toml": {
        "duplicate key": b"[runtime]\nsteps_max = 9\nsteps_max = 10\n", "duplicate table": b"[runtime]\n[runtime]\n",
        "a date": b"[runtime]\nagent = 2026-11-22\n",
    },
    "c.yaml": {
        "plain YAML": b"runtime:\n  steps_max: 9\n", "an object's tag": b"runtime: !!python/object/apply:os.system [id]\n",
        "an alias": b"a: &a [1]\nb: *a\n",
    },
}  # fmt: skip
"""Files that are refused, by the name that says their form."""


def forms(laboratory: Laboratory) -> dict[str, Any]:
    """The digest of one configuration in each form that there is, and what becomes of files that are wrong."""
    claws = claw_names(tuple(SHIPPED))
    written = {
        "JSON": ("c.json", json.dumps(_BODY).encode()), "JSON, other blanks": ("c.json", json.dumps(_BODY, indent=3).encode()),
        "TOML": ("c.toml", _TOML.encode()),
    }  # fmt: skip

    def effective(name: str, raw: bytes) -> dict[str, Any]:
        return resolve_sources((Source(FILE, name, parse_file(raw, name)),), claws)

    digests = {form: config.digest(config.canonical(effective(*each))) for form, each in written.items()}
    refused = {
        f"{name} with {what}": _error(partial(effective, name, raw))
        for name, told in NOT_TAKEN.items() for what, raw in told.items()
    }  # fmt: skip
    return {"digests": digests, "refused": refused}


IDENTITY = ("runtime_id", "version", "environment", "mode")


def identified(laboratory: Laboratory) -> dict[str, Any]:
    """Who a twin is; two of them; fields that are missing; and a second member of the same name, key or certificate."""
    from femtoclaw import events
    from femtoclaw.event_codec import EventFormatError, decode, encode

    bodies = {}
    for name in ("first", "second"):
        home = laboratory.copy(laboratory.once(twin), name) if name == "first" else _another(laboratory)
        status = laboratory.run(home, "status").body
        runtime = laboratory.run(home, "config", "show").body.get("configuration", {}).get("runtime", {})
        recorded = read_trail(name, os.path.join(home, "log")).of("NodeProvisioned")[0].event
        bodies[name] = {
            "runtime_id": status.get("runtime_id", ""), "version": recorded.version,
            "environment": runtime.get("environment", ""), "mode": runtime.get("mode", ""),
        }  # fmt: skip
    import msgpack

    raw = msgpack.unpackb(encode(events.NodeProvisioned("id", "0.1", "o")))
    missing = {}
    for at in range(2, len(raw)):
        try:
            decode(msgpack.packb([*raw[:at], *raw[at + 1 :]]))
            missing[f"field {at - 2} of who it is"] = ""
        except EventFormatError as error:
            missing[f"field {at - 2} of who it is"] = type(error).__name__
    for key in ("environment", "mode"):
        missing[f"runtime.{key}"] = _error(partial(config.resolve, {"runtime": {key: ""}}, "a file", None))
    return {"nodes": bodies, "missing": missing, "members": _members()}


def _another(laboratory: Laboratory) -> str:
    home = laboratory.place("second")
    laboratory.run(home, "init")
    return home


def _members() -> dict[str, str]:
    """What the leader says to members that join beside a known one."""
    from femtoclaw.key_file import SEED_BYTES, KeySigner
    from femtoclaw.membership import ADD, MembershipRefusedError, membership_after
    from wal.membership import Member

    keys = [KeySigner(f"femtoclaw.node/n{at}", bytes([at]) * SEED_BYTES).public for at in (1, 2)]
    known = membership_after(None, ADD, Member("n1", keys[0], "127.0.0.1:1", b"c1", True))
    asked = {
        "another": Member("n2", keys[1], "127.0.0.1:2", b"c2", False),
        "the same name": Member("n1", keys[1], "127.0.0.1:2", b"c2", False),
        "the same key": Member("n2", keys[0], "127.0.0.1:2", b"c2", False),
        "the same certificate": Member("n2", keys[1], "127.0.0.1:2", b"c1", False),
    }  # fmt: skip
    found = {}
    for name, member in asked.items():
        try:
            membership_after(known, ADD, member)
            found[name] = ""
        except (MembershipRefusedError, ConfigurationError) as error:
            found[name] = str(error.code)
    return found


def unobserved(laboratory: Laboratory) -> dict[str, Any]:
    """A twin outside of production whose telemetry is off: what leaves it, and what is recorded all the same."""
    home = laboratory.copy(laboratory.once(twin), "unobserved")
    production = laboratory.run(home, "config", "set", "observability.enabled=false")
    settings = (
        'runtime.environment="staging"', "observability.enabled=false", 'observability.log="events.jsonl"',
        'observability.listen="127.0.0.1:0"',
    )  # fmt: skip
    answer = laboratory.run(home, "config", "set", *settings)
    with serving(laboratory, home) as served:
        step = served.client.intent(call("fs.read", path="notes.txt"))
        told = laboratory.run(home, "health").body.get("telemetry", {})
    audit = laboratory.run(home, "audit", "query", "--execution", step.execution_id).body.get("events", [])
    return {
        "production": (production.code, production.error), "set": answer.code, "outcome": step.outcome,
        "lines": os.path.exists(os.path.join(home, "events.jsonl")), "listens": told.get("listens", ""),
        "sinks": sorted(told.get("sinks", {})), "audit": len(audit),
        "keys": sorted(config.EMBEDDED["observability"]),
    }  # fmt: skip


LITERAL = "hunter2-LITERAL-TOKEN"


def referenced(laboratory: Laboratory) -> dict[str, Any]:
    """Secrets of the configuration: literals that are refused, a reference, and where its value is seen."""
    from femtoclaw.incidents.delivery import _authorization

    home = laboratory.copy(laboratory.once(twin), "referenced")
    literals: dict[str, dict[str, Any]] = {
        "alert_token": {"observability": {"alert_token": LITERAL}},
        "api_key": {"runtime": {"brains": {"openai": {"api_key": LITERAL}}}},
        "token in an address": {"observability": {"traces": f"https://user:{LITERAL}@collector.example/"}},
    }
    refused = {name: _error(partial(config.resolve, body, "a file", None)) for name, body in literals.items()}
    asked = laboratory.run(home, "config", "set", f'observability.alert_token="{LITERAL}"')
    path = os.path.join(home, "token")
    with open(path, "w") as file:
        file.write(LITERAL + "\n")
    modes = {}
    for mode in (0o644, 0o600):
        os.chmod(path, mode)
        try:
            modes[f"{mode:04o}"] = "taken" if _authorization(path) else "none"
        except ConfigurationError as error:
            modes[f"{mode:04o}"] = error.what
    laboratory.run(home, "config", "set", 'observability.alert_token_file="token"')
    secret = laboratory.run(home, "secret", "set", "token", stdin=LITERAL.encode())
    laboratory.run(home, "intent", call("fs.read", path="notes.txt").decode())
    shown = laboratory.run(home, "config", "show").body
    words = "".join(each.stderr + json.dumps(each.objects) for each in (asked, secret)) + json.dumps([shown, refused])
    kept = {}
    for folder, _, files in os.walk(home):
        for name in files:
            where = os.path.join(folder, name)
            with contextlib.suppress(OSError), open(where, "rb") as stored:
                if LITERAL.encode() in stored.read():
                    kept[os.path.relpath(where, home)] = f"{stat.S_IMODE(os.stat(where).st_mode):04o}"
    return {
        "refused": refused, "asked": asked.code, "modes": modes, "told": LITERAL in words,
        "reference": shown.get("configuration", {}).get("observability", {}).get("alert_token_file", ""),
        "digest": shown.get("digest", ""), "kept": kept, "secret": secret.code,
    }  # fmt: skip


DAYS = 400
"""How far ahead the clock is by which records are old."""


def archived(laboratory: Laboratory) -> dict[str, Any]:
    """A twin with a sealed segment, whose records are archived when they are older than the minimum, and stay where they are."""
    from femtoclaw.auditing.retention import due
    from femtoclaw.cli.archiving import archive_at
    from femtoclaw.cli.audit_retain import _archive, _days, _refuse
    from femtoclaw.cli.execute import open_node
    from femtoclaw.control import operator_signer
    from femtoclaw.goals import reading
    from femtoclaw.procedures import procedure

    home = Home(laboratory.copy(laboratory.once(twin), "archived"))
    step = laboratory.run(home.path, "intent", call("fs.read", path="notes.txt").decode()).body
    _fill(home)
    target = laboratory.place("archive")
    days_ns = DAYS * 86_400 * 10**9
    with open_node(home.path, Quiet()) as node, contextlib.closing(archive_at(target, create=True)) as store:
        days = _days(node.started.authority.state.node)
        signer = operator_signer(home, node.started.authority.state.node)
        with (
            procedure(node.started, signer, "audit.retain", store.name[-128:]) as told,
            reading(node.started) as reader,
        ):
            now = node.started.sources.wall_ns()
            young, old = due(reader, now, days), due(reader, now + days_ns, days)
            told.content = {"days": days} | _archive(node, store, reader, old, Quiet())
            told.detail = f"records 1 to {old.last} are archived"
            deletions = {
                "young": str(_refuse(reader, young, old.last, store).code), "old": str(_refuse(reader, old, old.last, store).code)
            }  # fmt: skip
    trail = read_trail("archived", home.log)
    ended = [each for each in trail.of("ProcedureEnded") if each.event.procedure == "audit.retain"]
    return {
        "days": days, "young": young.last, "content": told.content, "deletions": deletions,
        "recorded": ended[-1].event.content.decode() if ended else "", "index": ended[-1].index if ended else 0,
        "archive": laboratory.run(home.path, "archive", "verify", target).body.get("size", 0),
        "trace": laboratory.run(home.path, "audit", "trace", step.get("execution_id", "")).body,
        "whole": laboratory.run(home.path, "verify").code, "log": os.path.join(home.path, "log", "data", "data.mdb"),
    }  # fmt: skip


def _fill(home: Home) -> None:
    """As many records as fill a segment, without a commit for each."""
    from femtoclaw import commands, event_codec, events
    from femtoclaw.keys import load_signer
    from femtoclaw.sources import live
    from wal.directory import open_log_directory
    from wal.limits import SEGMENT_RECORDS

    line = event_codec.encode(
        events.ErrorRecorded(
            *commands.RecordError("0" * 26, "RUNTIME", "INFO", "HISTORY", "comply", "a line of history")
        )
    )
    log, _ = open_log_directory(home.log, signer=load_signer(home), clock=live().wall_ns)
    try:
        for _ in range(SEGMENT_RECORDS):
            log.submit([line])
    finally:
        log.close()


MEMORY_KEYS = {
    "another format": {"format": "sqlite"}, "integrity off": {"integrity": "off"}, "no map": {"map_bytes": 0},
    "no retention": {"retention_days": 0}, "an unknown key": {"location": "/elsewhere"},
}  # fmt: skip


def memory_keys(laboratory: Laboratory) -> dict[str, str]:
    """What is said of settings of memory that cannot be; empty where one is taken."""
    found = {}
    for name, body in MEMORY_KEYS.items():
        try:
            config.resolve({"memory": body}, "a file", None)
            found[name] = ""
        except FemtoClawError as error:
            found[name] = f"{error.what}: {error.where}"
    return found
