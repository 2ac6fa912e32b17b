"""Measurements of claws as their authors have them, of those that are shipped, and of exporters that do as they like."""

from __future__ import annotations

import json
import os
from typing import Any

from femtoclaw.claws import SHIPPED
from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.sample_modules import SCHEMA, claw
from femtoclaw.compliance.simulation import CALLS, Simulated
from femtoclaw.isolation import Isolation, Outcome
from femtoclaw.key_file import SEED_BYTES, KeySigner

CASES: dict[str, Any] = {
    "cases": [
        {"name": "a word", "args": {"text": "word"}, "result": None},
        {"name": "no text", "args": {"text": ""}, "error": "ArgumentError"},
        {"name": "a number", "args": {"text": 5}, "refused": "ARGUMENT_TYPE"},
    ]
}
STEADY = """
from femtoclaw.sdk import ArgumentError
if not args['text']:
    raise ArgumentError('no text')
return {'a': args['text']}
"""
CHANCE = """
import os
begun = os.times().elapsed
while os.times().elapsed == begun:
    pass
return {'at': os.times().elapsed}
"""
"""Another answer each time, from a clock that nothing keeps it from."""

TIMES = 100


def _folder(laboratory: Laboratory, body: str, deterministic: bool) -> str:
    folder = laboratory.place("authored")
    os.mkdir(folder)
    stated = {
        "type": "capability", "name": "sample.claw", "version": "1.0.0", "description": "a sample", "category": "system",
        "arguments": SCHEMA, "permissions": [], "entry": "python:m.py:claw", "deterministic": deterministic,
    }  # fmt: skip
    with open(os.path.join(folder, "m.py"), "wb") as code:
        code.write(claw(body))
    for name, content in (("module.json", stated), ("module.tests.json", CASES)):
        with open(os.path.join(folder, name), "w") as file:
            json.dump(content, file)
    return folder


def authored(laboratory: Laboratory) -> dict[str, Any]:
    """What the author's tests say of a steady claw, of one that is declared so and is not, and of one that does not claim it."""
    from femtoclaw.sdk.cases import read_cases
    from femtoclaw.sdk.results import has_passed, write_result
    from femtoclaw.sdk.testing import ClawTester, summary

    signer = KeySigner("acme", os.urandom(SEED_BYTES))
    folder = _folder(laboratory, STEADY, True)
    with ClawTester(folder) as tester:
        manifest, groups = tester.package.manifest, summary(tester.check())
    before = has_passed(folder, manifest, [signer.public])
    write_result(folder, manifest, groups, signer)
    stranger = KeySigner("other", os.urandom(SEED_BYTES))
    found: dict[str, Any] = {
        "groups": groups, "unsigned": before, "signed": has_passed(folder, manifest, [signer.public]),
        "of a stranger": has_passed(folder, manifest, [stranger.public]),
        "of another": has_passed(folder, manifest._replace(version="1.0.1"), [signer.public]),
    }  # fmt: skip
    case = read_cases(json.dumps({"cases": CASES["cases"][:1]}).encode())
    for name, declared in (("declared", True), ("not declared", False)):
        with ClawTester(_folder(laboratory, CHANCE, declared)) as tester:
            again = tester.check_behaviour(case)[-1]
            stated = json.loads(tester.package.manifest.canonical()).get("deterministic", False)
        found[name] = {"passed": again.passed, "detail": again.detail, "stated": stated}
    return found


ARGUMENTS: dict[str, dict[str, Any]] = {
    "fs.read": {"path": "notes.txt"}, "fs.list": {"path": "."}, "fs.write": {"path": "a", "content": "x", "mode": "create"},
    "shell": {"bin": "/bin/echo", "argv": ["x"]}, "process.list": {}, "system.info": {},
    "web.get": {"url": "http://127.0.0.1:1/"},
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "shell": {"binaries": ["/bin/echo", "/bin/nothing-of-this-name"]},
    "web.get": {"hosts": ["127.0.0.1"], "ports": [1], "plain_http": True, "private_networks": ["127.0.0.0/8"]},
}
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a bad argument": ("fs.read", {"path": "/etc/passwd"}),
    "no permission": ("fs.read", {"path": "link"}),
    "a missing program": ("shell", {"bin": "/bin/nothing-of-this-name", "argv": []}),
}
"""What is asked of shipped claws past the gate, which would refuse some of it first."""


def shipped(laboratory: Laboratory) -> dict[str, Any]:
    """Each shipped claw called once past the gate, asked wrongly, and what it declares before and after, many times."""
    workspace = laboratory.place("claws")
    os.mkdir(workspace)
    with open(os.path.join(workspace, "notes.txt"), "w") as file:
        file.write("Ship on Friday.\n")
    os.symlink("/etc/hostname", os.path.join(workspace, "link"))
    by_name = {manifest.name: manifest for manifest in SHIPPED}
    sandbox = Isolation(workspace)

    def said() -> dict[str, set[tuple[str, str]]]:
        return {manifest.name: {(manifest.name, manifest.description) for _ in range(TIMES)} for manifest in SHIPPED}

    def called(name: str, args: dict[str, Any]) -> Outcome:
        return sandbox.run(by_name[name], args, SETTINGS.get(name, {}), idempotency_key="sample")

    try:
        before = said()
        outcomes = {name: called(name, ARGUMENTS.get(name, {})) for name in by_name}
        faults = {name: called(*asked) for name, asked in FAULTS.items()}
    finally:
        sandbox.close()
    after = said()
    return {
        "outcomes": outcomes, "faults": faults, "constant": {name: before[name] == after[name] and len(before[name]) == 1
                                                             for name in before},
        "classes": {name: manifest.category for name, manifest in by_name.items()},
    }  # fmt: skip


def exporters(laboratory: Laboratory) -> dict[str, Any]:
    """The same session without an exporter, with one that edits all it is given, and with one that fails at everything.

    Raises CannotMeasureError when the rogue was given nothing.
    """
    from femtoclaw.telemetry.following import Following
    from femtoclaw.telemetry.sink import Sink

    edited: list[int] = []

    def edit(bodies: list[Any]) -> None:
        for body in bodies:
            body.clear()
            body["event_type"] = "forged"
            edited.append(1)

    def fail(bodies: list[Any]) -> None:
        raise OSError("the receiver is gone")

    def session(write: Any) -> tuple[str, list[str]]:
        node = Simulated()
        following = None
        if write is not None:
            sink = Sink("rogue", write, lambda name, error: None)
            sink.start()
            following = Following(lambda name, error: None, lines=sink, lines_from=1)
            following.use(node.log, lambda: node.log.size)
            following.start()
        decisions = [node.runtime.intent(raw).code for raw in CALLS]
        if following is not None:
            while following.step():
                pass
            sink.flush(2.0) if write is edit else None
            following.stop()
            sink.stop(0.1)
        return node.digest(), decisions

    found = {"none": session(None), "edits": session(edit), "fails": session(fail)}
    if not edited:
        raise CannotMeasureError("the exporter was given nothing")
    return found | {"edited": len(edited)}
