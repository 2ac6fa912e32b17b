"""A deployment on record: the node is opened for its begin and for its end, and not in between, where it is stopped."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from femtoclaw.cli.asking import signer_of
from femtoclaw.cli.execute import open_node
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.control import load_cosigners
from femtoclaw.goals import look_at_goals
from femtoclaw.home import locate
from femtoclaw.procedures import ask, printable
from femtoclaw.state import Node

FINISH_SECONDS = 120.0


class OperatorRecord:
    """One procedure, asked for by the operator of the command line. With an id it was begun before."""

    def __init__(
        self, arguments: Arguments, output: Output, action: str = "", resource: str = "", known: str = ""
    ) -> None:
        self._arguments = arguments
        self._output = output
        self._action = action
        self._resource = resource
        self._id = known

    def begin(self, action: str, resource: str, digest: str) -> Node:
        """Raises ProcedureRefusedError, and what opening and recording raise."""
        from femtoclaw.sources import live

        self._action, self._resource, self._id = action, resource, live().new_id()
        return self._ask({"phase": "begin", "id": self._id, "digest": digest}, goals=False)

    def end(self, result: str, detail: str, content: dict[str, Any]) -> None:
        """Raises as ``begin``."""
        body = {"phase": "end", "id": self._id, "result": result, "detail": printable(detail), "content": content}
        self._ask(body, goals=True)

    def _ask(self, body: dict[str, Any], *, goals: bool) -> Node:
        arguments = self._arguments
        with open_node(getattr(arguments, "home", None), self._output) as node:
            started = node.started
            if goals:
                found = look_at_goals(started)
                body = body | {"goals": {goal: not detail for goal, detail in found.items()}}
            cosigners = load_cosigners(started.home, getattr(arguments, "cosign", None) or [])
            signer, known = signer_of(node, arguments), started.authority.state.node
            ask(started, signer, cosigners, self._action, self._resource, body)
            return known

    def end_by(self, starter: str, content: dict[str, Any], detail: str) -> bool:
        """Have the release that ``starter`` runs record it, with the same operator's key."""
        arguments, home = self._arguments, locate(getattr(self._arguments, "home", None))
        words = ["--json", "--home", home.path, "release", "finish"]
        for option in ("as", "operator_key"):
            if getattr(arguments, option, None):
                words += [f"--{option.replace('_', '-')}", getattr(arguments, option)]
        for path in getattr(arguments, "cosign", None) or []:
            words += ["--cosign", path]
        told = {
            "action": self._action,
            "resource": self._resource,
            "id": self._id,
            "detail": detail,
            "content": content,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LD_", "PYTHON"))}
        try:
            done = subprocess.run(
                [starter, *words], input=json.dumps(told).encode(), stdout=subprocess.DEVNULL, timeout=FINISH_SECONDS,
                check=False, env=kept,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0
