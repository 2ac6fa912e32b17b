"""In which mode a node is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.node import Node, femtoclaw


@pytest.mark.requirement("BOOT-19.1")
@pytest.mark.parametrize(("words", "mode"), [((), "secure"), (("--development",), "development")])
def test_the_mode_is_chosen_when_a_node_is_made(tmp_path: Path, words: tuple[str, ...], mode: str) -> None:
    """It is recorded, stands in the file, and an edit comes into force in development mode only."""
    node = Node(tmp_path / "home")
    femtoclaw("--home", str(node.path), "init", *words, cwd=tmp_path)
    file = node.path / "femtoclaw.toml"
    assert (node.call("status").body["mode"], f'mode = "{mode}"' in file.read_text()) == (mode, True)
    file.write_text(file.read_text().replace("= 16", "= 5"))
    node.intent({"message": {"content": "x"}}, expect=0 if words else 3)
    steps_max = node.call("config", "show").body["configuration"]["runtime"]["steps_max"]
    assert steps_max == (5 if words else 16)
