"""Whether a host can carry a node: each obstacle is made for real, and named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from femtoclaw import preflight
from femtoclaw.home import Home

ROOT = Path(__file__).resolve().parent.parent.parent


def failed(home: Home, settings: dict[str, object] | None = None) -> dict[str, preflight.Finding]:
    """The obstacles, by what was tried."""
    found = preflight.preflight(home, settings)
    return {finding.check: finding for finding in found if not finding.ok and not finding.warning}


def test_a_place_that_is_fine_has_no_obstacle(tmp_path: Path) -> None:
    """Also when the home is still to be made; nothing is left behind."""
    assert failed(Home(str(tmp_path / "a" / "home"))) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requirement("DEPLOY-3.2")
def test_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    """In a folder of the kernel's, where not even root makes a file."""
    assert failed(Home("/proc/sys/home"))["file system"].where == "/proc/sys"


@pytest.mark.requirement("DEPLOY-3.2")
def test_a_map_that_does_not_fit_the_disk_is_told(tmp_path: Path) -> None:
    """The log reserves its whole map."""
    assert "disk" in failed(Home(str(tmp_path)), {"memory": {"map_bytes": 1 << 60}})


IN_A_CAGE = """
import sys; sys.path.insert(0, {root!r})
import resource
{before}
from femtoclaw.home import Home
from femtoclaw.preflight import preflight
print([finding.check for finding in preflight(Home({home!r})) if not finding.ok and not finding.warning])
"""


@pytest.mark.requirement("DEPLOY-3.2")
@pytest.mark.parametrize(
    ("before", "named"),
    [
        ("import os; os.getuid() or os.setuid(65534); resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))", "processes"),
        ("resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))", "memory"),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))", "descriptors"),
    ],
)
def test_bounds_that_are_too_tight_are_told(before: str, named: str) -> None:
    """Processes, address space, descriptors: each taken away in a process of its own."""
    preloaded = (
        "import subprocess, mmap, socket, selectors, signal, threading, stat, typing\nimport femtoclaw.preflight\n"
    )
    code = IN_A_CAGE.format(root=str(ROOT), before=preloaded + before, home="/dev/shm/none")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert named in done.stdout, done.stderr


@pytest.mark.requirement("DEPLOY-4.2")
def test_a_policy_that_others_may_write_is_told(tmp_path: Path) -> None:
    """With the file's name and mode."""
    home = Home(str(tmp_path))
    tmp_path.chmod(0o700)
    policy = tmp_path / "policy.cedar"
    policy.write_text("")
    policy.chmod(0o640)
    assert failed(home) == {}
    policy.chmod(0o666)
    found = failed(home)["permissions"]
    assert (found.where, "0666" in found.text) == (str(policy), True)


def test_a_place_that_forgets_is_a_warning() -> None:
    """A home in memory works until the next boot."""
    found = {finding.check: finding for finding in preflight.preflight(Home("/dev/shm/none"))}
    if "tmpfs" not in found["persistence"].text:
        pytest.skip("/dev/shm is no tmpfs here")
    assert not found["persistence"].ok
    assert found["persistence"].warning


def test_rights_have_three_levels() -> None:
    """Root is the system; a user without capabilities is a user."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import femtoclaw.preflight, os\n"
    code += "os.getuid() or os.setuid(65534); print(femtoclaw.preflight.privilege())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "user", done.stderr
    if os.geteuid() == 0:
        assert preflight.privilege() == "system"


@pytest.mark.parametrize(
    ("raw", "told"),
    [(b"\6\0\0\0\1", "present"), (b"\6\0\0\0\0", "absent"), (b"\6\0\0\0\7", "unknown"), (b"", "unknown")],
)
def test_the_hosts_secure_boot_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, told: str) -> None:
    """From the firmware's variable; what cannot be asked is unknown."""
    monkeypatch.setattr(preflight, "EFIVARS", str(tmp_path))
    assert preflight.secure_boot() == "unknown"
    (tmp_path / preflight.SECURE_BOOT).write_bytes(raw)
    assert preflight.secure_boot() == told
