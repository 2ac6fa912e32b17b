"""The four methods by which compliance is verified, each as one command: what it printed is kept with its digest, and whoever has
the file runs the same command lines again and compares verdicts.

Only these commands are run again, whatever the file says: a file is no way to have a node do something.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from blake3 import blake3

from femtoclaw.cli.cluster_demo_machines import command, environment
from femtoclaw.errors import UsageError

FORMAT = 1
METHOD_S = 900.0
"""How long one method may take: the suite looks at every requirement."""

FILE_BYTES_MAX = 64 * 1024 * 1024

METHODS: dict[str, tuple[str, ...]] = {
    "test suite": ("comply", "--dry-run"), "runtime inspection": ("health",), "audit-log verification": ("verify",),
    "configuration inspection": ("config", "verify"),
}  # fmt: skip


def run_all(home: str, domains: list[str]) -> dict[str, Any]:
    """Run the four on a home, the suite over ``domains`` (none: everything). Raises nothing for what they find."""
    scope = [word for name in domains for word in ("--domain", name)]
    lines = {name: [*words, *(scope if name == "test suite" else [])] for name, words in METHODS.items()}
    return {"format": FORMAT, "methods": [one(home, name, words) for name, words in lines.items()]}


def one(home: str, name: str, words: list[str]) -> dict[str, Any]:
    """What one command line printed, with its digest, and the verdicts in it."""
    done = subprocess.run(
        command("--home", home, "--json", *words), capture_output=True, check=False, timeout=METHOD_S, env=environment(),
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    output = done.stdout.decode(errors="replace")
    return {
        "name": name, "command": words, "exit": done.returncode, "verdicts": verdicts(name, output), "output": output,
        "digest": digest(output),
    }  # fmt: skip


def digest(output: str) -> str:
    """BLAKE3 of an output, hexadecimal."""
    return blake3(b"femtoclaw method\x00" + output.encode()).hexdigest()


def verdicts(name: str, output: str) -> dict[str, str]:
    """The verdicts in an output: what two runs on the same node must have in common. None in one that is no object."""
    try:
        body = json.loads(output.splitlines()[-1])
        match name:
            case "test suite":
                return {each["id"]: each["result"] for each in body["verdicts"]}
            case "runtime inspection":
                return {each["name"]: "bad" if each["result"] == "bad" else "good" for each in body["checks"]}
            case "audit-log verification":
                return {"log": "sound" if body["ok"] else "unsound"} | {
                    each["code"]: "found" for each in body["findings"]
                }
            case _:
                return {"configuration": "in force" if body["ok"] else "another"}
    except (ValueError, IndexError, KeyError, TypeError):
        return {}


def again(home: str, kept: Any) -> list[dict[str, Any]]:
    """Run the kept command lines again: by method whether its kept output is the one that was hashed, its verdicts follow from
    it, and the new ones are equal. Raises UsageError for a file that is none of these, or names another command."""
    found = []
    try:
        if kept["format"] != FORMAT or [each["name"] for each in kept["methods"]] != list(METHODS):
            raise UsageError("these are not the four methods", expected=", ".join(METHODS))
        for each in kept["methods"]:
            name, words, output = each["name"], list(each["command"]), each["output"]
            _require(name, words)
            fresh = one(home, name, words)
            found.append(
                {"name": name, "command": words, "kept": digest(output) == each["digest"],
                 "follows": verdicts(name, output) == each["verdicts"],
                 "equal": bool(fresh["verdicts"]) and (fresh["exit"], fresh["verdicts"]) == (each["exit"], each["verdicts"])}
            )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError("this is no file of `comply methods`", found=type(error).__name__) from None
    return found


def _require(name: str, words: list[Any]) -> None:
    """The command line is the method's own; of the suite, with documents, ids or domains."""
    fixed, rest = words[: len(METHODS[name])], words[len(METHODS[name]) :]
    scope = name == "test suite" and len(rest) % 2 == 0 and all(word == "--domain" for word in rest[::2])
    plain = all(isinstance(word, str) and not word.startswith("-") for word in rest[1::2])
    if tuple(fixed) != METHODS[name] or (rest and not (scope and plain)):
        raise UsageError("a command line that is not the method's", where=name, expected=" ".join(METHODS[name]))
