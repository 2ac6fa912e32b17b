"""Evidence that somebody changed, and steps that find what they must not pass; files that are being changed in order."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from femtoclaw import config, distribution
from femtoclaw.api import own_files
from femtoclaw.errors import ConfigurationError, IntegrityError
from femtoclaw.home import Home
from femtoclaw.incidents import evidence_file, response
from femtoclaw.incidents.evidence import Case, preserve
from femtoclaw.incidents.evidence_file import FORMAT, verify_evidence, write_evidence
from femtoclaw.incidents.files import look_at_files
from femtoclaw.incidents.story import Entry, Story, all_incidents, story_of
from femtoclaw.key_file import KeySigner
from femtoclaw.launcher import sealed
from femtoclaw.operations import STEPS
from femtoclaw.state import Incident
from tests.cli.node import Node, environment
from tests.femtoclaw.controlled import ADA, Controlled
from tests.femtoclaw.simulated import SIGNER
from wal.blob import blob_name
from wal.errors import CorruptFileError, LogUnavailableError
from wal.stored_zip import ZipWriter, read_entries

NAME = "0" * 32


def members(path: Path) -> list[tuple[str, bytes]]:
    """What is in a bundle."""
    with path.open("rb") as file:
        entries = read_entries(file, path.stat().st_size, 100, str(path))
        return [(each.name, path.read_bytes()[each.end - each.size : each.end]) for each in entries]


def written(path: Path, rows: list[tuple[str, bytes]]) -> Path:
    """A bundle of these members, as a careful forger writes it: every checksum of the zip is right."""
    with path.open("wb") as file:
        archive = ZipWriter(file)
        for name, raw in rows:
            archive.add(name, raw)
        archive.finish()
    return path


def codes(path: Path, *keys: Any) -> list[str]:
    trusted = list(keys) or [ADA.public]
    return [each.code for each in verify_evidence(str(path), trusted, trusted).findings]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "case.evidence"
    content = [("case.json", b'{"incident_id":"x"}'), ("policy/policy.cedar", b"permit;")]
    made = write_evidence(str(path), content, ADA)
    assert (made.members, path.stat().st_mode & 0o777) == (2, 0o400)
    return path


@pytest.mark.requirement("RUNBOOK-20.2")
def test_every_member_of_the_evidence_is_signed_for(bundle: Path, tmp_path: Path) -> None:
    """Another content, one member more or less, another order, another manifest, another signer: each is found."""
    assert codes(bundle) == []
    rows = members(bundle)
    names = [name for name, _ in rows]
    assert names == ["FORMAT", "case.json", "policy/policy.cedar", "manifest", "signature"]
    altered = [(name, b"forbid;" if name == "policy/policy.cedar" else raw) for name, raw in rows]
    assert codes(written(tmp_path / "a", altered)) == ["CorruptFileError"]
    more = [*rows[:3], ("unlisted", b"x"), *rows[3:]]
    assert codes(written(tmp_path / "b", more)) == ["CorruptFileError"]
    assert codes(written(tmp_path / "c", [*rows[:2], *rows[3:]])) == ["CorruptFileError"]
    digest = blob_name(b"forbid;").encode()
    forged = [
        (name, b"7 " + digest + b" policy/policy.cedar\n" if name == "manifest" else raw) for name, raw in altered
    ]
    assert codes(written(tmp_path / "d", [row for row in forged if row[0] != "case.json"])) == ["SignatureError"]
    assert codes(bundle, SIGNER.public) == ["SignatureError"]
    with pytest.raises(LogUnavailableError):
        write_evidence(str(bundle), [], ADA)


def test_what_is_no_evidence_is_refused_by_its_beginning(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it is: nothing of it is hashed, and the remedy is about the file. Altered evidence is refused too."""
    hashed: list[int] = []
    monkeypatch.setattr(evidence_file, "_digest", lambda file: hashed.append(file.tell()) or "")
    foreign, raw = tmp_path / "foreign", bundle.read_bytes()
    for begins in (b"", b"PK", raw[:-1], b"PL" + raw[2:], raw):  # the last one is longer than it says
        foreign.write_bytes(begins)
        os.truncate(foreign, len(begins) if begins == raw[:-1] else 6 * 1024**3)
        with pytest.raises(CorruptFileError) as refused:
            verify_evidence(str(foreign), [ADA.public], [ADA.public])
        assert "evidence again" in refused.value.remedy and "recover" not in refused.value.remedy
        assert refused.value.where.startswith(str(foreign))
    another = written(foreign, [("FORMAT", b"femtoclaw evidence v2\n"), *members(bundle)[1:]])
    with pytest.raises(CorruptFileError, match="this version"):
        verify_evidence(str(another), [ADA.public], [ADA.public])
    assert hashed == []


def test_what_is_no_regular_file_is_no_evidence(tmp_path: Path) -> None:
    """A device, a pipe that nobody writes into, a folder, a file that is not there: a mistake of the command line, told at once."""
    os.mkfifo(tmp_path / "pipe")
    home = Node(tmp_path / "none")
    for given in ("/dev/zero", str(tmp_path / "pipe"), str(tmp_path), str(tmp_path / "missing")):
        words = home.command("--json", "incident", "verify-evidence", given, "--key", ADA.public.vkey())
        done = subprocess.run(words, capture_output=True, check=False, timeout=20, env=environment(), cwd=tmp_path)
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["where"], error["expected"]) == (2, given, "a regular file"), done
        assert error["found"] and "recover" not in error["remedy"]


@pytest.mark.requirement("RUNBOOK-20.2")
def test_a_log_in_the_evidence_is_verified_with_what_is_behind_its_checkpoint(tmp_path: Path) -> None:
    """Also the records that no checkpoint covers yet: one of them altered is found."""
    node, path = Controlled(), tmp_path / "case.evidence"
    home = Home(str(tmp_path))
    key = KeySigner("ada", bytes(range(7, 39)))
    preserve(str(path), Case(NAME, "crash", "ada", 1), home, node.state.node, node.log, key, lambda raw: raw)
    found = verify_evidence(str(path), [key.public], [SIGNER.public])
    assert (found.findings, found.records + found.tail, found.case["kind"]) == ((), node.log.size, "crash")
    rows = members(path)
    assert dict(rows)["FORMAT"] == FORMAT
    assert "process/summary.json" in dict(rows) and not any("environ" in name for name, _ in rows)
    assert json.loads(dict(rows)["distribution/files.json"])["files"]["femtoclaw/gate.py"]
    assert codes(path, key.public) == ["SignatureError"]  # the log is not of a trusted key


def story(detail: str, digest: str) -> Story:
    """An incident that somebody identified."""
    from femtoclaw import events

    return Story(steps=(Entry(1, 1, events.IncidentStepped(NAME, STEPS[0], "done", detail, digest, "ada")),))


@pytest.mark.requirement("RUNBOOK-11.2")
def test_the_identified_log_is_a_prefix_of_the_one_at_the_end(tmp_path: Path) -> None:
    """Grown it is; shortened, or with another history, it is not, and nothing is resumed."""
    node = Controlled()
    started: Any = SimpleNamespace(
        home=Home(str(tmp_path)), sources=node.sources, authority=node.authority, log=node.log
    )
    taken = response.identify(started)
    size = node.log.size
    node.intent("fs.read", path="a")
    assert response.prefix(node.log, story(taken.detail, taken.digest)) == size
    for detail, digest in (
        (taken.detail, "00" * 32), (f"{size + 100} records, 1 boots", taken.digest), ("nothing", ""), ("x, y", "zz")
    ):  # fmt: skip
        with pytest.raises(IntegrityError):
            response.prefix(node.log, story(detail, digest))


def test_a_grave_incident_ends_with_a_restart_or_with_a_reason(tmp_path: Path) -> None:
    node = Controlled()
    started: Any = SimpleNamespace(
        home=Home(str(tmp_path)), sources=node.sources, authority=node.authority, log=node.log
    )
    taken = response.identify(started)
    told = story(taken.detail, taken.digest)
    grave, lesser = Incident("security_violation", 1, "verify", 9), Incident("crash", 2, "verify", 9)
    with pytest.raises(ConfigurationError, match="not restarted"):
        response.resume(started, grave, told, "")
    assert "skipped: cold spare" in response.resume(started, grave, told, "cold spare").detail
    assert "not needed" in response.resume(started, lesser, told, "").detail
    node.restart()
    again: Any = SimpleNamespace(home=Home(str(tmp_path)), sources=node.sources, authority=node.authority, log=node.log)
    assert "restart: done, 1 since" in response.resume(again, grave, told, "").detail


def test_the_log_tells_an_incident_whole() -> None:
    """Opened by an operator, or by the node with its alert; its steps in order; another's are not among them."""
    node = Controlled()
    for name in (NAME, "f" * 32):
        node.control("incident.open", name, {"kind": "crash", "severity": 2, "detail": "", "evidence": []})
        node.control("incident.step", name, {"step": STEPS[0], "result": "done", "detail": name[:1], "digest": ""})
    found = story_of(node.log, NAME)
    assert found.opened is not None and found.alert is None
    assert [each.event.detail for each in found.steps] == ["0"]  # type: ignore[union-attr]
    assert len(all_incidents(node.log)) == 2
    assert story_of(node.log, "e" * 32) == Story()


class _Files:
    """A home whose node is in memory: its two files as they are recorded."""

    def __init__(self, path: Path) -> None:
        self.node = Controlled().state.node
        body = json.loads(self.node.configuration.content)
        self.home = Home(str(path))
        (path / "workspace").mkdir()
        (path / "femtoclaw.toml").write_bytes(own_files.configuration_text(config.canonical(body)))
        self.policy = path / "policy.cedar"
        self.policy.write_text(self.node.policy.text)

    def look(self) -> Any:
        return look_at_files(self.home, lambda: self.node, SIGNER.public)


def test_a_change_that_is_under_way_is_no_tampering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes files in order holds the home: meanwhile they are not compared. Anybody else's edit is found."""
    monkeypatch.setattr(own_files, "LOCK_SECONDS", 0.1)
    files = _Files(tmp_path)
    assert (files.look().configuration, files.look().policy) == ("", "")
    files.policy.write_text("// edited\n")
    with own_files.alone(files.home):
        began = time.monotonic()
        assert files.look().policy == ""
        assert time.monotonic() - began < 5
    assert files.look().policy.endswith("is not policy version 1")
    files.policy.unlink()
    assert files.look().policy.endswith("is gone")
    toml = tmp_path / "femtoclaw.toml"
    toml.write_text(toml.read_text().replace("steps_max = 8", "steps_max = 9"))
    assert "are not configuration version 1" in files.look().configuration
    toml.write_text('runtime = "a secret"')
    assert "secret" not in files.look().configuration and files.look().configuration


def test_a_distribution_that_the_node_itself_accepted_is_no_tampering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pin names another one than runs: signed by the node, it waits for a restart; signed by anybody else it is tampering."""
    from femtoclaw.incidents import files as module

    files = _Files(tmp_path)
    pin = distribution.pin_path(files.home)
    monkeypatch.setattr(module, "distribution_changed", lambda home: ["femtoclaw/gate.py", pin])
    for signer, told in ((SIGNER, ("femtoclaw/gate.py",)), (ADA, ("femtoclaw/gate.py", pin))):
        distribution._write_pin(files.home, sealed.Pin("unverified"), signer)
        assert files.look().distribution == told
