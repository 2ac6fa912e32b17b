"""Modules at the command line: from a publisher's folder into a node, through its gate, and out again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.node import Answer, Node, call, femtoclaw
from tests.femtoclaw.built_modules import ENTRIES, built, compiled_c, compiled_wat

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "docs" / "examples" / "modules"
POLICY = '@id("sum") permit (principal, action == Action::"text.checksum", resource);'
CHECKSUM = {"checksum": "51986eea"}
DECLARED = {
    "type": "capability", "name": "text.checksum", "version": "1.0.0", "description": "The FNV-1a hash of a text.",
    "category": "system", "abi": "FC-ABI-1.0.0", "permissions": [],
    "arguments": {
        "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"], "additionalProperties": False,
    },
}  # fmt: skip
OTHER_ABI = {
    "native": 'const char *femtoclaw_module_version(void) { return "FC-ABI-2.0.0"; }',
    "wasm": """(data (i32.const 200) "FC-ABI-2.0.0\\00")
        (func (export "femtoclaw_module_version") (result i32) (i32.const 200))""",
}


class World(NamedTuple):
    """A node without modules, and a publisher with a packed one."""

    node: Node
    module: Path
    key: Path
    public: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    key = folder / "publisher.key"
    public = femtoclaw("--json", "operator", "keygen", "acme", "--out", str(key), cwd=folder).body["public_key"]
    module = folder / "module"
    shutil.copytree(EXAMPLES / "python", module)
    words = ("pack", str(module), "--key", str(key), "--entry", "python:checksum.py:checksum")
    packed = femtoclaw("--json", "claw", *words, cwd=folder).body
    assert (packed["name"], packed["publisher"], packed["files"]) == ("text.checksum", public, 1)
    node = Node(folder / "home")
    node.call("init")
    return World(node, module, key, public)


@pytest.fixture(scope="module")
def installed_once(made: World) -> World:
    """The same with the module registered, enabled and permitted."""
    world = made._replace(node=made.node.copy(made.module.parent / "installed"))
    world.node.call("publisher", "trust", "acme", "--public-key", world.public)
    world.node.call("claw", "install", str(world.module))
    world.node.call("claw", "enable", "text.checksum")
    adopt(world.node, POLICY)
    return world


def copied(world: World, folder: Path) -> World:
    """Free to be broken."""
    module = folder / "module"
    shutil.copytree(world.module, module)
    return world._replace(node=world.node.copy(folder / "home"), module=module)


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    return copied(made, tmp_path)


@pytest.fixture
def installed(installed_once: World, tmp_path: Path) -> World:
    return copied(installed_once, tmp_path)


def kinds(node: Node) -> list[str]:
    return [row["type"] for row in node.call("log", "--limit", "0").objects]


def adopt(node: Node, text: str) -> None:
    """Have a policy adopted."""
    policy = node.path.parent / "policy.cedar"
    policy.write_text(text)
    node.call("policy", "set", str(policy))


def checksum(node: Node, expect: int | None = 0) -> Answer:
    return node.intent(call("text.checksum", text="word"), expect=expect)


@pytest.mark.requirement("CLAW-6.1", "SDK-5.1")
def test_a_module_from_its_publisher_to_the_gate_and_out_again(installed: World) -> None:
    """Trusted, installed, enabled, permitted, called; then disabled and removed, and nothing of it is left."""
    node = installed.node
    shown = node.call("claw", "show", "text.checksum").body
    assert (shown["enabled"], shown["publisher"], shown["files_fault"]) == (True, "acme", "")
    assert (node.path / "modules" / shown["digest"] / "checksum.py").is_file()
    assert checksum(node).body["result"]["result"] == CHECKSUM
    assert '[capabilities."text.checksum"]' in (node.path / "femtoclaw.toml").read_text()
    assert node.call("claw", "remove", "text.checksum", expect=1).body["code"] == "STILL_ENABLED"
    node.call("claw", "disable", "text.checksum")
    assert checksum(node, expect=1).code == 1
    assert node.call("claw", "remove", "text.checksum", expect=2).body["error"]["type"] == "PolicyError"
    adopt(node, '@id("none") forbid (principal, action, resource);')
    node.call("claw", "remove", "text.checksum")
    assert list((node.path / "modules").iterdir()) == []
    assert "text.checksum" not in [row["name"] for row in node.call("claw", "list").body["claws"]]
    assert {"PublisherTrusted", "ModuleInstalled", "ClawRegistered", "ClawEnabled", "ClawRemoved"} <= set(kinds(node))
    node.call("verify")


def packed(world: World, kind: str, raw: bytes) -> Path:
    """A publisher's folder with one built file, declared by hand and signed; its publisher is trusted."""
    folder = world.module.parent / kind
    folder.mkdir()
    entry = ENTRIES[kind]
    (folder / entry.partition(":")[2]).write_bytes(raw)
    (folder / "module.json").write_text(json.dumps(DECLARED | {"entry": entry}))
    femtoclaw("--json", "claw", "pack", str(folder), "--key", str(world.key), cwd=folder)
    world.node.call("publisher", "trust", "acme", "--public-key", world.public)
    return folder


def example(kind: str, folder: Path) -> bytes:
    """The example of the documentation, built."""
    if kind == "native":
        return compiled_c((EXAMPLES / "native" / "checksum.c").read_text(), folder)
    return compiled_wat((EXAMPLES / "wasm" / "checksum.wat").read_text())


@pytest.mark.parametrize("kind", OTHER_ABI)
def test_a_built_module_from_its_source_to_the_gate(kind: str, world: World, tmp_path: Path) -> None:
    """A shared library and a WebAssembly module answer through the gate as the claw in Python does."""
    node = world.node
    node.call("claw", "install", str(packed(world, kind, example(kind, tmp_path))))
    node.call("claw", "enable", "text.checksum")
    adopt(node, POLICY)
    assert checksum(node).body["result"]["result"] == CHECKSUM
    assert node.call("claw", "show", "text.checksum").body["entry"] == ENTRIES[kind]
    assert node.call("verify").code == 0


@pytest.mark.requirement("ABI-7.1")
@pytest.mark.parametrize("kind", OTHER_ABI)
def test_a_built_module_of_another_abi_is_refused_with_an_event(kind: str, world: World, tmp_path: Path) -> None:
    """Its code says 2.0.0, whatever its signed manifest says; nothing of it is registered or kept."""
    raw = built(kind, tmp_path, version=OTHER_ABI[kind])
    refused = world.node.call("claw", "install", str(packed(world, kind, raw)), expect=3)
    assert "WRONG_ABI" in refused.body["error"]["what"]
    (row,) = world.node.call("log", "--kind", "ModuleRejected").objects
    assert "WRONG_ABI" in json.dumps(row)
    assert not {"ModuleInstalled", "ClawEnabled"} & set(kinds(world.node))
    assert "text.checksum" not in [each["name"] for each in world.node.call("claw", "list").body["claws"]]
    assert list((world.node.path / "modules").glob("*")) == []
    world.node.call("verify")


@pytest.mark.requirement("ABI-4.1", "BOOT-10.1")
def test_an_untrusted_module_is_refused_with_an_event(world: World) -> None:
    """Nobody is trusted yet; the refusal is recorded with its code, and nothing is registered."""
    refused = world.node.call("claw", "install", str(world.module), expect=3)
    assert "UNTRUSTED_KEY" in refused.body["error"]["what"]
    row = world.node.call("log", "--kind", "ModuleRejected").objects[-1]
    assert "UNTRUSTED_KEY" in json.dumps(row)
    assert "ModuleInstalled" not in kinds(world.node)


@pytest.mark.requirement("BOOT-9.1", "EXT-17.1")
def test_a_tampered_module_is_refused_wherever_it_lies(installed: World) -> None:
    """In the publisher's folder, and in the store: at the next call, and when it is to be enabled."""
    node = installed.node
    digest = node.call("claw", "show", "text.checksum").body["digest"]
    stored = node.path / "modules" / digest / "checksum.py"
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes() + b"#")
    assert "HASH_MISMATCH" in json.dumps(checksum(node, expect=None).objects)
    assert node.call("claw", "show", "text.checksum", expect=3).body["files_fault"].startswith("HASH_MISMATCH")
    node.call("claw", "disable", "text.checksum")
    refused = node.call("claw", "enable", "text.checksum", expect=3)
    assert "HASH_MISMATCH" in refused.body["error"]["what"]
    (installed.module / "checksum.py").write_bytes(b"raise SystemExit")
    refused = node.call("claw", "install", str(installed.module), expect=3)
    assert "HASH_MISMATCH" in refused.body["error"]["what"]
    assert kinds(node).count("ModuleRejected") >= 2


@pytest.mark.requirement("CLAW-6.1")
def test_an_upgrade_is_its_publishers_alone(installed: World) -> None:
    """Another trusted publisher cannot take the name, and leaves nothing in the store; the publisher's next version can."""
    node, folder = installed.node, installed.module.parent
    evil = folder / "evil.key"
    public = femtoclaw("--json", "operator", "keygen", "evil", "--out", str(evil), cwd=folder).body["public_key"]
    node.call("publisher", "trust", "evil", "--public-key", public)
    before = [path.name for path in (node.path / "modules").iterdir()]
    source = (installed.module / "checksum.py").read_text()
    (installed.module / "checksum.py").write_text(source.replace("08x", "09x"))
    pack = ("--json", "claw", "pack", str(installed.module), "--entry", "python:checksum.py:checksum", "--key")
    femtoclaw(*pack, str(evil), cwd=folder)
    assert node.call("claw", "install", str(installed.module), expect=1).body["code"] == "ANOTHER_PUBLISHER"
    assert [path.name for path in (node.path / "modules").iterdir()] == before
    (installed.module / "module.json").unlink()
    (installed.module / "checksum.py").write_text(source.replace("1.0.0", "1.0.1"))
    digest = femtoclaw(*pack, str(installed.key), cwd=folder).body["digest"]
    node.call("claw", "install", str(installed.module))
    assert [path.name for path in (node.path / "modules").iterdir()] == [digest]
    assert node.call("claw", "show", "text.checksum").body["version"] == "1.0.1"


@pytest.mark.requirement("UPGRADE-11.1")
def test_a_version_that_asks_for_more_is_granted_anew(installed: World) -> None:
    """Over one that is enabled it is refused, on record, and that one works on; behind `disable` it comes in, and is called only
    when an operator has enabled it."""
    node, folder = installed.node, installed.module.parent
    node.call("claw", "enable", "text.checksum")
    source = (installed.module / "checksum.py").read_text()
    (installed.module / "module.json").unlink()
    (installed.module / "checksum.py").write_text(source.replace('version="1.0.0",', 'version="1.1.0", permissions=("network",),'))
    pack = ("--json", "claw", "pack", str(installed.module), "--entry", "python:checksum.py:checksum", "--key")
    femtoclaw(*pack, str(installed.key), cwd=folder)
    assert node.call("claw", "install", str(installed.module), expect=1).body["code"] == "ASKS_FOR_MORE"
    assert node.call("claw", "show", "text.checksum").body["version"] == "1.0.0"
    node.call("claw", "disable", "text.checksum")
    node.call("claw", "install", str(installed.module))
    asked = call("text.checksum", text="a")
    assert node.intent(asked, expect=1).body["decision"] == "DENIED_CAPABILITY_DISABLED"
    node.call("claw", "enable", "text.checksum")
    assert node.intent(asked, expect=None).body["decision"] != "DENIED_CAPABILITY_DISABLED"


@pytest.mark.requirement("SDK-20.1")
def test_the_four_groups_at_the_command_line(world: World) -> None:
    """Told group by group, signed when a key is there, missed when it is not; failing cases end it with 1."""
    folder = str(world.module)
    told = femtoclaw("--json", "claw", "test", folder, "--key", str(world.key), cwd=world.module).body
    assert told["passed"] is True
    assert set(told["groups"]) == {"behaviour", "arguments", "errors", "abi"}
    world.node.call("publisher", "trust", "acme", "--public-key", world.public)
    assert "no signed test result" not in world.node.call("claw", "install", folder).stderr
    (world.module / "module.result").unlink()
    assert "no signed test result" in world.node.call("claw", "install", folder).stderr
    cases = world.module / "module.tests.json"
    cases.write_text(cases.read_text().replace("51986eea", "00000000"))
    failed = femtoclaw("--json", "claw", "test", folder, cwd=world.module, expect=1).body
    assert [each["name"] for each in failed["failed"]] == ["a word"]


def test_verify_says_what_an_installation_would(world: World) -> None:
    folder = str(world.module)
    good = femtoclaw("--json", "claw", "verify", folder, "--publisher", world.public, cwd=world.module)
    assert good.body["name"] == "text.checksum"
    (world.module / "more").write_text("x")
    bad = femtoclaw("--json", "claw", "verify", folder, "--publisher", world.public, cwd=world.module, expect=3)
    assert "UNLISTED_FILE" in bad.body["error"]["what"]


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("show", "no.such"),
        ("install",),
        ("install", "nowhere"),
        ("pack", "."),
        ("enable", "no.such"),
        ("verify",),
    ],
)
def test_wrong_calls_are_usage(world: World, words: tuple[str, ...]) -> None:
    assert world.node.call("claw", *words, expect=2).body["error"]["exit_code"] == 2
