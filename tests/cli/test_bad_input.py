"""The mistakes people make and the damage disks do: a clear error, the contract's exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.node import READ, SAY, Answer, Node, call, environment

DEEP = b'{"message":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
WRONG_JSON = {
    "not JSON": b"{",
    "empty": b"",
    "an array": b"[]",
    "two objects": b'{"message":{"content":"a"}}{"message":{"content":"b"}}',
    "trailing bytes": b'{"message":{"content":"a"}} x',
    "both forms": b'{"message":{"content":"a"},"tool_call":{"tool":"fs.read","args":{}}}',
    "unknown key": b'{"message":{"content":"a"},"extra":1}',
    "unknown inner key": b'{"message":{"content":"a","role":"x"}}',
    "doubled key": b'{"message":{"content":"a","content":"b"}}',
    "doubled deep key": b'{"tool_call":{"tool":"fs.read","args":{"path":"a","path":"b"}}}',
    "NaN": b'{"tool_call":{"tool":"fs.read","args":{"path":"a","offset":NaN}}}',
    "Infinity": b'{"tool_call":{"tool":"fs.read","args":{"path":"a","offset":-Infinity}}}',
    "huge integer": b'{"tool_call":{"tool":"fs.read","args":{"path":"a","offset":' + b"9" * 50 + b"}}}",
    "lone surrogate": b'{"message":{"content":"\\ud800"}}',
    "byte order mark": b'\xef\xbb\xbf{"message":{"content":"a"}}',
    "not UTF-8": b'{"message":{"content":"\xff"}}',
    "content no text": b'{"message":{"content":7}}',
    "args no object": b'{"tool_call":{"tool":"fs.read","args":[]}}',
    "args missing": b'{"tool_call":{"tool":"fs.read"}}',
    "unknown tool": b'{"tool_call":{"tool":"fs.raed","args":{}}}',
    "other case": b'{"tool_call":{"tool":"FS.READ","args":{"path":"a"}}}',
    "schema violation": b'{"tool_call":{"tool":"fs.read","args":{"path":7}}}',
    "too deep": DEEP,
    "too large": b'{"message":{"content":"' + b"x" * 300_000 + b'"}}',
}


@pytest.mark.requirement("PROTO-12.1")
def test_wrong_messages_are_rejected_recorded_and_execute_nothing(node: Node) -> None:
    """Each has a stable code and exit 1; the log holds each with its raw bytes; no execution started."""
    kinds = set()
    for name, raw in WRONG_JSON.items():
        body = node.intent(raw, expect=1).body
        assert body["decision"] == "REJECTED", name
        assert body["code"].isupper(), name
        kinds.add(body["result"]["kind"])
    assert kinds == {"INVALID_JSON", "MALFORMED_STRUCTURE", "UNKNOWN_CAPABILITY", "INVALID_ARGUMENTS", "AMBIGUOUS"}
    rejected = node.call("log", "--kind", "ProtocolRejected", "--limit", "0").objects
    assert len(rejected) == len(WRONG_JSON) + 1
    started = node.call("log", "--kind", "ExecutionStarted", "--limit", "0").objects
    assert len(started) == 1
    assert node.call("verify").body["ok"]


def refused(node: Node, code: int, *words: str) -> Answer:
    """An answer with the error object, text for people, and the exit code on both."""
    answer = node.call(*(words or ("intent", json.dumps(SAY))), expect=code)
    error = answer.body["error"]
    assert error["exit_code"] == code
    assert error["what"]
    assert error["remedy"]
    assert f"exit code {code}" in answer.stderr
    assert "Traceback" not in answer.stderr
    return answer


def links(node: Node) -> list[str]:
    return [entry["link"] for entry in node.call("log", "--limit", "0").objects]


def test_no_home(tmp_path: Path) -> None:
    """A missing directory, and one that is no home."""
    assert "no node here" in refused(Node(tmp_path / "missing"), 2).stderr
    (tmp_path / "empty").mkdir()
    assert "not a complete home" in refused(Node(tmp_path / "empty"), 2).stderr


def test_init_never_touches_what_is_there(node: Node) -> None:
    """A second init is refused and the first node is as it was."""
    before = links(node)
    refused(node, 2, "init")
    assert links(node) == before


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


CONFIGURATIONS: dict[str, tuple[Callable[[Node], object], str]] = {
    "not TOML": (lambda node: (node.path / "femtoclaw.toml").write_text("[runtime"), "not TOML"),
    "unknown key": (lambda node: (node.path / "femtoclaw.toml").write_text("[runtime]\nstep_max = 3\n"), "step_max"),
    "unknown domain": (lambda node: (node.path / "femtoclaw.toml").write_text("[runtme]\n"), "runtme"),
    "wrong type": (
        lambda node: (node.path / "femtoclaw.toml").write_text('[runtime]\nsteps_max = "3"\n'),
        "wrong type",
    ),
    "out of bounds": (lambda node: (node.path / "femtoclaw.toml").write_text("[runtime]\nsteps_max = 0\n"), "bounds"),
    "a setting that no claw has": (
        lambda node: (node.path / "femtoclaw.toml").write_text(
            '[capabilities.shell.settings]\nbinarys = ["/bin/sh"]\n'
        ),
        "shell.settings.binarys",
    ),
    "binaries no list": (
        lambda node: (node.path / "femtoclaw.toml").write_text('[capabilities.shell.settings]\nbinaries = "/bin/sh"\n'),
        "shell.settings.binaries",
    ),
    "a date": (
        lambda node: (node.path / "femtoclaw.toml").write_text("[runtime.brains.openai]\nbase_url = 2026-11-21\n"),
        "openai.base_url",
    ),
    "a broken address": (
        lambda node: (node.path / "femtoclaw.toml").write_text('[runtime.brains.openai]\nbase_url = "http://[::1/"\n'),
        "openai.base_url",
    ),
    "workspace gone": (lambda node: shutil.move(node.workspace, node.path / "elsewhere"), "security.workspace"),
    "unknown claw": (lambda node: append(node.path / "femtoclaw.toml", "\n[capabilities.fly]\n"), "fly"),
    "configuration gone": (lambda node: (node.path / "femtoclaw.toml").unlink(), "femtoclaw.toml"),
    "policy gone": (lambda node: (node.path / "policy.cedar").unlink(), "policy.cedar"),
    "policy no UTF-8": (lambda node: (node.path / "policy.cedar").write_bytes(b"\xff\xfe"), "UTF-8"),
    "public key gone": (lambda node: (node.path / "keys" / "node.pub").unlink(), "node.pub"),
    "public key no key": (lambda node: (node.path / "keys" / "node.pub").write_text("zz"), "not a public key"),
    "key readable by all": (lambda node: (node.path / "keys" / "node.key").chmod(0o644), "too wide"),
    "operator's key readable by all": (
        lambda node: next((node.path / "keys" / "operators").glob("*.key")).chmod(0o644),
        "too wide",
    ),
    "home writable by all": (lambda node: node.path.chmod(0o777), "too wide"),
}


@pytest.mark.requirement("ERROR-10.1", "DEPLOY-6.1", "STORAGE-18.2")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_wrong_configuration_starts_nothing(node: Node, name: str) -> None:
    """Exit 2 with the file and key; not a byte of the records differs. What only differs from the record: test_integrity."""
    before = (node.path / "log" / "data" / "data.mdb").read_bytes()
    breaks, said = CONFIGURATIONS[name]
    breaks(node)
    assert said in refused(node, 2).stderr
    assert (node.path / "log" / "data" / "data.mdb").read_bytes() == before


WRONG_POLICIES = {
    "broken": ("permit (", "brackets"),
    "misspelt": ('@id("a") permit (principal, action, resource) when { context.pth == "x" };', "pth"),
    "a claw that is not": ('@id("a") permit (principal, action == Action::"fs.raed", resource);', "fs.raed"),
    "a name twice": ('@id("a") permit (principal, action, resource);' * 2, "a"),
}


@pytest.mark.parametrize("name", WRONG_POLICIES)
def test_a_broken_policy_leaves_the_one_in_force(node: Node, name: str) -> None:
    """Exit 2 with the place in it; the request is not recorded, the policy in force and its file are as they were, and
    the node works with them."""
    text, said = WRONG_POLICIES[name]
    wrong = node.path.parent / "wrong.cedar"
    wrong.write_text(text)
    good = (node.path / "policy.cedar").read_bytes()
    answer = refused(node, 2, "policy", "set", str(wrong))
    assert answer.body["error"]["type"] == "PolicyError"
    assert said in answer.stderr
    assert node.call("status").body["policy"]["version"] == 1
    assert node.call("log", "--kind", "ControlRequested").objects == []
    assert (node.path / "policy.cedar").read_bytes() == good
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    assert sorted(path.name for path in node.path.iterdir() if "cedar" in path.name) == ["policy.cedar"]
    assert node.call("verify").body["ok"]


def test_another_process_has_the_log(node: Node) -> None:
    """While one works a second is refused with exit 4 and the pid; reading commands work beside it."""
    words = node.command("--json", "intent", json.dumps(call("shell", bin="sleep", argv=["30"])))
    busy = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=environment())
    try:
        wait_for_start(node)
        assert f"process {busy.pid}" in refused(node, 4).stderr
        assert node.call("status").body["running"]
        assert node.call("verify").body["ok"]
        assert node.call("log").objects
    finally:
        busy.kill()
        busy.wait()


def wait_for_start(node: Node, count: int = 2) -> None:
    """Until ``count`` executions have started in all (the template has one)."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if len(node.call("log", "--kind", "ExecutionStarted", "--limit", "0").objects) >= count:
            return
    raise AssertionError("the execution did not start")


@pytest.mark.invariant("I7")
@pytest.mark.requirement("STATE-9.1")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_node_that_is_stopped_in_mid_execution(node: Node, how: signal.Signals) -> None:
    """kill -9, Ctrl-C, SIGTERM: the next start closes the execution as OUTCOME_UNKNOWN once, and all is verifiable."""
    words = node.command("--json", "intent", json.dumps(call("shell", bin="sleep", argv=["30"])))
    busy = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    wait_for_start(node)
    before = links(node)
    busy.send_signal(how)
    busy.wait(20)
    told = node.call("status", expect=1)
    assert told.body["in_flight"]["executions"] == 1
    assert "the next start closes" in told.stderr
    first = node.call("recover").body
    assert len(first["outcome_unknown"]) == 1
    assert node.call("status").body["in_flight"]["executions"] == 0
    assert node.call("recover").body["outcome_unknown"] == []
    assert links(node)[: len(before)] == before
    assert node.call("verify").body["ok"]
    assert node.intent(READ).body["decision"] == "AUTHORIZED"


def damage_record(node: Node) -> None:
    path = node.path / "log" / "data" / "data.mdb"
    raw = bytearray(path.read_bytes())
    raw[raw.rfind(b"Ship on Friday")] ^= 1
    path.write_bytes(raw)


def test_rolled_back_data(node: Node) -> None:
    """An older data.mdb under a newer HEAD: exit 3, found by verify, nothing is cut, and an archive repairs it."""
    data = node.path / "log" / "data" / "data.mdb"
    old = data.read_bytes()
    node.intent(SAY)
    before = links(node)
    bundle = str(node.path.parent / "archive.bundle")
    node.call("export", "--bundle", bundle)
    data.write_bytes(old)
    assert "shorter than what was promised" in refused(node, 3).stderr
    assert not node.call("verify", expect=3).body["ok"]
    assert node.call("recover", "--dry-run", expect=3).body["verdict"] == "halt-rolled-back"
    refused(node, 3, "recover", "--salvage")
    assert data.read_bytes() == old
    node.call("recover", "--from-archive", bundle)
    assert links(node)[: len(before)] == before
    assert node.call("verify").body["ok"]


@pytest.mark.requirement("STORAGE-13.3")
def test_a_damaged_record_below_the_commit_point(node: Node) -> None:
    """Exit 3 with the index; verify names it; a bundle repairs it; the damaged log is kept."""
    before = links(node)
    bundle = str(node.path.parent / "archive.bundle")
    node.call("export", "--bundle", bundle)
    damage_record(node)
    refused(node, 3)
    findings = node.call("verify", expect=3).body["findings"]
    assert [finding["code"] for finding in findings] == ["RECORD_DAMAGED"]
    assert findings[0]["where"].startswith("index ")
    kept = node.call("recover", "--from-archive", bundle).body["evidence"]
    assert Path(kept).is_dir()
    assert links(node)[: len(before)] == before
    assert node.call("verify").body["ok"]
    assert node.intent(READ).body["decision"] == "AUTHORIZED"


def test_an_accepted_gap_is_stated_and_the_node_goes_on(node: Node) -> None:
    """Without any source the operator may accept the loss: a new log embeds the old one's head and what it promised."""
    damage_record(node)
    refused(node, 3, "recover", "--salvage")
    body = node.call("recover", "--accept-gap").body
    assert body["good_size"] < body["promised_size"]
    assert Path(body["evidence"]).is_dir()
    assert node.intent(READ, expect=1).body["code"] == "CONTAINED"  # what the lost records stopped, nobody knows
    node.call("contain", "--lift", "--reason", "looked at it")
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    assert node.call("verify").body["ok"]
    refused(node, 2, "recover", "--accept-gap")


def test_a_gap_is_not_accepted_where_nothing_is_lost(node: Node) -> None:
    """A healthy log is not given up by mistake."""
    before = links(node)
    assert "nothing is lost" in refused(node, 2, "recover", "--accept-gap").stderr
    assert links(node) == before


def test_a_missing_head_is_rebuilt_from_the_checkpoint(node: Node) -> None:
    """No HEAD: exit 3, then recover checks the records against the signed checkpoint and rebuilds it."""
    before = links(node)
    (node.path / "log" / "HEAD").unlink()
    assert "HEAD" in refused(node, 3).stderr
    node.call("recover")
    assert links(node)[: len(before)] == before
    assert node.call("verify").body["ok"]


def test_a_missing_head_without_a_checkpoint_is_not_guessed(node: Node) -> None:
    """Nothing says what was promised: recover refuses too."""
    (node.path / "log" / "HEAD").unlink()
    (node.path / "log" / "checkpoints" / "latest").unlink()
    refused(node, 3, "recover")


def test_a_truncated_store_is_told_without_a_crash(node: Node) -> None:
    """A file shorter than its own meta page says: exit 3 from every command that opens it."""
    os.truncate(node.path / "log" / "data" / "data.mdb", 20_000)
    for words in (("intent", json.dumps(SAY)), ("log",), ("status",), ("recover", "--dry-run")):
        refused(node, 3, *words)
    assert not node.call("verify", expect=3).body["ok"]


def test_a_deleted_lock_file_of_a_stopped_node_is_harmless(node: Node) -> None:
    """lock.mdb holds nothing durable."""
    (node.path / "log" / "data" / "lock.mdb").unlink()
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    assert node.call("verify").body["ok"]


def test_keys_of_another_node(node: Node, tmp_path: Path) -> None:
    """A foreign key pair is told by the index of the keys, and a whole foreign folder, index and all, by the log: it
    does not belong to it. Exit 3 both times."""
    other = Node(tmp_path / "other")
    other.call("init")
    for name in ("node.key", "node.pub"):
        shutil.copy(other.path / "keys" / name, node.path / "keys" / name)
    assert "not signed by this node's key" in refused(node, 3).stderr
    shutil.rmtree(node.path / "keys")
    shutil.copytree(other.path / "keys", node.path / "keys")
    assert "not the one in force" in refused(node, 3).stderr


def test_a_log_of_a_newer_format(node: Node) -> None:
    """A record whose version is higher and whose checksum holds: exit 2, upgrade, nothing touched."""
    import lmdb
    from blake3 import blake3

    env = lmdb.open(str(node.path / "log" / "data"), lib_version=0, map_size=1 << 30)
    with env.begin(write=True) as txn:
        cursor = txn.cursor()
        cursor.first()
        key, value = bytes(cursor.key()), bytearray(cursor.value())
        value[4] = 2
        value[-32:] = blake3(bytes(value[:-32])).digest()
        txn.put(key, bytes(value))
    env.close()
    assert "newer" in refused(node, 2).stderr


def test_a_full_map_refuses_and_keeps_everything(node: Node) -> None:
    """memory.map_bytes smaller than the data needs: exit 4, and with room again all records are there. The operator
    gives it room by the same command, though nothing more fits into the log as it is."""
    before = links(node)
    room = node.call("config", "show").body["configuration"]["memory"]["map_bytes"]
    size = (node.path / "log" / "data" / "data.mdb").stat().st_size
    node.call("config", "set", f"memory.map_bytes={size + 8192}")
    answers = [node.call("intent", json.dumps(SAY), expect=None) for _ in range(12)]
    assert answers[-1].code == 4
    assert "no room" in answers[-1].stderr or "map is full" in answers[-1].stderr
    assert links(node)[: len(before)] == before
    node.call("config", "set", f"memory.map_bytes={room}")
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    assert links(node)[: len(before)] == before
    assert node.call("verify").body["ok"]


def test_a_script_that_runs_out(node: Node) -> None:
    """The run ends with exit 4 and the code recorded; what was done before stands."""
    script = node.path / "script"
    script.write_text(json.dumps(READ) + "\n")
    body = node.call("run", "go", "--brain", f"script:{script}", expect=4).body
    assert (body["outcome"], body["steps"][0]["decision"]) == ("no_inference", "AUTHORIZED")
    assert node.call("log", "--kind", "InferenceFailed").objects[0]["code"] == "BRAIN_EXHAUSTED"


def mounted(tmp_path: Path) -> bool:
    """True when this process may mount a small file system."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    probe = f"mount -t tmpfs none {tmp_path}"
    return subprocess.run(["unshare", "-m", "sh", "-c", probe], capture_output=True, check=False).returncode == 0


@pytest.mark.requirement("STORAGE-21.1", "STORAGE-21.2")
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_full_or_read_only_file_system(node: Node, tmp_path: Path, kind: str) -> None:
    """On a tmpfs without room, or mounted read-only: exit 4 with what to do, and the records can be read."""
    place = tmp_path / "mounted"
    place.mkdir()
    if not mounted(place):
        pytest.skip("this process may not mount a file system")
    there = Node(place / "home")
    words = shlex.join(there.command("--json", "intent", json.dumps(SAY)))
    reading = shlex.join(there.command("--json", "log", "--limit", "0"))
    spoil = "head -c 1G /dev/zero > fill 2>/dev/null" if kind == "full" else f"mount -o remount,ro {place}"
    script = f"""
        mount -t tmpfs -o size=40m none {place} && cp -a {node.path} {place}/home && cd {place} && {spoil}
        {words} > {tmp_path}/answer 2> {tmp_path}/errors; echo $? > {tmp_path}/code
        {reading} > {tmp_path}/records
    """
    subprocess.run(["unshare", "-m", "sh", "-c", script], env=environment(), check=False)
    assert (tmp_path / "code").read_text().strip() == "4", (tmp_path / "errors").read_text()
    assert "next" in (tmp_path / "errors").read_text()
    read = [json.loads(line)["link"] for line in (tmp_path / "records").read_text().splitlines()]
    assert read == links(node)
