"""Commands of a home that another process serves: the same answers, texts and exit codes as of one at rest."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from femtoclaw import events
from femtoclaw.api.client import connect
from femtoclaw.cli.recorded_state import recorded_state
from femtoclaw.errors import UnavailableError
from femtoclaw.event_codec import decode
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from femtoclaw.secret_store import SecretStore
from femtoclaw.state import State
from tests.cli.in_process import run_here
from tests.cli.node import READ, SAY, START, Node, call, environment
from tests.femtoclaw.serving_process import serving, wait_until
from wal.reader import read_log_directory
from wal.record import KIND_EVENT

POLICY = """
@id("look") permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource);
@id("asked") @approvals("1") permit (principal, action == Action::"fs.write", resource) when { context.path like "held/*" };
@id("write") permit (principal, action == Action::"fs.write", resource) when { context.path == "out.txt" };
@id("sleep") permit (principal, action == Action::"shell", resource) when { context.binary == "/bin/sleep" };
"""
WRITE = call("fs.write", path="out.txt", content="x", mode="replace")
HELD = call("fs.write", path="held/a.txt", content="x", mode="replace")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node on which a call can be permitted, denied and held."""
    folder = tmp_path_factory.mktemp("served")
    policy = folder / "policy.cedar"
    policy.write_text(POLICY)
    node = Node(folder / "home")
    enabled = [word for claw in ("fs.read", "fs.list", "fs.write", "shell") for word in ("--enable", claw)]
    node.call("init", *enabled, "--binary", "/bin/sleep", "--policy", str(policy))
    (node.workspace / "notes.txt").write_text("Ship on Friday.\n")
    node.workspace.chmod(0o777)
    (node.workspace / "held").mkdir()
    (node.workspace / "held").chmod(0o777)
    script = folder / "s.jsonl"
    script.write_text("".join(json.dumps(each) + "\n" for each in (READ, HELD, SAY)))
    return node


@pytest.fixture
def node(made: Node, tmp_path: Path) -> Node:
    """A copy of it, with the script beside it."""
    shutil.copy(made.path.parent / "s.jsonl", tmp_path)
    return made.copy(tmp_path / "home")


@pytest.fixture(scope="module")
def served(made: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One that is served while the tests here that leave it as it was work with it."""
    folder = tmp_path_factory.mktemp("work")
    node = made.copy(folder / "home")
    with serving(node.path):
        yield node
    node.call("verify")


# --- the same as at rest


def told(node: Node, capture: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """What a command tells, without what differs between two lives of a node: ids, indexes, times. In this process: sixty
    interpreters would take a minute to start."""
    before = os.getcwd()
    os.chdir(node.path.parent)
    try:
        code = run_here("--home", str(node.path), *words)
    finally:
        os.chdir(before)
    captured = capture.readouterr()
    texts = []
    for text in (captured.out, captured.err):
        text = re.sub(r"\b[0-9a-f]{32,64}\b", "ID", text)
        text = re.sub(r'("index": |at index |^ +)\d+', r"\1N", text, flags=re.MULTILINE)
        text = re.sub(r'("expires_ns": )\d+', r"\1T", text)
        text = re.sub(r"(time left +|, )[\d.]+ (s|ms)\b", r"\1T", text)
        text = "\n".join(line for line in text.splitlines() if "not encrypted at rest" not in line)
        texts.append(text.replace(str(node.path), "HOME"))
    return code, texts[0], texts[1]


def held_now(node: Node) -> str:
    """The held call that came last."""
    return sorted(recorded_state(Home(str(node.path))).live.approvals)[-1]


STEPS: tuple[tuple[str, int, Callable[[Node], tuple[str, ...]]], ...] = (
    ("an answered message", 0, lambda node: ("intent", json.dumps(SAY))),
    ("an executed call", 0, lambda node: ("intent", json.dumps(WRITE))),
    ("its JSON", 0, lambda node: ("--json", "intent", json.dumps(READ))),
    ("a denied call", 1, lambda node: ("intent", json.dumps(call("fs.write", path="x", content="", mode="replace")))),
    ("a rejected message", 1, lambda node: ("--json", "intent", "{")),
    ("a failing claw", 1, lambda node: ("intent", json.dumps(call("fs.read", path="none.txt")))),
    ("of a subject", 0, lambda node: ("intent", json.dumps(READ), "--subject", "ada")),
    ("of no subject", 2, lambda node: ("intent", json.dumps(READ), "--subject", "not one!")),
    ("a run", 0, lambda node: ("run", "hello", "--brain", "echo")),
    ("an unknown brain", 2, lambda node: ("run", "hello", "--brain", "sage")),
    ("no script", 2, lambda node: ("run", "hello", "--brain", f"script:{node.path}/none.jsonl")),
    ("a run that is held", 1, lambda node: ("run", "go", "--brain", "script:s.jsonl")),
    ("an approval, and the run goes on", 0, lambda node: ("approve", held_now(node), "--brain", "script:s.jsonl")),
    ("a held call", 1, lambda node: ("--json", "intent", json.dumps(HELD))),
    ("by nobody", 1, lambda node: ("approve", held_now(node), "--as", "nobody")),
    ("an approval", 0, lambda node: ("--json", "approve", held_now(node))),
    ("nothing to approve", 2, lambda node: ("approve", "0" * 32)),
    ("another held call", 1, lambda node: ("intent", json.dumps(HELD))),
    ("a denial", 0, lambda node: ("deny", held_now(node), "--reason", "no")),
    ("a run of a subject", 0, lambda node: ("--json", "run", "hello", "--brain", "echo", "--subject", "ada")),
    ("redact", 0, lambda node: ("redact", "ada")),
    ("of an erased subject", 2, lambda node: ("intent", json.dumps(READ), "--subject", "ada")),
    ("claw disable", 0, lambda node: ("claw", "disable", "fs.list")),
    ("a disabled claw", 1, lambda node: ("intent", json.dumps(call("fs.list", path=".")))),
    ("claw enable", 0, lambda node: ("--json", "claw", "enable", "fs.list")),
    ("no such claw", 2, lambda node: ("claw", "enable", "fs.none")),
    ("config set", 0, lambda node: ("config", "set", "runtime.steps_max=3")),
    ("config set to nonsense", 2, lambda node: ("config", "set", "runtime.steps_max=-3")),
    ("no such operator", 1, lambda node: ("operator", "revoke", "nobody")),
    ("no such secret", 1, lambda node: ("secret", "remove", "token")),
    ("no such publisher", 1, lambda node: ("publisher", "distrust", "acme")),
    ("a policy that loosens", 1, lambda node: ("policy", "set", written(node, '@id("a") permit (principal, action, resource);'))),
    ("no policy", 2, lambda node: ("policy", "set", written(node, "permit (principal"))),
    ("a policy that tightens", 0, lambda node: ("policy", "set", written(node, TIGHTER))),
    ("what it denies", 1, lambda node: ("intent", json.dumps(WRITE))),
    ("contain", 0, lambda node: ("contain", "--reason", "fire")),
    ("a contained node", 1, lambda node: ("intent", json.dumps(READ))),
    ("release", 0, lambda node: ("contain", "--lift")),
    ("nothing to release", 1, lambda node: ("--json", "contain", "--lift")),
)  # fmt: skip
TIGHTER = '@id("look") permit (principal, action == Action::"fs.read", resource);'


def written(node: Node, text: str) -> str:
    """A file that holds a policy."""
    path = node.path.parent / "next.cedar"
    path.write_text(text)
    return path.name


def test_commands_tell_the_same_as_of_a_node_at_rest(
    made: Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts, JSON and exit codes, one command after another on two copies; at the end both have recorded the same decisions,
    and both histories hold."""
    copies = []
    for name in ("rest", "work"):
        (tmp_path / name).mkdir()
        shutil.copy(made.path.parent / "s.jsonl", tmp_path / name)
        copies.append(made.copy(tmp_path / name / "home"))
    with serving(copies[1].path):
        for step, code, words in STEPS:
            at_rest, at_work = (told(each, capsys, *words(each)) for each in copies)
            assert at_work == at_rest, step
            assert at_work[0] == code, (step, at_work)
    decided = [decisions(each) for each in copies]
    assert decided[0] == decided[1] and len(decided[0]) > 20
    for each in copies:
        assert told(each, capsys, "verify")[0] == 0
        assert told(each, capsys, "intent", json.dumps(SAY))[0] == 0  # it starts: its files are the recorded ones


def decisions(node: Node) -> list[tuple[str, str]]:
    """What the log holds of decisions, in order."""
    reader = read_log_directory(str(node.path / "log"))
    try:
        found = [decode(record.payload) for record in reader.scan() if record.kind == KIND_EVENT]
    finally:
        reader.close()
    return [
        (each.decision, each.reason) for each in found
        if isinstance(each, events.AuthorizationDecided | events.ControlDecided)
    ]  # fmt: skip


# --- what is put beside a change


@pytest.mark.invariant("I12")
def test_a_secret_that_is_set_is_struck_out_from_then_on(served: Node) -> None:
    """The serving process reads its secrets anew; after its end the value is still the recorded one."""
    served.call("secret", "set", "token", stdin=b"swordfish-123456\n")
    message = call("fs.write", path="out.txt", content="swordfish-123456", mode="replace")
    assert served.intent(message, expect=1).body["decision"] == "REJECTED"
    served.call("secret", "set", "token", stdin=b"another-123456\n")
    assert served.intent(message).body["decision"] == "AUTHORIZED"
    served.call("secret", "remove", "token")
    assert not (served.path / "secrets" / "token.box").exists()


def test_operators_come_and_change_their_keys(served: Node) -> None:
    """Who was added signs at once; another key of theirs is in the home, and the old one is not taken any more."""
    folder = served.path.parent
    public = served.call("operator", "keygen", "ben", "--out", str(folder / "ben.key")).body["public_key"]
    served.call("operator", "add", "ben", "--role", "RuntimeOperator", "--public-key", public)
    served.call("contain", "--operator-key", str(folder / "ben.key"))
    served.call("operator", "rekey", "ben", "--out", str(folder / "new.key"), "--operator-key", str(folder / "ben.key"))
    served.call("contain", "--lift", "--operator-key", str(folder / "ben.key"), expect=1)
    served.call("contain", "--lift", "--operator-key", str(folder / "new.key"))
    served.call("key", "verify")


def test_an_erased_subject_is_forgotten_by_the_serving_process(served: Node) -> None:
    """Its key is gone from the disk and from memory: nothing of theirs is taken or opened any more."""
    served.intent(READ, expect=0)
    served.call("intent", json.dumps(READ), "--subject", "ada")
    assert os.listdir(served.path / "subjects") == ["ada.key"]
    served.call("redact", "ada")
    assert os.listdir(served.path / "subjects") == []
    served.call("intent", json.dumps(READ), "--subject", "ada", expect=2)


def test_a_configuration_that_no_process_can_follow_is_refused(served: Node) -> None:
    """It says what to stop, records nothing, and leaves the file; what a node at work follows is taken over at once."""
    before = (served.path / "femtoclaw.toml").read_bytes()
    size = served.call("status").body["size"]
    for change in ("memory.map_bytes=1073741824", 'security.workspace="workspace2"'):
        (served.path / "workspace2").mkdir(exist_ok=True)
        answer = served.call("config", "set", change, expect=4)
        assert "serve" in answer.body["error"]["remedy"] and change.split("=")[0] in answer.body["error"]["where"]
    assert (served.path / "femtoclaw.toml").read_bytes() == before
    assert served.call("status").body["size"] == size
    served.call("config", "set", 'runtime.agent="clerk"')
    served.call("run", "hello", "--brain", "echo")
    started = served.call("log", "--kind", "RunStarted", "--limit", "1").body
    assert started["agent"] == "clerk"


@pytest.mark.parametrize(
    "words", [("key", "rotate"), ("recover",), ("claw", "install", "."), ("key", "protect")], ids=" ".join
)  # fmt: skip
def test_what_needs_a_node_at_rest_is_refused(served: Node, words: tuple[str, ...]) -> None:
    """Exit 4, with nothing changed, and it says what to stop."""
    keys = {path.name: path.read_bytes() for path in (served.path / "keys").iterdir() if path.is_file()}
    error = served.call(*words, expect=4).body["error"]
    assert "stop" in error["remedy"]
    assert keys == {path.name: path.read_bytes() for path in (served.path / "keys").iterdir() if path.is_file()}
    served.intent(SAY)


def test_two_commands_never_stage_the_same_files(served: Node) -> None:
    """Both secrets are there, each with the value that was recorded, whatever order they came in."""
    words = [sys.executable, "-c", START, "--json", "--home", str(served.path), "secret", "set"]
    both = [
        subprocess.Popen([*words, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env=environment(), cwd=served.path.parent)
        for name in ("one", "one", "two")
    ]  # fmt: skip
    for number, process in enumerate(both):
        _, stderr = process.communicate(f"value-{number}-123456".encode(), timeout=60)
        assert process.returncode == 0, stderr
    recorded = recorded_state(Home(str(served.path))).node.secrets
    store = SecretStore(Home(str(served.path)), load_signer(Home(str(served.path))))
    assert store.get("one", recorded["one"].mark) in ("value-0-123456", "value-1-123456")
    assert store.get("two", recorded["two"].mark) == "value-2-123456"


# --- the socket


def test_the_socket_is_its_owners_alone(served: Node) -> None:
    """Mode 0600 in the home; another user can neither reach nor enter it."""
    status = (served.path / "serve.sock").lstat()
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600
    assert not (served.path / "serve.new").exists()
    if os.geteuid() != 0:
        return
    served.path.chmod(0o755)  # as wide as a home may be
    parent = served.path.parent
    while parent != parent.parent and not parent.stat().st_mode & 0o001:
        parent.chmod(parent.stat().st_mode | 0o011)
        parent = parent.parent
    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            socket.socket(socket.AF_UNIX).connect(str(served.path / "serve.sock"))
        except PermissionError:
            outcome = 0
        finally:
            os._exit(outcome)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.chown(served.path / "serve.sock", 65534, 65534)
    try:
        assert served.intent(SAY, expect=3).body["error"]["type"] == "SecurityError"  # nobody is told what to do by it
    finally:
        os.chown(served.path / "serve.sock", 0, 0)


def test_a_socket_that_a_kill_left_behind_is_no_server(node: Node) -> None:
    """The next command opens the node itself and closes what was cut; the next server takes the name over."""
    with serving(node.path) as process:
        process.kill()
        process.wait()
    assert (node.path / "serve.sock").exists()
    node.intent(SAY)
    with serving(node.path):
        node.intent(SAY)
    assert not (node.path / "serve.sock").exists()
    node.call("verify")


def test_something_else_at_the_name_of_the_socket_is_left_alone(node: Node) -> None:
    """A server does not start over it, and commands do not follow it."""
    (node.path / "serve.sock").write_text("mine")
    node.intent(SAY)
    with pytest.raises(AssertionError, match="something else stands"), serving(node.path):
        pass
    assert (node.path / "serve.sock").read_text() == "mine"
    node.intent(SAY)


def test_a_home_with_a_long_path_can_be_served(node: Node, tmp_path: Path) -> None:
    """A socket's path has 107 bytes at most; the home's may have more."""
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    folder.mkdir(parents=True)
    far = node.copy(folder / "home")
    with serving(far.path):
        assert (far.path / "serve.sock").exists()
        far.intent(READ)
        assert far.call("run", "hello", "--brain", "echo").body["response"] == "hello"


def test_a_home_that_nobody_serves_needs_no_grpc(node: Node) -> None:
    """Neither does its command line: nothing of it is loaded by these commands."""
    program = (
        "import sys\nfrom femtoclaw.cli.main import run\ntry:\n    run(sys.argv[1:])\nfinally:\n"
        "    print(sorted({'grpc', 'google.protobuf', 'femtoclaw.api.client'} & set(sys.modules)))"
    )
    for words in ("--version", "log", "status", "intent {}", "run x --brain echo", "contain"):
        done = subprocess.run(
            [sys.executable, "-c", program, "--home", str(node.path), *words.split()], capture_output=True, text=True,
            env=environment(), cwd=node.path.parent, check=False,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "[]", (words, done)


# --- interruptions


def sleeping(node: Node, seconds: int) -> subprocess.Popen[bytes]:
    """A command in whose middle a claw sleeps; returns when that is on record."""
    script = node.path.parent / "long.jsonl"
    lines = (call("shell", bin="sleep", argv=[str(seconds)]), WRITE, SAY)
    script.write_text("".join(json.dumps(each) + "\n" for each in lines))
    process = subprocess.Popen(
        node.command("--json", "run", "go", "--brain", f"script:{script}"), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=environment(), cwd=node.path.parent,
    )  # fmt: skip
    wait_until(lambda: any(each.started for each in state(node).live.executions.values()), "the claw's start")
    return process


def state(node: Node) -> State:
    return recorded_state(Home(str(node.path)))


@pytest.mark.invariant("I5")
def test_an_interrupted_command_ends_its_run_before_the_next_thought(node: Node) -> None:
    """Exit 5; what the claw did is recorded, the next call of the script is never judged, and the node goes on."""
    with serving(node.path):
        process = sleeping(node, 4)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 5, (stdout, stderr)
        wait_until(lambda: not state(node).live.runs, "the run's end")
        rows = node.call("log", "--limit", "0").objects
        assert [row["claw"] for row in rows if row["type"] == "ExecutionStarted"] == ["shell"]
        assert [row["status"] for row in rows if row["type"] == "ExecutionFinished"] == ["success"]
        assert [row["outcome"] for row in rows if row["type"] == "RunEnded"] == ["no_inference"]
        assert not (node.workspace / "out.txt").exists()
        node.intent(SAY)


@pytest.mark.invariant("I2")
def test_a_server_that_dies_in_the_middle_leaves_an_unknown_outcome(node: Node) -> None:
    """The command says so with exit 5, and the next start closes the execution; it is not run again."""
    with serving(node.path) as server:
        process = sleeping(node, 30)
        server.kill()
        server.wait()
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 5, (stdout, stderr)
    assert json.loads(stdout)["error"]["type"] == "OutcomeUnknownError"
    assert len(node.call("recover").body["outcome_unknown"]) == 1


def test_a_node_that_is_stopped_in_the_middle_of_a_connection_is_unavailable(node: Node) -> None:
    """A process that holds the socket and does not answer: said so within bounded time, and nothing was sent."""
    holder = subprocess.Popen(
        [sys.executable, "-c",
         "import socket,sys,time; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('x', flush=True);"
         "time.sleep(100)", str(node.path / "serve.sock")],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        with pytest.raises(UnavailableError, match="does not answer"), connect(Home(str(node.path)), 0.2):
            pass
    finally:
        holder.kill()
        holder.wait()
    node.intent(SAY)


# --- many at once


@pytest.mark.invariant("I3")
def test_many_callers_at_once_are_served_one_history(served: Node) -> None:
    """Every intent is answered once and recorded once, and replay derives the same decisions."""
    before = len(served.call("log", "--limit", "0", "--kind", "ExecutionCompleted").objects)
    with connect(Home(str(served.path))) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.intent(json.dumps(READ).encode()), range(40)))
    assert {(each.decision, each.outcome) for each in answers} == {("AUTHORIZED", "success")}
    assert len({each.execution_id for each in answers}) == 40
    rows = served.call("log", "--limit", "0", "--kind", "ExecutionCompleted").objects
    assert len(rows) - before == 40
    assert served.call("replay").body["divergences"] == []
