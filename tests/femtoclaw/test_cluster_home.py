"""A home's part in a cluster: settings are read strictly, and written so that they read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from femtoclaw.cluster_home import (
    ClusterSettings,
    Owner,
    check_settings,
    folder_of,
    is_member,
    read_owner,
    read_settings,
    settings_path,
    settings_text,
    write_owner,
)
from femtoclaw.errors import ConfigurationError
from femtoclaw.home import Home

GOOD = ClusterSettings("a", "127.0.0.1:7101", owner="a")


@pytest.mark.parametrize(
    "settings",
    [
        GOOD,
        GOOD._replace(mode="local", acknowledge_s=3, patience_ms=400, archive="s3://bucket/logs"),
        GOOD._replace(coordinator="etcd", owner="", etcd=("127.0.0.1:2379", "[::1]:2380"), etcd_lease_s=2),
        GOOD._replace(mode="witnessed", witnesses="witnesses.policy"),
    ],
)
def test_settings_come_back(tmp_path: Path, settings: ClusterSettings) -> None:
    home = Home(str(tmp_path))
    assert not is_member(home)
    Path(settings_path(home)).write_text(settings_text(settings))
    assert is_member(home)
    assert read_settings(home) == settings


@pytest.mark.parametrize(
    "change, key",
    [
        ({"name": "A"}, "name"), ({"name": 1}, "name"), ({"listen": "here"}, "listen"), ({"mode": "async"}, "mode"),
        ({"coordinator": "raft"}, "coordinator"), ({"coordinator": "etcd"}, "etcd"), ({"etcd": ["x"]}, "etcd"),
        ({"etcd": [1]}, "etcd"), ({"owner": ""}, "owner"), ({"acknowledge_s": 0}, "acknowledge_s"),
        ({"acknowledge_s": True}, "acknowledge_s"), ({"patience_ms": 1}, "patience_ms"), ({"mode": "witnessed"}, "witnesses"),
        ({"surprise": 1}, "surprise"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(change: dict[str, object], key: str) -> None:
    """Unknown keys, other types and values out of bounds: the error says which, and exit 2."""
    body: dict[str, object] = {"name": "a", "listen": "h:1", "owner": "a", **change}
    with pytest.raises(ConfigurationError) as caught:
        check_settings(dict(body), "cluster.toml")
    assert caught.value.where.endswith(key)
    assert caught.value.exit_code == 2


def test_a_missing_name_is_told() -> None:
    with pytest.raises(ConfigurationError, match="missing"):
        check_settings({"listen": "h:1"}, "cluster.toml")


def test_an_operator_names_the_owner(tmp_path: Path) -> None:
    """First the one of the settings; then whom an operator named last; a damaged file is no owner."""
    home = Home(str(tmp_path))
    assert read_owner(home, GOOD) == Owner("a", 1)
    Path(folder_of(home)).mkdir()
    write_owner(home, Owner("b", 7))
    assert read_owner(home, GOOD) == Owner("b", 7)
    for text in ("b", "b x\n", "B 7\n", "b 0\n", "b 7 8\n"):
        (Path(folder_of(home)) / "owner").write_text(text)
        with pytest.raises(ConfigurationError):
            read_owner(home, GOOD)
