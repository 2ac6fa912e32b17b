"""The lists in README.md and docs/configuration.md are those of the code: commands, keys, variables, sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from femtoclaw import config, config_sources
from femtoclaw.cli.options import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
VARIABLE = re.compile(r'"(FEMTOCLAW_[A-Z_]*[A-Z])"|\$\{?(FEMTOCLAW_[A-Z_]*[A-Z])')
WITH_FILE = ("FEMTOCLAW_PASSPHRASE", "FEMTOCLAW_OPERATOR_PASSPHRASE", "FEMTOCLAW_NEW_PASSPHRASE")
OF_TESTS = {"FEMTOCLAW_REQUIRE_ALL", "FEMTOCLAW_SEED", "FEMTOCLAW_PEERS"}


def used() -> set[str]:
    """The variables that sources and start scripts name."""
    files = [*ROOT.glob("femtoclaw/**/*.py"), ROOT / "scripts" / "femtoclaw", ROOT / "scripts" / "environment.sh"]
    found = {name for file in files for pair in VARIABLE.findall(file.read_text()) for name in pair if name}
    return (found | {f"{name}_FILE" for name in WITH_FILE}) - OF_TESTS


def test_every_variable_is_documented() -> None:
    """And none that nobody reads."""
    documented = set(re.findall(r"`(FEMTOCLAW_[A-Z_]*[A-Z])(?:=\S*)?`", CONFIGURATION))
    from_secrets = {"FEMTOCLAW_OPENAI_API_KEY"}  # made of the name that a brain asks for
    by_the_shell = {"FEMTOCLAW_PROGRAM"}
    assert documented == used() | from_secrets | by_the_shell


@pytest.mark.parametrize(("domain", "key"), [(domain, key) for domain, keys in config.EMBEDDED.items() for key in keys])
def test_every_key_is_documented_with_its_default(domain: str, key: str) -> None:
    """In the table of keys; of texts, numbers and switches also what holds without it."""
    rows = [
        line for line in CONFIGURATION.splitlines() if line.startswith((f"| `{domain}.{key}`", f"| `{domain}.{key}."))
    ]
    assert len(rows) == 1
    default = config.EMBEDDED[domain][key]
    shown = {True: "true", False: "false"}.get(default, f"{default}") if not isinstance(default, dict) else ""
    shown = "64 GiB" if default == 64 << 30 else shown
    assert shown in rows[0].split("|")[2]


def test_every_source_is_documented_in_its_order() -> None:
    """The later decides."""
    sources = [getattr(config_sources, name) for name in ("EMBEDDED", "MANIFEST", "FILE", "ENVIRONMENT", "FLAG")]
    places = [CONFIGURATION.index(f"\n| `{name}` |") for name in sources]
    assert places == sorted(places)


def test_every_command_is_in_the_readme() -> None:
    """In the table of commands, once."""
    text = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("## Documents")[0]
    named = [word for line in text.splitlines() if line.startswith("| ") for word in re.findall(r"`(\w+)`", line)]
    assert sorted(named) == sorted(COMMANDS)
