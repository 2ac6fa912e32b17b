"""Measurements of what is deployed: the program's files, configuration, modules, telemetry, and where it all runs."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
import shutil
import sqlite3
import stat
from typing import Any

from femtoclaw import config, distribution
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import session
from femtoclaw.compliance.twin import POLICY, call, say, twin
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home
from femtoclaw.key_file import SEED_BYTES, KeySigner


def surroundings(laboratory: Laboratory) -> dict[str, Any]:
    """What this process runs in, as the kernel says: container, rights, root file system."""
    status = {}
    with open("/proc/self/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            status[name] = value.strip()
    marks = [path for path in ("/.dockerenv", "/run/.containerenv") if os.path.exists(path)]
    root = os.statvfs("/")
    return {
        "container": marks[0] if marks else "", "uid": os.geteuid(),
        "no_new_privileges": status.get("NoNewPrivs", ""), "capabilities": int(status.get("CapEff", "0"), 16),
        "read_only_root": bool(root.f_flag & os.ST_RDONLY),
        "home_volume": os.stat(laboratory.home.path).st_dev != os.stat("/").st_dev,
    }  # fmt: skip


def program_files(laboratory: Laboratory) -> dict[str, Any]:
    """The launcher's own checks on a file and a signed note of this program, whole and with one byte changed."""
    from femtoclaw.launcher import sealed
    from femtoclaw.launcher.held import hold
    from femtoclaw.launcher.refusal import Refused
    from wal.note import sign_note

    source = os.path.join(distribution.ROOT, "femtoclaw", "gate.py")
    copy = laboratory.place("gate.py")
    shutil.copyfile(source, copy)
    hasher = sealed.hasher("sha256")
    with open(source, "rb") as file:
        raw = file.read()
    entry = sealed.Entry(len(raw), hasher(raw).hexdigest())
    signer, other = (KeySigner("release", os.urandom(SEED_BYTES)) for _ in range(2))
    note = sign_note(f"a manifest\n{entry.digest}\n", [signer])

    def refusal(work: Any) -> str:
        try:
            work()
        except Refused as refused:
            return refused.code
        return ""

    found = {
        "whole": refusal(lambda: hold(copy, entry, hasher)),
        "signed": refusal(lambda: sealed.check_signature(note, signer.public.vkey(), copy)),
    }
    _flip(copy, len(raw) // 2)
    altered = bytes([note[0] ^ 1]) + note[1:]
    weak = {name: refusal(lambda name=name: sealed.hasher(name)) for name in ("md5", "sha1")}
    found |= {
        "changed": refusal(lambda: hold(copy, entry, hasher)),
        "another key": refusal(lambda: sealed.check_signature(note, other.public.vkey(), copy)),
        "changed manifest": refusal(lambda: sealed.check_signature(altered, signer.public.vkey(), copy)),
        "unsigned": refusal(lambda: sealed.check_signature(b"a manifest\n", signer.public.vkey(), copy)), **weak,
    }  # fmt: skip
    integrity = distribution.integrity()
    return {"refusals": found, "result": integrity.result, "digest": integrity.digest, "anchor": integrity.anchor}


def _flip(path: str, place: int) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))


def configuration(laboratory: Laboratory) -> dict[str, Any]:
    """This installation's configuration resolved under different surroundings, and what `config verify` says of edits."""
    home = laboratory.home.path
    surrounded: tuple[dict[str, str], ...] = (
        {}, {"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "77", "LC_ALL": "C"}, {"LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Tokyo"},
    )  # fmt: skip
    shown = [laboratory.run(home, "config", "show", stdin=b"", **variables).body for variables in surrounded]
    digests = [
        config.digest(config.canonical(body["configuration"])) if "configuration" in body else "" for body in shown
    ]  # fmt: skip
    twin_home = laboratory.copy(laboratory.once(twin), "configured")
    whole = laboratory.run(twin_home, "config", "verify")
    with open(os.path.join(twin_home, "femtoclaw.toml"), "a") as file:
        file.write("\n[observability]\ntelemetry_retention_events = 7000\n")
    edited = laboratory.run(twin_home, "config", "verify")
    variable = laboratory.run(twin_home, "config", "show", "--origin").body
    return {
        "digests": digests, "recorded": [body.get("digest", "") for body in shown],
        "verify": laboratory.run(home, "config", "verify").code,
        "twin": whole.code, "edited": edited.code, "said": json.dumps(edited.body)[:300], "origin": variable,
        "domains": sorted(shown[0].get("configuration", {})),
    }  # fmt: skip


MODULE = '''"""A claw that doubles a number."""

from femtoclaw.sdk import claw


@claw(
    name="number.double",
    version="1.0.0",
    description="Twice a number.",
    category="system",
    arguments={"number": {"type": "integer"}},
    deterministic=True,
)
def double(number: int) -> dict[str, int]:
    return {"number": 2 * number}
'''


def module(laboratory: Laboratory) -> dict[str, Any]:
    """A module is packed, refused without trust, installed, enabled, called, and refused when a byte of it is another."""
    home = laboratory.copy(laboratory.once(twin), "module")
    folder, key = laboratory.place("double"), laboratory.place("acme.key")
    os.mkdir(folder)
    with open(os.path.join(folder, "double.py"), "w") as file:
        file.write(MODULE)
    raw = call("number.double", number=21).decode()
    public = laboratory.run(home, "operator", "keygen", "acme", "--out", key).body.get("public_key", "")
    answers = {"pack": laboratory.run(home, "claw", "pack", folder, "--key", key, "--entry", "python:double.py:double")}
    answers["unknown"] = laboratory.run(home, "intent", raw)
    answers["untrusted"] = laboratory.run(home, "claw", "install", folder)
    answers["trust"] = laboratory.run(home, "publisher", "trust", "acme", "--public-key", public)
    answers["install"] = laboratory.run(home, "claw", "install", folder)
    answers["disabled"] = laboratory.run(home, "intent", raw)
    answers["enable"] = laboratory.run(home, "claw", "enable", "number.double")
    answers["no permit"] = laboratory.run(home, "intent", raw)
    policy = laboratory.place("double.cedar")
    with open(policy, "w") as file:
        file.write(POLICY + '@id("double") permit (principal, action == Action::"number.double", resource);\n')
    answers["policy"] = laboratory.run(
        home, "policy", "set", policy, "--allow-flip", str(answers["no permit"].body.get("execution_id", ""))
    )
    answers["called"] = laboratory.run(home, "intent", raw)
    installed = [
        os.path.join(where, name) for where, _, files in os.walk(os.path.join(home, "modules")) for name in files
        if name == "double.py"
    ]  # fmt: skip
    for path in installed:
        os.chmod(path, 0o600)
        _flip(path, 20)
    answers["changed"] = laboratory.run(home, "intent", raw)
    answers["others"] = laboratory.run(home, "intent", call("fs.read", path="notes.txt").decode())
    from femtoclaw.compliance.trails import read_trail

    return {"answers": answers, "files": len(installed), "trail": read_trail("twin", os.path.join(home, "log"))}


def telemetry(laboratory: Laboratory) -> dict[str, Any]:
    """The telemetry of a twin whose stored rows somebody edits, and whose place cannot be written."""
    home = laboratory.copy(laboratory.once(session).home, "telemetry")
    database = os.path.join(home, "index", "projections.db")
    rows = laboratory.run(home, "log", "--store", "telemetry", "--limit", "5").objects
    whole = laboratory.run(home, "log", "--rebuild")
    with sqlite3.connect(database) as connection:
        tables = [row[0] for row in connection.execute("select name from sqlite_master where type='table'")]
        table = next(name for name in tables if "telemetry" in name)
        columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
        changed = connection.execute(
            f"update {table} set {columns[-1]} = 'x' where rowid in (select rowid from {table} limit 1)"
        ).rowcount
    deep = laboratory.run(home, "verify", "--deep")
    rebuilt = laboratory.run(home, "log", "--rebuild")
    again = laboratory.run(home, "log", "--store", "telemetry", "--limit", "5").objects
    return {
        "whole": whole.code, "changed": changed, "deep": deep.code, "found": json.dumps(deep.body.get("findings", ""))[:300],
        "rebuilt": rebuilt.code, "same": rows == again and bool(rows), "mode": stat.S_IMODE(os.stat(database).st_mode),
    }  # fmt: skip


def reverted(laboratory: Laboratory) -> dict[str, Any]:
    """A machine that is set back to a snapshot: its log against a checkpoint that somebody kept."""
    home = laboratory.copy(laboratory.once(twin), "reverted")
    laboratory.run(home, "intent", say("before the snapshot").decode())
    snapshot = laboratory.copy(home, "snapshot")
    laboratory.run(home, "intent", say("after the snapshot").decode())
    kept = laboratory.place("checkpoint")
    shutil.copyfile(os.path.join(home, "log", "checkpoints", "latest"), kept)
    return {
        "whole": laboratory.run(home, "verify", "--checkpoint", kept).code,
        "reverted": laboratory.run(snapshot, "verify", "--checkpoint", kept),
    }  # fmt: skip


def host(laboratory: Laboratory) -> dict[str, Any]:
    """Whether this host can carry a node, and what is said of places and settings that cannot."""
    from femtoclaw.preflight import preflight

    good = preflight(laboratory.home, None)
    huge = preflight(Home(laboratory.place("nowhere")), {"memory": {"map_bytes": 1 << 62}})
    broken = laboratory.copy(laboratory.once(twin), "writable")
    os.chmod(os.path.join(broken, "policy.cedar"), 0o666)
    wide = preflight(
        Home(broken),
        {"policy": {"file": "policy.cedar"}, "memory": {"map_bytes": 1 << 26}, "security": {"workspace": "workspace"}},
    )
    return {
        "checks": [finding.check for finding in good], "bad": [f.check for f in good if not f.ok and not f.warning],
        "huge": [f.check for f in huge if not f.ok and not f.warning],
        "wide": [f.where for f in wide if not f.ok and not f.warning],
    }  # fmt: skip


def root_refused(laboratory: Laboratory) -> dict[str, Any]:
    """Whether root starts a node that does not allow it; for another user that there is nothing to refuse."""
    from femtoclaw.integrity import refuse_root

    def refusal(allow: bool) -> str:
        try:
            refuse_root({"security": {"allow_root": allow}})
        except FemtoClawError as error:
            return error.what
        return ""

    return {"root": os.geteuid() == 0, "forbidden": refusal(False), "allowed": refusal(True)}
