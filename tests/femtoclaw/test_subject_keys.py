"""Keys of subjects in files: made, sealed anew in a rotation, destroyed; with a crash anywhere, and files that are not ours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from femtoclaw import keys, subject_keys
from femtoclaw.errors import ConfigurationError, SecurityError
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner, create_key
from femtoclaw.keys import load_signer, protect_key, settle, stage_key, write_index
from femtoclaw.passphrase import KeyLockedError
from femtoclaw.sealing import UNSEALED, NoSubjectKeyError
from femtoclaw.subject_keys import StoredKeys, destroy_erased, rewrap, sealer_at
from tests.femtoclaw.crashing import Crash
from wal.errors import LogUnavailableError

NAMES = ("alice", "Bob.the-2nd_@example.org", "0")
PASS = "correct horse battery staple"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A node's key with its index, and no subject yet."""
    home = Home(str(tmp_path / "home"))
    create_key(home.key_file, "femtoclaw.log/x", None)
    write_index(home, keys.select_signer(home, keys.load_public_key(home.public_key_file)))
    return home


def made(home: Home, *names: str) -> dict[str, bytes]:
    stored = StoredKeys(home, load_signer(home))
    for name in names:
        stored.make(name)
    return known(home, load_signer(home), *names)


def known(home: Home, signer: KeySigner, *names: str) -> dict[str, bytes]:
    """What a process that has just begun finds."""
    stored = StoredKeys(home, signer)
    return {name: key for name in names if (key := stored.key(name)) is not None}


def file_of(home: Home, name: str) -> Path:
    return Path(subject_keys.folder(home), f"{name}.key")


@pytest.mark.invariant("I12")
def test_each_subject_has_a_key_of_its_own_and_no_file_shows_it(home: Home) -> None:
    """32 bytes, made once, found by the next process; files of one size, mode 0600 in a folder of mode 0700."""
    found = made(home, *NAMES)
    assert len(set(found.values())) == len(NAMES)
    assert {len(key) for key in found.values()} == {32}
    assert made(home, *NAMES) == found
    files = [file_of(home, name) for name in NAMES]
    assert sorted(os.listdir(subject_keys.folder(home))) == sorted(file.name for file in files)
    assert {(file.stat().st_size, oct(file.stat().st_mode)) for file in files} == {(72, "0o100600")}
    assert oct(files[0].parent.stat().st_mode) == "0o40700"
    for key in found.values():
        assert all(key not in path.read_bytes() for path in Path(home.path).rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["", ".", "..", "../alice", "a/b", ".x", "-x", "a b", "a\n", "x" * 65, "\xe9", "a\0"])
def test_what_is_no_name_of_a_subject_reaches_no_file(home: Home, name: str) -> None:
    """It is refused where a key would be made, has none, and destroys nothing."""
    made(home, "alice")
    stored = StoredKeys(home, load_signer(home))
    outside = Path(home.path, "alice.key")
    outside.write_bytes(b"x")
    with pytest.raises(ConfigurationError):
        stored.make(name)
    assert stored.key(name) is None
    stored.destroy(name)
    assert outside.read_bytes() == b"x"
    assert stored.key("alice") is not None


@pytest.mark.parametrize("act", [
    lambda raw: b"", lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: raw[:40] + bytes([raw[40] ^ 1]) + raw[41:],
    lambda raw: bytes([raw[0] ^ 128]) + raw[1:], lambda raw: b"x" * 72,
])  # fmt: skip
def test_an_altered_file_is_refused(home: Home, act: Callable[[bytes], bytes]) -> None:
    """Looking, making and rotating all say so; nothing is put in its place."""
    made(home, "alice", "bob")
    old = load_signer(home)
    file_of(home, "alice").write_bytes(act(file_of(home, "alice").read_bytes()))
    altered = file_of(home, "alice").read_bytes()
    for do in (
        lambda: known(home, old, "alice"),
        lambda: StoredKeys(home, old).make("alice"),
        lambda: rewrap(home, old, KeySigner("femtoclaw.log/x", b"n" * 32)),
    ):
        with pytest.raises(SecurityError, match="does not open"):
            do()
    assert file_of(home, "alice").read_bytes() == altered


def test_a_file_of_another_subject_or_node_is_refused(home: Home) -> None:
    """Also under a fitting name; and what is no regular file is not followed, waited for or written."""
    made(home, "alice", "bob")
    shutil.copy(file_of(home, "bob"), file_of(home, "alice"))
    with pytest.raises(SecurityError):
        known(home, load_signer(home), "alice")
    with pytest.raises(SecurityError):
        known(home, KeySigner("femtoclaw.log/x", b"n" * 32), "bob")
    file_of(home, "alice").unlink()
    file_of(home, "alice").symlink_to(file_of(home, "bob"))
    with pytest.raises(LogUnavailableError):
        known(home, load_signer(home), "alice")
    StoredKeys(home, load_signer(home)).destroy("alice")
    assert not os.path.lexists(file_of(home, "alice"))
    assert known(home, load_signer(home), "bob")
    os.mkfifo(file_of(home, "alice"))
    StoredKeys(home, load_signer(home)).destroy("alice")
    assert not os.path.lexists(file_of(home, "alice"))


@pytest.mark.invariant("I8")
def test_a_destroyed_key_is_overwritten_and_gone(home: Home) -> None:
    """Under its name, under others that a backup of hard links gave it, in what a crash left of its making, and in the
    process that destroys it; the other subjects' keys stay, and doing it again does nothing."""
    made(home, "alice", "bob")
    folder = file_of(home, "alice").parent
    backup, left, kept = folder.parent / "backup.key", folder / ".new-alice.key", file_of(home, "bob").read_bytes()
    os.link(file_of(home, "alice"), backup)
    shutil.copy(backup, left)
    opened = left.open("rb")
    stored = StoredKeys(home, load_signer(home))
    assert stored.key("alice") is not None
    for _ in range(2):
        stored.destroy("alice")
        assert stored.key("alice") is None
        assert known(home, load_signer(home), "alice") == {}
        assert os.listdir(folder) == ["bob.key"]
    assert backup.read_bytes() == opened.read() == bytes(72)
    opened.close()
    assert file_of(home, "bob").read_bytes() == kept


@pytest.mark.invariant("I8")
def test_an_erasure_that_a_crash_cut_is_finished_by_the_next_start(home: Home, crashing: Callable[[int], None]) -> None:
    """Between the overwriting and the removal there is no key already, and no finding."""
    before = made(home, "alice", "bob")
    crashing(1)
    with pytest.raises(Crash):
        StoredKeys(home, load_signer(home)).destroy("alice")
    crashing(0)
    assert known(home, load_signer(home), "alice", "bob") == {"bob": before["bob"]}
    with pytest.raises(NoSubjectKeyError):
        sealer_at(home).salt("alice")
    for _ in range(2):
        destroy_erased(home, load_signer(home), ["alice", "never-seen", "../x"])
        assert os.listdir(subject_keys.folder(home)) == ["bob.key"]


def test_a_backup_put_back_is_destroyed_again(home: Home) -> None:
    """What the log says is erased stays erased, whatever is put into the folder."""
    made(home, "alice")
    kept = file_of(home, "alice").read_bytes()
    StoredKeys(home, load_signer(home)).destroy("alice")
    file_of(home, "alice").write_bytes(kept)
    destroy_erased(home, load_signer(home), ["alice"])
    assert os.listdir(subject_keys.folder(home)) == []


def test_a_home_without_subjects_is_left_alone(home: Home) -> None:
    old = load_signer(home)
    destroy_erased(home, old, ["alice"])
    rewrap(home, old, KeySigner("femtoclaw.log/x", b"n" * 32))
    StoredKeys(home, old).destroy("alice")
    assert StoredKeys(home, old).key("alice") is None
    assert not os.path.exists(subject_keys.folder(home))
    assert sealer_at(home) is UNSEALED


@pytest.mark.invariant("I8")
def test_a_rotation_keeps_every_subjects_key_wherever_it_was_cut(
    home: Home, crashing: Callable[[int], None], tmp_path: Path
) -> None:
    """At every change of a name: who reads still finds every key, and the next start settles it, also with what crashes
    left of files in the making and of a destruction. The old node key opens none of them then."""
    before = made(home, *NAMES)
    made(home, "erased")
    file_of(home, "erased").write_bytes(bytes(72))
    (file_of(home, "erased").parent / ".new-carol.key").write_bytes(b"half")
    old = load_signer(home)
    for cut in range(1, 40):
        here = Home(str(tmp_path / f"cut-{cut}"))
        shutil.copytree(home.path, here.path)
        new = stage_key(here, old, None)
        crashing(cut)
        try:
            done = settle(here, new.public)
        except Crash:
            done = False
        crashing(0)
        sealer = sealer_at(here)
        salts = {name: sealer.salt(name) for name in NAMES}
        settle(here, new.public)
        assert known(here, load_signer(here), *NAMES) == before
        assert {name: sealer_at(here).salt(name) for name in NAMES} == salts
        for name in NAMES:
            with pytest.raises(SecurityError):
                known(here, old, name)
        assert known(here, load_signer(here), "erased", "carol") == {}
        if done:
            assert cut > len(NAMES)
            break
    else:
        raise AssertionError("never came to its end")


def test_who_reads_is_asked_for_no_passphrase(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one at hand what is sealed stays so; with it the keys are there."""
    made(home, "alice")
    for name in ("FEMTOCLAW_PASSPHRASE", "FEMTOCLAW_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    salt = sealer_at(home).salt("alice")
    protect_key(home, "node.key", PASS, str)
    assert sealer_at(home) is UNSEALED
    monkeypatch.setenv("FEMTOCLAW_PASSPHRASE", PASS)
    assert sealer_at(home).salt("alice") == salt
    monkeypatch.setenv("FEMTOCLAW_PASSPHRASE", PASS + "x")
    assert sealer_at(home) is UNSEALED
    with pytest.raises(KeyLockedError):
        load_signer(home)
