"""Whether a module that is declared deterministic keeps its word: the same request, the same answer (EXT-8.1).

What was answered is remembered for as long as the node runs. A module that answers otherwise is refused from then on: its
answer is not used, and that is on record as *ModuleRejected*. Only modules without permissions and secrets are held to it: what
others read may have changed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from femtoclaw.modules.refusal import PREFIX

if TYPE_CHECKING:
    from femtoclaw.isolation.outcome import Outcome
    from femtoclaw.manifest import Manifest

REMEMBERED_MAX = 4096
"""Requests whose answers are remembered; the oldest are forgotten first."""

CODE = "NOT_DETERMINISTIC"
_DETAIL = "it is declared deterministic, and answered the same request differently"


class Constancy:
    """Answers of deterministic modules. Thread-safe."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], str] = {}
        self._refused: set[str] = set()
        self._lock = threading.Lock()

    def refuses(self, manifest: Manifest) -> Outcome | None:
        """The outcome of every call of a module that was found out; None for all others."""
        return _refusal(None) if self._refused and manifest.digest() in self._refused else None

    def judge(self, manifest: Manifest, args: Mapping[str, Any], outcome: Outcome) -> Outcome:
        """The outcome as it is, or, of a module that has answered this request otherwise before, its refusal."""
        if not (manifest.files and manifest.deterministic) or manifest.permissions or manifest.secrets:
            return outcome
        if outcome.status not in ("success", "error"):
            return outcome  # how it ended was the machine's doing as well
        from blake3 import blake3

        asked = json.dumps(args, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
        key = (manifest.digest(), blake3(asked).hexdigest())
        answer = outcome.output_digest or json.dumps(outcome.error, sort_keys=True)
        with self._lock:
            if self._answers.setdefault(key, answer) != answer:
                self._refused.add(manifest.digest())
                return _refusal(outcome)
            while len(self._answers) > REMEMBERED_MAX:
                del self._answers[next(iter(self._answers))]
        return outcome


def _refusal(outcome: Outcome | None) -> Outcome:
    from femtoclaw.isolation.outcome import Outcome as Made

    error = {"class": "AuthorizationError", "message": f"{PREFIX}{CODE}: {_DETAIL}"}
    if outcome is None:
        return Made("error", None, error, None, 0, 0, 0, 0, "")
    return outcome._replace(status="error", result=None, error=error, kept_bytes=0, output_digest="")
