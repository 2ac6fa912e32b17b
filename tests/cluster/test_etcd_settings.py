"""What an operator may say of etcd, and which of its versions are taken."""

from __future__ import annotations

import pytest

from cluster.errors import (
    ClusterConfigurationError,
    CoordinatorVersionError,
)
from cluster.etcd_settings import EtcdSettings, EtcdTls, check_version


@pytest.mark.parametrize(
    "text",
    ["3.4.21", "3.3.99", "2.9.9", "3.5.0", "3.5.5", "3.5.0-rc.1", "", "3.4", "v3.6.0", "3.6.0 ", "three", "٣.٥.٩"],
)
def test_versions_that_lose_writes_are_refused(text: str) -> None:
    """Also what cannot be read as a version."""
    with pytest.raises(CoordinatorVersionError):
        check_version(text, "here")


@pytest.mark.parametrize("text", ["3.4.22", "3.4.23", "3.5.6", "3.5.21", "3.6.0", "3.6.0-rc.1", "4.0.0"])
def test_versions_that_hold_are_accepted(text: str) -> None:
    check_version(text, "here")


BAD_SETTINGS: tuple[dict[str, object], ...] = (
    {"endpoints": ()}, {"endpoints": ("127.0.0.1",)}, {"endpoints": ("http://127.0.0.1:2379",)}, {"endpoints": ("a:1",) * 10},
    {"prefix": "femtoclaw"}, {"prefix": "/a/"}, {"prefix": "/a b"}, {"lease_s": 1}, {"lease_s": 61}, {"call_s": 0.05},
    {"call_s": 1.7}, {"user": "root"}, {"password": "x"},
)  # fmt: skip


@pytest.mark.parametrize("wrong", BAD_SETTINGS, ids=str)
def test_bad_settings_are_refused(wrong: dict[str, object]) -> None:
    """Before anything is tried, with exit code 2."""
    settings: dict[str, object] = {"endpoints": ("127.0.0.1:2379",), **wrong}
    with pytest.raises(ClusterConfigurationError) as caught:
        EtcdSettings(**settings)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2


def test_settings_do_not_show_secrets() -> None:
    shown = repr(EtcdSettings(("a:1",), user="root", password="hidden", tls=EtcdTls(b"ca", b"cert", b"private")))
    assert "hidden" not in shown
    assert "private" not in shown
    with pytest.raises(ClusterConfigurationError):
        EtcdTls(b"ca", b"cert")
