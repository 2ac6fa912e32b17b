"""The sources of a configuration: which of them decides, what is told of it, and that nothing of a wrong one applies."""

from __future__ import annotations

import json
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.config_sources import gather, origins, resolve_sources
from femtoclaw.home import Home
from tests.cli.node import READ, Answer, Node, femtoclaw

SOURCES = ("embedded", "manifest", "file", "environment", "flag")
STEPS = {"embedded": 16, "manifest": 101, "file": 102, "environment": 103, "flag": 104}
SUBSETS = [subset for size in range(1, 6) for subset in combinations(SOURCES, size)]


@pytest.fixture
def bare(node: Node) -> Node:
    """A node whose file leaves `steps_max` to the default."""
    path = node.path / "femtoclaw.toml"
    path.write_text(path.read_text().replace("steps_max = 16\n", ""))
    return node


def setting(node: Node, source: str, text: str) -> tuple[dict[str, str], list[str]]:
    """Have ``source`` say this line of the domain `runtime`; environment and flags to add for it."""
    if source == "manifest":
        (node.path / "deployment.toml").write_text(f"[runtime]\n{text}\n")
    if source == "file":
        path = node.path / "femtoclaw.toml"
        path.write_text(path.read_text().replace("[runtime]\n", f"[runtime]\n{text}\n"))
    env = {"FEMTOCLAW_SET": f"runtime.{text}"} if source == "environment" else {}
    return env, ["--set", f"runtime.{text}"] if source == "flag" else []


def with_sources(node: Node, *words: str, expect: int | None = 0, **variables: str) -> Answer:
    return femtoclaw("--json", "--home", str(node.path), *words, cwd=node.path, expect=expect, **variables)


@pytest.mark.requirement("CONFIG-3.1")
def test_the_later_source_decides_in_every_subset(bare: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """One key, set differently in each source of all 31 subsets of the five: the last one named wins, and is named."""
    assert len(SUBSETS) == 31
    home, manifest, file = Home(str(bare.path)), bare.path / "deployment.toml", bare.path / "femtoclaw.toml"
    plain = file.read_text()
    for subset in SUBSETS:
        manifest.unlink(missing_ok=True)
        file.write_text(plain)
        monkeypatch.delenv("FEMTOCLAW_SET", raising=False)
        flags: list[str] = []
        for source in subset:
            variables, words = setting(bare, source, f"steps_max = {STEPS[source]}")
            flags += words[1:]
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
        sources = gather(home, flags)
        effective = resolve_sources(sources, None)
        assert effective["runtime"]["steps_max"] == STEPS[subset[-1]], subset
        found = origins(sources, effective)
        assert found["runtime.steps_max"] == subset[-1], subset
        assert found["runtime.mode"] == "file"
        assert found["observability.telemetry_retention_events"] == "embedded"


@pytest.mark.requirement("CONFIG-3.1")
def test_the_command_shows_the_winner_of_each_key(bare: Node) -> None:
    """Each source in turn comes over those before it, in a real process; `config show` without it tells what is recorded."""
    variables: dict[str, str] = {}
    flags: list[str] = []
    for source in SOURCES:
        more, words = setting(bare, source, f"steps_max = {STEPS[source]}")
        variables |= more
        flags += words
        body = with_sources(bare, "config", "show", "--origin", *flags, **variables).body
        assert body["configuration"]["runtime"]["steps_max"] == STEPS[source]
        assert body["origins"]["runtime.steps_max"] == source
        assert body["origins"]["security.workspace"] == "file"
        assert body["origins"]["runtime.brain"] == "embedded"
    assert [each["name"] for each in body["sources"]] == list(SOURCES[1:])
    assert bare.call("config", "show").body["configuration"]["runtime"]["steps_max"] == 16
    shown = bare.call("config", "show", "--origin", "--set", 'runtime.agent="x"', human=True).stdout
    (line,) = (each for each in shown.splitlines() if "runtime.agent" in each)
    assert line.endswith('"x"   (flag)')


def test_the_named_manifest_stands_for_the_one_in_the_home(node: Node, tmp_path: Path) -> None:
    """FEMTOCLAW_MANIFEST, in TOML or JSON; one that is not there is refused."""
    (node.path / "deployment.toml").write_text("[runtime]\nagent = 'here'\n")
    named = tmp_path / "deployment.json"
    named.write_text('{"runtime": {"agent": "named"}}')
    body = with_sources(node, "config", "show", "--origin", FEMTOCLAW_MANIFEST=str(named)).body
    assert (body["configuration"]["runtime"]["agent"], body["origins"]["runtime.agent"]) == ("named", "manifest")
    named.unlink()
    answer = with_sources(node, "config", "show", "--origin", FEMTOCLAW_MANIFEST=str(named), expect=2)
    assert str(named) in answer.body["error"]["where"]


WRONG = {
    "unknown key": "step_max = 3",
    "wrong type": "steps_max = '3'",
    "out of bounds": "steps_max = 0",
    "no TOML": "steps_max = ",
}


@pytest.mark.requirement("CONFIG-4.1")
@pytest.mark.parametrize("source", ["manifest", "file", "environment", "flag"])
def test_of_sources_of_which_one_is_wrong_none_is_applied(node: Node, source: str) -> None:
    """Whatever is wrong in it: exit 2 that names the source, and not one key of the right ones is in force after it."""
    right = 'agent = "right"'
    variables, flags = {}, []
    for other in SOURCES[1:]:
        if other not in (source, "flag"):
            more, words = setting(node, other, right)
            variables |= more
            flags += words
    kept = {path: path.read_bytes() for path in node.path.glob("*.toml")}
    for name, text in WRONG.items():
        more, words = setting(node, source, text)
        verb = ("config", "verify") if source == "flag" else ("intent", json.dumps(READ))
        answer = with_sources(node, *verb, *flags, *words, expect=2, **(variables | more))
        where = {
            "manifest": "deployment.toml",
            "file": "femtoclaw.toml",
            "environment": "$FEMTOCLAW_SET",
            "flag": "--set",
        }
        assert where[source] in answer.body["error"]["where"], name
        (node.path / "deployment.toml").unlink(missing_ok=True)
        for path, raw in kept.items():
            path.write_bytes(raw)
    assert node.call("config", "show").body["configuration"]["runtime"]["agent"] == "agent"
    assert len(node.call("log", "--kind", "ConfigurationAdopted").objects) == 1


@pytest.mark.requirement("DEPLOY-6.3")
def test_one_configuration_has_one_digest_however_it_is_written(node: Node, tmp_path: Path) -> None:
    """JSON and TOML, other orders, other locales and hash seeds: the digest that is recorded."""
    recorded = node.call("config", "show").body
    body: dict[str, Any] = recorded["configuration"]
    for number, (form, turn) in enumerate([("json", False), ("json", True), ("toml", False), ("toml", True)]):
        file = tmp_path / f"same.{form}"
        domains = dict(sorted(body.items(), reverse=turn))
        file.write_text(json.dumps(domains) if form == "json" else toml(domains))
        variables = {"LC_ALL": ("C", "C.UTF-8")[number % 2], "PYTHONHASHSEED": str(number + 1)}
        with_sources(node, "config", "set", "--file", str(file), **variables)
        shown = with_sources(node, "config", "show", "--origin", **variables).body
        assert shown["digest"] == recorded["digest"]
        assert with_sources(node, "config", "verify", **variables).body["digest"] == recorded["digest"]
    history = node.call("config", "history").body["history"]
    assert {row["digest"] for row in history} == {recorded["digest"]}
    assert node.intent(READ).body["decision"] == "AUTHORIZED"


def toml(domains: dict[str, Any]) -> str:
    """One key a line, each with its whole name."""
    lines: list[str] = []
    for domain, values in domains.items():
        for key, value in values.items():
            if domain == "capabilities":
                lines += [f'{domain}."{key}".enabled = {json.dumps(value["enabled"])}']
                lines += [
                    f'{domain}."{key}".settings.{name} = {json.dumps(each)}' for name, each in value["settings"].items()
                ]
            elif value != {}:
                lines.append(f"{domain}.{key} = {json.dumps(value)}")
    return "\n".join(lines)


@pytest.mark.requirement("DEPLOY-6.2", "CONFIG-13.1")
def test_an_environment_that_changed_stops_the_start(node: Node) -> None:
    """What the environment says is part of what is recorded: set or unset afterwards the node does not start, and
    `config verify` names the key."""
    assert with_sources(node, "intent", json.dumps(READ), expect=3, FEMTOCLAW_SET="runtime.steps_max = 9")
    with_sources(node, "config", "set", FEMTOCLAW_SET="runtime.steps_max = 9")
    with_sources(node, "intent", json.dumps(READ), FEMTOCLAW_SET="runtime.steps_max = 9")
    error = node.intent(READ, expect=3).body["error"]
    assert error["type"] == "IntegrityError"
    verified = node.call("config", "verify", expect=3).body["error"]
    assert verified["where"].endswith(": runtime.steps_max")
    assert verified["expected"] == node.call("config", "show").body["digest"] != verified["found"]
    answer = with_sources(node, "intent", json.dumps(READ), expect=3, FEMTOCLAW_SET="runtime.steps_max = 10")
    assert answer.body["error"]["type"] == "IntegrityError"
    node.call("config", "set")
    assert node.intent(READ).body["decision"] == "AUTHORIZED"


@pytest.mark.requirement("CONFIG-17.1")
def test_the_history_names_who_changed_what(node: Node) -> None:
    """Each version with digest, operator, time and the keys that are another; the digests are those of the records."""
    node.call("config", "set", "runtime.steps_max=8", 'runtime.agent="night"')
    node.call("config", "set", "observability.telemetry_retention_events=99")
    node.call("config", "set", "runtime.steps_max=0", expect=2)
    rows = node.call("config", "history").body["history"]
    assert [row["version"] for row in rows] == [1, 2, 3]
    assert [row["changed"] for row in rows] == [
        [], ["runtime.agent", "runtime.steps_max"], ["observability.telemetry_retention_events"],
    ]  # fmt: skip
    adopted = node.call("log", "--kind", "ConfigurationAdopted", "--limit", "0").objects
    assert [(row["index"], row["digest"]) for row in rows] == [(each["index"], each["digest"]) for each in adopted]
    (operator,) = node.call("operator", "list").body["operators"]
    assert {row["operator"] for row in rows} == {operator["name"]}
    assert all(before["time_ns"] < after["time_ns"] for before, after in pairwise(rows))
    assert node.call("config", "show").body["digest"] == rows[-1]["digest"]
    assert "runtime.agent, runtime.steps_max" in node.call("config", "history", human=True).stdout


def test_set_keeps_the_comments_and_the_order_of_the_file(node: Node) -> None:
    """Only the values that were asked for differ, and tables that were not there come behind."""
    path = node.path / "femtoclaw.toml"
    path.write_text(path.read_text().replace("steps_max = 16", "steps_max = 16  # enough for everybody"))
    before = path.read_text()
    node.call("config", "set", "runtime.steps_max=12")
    assert path.read_text() == before.replace("steps_max = 16  # enough", "steps_max = 12  # enough")
    node.call("config", "set", "memory.map_bytes=1073741824")
    after = path.read_text()
    assert after.startswith(before.replace("= 16", "= 12").rstrip())
    assert after.rstrip().endswith("[memory]\nmap_bytes = 1073741824")
    assert path.stat().st_mode & 0o077 == 0
    assert node.intent(READ).body["decision"] == "AUTHORIZED"


def test_claws_are_not_switched_by_the_way(node: Node) -> None:
    """`config set` may not enable what only `claw enable` may: refused, recorded, and the file is as it was."""
    before = (node.path / "femtoclaw.toml").read_bytes()
    answer = node.call("config", "set", 'capabilities."fs.write".enabled=true', expect=1)
    assert (answer.body["decision"], answer.body["code"]) == ("DENIED_POLICY_VIOLATION", "SWITCHES_CLAWS")
    assert node.call("log", "--kind", "ControlDecided").objects[-1]["reason"] == "SWITCHES_CLAWS"
    assert (node.path / "femtoclaw.toml").read_bytes() == before
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    assert list(node.path.glob("*.next")) == []


def test_config_wants_keys_or_a_file(node: Node, tmp_path: Path) -> None:
    """Both, a file that is not there, and what is no line of TOML are refused before anything is asked for."""
    file = tmp_path / "f.toml"
    file.write_text("")
    for words in (
        ("runtime.steps_max=3", "--file", str(file)),
        ("--file", str(tmp_path / "missing.toml")),
        ("steps",),
        ("runtime=3",),
        ("nothing.of.this=3",),
    ):
        assert node.call("config", "set", *words, expect=2).body["error"]["remedy"]
    assert node.call("log", "--kind", "ControlRequested").objects == []
