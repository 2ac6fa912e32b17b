"""The bounds on a policy's text: no text ends the process, every refusal is a PolicyError, real policies fit."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from femtoclaw.claws import SHIPPED
from femtoclaw.errors import PolicyError
from femtoclaw.policy import PolicyEngine, default_policy
from femtoclaw.policy_text import DEPTH_MAX, NESTING_MAX, POLICY_BYTES_MAX, check_text

ROOT = Path(__file__).resolve().parent.parent.parent
CONSTRUCTS: dict[str, tuple[str, str, str, int]] = {
    # before, middle and after of n layers; how many still fit
    "parentheses": ("(", "true", ")", NESTING_MAX - 1),
    "negations": ("!!!!(", "true", ")", NESTING_MAX - 1),
    "minuses": ("1 == ----(", "1", ")", (DEPTH_MAX - 2) // 7),
    "sets": ("[", "1", "]", NESTING_MAX - 1),
    "records": ("{a: ", "1", "}", NESTING_MAX - 1),
    "arguments": ("[].contains(", "1", ")", NESTING_MAX - 1),
    "functions": ("ip(", '"1.1.1.1"', ")", NESTING_MAX - 1),
    "conditions": ("if ", "true", " then true else true", DEPTH_MAX - 3),
    "consequences": ("if true then ", "true", " else true", DEPTH_MAX - 3),
    "alternatives": ("if true then true else ", "true", "", DEPTH_MAX - 3),
    "conjunctions": ("true && ", "true", "", DEPTH_MAX - 3),
    "disjunctions": ("true || ", "true", "", DEPTH_MAX - 3),
    "sums": ("1 + ", "1 == 1", "", DEPTH_MAX - 4),
    "products": ("1 * ", "1 == 1", "", DEPTH_MAX - 4),
    "members": ("", "context", ".a", DEPTH_MAX - 3),
    "indexes": ("", "context", '["a"]', DEPTH_MAX - 4),
    "calls": ("", "context", ".isEmpty()", (DEPTH_MAX - 4) // 2),
    "clauses": ("", "true", " } when { true", DEPTH_MAX - 4),
}


def layered(name: str, count: int) -> str:
    before, middle, after, _ = CONSTRUCTS[name]
    return f'@id("a") permit (principal, action, resource) when {{ {before * count}{middle}{after * count} }};'


def outcome(text: str) -> str:
    try:
        PolicyEngine.load(text, SHIPPED)
    except PolicyError as error:
        assert error.exit_code == 2
        return error.what
    return "loaded"


DEEP = """
import sys, threading
from tests.femtoclaw.test_policy_text import CONSTRUCTS, layered, outcome

def judge():
    for name, (_, _, _, fits) in CONSTRUCTS.items():
        for count in (fits, fits + 1, 10 * fits, 3000, 20000):
            print(name, count, outcome(layered(name, count)), flush=True)

threading.stack_size(1024 * 1024)  # an eighth of what a thread gets: the bound does not live on the stack's size
thread = threading.Thread(target=judge)
thread.start()
thread.join()
"""


def test_no_depth_overflows_the_stack() -> None:
    """Every nesting construct at its bound reaches the parser; one more, and far more, is refused before it."""
    done = subprocess.run(
        [sys.executable, "-c", DEEP], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{done.returncode} after {done.stdout.splitlines()[-1:]}: {done.stderr[-300:]}"
    seen = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert len(seen) == 5 * len(CONSTRUCTS)
    for name, count, what in seen:
        fits = int(count) <= CONSTRUCTS[name][3]
        reached = what in ("loaded", "policy does not parse", "policy does not fit the registered claws")
        assert reached == fits, (name, count, what)
        assert fits or what.startswith(("policy nests too many", "policy is too large")), (name, count, what)


@pytest.mark.parametrize("name", ["disjunctions", "negations", "sets"])
def test_a_deep_policy_is_found_by_its_line(name: str) -> None:
    """Of many policies in one text, the one that is too deep is named by the line on which it was."""
    text = f"{layered('sums', 2)}\n// a comment\n{layered(name, 1000)}\n{layered('sums', 2)}"
    with pytest.raises(PolicyError) as refused:
        check_text(text)
    assert refused.value.where == "line 3"
    with pytest.raises(PolicyError, match="nests too many"):
        check_text(layered(name, 1000).removesuffix(";"))


NEARLY_FULL = """
import sys
from tests.femtoclaw.test_policy_text import CONSTRUCTS, layered, outcome
outcome("")
text = layered("conditions", CONSTRUCTS["conditions"][3])
sys.setrecursionlimit(200)
print(outcome(text))
"""


def test_a_nearly_full_stack_is_no_other_error() -> None:
    """Where Python itself has little room left to recurse, loading is refused in the same type."""
    done = subprocess.run(
        [sys.executable, "-c", NEARLY_FULL], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    # From Python 3.12 on C code has a stack limit of its own: there the policy may load after all.
    assert done.stdout in ("policy does not parse\n", "loaded\n"), done.stderr[-300:]
    assert sys.version_info >= (3, 12) or done.stdout == "policy does not parse\n"


def test_strings_and_comments_do_not_nest() -> None:
    """Brackets and operators in strings and comments count for nothing; a comment ends where Cedar ends it."""
    many = "(!" * 1000
    head = '@id("a") permit (principal, action, resource)'
    check_text(f'{head} when {{ "{many}" == "\\"{many}" }}; // {many}\n{head};')
    for newline in ("\n", "\r"):
        with pytest.raises(PolicyError, match="nests too many"):
            check_text(f"// {newline}{many}")
    check_text(f"// \u2028{many}")  # not an end of line: still the comment


def test_wide_is_not_deep() -> None:
    """Long lists, many policies and many short conditions are ordinary; only chains and nesting are bounded."""
    names = ", ".join(f'"n{number}"' for number in range(5000))
    clause = '(context has path && context.path like "a/*.txt" && !(context.path == "a/b.txt"))'
    text = f'@id("list") permit (principal, action, resource) when {{ context has path && [{names}].contains(context.path) }};\n'
    text += "".join(
        f'@id("p{number}") permit (principal, action, resource) when {{ {" || ".join([clause] * 50)} }};\n'
        for number in range(40)
    )
    assert outcome(text) == "loaded"


@pytest.mark.parametrize(
    "text, what",
    [
        ("permit (principal, action, resource]", "brackets of the policy do not match"),
        ("permit (principal, action; resource);", "brackets of the policy do not match"),
        ("permit (principal, action, resource", "brackets of the policy do not match"),
        (")", "brackets of the policy do not match"),
        ('@id("a', "policy has a string without an end"),
        ('@id("a\\\n")', "policy has a string without an end"),
        ('"' + '\\"' * 100_000, "policy has a string without an end"),
        ("\ud800", "policy is not Unicode text"),
        ("\ufeff" + default_policy(), "policy does not parse"),
        ("permit\x00", "policy does not parse"),
        (" " * (POLICY_BYTES_MAX + 1), "policy is too large"),
        ("é" * POLICY_BYTES_MAX, "policy is too large"),
        ("@", "policy does not parse"),
        (";", "policy does not parse"),
        ("/*", "policy does not parse"),
        ("", "loaded"),
        (" \n", "loaded"),
        ("// nothing is permitted", "loaded"),
    ],
)
def test_odd_texts(text: str, what: str) -> None:
    """Empty, huge, unfinished, not Unicode: each is refused in its own words, or permits nothing."""
    assert outcome(text) == what


PIECES = (
    [chr(code) for code in range(0x20)] + list("\"'\\/(){}[];,.@?!=<>&|+-*:%#~^$_09azAZ é\u2028\ud800\udfff\U0001f980")
    + ["//", "&&", "||", "::", "?principal", "?resource", "permit", "forbid", "when", "unless", "if", "then", "else",
       "in", "is", "has", "like", "principal", "action", "resource", "context", ".path", '"a"', "1", '@id("x")', "ip(",
       'Action::"fs.read"', "\\u{41}", "\\u{d800}", "*" * 50, "9" * 40]
)  # fmt: skip


def test_no_mutation_escapes_untyped(seed: int) -> None:
    """Thousands of cuts, doublings and insertions in real policies: a policy loads, or PolicyError says why not."""
    chance = random.Random(seed)
    base = default_policy().replace("//", "")
    shapes = [base, base[base.index("@") :][:150], layered("conditions", 3), layered("indexes", 2)]
    kinds: dict[str, int] = {}
    for _ in range(3000):
        text = chance.choice(shapes)
        for _ in range(chance.randint(1, 5)):
            at, to = sorted(chance.randint(0, len(text)) for _ in range(2))
            put = chance.choice(PIECES) if chance.random() < 0.7 else text[at:to]
            text = text[:at] + put + text[chance.choice((at, at + 1, to)) :]
        kind = outcome(text)
        kinds[kind] = kinds.get(kind, 0) + 1
    assert len(kinds) >= 5, kinds


@given(st.text(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
@example("\ud800")
def test_no_text_escapes_untyped(text: str) -> None:
    """Any text at all: loaded or PolicyError."""
    outcome(text)


def test_bytes_that_are_no_text_never_reach_the_parser(seed: int) -> None:
    """Flipped bytes of the shipped policy, read as a file is: not UTF-8, or loaded, or PolicyError."""
    chance = random.Random(seed)
    raw = default_policy().encode()
    for _ in range(1000):
        changed = bytearray(raw)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        outcome(bytes(changed).decode("utf-8", "surrogateescape"))
