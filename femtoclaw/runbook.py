"""The procedures of the runbook by the section of its specification that each is of, and what the log says of their last run. Pure.

One table: what a procedure is called, by which commands it is carried out, how it is previewed, what an operator must be permitted,
and by which records its runs are known.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple

from femtoclaw import events

AREAS = (
    "deployment", "start and stop", "configuration", "distribution", "monitoring", "incidents", "recovery", "upgrades",
    "compliance",
)  # fmt: skip
"""The nine areas that procedures cover (RUNBOOK-3.1)."""

LOOKS = "looks only"
"""Stands for a preview where the commands change nothing by themselves."""


class Procedure(NamedTuple):
    """One section. ``commands`` are command lines without the program's name, words in capitals stand for values; ``preview`` is
    one of them with ``--dry-run``, or ``LOOKS``; ``actions`` are those of the control policy, empty where nobody needs a right."""

    section: int
    name: str
    area: str
    commands: tuple[str, ...]
    preview: str
    actions: tuple[str, ...] = ()


class Run(NamedTuple):
    """The newest run of a procedure that the log holds; ``time_ns`` since 1970."""

    at: int
    time_ns: int
    result: str


PROCEDURES = (
    Procedure(5, "start", "start and stop", ("serve",), "serve --dry-run"),
    Procedure(6, "stop", "start and stop", ("service stop", "service restart"), "service stop --dry-run"),
    Procedure(7, "health monitoring", "monitoring", ("health", "status"), LOOKS),
    Procedure(8, "health check", "monitoring", ("health --record",), "health"),
    Procedure(9, "incident detection", "incidents", ("incident list", "incident show ID"), LOOKS),
    Procedure(10, "incident severity", "incidents", ("incident open KIND --severity 2",), "incident open KIND --dry-run",
              ("incident.open",)),
    Procedure(11, "incident response", "incidents", ("incident respond ID",), "incident respond ID --dry-run",
              ("incident.step",)),
    Procedure(12, "recovery", "recovery", ("recover",), "recover --dry-run"),
    Procedure(13, "crash recovery", "recovery", ("recover", "log --kind OutcomeUnknown"), "recover --dry-run"),
    Procedure(14, "distribution roll-out", "distribution", ("release deploy FILE", "distribution verify"),
              "release deploy FILE --dry-run", ("release.deploy",)),
    Procedure(15, "configuration change", "configuration", ("config set KEY=VALUE", "config verify"),
              "config set KEY=VALUE --dry-run", ("configuration.set",)),
    Procedure(16, "upgrade", "upgrades", ("release deploy FILE", "migrate run"), "migrate run --dry-run",
              ("release.deploy", "migration.run")),
    Procedure(17, "rollback", "upgrades", ("release rollback", "migrate rollback"), "release rollback --dry-run",
              ("release.rollback",)),
    Procedure(18, "backup", "recovery", ("backup create --to PLACE", "backup verify --from PLACE"),
              "backup create --to PLACE --dry-run", ("backup.create",)),
    Procedure(19, "restore", "recovery", ("backup restore --from PLACE --to HOME --key FILE", "backup resume"),
              "backup resume --dry-run", ("backup.restore",)),
    Procedure(20, "security incident", "incidents", ("incident contain ID", "incident preserve ID", "contain"),
              "contain --dry-run", ("incident.step", "node.contain")),
    Procedure(21, "compliance", "compliance", ("comply", "certificate status"), "comply --dry-run", ("compliance.check",)),
    Procedure(22, "key management", "compliance", ("key rotate", "key verify", "key list"), "key rotate --dry-run",
              ("key.rotate", "key.verify")),
    Procedure(23, "operational logging", "compliance", ("audit query", "audit export --out FILE"),
              "audit export --out FILE --dry-run", ("audit.export",)),
    Procedure(24, "authorization of changes", "deployment", ("operator list", "policy show"), LOOKS),
    Procedure(25, "availability", "recovery", ("drill list", "drill killed-node"), LOOKS, ("drill.run",)),
    Procedure(26, "disaster recovery", "recovery", ("backup restore --from PLACE --to HOME --key FILE",),
              "backup restore --from PLACE --to HOME --key FILE --dry-run", ("backup.restore",)),
    Procedure(27, "continuous monitoring", "monitoring", ("status", "service show systemd"), LOOKS),
)  # fmt: skip
"""Every procedure of sections 5 to 27. Drills change nothing here: each has a home of its own."""

_BY_PROCEDURE = {
    "audit.export": (23,), "backup.create": (18,), "backup.restore": (19, 26), "compliance.check": (21,), "drill.run": (25,),
    "key.verify": (22,), "migration.run": (16,), "release.deploy": (14, 16), "release.rollback": (17,),
}  # fmt: skip
_BY_ACTION = {"configuration.set": (15,), "key.rotate": (22,), "node.contain": (20,)}


class Runs:
    """What the records so far say of each section's newest run."""

    def __init__(self) -> None:
        self.newest: dict[int, Run] = {}
        self._asked: dict[str, str] = {}
        self._at_work = False

    def take(self, index: int, time_ns: int, event: object) -> None:
        """The next record of an event, in the log's order."""
        for section, result in self._of(event):
            self.newest[section] = Run(index, time_ns, result)

    def _of(self, event: object) -> list[tuple[int, str]]:
        if isinstance(event, (events.RuntimeStarted, events.RuntimeStopped, events.StartFailed)):
            return self._lived(event)
        if isinstance(event, events.HealthChecked):
            asked = event.cause == "request"
            return [(8 if asked else 27, event.result), (7, event.result)]
        if isinstance(event, events.IncidentOpened):
            return [(10, f"severity {event.severity}"), *([] if event.operator else [(9, event.kind)])]
        if isinstance(event, events.IncidentStepped):
            told = f"{event.step}: {event.result}"
            return [(11, told), *([(20, told)] if event.step in ("contain", "preserve") else [])]
        if isinstance(event, events.ProcedureEnded) and not any(each in event.content for each in _NO_BACKUP):
            return [(section, event.result) for section in _BY_PROCEDURE.get(event.procedure, ())]
        return self._decided(event)

    def _lived(
        self, event: events.RuntimeStarted | events.RuntimeStopped | events.StartFailed
    ) -> list[tuple[int, str]]:
        if isinstance(event, events.StartFailed):
            return [(5, f"failed: {event.code}")]
        if isinstance(event, events.RuntimeStopped):
            self._at_work = False
            return [(6, "done")]
        cut, self._at_work = self._at_work, True
        crashed = [(13, f"done: {event.in_doubt} in doubt")] if cut else []
        return [(5, "done"), *([(12, f"done: {event.verdict}")] if cut or event.verdict != "open" else []), *crashed]

    def _decided(self, event: object) -> list[tuple[int, str]]:
        if isinstance(event, events.ControlRequested):
            self._asked[event.request_id] = event.action
            return []
        if not isinstance(event, events.ControlDecided):
            return []
        action = self._asked.pop(event.request_id, "")
        if event.decision != "AUTHORIZED":
            return [(24, f"refused {action}: {event.reason}"), (23, "refused")]
        return [(23, "done"), *((section, "done") for section in _BY_ACTION.get(action, ()))]


_NO_BACKUP = (b'"pruned":', b'"in_force":')
"""In the content of procedures that were asked for as backups are, and made none: older ones went, a recovery key came."""

KINDS = frozenset(
    (events.RuntimeStarted, events.RuntimeStopped, events.StartFailed, events.HealthChecked, events.IncidentOpened,
     events.IncidentStepped, events.ProcedureEnded, events.ControlRequested, events.ControlDecided)
)  # fmt: skip
"""The events that ``Runs`` takes."""
