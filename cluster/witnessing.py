"""Having witnesses cosign what is committed, on a thread of its own: in mode ``witnessed`` receipts wait for them.

Only plain checkpoints of committed sizes leave the cluster: a witness that had cosigned what is cut later would refuse the true
history for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from cluster.errors import ClusterError, DivergenceError
from cluster.steps import Notice
from cluster.witness_client import WitnessAddress, submit_checkpoint
from cluster.witness_policy import WitnessPolicy, judge_note
from wal.checkpoint import parse_checkpoint
from wal.errors import LogError
from wal.log import Log
from wal.note import text_of

WITNESSED_FILE = "checkpoints/witnessed"
"""The newest checkpoint that satisfies the policy, with the witnesses' cosignatures."""

PAUSE_S_MIN, PAUSE_S_MAX = 0.1, 5.0
EXCHANGE_S = 5.0


class Witnessing:
    """The witnesses' side of one leadership over an open log."""

    def __init__(
        self, log: Log, policy: WitnessPolicy, commit: Callable[[], int], witnessed: Callable[[int], None],
        listener: Callable[[Notice], None],
    ) -> None:  # fmt: skip
        """``commit`` is the size that is committed; ``witnessed`` is told of each size that satisfies the policy."""
        self._log = log
        self._policy = policy
        self._commit = commit
        self._witnessed = witnessed
        self._listener = listener
        self._known: dict[str, int] = {}
        self._told: dict[str, str] = {}
        self._over = threading.Event()
        self._more = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cluster-witnesses", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is under way is not waited for."""
        self._over.set()
        self._more.set()

    def committed(self) -> None:
        """There is more to be witnessed."""
        self._more.set()

    def _run(self) -> None:
        done, pause = 0, PAUSE_S_MIN
        while not self._over.is_set():
            self._more.wait(PAUSE_S_MAX)
            self._more.clear()
            if self._over.is_set() or self._commit() <= done:
                continue
            try:
                done = max(done, self._once())
                pause = PAUSE_S_MIN
            except (ClusterError, LogError) as error:
                self._tell("witnesses", error)
                self._more.set()
                self._over.wait(pause)
                pause = min(2 * pause, PAUSE_S_MAX)

    def _once(self) -> int:
        """One round over all witnesses; the size that satisfies the policy now, 0 when none does. Raises LogError."""
        note = self._log.checkpoint()
        checkpoint = parse_checkpoint(text_of(note))
        if checkpoint.extensions:
            return 0  # nothing of this epoch is committed yet
        cosigned = note
        for witness in self._policy.witnesses:
            try:
                answer = submit_checkpoint(
                    WitnessAddress(witness.key, witness.url), note, self._log.tree().consistency,
                    known_size=self._known.get(witness.name, 0), seconds=EXCHANGE_S,
                )  # fmt: skip
            except ClusterError as error:
                self._tell(witness.name, error)
                continue
            self._told.pop(witness.name, None)
            self._known[witness.name] = checkpoint.size
            cosigned += answer.line.encode()
        if not judge_note(cosigned, self._policy).satisfied:
            self._more.set()
            self._over.wait(PAUSE_S_MIN)
            return 0
        self._log.put_file(WITNESSED_FILE, cosigned)
        self._witnessed(checkpoint.size)
        return checkpoint.size

    def _tell(self, who: str, error: Exception) -> None:
        """Once for each reason in a row. A witness that saw another history is a fork, or a cut that must not have been."""
        text = f"{who}: {type(error).__name__}: {error}"[:400]
        if self._told.get(who) != text:
            self._told[who] = text
            self._listener(Notice("WITNESS_DISAGREES" if isinstance(error, DivergenceError) else "WITNESS", text))
