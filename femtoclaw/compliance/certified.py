"""Measurement of certificates on a sealed installation: reports on record, denials, one certificate until it is revoked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

from femtoclaw.auditing.certificate import PARTS
from femtoclaw.cli.cluster_demo_machines import environment
from femtoclaw.compliance.installed import Installation, installation
from femtoclaw.compliance.laboratory import COMMAND_S, Answer, Laboratory, read_objects
from femtoclaw.compliance.starts import BREAKINGS
from femtoclaw.compliance.trails import read_trail

CHEAP = {
    "functional": "WHITE-2.3", "security": "CRYPTO-22.1", "protocol": "WHITE-5.1", "authorization": "DEPLOY-7.3",
    "memory integrity": "EXEC-4.2", "observability": "WHITE-3.1", "state machine": "STATE-15.1",
}  # fmt: skip
"""A requirement of each of the seven kinds of verification whose check takes little: what two runs of the suite look at."""

FAILING = "AUDIT-8.1"

_RECORD = """
import json, os
from femtoclaw import boot
from femtoclaw.compliance.register import requirements
from femtoclaw.compliance.report import build, digests
from femtoclaw.control import operator_signer
from femtoclaw.home import Home
from femtoclaw.procedures import procedure
from femtoclaw.sources import live
home, folder, failing = Home(sys.argv[1]), sys.argv[2], sys.argv[3]
if "femtoclaw-comply-" not in home.path:
    raise SystemExit("for twins of a laboratory alone")
started = boot.start(home, live())
node = started.authority.state.node
shown = [{"id": each.id, "level": each.level, "seed": each.seed, "result": "shown", "check": "of a laboratory"}
         for each in requirements().values()]
counts = {"shown": len(shown), "failed": 0, "not applicable": 0, "not shown": 0}
for name in ("good", "failing"):
    rows = [row | {"result": "failed"} if name == "failing" and row["id"] == failing else row for row in shown]
    report = {
        "format": "femtoclaw compliance report v1", "volatile": ["run", "evidence"], "build": build(), "laboratory": True,
        "installation": {"runtime_id": node.runtime_id, "configuration": node.configuration.digest}, "scope": ["all"],
        "overall": "COMPLIANT" if name == "good" else "NON_COMPLIANT", "documents": {"all": counts}, "verdicts": rows,
        "evidence": {}, "run": {"name": name},
    }
    digest = digests(report)[0]
    with procedure(started, operator_signer(home, node), "compliance.check", "all", digest) as told:
        told.content = {"report": digest}
    with open(os.path.join(folder, name + ".json"), "w") as file:
        json.dump(report, file)
boot.stop(started, "recorded")
"""
"""Records two reports of a twin, as `comply` records those that it makes: a run over everything inside of a run would have no
end. They say themselves that they are of a laboratory."""


def certified(laboratory: Laboratory) -> dict[str, Any]:
    """Two runs of the suite with the same seed; denials by each kind of evidence; a certificate, changed parts, its end."""
    place = laboratory.once(installation)
    home, folder = laboratory.copy(place.home, "certified"), laboratory.place("reports")
    os.mkdir(folder)

    def run(*words: str) -> Answer:
        return place.run(*words, home=home)

    paths = {name: os.path.join(folder, f"{name}.json") for name in ("first", "second", "good", "failing", "edited")}
    scope = [word for each in CHEAP.values() for word in ("--domain", each)]
    answers = {name: run("comply", *scope, "--out", paths[name]) for name in ("first", "second")}
    answers["record"] = place.python(_RECORD, home, folder, FAILING, home=home)
    _edit(paths["good"], paths["edited"])
    issue = ("certificate", "issue", "--report")
    answers["failing"] = run(*issue, paths["failing"])
    none = os.path.isdir(os.path.join(home, "certificates")) and os.listdir(os.path.join(home, "certificates"))
    answers["partial"] = run(*issue, paths["first"], "--dry-run")
    answers["not on record"] = run(*issue, paths["edited"], "--dry-run")
    answers["not verified"] = _unverified(place.root, home, *issue, paths["good"], "--dry-run")
    answers["unsound"] = place.run(*issue, paths["good"], "--dry-run", home=_damaged(laboratory, home))
    key = os.path.join(folder, "authority.key")
    authority = run("operator", "keygen", "auditor", "--out", key).body.get("public_key", "")
    answers["issue"] = run(*issue, paths["good"], "--authority-key", key)
    answers["status"] = run("certificate", "status")
    folder_of = str(answers["issue"].body.get("folder", ""))
    answers["verify"] = run("certificate", "verify", folder_of, "--key", authority)
    answers["another key"] = run("certificate", "verify", folder_of, "--key", os.path.join(home, "keys", "node.pub"))
    answers["changed source"] = _changed_source(laboratory, place, home)
    name = str(answers["issue"].body.get("certificate", ""))
    answers["revoke"] = run("certificate", "revoke", name, "--reason", "the auditor withdrew it")
    answers["revoked"], answers["health"] = run("certificate", "status"), run("health")
    reports = {name: _read(paths[name]) for name in ("first", "second")}
    return {
        "answers": answers, "reports": reports, "home": home, "parts": parts_missed(folder_of),
        "files after the denial": none or [],
        "trail": read_trail("certified", os.path.join(home, "log")),
    }  # fmt: skip


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path) as file:
            found: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return {}
    return found


def _edit(path: str, to: str) -> None:
    """The same report with one word that is another: no run made it."""
    with open(to, "w") as file:
        json.dump(_read(path) | {"run": {"name": "by hand"}}, file)


def _damaged(laboratory: Laboratory, home: str) -> str:
    """A copy whose log has one record that was changed."""
    copy = laboratory.copy(home, "damaged")
    BREAKINGS["record changed"](copy)
    return copy


def parts_missed(folder: str) -> dict[str, str]:
    """What is said of a certificate without one of its parts, and with one altered; empty where it is taken."""
    from femtoclaw.auditing.certificate import CertificateError, check_parts, open_certificate, read_folder

    note, parts = read_folder(folder)
    body, found = open_certificate(note), {}
    for name in PARTS:
        wrongs = {"gone": {k: v for k, v in parts.items() if k != name}, "altered": parts | {name: parts[name] + b" "}}
        for what, wrong in wrongs.items():
            try:
                check_parts(body, wrong)
                found[f"{name} {what}"] = ""
            except CertificateError as error:
                found[f"{name} {what}"] = error.what
    return found


def _changed_source(laboratory: Laboratory, place: Installation, home: str) -> Answer:
    """The status as a program tells it of which one source has one more byte."""
    root = laboratory.place("changed-program")
    shutil.copytree(place.root, root)
    with open(os.path.join(root, "femtoclaw", "snapshot.py"), "a") as file:
        file.write("#")
    return _unverified(root, home, "certificate", "status")


def _unverified(root: str, home: str, *words: str) -> Answer:
    """A command of the program at ``root``, which nothing verifies."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "femtoclaw", "--home", home, "--json", *words], capture_output=True, check=False,
        timeout=COMMAND_S, stdin=subprocess.DEVNULL, cwd=root, env=environment() | {"PYTHONPATH": root},
    )  # fmt: skip
    return Answer(done.returncode, read_objects(done.stdout), done.stderr.decode(errors="replace"))
