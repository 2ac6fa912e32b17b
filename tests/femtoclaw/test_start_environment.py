"""What the environment brings into a start, with real shared libraries: none of their code reaches a verified node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.launcher import environment
from femtoclaw.launcher.refusal import Refused
from tests.femtoclaw.installed import ROOT, WORK, Installed

SOURCE = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void mark(void) {
    char name[64];
    int from = open("/proc/self/comm", O_RDONLY), to = open("%s", O_WRONLY | O_CREAT | O_APPEND, 0600);
    ssize_t size = read(from, name, sizeof name);
    if (size > 0 && write(to, name, size) < 0) _exit(9);
    close(from);
    close(to);
}
unsigned la_version(unsigned version) { return version; }
"""
PROVIDER = """
openssl_conf = all
[all]
providers = some
[some]
evil = evil_section
[evil_section]
module = {library}
activate = 1
"""
FAKE = """#!{python} -IS
import json, os, sys
print(json.dumps([dict(os.environ), sys.argv[1:]]))
sys.exit(7)
"""


class Evil:
    """A library that writes down each process that loads it."""

    def __init__(self, folder: Path) -> None:
        self.shared_object, self.mark = folder / "evil.so", folder / "mark"
        source = folder / "evil.c"
        source.write_text(SOURCE % self.mark)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(self.shared_object), str(source)], check=True)

    def loaded(self) -> list[str]:
        """Names of the processes that loaded it since the last call."""
        found = self.mark.read_text().split("\n")[:-1] if self.mark.exists() else []
        self.mark.unlink(missing_ok=True)
        return found


@pytest.fixture
def evil(tmp_path: Path) -> Evil:
    if shutil.which("cc") is None:
        if os.environ.get("FEMTOCLAW_REQUIRE_ALL") == "1":
            pytest.fail("no compiler")
        pytest.skip("no compiler")
    return Evil(tmp_path)


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH"])
def test_other_libraries_refuse_the_start(place: Installed, evil: Evil, name: str) -> None:
    """By its name, not its value; on record; the log is as it was. What it preloaded has run by then."""
    before = place.log_bytes()
    done = place.call(*WORK, **{name: str(evil.shared_object)})
    assert (done.code, "(ENVIRONMENT)" in done.stderr, name in done.stderr) == (3, True, True)
    assert str(evil.shared_object) not in done.stderr
    assert bool(evil.loaded()) is (name != "LD_LIBRARY_PATH")
    assert place.log_bytes() == before
    assert place.journal()[-1]["code"] == "ENVIRONMENT"
    assert place.call(*WORK, **{name: ""}).code == 0


def test_the_installed_command_starts_from_scratch(place: Installed, evil: Evil) -> None:
    """What was preloaded runs in the process that is replaced, and not in the node."""
    enter = f"import sys; sys.path.append({str(place.root)!r}); from femtoclaw.launcher.start import enter; enter()"
    done = place.run(enter, *WORK, LD_PRELOAD=str(evil.shared_object), OPENSSL_CONF="x")
    assert (done.code, done.stdout) == (0, "hi\n"), done.stderr
    assert len(evil.loaded()) == 1


def test_no_module_comes_in_through_the_cryptographic_library(place: Installed, evil: Evil, tmp_path: Path) -> None:
    """Its configuration names a library, which an interpreter that hashes loads; a node does not."""
    told = tmp_path / "openssl.cnf"
    told.write_text(PROVIDER.format(library=evil.shared_object))
    variables = {"OPENSSL_CONF": str(told), "SSLKEYLOGFILE": str(tmp_path / "keys"), "GCONV_PATH": str(tmp_path)}
    code = "import _hashlib; _hashlib.openssl_sha256(b'')"
    subprocess.run([sys.executable, "-I", "-c", code], env=os.environ | variables, check=False, capture_output=True)
    if not evil.loaded():
        pytest.skip("this interpreter's cryptographic library loads nothing by its configuration")
    assert place.call(*WORK, **variables).code == 0
    assert evil.loaded() == []
    assert not (tmp_path / "keys").exists()


def test_what_is_dropped_and_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of loaders, cryptography, conversion, allocation or the interpreter stays; what a node reads does."""
    gone = ("OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "SSLKEYLOGFILE", "SSL_CERT_FILE", "GCONV_PATH",
            "MALLOC_CHECK_", "GLIBC_TUNABLES", "PYTHONPATH", "LOCPATH", "BASH_ENV", "LD_PRELOAD")  # fmt: skip
    stays = {"HOME": "/h", "FEMTOCLAW_HOME": "/f", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    environ = dict.fromkeys(gone, "") | stays
    environment.check(environ)
    environment.drop(environ)
    assert environ == stays
    for name in gone:
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("FEMTOCLAW_HOME", "/f")
    monkeypatch.setenv("AWS_REGION", "r")
    monkeypatch.setenv("AWS_PROFILE", "p")
    assert (environment.kept()["FEMTOCLAW_HOME"], environment.kept()["AWS_REGION"]) == ("/f", "r")
    assert "AWS_PROFILE" not in environment.kept()
    assert not environment.kept().keys() & set(gone)
    with pytest.raises(Refused, match="other libraries"):
        environment.check({"LD_DEBUG": "all"})


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that is ready to run: its scripts are the real ones, its interpreter says what it was given."""
    root = tmp_path / "checkout"
    for folder in ("scripts", ".venv/bin", "femtoclaw.sealed"):
        (root / folder).mkdir(parents=True)
    for name in ("scripts/femtoclaw", "scripts/environment.sh", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, root / name)
    (root / "femtoclaw.sealed" / "manifest").touch()
    python = root / ".venv" / "bin" / "python"
    python.write_text(FAKE.format(python=os.path.realpath(sys.executable)))
    python.chmod(0o755)
    stamp = "cat pyproject.toml requirements.lock | cksum"
    told = subprocess.run(["sh", "-c", stamp], cwd=root, capture_output=True, text=True, check=True)
    (root / ".venv" / ".run").write_text(told.stdout.strip())
    return root


def started(checkout: Path, *words: str, **variables: str) -> tuple[int, dict[str, str], list[str]]:
    """The script's exit code, and the environment and arguments that the interpreter got."""
    script = str(checkout / "scripts" / "femtoclaw")
    done = subprocess.run([script, *words], env=variables, capture_output=True, text=True, check=False)
    answer: list[Any] = json.loads(done.stdout)
    return done.returncode, answer[0], answer[1]


def test_the_script_starts_a_node_with_a_clean_environment(checkout: Path, evil: Evil) -> None:
    """A preloaded library runs in the shell, which is started with it, and in nothing that the shell starts; start-up
    files and functions not at all; arguments and the exit code are as they were."""
    begin = checkout / "begin.sh"
    begin.write_text(f"echo began >> {evil.mark}\n")
    stray = checkout / "stray"
    stray.mkdir()
    for name in ("readlink", "dirname", "cat", "cksum", "python"):
        (stray / name).write_text(f"#!/bin/sh\necho {name} >> {evil.mark}\n")
        (stray / name).chmod(0o755)
    stays = {"HOME": "/h", "USER": "u", "LOGNAME": "u", "LANG": "C.UTF-8", "LC_TIME": "C", "TERM": "dumb", "TMPDIR": "/t",
             "TZ": "UTC", "NO_COLOR": "1", "FEMTOCLAW_HOME": "/home of it", "FEMTOCLAW_PASSPHRASE": "a\nb c",
             **dict.fromkeys((*environment.KEPT_FOR_ARCHIVES, *environment.KEPT_FOR_SUPERVISORS), "a b")}  # fmt: skip
    goes = {"LD_PRELOAD": str(evil.shared_object), "LD_LIBRARY_PATH": str(stray), "OPENSSL_CONF": "x", "GCONV_PATH": "x",
            "SSLKEYLOGFILE": "x", "BASH_ENV": str(begin), "ENV": str(begin), "PATH": str(stray), "PYTHONPATH": "x",
            "SHELLOPTS": "xtrace", "PS4": f"$(echo traced >> {evil.mark})", "https_proxy": "x", "MALLOC_CHECK_": "3",
            "AWS_PROFILE": "x",
            "BASH_FUNC_exec%%": f"() {{ echo function >> {evil.mark}; }}", "SSL_CERT_FILE": "x"}  # fmt: skip
    words = ["intent", "two words", "", "--x=$HOME\n"]
    code, environ, arguments = started(checkout, *words, **stays, **goes)
    assert code == 7
    assert arguments[-len(words) :] == words
    assert set(evil.loaded()) <= {"femtoclaw", "bash"}, "only in the shell itself"
    assert environ.pop("FEMTOCLAW_PROGRAM") == str(checkout / "scripts" / "femtoclaw")
    assert str(stray) not in environ.pop("PATH")
    unknown = environ.keys() - stays.keys()
    assert {name: environ[name] for name in stays} == stays
    assert unknown <= {"_", "SHLVL", "LC_CTYPE", "BASH_FUNC_exec%%"}


def test_packages_are_installed_with_the_network_of_the_environment(checkout: Path) -> None:
    """On first use only: what pip is started with has the proxies, and the path where Python and compilers are."""
    (checkout / ".venv" / ".run").write_text("old")
    python = checkout / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$*|$https_proxy|$PATH|$LD_PRELOAD" >>"$0.told"\n')
    subprocess.run(
        [str(checkout / "scripts" / "femtoclaw"), "status"], check=True, capture_output=True,
        env={"PATH": "/usr/bin:/bin:/opt/own", "https_proxy": "http://proxy", "PYTHONPATH": "x"},
    )  # fmt: skip
    lines = (checkout / ".venv" / "bin" / "python.told").read_text().splitlines()
    pip = next(line for line in lines if line.startswith("-m pip install"))
    assert pip.split("|")[1:3] == ["http://proxy", "/usr/bin:/bin:/opt/own"]
    assert lines[-1].split("|")[1] == ""
    assert "/opt/own" not in lines[-1]
