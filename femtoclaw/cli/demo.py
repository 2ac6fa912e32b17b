"""``demo``: the main job on an embedded default, with the real commands in real processes, in a temporary home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import ConfigurationError, FemtoClawError, UsageError

POLICY = """\
@id("read-workspace")
permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource);

@id("write-summary-only")
permit (principal, action == Action::"fs.write", resource) when { context.path == "summary.txt" };

@id("sleep-only")
permit (principal, action == Action::"shell", resource) when { context.binary == "/bin/sleep" };

@id("no-secrets")
forbid (principal, action, resource) when { context has path && context.path like "*.env" };
"""

NOTES = "Buy milk.\nShip the release on Friday.\n"
STARTED_SECONDS_MAX = 10.0


class _Demo:
    def __init__(self, folder: str, output: Output) -> None:
        self.folder = folder
        self.home = os.path.join(folder, "node")
        self.output = output
        self.steps: list[dict[str, Any]] = []

    def command(self, *arguments: str, seed: str = "0", home: bool = True) -> list[str]:
        where = ["--home", self.home] if home else []
        return [sys.executable, "-P", "-m", "femtoclaw", *where, "--json", *arguments]

    def call(self, *arguments: str, expect: int = 0, seed: str = "0", home: bool = True) -> dict[str, Any]:
        """Run one real command and return its JSON; a wrong exit code ends the demo."""
        shown = " ".join(part if len(part) < 60 and part.isprintable() else part[:57] + "..." for part in arguments)
        self.output.line(f"  $ femtoclaw {printable(shown, 120)}", "dim")
        done = subprocess.run(
            self.command(*arguments, home=home), capture_output=True, text=True, check=False, timeout=60,
            env=os.environ | {"PYTHONHASHSEED": seed}, cwd=self.folder if home else "/",
        )  # fmt: skip
        if done.returncode != expect:
            raise FemtoClawError(
                f"the demo's `{arguments[0]}` did not do what it should", where=self.home, expected=f"exit {expect}",
                found=f"exit {done.returncode}: {done.stderr[-800:]}",
            )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}
        return answer

    def step(self, title: str) -> None:
        self.output.line()
        self.output.line(f"{len(self.steps) + 1}. {title}", "bold")
        self.steps.append({"title": title})

    def proved(self, text: str, **facts: Any) -> None:
        self.steps[-1] |= {"proved": text} | facts
        self.output.line(f"  proved: {text}", "green")

    def write(self, name: str, text: str) -> str:
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path


def _script(*messages: object) -> str:
    return "".join((m if isinstance(m, str) else json.dumps(m)) + "\n" for m in messages)


def _call(tool: str, **args: object) -> dict[str, Any]:
    return {"tool_call": {"tool": tool, "args": args}}


def demo(arguments: Arguments, output: Output) -> int:
    """Run the whole story; 0 when every step showed what it claims."""
    if arguments.cluster:
        from femtoclaw.cli.cluster_demo import cluster_demo

        return cluster_demo(arguments, output)
    if arguments.static:
        raise UsageError("one node has no coordinator", where="--static", expected="--cluster --static")
    begun = time.monotonic()
    if arguments.keep is not None:
        if os.path.lexists(arguments.keep):
            raise ConfigurationError("--keep needs a new directory", where=arguments.keep)
        os.makedirs(arguments.keep, 0o700)
        body = _story(_Demo(os.path.abspath(arguments.keep), output))
    else:
        with tempfile.TemporaryDirectory(prefix="femtoclaw-demo-") as folder:
            body = _story(_Demo(folder, output))
    seconds = round(time.monotonic() - begun, 2)
    output.data({"ok": True, "seconds": seconds, "steps": body})
    output.line()
    output.line(f"all {len(body)} steps did what they claim, in {seconds} s", "green")
    return 0


def _story(demo: _Demo) -> list[dict[str, Any]]:
    _provision(demo)
    _work(demo)
    _crash(demo)
    size, state_hash = _replay(demo)
    _evidence(demo, size, state_hash)
    return demo.steps


def _provision(demo: _Demo) -> None:
    demo.step("Provision a node: keys, configuration, policy, claws, log")
    policy = demo.write("policy.cedar", POLICY)
    claws = [part for name in ("fs.read", "fs.list", "fs.write", "shell") for part in ("--enable", name)]
    made = demo.call("init", *claws, "--binary", "/bin/sleep", "--policy", policy)
    workspace = os.path.join(demo.home, "workspace")
    for name, text in (("notes.txt", NOTES), ("prod.env", "TOKEN=hunter2\n")):
        with open(os.path.join(workspace, name), "w") as file:
            file.write(text)
    demo.proved(f"six artifacts are provisioned and hashed; the log is {made['log']}", log=made["log"])


def _work(demo: _Demo) -> None:
    demo.step("A script brain works in several steps: allowed, denied and malformed intents")
    script = demo.write(
        "work.jsonl",
        _script(
            _call("fs.list", path="."),
            _call("fs.read", path="notes.txt"),
            _call("fs.read", path="prod.env"),
            '{"tool_call":{"tool":"fs.read","args":{"path":"a"},"args":{"path":"b"}}}',
            _call("fs.write", path="summary.txt", content="2 notes; release on Friday\n", mode="create"),
            {"message": {"content": "I wrote summary.txt."}},
        ),
    )
    done = demo.call("run", "Summarize my notes.", "--brain", f"script:{script}")
    for number, taken in enumerate(done["steps"], 1):
        demo.output.line(f"     step {number}: {taken['decision']} ({taken['code']})")
    with open(os.path.join(demo.home, "workspace", "summary.txt")) as file:
        written = file.read()
    decisions = [taken["decision"] for taken in done["steps"]]
    wanted = ["AUTHORIZED", "AUTHORIZED", "DENIED_POLICY_VIOLATION", "REJECTED", "AUTHORIZED", "AUTHORIZED"]
    if decisions != wanted or not written.startswith("2 notes"):
        raise FemtoClawError("the run went another way", where=demo.home, expected=wanted, found=decisions)
    demo.proved(
        "what policy permits ran on real files; the secret was refused by policy `no-secrets`; the doubled key was "
        "refused before the gate", decisions=decisions,
    )  # fmt: skip


def _crash(demo: _Demo) -> None:
    demo.step("Kill the process in the middle of an execution (kill -9), then recover")
    script = demo.write("crash.jsonl", _script(_call("shell", bin="sleep", argv=["30"])))
    child = subprocess.Popen(
        demo.command("run", "Wait.", "--brain", f"script:{script}"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_for_start(demo, child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    demo.output.line("     the execution was recorded as started; the process is dead")
    recovered = demo.call("recover")
    unknown = recovered["outcome_unknown"]
    if len(unknown) != 1:
        raise FemtoClawError("recovery found something else", where=demo.home, expected="1 in doubt", found=recovered)
    again = demo.call("recover")
    if again["outcome_unknown"]:
        raise FemtoClawError("recovering twice is not the same as once", where=demo.home, found=again)
    demo.proved(
        f"nothing acknowledged is lost; execution {unknown[0][-8:]} is OUTCOME_UNKNOWN and was not run again",
        outcome_unknown=unknown, seconds=recovered["seconds"],
    )  # fmt: skip


def _wait_for_start(demo: _Demo, child: subprocess.Popen[bytes]) -> None:
    """Poll the log, as a second reader, until the execution is durably started."""
    from femtoclaw.restore import load_state
    from wal import read_log_directory

    deadline = time.monotonic() + STARTED_SECONDS_MAX
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise FemtoClawError("the process to be killed ended by itself", found=f"exit {child.returncode}")
        reader = read_log_directory(os.path.join(demo.home, "log"))
        try:
            running = load_state(reader).live.executions.values()
        finally:
            reader.close()
        if any(execution.started for execution in running):
            return
        time.sleep(0.02)
    raise FemtoClawError("the execution did not start in time", expected=f"{STARTED_SECONDS_MAX} s")


def _replay(demo: _Demo) -> tuple[int, str]:
    demo.step("Replay: derive state and every decision again, without brain, claws or network")
    first = demo.call("replay", seed="1")
    second = demo.call("replay", seed="4242")
    if first != second or first["divergences"]:
        raise FemtoClawError("two replays differ", where=demo.home, expected=first, found=second)
    demo.proved(
        f"{first['decisions']} decisions re-derived, 0 divergences, the same state {first['state_hash'][:16]}... under "
        "two hash seeds", state_hash=first["state_hash"], decisions=first["decisions"],
    )  # fmt: skip
    return int(first["size"]), str(first["state_hash"])


def _evidence(demo: _Demo, size: int, state_hash: str) -> None:
    demo.step("Verify the whole log and export it")
    report = demo.call("verify")
    bundle = os.path.join(demo.folder, "evidence.bundle")
    made = demo.call("export", "--bundle", bundle)
    demo.proved(
        f"{report['size']} records: every checksum, link, root, signature and rule holds; root {report['root'][:16]}...",
        size=report["size"], root=report["root"],
    )  # fmt: skip

    demo.step("Verify the bundle with a public key and nothing else; then with one flipped bit")
    checked = demo.call("verify", "--bundle", bundle, "--key", made["key"], home=False)
    if checked["root"] != report["root"] or checked["state_hash"] != state_hash or checked["size"] != size:
        raise FemtoClawError("the bundle tells another story than the log", expected=report, found=checked)
    with open(bundle, "r+b") as file:
        file.seek(os.path.getsize(bundle) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    forged = demo.call("verify", "--bundle", bundle, "--key", made["key"], home=False, expect=3)
    found = forged.get("findings", [{}])[0].get("code") or forged.get("error", {}).get("what")
    demo.proved(f"an auditor without our home reaches the same root and state; one flipped bit is caught: {found}")
