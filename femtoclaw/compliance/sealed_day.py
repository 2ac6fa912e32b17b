"""Measurements on a sealed installation: one day of its node, and starts with files that were changed."""

from __future__ import annotations

import os
import shutil
from typing import Any

from femtoclaw.compliance.deployment import MODULE
from femtoclaw.compliance.installed import Installation, flip, installation
from femtoclaw.compliance.laboratory import Answer, Laboratory
from femtoclaw.compliance.starts import read_journal
from femtoclaw.compliance.trails import Trail, read_trail
from femtoclaw.compliance.twin import call

SWAPPED = """
import os, sys
start.verified.sweep.settle()
version, library = sys.argv[1:]
os.unlink(version)
with open(version, "w") as file:
    file.write("VERSION = 'evil'")
with open(library, "r+b") as file:
    file.write(bytes(4096))
from femtoclaw.version import VERSION
from femtoclaw.launcher.refusal import Refused
import json
try:
    import cedarpy
    refused = ""
except Refused as error:
    refused = error.code
print(json.dumps({"version": VERSION, "refused": refused, "mapped": "_internal." in open("/proc/self/maps").read()}))
"""
"""After everything was verified: a source is exchanged and a library, which is loaded later, written over in place."""


def day(laboratory: Laboratory) -> dict[str, Any]:
    """One node's day: work, a denial, a changed setting, a module refused and then installed, stop and start."""
    place = laboratory.once(installation)
    home = place.home
    folder, key = laboratory.place("day-module"), laboratory.place("day.key")
    os.mkdir(folder)
    with open(os.path.join(folder, "double.py"), "w") as file:
        file.write(MODULE.replace('version="1.0.0",', 'version="1.0.0",\n    requires_runtime="<2",', 1))
    answers = {"read": place.run("intent", call("fs.read", path="notes.txt").decode())}
    answers["denied"] = place.run("intent", call("fs.read", path="prod.env").decode())
    answers["config"] = place.run("config", "set", "runtime.steps_max=9")
    public = place.run("operator", "keygen", "acme", "--out", key).body.get("public_key", "")
    answers["pack"] = place.run("claw", "pack", folder, "--key", key, "--entry", "python:double.py:double")
    answers["untrusted"] = place.run("claw", "install", folder)
    answers["trust"] = place.run("publisher", "trust", "acme", "--public-key", public)
    answers["install"] = place.run("claw", "install", folder)
    answers["enable"] = place.run("claw", "enable", "number.double")
    answers["development"] = place.run("config", "set", 'runtime.mode="development"')
    return {
        "answers": answers,
        "trail": read_trail("installed", os.path.join(home, "log")),
        "journal": read_journal(home),
    }


def swaps(laboratory: Laboratory) -> dict[str, Any]:
    """Starts with one file of each kind changed, an exchange between check and load, and an older distribution."""
    laboratory.once(day)
    place = laboratory.once(installation)
    before = _size(place)
    kinds = {
        "runtime executable": os.path.join(place.root, "femtoclaw.sealed", "code"), "runtime": place.first("femtoclaw", "gate.py"),
        "libraries": place.first("lmdb", ".so"), "capability binaries": place.first("femtoclaw/claws", "fs_read.py"),
    }  # fmt: skip
    found = {name: _changed(place, path, "intent", '{"message":{"content":"x"}}') for name, path in kinds.items()}
    module = next(
        os.path.join(where, name) for where, _, names in os.walk(os.path.join(place.home, "modules")) for name in names
        if name == "double.py"
    )  # fmt: skip
    extension = _changed(place, module, "intent", call("number.double", number=2).decode())
    said = place.lower(3)
    older = place.run("intent", '{"message":{"content":"x"}}')
    accepted = place.run("distribution", "accept", place.digest()[:16])
    with open(place.manifest, "w") as file:
        file.write(said)
    return {
        "refused": found, "extension": extension, "older": older, "older accepted": accepted,
        "swapped": _swapped(laboratory, place),
        "recorded": _size(place) - before, "works": place.run("intent", call("fs.read", path="notes.txt").decode()),
    }  # fmt: skip


def _size(place: Installation) -> int:
    return read_trail("installed", os.path.join(place.home, "log")).size


def _changed(place: Installation, path: str, *words: str) -> Answer:
    flip(path)
    try:
        return place.run(*words)
    finally:
        flip(path)


def _swapped(laboratory: Laboratory, place: Installation) -> dict[str, Any]:
    """What a process loads when the files change after they were verified; they are put back."""
    kept = laboratory.place("kept-files")
    os.mkdir(kept)
    paths = [os.path.join(place.root, "femtoclaw", "version.py"), place.first("cedarpy", ".so")]
    for at, path in enumerate(paths):
        shutil.copyfile(path, os.path.join(kept, str(at)))
    try:
        answer = place.python(SWAPPED, *paths)
    finally:
        for at, path in enumerate(paths):
            shutil.copyfile(os.path.join(kept, str(at)), path)
    return dict(answer.body) if answer.body else {"error": answer.stderr[-300:]}


def classes(trail: Trail) -> dict[str, list[int]]:
    """The nine classes of what is audited, each with the records that are of it (AUDIT-4.1)."""
    told = {
        "start and stop": ("RuntimeStarted", "RuntimeStopped"), "execution": ("ExecutionStarted", "ExecutionFinished"),
        "decisions": ("AuthorizationDecided",), "extension loading": ("ModuleInstalled",),
        "security violations": ("ModuleRejected",), "authentication and operator actions": ("ControlRequested", "ControlDecided"),
    }  # fmt: skip
    found = {name: [each.index for each in trail.of(*types)] for name, types in told.items()}
    verified = trail.of("IntegrityVerified")

    def of(component: str, result: str) -> list[int]:
        return [each.index for each in verified if (each.event.component, each.event.result) == (component, result)]

    loaded = [each.index for each in verified if each.event.component == "configuration"]
    changed = [each.index for each in trail.of("ConfigurationAdopted") if each.event.version > 1]
    found["configuration load and change"] = [*loaded[:1], *changed] if loaded and changed else []
    found["binary verification"], found["upgrades"] = of("distribution", "verified"), of("distribution", "accepted")
    return found
