"""A change that an operator asks for: cut by a crash it is finished or undone, and what no node could start with is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import POLICY
from tests.cli.cutting import cut_at
from tests.cli.node import READ, Node, femtoclaw
from tests.cli.test_integrity import FORBID, refused, rewrite

STAGED = {
    "configuration, recorded": ("femtoclaw.cli.configuring:put_in_place", ("config", "set", "runtime.steps_max=7"), 7),
    "configuration, not recorded": ("femtoclaw.cli.asking:ask", ("config", "set", "runtime.steps_max=7"), 16),
    "policy, recorded": ("femtoclaw.cli.policy_change:put_in_place", ("policy", "set", "{policy}"), True),
    "policy, not recorded": ("femtoclaw.cli.asking:ask", ("policy", "set", "{policy}"), False),
}


@pytest.mark.invariant("I7")
@pytest.mark.parametrize("with_manifest", [False, True], ids=["file", "manifest and file"])
@pytest.mark.parametrize("name", STAGED)
def test_a_change_that_a_crash_cut_is_finished_or_undone(node: Node, name: str, with_manifest: bool) -> None:
    """Killed while the new file stood beside the old one: the next start goes by the record, and leaves one file."""
    if with_manifest:
        (node.path / "deployment.toml").write_text("[runtime]\nagent = 'deployed'\n")
        node.call("config", "set")
    wanted = node.path.parent / "policy.cedar"
    wanted.write_text(POLICY + FORBID)
    place, words, after = STAGED[name]
    cut_at(node, place, *(word.format(policy=wanted) for word in words))
    (staged,) = node.path.glob("*.next")
    answer = node.intent(READ, expect=None)
    assert answer.code == (1 if after is True else 0), answer
    assert not staged.exists()
    assert node.call("config", "verify").body["ok"]
    if isinstance(after, bool):
        assert (node.path / "policy.cedar").read_text() == (POLICY + FORBID if after else POLICY)
    else:
        assert f"steps_max = {after}\n" in (node.path / "femtoclaw.toml").read_text()
    assert node.call("verify").body["ok"]


def test_a_refused_change_leaves_no_file_behind(node: Node, tmp_path: Path) -> None:
    """Asked for by somebody without the role, or against the rules: what was staged is gone when the command ends."""
    key = str(tmp_path / "eve.key")
    public = node.call("operator", "keygen", "eve", "--out", key).body["public_key"]
    node.call("operator", "add", "eve", "--role", "ComplianceOfficer", "--public-key", public)
    policy = tmp_path / "policy.cedar"
    policy.write_text(POLICY + FORBID)
    before = {path: path.read_bytes() for path in node.path.iterdir() if path.suffix in (".toml", ".cedar")}
    for words in (
        ("config", "set", "runtime.steps_max=7", "--operator-key", key),
        ("policy", "set", str(policy), "--operator-key", key),
        ("config", "set", 'capabilities."fs.write".enabled=true'),
    ):
        assert node.call(*words, expect=1).body["decision"] == "DENIED_POLICY_VIOLATION"
        assert {path: path.read_bytes() for path in before} == before
        assert list(node.path.rglob("*.next")) == []


def test_a_planted_file_beside_the_real_one_comes_into_force_never(node: Node) -> None:
    """What is not recorded goes at the next start, whatever it says."""
    (node.path / "policy.cedar.next").write_text('@id("all") permit (principal, action, resource);')
    (node.path / "femtoclaw.toml.next").write_text('[runtime]\nmode = "development"\n')
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    assert list(node.path.glob("*.next")) == []
    assert (node.path / "policy.cedar").read_text() == POLICY


@pytest.mark.requirement("DEPLOY-13.1")
@pytest.mark.parametrize("where", [".", "log", "keys", "keys/operators", "index", "../home", "link"])
def test_a_workspace_among_the_nodes_own_files_is_refused(node: Node, where: str) -> None:
    """Nothing that a claw may write may hold what decides about it: exit 2, by request and by an edit alike."""
    (node.path / "index").mkdir(exist_ok=True)
    (node.path / "link").symlink_to("log")
    answer = node.call("config", "set", f'security.workspace="{where}"', expect=2)
    assert "not apart from the node's own files" in answer.body["error"]["what"]
    assert node.call("log", "--kind", "ControlRequested").objects == []
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    rewrite(node.path / "femtoclaw.toml", lambda raw: raw.replace(b'"workspace"', f'"{where}"'.encode()))
    assert "not apart" in refused(node, 2).body["error"]["what"]


def test_a_link_is_no_workspace(node: Node, tmp_path: Path) -> None:
    """What a link names can change without an operator: exit 2, by request and at a start."""
    (tmp_path / "apart").mkdir()
    (node.path / "link").symlink_to(tmp_path / "apart")
    asked = node.call("config", "set", 'security.workspace="link"', expect=2)
    assert "the workspace is a link" in asked.body["error"]["what"]
    node.workspace.rename(tmp_path / "moved")
    node.workspace.symlink_to(tmp_path / "moved")
    assert "the workspace is a link" in refused(node, 2).body["error"]["what"]


@pytest.mark.parametrize("name", ["policy.cedar.next", "femtoclaw.toml.next"])
def test_a_link_in_the_place_of_a_waiting_file_stops_the_start(node: Node, tmp_path: Path, name: str) -> None:
    """Nothing is read or removed through it, even where it names what is in force."""
    (tmp_path / "elsewhere").write_bytes((node.path / name.removesuffix(".next")).read_bytes())
    (node.path / name).symlink_to(tmp_path / "elsewhere")
    assert "where a file waits to be adopted" in refused(node, 3).body["error"]["what"]
    assert (node.path / name).is_symlink()


def test_init_makes_no_node_whose_workspace_is_its_home(tmp_path: Path) -> None:
    """The sources of a new home count too."""
    answer = femtoclaw("--json", "--home", str(tmp_path / "home"), "init", cwd=tmp_path, expect=2,
                       FEMTOCLAW_SET='security.workspace="."')  # fmt: skip
    assert answer.body["error"]["type"] == "ConfigurationError"
    assert list(tmp_path.iterdir()) == []


def test_a_policy_file_with_another_policy_is_not_named(node: Node) -> None:
    """The node could not start with it; with a copy of the policy in force it is."""
    other = node.path / "other.cedar"
    other.write_text(POLICY + FORBID)
    answer = node.call("config", "set", 'policy.file="other.cedar"', expect=2)
    assert "another policy than the one in force" in answer.body["error"]["what"]
    node.call("config", "set", 'policy.file="missing.cedar"', expect=2)
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    other.write_text(node.call("policy", "show").body["text"])
    node.call("config", "set", 'policy.file="other.cedar"')
    (node.path / "policy.cedar").unlink()
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    other.write_text("")
    refused(node)
