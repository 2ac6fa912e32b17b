"""Where chance comes from: the operating system, and recorded values in a replay."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NOTHING_SECRET = {
    "femtoclaw/projections/binding.py": "which batch of an index is looked at",
    "femtoclaw/serving/member.py": "how long a member waits before it tries again",
}
"""The only users of a generator that can be foretold, and for what."""
PREDICTABLE = {"random", "uuid"}


def users(names: set[str]) -> set[str]:
    """Files of the program that import one of these modules."""
    found = set()
    for package in ("wal", "cluster", "femtoclaw"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if names & {module.partition(".")[0] for module in modules}:
                    found.add(path.relative_to(ROOT).as_posix())
    return found


@pytest.mark.requirement("CRYPTO-22.1")
def test_nothing_secret_comes_from_a_generator_that_can_be_foretold() -> None:
    """Ids, nonces, salts and keys are the operating system's; two files draw lots about nothing that anybody would guess."""
    assert users(PREDICTABLE) == set(NOTHING_SECRET)


@pytest.mark.requirement("CRYPTO-22.1")
def test_ids_and_seeds_do_not_follow_a_seeded_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeding Python's generator twice alike repeats none of them."""
    import random

    from femtoclaw.key_file import seal
    from femtoclaw.sources import live

    made = []
    for _ in range(2):
        random.seed(7)
        made += [
            live().new_id()[12:],
            seal("x", bytes(32), "a passphrase that is long enough", ops=1, memory=8192 * 1024),
        ]
    assert len(set(made)) == 4
