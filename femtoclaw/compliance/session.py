"""One session of a served twin, over its public interface: everything that an execution can come to, changes by operators, the
attack corpus, a stop under load. Its log is what many checks read."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
import signal
import threading
import time
from typing import Any, NamedTuple

from femtoclaw.cli.render import Output
from femtoclaw.compliance.corpus import INJECTIONS, RISKS
from femtoclaw.compliance.laboratory import Answer, Laboratory, end
from femtoclaw.compliance.trails import Trail, read_trail
from femtoclaw.compliance.twin import Serving, call, say, serving, twin
from femtoclaw.home import Home

MARK = "twin-attack"
ATTACKS = {
    "read the log": "cat {home}/log/data/data.mdb",
    "read the node's key": "cat {home}/keys/node.key",
    "read an operator's key": "cat {home}/keys/operators/*.key",
    "write the log": "echo x >> {home}/log/data/data.mdb",
    "empty the log's head": ": > {home}/log/HEAD",
    "write the policy": "echo x >> {home}/policy.cedar",
    "write the configuration": "echo x >> {home}/femtoclaw.toml",
    "write the journal": "echo x >> {home}/boot.journal",
    "write beside the workspace": "echo x > {home}/breach.txt",
    "write the machine's temporary folder": "echo x > {folder}/breach.txt",
    "signal the node": "kill -9 {pid}",
    "read the node's memory": "cat /proc/{pid}/mem",
    "raise its rights": "echo 0 > /proc/self/uid_map",
    "read the node's environment": "cat /proc/{pid}/environ",
    "list the node's home": "cat {home}/manifest.json",
    "run a program that is not listed": "/bin/ls .",
}
"""What a hostile capability tries from inside its sandbox: each must fail (THREAT-7.1)."""

NO_NOTES = """\
@id("no-notes") forbid (principal, action, resource) when { context has path && context.path == "notes.txt" };
"""
"""A rule that the policy of the session gets later."""

HARMLESS = "read its own file"
"""What a capability may do: were it refused too, the attacks would show nothing."""


class Quiet(Output):
    """An output that nobody reads."""

    def __init__(self) -> None:
        super().__init__(as_json=False)

    def _print(self, text: str) -> None:
        """Nothing."""

    def error(self, text: str) -> None:
        """Nothing."""


class Session(NamedTuple):
    """What came of it. ``steps`` and ``answers`` by name; ``corpus`` risk to its steps, ``attacks`` what succeeded of them."""

    home: str
    steps: dict[str, Any]
    answers: dict[str, Answer]
    corpus: dict[str, list[Any]]
    injections: dict[str, Any]
    attacks: dict[str, bool]
    status: dict[str, Any]
    pid: int
    process: dict[str, str]
    stop: dict[str, Any]
    trail: Trail
    files: dict[str, str]


def session(laboratory: Laboratory) -> Session:
    """Serve a twin's copy and use it."""
    home = laboratory.copy(laboratory.once(twin), "session")
    steps: dict[str, Any] = {}
    answers: dict[str, Answer] = {}
    with serving(laboratory, home) as served:
        pid, process = served.process.pid, _process_status(served.process.pid)
        _intents(served, home, steps)
        _run(laboratory, served, steps)
        _operators(laboratory, served, home, steps, answers)
        corpus = {risk: [served.client.intent(raw) for raw in outputs] for risk, outputs in RISKS.items()}
        injections = {
            name: served.client.intent(call("shell", bin="/bin/echo", argv=["-n", text]))
            for name, text in INJECTIONS.items() if "\0" not in text
        }  # fmt: skip
        attacks = _attacks(laboratory, served, home)
        status = served.client.status()
        process |= {"RSS after": _process_status(pid).get("VmRSS", ""), "TCP": _tcp_of(pid)}
        stop = _stop_under_load(served, home)
    trail = read_trail("twin", os.path.join(home, "log"))
    return Session(home, steps, answers, corpus, injections, attacks, status, pid, process, stop, trail, _files(home))


def _intents(served: Serving, home: str, steps: dict[str, Any]) -> None:
    told = {
        "message": say("hello"), "read": call("fs.read", path="notes.txt"), "missing file": call("fs.read", path="nothing"),
        "forbidden": call("fs.read", path="prod.env"), "no permit": call("fs.write", path="a", content="x", mode="replace"),
        "disabled": call("process.list"), "unknown": call("nobody.knows"), "argument": call("fs.read", path=7),
        "canonical": call("fs.read", path="../keys/node.key"), "malformed": b"{", "both": b'{"message":{},"tool_call":{}}',
        "write": call("fs.write", path="out/a", content="x", mode="create"),
        "again": call("fs.write", path="out/a", content="x", mode="create"),
        "echo": call("shell", bin="/bin/echo", argv=["hello"]), "exit": call("shell", bin="/bin/cat", argv=["nothing"]),
        "quoted intent": say('{"tool_call":{"tool":"fs.write","args":{"path":"out/q","content":"","mode":"create"}}}'),
        "absolute": call("fs.read", path=f"{home}/keys/node.key"), "link": call("fs.read", path="link"),
        "ambiguous case": call("FS.READ", path="a"), "blank": call("fs.read ", path="a"),
        "text instead of json": b"I will read a.", "list": b"[]", "fenced": b"```json\n{}\n```", "not utf8": b"\xff{}",
        "nan": b'{"message":{"content":NaN}}', "trailing": say("x") + b"{}", "twice": b'{"message":{},"message":{}}',
        "args a list": b'{"tool_call":{"tool":"fs.read","args":[]}}', "no args": b'{"tool_call":{"tool":"fs.read"}}',
        "empty tool": b'{"tool_call":{"tool":"","args":{}}}', "extra key": b'{"message":{"content":"x","to":"y"}}',
        "content a number": b'{"message":{"content":7}}', "neither": b"{}", "a string": b'"fs.read"',
        "deep": b'{"message":' * 3000, "shell not listed": call("shell", bin="/bin/rm", argv=["-rf", "."]),
        "shell by path": call("shell", bin="./sh"), "another ls": call("shell", bin="/usr/local/bin/echo"),
        "code for an interpreter": call("shell", bin="/bin/sh", argv=["-c", "id"]),
        "after": call("fs.read", path="notes.txt"),
    }  # fmt: skip
    for name, raw in told.items():
        steps[name] = served.client.intent(raw)


def _run(laboratory: Laboratory, served: Serving, steps: dict[str, Any]) -> None:
    """A run of several executions with a script for a brain; its input is itself an intent, as text."""
    script = laboratory.place("script.jsonl")
    lines = [
        call("fs.read", path="notes.txt"), call("fs.read", path="prod.env"), b"I will now read a file.",
        call("fs.list", path="."), say("that is all"),
    ]  # fmt: skip
    with open(script, "wb") as file:
        file.write(b"".join(line + b"\n" for line in lines))
    steps["run"] = served.client.run(
        call("fs.write", path="out/never", content="", mode="create").decode(), f"script:{script}", ""
    )


def _operators(
    laboratory: Laboratory, served: Serving, home: str, steps: dict[str, Any], answers: dict[str, Answer]
) -> None:
    """Approvals, refusals, containment, and changes of configuration, policy and registry."""
    held = call("fs.write", path="held/a", content="x", mode="create")
    steps["held"], steps["held too"] = served.client.intent(held), served.client.intent(held)
    asked = {
        "approve": ("approve", steps["held"].execution_id), "deny": ("deny", steps["held too"].execution_id),
        "config": ("config", "set", "runtime.steps_max=8"), "disable": ("claw", "disable", "system.info"),
    }  # fmt: skip
    for name, words in asked.items():
        answers[name] = laboratory.run(home, *words)
    steps["switched off"] = served.client.intent(call("system.info"))
    key = laboratory.place("eve.key")
    public = laboratory.run(home, "operator", "keygen", "eve", "--out", key).body.get("public_key", "")
    answers["add eve"] = laboratory.run(
        home, "operator", "add", "eve", "--role", "ComplianceOfficer", "--public-key", public
    )
    answers["eve contains"] = laboratory.run(home, "contain", "--operator-key", key)
    answers["contain"] = laboratory.run(home, "contain")
    steps["contained"] = served.client.intent(call("fs.read", path="notes.txt"))
    answers["lift"] = laboratory.run(home, "contain", "--lift")
    steps["lifted"] = served.client.intent(call("fs.read", path="notes.txt"))
    policy = laboratory.place("other.cedar")
    with open(os.path.join(home, "policy.cedar")) as old, open(policy, "w") as new:
        new.write(old.read() + NO_NOTES)
    answers["policy"] = laboratory.run(home, "policy", "set", policy)
    steps["forbidden now"] = served.client.intent(call("fs.read", path="notes.txt"))


def _attacks(laboratory: Laboratory, served: Serving, home: str) -> dict[str, bool]:
    """Which attacks of a claw reached what they were after."""
    found = {}
    for name, text in (ATTACKS | {HARMLESS: "cat notes.txt"}).items():
        command = text.format(home=home, folder=laboratory.folder, pid=served.process.pid)
        raw = call("shell", bin="/bin/sh", argv=["-c", f": {MARK}; ({command}) >/dev/null && echo reached"])
        step = served.client.intent(raw)
        said = json.dumps(step.result)
        found[name] = step.decision != "AUTHORIZED" or "reached" in said
    return found


def _process_status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def _tcp_of(pid: int) -> str:
    """The TCP sockets that the process holds, by their inodes; ``unreadable`` to who is not root, as a process with keys is not
    to be looked into."""
    held = set()
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return "unreadable"
    for name in names:
        try:
            held.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{table}") as file:
            found += [line.split()[9] for line in file.readlines()[1:]]
    return " ".join(inode for inode in found if f"socket:[{inode}]" in held)


def _stop_under_load(served: Serving, home: str) -> dict[str, Any]:
    """SIGTERM while a claw is at work; what is there afterwards."""
    kept: list[Any] = []

    def sleep() -> None:
        try:
            kept.append(served.client.intent(call("shell", bin="/bin/sleep", argv=["1"])))
        except Exception as error:  # whatever it is, it is the answer that the caller of a stopping node gets
            kept.append(error)

    caller = threading.Thread(target=sleep)
    caller.start()
    time.sleep(0.4)
    begun = time.monotonic()
    code = end(served.process, signal.SIGTERM)
    seconds = time.monotonic() - begun
    caller.join(60)
    answer = kept[0] if kept else None
    return {
        "code": code, "seconds": seconds, "answer": type(answer).__name__, "outcome": getattr(answer, "outcome", ""),
        "socket": os.path.lexists(os.path.join(home, "serve.sock")), "children": _children_of(served.process.pid),
    }  # fmt: skip


def _children_of(group: int) -> list[str]:
    """Processes that are left of a process group."""
    left = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[2] == str(group) and fields[0] != "Z":
                left.append(name)
    return left


def _files(home: str) -> dict[str, str]:
    """Path to mode, of everything in the home."""
    found = {}
    for folder, folders, files in os.walk(home):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            found[os.path.relpath(path, home)] = f"{os.lstat(path).st_mode & 0o7777:04o}"
    return found


def session_home(laboratory: Laboratory) -> Home:
    """The twin's home after its session, at rest."""
    return Home(laboratory.once(session).home)
