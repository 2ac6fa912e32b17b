"""Packages of modules: who signed what, what is refused and by which code, and how it is kept."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from immutables import Map

from femtoclaw.modules.declared import runtime_fits
from femtoclaw.modules.drafting import draft, pack
from femtoclaw.modules.package import Package, read_package
from femtoclaw.modules.probe import probe
from femtoclaw.modules.refusal import CODES, Refusal, refused_at_load
from femtoclaw.modules.signature import check, sign, verify_signature
from femtoclaw.modules.startup import entry_modules, faults
from femtoclaw.modules.store import install_files, remove_files, verify_installed
from femtoclaw.modules.verification import Verified, verify, verify_folder
from femtoclaw.state import Claw, Node
from tests.femtoclaw.built_modules import ENTRIES, SCHEMA, built, manifest, write_package
from wal.note import Ed25519Signer, sign_note

PUBLISHER = Ed25519Signer("publisher", b"\1" * 32)
STRANGER = Ed25519Signer("stranger", b"\2" * 32)
TRUSTED = [PUBLISHER.public]
FILES = {"module.py": b"def run(args, workspace, settings): return {'got': args}\n", "data/words.txt": b"one two\n"}
FIELDS: dict[str, Any] = {
    "type": "capability", "name": "test.module", "version": "1.2.3", "description": "a test module", "category": "system",
    "arguments": SCHEMA, "entry": "python:module.py:run", "permissions": [],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A signed package."""
    folder = tmp_path / "package"
    write_package(folder, FIELDS, FILES)
    drafted = draft(str(folder))
    assert isinstance(drafted, Package), drafted
    pack(str(folder), drafted, PUBLISHER)
    return folder


def code(found: object) -> str:
    assert isinstance(found, Refusal), found
    assert found.code in CODES
    return found.code


def resigned(folder: Path, **fields: Any) -> None:
    """Change ``module.json`` and sign it again: what a publisher may do wrong, or a trusted one do wickedly."""
    body = json.loads((folder / "module.json").read_text()) | fields
    (folder / "module.json").write_text(json.dumps({name: value for name, value in body.items() if value is not None}))
    package = read_package(str(folder))
    if isinstance(package, Package):
        (folder / "module.sig").write_bytes(sign(package.manifest, PUBLISHER))


def test_a_signed_package_is_verified_and_kept(folder: Path, tmp_path: Path) -> None:
    """The bytes that were verified are installed, for nobody to write, and found again by their manifest alone."""
    found = verify_folder(str(folder), TRUSTED)
    assert isinstance(found, Verified), found
    assert (found.manifest.name, dict(found.files), found.publisher) == ("test.module", FILES, PUBLISHER.public)
    (folder / "module.py").write_bytes(b"raise SystemExit\n")  # after the check: what was read is what is installed
    store = str(tmp_path / "modules")
    path = Path(install_files(store, found.manifest, found.files))
    assert path.name == found.manifest.digest()
    assert verify_installed(store, found.manifest) is None
    assert {str(each.relative_to(path)) for each in path.rglob("*") if each.is_file()} == set(FILES)
    for each in (path, *path.rglob("*")):
        assert not stat.S_IMODE(each.stat().st_mode) & 0o222
    assert install_files(store, found.manifest, found.files) == str(path)
    remove_files(store, found.manifest.digest())
    assert os.listdir(store) == []
    assert code(verify_installed(store, found.manifest)) == "HASH_MISMATCH"


def test_a_broken_installation_is_replaced_as_a_whole(folder: Path, tmp_path: Path) -> None:
    found = verify_folder(str(folder), TRUSTED)
    assert isinstance(found, Verified)
    store = str(tmp_path / "modules")
    path = Path(install_files(store, found.manifest, found.files))
    path.chmod(0o700)
    (path / "module.py").unlink()
    (path / "more").write_text("x")
    assert code(verify_installed(store, found.manifest)) == "UNLISTED_FILE"
    install_files(store, found.manifest, found.files)
    assert verify_installed(store, found.manifest) is None
    assert os.listdir(store) == [path.name]
    with pytest.raises(ValueError, match="not those of the manifest"):
        install_files(store, found.manifest, {"module.py": b""})


@pytest.mark.requirement("BOOT-10.1", "EXT-17.1")
def test_unsigned_badly_signed_and_untrusted_are_three_things(folder: Path) -> None:
    """No note; a note that does not hold; a valid one by a key that is not trusted."""
    note = (folder / "module.sig").read_bytes()
    assert code(verify_folder(str(folder), [])) == "UNTRUSTED_KEY"
    assert code(verify_folder(str(folder), [STRANGER.public])) == "UNTRUSTED_KEY"
    package = read_package(str(folder))
    assert isinstance(package, Package)
    assert code(verify(package._replace(signature=sign(package.manifest, STRANGER)), TRUSTED)) == "UNTRUSTED_KEY"
    for wrong in (
        note[:-10] + b"\n",
        note.replace(b"1.2.3", b"1.2.4"),
        b"",
        b"\n\n",
        b"x" * 100,
        note * 2,
        b"\xff\n\n\xff\n",
    ):
        expected = "BAD_SIGNATURE" if wrong else "UNSIGNED"
        assert code(verify(package._replace(signature=wrong), TRUSTED)) == expected, wrong
    (folder / "module.sig").unlink()
    assert code(verify_folder(str(folder), TRUSTED)) == "UNSIGNED"
    (folder / "module.sig").symlink_to("/dev/zero")
    assert code(verify_folder(str(folder), TRUSTED)) == "BAD_SIGNATURE"


def test_nobody_signs_for_another() -> None:
    """A note in the publisher's name by another key, over another manifest, or with another publisher in its text."""
    one = manifest("python:module.py:run", FILES, abi="")
    other = manifest("python:module.py:run", FILES, abi="", version="9.9.9")
    forged = Ed25519Signer("publisher", b"\3" * 32)
    assert code(check(sign(one, forged), one, TRUSTED)) == "UNTRUSTED_KEY"
    assert code(check(sign(other, PUBLISHER), one, TRUSTED)) == "BAD_SIGNATURE"
    text = sign(one, PUBLISHER).rpartition(b"\n\n")[0].decode() + "\n"
    assert code(check(sign_note(text, [STRANGER]), one, TRUSTED)) == "BAD_SIGNATURE"
    assert check(sign(one, PUBLISHER), one, TRUSTED) == PUBLISHER.public
    asked = (one.name, one.version, one.digest())
    assert verify_signature(PUBLISHER.public.vkey(), *asked, sign(one, PUBLISHER))
    assert not verify_signature(STRANGER.public.vkey(), *asked, sign(one, PUBLISHER))
    assert not verify_signature(PUBLISHER.public.vkey(), *asked, sign(other, PUBLISHER))
    assert not verify_signature("no key", *asked, b"")


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed byte": (lambda f: (f / "module.py").write_bytes(b"def run(a, w, s): return {}\n"), "HASH_MISMATCH"),
    "a missing file": (lambda f: (f / "data" / "words.txt").unlink(), "HASH_MISMATCH"),
    "one file more": (lambda f: (f / "more.py").write_bytes(b""), "UNLISTED_FILE"),
    "a hidden file": (lambda f: (f / ".hidden").write_bytes(b""), "UNLISTED_FILE"),
    "compiled files": (lambda f: ((f / "__pycache__").mkdir(), (f / "__pycache__" / "m.pyc").touch()), "UNLISTED_FILE"),
    "a link": (lambda f: (f / "link").symlink_to("/etc/passwd"), "UNLISTED_FILE"),
    "a linked file": (
        lambda f: ((f / "module.py").rename(f.parent / "m.py"), (f / "module.py").symlink_to(f.parent / "m.py")),
        "UNLISTED_FILE",
    ),
    "a linked folder": (
        lambda f: ((f / "data").rename(f.parent / "data"), (f / "data").symlink_to(f.parent / "data")),
        "UNLISTED_FILE",
    ),
    "a pipe": (lambda f: os.mkfifo(f / "pipe"), "UNLISTED_FILE"),
    "a pipe for a file": (lambda f: ((f / "module.py").unlink(), os.mkfifo(f / "module.py")), "UNLISTED_FILE"),
    "deep folders": (lambda f: (f / "/".join("abcdefghijklmnopqrst")).mkdir(parents=True), "UNLISTED_FILE"),
    "no manifest": (lambda f: (f / "module.json").unlink(), "BAD_MANIFEST"),
    "a manifest that never ends": (
        lambda f: ((f / "module.json").unlink(), (f / "module.json").symlink_to("/dev/zero")),
        "BAD_MANIFEST",
    ),
    "no JSON": (lambda f: (f / "module.json").write_bytes(b"{"), "BAD_MANIFEST"),
    "a key twice": (lambda f: (f / "module.json").write_bytes(b'{"name":"a","name":"b"}'), "BAD_MANIFEST"),
}


@pytest.mark.requirement("BOOT-9.1")
@pytest.mark.parametrize("name", FOLDERS)
def test_what_a_folder_may_not_hold(name: str, folder: Path) -> None:
    """Exactly the listed files, as regular files; nothing is followed, waited for or read without end."""
    change, expected = FOLDERS[name]
    change(folder)
    assert code(verify_folder(str(folder), TRUSTED)) == expected


MANIFESTS: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": None}, "BAD_MANIFEST"),
    "an empty name": ({"name": ""}, "BAD_MANIFEST"),
    "no type": ({"type": None}, "BAD_MANIFEST"),
    "an unknown type": ({"type": "driver"}, "BAD_MANIFEST"),
    "a type that is no text": ({"type": ["capability"]}, "BAD_MANIFEST"),
    "a storage": ({"type": "storage"}, "UNSUPPORTED_TYPE"),
    "an authorization": ({"type": "authorization"}, "UNSUPPORTED_TYPE"),
    "no version": ({"version": None}, "BAD_MANIFEST"),
    "two numbers": ({"version": "1.0"}, "BAD_VERSION"),
    "a v": ({"version": "v1.0.0"}, "BAD_VERSION"),
    "a number": ({"version": 1}, "BAD_VERSION"),
    "no description": ({"description": None}, "BAD_MANIFEST"),
    "no schema": ({"arguments": None}, "BAD_MANIFEST"),
    "an open schema": ({"arguments": {"type": "object"}}, "BAD_MANIFEST"),
    "a schema that is none": ({"arguments": SCHEMA | {"properties": {"a": {"type": "number?"}}}}, "BAD_MANIFEST"),
    "no permissions": ({"permissions": None}, "BAD_MANIFEST"),
    "an unknown permission": ({"permissions": ["everything"]}, "BAD_MANIFEST"),
    "a trust in itself": ({"trusted_output": True}, "BAD_MANIFEST"),
    "an unknown field": ({"extra": 1}, "BAD_MANIFEST"),
    "unknown limits": ({"limits": {"speed": 1}}, "BAD_MANIFEST"),
    "limits that are none": ({"limits": [1]}, "BAD_MANIFEST"),
    "a shipped entry": ({"entry": "os:system"}, "BAD_MANIFEST"),
    "an entry elsewhere": ({"entry": "python:other.py:run"}, "BAD_MANIFEST"),
    "an entry in data": ({"entry": "python:data/words.txt:run"}, "BAD_MANIFEST"),
    "a library of no ABI": ({"entry": "native:module.py"}, "WRONG_ABI"),
    "another major": ({"abi": "FC-ABI-2.0.0"}, "WRONG_ABI"),
    "a wrong ABI": ({"abi": "1.0.0"}, "WRONG_ABI"),
    "a later program": ({"requires_runtime": ">=2"}, "INCOMPATIBLE_RUNTIME"),
    "bounds that are none": ({"requires_runtime": "newest"}, "BAD_MANIFEST"),
}


@pytest.mark.requirement("SDK-5.1", "SDK-6.1", "SDK-17.1", "EXT-5.1", "EXT-19.1")
@pytest.mark.parametrize("name", MANIFESTS)
def test_what_a_manifest_may_not_say(name: str, folder: Path) -> None:
    """Refused although its publisher is trusted and signed it."""
    fields, expected = MANIFESTS[name]
    resigned(folder, **fields)
    assert code(verify_folder(str(folder), TRUSTED)) == expected


@pytest.mark.requirement("CLAW-6.1")
def test_a_name_is_given_once(folder: Path) -> None:
    assert code(verify_folder(str(folder), TRUSTED, taken={"fs.read", "test.module"})) == "NAME_TAKEN"


def test_a_file_may_not_hide_a_module_of_python(folder: Path) -> None:
    """`json.py` in a module would be what its own imports of json find."""
    (folder / "json.py").write_bytes(b"")
    (folder / "module.json").unlink()
    write_package(folder, FIELDS, {})
    drafted = draft(str(folder))
    assert isinstance(drafted, Package)
    pack(str(folder), drafted, PUBLISHER)
    assert code(verify_folder(str(folder), TRUSTED)) == "BAD_MANIFEST"


@pytest.mark.requirement("EXT-19.1")
@pytest.mark.parametrize(
    "required, fits",
    [
        ("", True), (">=0.1,<1", True), ("==0.1.0", True), (">=0.1.1", False), ("<0.1", False), (">=2", False),
        ("<=0.1", True), (">0.0.9 , <0.2", True), ("~=1", None), ("0.1", None), (",", None), (">=1.", None),
    ],
)  # fmt: skip
def test_bounds_on_the_program(required: str, fits: bool | None) -> None:
    assert runtime_fits(required, "0.1.0") is fits


@pytest.mark.requirement("ABI-8.1", "CLAW-6.1")
@pytest.mark.parametrize(
    "source, expected",
    [
        (b"def run(args, workspace, settings): raise SystemExit", ""),
        (b"def other(): pass", "SYMBOL_MISSING"),
        (b"def run(args): pass", "WRONG_ABI"),
        (b"raise ValueError('no')", "INIT_FAILED"),
        (b"import os; os._exit(3)", "INIT_FAILED"),
        (b"while True: pass", "INIT_FAILED"),
        (b"not python", "INIT_FAILED"),
        (
            b"class C:\n def name(self): return 'other.name'\n def description(self): return 'd'\n"
            b" def execute(self, args): pass\nrun = C()",
            "BAD_MANIFEST",
        ),
        (
            b"import itertools\nc = itertools.count()\nclass C:\n def name(self): return 'test.module'\n"
            b" def description(self): return str(next(c))\n def execute(self, args): pass\nrun = C()",
            "BAD_MANIFEST",
        ),
    ],
)
def test_trying_a_module_out(source: bytes, expected: str) -> None:
    """Loaded in the sandbox, but not executed; what does not get through is refused with its code."""
    files = {"module.py": source}
    declared = manifest("python:module.py:run", files, abi="", limits={"wall_seconds": 1.0})
    found = probe(declared, files)
    assert code(found) == expected if expected else found == {"abi": ""}
    if isinstance(found, Refusal):
        assert (found.name, found.digest) == ("test.module", declared.digest())


def test_trying_out_gives_no_permission() -> None:
    """What a module may do when it is called it may not do before an operator has installed it."""
    files = {
        "module.py": b"import os\nopen(os.path.join(os.getcwd(), 'mark'), 'w')\ndef run(args, workspace, settings): pass"
    }
    declared = manifest("python:module.py:run", files, abi="", permissions=["workspace.read", "workspace.write"])
    assert code(probe(declared, files)) == "INIT_FAILED"


@pytest.mark.requirement("ABI-8.1", "ABI-19.1")
@pytest.mark.parametrize("kind", ENTRIES)
def test_trying_out_compares_the_code_with_its_manifest(kind: str, tmp_path: Path) -> None:
    """The ABI version that was signed is the one that the code has; init and shutdown are called, execute is not."""
    stops = {
        "native": "int32_t femtoclaw_module_execute(const femtoclaw_execution_request *q, femtoclaw_execution_response *r)"
        " { __builtin_trap(); }",
        "wasm": '(func (export "femtoclaw_module_execute") (param i32 i32) (result i32) unreachable)',
        "python": "def femtoclaw_module_execute(request, response): raise SystemExit",
    }
    raw = built(kind, tmp_path, execute=stops[kind])
    file = ENTRIES[kind].split(":")[1]
    assert probe(manifest(ENTRIES[kind], {file: raw}), {file: raw}) == {"abi": "FC-ABI-1.0.0"}
    assert code(probe(manifest(ENTRIES[kind], {file: raw}, abi="FC-ABI-1.1.0"), {file: raw})) == "WRONG_ABI"


def test_a_draft_declares_itself(tmp_path: Path) -> None:
    """Without module.json the code is asked, in the sandbox; with neither it and an entry nothing is made up."""
    source = (
        "from femtoclaw.sdk import claw\n@claw(name='a.b', version='1.0.0', description='d', arguments={})\n"
        "def run():\n    return {}\n"
    )
    (tmp_path / "counted.py").write_text(source)
    drafted = draft(str(tmp_path), "python:counted.py:run")
    assert isinstance(drafted, Package), drafted
    assert (drafted.manifest.name, drafted.manifest.entry, set(drafted.files)) == (
        "a.b",
        "python:counted.py:run",
        {"counted.py"},
    )
    assert code(draft(str(tmp_path))) == "BAD_MANIFEST"
    pack(str(tmp_path), drafted, PUBLISHER)
    found = verify_folder(str(tmp_path), TRUSTED)
    assert isinstance(found, Verified), found
    assert found.manifest == drafted.manifest


@pytest.mark.requirement("BOOT-9.1")
def test_a_start_looks_at_enabled_modules(folder: Path, tmp_path: Path) -> None:
    """Whose files are missing or others is told; those of disabled modules and of the program are no matter."""
    found = verify_folder(str(folder), TRUSTED)
    assert isinstance(found, Verified)
    store, raw, digest = str(tmp_path / "modules"), found.manifest.canonical(), found.manifest.digest()
    shipped = Claw("fs.read", b"{}", "0" * 64, enabled=True)
    module = Claw("test.module", raw, digest, enabled=True, publisher="publisher")
    node = Node()._replace(registry=Map({"fs.read": shipped, "test.module": module}))
    assert [(each.code, each.name, each.digest) for each in faults(store, node)] == [
        ("HASH_MISMATCH", "test.module", digest)
    ]
    path = Path(install_files(store, found.manifest, found.files)) / "module.py"
    assert list(faults(store, node)) == []
    path.chmod(0o600)
    path.write_bytes(b"")
    assert [each.code for each in faults(store, node)] == ["HASH_MISMATCH"]
    assert list(faults(store, node._replace(registry=Map({"test.module": module._replace(enabled=False)})))) == []
    assert "femtoclaw.isolation.python_files" in entry_modules(node)
    assert entry_modules(node._replace(registry=Map({"fs.read": shipped}))) == ()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("module refused: HASH_MISMATCH: a file", Refusal("HASH_MISMATCH", "a file", "n", "d")),
        ("module refused: INIT_FAILED: two\nlines", Refusal("INIT_FAILED", "", "n", "d")),
        ("module refused: WRONG_ABI: " + "x" * 300, Refusal("WRONG_ABI", "", "n", "d")),
        ("module refused: SOMETHING: a file", None),
        ("no such file", None),
        (None, None),
    ],
)
def test_a_refusal_at_load_is_read_from_the_outcome(text: object, expected: Refusal | None) -> None:
    """Only known codes, and no text that could steer a terminal or fill the log."""
    assert refused_at_load(text, "n", "d") == expected
