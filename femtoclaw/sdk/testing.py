"""Run a claw without a node, in the very sandbox in which a node would run it, and check what can be checked of any.

    with ClawTester("my-module") as tester:
        outcome = tester.run({"text": "one two"})
        assert outcome.result == {"words": 2}

Four groups of checks (SDK-20.1): ``behaviour`` and ``errors`` from the author's cases, ``arguments`` from cases and from
the schema itself, ``abi`` from loading, initializing and shutting down. What policy would say to a call is no part of it.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from femtoclaw.argument_schemas import ArgumentSchemas
from femtoclaw.errors import ConfigurationError
from femtoclaw.isolation.loading import read_beneath
from femtoclaw.modules.drafting import draft
from femtoclaw.modules.package import CASES_FILE, Package
from femtoclaw.modules.probe import probe
from femtoclaw.modules.refusal import ModuleRejectedError, Refusal
from femtoclaw.modules.store import install_files, remove_files
from femtoclaw.sdk.cases import Case, read_cases
from femtoclaw.strict_json import DOCUMENT_BYTES_MAX

if TYPE_CHECKING:
    from femtoclaw.isolation import Isolation, Outcome
    from femtoclaw.sdk.declaration import Claw

GROUPS = ("behaviour", "arguments", "errors", "abi")


class Check(NamedTuple):
    """One thing that was looked at: ``group`` of ``GROUPS``, what, whether it holds, and what was found instead."""

    group: str
    name: str
    passed: bool
    detail: str = ""


class ClawTester:
    """A module in its sandbox. Use it as a context manager, or call ``close``."""

    def __init__(self, source: "str | Claw", *, entry: str = "") -> None:
        """``source`` is a module's folder, or a claw made by ``femtoclaw.sdk.claw`` in a file of its own.

        Raises ModuleRejectedError when it is no module, OSError when it cannot be read.
        """
        self._folder = ""
        if isinstance(source, str):
            self._folder = source
            package = draft(source, entry)
        else:
            package = _of_claw(source)
        if isinstance(package, Refusal):
            raise ModuleRejectedError(package)
        self.package: Package = package
        self._schemas = ArgumentSchemas([package.manifest]).compile()
        self._root = tempfile.TemporaryDirectory(prefix="femtoclaw-test-")
        self._modules = os.path.join(self._root.name, "modules")
        self._workspace = os.path.join(self._root.name, "workspace")
        os.mkdir(self._workspace)
        install_files(self._modules, package.manifest, package.files)
        self._sandbox: Isolation | None = None
        self._runs = 0

    def __enter__(self) -> "ClawTester":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sandbox and remove everything that was made for it."""
        if self._sandbox is not None:
            self._sandbox.close()
        remove_files(self._modules, self.package.manifest.digest())
        self._root.cleanup()

    def fault(self, args: Mapping[str, Any]) -> str:
        """The code by which the claw's schema refuses these arguments; empty when it accepts them."""
        found = self._schemas.fault(self.package.manifest.name, dict(args))
        return found.code if found is not None else ""

    def run(
        self,
        args: Mapping[str, Any],
        *,
        settings: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> "Outcome":
        """Execute once, in a workspace that holds just ``files``. What a schema would refuse is not refused here.

        Raises CapabilityError when nothing was executed.
        """
        self._arrange(files or {})
        self._runs += 1
        return self._isolation().run(
            self.package.manifest, dict(args), dict(settings or {}), idempotency_key=f"test-{self._runs}",
            secrets=dict(secrets or {}),
        )  # fmt: skip

    def check(self, cases: Sequence[Case] | None = None) -> list[Check]:
        """All four groups. Without ``cases`` those in the folder's ``module.tests.json`` are taken."""
        given = self._cases() if cases is None else cases
        found = [*self.check_behaviour(given), *self.check_arguments(given), *self.check_errors(given)]
        return [*found, self.check_abi()]

    def check_behaviour(self, cases: Sequence[Case]) -> list[Check]:
        """Cases with a result: it comes, and comes again for the same request (SDK-13.1)."""
        found = []
        for case in (each for each in cases if each.end == "result"):
            refused = self.fault(case.args)
            if refused:
                found.append(Check("behaviour", case.name, False, f"the schema refuses its arguments: {refused}"))
                continue
            outcome = self._run_case(case)
            fits = outcome.status == "success" and case.expected in (None, outcome.result)
            found.append(Check("behaviour", case.name, fits, "" if fits else _shown(outcome)))
            if fits:
                found.append(self._again(case, outcome))
        return found

    def _again(self, case: Case, first: "Outcome") -> Check:
        same = self._run_case(case).result == first.result
        name = f"{case.name}, the same again"
        if same or self.package.manifest.deterministic:
            return Check("behaviour", name, same, "" if same else "another result, though declared deterministic")
        return Check("behaviour", name, True, "another result; it is not declared deterministic")

    def check_arguments(self, cases: Sequence[Case]) -> list[Check]:
        """Cases that the schema refuses, and what every schema must refuse."""
        found = []
        for case in (each for each in cases if each.end == "refused"):
            code = self.fault(case.args)
            found.append(Check("arguments", case.name, code == case.expected, code or "accepted"))
        for name, args, expected in self._wrong(cases):
            code = self.fault(args)
            found.append(Check("arguments", name, code == expected, code or "accepted"))
        return found

    def check_errors(self, cases: Sequence[Case]) -> list[Check]:
        """Cases in which the claw itself says no, with a structured error."""
        found = []
        for case in (each for each in cases if each.end == "error"):
            outcome = self._run_case(case)
            fits = outcome.status == "error" and (outcome.error or {}).get("class") == case.expected
            found.append(Check("errors", case.name, fits, "" if fits else _shown(outcome)))
        return found

    def check_abi(self) -> Check:
        """It loads, and its functions, version, initialization and shutdown are what they must be."""
        found = probe(self.package.manifest, self.package.files)
        detail = f"{found.code}: {found.detail}" if isinstance(found, Refusal) else ""
        return Check("abi", "load, init, shutdown", not detail, detail)

    def _wrong(self, cases: Sequence[Case]) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Arguments that no closed schema accepts, made from a case that it does."""
        right = next((dict(case.args) for case in cases if case.end == "result"), None)
        if right is None:
            return
        yield "an unknown argument", right | {"no such argument": 1}, "ARGUMENT_UNKNOWN"
        for name in self.package.manifest.arguments.get("required", ()):
            left = {key: value for key, value in right.items() if key != name}
            yield f"without {name}", left, "ARGUMENT_MISSING"

    def _cases(self) -> tuple[Case, ...]:
        if not self._folder:
            return ()
        try:
            return read_cases(read_beneath(self._folder, CASES_FILE, DOCUMENT_BYTES_MAX))
        except FileNotFoundError:
            return ()

    def _run_case(self, case: Case) -> "Outcome":
        return self.run(case.args, settings=case.settings, secrets=case.secrets, files=case.files)

    def _arrange(self, files: Mapping[str, str]) -> None:
        import shutil

        for name in os.listdir(self._workspace):
            path = os.path.join(self._workspace, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        for name, text in files.items():
            path = os.path.normpath(os.path.join(self._workspace, name))
            if not path.startswith(self._workspace + os.sep):
                raise ConfigurationError("a file of a test case is outside of the workspace", expected="a path in it")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)

    def _isolation(self) -> "Isolation":
        if self._sandbox is None:
            from femtoclaw.isolation import Isolation

            self._sandbox = Isolation(self._workspace, modules=(), module_store=self._modules)
        return self._sandbox


def summary(checks: Sequence[Check]) -> dict[str, tuple[int, int]]:
    """For each group how many checks held, of how many. A group without one was not tested."""
    return {
        group: (sum(each.passed for each in checks if each.group == group), sum(each.group == group for each in checks))
        for group in GROUPS
    }


def _of_claw(source: "Claw") -> Package | Refusal:
    """A module of the one file in which the claw is written."""
    found = source.place()
    module = sys.modules.get(found)
    path = getattr(module, "__file__", None)
    name = next((name for name, value in vars(module).items() if value is source), None) if module else None
    if not path or name is None:
        return Refusal("BAD_MANIFEST", "the claw is not a name in a file")
    with tempfile.TemporaryDirectory(prefix="femtoclaw-test-") as folder:
        file = os.path.basename(path)
        with open(path, "rb") as source_file, open(os.path.join(folder, file), "wb") as copy:
            copy.write(source_file.read())
        return draft(folder, f"python:{file}:{name}")


def _shown(outcome: "Outcome") -> str:
    if outcome.error is None:
        return f"{outcome.status} with another result"
    return f"{outcome.status}: {outcome.error.get('class')}: {outcome.error.get('message')}"
