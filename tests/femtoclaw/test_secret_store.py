"""Secrets at rest: each box opens under its name and the node's key only, and the log's digest says which one is meant."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from blake3 import blake3

from femtoclaw.errors import ConfigurationError, FemtoClawError, SecurityError
from femtoclaw.home import Home
from femtoclaw.key_file import KeySigner
from femtoclaw.secret_store import SECRETS_MAX, VALUE_BYTES_MAX, Secret, SecretStore, list_secrets, reseal

VALUE = "s3cr3t-ö-🔑-value"
OLD = KeySigner("node", bytes(range(32)))
NEW = KeySigner("node", bytes(range(1, 33)))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(str(tmp_path))


@pytest.fixture
def store(home: Home) -> SecretStore:
    return SecretStore(home, OLD)


def put(store: SecretStore, name: str, value: str, set_ns: int = 5) -> str:
    mark = store.stage(name, value, set_ns)
    store.settle(name, mark)
    return mark


def box(home: Home, name: str) -> Path:
    return Path(home.path, "secrets", f"{name}.box")


def quiet(error: FemtoClawError) -> bool:
    text = f"{error} {vars(error)} {error.__cause__} {error.__context__}"
    return VALUE not in text and "s3cr3t" not in text


def test_a_value_comes_back_and_is_nowhere_in_the_files(home: Home, store: SecretStore) -> None:
    mark = put(store, "token", VALUE, 7)
    assert store.get("token", mark) == VALUE
    raw = box(home, "token").read_bytes()
    assert stat.S_IMODE(box(home, "token").stat().st_mode) == 0o600
    for spelling in (VALUE.encode(), VALUE.encode().hex().encode(), base64.b64encode(VALUE.encode())[:12], b"s3cr3t"):
        assert spelling not in raw
    assert list_secrets(home) == [Secret("token", len(VALUE.encode()), 7)]
    assert "s3cr3t" not in repr(list_secrets(home)) + repr(store)


def test_the_digest_cannot_be_guessed_at(store: SecretStore) -> None:
    """Whoever knows the value, the name and the public key still cannot tell that this is its digest; the same value set
    twice has two."""
    mark = put(store, "token", VALUE)
    assert len(bytes.fromhex(mark)) == 32
    assert put(store, "token", VALUE) != mark
    guesses = [VALUE.encode(), b"token" + VALUE.encode(), b"token\x00" + VALUE.encode()]
    assert mark not in [blake3(guess).hexdigest() for guess in guesses]
    assert mark not in [blake3(guess, key=OLD.public.raw).hexdigest() for guess in guesses]


@pytest.mark.invariant("I12")
def test_an_altered_box_is_a_typed_error_without_the_value(home: Home, store: SecretStore) -> None:
    mark = put(store, "token", VALUE)
    raw = box(home, "token").read_bytes()
    fields = json.loads(raw)
    for name in fields:
        value = fields[name]
        other = value + 1 if isinstance(value, int) else value[:-2] + ("AA" if value[-2:] != "AA" else "BB")
        box(home, "token").write_text(json.dumps(fields | {name: other}))
        with pytest.raises(FemtoClawError) as caught:
            store.get("token", mark)
        assert quiet(caught.value), name
    for hostile in (b"", b"{}", b"[" * 9000, VALUE.encode(), json.dumps(fields | {"x": 1}).encode(), b"x" * 200_000):
        box(home, "token").write_bytes(hostile)
        with pytest.raises(FemtoClawError) as caught:
            store.get("token", mark)
        assert quiet(caught.value)
    box(home, "token").write_bytes(raw)
    box(home, "token").chmod(0o640)
    with pytest.raises(ConfigurationError, match="too wide"):
        store.get("token", mark)


@pytest.mark.invariant("I12")
def test_a_box_serves_under_its_own_name_key_and_record_only(home: Home, store: SecretStore) -> None:
    """One copied over another, one sealed by another node, and an older one put back by hand."""
    first = put(store, "token", VALUE)
    other = put(store, "other", "another value")
    older = box(home, "token").read_bytes()
    box(home, "other").write_bytes(older)
    with pytest.raises(SecurityError, match="does not open"):
        store.get("other", other)
    with pytest.raises(SecurityError, match="does not open"):
        SecretStore(home, NEW).get("token", first)
    second = put(store, "token", VALUE + "2")
    box(home, "token").write_bytes(older)
    with pytest.raises(SecurityError, match="not the one that was recorded") as caught:
        store.get("token", second)
    assert quiet(caught.value)


def test_setting_is_settled_by_what_the_log_says(home: Home, store: SecretStore) -> None:
    """A crash between the file and the record, on either side of it."""
    first = put(store, "token", VALUE)
    second = store.stage("token", VALUE + "2", 6)
    assert store.get("token", first) == VALUE
    assert store.get("token", second) == VALUE + "2"  # recorded, and cut before it was settled
    store.settle("token", first)
    assert [path.name for path in Path(home.path, "secrets").iterdir()] == ["token.box"]
    third = store.stage("token", VALUE + "3", 7)
    store.settle("token", third)
    assert store.get("token", third) == VALUE + "3"
    store.stage("never", "never recorded", 8)
    assert [secret.name for secret in list_secrets(home)] == ["token"]
    store.settle("never", "")
    assert [path.name for path in Path(home.path, "secrets").iterdir()] == ["token.box"]
    store.settle("token", "")
    assert list_secrets(home) == []
    with pytest.raises(ConfigurationError, match="no value"):
        store.get("token", third)


def test_a_rotation_seals_every_box_anew(home: Home, store: SecretStore) -> None:
    """Interrupted anywhere and begun again; digests stay what the log says; the old key opens nothing any more."""
    marks = {name: put(store, name, VALUE + name) for name in ("a", "b")}
    marks["c"] = store.stage("c", VALUE + "c", 9)
    kept = box(home, "b").read_bytes()
    reseal(home, OLD, NEW)
    box(home, "b").write_bytes(kept)  # as if it had been cut before this one
    reseal(home, OLD, NEW)
    reseal(home, OLD, NEW)
    for name, mark in marks.items():
        assert SecretStore(home, NEW).get(name, mark) == VALUE + name
        with pytest.raises(SecurityError):
            store.get(name, mark)
    assert [(secret.name, secret.set_ns) for secret in list_secrets(home)] == [("a", 5), ("b", 5)]


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "..", "-a", "a b", "é", "x" * 65, "a\n"])
def test_what_is_no_name_is_refused(store: SecretStore, name: str) -> None:
    with pytest.raises(ConfigurationError, match="not a name"):
        store.stage(name, VALUE, 1)


@pytest.mark.parametrize("value", ["", "s3cr3t7", "🔑" * 7, "s3cr3t" * VALUE_BYTES_MAX, "s3cr3t\udcff!"])
def test_a_value_that_does_not_fit_is_refused_unseen(home: Home, store: SecretStore, value: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a secret") as caught:
        store.stage("token", value, 1)
    assert quiet(caught.value)
    assert not os.path.exists(os.path.join(home.path, "secrets"))


@pytest.mark.invariant("I11")
def test_there_is_a_bound_on_secrets(home: Home, store: SecretStore) -> None:
    put(store, "first", VALUE)
    for number in range(SECRETS_MAX - 1):
        os.link(box(home, "first"), box(home, f"n{number}"))
    with pytest.raises(ConfigurationError, match="too many"):
        store.stage("more", VALUE, 1)
    put(store, "first", VALUE + "2")
