"""Which distribution a home trusts: signatures, keys, version counters, an operator's word, and what changes later."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from femtoclaw import distribution
from femtoclaw.errors import SecurityError
from femtoclaw.home import Home
from femtoclaw.keys import load_public_key, load_signer
from femtoclaw.launcher.sealed import Pin, Refused, read_pin
from tests.femtoclaw.installed import (
    DRIVER,
    LAUNCHER,
    OTHER,
    SIGNER,
    WORK,
    Installed,
    assert_refused,
    ours,
)
from wal.note import sign_note


def unsigned(place: Installed) -> None:
    place.manifest.write_bytes(place.manifest.read_bytes().rpartition(b"\n\n")[0] + b"\n")


def by_another_key(place: Installed) -> None:
    place.restate("counter 7", "counter 8", OTHER)


def damaged_signature(place: Installed) -> None:
    raw = place.manifest.read_bytes()
    place.manifest.write_bytes(raw.replace(b"counter 7", b"counter 9"))


def older(place: Installed) -> None:
    place.restate("counter 7", "counter 6")


def newer_but_not_accepted(place: Installed) -> None:
    place.restate("counter 7", "counter 8")


def gone(place: Installed) -> None:
    place.manifest.unlink()


def no_manifest(place: Installed) -> None:
    place.manifest.write_bytes(sign_note("something else\n", [SIGNER]))


def key_revoked(place: Installed) -> None:
    path = place.home / "distribution.pin"
    path.write_text(path.read_text().replace("\n\n", f"\nrevoked {SIGNER.public.vkey()}\n\n", 1))


def algorithm(name: str) -> Callable[[Installed], None]:
    def change(place: Installed) -> None:
        place.restate("hash sha256", f"hash {name}")
        place.pin(digest=place.digest())

    return change


def signature_algorithm(name: str) -> Callable[[Installed], None]:
    def change(place: Installed) -> None:
        place.restate("signature ed25519", f"signature {name}")
        place.pin(digest=place.digest())

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [(unsigned, "UNSIGNED"), (by_another_key, "UNTRUSTED_KEY"), (damaged_signature, "BAD_SIGNATURE"),
     (older, "ROLLBACK"), (newer_but_not_accepted, "NOT_ACCEPTED"), (gone, "NOT_SEALED"),
     (no_manifest, "BAD_MANIFEST")],
)  # fmt: skip
def test_a_manifest_that_the_home_does_not_trust_stops_the_start(
    place: Installed, change: Callable[[Installed], None], code: str
) -> None:
    """Each for its own reason, which has a name; all files are whole."""
    change(place)
    assert_refused(place, code, str(place.manifest))


@pytest.mark.requirement("BOOT-7.1")
@pytest.mark.parametrize(
    ("change", "code", "named"),
    [(algorithm("md5"), "ALGORITHM_NOT_APPROVED", "md5"), (algorithm("sha1"), "ALGORITHM_NOT_APPROVED", "sha1"),
     (algorithm("blake3"), "ALGORITHM_NOT_SUPPORTED", "blake3"),
     (signature_algorithm("rsa-1024"), "ALGORITHM_NOT_APPROVED", "rsa-1024"),
     (signature_algorithm("ecdsa-p192"), "ALGORITHM_NOT_APPROVED", "ecdsa-p192"),
     (signature_algorithm("ecdsa-p256"), "ALGORITHM_NOT_SUPPORTED", "ecdsa-p256")],
)  # fmt: skip
def test_algorithms_are_refused_by_name(
    place: Installed, change: Callable[[Installed], None], code: str, named: str
) -> None:
    """What is too weak, and what is strong enough but not known to this launcher, are two different answers."""
    change(place)
    done = place.call(*WORK)
    assert (done.code, f"({code})" in done.stderr, named in done.stderr) == (3, True, True), done
    assert ours(done.loaded) <= LAUNCHER


@pytest.mark.parametrize("name", ["blake2b", "sha512"])
def test_other_approved_algorithms_pass(place: Installed, name: str) -> None:
    """Sealed with it, accepted by the operator, started."""
    place.seal(counter=8, algorithm=name)
    assert place.call("distribution", "accept", place.digest()).code == 0
    assert place.call(*WORK).stdout == "hi\n"


def test_a_revoked_key_vouches_for_nothing(place: Installed) -> None:
    """Put into the pin by `distribution revoke`, after which the next start is refused."""
    assert place.call("distribution", "revoke", SIGNER.public.vkey()).code == 0
    done = place.call(*WORK)
    assert (done.code, "(REVOKED_KEY)" in done.stderr) == (3, True)
    assert "another key signed" in done.stderr and "release repair" not in done.stderr, "that is refused as well"
    accepted = place.call("distribution", "accept", place.digest())
    assert (accepted.code, "revoked" in accepted.stderr) == (3, True)


def test_another_interpreter_is_refused(place: Installed) -> None:
    """Another version, and another file than the one that was sealed."""
    version = ".".join(map(str, sys.version_info[:3]))
    place.restate(f" {version} ", " 3.11.999 ")
    place.pin(digest=place.digest())
    assert_refused(place, "WRONG_INTERPRETER", os.path.realpath(sys.executable))
    place.restate(" 3.11.999 ", f" {version} ")
    path = os.path.realpath(sys.executable)
    size = os.stat(path).st_size
    place.restate(f"host {size} ", f"host {size + 1} ")
    place.pin(digest=place.digest())
    assert_refused(place, "WRONG_INTERPRETER", path)


@pytest.mark.requirement("CONFIG-7.1")
def test_an_operator_accepts_an_upgrade_and_the_floor_stays(place: Installed) -> None:
    """A changed program, sealed again: refused until accepted by its digest; the older one never again."""
    shutil.copytree(place.root / "femtoclaw.sealed", place.root.parent / "older")
    old = (place.root / "femtoclaw" / "version.py").read_bytes()
    place.replace("femtoclaw/version.py", old + b"# newer\n")
    place.seal(counter=9)
    done = place.call(*WORK)
    assert (done.code, f"distribution accept {place.digest()[:16]}" in done.stderr) == (3, True)
    assert place.call("distribution", "accept", "0" * 16).code == 2
    assert place.call("distribution", "accept", place.digest()[:15]).code == 2
    assert place.call("distribution", "accept", place.digest()[:16]).code == 0
    assert place.call(*WORK).code == 0
    place.replace("femtoclaw/version.py", old)
    shutil.rmtree(place.root / "femtoclaw.sealed")
    shutil.copytree(place.root.parent / "older", place.root / "femtoclaw.sealed")
    assert_refused(place, "ROLLBACK", str(place.manifest))
    accepted = place.call("distribution", "accept", place.digest())
    assert (accepted.code, "version counter 9 or more" in accepted.stderr) == (3, True)
    place.replace("femtoclaw/version.py", old + b"# newer\n")
    place.seal(counter=9)
    asked = place.call("log", "--kind", "ControlRequested", "--json").stdout
    digests = [json.loads(json.loads(line)["content"])["digest"] for line in asked.splitlines()]
    # By the fixture, and for the upgrade: what cannot be accepted was never asked for.
    assert (len(digests), digests[-1]) == (2, place.digest())


def test_a_process_that_nothing_verified_cannot_open_the_home(place: Installed) -> None:
    """Whatever starts it: the home says what it trusts, and `require` stands before the log is opened."""
    home = Home(str(place.home))
    with pytest.raises(SecurityError) as caught:
        distribution.require(home)
    assert caught.value.exit_code == 3
    assert (caught.value.expected, caught.value.found) == (place.digest(), "a process that the launcher did not verify")
    (place.home / "distribution.pin").unlink()
    assert distribution.require(home).result == "unverified"


@pytest.mark.requirement("BOOT-11.1")
def test_a_pin_that_the_node_did_not_sign_is_no_pin(place: Installed) -> None:
    """Whoever rewrites it by hand is found when the log's key is known."""
    home = Home(str(place.home))
    key = load_public_key(home.public_key_file)
    (place.home / "distribution.pin").write_bytes(sign_note(Pin("unverified").text(), [OTHER]))
    with pytest.raises(SecurityError, match="not signed by this node"):
        distribution.require(home, key)
    distribution.sign_again(home, load_signer(home))
    assert distribution.require(home, key).result == "unverified"
    distribution.pin(home, load_signer(home))
    assert distribution.require(home, key).result == "unverified"


@pytest.mark.parametrize("text", ["", "femtoclaw distribution pin v1\nstate sealed\n", "other\n", "\xff" * 10])
def test_a_pin_that_cannot_be_read_stops_the_start(place: Installed, text: str) -> None:
    """It is not taken for no pin."""
    (place.home / "distribution.pin").write_text(text, encoding="latin-1")
    assert_refused(place, "BAD_PIN", "distribution.pin")


def test_a_home_that_is_a_file_has_no_pin(tmp_path: Path) -> None:
    """The program says what is wrong with it, not the launcher that what it cannot read may be a forgery."""
    (tmp_path / "file").write_text("")
    assert read_pin(str(tmp_path / "file")) is None
    (tmp_path / "distribution.pin").mkdir()
    with pytest.raises(Refused, match="cannot be read"):
        read_pin(str(tmp_path))


def test_an_interruption_before_the_program_is_no_traceback(place: Installed) -> None:
    """Ctrl-C while files are compared: nothing was changed, and the exit code is that of every interruption."""
    root = str(place.root)
    stops = "from femtoclaw.launcher import start; start.verify = lambda *_, **__: exec('raise KeyboardInterrupt')"
    done = place.run(f"import sys; sys.path.append({root!r}); {stops}; start.main({root!r})", *WORK)
    assert (done.code, done.stdout) == (130, "") and "interrupted" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.requirement("BOOT-4.1")
def test_a_start_has_a_line_for_each_stage(place: Installed) -> None:
    """Who verified what, with which key; and what the host says of its own boot."""
    driver = (
        DRIVER
        + """
import json
from femtoclaw.distribution import stages
print(json.dumps(stages()))
"""
    )
    done = place.run(driver.format(root=str(place.root), home=str(place.home)))
    launcher, files = json.loads(done.stdout)
    assert (launcher["stage"], launcher["verifier"], launcher["result"]) == ("launcher", "host", "ok")
    assert launcher["secure_boot"] in ("present", "absent", "unknown")
    assert (files["stage"], files["verifier"], files["result"]) == ("distribution", "launcher", "verified")
    assert (files["digest"], files["anchor"], files["trust"]) == (place.digest(), SIGNER.public.vkey(), "pin")


@pytest.mark.requirement("THREAT-27.1", "DEPLOY-21.1")
def test_a_running_node_sees_what_changes_under_it(place: Installed) -> None:
    """Altered, gone and added files are named, also when size and time are as before; and what was put back is not."""
    driver = (
        DRIVER
        + """
import os
from femtoclaw.distribution_watch import distribution_changed
from femtoclaw.home import Home
home, root = Home({home!r}), {root!r}
seen = lambda: [os.path.relpath(path, root) for path in distribution_changed(home)]
assert seen() == [], seen()
path = root + "/femtoclaw/gate.py"
raw, status = open(path, "rb").read(), os.stat(path)
os.unlink(path)
assert seen() == ["femtoclaw/gate.py"]
open(path, "wb").write(raw[:-1] + b" ")
os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
assert seen() == ["femtoclaw/gate.py"]
open(path, "wb").write(raw)
open(root + "/wal/new.py", "w").close()
assert seen() == ["wal/new.py"]
os.unlink(root + "/wal/new.py")
assert seen() == []
pin = open({home!r} + "/distribution.pin").read()
open({home!r} + "/distribution.pin", "w").write(pin.replace("digest ", "digest 0"))
assert distribution_changed(home) == [{home!r} + "/distribution.pin"]
"""
    )
    done = place.run(driver.format(root=str(place.root), home=str(place.home)))
    assert done.code == 0, done.stderr


def test_sealing_what_is_sealed_changes_nothing(place: Installed) -> None:
    """With a key that is thrown away, as the checkout's script does it; a change makes a new seal with a higher
    counter."""
    lock = str(place.root / "requirements.lock")
    code = f"""
import sys; sys.path.append({str(place.root)!r})
from femtoclaw.seal import seal
for _ in range(2):
    made = seal({str(place.root)!r}, {lock!r})
    print(made.new, made.counter, made.digest)
"""
    before = place.run(code).stdout.split()
    assert before[0] == before[3] == "False"
    assert before[2] == place.digest()
    place.replace("femtoclaw/gate.py", (place.root / "femtoclaw" / "gate.py").read_bytes() + b"# changed\n")
    after = place.run(code).stdout.split()
    assert (after[0], after[3]) == ("True", "False")
    assert int(after[1]) > int(before[1])
    assert place.call("distribution", "accept", place.digest()).code == 0
    assert place.call(*WORK).code == 0


def test_a_package_that_joins_the_lock_is_sealed(place: Installed) -> None:
    """None of the sealed files changed, and still there is something to seal."""
    whole = (place.root / "requirements.lock").read_text()
    short = "".join(line for line in whole.splitlines(keepends=True) if not line.startswith("wasmtime=="))
    assert short != whole
    code = f"""
import sys; sys.path.append({str(place.root)!r})
from femtoclaw.seal import seal
made = seal({str(place.root)!r}, sys.argv[1])
print(made.new, made.files)
"""
    locks = []
    for text in (short, whole, whole):
        place.replace("requirements.lock", text.encode())
        locks.append(place.run(code, str(place.root / "requirements.lock")).stdout.split())
    assert [new for new, _ in locks] == ["True", "True", "False"]
    assert int(locks[0][1]) < int(locks[1][1])
    assert place.call("distribution", "accept", place.digest()).code == 0
    loaded = place.run(
        (DRIVER + "\nimport wasmtime; print(wasmtime.__file__)").format(root=str(place.root), home=str(place.home))
    )
    assert str(place.root) in loaded.stdout, loaded
