"""A program of somebody else's, with the published contract and nothing of ours: it works with a running node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.node import SAY, Node, call
from tests.femtoclaw.serving_process import serving

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = '''
import hashlib, json, sys, time, uuid
import grpc
from nacl.signing import SigningKey
import node_pb2 as api

home = sys.argv[1]
channel = grpc.insecure_channel(f"unix:{home}/serve.sock")


def method(name, reply, stream=False):
    make = channel.unary_stream if stream else channel.unary_unary
    return make(f"/femtoclaw.v1.Node/{name}", lambda message: message.SerializeToString(), reply.FromString)


def log():
    return list(method("Log", api.LogReply, stream=True)(api.LogRequest(), timeout=60))


def intent(tool, **args):
    body = json.dumps({"tool_call": {"tool": tool, "args": args}}).encode()
    return method("Intent", api.IntentReply)(api.IntentRequest(message=body), timeout=60).step


def framed(raw):
    return len(raw).to_bytes(4, "big") + raw


def control(action, resource, content):
    """An operator's request, signed as docs/api.md says."""
    key = json.loads(open(sys.argv[2]).read())
    node = json.loads(method("Status", api.StatusReply)(api.StatusRequest(), timeout=60).json)["runtime_id"]
    request, now = uuid.uuid4().hex, time.time_ns()
    texts = [node.encode(), request.encode(), key["name"].encode(), action.encode(), resource.encode(), content]
    statement = b"femtoclaw statement v1\\x00" + now.to_bytes(8, "big") + b"".join(map(framed, texts))
    signature = SigningKey(bytes.fromhex(key["box"])).sign(statement).signature
    return method("Control", api.ControlReply)(api.ControlRequest(
        request_id=request, operator=key["name"], action=action, resource=resource, content=content, at_ns=now,
        signature=signature), timeout=60)


before = intent("text.checksum", text="x")
newest = [json.loads(each.json) for each in log() if each.type == "ConfigurationAdopted"][-1]
configuration = json.loads(newest["content"])
configuration["capabilities"]["text.checksum"] = {"settings": {}, "enabled": True}
canonical = json.dumps(configuration, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
enabled = control("claw.enable", "text.checksum", canonical)
denied = intent("text.checksum", text="x")
engine = [json.loads(each.json) for each in log() if each.type == "PolicyAdopted"][-1]["engine"]
content = {"text": open(sys.argv[3]).read(), "engine": engine, "report": "0" * 64, "flips": []}
policy = control("policy.set", "node", json.dumps(content).encode())
after = intent("text.checksum", text="x")
rows = log()
assert [each.index for each in rows] == list(range(1, len(rows) + 1)) and all(len(each.link) == 32 for each in rows)
state = method("State", api.StateReply)(api.StateRequest(), timeout=60)
assert not [name for name in sys.modules if name.split(".")[0] in ("femtoclaw", "wal", "cluster")]
print(json.dumps({
    "before": before.code, "after": [after.decision, after.outcome],
    "denied": denied.decision, "size": len(rows), "state": state.state_hash,
    "changes": [[event.type for event in reply.events] for reply in (enabled, policy)],
    "types": [each.type for each in rows],
}))
'''  # fmt: skip


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder with the code that any protobuf compiler makes of the published file, and the program."""
    protoc = pytest.importorskip("grpc_tools.protoc")
    folder = tmp_path / "foreign"
    folder.mkdir()
    arguments = ["protoc", f"--proto_path={ROOT / 'proto/femtoclaw/v1'}", f"--python_out={folder}", "node.proto"]
    assert protoc.main(arguments) == 0
    (folder / "program.py").write_text(PROGRAM)
    return folder


def install(node: Node, tmp_path: Path) -> None:
    """A module of somebody else's, packed, and installed by the commands that everybody has."""
    module, publisher = tmp_path / "module", str(tmp_path / "publisher.key")
    module.mkdir()
    shutil.copy(ROOT / "docs" / "examples" / "modules" / "python" / "checksum.py", module)
    public = node.call("operator", "keygen", "acme", "--out", publisher).body["public_key"]
    node.call("claw", "pack", str(module), "--key", publisher, "--entry", "python:checksum.py:checksum")
    node.call("publisher", "trust", "acme", "--public-key", public)
    node.call("claw", "install", str(module))


@pytest.mark.requirement("SUITE-3.5")
def test_another_program_works_with_the_published_contract(node: Node, foreign: Path, tmp_path: Path) -> None:
    """A module of its own is packed and installed by the published commands. With an operator's key it enables that claw and sets a
    policy for it, has a call of it gated and run, and exports the audit log; what it changed is in the home's files too, so the
    node starts again."""
    install(node, tmp_path)
    text = tmp_path / "checksum.cedar"
    text.write_text('@id("sums") permit (principal, action == Action::"text.checksum", resource);')
    key = next((node.path / "keys" / "operators").glob("*.key"))
    with serving(node.path):
        done = subprocess.run(
            [sys.executable, "-P", str(foreign / "program.py"), str(node.path), str(key), str(text)],
            capture_output=True, text=True, check=False, cwd=foreign, env={"PYTHONPATH": str(foreign), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["before"], told["denied"]) == ("DISABLED", "DENIED_POLICY_VIOLATION")
    assert told["after"] == ["AUTHORIZED", "success"]
    assert told["changes"][0] == ["ControlRequested", "ControlDecided", "ConfigurationAdopted", "ClawEnabled"]
    rows = node.call("log", "--limit", "0").objects
    assert told["types"] == [row["type"] for row in rows][: told["size"]]
    assert node.call("verify").body["ok"]
    node.intent(SAY)
    node.intent(call("text.checksum", text="x"))
    assert not list(node.path.glob("*.next"))


@pytest.mark.invariant("I5")
def test_a_module_whose_files_were_changed_is_not_enabled_by_a_node_at_work(node: Node, tmp_path: Path) -> None:
    """The serving process looks itself, and the refusal is on record; with the files put back it is enabled."""
    install(node, tmp_path)
    (code,) = (node.path / "modules").rglob("checksum.py")
    before = code.read_bytes()
    with serving(node.path):
        code.chmod(0o600)
        code.write_bytes(before + b"\n")
        error = node.call("claw", "enable", "text.checksum", expect=3).body["error"]
        assert error["type"] == "ModuleRejectedError"
        assert node.call("log", "--kind", "ModuleRejected").body["code"] == "HASH_MISMATCH"
        code.write_bytes(before)
        node.call("claw", "enable", "text.checksum")
