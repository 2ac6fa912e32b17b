"""Makes ``format1.tar.gz``: a home of format 1, by the last program that made such homes.

    python tests/golden/homes/make_format1.py     (in a clone with its history, with the environment of scripts/test)

The program is commit cceb81e of this repository, checked out beside it for the moment. It provisions a node and works with it:
calls that are executed, denied, rejected and answered, a run with several steps, a changed configuration, and a process that is
killed in the middle of a call. What is made differs in keys, ids and times each time; the tests depend on none of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent
COMMIT = "cceb81e"
TARGET = Path(__file__).resolve().parent / "format1.tar.gz"
POLICY = """
@id("look") permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource);
@id("notes") permit (principal, action == Action::"fs.write", resource) when { context.path like "notes/*" };
@id("sleep") permit (principal, action == Action::"shell", resource) when { context.binary == "/bin/sleep" };
"""


def call(tool: str, **args: object) -> str:
    return json.dumps({"tool_call": {"tool": tool, "args": args}})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        program, home = Path(folder) / "program", Path(folder) / "home"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "-q", "--detach", program, COMMIT], check=True)
        try:
            make(program, home, Path(folder))
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", program], check=True)
        with tarfile.open(TARGET, "w:gz", compresslevel=9) as archive:
            archive.add(home, "home", filter=anonymous)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def make(program: Path, home: Path, folder: Path) -> None:
    policy = folder / "policy.cedar"
    policy.write_text(POLICY)
    start = "import sys; sys.argv[0] = 'femtoclaw'; from femtoclaw.__main__ import main; main()"

    def command(*words: str) -> list[str]:
        return [sys.executable, "-c", start, "--home", str(home), *words]

    def run(*words: str, expect: int = 0) -> None:
        done = subprocess.run(command(*words), cwd=program, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == expect, done

    variables = os.environ | {"PYTHONPATH": str(program), "PYTHONDONTWRITEBYTECODE": "1"}
    claws = [word for name in ("fs.read", "fs.list", "fs.write", "shell") for word in ("--enable", name)]
    run("init", *claws, "--binary", "/bin/sleep", "--policy", str(policy))
    (home / "workspace" / "todo.txt").write_text("Ship on Friday.\n")
    run("intent", call("fs.read", path="todo.txt"))
    run("intent", call("fs.write", path="other.txt", content="x", mode="create"), expect=1)
    run("intent", "{", expect=1)
    run("intent", json.dumps({"message": {"content": "hello"}}))
    script = folder / "script.jsonl"
    script.write_text(
        f"{call('fs.list', path='.')}\n{call('fs.read', path='todo.txt')}\n" + '{"message":{"content":"done"}}\n'
    )
    run("run", "what is to do?", "--brain", f"script:{script}")
    config = home / "femtoclaw.toml"
    config.write_text(config.read_text().replace("steps_max = 16", "steps_max = 8"))
    run("run", "again", "--brain", "echo")
    killed = subprocess.Popen(
        command("intent", call("shell", bin="/bin/sleep", argv=["30"])), cwd=program, env=variables, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(200):
        if "ExecutionStarted" in rows(command, variables, program):
            break
        assert killed.poll() is None, "the call ended before it could be cut"
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    run("run", "after the crash", "--brain", "echo")


def rows(command: object, variables: dict[str, str], program: Path) -> list[str]:
    words = command("--json", "log", "--limit", "3")  # type: ignore[operator]
    done = subprocess.run(words, cwd=program, env=variables, capture_output=True, text=True, check=False)
    return [json.loads(line)["type"] for line in done.stdout.splitlines()]


if __name__ == "__main__":
    main()
