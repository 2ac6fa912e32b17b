"""Measurements of starts: copies of a twin with one thing broken each, and what becomes of the start of each."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw.compliance.laboratory import Answer, Laboratory
from femtoclaw.compliance.trails import read_trail
from femtoclaw.compliance.twin import twin
from wal.errors import LogError

SAY = '{"message":{"content":"hello"}}'


class Start(NamedTuple):
    """One start: its answer, the lines that it added to the boot journal, and the log's records before and after it."""

    answer: Answer
    journal: list[dict[str, Any]]
    before: int
    after: int

    @property
    def refused(self) -> bool:
        """It ended with an error, and nothing was recorded."""
        return self.answer.code != 0 and self.answer.error != "" and self.after == self.before

    @property
    def stages(self) -> list[str]:
        """The stages that were passed, in order."""
        return [line["stage"] for line in self.journal if line.get("event") == "stage"]

    @property
    def failure(self) -> str:
        """What the journal says of the failure."""
        told = [line for line in self.journal if line.get("event") == "start_failed"]
        return str(told[-1].get("text", "")) if told else ""

    @property
    def words(self) -> str:
        """Everything that it says about where it failed."""
        body = self.answer.body.get("error", {}) if isinstance(self.answer.body, dict) else {}
        return f"{body.get('what', '')} {body.get('where', '')} {self.failure}"


def _file(home: str, name: str) -> str:
    return os.path.join(home, *name.split("/"))


def _replace(name: str, old: str, new: str) -> Callable[[str], None]:
    def breaking(home: str) -> None:
        with open(_file(home, name)) as file:
            text = file.read()
        with open(_file(home, name), "w") as file:
            file.write(text.replace(old, new, 1))

    return breaking


def _add(name: str, text: str) -> Callable[[str], None]:
    def breaking(home: str) -> None:
        with open(_file(home, name), "a") as file:
            file.write(text)

    return breaking


def _write(name: str, text: str) -> Callable[[str], None]:
    def breaking(home: str) -> None:
        with open(_file(home, name), "w") as file:
            file.write(text)

    return breaking


def _remove(name: str) -> Callable[[str], None]:
    def breaking(home: str) -> None:
        path = _file(home, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    return breaking


def _mode(name: str, mode: int) -> Callable[[str], None]:
    return lambda home: os.chmod(_file(home, name), mode)


def _other_key(home: str) -> None:
    keys = _file(home, "keys/operators")
    name = next(each for each in os.listdir(keys) if each.endswith(".key"))
    shutil.copyfile(os.path.join(keys, name), _file(home, "keys/node.key"))


def _operator_key(home: str) -> None:
    """An operator's public key that somebody put there by hand."""
    shutil.copyfile(_file(home, "keys/node.pub"), _file(home, "keys/operators/mallory.pub"))


def _flip(name: str, needle: bytes) -> Callable[[str], None]:
    """One bit of the bytes that hold ``needle``, wherever they stand."""

    def breaking(home: str) -> None:
        with open(_file(home, name), "r+b") as file:
            raw = file.read()
            place = raw.find(needle)
            while place >= 0:
                file.seek(place)
                file.write(bytes([raw[place] ^ 1]))
                place = raw.find(needle, place + 1)

    return breaking


BREAKINGS: dict[str, Callable[[str], None]] = {
    "nothing": lambda home: None,
    "configuration changed": _replace("femtoclaw.toml", "steps_max = 16", "steps_max = 17"),
    "configuration removed": _remove("femtoclaw.toml"),
    "configuration with an unknown key": _replace("femtoclaw.toml", "steps_max = 16", "steps_maxx = 16"),
    "configuration with a wrong type": _replace("femtoclaw.toml", "steps_max = 16", 'steps_max = "many"'),
    "configuration that does not parse": _add("femtoclaw.toml", "\n[[["),
    "policy changed": _add("policy.cedar", '@id("all") permit (principal, action, resource);\n'),
    "policy removed": _remove("policy.cedar"),
    "policy malformed": _write("policy.cedar", "permit ("),
    "node key replaced": _other_key,
    "node key removed": _remove("keys/node.key"),
    "operator's key added": _operator_key,
    "record changed": _flip("log/data/data.mdb", b"@approvals"),
    "log removed": _remove("log"),
    "head damaged": _write("log/HEAD", "x" * 64),
    "distribution's pin changed": _add("distribution.pin", "x"),
    "workspace removed": _remove("workspace"),
    "policy writable by others": _mode("policy.cedar", 0o666),
    "configuration writable by others": _mode("femtoclaw.toml", 0o666),
    "log readable by others": _mode("log", 0o755),
    "key readable by others": _mode("keys/node.key", 0o644),
}
"""What is broken in one copy each."""


def starts(laboratory: Laboratory) -> dict[str, Start]:
    """Name of the breaking to the start that came of it."""
    return starts_with(laboratory, BREAKINGS)


def starts_with(laboratory: Laboratory, breakings: dict[str, Callable[[str], None]]) -> dict[str, Start]:
    """The same with these breakings."""
    fresh = laboratory.once(twin)
    found = {}
    for name, breaking in breakings.items():
        home = laboratory.copy(fresh, "start")
        before = records(home)
        breaking(home)
        lines = len(read_journal(home))
        answer = laboratory.run(home, "intent", SAY)
        found[name] = Start(answer, read_journal(home)[lines:], before, max(before, records(home)))
        shutil.rmtree(home, ignore_errors=True)
    return found


def records(home: str) -> int:
    """How many records the log of a home holds; 0 where it cannot be read."""
    try:
        return read_trail("twin", os.path.join(home, "log")).size
    except (LogError, OSError):
        return 0


def read_journal(home: str) -> list[dict[str, Any]]:
    """The lines of a boot journal; empty without one."""
    try:
        with open(os.path.join(home, "boot.journal")) as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        return []
