"""Keys at rest: what opens them, what does not, and that no refusal tells anything of them."""

from __future__ import annotations

import base64
import json
import os
import pty
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from femtoclaw import key_file
from femtoclaw.errors import ConfigurationError, FemtoClawError
from femtoclaw.key_file import create_key, is_sealed, open_key, protect, read_key_file, seal, stated_key
from femtoclaw.passphrase import (
    KeyLockedError,
    chosen_passphrase,
    new_passphrase,
    node_passphrase,
    operator_passphrase,
)
from wal.note import Ed25519Signer

ROOT = Path(__file__).resolve().parent.parent.parent
SEED = bytes.fromhex("5ec7") * 16
PASS = "correct horse battery staple"
FAST: dict[str, int] = {"ops": 1, "memory": 8192}
PUBLIC = Ed25519Signer("ada", SEED).public
SEALED = seal("ada", SEED, PASS, **FAST)


def asked(passphrase: str) -> Callable[[str], str]:
    return lambda where: passphrase


def never(where: str) -> str:
    raise AssertionError("asked for a passphrase")


def told(error: BaseException | None) -> str:
    """All that an error and its causes say, in every form that a report may give it."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), *(repr(value) for value in vars(error).values()), repr(error.args)]
        error = error.__cause__ or error.__context__
    return " ".join(texts)


def quiet(error: BaseException) -> bool:
    """Nothing of the seed or the passphrase, in any spelling."""
    text = told(error)
    hidden = (SEED.hex(), "5ec7", base64.b64encode(SEED).decode()[:12], repr(SEED)[2:10], PASS, "horse")
    return not any(part in text for part in hidden)


def test_a_sealed_key_opens_with_its_passphrase_and_signs() -> None:
    signer = open_key(SEALED, "k", asked(PASS))
    assert signer.public == PUBLIC == stated_key(SEALED, "k")
    assert signer.sign(b"x") == Ed25519Signer("ada", SEED).sign(b"x")
    assert "5ec7" not in repr(signer)
    assert SEED not in SEALED
    assert SEED.hex().encode() not in SEALED
    assert base64.b64encode(SEED)[:12] not in SEALED


def test_two_files_of_one_key_share_nothing_secret() -> None:
    """Salt and nonce are new each time: equal boxes would tell that two keys are one."""
    fields, others = json.loads(SEALED), json.loads(seal("ada", SEED, PASS, **FAST))
    assert all(fields[name] != others[name] for name in ("salt", "nonce", "box"))


@pytest.mark.invariant("I12")
def test_a_wrong_passphrase_is_a_typed_error_without_a_byte_of_either() -> None:
    for wrong in ("", PASS + " ", PASS[:-1], PASS.upper(), "\udcff", "x" * 100_000):
        with pytest.raises(KeyLockedError) as caught:
            open_key(SEALED, "k", asked(wrong))
        assert caught.value.exit_code == 2
        assert quiet(caught.value)


@pytest.mark.invariant("I12")
@pytest.mark.parametrize("sealed", [True, False])
def test_every_altered_byte_is_a_typed_error(sealed: bool) -> None:
    """Each byte of the file, changed in two ways: refused, unless it is a plain file's own digit, which is another key
    and so not the one it names."""
    raw = SEALED if sealed else seal("ada", SEED, None)
    for place in range(len(raw)):
        for bits in (1, 0x20):
            altered = raw[:place] + bytes([raw[place] ^ bits]) + raw[place + 1 :]
            with pytest.raises(ConfigurationError) as caught:
                open_key(altered, "k", asked(PASS))
            assert quiet(caught.value), place


def changed(**fields: Any) -> bytes:
    """The sealed file with other fields, in the right spelling."""
    return key_file._encode(json.loads(SEALED) | fields)


OTHER = Ed25519Signer("eve", bytes(32)).public
HOSTILE = {
    "another name": changed(name="eve"),
    "another public key": changed(name="eve", public=OTHER.vkey()),
    "cheaper": changed(ops=2),
    "more memory": changed(memory=16384),
    "called plain": changed(kdf="none"),
    "wholly plain": changed(kdf="none", cipher="none"),
    "another cipher": changed(cipher="none"),
    "no work": changed(ops=0),
    "too much work": changed(ops=9),
    "all the memory": changed(memory=1 << 45),
    "memory below": changed(memory=1),
    "negative memory": changed(memory=-1),
    "a number too large": changed(ops=10**400),
    "true for a number": changed(ops=True),
    "no base64": changed(box="!"),
    "a short box": changed(box=""),
    "a long salt": changed(salt=base64.b64encode(bytes(64)).decode()),
    "a short nonce": changed(nonce=base64.b64encode(bytes(23)).decode()),
    "no public key": changed(public=SEED.hex()),
    "a field more": changed(more="x"),
    "a field less": key_file._encode({k: v for k, v in json.loads(SEALED).items() if k != "salt"}),
    "a field twice": SEALED.replace(b'"ops": 1', b'"ops": 1,\n "ops": 1'),
    "another spelling": json.dumps(json.loads(SEALED)).encode(),
    "newer": changed(format="femtoclaw key v2"),
    "no format": key_file._encode({"seed": SEED.hex()}),
    "a list": b"[1]",
    "depth": b"[" * 4000,
    "oversized": SEALED + b" " * 4096,
    "empty": b"",
    "binary": bytes(range(256)),
    "half a seed": SEED.hex()[:62].encode(),
    "a seed and more": SEED.hex().encode() + b"00",
    "another's file": seal("eve", SEED, PASS, **FAST),
}


@pytest.mark.invariant("I11", "I12")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_a_typed_error(name: str) -> None:
    """Nothing is derived beyond the bounds, and no error holds anything of the file."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigurationError) as caught:
        open_key(HOSTILE[name], "k", asked(PASS), PUBLIC)
    assert quiet(caught.value)
    assert "k" in caught.value.where
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    if name == "newer":
        assert "format is unknown" in caught.value.what


def test_too_much_work_is_refused_before_a_passphrase_is_asked() -> None:
    with pytest.raises(ConfigurationError, match="too much work"):
        open_key(HOSTILE["all the memory"], "k", never)


def test_a_key_in_hex_as_older_homes_have_it_opens() -> None:
    for raw in (SEED.hex().encode(), SEED.hex().upper().encode() + b"\n"):
        assert stated_key(raw, "k") is None
        assert open_key(raw, "k", never, PUBLIC).public == PUBLIC
        with pytest.raises(ConfigurationError) as caught:
            open_key(raw, "k", never, OTHER)
        assert quiet(caught.value)
        with pytest.raises(ConfigurationError, match="no name"):
            open_key(raw, "k", never)


def test_a_new_key_is_its_owners_alone_and_is_never_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "keys" / "operators" / "ada.key")
    public = create_key(path, "ada", None)
    for made in (path, path[:-4] + ".pub"):
        assert stat.S_IMODE(os.stat(made).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert Path(path[:-4] + ".pub").read_text() == public.vkey() + "\n"
    assert not is_sealed(path)
    assert open_key(read_key_file(path), path, never).public == public
    kept = Path(path).read_bytes()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="a key already"):
            create_key(path, "ada", None)
        Path(path).unlink(missing_ok=True)
    Path(path).write_bytes(kept)
    assert sorted(os.listdir(os.path.dirname(path))) == ["ada.key", "ada.pub"]


def test_a_plain_key_is_protected_and_then_opens_with_the_passphrase_only(tmp_path: Path) -> None:
    """The seed is gone from the file, the key is the same; and again under another passphrase. The real cost once."""
    for raw, expected in ((seal("ada", SEED, None), None), (SEED.hex().encode(), PUBLIC)):
        path = tmp_path / "ada.key"
        path.write_bytes(raw)
        path.chmod(0o600)
        protect(str(path), PASS, never, expected)
        fields = json.loads(path.read_bytes())
        assert (fields["kdf"], fields["ops"], fields["memory"]) == ("argon2id", 3, 256 * 1024 * 1024)
        assert is_sealed(str(path))
        assert SEED.hex().encode() not in path.read_bytes()
    assert open_key(path.read_bytes(), "k", asked(PASS)).public == PUBLIC
    with pytest.raises(KeyLockedError):
        protect(str(path), "another passphrase", asked("wrong one"))
    assert open_key(path.read_bytes(), "k", asked(PASS)).public == PUBLIC


def test_a_short_passphrase_encrypts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ada.key"
    path.write_bytes(seal("ada", SEED, None))
    path.chmod(0o600)
    for short in ("", "short", "x" * 1025):
        with pytest.raises(ConfigurationError, match="cannot be used") as caught:
            protect(str(path), short, never)
        assert quiet(caught.value)
        assert not is_sealed(str(path))


def test_a_file_open_to_others_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ada.key"
    for mode in (0o640, 0o604, 0o660, 0o644):
        path.write_bytes(SEALED)
        path.chmod(mode)
        with pytest.raises(ConfigurationError, match="too wide"):
            read_key_file(str(path))
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_key_file(str(path))
    path.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_key_file(str(path))
    path.write_bytes(bytes(5000))
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="too large"):
        read_key_file(str(path))


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets exactly these variables for passphrases, by what follows FEMTOCLAW_."""

    def put(**values: str) -> None:
        for name in list(os.environ):
            if name.startswith("FEMTOCLAW_"):
                monkeypatch.delenv(name)
        for name, value in values.items():
            monkeypatch.setenv(f"FEMTOCLAW_{name}", value)

    return put


def test_a_passphrase_comes_from_file_then_variable(tmp_path: Path, variables: Callable[..., None]) -> None:
    file = tmp_path / "pass"
    file.touch(0o600)
    for written, read in ((b"in the file\n", "in the file"), (b"x\r\n", "x"), (b"two\n\n", "two\n"), (b" y", " y")):
        file.write_bytes(written)
        variables(PASSPHRASE_FILE=str(file), PASSPHRASE="in the variable")
        assert node_passphrase("k") == operator_passphrase("k") == read
    variables(PASSPHRASE="node's", OPERATOR_PASSPHRASE="operator's")
    assert (node_passphrase("k"), operator_passphrase("k")) == ("node's", "operator's")
    variables(PASSPHRASE="long enough")
    assert new_passphrase("k", sealed=False) == chosen_passphrase("k") == "long enough"
    with pytest.raises(KeyLockedError):
        new_passphrase("k", sealed=True)  # the old one must not silently become the new one
    variables(PASSPHRASE="long enough", NEW_PASSPHRASE="another one")
    assert new_passphrase("k", sealed=True) == "another one"
    variables(PASSPHRASE="", PASSPHRASE_FILE="")
    assert chosen_passphrase("k") is None
    with pytest.raises(KeyLockedError, match="no passphrase"):
        node_passphrase("k")
    variables(PASSPHRASE="short")
    with pytest.raises(ConfigurationError, match="cannot be used") as caught:
        chosen_passphrase("k")
    assert "short" not in told(caught.value)


def test_a_passphrase_file_that_others_may_read_is_refused(tmp_path: Path, variables: Callable[..., None]) -> None:
    """Not passed over for the variable: the operator meant the file."""
    file = tmp_path / "pass"
    file.write_text(PASS)
    variables(PASSPHRASE_FILE=str(file), PASSPHRASE="in the variable")
    for mode in (0o640, 0o604, 0o666):
        file.chmod(mode)
        with pytest.raises(ConfigurationError, match="too wide") as caught:
            node_passphrase("k")
        assert quiet(caught.value)
    file.unlink()
    with pytest.raises(FemtoClawError, match="cannot be read"):
        node_passphrase("k")


def test_a_passphrase_is_asked_on_a_terminal_unseen() -> None:
    """A real terminal: what is typed is taken and does not show."""
    code = (
        "from femtoclaw.passphrase import node_passphrase, new_passphrase\n"
        "print('same', node_passphrase('the key') == 'typed-7')\n"
        "print('new', new_passphrase('the key', sealed=True) == 'typed-in-new')\n"
    )
    ours, theirs = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FEMTOCLAW_")}
    child = subprocess.Popen(
        [sys.executable, "-c", "import os; os.setsid(); import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + code],
        stdin=theirs, stdout=theirs, stderr=theirs, env=variables | {"PYTHONPATH": str(ROOT)}, cwd=ROOT,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    answers = [b"typed-7\n", b"typed-in-new\n", b"typed-in-new\n"]
    asked_for = [b"passphrase for the key: ", b"new passphrase for the key: ", b"once more: "]
    seen = 0
    try:
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                break
            if not part:
                break
            shown += part
            if answers and (at := shown.find(asked_for[0], seen)) >= 0:
                seen = at + len(asked_for.pop(0))
                os.write(ours, answers.pop(0))
    finally:
        os.close(ours)
        child.wait(30)
    assert b"same True" in shown
    assert b"new True" in shown
    assert b"typed" not in shown
