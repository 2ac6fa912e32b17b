"""Two readers of one command line: whatever the quick one takes, argparse takes in the same way."""

from __future__ import annotations

import contextlib
import io
import random

import pytest

from femtoclaw.cli.options import COMMANDS, SHARED, read_plain
from femtoclaw.cli.parser import parse
from femtoclaw.errors import UsageError

LINES = 12_000
VALUES = [
    "",
    "x",
    "y z",
    "-",
    "--",
    "-5",
    "-x",
    "-x y",
    "5",
    " 7 ",
    "1_0",
    "\u0669",
    "1e3",
    "9" * 5000,
    "@f",
    "log",
    "inclusion",
]
ODD = ["-h", "--help", "--version", "--js", "--home=x", "--limit=3", "--nothing", "-", "--"]


def _line(rng: random.Random) -> list[str]:
    """Mostly what a command takes, with mistakes strewn in."""
    name = rng.choice(list(COMMANDS))
    before = [
        word for option in rng.sample(list(SHARED), rng.choice((0, 0, 0, 1, 2))) for word in _spelled(rng, option)
    ]
    takes = COMMANDS[name][2]
    chosen = [option for option in [*takes, *SHARED] if rng.random() < (0.3 if option.startswith("-") else 0.95)]
    chosen += rng.choices([*(takes or SHARED)], k=rng.choice((0, 0, 1, 2)))
    rng.shuffle(chosen)
    after = [word for option in chosen for word in _spelled(rng, option)]
    line = [*before, name, *after]
    if rng.random() < 0.2:
        line.insert(rng.randrange(len(line) + 1), rng.choice([*ODD, *VALUES]))
    if rng.random() < 0.1:
        del line[rng.randrange(len(line))]
    return line


def _spelled(rng: random.Random, name: str) -> list[str]:
    value = [] if name == "--json" or (rng.random() < 0.1) else [rng.choice(VALUES)]
    return [name, *value] if name.startswith("-") else value


def test_the_quick_reader_never_differs_from_argparse() -> None:
    """Over many random lines: what it reads, argparse reads to the same attributes and values; the rest it leaves."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    read = dict.fromkeys(COMMANDS, 0)
    for _ in range(LINES):
        line = _line(rng)
        plain = read_plain(line)
        if plain is None:
            continue
        read[plain.command] += 1
        with contextlib.redirect_stdout(io.StringIO()):
            assert vars(plain) == vars(parse(line)), line
    for name, (_, _, takes) in COMMANDS.items():
        if any(takes[each].keys() & {"nargs", "choices"} for each in takes if not each.startswith("-")):
            assert read.pop(name) == 0  # its words have a shape of their own: argparse's
    assert min(read.values()) >= 10, read


@pytest.mark.parametrize("line", ["status", "--home h --json log --limit 5", "log --follow --json", "run hi --brain echo",
                                  "intent -", "init --enable a --enable b", "verify --deep"])  # fmt: skip
def test_what_is_plain_is_read_quickly(line: str) -> None:
    """Ordinary lines never reach argparse."""
    assert read_plain(line.split()) is not None


@pytest.mark.parametrize(
    "line", ["", "--help", "log -h", "frobnicate", "log --nothing", "log --limit", "log --limit x", "log --limit -1",
             "--home", "run", "run a b", "log --limit=3", "proof inclusion 1", "show -- x", "status --version"],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_argparse(line: str) -> None:
    """Help, mistakes and rare spellings: the quick reader takes none of them."""
    assert read_plain(line.split()) is None


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("policy set --control FILE", "policy set FILE --control"),
        ("policy --control set FILE", "policy set FILE --control"),
        ("policy diff --json old new", "policy diff old new --json"),
        ("config set --as ada a.b=1 c.d=2", "config set a.b=1 c.d=2 --as ada"),
        ("config set a.b=1 --as ada c.d=2", "config set a.b=1 c.d=2 --as ada"),
        ("operator add --role R ada --public-key K", "operator add ada --role R --public-key K"),
        ("claw --as ada enable shell", "claw enable shell --as ada"),
        ("secret grant --as ada token shell", "secret grant token shell --as ada"),
    ],
)
def test_options_stand_between_what_may_be_left_out(line: str, other: str) -> None:
    """Where a positional may be left out, an option before it does not make it so."""
    assert vars(parse(line.split())) == vars(parse(other.split()))
    with pytest.raises(UsageError):
        parse([*line.split(), "--nothing"])


def test_each_line_has_lists_of_its_own() -> None:
    """What one line appends to, another does not see."""
    first, second = (read_plain(["init", "--enable", name]) for name in ("a", "b"))
    assert first is not None
    assert second is not None
    assert (first.enable, second.enable, first.binary) == (["a"], ["b"], [])
    assert first.binary is not second.binary
    assert parse(["init"]).enable is not parse(["init"]).enable


def test_a_mistake_names_the_command_it_was_made_in() -> None:
    """Errors are argparse's, with its name of the command."""
    with pytest.raises(UsageError) as raised:
        parse(["log", "--limit", "many"])
    assert (raised.value.where, raised.value.what) == (
        "femtoclaw log",
        "argument --limit: invalid int value: 'many'",
    )
