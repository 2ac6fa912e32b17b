"""Arguments in canonical form: what cannot be judged is refused before policy sees it."""

from __future__ import annotations

import posixpath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from femtoclaw.claws import FS_READ, SHELL
from femtoclaw.facts import ArgumentInvalid, Facts, facts
from femtoclaw.manifest import Manifest
from femtoclaw.shell_hazards import hazards

BINARIES = {"binaries": ["/bin/echo", "/usr/bin/git", "/opt/a/tool", "/opt/b/tool"]}


@given(
    st.text(max_size=60) | st.lists(st.sampled_from(["a", "..", ".", "", "b c", "é", "*"]), max_size=6).map("/".join)
)
@pytest.mark.requirement("POLICY-12.1")
def test_a_path_is_inside_and_canonical_or_refused(path: str) -> None:
    """Whatever is given, an accepted path stays beneath the root and is its own normal form."""
    found = facts(FS_READ, {"path": path}, {})
    if isinstance(found, Facts):
        canonical = found.attributes["path"]
        joined = posixpath.normpath(posixpath.join("/root", path))
        assert joined == "/root" or joined.startswith("/root/")
        assert canonical == posixpath.normpath(canonical) == posixpath.relpath(joined, "/root")
        assert not canonical.startswith(("/", ".."))
    else:
        assert path not in found.detail or len(path) < 3


@pytest.mark.parametrize(
    "path, code",
    [("../a", "PATH_ESCAPES"), ("a/../b", "PATH_ESCAPES"), ("/etc", "PATH_ABSOLUTE"), ("a\nb", "PATH_MALFORMED"),
     ("", "PATH_MALFORMED"), ("a" * 5000, "PATH_TOO_LONG"), ("a\x7f", "PATH_MALFORMED")],
)  # fmt: skip
def test_refusals_have_stable_codes(path: str, code: str) -> None:
    """Each kind of bad path has its own code."""
    found = facts(FS_READ, {"path": path}, {})
    assert isinstance(found, ArgumentInvalid)
    assert found.code == code


@pytest.mark.parametrize("name, binary", [("echo", "/bin/echo"), ("/bin/echo", "/bin/echo"), ("git", "/usr/bin/git")])
def test_a_listed_program_is_named_by_path_or_unambiguous_base_name(name: str, binary: str) -> None:
    """The absolute path and the whole quoted command line are what policy judges."""
    found = facts(SHELL, {"bin": name, "argv": ["a b", "'"]}, BINARIES)
    assert isinstance(found, Facts)
    assert found.attributes == {
        "binary": binary, "command": f"{binary} 'a b' ''\"'\"''", "hazards": hazards(name.rpartition("/")[2], ["a b", "'"]),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["tool", "/bin/../bin/echo", "sh", "bin/echo", "", "Echo", "echo\n", "/bin/echo/"])
def test_other_names_are_not_listed(name: str) -> None:
    """An ambiguous base name, another spelling, a relative path: not listed."""
    found = facts(SHELL, {"bin": name}, BINARIES)
    assert isinstance(found, ArgumentInvalid)
    assert found.code == "BINARY_NOT_LISTED"


@pytest.mark.parametrize(
    "claw, args, code",
    [
        (FS_READ, {"path": None}, "TARGET_TYPE"),
        (FS_READ, {"path": b"a"}, "TARGET_TYPE"),
        (FS_READ, {"path": "\ud800"}, "PATH_MALFORMED"),
        (FS_READ, {"path": "é" * 2049}, "PATH_TOO_LONG"),
        (SHELL, {"bin": ["echo"]}, "TARGET_TYPE"),
        (SHELL, {"bin": "echo", "argv": "a b"}, "TARGET_TYPE"),
        (SHELL, {"bin": "echo", "argv": [1]}, "TARGET_TYPE"),
        (SHELL, {"bin": "echo", "argv": ["s3cr3t" * 20_000]}, "COMMAND_TOO_LONG"),
        (SHELL, {"bin": "s3cr3t"}, "BINARY_NOT_LISTED"),
        (FS_READ, {"path": "s3cr3t/../.."}, "PATH_ESCAPES"),
        (FS_READ, {"path": "/s3cr3t"}, "PATH_ABSOLUTE"),
    ],
)
def test_what_has_no_canonical_form_is_refused_without_its_value(
    claw: Manifest, args: dict[str, Any], code: str
) -> None:
    """Other types, half characters and bounds are refusals, not exceptions, and name the argument alone."""
    found = facts(claw, args, BINARIES)
    assert isinstance(found, ArgumentInvalid)
    assert found.code == code
    assert "s3cr3t" not in found.detail


def test_no_claw_names_a_fact() -> None:
    """Targets called like reserved parts of the context, or like another fact, leave those parts alone."""
    targets = {"run": "address", "args": "process_id", "file": "path"}
    args = {"run": "https://forged.example/x", "args": 1, "file": "a/./b"}
    found = facts(FS_READ._replace(targets=targets), args, {})
    assert found == Facts(
        {"pid": 1, "path": "a/b", "scheme": "https", "host": "forged.example", "port": 443, "url_path": "/x"}
    )


def test_policy_is_not_shown_one_of_two_targets() -> None:
    """A claw with two paths is refused: policy would judge the one and the claw would use the other."""
    two = FS_READ._replace(targets={"source": "path", "to": "path"})
    found = facts(two, {"source": "a", "to": "b"}, {})
    assert isinstance(found, ArgumentInvalid)
    assert found.code == "TARGET_AMBIGUOUS"
    assert facts(two, {"to": "b"}, {}) == Facts({"path": "b"})
