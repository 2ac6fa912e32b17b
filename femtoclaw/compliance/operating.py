"""Measurements of procedures: a twin is backed up and restored, its keys are rotated, and an incident on it is answered."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import hashlib
import os
from typing import Any, NamedTuple

from femtoclaw.compliance.laboratory import Answer, Laboratory
from femtoclaw.compliance.trails import Trail, read_trail
from femtoclaw.compliance.twin import call, say, twin


class Operated(NamedTuple):
    """What each command answered, by name; the twin's history after them; and what was compared beside them."""

    answers: dict[str, Answer]
    trail: Trail
    facts: dict[str, Any]


def _tail(home: str) -> Trail:
    return read_trail("twin", os.path.join(home, "log"))


def backed_up(laboratory: Laboratory) -> Operated:
    """Back a twin up, verify it, restore it elsewhere, and verify a copy in which one byte is another."""
    home = laboratory.copy(laboratory.once(twin), "backed-up")
    place, key = laboratory.place("backups"), laboratory.place("recovery.key")
    restored, refused = laboratory.place("restored"), laboratory.place("refused")
    laboratory.run(home, "intent", say("before the backup").decode())
    answers = {"keygen": laboratory.run(home, "backup", "keygen", "--out", key)}
    answers["create"] = laboratory.run(home, "backup", "create", "--to", place)
    answers["verify"] = laboratory.run(home, "backup", "verify", "--from", place, "--key", key)
    answers["restore"] = laboratory.run(home, "backup", "restore", "--from", place, "--key", key, "--to", restored)
    answers["restored verify"] = laboratory.run(restored, "verify")
    came_back = read_trail("restored", os.path.join(restored, "log")) if answers["restore"].code == 0 else _tail(home)
    answers["resume"] = laboratory.run(restored, "backup", "resume")
    answers["restored works"] = laboratory.run(restored, "intent", say("after the restore").decode())
    modes = {f"{os.stat(path).st_mode & 0o777:04o}" for path in _paths(place)}
    planted = _holds(place, b"before the backup")
    changed = _change_one(place)
    answers["tampered verify"] = laboratory.run(home, "backup", "verify", "--from", place, "--key", key)
    answers["tampered restore"] = laboratory.run(
        home, "backup", "restore", "--from", place, "--key", key, "--to", refused
    )
    trail = read_trail("restored", os.path.join(restored, "log")) if answers["restore"].code == 0 else _tail(home)
    facts = {
        "modes": sorted(modes), "readable": planted, "changed": changed, "written": os.path.exists(refused),
        "genesis": (_tail(home).told[0].link, came_back.told[0].link), "own": _tail(home),
    }  # fmt: skip
    return Operated(answers, trail, facts)


def _paths(place: str) -> list[str]:
    return [os.path.join(folder, name) for folder, _, files in os.walk(place) for name in files]


def _holds(place: str, text: bytes) -> bool:
    """Whether a file there shows the text."""
    for path in _paths(place):
        with open(path, "rb") as file:
            if text in file.read():
                return True
    return False


def _change_one(place: str) -> str:
    """One byte of the largest file is another; its name."""
    path = max(_paths(place), key=os.path.getsize)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    return os.path.relpath(path, place)


def rotated(laboratory: Laboratory) -> Operated:
    """Rotate a twin's key, verify what both keys signed, and refuse a role that may not."""
    home = laboratory.copy(laboratory.once(twin), "rotated")
    seed = _seed(home)
    answers = {"before": laboratory.run(home, "key", "list")}
    key = laboratory.place("adam.key")
    public = laboratory.run(home, "operator", "keygen", "adam", "--out", key).body.get("public_key", "")
    answers["add"] = laboratory.run(
        home, "operator", "add", "adam", "--role", "RuntimeOperator", "--public-key", public
    )
    answers["refused"] = laboratory.run(home, "key", "rotate", "--operator-key", key)
    answers["rotate"] = laboratory.run(home, "key", "rotate")
    answers["after"] = laboratory.run(home, "key", "list")
    answers["key verify"] = laboratory.run(home, "key", "verify")
    answers["verify"] = laboratory.run(home, "verify")
    answers["works"] = laboratory.run(home, "intent", say("signed with the new key").decode())
    answers["revoke"] = laboratory.run(home, "operator", "revoke", "adam", "--reason", "drill")
    trail = _tail(home)
    words = "".join(answer.stderr + str(answer.objects) for answer in answers.values())
    shown = seed in words or any(seed.encode() in each.raw or bytes.fromhex(seed) in each.raw for each in trail.told)
    modes = {
        name: os.stat(os.path.join(folder, name)).st_mode & 0o777
        for folder, _, files in os.walk(os.path.join(home, "keys")) for name in files if name.endswith(".key")
    }  # fmt: skip
    return Operated(answers, trail, {"shown": shown, "modes": modes, "seed": hashlib.sha256(seed.encode()).hexdigest()})


def _seed(home: str) -> str:
    """The node's secret, as hexadecimal digits, to look for it afterwards."""
    import re

    with open(os.path.join(home, "keys", "node.key")) as file:
        found = re.findall(r"[0-9a-f]{64}", file.read())
    return found[-1] if found else "no secret in plain text"


STEPS = ("identify", "contain", "preserve", "restore", "verify", "resume")


def answered(laboratory: Laboratory) -> Operated:
    """Open a grave incident on a twin and answer it in the six steps, with one that comes too early."""
    home = laboratory.copy(laboratory.once(twin), "incident")
    laboratory.run(home, "intent", call("fs.read", path="notes.txt").decode())
    answers = {
        "open": laboratory.run(
            home, "incident", "open", "security_violation", "--detail", "a drill of the compliance run"
        )
    }
    listed = laboratory.run(home, "incident", "list")
    rows = listed.body.get("incidents", [])
    name = rows[0]["id"] if rows else "0" * 32
    answers["list"] = listed
    answers["too early"] = laboratory.run(home, "incident", "resume", name)
    for step in STEPS:
        if step == "restore":
            answers["while contained"] = laboratory.run(home, "intent", call("fs.read", path="notes.txt").decode())
        answers[step] = laboratory.run(home, "incident", step, name)
    answers["afterwards"] = laboratory.run(home, "intent", call("fs.read", path="notes.txt").decode())
    steps = answers["preserve"].body.get("steps") or [{}]
    file = steps[0].get("file", "")
    facts = {"id": name, "row": rows[0] if rows else {}, "evidence": file, "kept": _digest(file), "mode": _mode(file)}
    answers["evidence"] = laboratory.run(
        home, "incident", "verify-evidence", file, "--key", os.path.join(home, "keys", "node.pub")
    )
    answers["verify log"] = laboratory.run(home, "verify")
    return Operated(answers, _tail(home), facts)


def _digest(path: str) -> int:
    return os.path.getsize(path) if path and os.path.exists(path) else 0


def _mode(path: str) -> str:
    return f"{os.stat(path).st_mode & 0o777:04o}" if path and os.path.exists(path) else ""


def audited(laboratory: Laboratory) -> Operated:
    """Questions to the audit of a twin after its session, an export, and a changed export."""
    from femtoclaw.compliance.session import session

    found = laboratory.once(session)
    home = laboratory.copy(found.home, "audited")
    execution = found.steps["read"].execution_id
    size = _tail(home).size
    out = laboratory.place("export.jsonl")
    answers = {
        "by execution": laboratory.run(home, "audit", "query", "--execution", execution),
        "by type": laboratory.run(home, "audit", "query", "--type", "AuthorizationDecided"),
        "by capability": laboratory.run(home, "audit", "query", "--capability", "fs.read"),
        "by time": laboratory.run(home, "audit", "query", "--since", "2000-01-01T00:00:00"),
        "operators": laboratory.run(home, "audit", "query", "--type", "operator_action"),
        "trace": laboratory.run(home, "audit", "trace", found.steps["lifted"].execution_id),
    }  # fmt: skip
    unchanged = _tail(home).size == size
    answers["export"] = laboratory.run(home, "audit", "export", "--out", out)
    with open(out, "rb") as file:
        lines = file.read().splitlines()
    return Operated(
        answers, _tail(home), {"unchanged": unchanged, "execution": execution, "lines": len(lines), "size": size}
    )


def watched(laboratory: Laboratory) -> Operated:
    """The health of a twin, twice, and with one thing broken each."""
    from femtoclaw.compliance.starts import BREAKINGS

    home = laboratory.copy(laboratory.once(twin), "watched")
    laboratory.run(home, "intent", say("hello").decode())
    answers = {"once": laboratory.run(home, "health"), "twice": laboratory.run(home, "health")}
    before = len(_tail(home).of("ExecutionStarted"))
    for name in ("policy changed", "head damaged", "log readable by others", "operator's key added"):
        broken = laboratory.copy(home, "unhealthy")
        BREAKINGS[name](broken)
        answers[name] = laboratory.run(broken, "health")
    trail = _tail(home)
    return Operated(answers, trail, {"started": (before, len(trail.of("ExecutionStarted")))})
