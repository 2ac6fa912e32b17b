"""Configuration: what an operator may write, and that a mistake is told by file and key, without the value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from femtoclaw import config
from femtoclaw.claws import SHIPPED
from femtoclaw.errors import ConfigurationError, FemtoClawError, UsageError
from femtoclaw.home import (
    JOURNAL_BYTES_MAX,
    Home,
    claw_names,
    effective_configuration,
    journal,
    locate,
    read_text,
)
from femtoclaw.keys import load_public_key, load_signer, parse_public_key
from femtoclaw.settings import CLAWS, check_plain
from wal.note import Ed25519Signer

NAMES = claw_names(SHIPPED)
SECRET = "hunter2"
SEED = "5ec7e7" * 10 + "5ec7"


def resolve(text: str) -> dict[str, Any]:
    return config.resolve(config.parse_toml(text.encode(), "file.toml"), "file.toml", NAMES)


def everything(error: FemtoClawError) -> str:
    """All that any rendering of the error, or of the exceptions behind it, could show."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        chain += [str(cause), repr(cause), repr(cause.args)]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " ".join([*chain, str(error.where), str(error.expected), str(error.found), error.remedy])


WRONG = {
    "unknown claw setting": (f'[capabilities.shell.settings]\nbinarys = ["/{SECRET}"]', "shell.settings.binarys"),
    "a claw without settings": (f'[capabilities."fs.read".settings]\nroot = "{SECRET}"', "fs.read.settings.root"),
    "binaries a text": (f'[capabilities.shell.settings]\nbinaries = "/bin/{SECRET}"', "settings.binaries"),
    "binaries with a number": ('[capabilities.shell.settings]\nbinaries = ["/bin/echo", 5]', "binaries[1]"),
    "binaries not absolute": (f'[capabilities.shell.settings]\nbinaries = ["{SECRET}"]', "binaries[0]"),
    "binaries with a NUL": ('[capabilities.shell.settings]\nbinaries = ["/bin/a\\u0000b"]', "binaries[0]"),
    "a claw that is a text": (f'[capabilities]\nshell = "{SECRET}"', "capabilities.shell"),
    "a claw that is a number": ("[capabilities]\nshell = 5", "capabilities.shell"),
    "enabled a text": (f'[capabilities.shell]\nenabled = "{SECRET}"', "shell.enabled"),
    "unknown key of a claw": ("[capabilities.shell]\nenable = true", "shell.enable"),
    "unknown brain": ("[runtime.brains.foo]", "runtime.brains.foo"),
    "a brain that is a number": ("[runtime.brains]\nfoo = 5", "runtime.brains.foo"),
    "a known brain that is a text": (f'[runtime.brains]\nopenai = "{SECRET}"', "runtime.brains.openai"),
    "a brain without settings": (f'[runtime.brains.echo]\nkey = "{SECRET}"', "brains.echo.key"),
    "unknown default brain": (f'[runtime]\nbrain = "{SECRET}"', "runtime.brain"),
    "unknown brain setting": (f'[runtime.brains.openai]\napi_key = "{SECRET}"', "openai.api_key"),
    "a brain setting of another type": (f'[runtime.brains.openai]\nmax_tokens = "{SECRET}"', "openai.max_tokens"),
    "temperature nan": ("[runtime.brains.openai]\ntemperature = nan", "openai.temperature"),
    "temperature infinite": ("[runtime.brains.openai]\ntemperature = -inf", "openai.temperature"),
    "base_url with a password": (f'[runtime.brains.openai]\nbase_url = "http://u:{SECRET}@host/v1"', "openai"),
    "base_url with a user": (f'[runtime.brains.openai]\nbase_url = "http://{SECRET}@host/v1"', "openai"),
    "base_url with a query": (f'[runtime.brains.openai]\nbase_url = "http://host/v1?key={SECRET}"', "openai"),
    "base_url with a wrong port": ('[runtime.brains.openai]\nbase_url = "http://host:99999/v1"', "openai"),
    "base_url with a broken address": ('[runtime.brains.openai]\nbase_url = "http://[::1/v1"', "openai"),
    "base_url without a host": ('[runtime.brains.openai]\nbase_url = "http:///v1"', "openai"),
    "base_url with a line break": ('[runtime.brains.openai]\nbase_url = "http://ho\\nst/v1"', "openai"),
    "a date": ("[capabilities.shell.settings]\nbinaries = 2026-11-21", "settings.binaries"),
    "a date deep inside": ("[runtime.brains.openai]\nbase_url = [[2026-11-21]]", "base_url[0][0]"),
    "a time where a text belongs": ("[runtime]\nagent = 10:00:00", "runtime.agent"),
    "an integer over 64 bits": (f"[runtime]\nsteps_max = {2**64}", "runtime.steps_max"),
    "an integer of 5000 digits": ("[runtime]\nsteps_max = " + "9" * 5000, "file.toml"),
    "too deep by brackets": ("[runtime]\nsteps_max = " + "[" * 5000 + "]" * 5000, "file.toml"),
    "too deep by dots": ("[capabilities.shell.settings]\n" + "a." * 5000 + "a = 1", "capabilities"),
    "a path with NUL": ('[policy]\nfile = "a\\u0000b"', "policy.file"),
    "a mode that is none": (f'[runtime]\nmode = "{SECRET}"', "runtime.mode"),
    "a domain that is a number": ("runtime = 5", "runtime"),
    "an agent called as the runtime itself": ('[runtime]\nagent = "runtime"', "runtime.agent"),
    "alerts in the clear": (f'[observability]\nalert_webhook = "http://{SECRET}.example/"', "alert_webhook"),
    "alerts with a password": (f'[observability]\nalert_webhook = "https://u:{SECRET}@host/"', "alert_webhook"),
    "an array of tables": (f'[[runtime]]\nagent = "{SECRET}"', "runtime"),
}


@pytest.mark.requirement("DEPLOY-6.1")
@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told_by_file_and_key_without_the_value(name: str) -> None:
    """Exit 2, where it stands, and nothing of what was written there: it may be a secret in the wrong place."""
    text, key = WRONG[name]
    with pytest.raises(ConfigurationError) as caught:
        resolve(text)
    assert caught.value.exit_code == 2
    assert caught.value.where.startswith("file.toml")
    assert key in caught.value.where
    assert SECRET not in everything(caught.value)
    assert "None" not in str(caught.value)


def test_bytes_that_are_no_text_are_told_by_their_place(tmp_path: Path) -> None:
    """A configuration and a policy that are not UTF-8 are told without their bytes."""
    (tmp_path / "policy").write_bytes(SECRET.encode() + b"\xff")
    for refuse in (
        lambda: config.parse_toml(SECRET.encode() + b"\xff", "file.toml"),
        lambda: read_text(str(tmp_path / "policy")),
    ):
        with pytest.raises(ConfigurationError) as caught:
            refuse()
        assert caught.value.found == "a wrong byte at 7"
        assert SECRET not in everything(caught.value)


def test_what_is_right_is_taken_as_it_is() -> None:
    """Each claw's and brain's own settings, IPv6 and https addresses, and the canonical form that is recorded."""
    effective = resolve(
        '[capabilities.shell]\nenabled = true\nsettings = { binaries = ["/bin/echo"] }\n'
        '[runtime]\nbrain = "openai:m"\n[runtime.brains.openai]\nbase_url = "https://[::1]:8443/v1"\ntemperature = 1\n'
    )
    assert effective["capabilities"]["shell"] == {"enabled": True, "settings": {"binaries": ["/bin/echo"]}}
    recorded = json.loads(config.canonical(effective))
    assert config.resolve(recorded, "what is recorded", None) == effective
    assert set(CLAWS) <= NAMES


def test_a_key_that_came_later_is_no_change_of_an_older_configuration() -> None:
    """At its default it is not recorded: the next version of the program starts on what an older one recorded."""
    before = {"runtime": {}, "observability": {"telemetry_retention_events": 5}}
    effective = config.resolve(before, "an older one", None)
    for domain, key in config.LATER:
        assert key in effective[domain]
        assert key not in json.loads(config.canonical(effective))[domain]
    effective["observability"]["alert_webhook"] = "https://alerts.example"
    assert json.loads(config.canonical(effective))["observability"]["alert_webhook"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_setting_is_a_number_that_is_none(number: float) -> None:
    """Canonical JSON has no form for it, in whatever table it comes."""
    with pytest.raises(ConfigurationError, match="not a number"):
        check_plain({"a": [{"b": number}]}, "file.toml")


def test_a_missing_workspace_is_named(tmp_path: Path) -> None:
    """No claw could run: the folder and the key are told before anything is."""
    home = Home(str(tmp_path))
    (tmp_path / "femtoclaw.toml").write_text('[security]\nworkspace = "there"\n')
    for found in (lambda: None, lambda: (tmp_path / "there").write_text("a file")):
        found()
        with pytest.raises(ConfigurationError) as caught:
            effective_configuration(home, NAMES)
        assert str(tmp_path / "there") in str(caught.value.expected)
        assert caught.value.where.endswith("security.workspace")
    (tmp_path / "there").unlink()
    (tmp_path / "there").mkdir()
    assert effective_configuration(home, NAMES)["security"]["workspace"] == "there"


def test_an_empty_name_is_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`--home ""` and FEMTOCLAW_HOME="" are refused: they are variables that were not set, not a wish for a default."""
    monkeypatch.setenv("FEMTOCLAW_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="--home"):
        locate("")
    assert locate(None).path == str(tmp_path)
    monkeypatch.setenv("FEMTOCLAW_HOME", "")
    with pytest.raises(UsageError, match="FEMTOCLAW_HOME"):
        locate(None)
    assert locate("/a/../b").path == "/b"


def test_a_private_key_in_the_wrong_place_is_not_shown(tmp_path: Path) -> None:
    """Where a public key belongs, a private one is refused by its form, in no text of the error or its causes."""
    home = Home(str(tmp_path))
    (tmp_path / "keys").mkdir()
    for text in (SEED, f"femtoclaw.log/x+0011+{SEED}", f"{SEED}+{SEED}+{SEED}", f"\udcff+00+{SEED}", ""):
        with pytest.raises(ConfigurationError) as caught:
            parse_public_key(text, "--key")
        assert "5ec7" not in everything(caught.value)
    (tmp_path / "keys" / "node.pub").write_text(SEED + "\n")
    (tmp_path / "keys" / "node.key").write_text(SEED + "\n")
    for load in (lambda: load_public_key(home.public_key_file), lambda: load_signer(home)):
        with pytest.raises(ConfigurationError) as caught:
            load()
        assert "5ec7" not in everything(caught.value)
        assert "private" in str(caught.value.found)
    (tmp_path / "keys" / "node.pub").write_text(Ed25519Signer("n", bytes(32)).public.vkey())
    for text in (SEED + "5ec7", SEED[:-2], f"+{SEED}", SEED):
        (tmp_path / "keys" / "node.key").write_text(text)
        (tmp_path / "keys" / "node.key").chmod(0o600)
        with pytest.raises(ConfigurationError) as caught:
            load_signer(home)
        assert "5ec7" not in everything(caught.value)


@pytest.mark.invariant("I11")
def test_the_boot_journal_stays_within_its_bound(tmp_path: Path) -> None:
    """However many starts fail, and however long their texts, the journal and the old one stay within two bounds; the
    newest lines are there, whole."""
    home = Home(str(tmp_path))
    for number in range(1000):
        journal(home, number, "start_failed", text="x" * 100_000)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["boot.journal", "boot.journal.old"]
    assert all(file.stat().st_size <= JOURNAL_BYTES_MAX for file in files)
    lines = (tmp_path / "boot.journal.old").read_bytes().splitlines() + (
        tmp_path / "boot.journal"
    ).read_bytes().splitlines()
    times = [json.loads(line)["time_ns"] for line in lines]
    assert times == list(range(times[0], 1000))
    assert len(times) > 200


def test_a_journal_that_cannot_be_written_stops_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A full disk below it is a remark on stderr, once."""
    home = Home(str(tmp_path))
    (tmp_path / "boot.journal").symlink_to("/dev/full")
    for at in range(8):
        journal(home, at, "started")
    assert capfd.readouterr().err.count("boot journal cannot be written") == 1


def test_an_error_tells_only_what_is_known() -> None:
    """Neither `expected None` nor `found None`."""
    assert str(ConfigurationError("a", where="b")) == "a; at b"
    assert str(ConfigurationError("a", expected="c")) == "a; expected c"
    assert str(ConfigurationError("a", found=0)) == "a; found 0"
    assert str(ConfigurationError("a", where="b", expected="c", found="d")) == "a; at b; expected c, found d"


def test_the_brain_cannot_be_called_operator() -> None:
    """Policy tells a person's intent by that name: whoever sets the configuration does not say who is a person."""
    with pytest.raises(ConfigurationError, match="reserved"):
        config.resolve({"runtime": {"agent": "operator"}}, "file", NAMES)
