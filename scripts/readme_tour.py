"""Runs the tour of README.md as a new user would, and compares what it prints with what README shows.

Usage: scripts/readme_tour.py [--write]. Every ``console`` block is run, in order, in one shell, in an empty folder with an
empty home; with ``--write`` the real output is put into README. Ids, keys, times and durations may differ.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SECONDS_MAX = 120
_BLOCK = re.compile(r"(?<=```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
_MARK = "-----8<-----"
_VARIES = (
    (re.compile(r"\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{40,}"), "+KEY"),
    (re.compile(r"\b[0-9a-f]{8,}\b"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\S+|\d\d:\d\d:\d\d\.\d+Z?"), "TIME"),
    (re.compile(r"\d+\.\d+ m?s\b|(?<=time left   )\d+ s\b"), "DURATION"),
)


def commands(block: str) -> list[str]:
    """The commands of a block, each with its here-document."""
    found: list[str] = []
    lines = iter(block.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            continue
        command = [line[2:]]
        here = re.search(r"<<'(\w+)'", line)
        while here and command[-1] != here[1]:
            command.append(next(lines))
        found.append("\n".join(command))
    return found


def run(blocks: list[list[str]]) -> list[str]:
    """The blocks with what their commands print. Raises RuntimeError when the shell does not come to its end."""
    with tempfile.TemporaryDirectory(prefix="femtoclaw-tour-") as folder:
        home, place = Path(folder, "home"), Path(folder, "femtoclaw")
        home.mkdir()
        place.mkdir()
        (place / "scripts").symlink_to(ROOT / "scripts")
        script = "\n".join(f"{command}\necho '{_MARK}'" for block in blocks for command in block)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FEMTOCLAW_")}
        done = subprocess.run(
            ["bash", "-c", f"exec 2>&1\n{script}"], cwd=place, env=kept | {"HOME": str(home)}, capture_output=True,
            text=True, check=False, timeout=SECONDS_MAX, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        outputs = done.stdout.replace(str(home), "~").split(f"{_MARK}\n")
    if len(outputs) != sum(map(len, blocks)) + 1:
        raise RuntimeError(f"the tour ended early:\n{done.stdout[-2000:]}")
    answers = iter(outputs)
    return ["".join(f"$ {command}\n{next(answers)}" for command in block) for block in blocks]


def alike(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return re.sub(r" +", " ", text)


def main() -> int:
    """0 when README shows what the commands print, 1 with the differences otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the real output into README.md")
    arguments = parser.parse_args()
    text = README.read_text()
    shown = _BLOCK.findall(text)
    # The tour is of the code as it is now: whoever runs it is its developer, and seals it (docs/boot.md).
    subprocess.run([ROOT / "scripts" / "seal"], check=True, capture_output=True)
    real = run([commands(block) for block in shown])
    if arguments.write:
        answers = iter(real)
        README.write_text(_BLOCK.sub(lambda _: next(answers), text))
        return 0
    before, after = alike("".join(shown)), alike("".join(real))
    sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "README.md", "real"))
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main())
