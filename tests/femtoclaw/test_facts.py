"""Arguments in canonical form: what cannot be judged is refused before policy sees it."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from femtoclaw.claws import FS_READ, SHELL
from femtoclaw.facts import ArgumentInvalid, Facts, facts

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
    assert found.attributes == {"binary": binary, "command": f"{binary} 'a b' ''\"'\"''"}


@pytest.mark.parametrize("name", ["tool", "/bin/../bin/echo", "sh", "bin/echo", "", "Echo", "echo\n", "/bin/echo/"])
def test_other_names_are_not_listed(name: str) -> None:
    """An ambiguous base name, another spelling, a relative path: not listed."""
    found = facts(SHELL, {"bin": name}, BINARIES)
    assert isinstance(found, ArgumentInvalid)
    assert found.code == "BINARY_NOT_LISTED"
