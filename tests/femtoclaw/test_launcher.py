"""The launcher on a real installation, in real processes: what was altered stops the start and is never loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from femtoclaw.launcher import start
from tests.femtoclaw.installed import (
    DRIVER,
    READ,
    WORK,
    Installed,
    assert_refused,
    first_of,
)


def test_what_is_whole_starts_and_works(place: Installed) -> None:
    """A run, and a call that is decided by Cedar and executed in another process, all from verified bytes."""
    assert place.call(*WORK).stdout == "hi\n"
    done = place.call("--json", "intent", READ)
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["decision"] == "AUTHORIZED"
    assert {"femtoclaw.boot", "wal.record", "nacl.bindings"} <= done.loaded


@pytest.mark.requirement("DEPLOY-5.1", "DEPLOY-5.2")
@pytest.mark.parametrize(
    "pattern", ["femtoclaw/gate.py", "wal/log.py", "cluster/__init__.py", "femtoclaw/policies/*.cedar",
                "nacl/bindings/crypto_sign.py", "cedarpy-*.dist-info/METADATA"],
)  # fmt: skip
def test_one_changed_bit_in_a_file_stops_the_start(place: Installed, pattern: str) -> None:
    """Of the program, of its data, of a locked package: nothing of any of them is loaded."""
    name = first_of(place, pattern)
    assert_refused(place, "HASH_MISMATCH", str(place.flip(name)))


def test_the_sealed_code_is_what_was_compiled(place: Installed) -> None:
    """One bit in the byte code, whose sources are whole."""
    assert_refused(place, "HASH_MISMATCH", str(place.flip("femtoclaw.sealed/code")))


@pytest.mark.requirement("BOOT-6.1")
@pytest.mark.parametrize("pattern", ["lmdb/*.so", "nacl/*.so", "msgpack/*.so", "_cffi_backend*.so"])
def test_a_changed_native_library_is_never_loaded(place: Installed, pattern: str) -> None:
    """It is hashed while the start goes on: Python files may be loaded by then, and the log is not opened. That a
    package would rather do without its library changes nothing."""
    before = place.log_bytes()
    path = place.flip(first_of(place, pattern))
    done = place.call(*WORK)
    assert (done.code, "(HASH_MISMATCH)" in done.stderr, str(path) in done.stderr) == (3, True, True)
    assert place.log_bytes() == before


def test_a_large_library_is_verified_when_it_is_loaded(place: Installed) -> None:
    """A short command that does not need it works; one that does ends before it; others verify all at once."""
    path = place.flip(first_of(place, "cedarpy/*.so"))
    assert place.call(*WORK).code == 0
    done = place.call("intent", READ)
    assert (done.code, "(HASH_MISMATCH)" in done.stderr, str(path) in done.stderr) == (3, True, True)
    assert "`scripts/seal`" in done.stderr  # what whoever pulled a newer checkout does next
    assert place.call("distribution", "show").code == 3


def test_a_file_more_or_less_stops_the_start(place: Installed) -> None:
    """Added to a package, or gone from it."""
    added = place.replace("femtoclaw/surprise.py", b"raise SystemExit(0)\n")
    assert_refused(place, "UNLISTED_FILE", str(added))
    added.unlink()
    assert place.call(*WORK).code == 0
    assert_refused(place, "FILE_MISSING", str(place.replace("femtoclaw/gate.py", None)))


def test_what_is_not_sealed_cannot_be_imported(place: Installed) -> None:
    """A module beside the sealed packages, and one of a sealed package's name that is not listed, are not found."""
    (place.root / "stranger.py").write_text("raise SystemExit(0)")
    driver = (
        DRIVER
        + """
for folder in ({root!r} + "/femtoclaw", {root!r} + "/nacl"):
    open(folder + "/stranger.py", "w").close()
for name in ("stranger", "nacl.stranger", "femtoclaw.stranger", "cffi.api", "pip"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit("found " + name)
"""
    )
    done = place.run(driver.format(root=str(place.root), home=str(place.home)))
    assert done.code == 0, done.stderr


def test_nothing_of_the_environment_reaches_the_node(place: Installed, tmp_path: Path) -> None:
    """Modules on PYTHONPATH, in the working directory, sitecustomize, usercustomize, .pth files, a start-up file: each
    would leave a mark, none does."""
    evil = tmp_path / "evil"
    (evil / "wal").mkdir(parents=True)
    mark = f"open({str(tmp_path / 'mark')!r}, 'a').write(__name__)\n"
    for name in ("json.py", "sitecustomize.py", "usercustomize.py", "blake3.py", "socket.py", "wal/__init__.py"):
        (evil / name).write_text(mark)
    (place.root / "evil.pth").write_text(f"import os; {mark}")
    (place.root / "sitecustomize.py").write_text(mark)
    variables = {"PYTHONPATH": str(evil), "PYTHONSTARTUP": str(evil / "json.py"), "PYTHONHOME": str(evil),
                 "PYTHONUSERBASE": str(evil), "PYTHONINSPECT": "1"}  # fmt: skip
    assert place.call(*WORK, cwd=evil, **variables).stdout == "hi\n"
    assert place.call("--json", "intent", READ, cwd=evil, **variables).code == 0
    assert not (tmp_path / "mark").exists()


def test_no_variable_makes_it_continue(place: Installed, tmp_path: Path) -> None:
    """Neither of those that bring settings, which whole files read, nor names that nobody gave a meaning; nor a flag: there
    is none to give."""
    text, manifest = 'runtime.mode = "development"', tmp_path / "deployment.toml"
    manifest.write_text("runtime.steps_max = 'wrong'")
    assert "FEMTOCLAW_SET" in place.call("config", "verify", FEMTOCLAW_SET="runtime.steps_max = 'wrong'").stderr
    assert str(manifest) in place.call("config", "verify", FEMTOCLAW_MANIFEST=str(manifest)).stderr
    manifest.write_text(text)
    path = place.flip("femtoclaw/gate.py")
    for name, value in (
        ("FEMTOCLAW_SET", text), ("FEMTOCLAW_MANIFEST", str(manifest)), ("FEMTOCLAW_DEBUG", "1"),
        ("FEMTOCLAW_INSECURE", "1"),
    ):  # fmt: skip
        done = place.call(*WORK, **{name: value})
        assert (done.code, str(path) in done.stderr) == (3, True), name


@pytest.mark.requirement("BOOT-9.1")
def test_files_that_are_exchanged_after_the_check_are_not_loaded(place: Installed) -> None:
    """The source is replaced and the library written over in place, after both were hashed: what was hashed is what
    runs. A large library, hashed only when it is loaded, is refused then."""
    library = first_of(place, "blake3/*.so")
    for name in (library, first_of(place, "cedarpy/*.so")):
        place.replace(name, (place.root / name).read_bytes())  # a file of its own, to be written in place
    driver = (
        DRIVER
        + f"""
start.verified.sweep.settle()
import os
os.unlink({str(place.root / "femtoclaw/version.py")!r})
open({str(place.root / "femtoclaw/version.py")!r}, "w").write("VERSION = 'evil'")
for name in ({library!r}, {first_of(place, "cedarpy/*.so")!r}):
    with open({str(place.root)!r} + "/" + name, "r+b") as file:
        file.write(bytes(4096))
from femtoclaw.version import VERSION
import blake3
assert VERSION != "evil" and len(blake3.blake3(b"x").digest()) == 32
assert "memfd:" in open("/proc/self/maps").read()
from femtoclaw.launcher.refusal import Refused
try:
    import cedarpy
except Refused as refused:
    print(refused.code, refused.where)
assert "_internal." not in open("/proc/self/maps").read()
"""
    )
    done = place.run(driver.format(root=str(place.root), home=str(place.home)))
    assert done.code == 0, done.stderr
    assert done.stdout.split() == ["HASH_MISMATCH", str(place.root / first_of(place, "cedarpy/*.so"))]


def test_without_sealed_memory_a_library_that_was_touched_is_refused(place: Installed) -> None:
    """It is loaded through the descriptor that was hashed; when its file changed since, in any way, it is not."""
    library = place.root / first_of(place, "blake3/*.so")
    place.replace(str(library), library.read_bytes())
    driver = DRIVER.replace("start.verified", "import os; del os.memfd_create; start.verified")
    driver += """
start.verified.sweep.settle()
import msgpack._cmsgpack
assert "memfd:" not in open("/proc/self/maps").read()
with open({library!r}, "r+b") as file:
    file.write(bytes(4096))
from femtoclaw.launcher.refusal import Refused
try:
    import blake3
except Refused as refused:
    print(refused.code)
"""
    done = place.run(driver.format(root=str(place.root), home=str(place.home), library=str(library)))
    assert (done.code, done.stdout.strip()) == (0, "HASH_MISMATCH"), done.stderr


def test_libraries_that_are_opened_by_name_are_compared_first(place: Installed) -> None:
    """Past the import system: a sealed one, one that was altered after the check, one that was never sealed, and the
    system's."""
    altered = place.root / first_of(place, "blake3/*.so")
    driver = (
        DRIVER
        + """
start.verified.sweep.settle()
import ctypes, os
from femtoclaw.launcher.refusal import Refused
ctypes.CDLL(None), ctypes.CDLL("libc.so.6"), ctypes.CDLL({sealed!r})
os.unlink({altered!r})
open({altered!r}, "wb").write(open({sealed!r}, "rb").read())
os.link({sealed!r}, {unlisted!r})
for path in ({altered!r}, {unlisted!r}):
    try:
        ctypes.CDLL(path)
    except Refused as refused:
        print(refused.code)
"""
    )
    names = {"sealed": place.root / first_of(place, "immutables/*.so"), "altered": altered,
             "unlisted": place.root / "immutables" / "other.so"}  # fmt: skip
    driver = driver.format(
        root=str(place.root), home=str(place.home), **{name: str(path) for name, path in names.items()}
    )
    done = place.run(driver)
    assert (done.code, done.stdout.split()) == (0, ["HASH_MISMATCH", "UNLISTED_FILE"]), done.stderr


def test_other_interpreters_of_a_node_are_bound_to_its_manifest(place: Installed) -> None:
    """A child of a verified process loads the sealed files, and does not start under another manifest."""
    driver = (
        DRIVER
        + """
import subprocess
from femtoclaw.launcher.child import command
words = command("import femtoclaw.version, sys; print(femtoclaw.version.VERSION, sys.argv[1:])", start.verified.root)
print(subprocess.run([*words, "a"], capture_output=True, text=True, check=True).stdout)
open(start.verified.root + "/femtoclaw.sealed/manifest", "ab").write(b"x")
print(subprocess.run(words, capture_output=True).returncode)
"""
    )
    done = place.run(driver.format(root=str(place.root), home=str(place.home)))
    assert done.code == 0, done.stderr
    assert done.stdout.split() == ["0.1.0", "['a']", "3"]


def test_reading_verifies_nothing_and_opens_nothing(place: Installed) -> None:
    """The commands that only read work beside a changed file: they are no runtime."""
    place.flip("femtoclaw/gate.py")
    for words in (["--version"], ["--help"], ["status"], ["log"], ["verify"], ["run", "--help"]):
        done = place.call(*words)
        assert done.code == 0, (words, done.stderr)
        assert "femtoclaw.launcher.loading" not in done.loaded


@pytest.mark.parametrize(
    ("line", "reads"),
    [("--version", True), ("log", True), ("--json --home x status", True), ("run --help", True), ("-h", True),
     ("--home log run x", False), ("--home=log run", False), ("--home", False), ("", False), ("run log", False),
     ("--odd log", False), ("intent -", False), ("init", False), ("recover", False), ("run x --brain -h", False)],
)  # fmt: skip
def test_only_what_can_be_nothing_else_counts_as_reading(line: str, reads: bool) -> None:
    """Whatever is not plain is verified."""
    assert start.reads_only(line.split()) is reads
