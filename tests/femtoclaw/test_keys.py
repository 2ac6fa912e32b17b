"""The key folder: what its index finds, rotation of files with a crash anywhere, and a process that cannot be read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from femtoclaw import keys
from femtoclaw.errors import ConfigurationError, FemtoClawError, SecurityError
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner, create_key, is_sealed, open_key, read_key_file, seal
from femtoclaw.keys import (
    change_keys,
    check_index,
    index_findings,
    load_operator,
    load_signer,
    operator_file,
    protect_key,
    select_signer,
    settle,
    stage_key,
    write_index,
)
from femtoclaw.passphrase import KeyLockedError
from femtoclaw.secret_store import SecretStore
from tests.femtoclaw.crashing import Crash

ROOT = Path(__file__).resolve().parent.parent.parent
NODE, BOB = "femtoclaw.log/x", "bob"
PASS = "correct horse battery staple"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Keys as `init` makes them: of the node and of one operator, with their index."""
    home = Home(str(tmp_path))
    create_key(home.key_file, NODE, None)
    create_key(operator_file(home, BOB), BOB, None)
    write_index(home, unchecked(home))
    return home


def unchecked(home: Home) -> KeySigner:
    return select_signer(home, keys.load_public_key(home.public_key_file))


def files(home: Home) -> dict[str, bytes]:
    root = Path(home.path)
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def swap(home: Home) -> str:
    other = Path(operator_file(home, BOB))
    other.unlink()
    Path(keys.folder(home), "operators", "bob.pub").unlink()
    create_key(str(other), BOB, None)
    return "operators/bob.key"


def drop(home: Home) -> str:
    Path(keys.folder(home), "operators", "bob.pub").unlink()
    return "operators/bob.pub"


def add(home: Home) -> str:
    create_key(operator_file(home, "eve"), "eve", None)
    return "operators/eve.key"


def link(home: Home) -> str:
    (Path(keys.folder(home)) / "publishers").symlink_to("operators")
    return "publishers"


def hide(home: Home) -> str:
    folder = Path(keys.folder(home)) / "subjects" / "deep"
    folder.mkdir(parents=True)
    (folder / ".x").write_bytes(b"\xff")
    return "subjects/deep/.x"


HANDS: dict[str, Callable[[Home], str]] = {
    "replaced": swap,
    "removed": drop,
    "added": add,
    "linked": link,
    "hidden": hide,
}


@pytest.mark.requirement("BOOT-11.1")
@pytest.mark.parametrize("how", HANDS)
def test_a_key_file_changed_by_hand_is_named_at_the_next_start(home: Home, how: str) -> None:
    """With the id of the key, as far as one is in the file; and no change by the program makes it look right."""
    assert load_signer(home).public.name == NODE
    key_id = keys.load_public_key(operator_file(home, BOB)[:-4] + ".pub").key_id.hex()
    name = HANDS[how](home)
    with pytest.raises(FemtoClawError) as caught:
        load_signer(home)
    assert caught.value.where.endswith(f"keys/{name}")
    if how in ("replaced", "removed"):
        assert f"bob+{key_id}" in str(caught.value.expected)
    if how == "added":
        assert "eve+" in str(caught.value.found)
    if how != "linked":
        assert isinstance(caught.value, SecurityError)
        assert caught.value.exit_code == 3
    before = files(home)
    with pytest.raises(FemtoClawError):
        change_keys(home, unchecked(home), {"operators/carl.pub": b"x"})
    assert files(home) == before


def test_every_finding_is_told(home: Home) -> None:
    swap(home)
    add(home)
    found = index_findings(home)
    assert found is not None
    assert [(finding.how, os.path.basename(finding.path)) for finding in found] == [
        ("replaced", "bob.key"), ("replaced", "bob.pub"), ("added", "eve.key"), ("added", "eve.pub"),
    ]  # fmt: skip


def test_an_index_by_another_key_or_altered_is_refused(home: Home) -> None:
    """Whoever cannot sign as the node cannot make a change look right."""
    index = Path(keys.folder(home), "index.note")
    whole = index.read_bytes()
    eve = KeySigner(NODE, bytes(32))
    from femtoclaw.key_index import write_index as write

    write(keys.folder(home), [eve])
    with pytest.raises(SecurityError, match="not signed by this node's key"):
        load_signer(home)
    for place in range(0, len(whole), 11):
        index.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(SecurityError):
            load_signer(home)
    index.write_bytes(whole)
    index.chmod(0o600)
    assert load_signer(home).public.name == NODE


def test_a_home_without_an_index_gets_one_with_its_first_change(home: Home) -> None:
    """Homes of older versions: whether there must be one is for the log to say."""
    Path(keys.folder(home), "index.note").unlink()
    assert check_index(home) is False
    change_keys(home, load_signer(home), {"publishers/acme.pub": b"acme\n"})
    assert check_index(home) is True
    change_keys(home, load_signer(home), {"publishers/acme.pub": None})
    assert check_index(home) is True
    assert not (Path(keys.folder(home)) / "publishers" / "acme.pub").exists()


@pytest.mark.parametrize("name", ["", "a b", "../x", ".x", "x/.y", "x//y", "a\nb", "x" * 121, "/etc/x"])
def test_what_is_no_name_for_a_key_file_is_refused(home: Home, name: str) -> None:
    before = files(home)
    with pytest.raises(ConfigurationError, match="not a name"):
        change_keys(home, load_signer(home), {name: b"x"})
    assert files(home) == before


def test_a_rotation_is_settled_wherever_it_was_cut(home: Home, crashing: Callable[[int], None]) -> None:
    """Before the log has recorded it the old key stays, after that the new one takes its place; at every point there is
    a file of the key in force, the index fits, the secrets open, and settling again ends the same."""
    template = Path(home.path)
    old = load_signer(home)
    mark = SecretStore(home, old).stage("token", "open sesame", 1)
    SecretStore(home, old).settle("token", mark)
    for recorded in (False, True):
        for cut in range(1, 40):
            place = template.parent / f"{template.name}-{recorded}-{cut}"
            shutil.copytree(template, place)
            here = Home(str(place))
            new = None if not recorded else stage_key(here, old, None)
            crashing(cut)
            try:
                staged = new or stage_key(here, old, None)
                settle(here, staged.public if recorded else old.public)
                done = True
            except Crash:
                done = False
            crashing(0)
            in_force = new.public if new is not None else old.public
            known = [old.public, *([new.public] if new is not None else [])]
            assert check_index(here, known), (recorded, cut)
            assert check_index(here), (recorded, cut)
            assert select_signer(here, in_force).public == in_force
            settle(here, in_force)
            assert settle(here, in_force) is False
            assert load_signer(here).public == in_force
            assert SecretStore(here, load_signer(here)).get("token", mark) == "open sesame"
            assert not os.path.lexists(os.path.join(keys.folder(here), "node.next.key"))
            assert os.path.exists(os.path.join(keys.folder(here), "old", f"{old.public.key_id.hex()}.pub")) == recorded
            shutil.rmtree(place)
            if done:
                assert cut > 3
                break
        else:
            raise AssertionError("never came to its end")


def test_a_rotation_under_way_is_not_overtaken(home: Home) -> None:
    old = load_signer(home)
    new = stage_key(home, old, PASS)
    assert is_sealed(os.path.join(keys.folder(home), "node.next.key"))
    with pytest.raises(ConfigurationError, match="under way"):
        stage_key(home, old, None)
    assert settle(home, new.public, [old, new]) is True  # no passphrase is asked for what is open
    with pytest.raises(ConfigurationError):
        select_signer(home, old.public)


def test_old_homes_with_hex_keys_load_and_rotate(home: Home) -> None:
    seed = json.loads(Path(home.key_file).read_bytes())["box"]
    Path(keys.folder(home), "index.note").unlink()
    Path(home.key_file).write_text(seed + "\n")
    old = load_signer(home)
    new = stage_key(home, old, None)
    assert settle(home, new.public) is True
    assert load_signer(home).public == new.public


def test_a_protected_node_key_needs_its_passphrase(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(where: str) -> str:
        raise AssertionError("asked")

    public = load_signer(home).public
    protect_key(home, "node.key", PASS, never)
    assert check_index(home)
    monkeypatch.delenv("FEMTOCLAW_PASSPHRASE_FILE", raising=False)
    for given in ("", "another one"):
        monkeypatch.setenv("FEMTOCLAW_PASSPHRASE", given)
        with pytest.raises(KeyLockedError):
            load_signer(home)
    monkeypatch.setenv("FEMTOCLAW_PASSPHRASE", PASS)
    assert load_signer(home).public == public
    protect_key(home, "operators/bob.key", PASS + "2", never)
    monkeypatch.setenv("FEMTOCLAW_OPERATOR_PASSPHRASE", PASS + "2")
    assert load_operator(home, BOB).public.name == BOB


def test_an_operators_key_is_his(home: Home) -> None:
    assert load_operator(home, BOB).public.name == BOB
    with pytest.raises(ConfigurationError, match="another's key"):
        load_operator(home, "eve", operator_file(home, BOB))
    with pytest.raises(ConfigurationError, match="another's key"):
        load_operator(home, BOB, home.key_file)
    for name in ("", "..", "a/b", "a b", ".hidden", "x" * 65, "é"):
        with pytest.raises(ConfigurationError, match="not a name"):
            operator_file(home, name)


READER = """
import ctypes, os, sys
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
get_dumpable = 3
before = ctypes.CDLL(None).prctl(get_dumpable)
signer = load_signer(Home(sys.argv[1]))
print(before, ctypes.CDLL(None).prctl(get_dumpable), flush=True)
sys.stdin.readline()
os.abort()
"""


@pytest.mark.invariant("I12")
def test_a_process_with_a_key_leaves_no_core_and_is_not_read_by_its_neighbours(home: Home, tmp_path: Path) -> None:
    """A process of the same user, without the capability to trace anybody, cannot open its memory; when it dies of
    SIGABRT with core files allowed, it leaves none."""
    child = subprocess.Popen(
        ["/bin/sh", "-c", 'ulimit -c unlimited 2>/dev/null || ulimit -c "$(ulimit -Hc)"; exec "$@"', "sh",
         sys.executable, "-c", READER, home.path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"1 0\n"
    limits = Path(f"/proc/{child.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4] == "0"
    # The kernel gives /proc of a process that cannot be dumped to root: that is what keeps neighbours out. Root itself
    # is not kept out, so as root only the switch can be looked at.
    if os.geteuid() != 0:
        with pytest.raises(PermissionError), open(f"/proc/{child.pid}/mem", "rb"):
            pass
    child.communicate(b"\n", timeout=30)
    assert child.returncode == -6
    assert not list(tmp_path.glob("core*"))


@pytest.mark.invariant("I12")
def test_no_error_of_the_key_folder_shows_a_key(home: Home) -> None:
    """Seeds in every wrong place of the folder: the errors and the findings name files and key ids only."""
    seed = open_seed(home)
    folder = Path(keys.folder(home))
    for place in ("node.pub", "operators/bob.pub", "operators/bob.key", "index.note", "node.next.key"):
        kept = (folder / place).read_bytes() if (folder / place).exists() else None
        for text in (seed, json.dumps({"seed": seed}), f"bob+{seed}+{seed}"):
            (folder / place).write_text(text)
            (folder / place).chmod(0o600)
            with pytest.raises(FemtoClawError) as caught:
                load_signer(home)
            assert seed not in f"{caught.value} {vars(caught.value)} {caught.value.__context__}"
            assert seed[:12] not in repr(vars(caught.value))
        if kept is None:
            (folder / place).unlink()
        else:
            (folder / place).write_bytes(kept)
    assert load_signer(home)


def open_seed(home: Home) -> str:
    text: str = json.loads(read_key_file(home.key_file))["box"]
    assert open_key(seal(NODE, bytes.fromhex(text), None), "k", str).public == unchecked(home).public
    return text
