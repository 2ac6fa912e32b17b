"""``key`` through the real command: lists, rotation cut anywhere, hands in the key folder, and that no byte of a key shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.node import ROOT, SAY, Answer, Node, femtoclaw
from tests.cli.traces import traces

VALUE = "s3cr3t-VALUE-0123456789+/"
PASS = "correct horse battery staple"
MESSAGE = json.dumps(SAY)


def with_passphrase(node: Node, *words: str, expect: int | None = 0, **variables: str) -> Answer:
    return femtoclaw("--json", "--home", str(node.path), *words, cwd=node.path.parent, expect=expect, **variables)


def seed_of(node: Node) -> str:
    text: str = json.loads((node.path / "keys" / "node.key").read_bytes())["box"]
    return text


@pytest.mark.invariant("I12")
def test_the_node_key_rotates_and_everything_still_verifies(node: Node, tmp_path: Path) -> None:
    """Twice, the second time because it was stolen: the chain stands in the log, a bundle verifies under the newest key,
    secrets open, and no byte of any seed is in an answer or beside the key files."""
    node.call("secret", "set", "token", stdin=VALUE.encode())
    seeds, answers = [seed_of(node)], []
    for words in ([], ["--compromised"]):
        answers.append(node.call("key", "rotate", *words))
        seeds.append(seed_of(node))
    answers += [
        node.call("key", "list"),
        node.call("key", "verify"),
        node.call("verify", "--deep"),
        node.call("status"),
    ]
    tenures = answers[2].body["node"]
    assert [each["reason"] for each in tenures] == ["genesis", "scheduled", "compromised"]
    assert [each["in_force"] for each in tenures] == [False, False, True]
    assert (node.path / "keys" / "node.pub").read_text().strip() == tenures[-1]["public_key"]
    assert sorted(path.read_text().strip() for path in (node.path / "keys" / "old").iterdir()) == sorted(
        each["public_key"] for each in tenures[:-1]
    )
    assert node.intent({"message": {"content": VALUE}}).body["result"] == {"message": "[secret token]"}
    bundle = str(tmp_path / "bundle")
    node.call("export", "--bundle", bundle)
    node.call("verify", "--bundle", bundle, "--key", tenures[-1]["public_key"])
    assert len(set(seeds)) == 3
    for seed in seeds:
        assert traces(node, seed, *answers, beside=("node.key",)) == []
    assert all(seed not in (node.path / "keys" / "node.key").read_text() for seed in seeds[:-1])


CUT = """
import os, sys
if "rotate" in sys.orig_argv:
    import importlib.abc, importlib.machinery
    class Cutter(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name != {module!r}:
                return None
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            real = spec.loader.exec_module
            def exec_module(module):
                real(module)
                {patch}
            spec.loader.exec_module = exec_module
            return spec
    sys.meta_path.insert(0, Cutter())
"""
CUTS = {
    "before the log rotates": ("wal.log", "module.Log.rotate = lambda *words: os._exit(9)", False),
    "before the files are settled": ("femtoclaw.key_index", "real_change = module.change_files\n"
        "                module.change_files = lambda folder, changes, **by: (real_change(folder, changes, **by)"
        " if 'node.key' not in changes else os._exit(9))", True),
    "between the files": ("wal.durable_file", "real_write = module.write_file\n"
        "                module.write_file = lambda path, raw: (os._exit(9) if path.endswith('/node.key')"
        " else real_write(path, raw))", True),
}  # fmt: skip


@pytest.mark.parametrize("cut", CUTS)
def test_a_rotation_that_was_cut_is_settled_by_the_next_start(node: Node, tmp_path: Path, cut: str) -> None:
    """The process ends without a word: the next command starts with the key that the log names, and only that one stays."""
    node.call("secret", "set", "token", stdin=VALUE.encode())
    before = (node.path / "keys" / "node.pub").read_text()
    module, patch, recorded = CUTS[cut]
    (tmp_path / "sitecustomize.py").write_text(CUT.format(module=module, patch=patch))
    path = f"{tmp_path}:{ROOT}"
    femtoclaw("--home", str(node.path), "key", "rotate", cwd=tmp_path, expect=9, PYTHONPATH=path)
    assert (node.path / "keys" / "node.next.key").exists()
    assert node.call("key", "verify").code == 0
    answer = node.intent({"message": {"content": VALUE}})
    assert answer.body["result"] == {"message": "[secret token]"}
    assert not (node.path / "keys" / "node.next.key").exists()
    assert ((node.path / "keys" / "node.pub").read_text() != before) == recorded
    assert len(node.call("key", "list").body["node"]) == 1 + recorded
    node.call("verify")
    assert node.call("key", "verify").code == 0
    node.call("key", "rotate")


@pytest.mark.requirement("BOOT-11.1")
def test_a_key_file_changed_by_hand_stops_the_start(node: Node) -> None:
    """Added, replaced, removed: exit 3 with file and key id, also in the boot journal; `key verify` names them all."""
    operators = node.path / "keys" / "operators"
    public = next(operators.glob("*.pub"))
    kept, key_id = public.read_bytes(), "+".join(public.read_text().split("+")[:2])

    def refused(path: Path, how: str) -> None:
        answer = node.intent(SAY, expect=3)
        assert answer.body["error"]["where"] == str(path)
        assert how in answer.body["error"]["what"]
        assert str(path) in (node.path / "boot.journal").read_text().splitlines()[-1]
        found = node.call("key", "verify", expect=3).body["findings"]
        assert [(each["file"], each["how"]) for each in found] == [(str(path), how)]

    public.unlink()
    refused(public, "removed")
    public.write_bytes((node.path / "keys" / "node.pub").read_bytes())
    refused(public, "replaced")
    assert key_id in node.call("key", "verify", expect=3).body["findings"][0]["expected"]
    public.write_bytes(kept)
    added = operators / "eve.pub"
    added.write_bytes(kept)
    refused(added, "added")
    assert key_id in node.call("key", "verify", expect=3).body["findings"][0]["found"]
    added.unlink()
    node.intent(SAY)
    assert node.call("key", "verify").body["findings"] == []


@pytest.mark.invariant("I12")
def test_a_protected_node_starts_with_its_passphrase_only(node: Node, tmp_path: Path) -> None:
    """From a file or a variable; what is wrong, missing or open to others is exit 2; rotation keeps it protected."""
    seed, file = seed_of(node), tmp_path / "pass"
    file.touch(0o600)
    file.write_text(PASS + "\n")
    assert node.call("status").body["private_key"] == "not encrypted at rest"
    answers = [with_passphrase(node, "key", "protect", FEMTOCLAW_PASSPHRASE_FILE=str(file))]
    listed: list[dict[str, Any]] = node.call("key", "list").body["files"]
    assert {each["file"]: each["at_rest"] for each in listed}["node.key"] == "encrypted"
    answers += [
        with_passphrase(node, "intent", MESSAGE, expect=2),
        with_passphrase(node, "intent", MESSAGE, expect=2, FEMTOCLAW_PASSPHRASE=PASS + "!"),
        with_passphrase(node, "intent", MESSAGE, FEMTOCLAW_PASSPHRASE=PASS),
        with_passphrase(node, "key", "rotate", FEMTOCLAW_PASSPHRASE_FILE=str(file)),
    ]
    assert "KeyLockedError" in answers[1].stdout + answers[2].stdout
    listed = node.call("key", "list").body["files"]
    assert {each["file"]: each["at_rest"] for each in listed}["node.key"] == "encrypted"
    assert node.call("status").body["private_key"] == "encrypted"
    file.chmod(0o644)
    answers.append(with_passphrase(node, "intent", MESSAGE, expect=2, FEMTOCLAW_PASSPHRASE_FILE=str(file)))
    assert "permissions are too wide" in answers[-1].body["error"]["what"]
    node.call("log")
    assert traces(node, seed, *answers) == []
    assert traces(node, PASS, *answers) == []


def test_init_says_how_the_keys_are_kept(tmp_path: Path) -> None:
    """Plain, unless a passphrase was there; then node's and operator's keys are encrypted from the beginning."""
    plain = femtoclaw("--home", str(tmp_path / "plain"), "init", cwd=tmp_path)
    assert "the keys are not encrypted at rest" in plain.stderr
    sealed = femtoclaw("--home", str(tmp_path / "sealed"), "init", cwd=tmp_path, FEMTOCLAW_PASSPHRASE=PASS)
    assert "not encrypted" not in sealed.stderr
    listed = Node(tmp_path / "sealed").call("key", "list").body["files"]
    assert {each["at_rest"] for each in listed} == {"encrypted"}
    assert len(listed) == 2


def test_new_words_at_the_command_line_are_explained(node: Node) -> None:
    for words in (["key"], ["key", "nothing"], ["secret"], ["secret", "nothing"]):
        assert node.call(*words, expect=2).body["error"]["type"] == "UsageError"
    assert "protect [OPERATOR]" in node.call("key", "--help", human=True).stdout
