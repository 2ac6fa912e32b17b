"""Releases as files and as an installation: one spelling, every refusal by its name, old or new whatever stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from femtoclaw.errors import FemtoClawError, UnavailableError
from femtoclaw.home import Home
from femtoclaw.isolation import abi
from femtoclaw.launcher.start import interpreter
from femtoclaw.migration.formats import CONTROLLED
from femtoclaw.releases.building import Versions, build, own_versions
from femtoclaw.releases.bundle import OpenRelease, write_release
from femtoclaw.releases.deploying import refuse_older
from femtoclaw.releases.fitting import RULES, changed_claws, check_fit, kinds_of, require_asked
from femtoclaw.releases.installation import Installation
from femtoclaw.releases.refusal import IncompatibleReleaseError, ReleaseRefusedError
from femtoclaw.releases.restarting import restart, server_of
from femtoclaw.releases.statement import File, Release, parse
from femtoclaw.seal import PACKAGES, seal
from femtoclaw.state import Claw, Control, Node
from tests.femtoclaw.installed import OTHER, SIGNER
from wal.note import Ed25519Signer

KEYS = [SIGNER.public.vkey()]
KILLED = 77


def sealed(folder: Path, text: str = "PROGRAM = 1\n") -> str:
    """A small program, sealed: all that a release needs."""
    for name in PACKAGES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(text)
    (folder / "requirements.lock").write_text("")
    seal(str(folder), str(folder / "requirements.lock"), counter=7)
    return str(folder)


def made(
    folder: Path, name: str, text: str = "PROGRAM = 1\n", counter: int = 12, signer: Ed25519Signer = SIGNER
) -> str:
    path = str(folder / f"{name}.release")
    build(sealed(folder / name, text), path, signer, own_versions(), counter=counter)
    return path


def opened(path: str, revoked: tuple[str, ...] = ()) -> Release:
    """The release, all of it compared. Raises as ``OpenRelease.check``."""
    with OpenRelease(path) as release:
        found, _ = release.check(KEYS, revoked)
        for _ in release.files(found):
            pass
    return found


def unpacked(installation: Installation, path: str) -> str:
    with OpenRelease(path) as release:
        found, _ = release.check(KEYS)
        return installation.unpack(release, found, release.note)


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    """Wherever they lie; another counter is another release."""
    first, second = made(tmp_path / "a", "first"), made(tmp_path / "b", "elsewhere")
    assert Path(first).read_bytes() == Path(second).read_bytes()
    assert Path(first).read_bytes() != Path(made(tmp_path / "c", "third", counter=13)).read_bytes()


def test_a_statement_has_one_spelling(tmp_path: Path) -> None:
    found = opened(made(tmp_path, "a"))
    assert parse(found.text()) == found
    for old, new in (
        ("counter 12", "counter 012"), ("floor 0", "floor 99"), ("log 1 1", "log 2 1"), ("femtoclaw release v1", "another v1"),
        (" site-packages/wal/", " ../wal/"), ("abi ", "abj "),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            parse(found.text().replace(old, new, 1))
    for path in ("../outside", "/outside", "site-packages/../../outside", "release.note", "a//b"):
        with pytest.raises(ValueError):
            parse(found._replace(files={path: File(1, "0" * 64)}).text())


def flipped(mark: bytes) -> Callable[[bytes], bytes]:
    """One bit of the first place where ``mark`` stands."""

    def change(raw: bytes) -> bytes:
        at = raw.index(mark)
        return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]

    return change


@pytest.mark.requirement("RUNBOOK-14.2")
@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (flipped(b"counter 12"), {"BAD_SIGNATURE"}),
        (flipped(b"PROGRAM = 1"), {"HASH_MISMATCH"}),
        (lambda raw: raw[:-1], {"BAD_RELEASE"}),
        (lambda raw: raw + b"x", {"BAD_RELEASE"}),
        (lambda raw: raw[: len(raw) // 2], {"BAD_RELEASE"}),
        (lambda raw: b"", {"BAD_RELEASE"}),
    ],
)
def test_a_release_that_was_changed_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], codes: set[str]
) -> None:
    path = Path(made(tmp_path, "a"))
    raw = path.read_bytes()
    path.write_bytes(change(raw))
    with pytest.raises(ReleaseRefusedError) as refused:
        opened(str(path))
    assert refused.value.refused in codes
    assert refused.value.exit_code == 3


@pytest.mark.requirement("RUNBOOK-14.2")
def test_a_release_without_a_signature_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path, "a")
    with OpenRelease(path) as whole:
        found, _ = whole.check(KEYS)
        files = dict(whole.files(found))
    with open(tmp_path / "unsigned", "wb") as file:
        write_release(file, found.text().encode() + b"\n", found, files.__getitem__)
    with pytest.raises(ReleaseRefusedError) as refused:
        opened(str(tmp_path / "unsigned"))
    assert refused.value.refused == "UNSIGNED"


@pytest.mark.requirement("RUNBOOK-14.2", "BOOT-21.1")
def test_whose_release_it_is_decides(tmp_path: Path) -> None:
    """Another key is not trusted, a revoked one not any more, whatever the signature says."""
    with pytest.raises(ReleaseRefusedError) as refused:
        opened(made(tmp_path, "other", signer=OTHER))
    assert refused.value.refused == "UNTRUSTED_KEY"
    path = made(tmp_path, "own")
    assert opened(path).counter == 12
    with pytest.raises(ReleaseRefusedError) as refused:
        opened(path, (KEYS[0],))
    assert refused.value.refused == "REVOKED_KEY"


@pytest.mark.requirement("BOOT-23.1")
def test_a_release_below_the_floor_is_refused(tmp_path: Path) -> None:
    found = opened(made(tmp_path, "a"))
    refuse_older(found, 12, "here")
    with pytest.raises(ReleaseRefusedError) as refused:
        refuse_older(found, 13, "here")
    assert refused.value.refused == "ROLLBACK"


def test_what_is_installed_is_compared_with_what_was_signed(tmp_path: Path) -> None:
    """A file that is altered, added or gone, and a statement by another key."""
    installation = Installation(str(tmp_path / "root"))
    name = unpacked(installation, made(tmp_path, "a"))
    assert installation.check(name, KEYS)[0].counter == 12
    place = Path(installation.packages(name)) / "wal"
    file = place / "__init__.py"
    os.chmod(place, 0o755)
    for change, code in (
        (lambda: (file.chmod(0o644), file.write_text("PROGRAM = 2\n")), "HASH_MISMATCH"),
        (lambda: (file.write_text("PROGRAM = 1\n"), (place / "more.py").write_text("")), "UNLISTED_FILE"),
        (lambda: ((place / "more.py").unlink(), file.unlink()), "FILE_MISSING"),
    ):
        change()
        with pytest.raises(ReleaseRefusedError) as refused:
            installation.check(name, KEYS)
        assert refused.value.refused == code
    with pytest.raises(ReleaseRefusedError):
        installation.check(name, [OTHER.public.vkey()])


def test_an_altered_release_that_is_not_in_use_is_unpacked_anew(tmp_path: Path) -> None:
    """What was there is kept to be looked at. One that is in use is refused: it would put its own files back."""
    installation = Installation(str(tmp_path / "root"))
    path = made(tmp_path, "a")
    name = unpacked(installation, path)
    file = Path(installation.packages(name)) / "wal" / "__init__.py"
    file.chmod(0o644)
    file.write_text("PROGRAM = 2\n")
    installation.switch(name)
    with pytest.raises(ReleaseRefusedError):
        unpacked(installation, path)
    (tmp_path / "root" / "current").unlink()
    assert unpacked(installation, path) == name
    assert installation.check(name, KEYS)[0].counter == 12 and file.read_text() == "PROGRAM = 1\n"
    (kept,) = (tmp_path / "root" / "altered").iterdir()
    assert (kept / file.relative_to(installation.folder(name))).read_text() == "PROGRAM = 2\n"


@pytest.mark.requirement("UPGRADE-16.1", "RUNBOOK-2.2")
def test_an_installation_that_is_stopped_has_the_old_release_or_the_new_one(tmp_path: Path) -> None:
    """At every step: what `current` names is whole, and the next attempt succeeds."""
    old, new = made(tmp_path, "old"), made(tmp_path, "new", "PROGRAM = 2\n", counter=13)
    seen = set()
    for at in range(1, 40):
        root = tmp_path / f"root{at}"
        before = Installation(str(root))
        before.switch(unpacked(before, old))
        first = before.current()
        pid = os.fork()
        if pid == 0:
            left = [at]

            def step(name: str, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] == 0:
                    os._exit(KILLED)

            cut = Installation(str(root), step)
            cut.switch(unpacked(cut, new))
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        current = before.current()
        assert current is not None
        before.check(current, KEYS)
        seen.add(current == first)
        name = unpacked(before, new)
        before.switch(name)
        assert before.check(before.current() or "", KEYS)[0].counter == 13
        if ended == 0:
            break
        assert ended == KILLED
    else:
        pytest.fail("it never came to its end")
    assert seen == {True, False}


def test_others_may_not_write_where_programs_are(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(FemtoClawError, match="others may write"):
        unpacked(Installation(str(root)), made(tmp_path, "a"))


def test_a_disk_that_is_full_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = made(tmp_path, "old"), made(tmp_path, "new", "PROGRAM = 2\n")
    installation = Installation(str(tmp_path / "root"))
    installation.switch(unpacked(installation, old))
    before = installation.current()
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UnavailableError):
        unpacked(installation, new)
    assert installation.current() == before


def node(**changes: object) -> Node:
    claw = Claw("fs.read", b"{}", own_versions().claws["fs.read"], True)
    registry = Node().registry.set("fs.read", claw)
    return Node(control=Control(1, "", "", ""), registry=registry)._replace(**changes)


def release(**changes: object) -> Release:
    versions: Versions = own_versions()
    base = Release("0.1.0", 12, 0, interpreter(), *versions, "0" * 64, {})
    return base._replace(**changes)


@pytest.mark.requirement("UPGRADE-13.1", "RUNBOOK-16.1")
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("runtime", {"python": "cpython 3.99.0 cpython-399 x86_64"}),
        ("storage", {"log": (2, 3)}),
        ("storage", {"home": (CONTROLLED + 1, CONTROLLED + 1)}),
        ("storage", {"events": {1: 1, 21: 1}}),
        ("module", {"abi": "FC-ABI-2.0.0"}),
        ("capability", {"claws": {}}),
    ],
)
def test_a_release_that_does_not_fit_is_refused_by_its_kind(kind: str, changes: dict[str, object]) -> None:
    """Interpreter, formats, recorded events, an installed module's interface, a claw in use."""
    from femtoclaw.manifest import Manifest

    arguments = {"type": "object", "properties": {}, "additionalProperties": False}
    module = Manifest(
        "their.claw",
        "1.0.0",
        "A claw.",
        "system",
        arguments,
        {},
        "native:claw.so",
        files={"claw.so": "0" * 64},
        abi=abi.VERSION,
    )
    installed = Claw("their.claw", module.canonical(), module.digest(), True, "publisher")
    known = node()
    if kind == "module":
        known = known._replace(registry=known.registry.set("their.claw", installed))
    used = {1: 1, 21: 2}
    check_fit(release(), known, interpreter(), 1, used)
    with pytest.raises(IncompatibleReleaseError) as refused:
        check_fit(release(**changes), known, interpreter(), 1, used)
    assert (refused.value.kind, refused.value.exit_code) == (kind, 1)


@pytest.mark.requirement("UPGRADE-3.1")
@pytest.mark.parametrize(
    ("kinds", "changes"),
    [
        (("patch",), {"program": "1.4.8"}),
        (("minor",), {"program": "1.5.0"}),
        (("major",), {"program": "2.0.0"}),
        (("minor", "storage"), {"program": "1.5.0", "home": (1, 9)}),
        (("patch", "capability"), {"claws": {}}),
        (("patch", "extension"), {"abi": "FC-ABI-1.1.0"}),
        (("patch", "configuration"), {"configuration": "1" * 64}),
    ],
)
def test_an_upgrade_has_its_kinds(kinds: tuple[str, ...], changes: dict[str, object]) -> None:
    """Each has a rule; a major one is asked for as such."""
    found = kinds_of(release(program="1.4.7")._replace(**changes), "1.4.7", own_versions())
    assert found == kinds
    assert all(RULES[kind] for kind in found)
    require_asked(found, True)
    if "major" in found:
        with pytest.raises(IncompatibleReleaseError):
            require_asked(found, False)
    else:
        require_asked(found, False)


def test_a_claw_with_another_manifest_is_told() -> None:
    """Whoever deploys looks at what it asks for."""
    assert changed_claws(release(), node()) == []
    assert changed_claws(release(claws={"fs.read": "1" * 64}), node()) == ["fs.read"]


SERVER = """
import os, signal, socket, sys, time
path = sys.argv[1]
while True:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        server = socket.socket(socket.AF_UNIX)
        if os.path.exists(path): os.unlink(path)
        server.bind(path); server.listen(8)
        while True: server.accept()[0].close()
    os.waitpid(pid, 0)
"""


@pytest.mark.requirement("RUNBOOK-2.2")
def test_a_restart_is_measured_from_the_old_process_to_the_next(tmp_path: Path) -> None:
    """By a real supervisor of a real process; without one, nobody comes back."""
    home = Home(str(tmp_path))
    assert restart(home, 1.0) is None
    supervisor = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path / "serve.sock")], start_new_session=True)
    try:
        deadline = time.monotonic() + 10
        while server_of(home) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        before = server_of(home)
        taken = restart(home, 10.0)
        assert taken is not None
        assert 0 < taken < 10_000
        assert server_of(home) not in (None, before)
    finally:
        os.killpg(supervisor.pid, signal.SIGKILL)
        supervisor.wait()
