"""The six steps of an incident as commands: each looks, acts, and is then recorded as its operator's signed request."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from femtoclaw import events
from femtoclaw.api.socket import is_served
from femtoclaw.cli.asking import REFUSALS, ask, signer_of
from femtoclaw.cli.execute import Node, open_node
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import AnswerIsNoError, ConfigurationError, UsageError
from femtoclaw.goals import reading
from femtoclaw.home import locate
from femtoclaw.incidents import response
from femtoclaw.incidents.response import Taken
from femtoclaw.incidents.story import Story, story_of
from femtoclaw.integrity import CONFIGURATION, POLICY
from femtoclaw.operations import STEPS, next_step
from femtoclaw.procedures import printable as recordable
from femtoclaw.state import Incident

if TYPE_CHECKING:
    from femtoclaw.incidents.evidence import Redact

ID_CHARACTERS_MIN = 6


class StepRefusedError(AnswerIsNoError):
    """The control policy does not permit this operator the step; the refusal is on record, and nothing was changed by the step."""

    code = "STEP_REFUSED"
    default_remedy = "see `femtoclaw operator list` for who answers incidents"


class At(NamedTuple):
    """An open incident on an open node."""

    node: Node
    arguments: Arguments
    output: Output
    incident_id: str

    @property
    def incident(self) -> Incident:
        """As the state has it now. Raises ConfigurationError when it is not open any more."""
        return response.open_one(self.node.started.authority.state.node, self.incident_id)

    def story(self) -> Story:
        """What the log says of it."""
        with reading(self.node.started) as reader:
            return story_of(reader, self.incident_id)


@contextlib.contextmanager
def at_incident(arguments: Arguments, output: Output, *, files: bool = False) -> Iterator[At]:
    """Open the node, also one whose configuration or policy file was tampered with: what is recorded is in force, and the files are
    what is to be restored. ``files``: the step puts files of the home in place."""
    if not arguments.target:
        raise UsageError(
            "which incident?", where=f"incident {arguments.what}", expected="an ID of `femtoclaw incident list`"
        )
    home = locate(getattr(arguments, "home", None))
    adopting = frozenset() if is_served(home) else frozenset({CONFIGURATION, POLICY})
    with open_node(getattr(arguments, "home", None), output, adopting=adopting, files=files) as node:
        known = node.started.authority.state.node.operations.incidents
        yield At(node, arguments, output, whole_id(str(arguments.target), known))


def whole_id(text: str, known: Any) -> str:
    """The one id that begins so. Raises ConfigurationError for none, or several."""
    found = sorted(each for each in known if each.startswith(text)) if len(text) >= ID_CHARACTERS_MIN else []
    if len(found) == 1:
        return str(found[0])
    raise ConfigurationError(
        "no such incident is open" if not found else "several incidents begin so", where="incident ID",
        expected=f"one of `femtoclaw incident list`, or at least its first {ID_CHARACTERS_MIN} characters", found=text[:40],
    )  # fmt: skip


def take(at: At, step: str, made: Taken) -> dict[str, Any]:
    """Have a step recorded; what to show of it. Raises StepRefusedError when the control policy refuses it."""
    detail = "; ".join(filter(None, (made.detail, at.arguments.detail)))
    content = {"step": step, "result": made.result, "detail": recordable(detail), "digest": made.digest}
    asked = ask(at.node, at.arguments, "incident.step", at.incident_id, content)
    if not asked.permitted:
        code = asked.decided.reason
        raise StepRefusedError(
            f"the step {step} is refused: {code}", where=f"incident {at.incident_id}", expected="a permitted step",
            found=REFUSALS.get(code, code),
        )  # fmt: skip
    index = next(
        asked.recorded.receipt.first + place
        for place, event in enumerate(asked.recorded.events)
        if isinstance(event, events.IncidentStepped)
    )
    at.output.line(
        f"  {step:<9} {made.result:<8} {printable(detail, 300)}", "green" if made.result == "done" else "yellow"
    )
    return {"step": step, "result": made.result, "detail": detail, "digest": made.digest, "index": index}


# --- the steps ---


def identify(at: At) -> list[dict[str, Any]]:
    """Write down where the log stands."""
    response.require_next(at.incident, at.incident_id, "identify")
    return [take(at, "identify", response.identify(at.node.started))]


def contain(at: At, *, node: bool = True, why_not: str = "", acts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Take the node out of service (``node``), or say why not; ``acts`` are what was contained by itself."""
    response.require_next(at.incident, at.incident_id, "contain")
    already = at.node.started.authority.state.node.contained
    if not node and not already:
        return [take(at, "contain", Taken("skipped", ": ".join(filter(None, (why_not, ", ".join(acts))))))]
    told = f"the node was contained before: {already}" if already else "the node takes no calls"
    return [take(at, "contain", Taken("done", "; ".join((told, *acts))))]


def preserve(at: At) -> list[dict[str, Any]]:
    """Write the evidence, and record its digest."""
    from femtoclaw.incidents.evidence import Case, evidence_path
    from femtoclaw.incidents.evidence import preserve as write

    response.require_next(at.incident, at.incident_id, "preserve")
    started, arguments = at.node.started, at.arguments
    node = started.authority.state.node
    operator = signer_of(at.node, arguments)
    with reading(started) as reader:
        path = os.path.abspath(arguments.out or evidence_path(started.home, at.incident_id, reader.size))
        case = Case(at.incident_id, at.incident.kind, operator.public.name, started.sources.wall_ns())
        signer = operator if arguments.sign_as_operator else started.signer
        written = write(path, case, started.home, node, reader, signer, _redact(at))
    told = f"{os.path.basename(path)}: {written.size} bytes, {written.members} members, signed by {signer.public.name}"
    row = take(at, "preserve", Taken("done", told, written.digest))
    at.output.note(f"keep a copy elsewhere: {path}")
    return [row | {"file": path, "bytes": written.size, "key": signer.public.vkey()}]


def _redact(at: At) -> Redact:
    """What strikes the node's secrets out; of a node without any nothing has to be opened."""
    from femtoclaw.incidents.evidence import redactor

    started = at.node.started
    if not started.authority.state.node.secrets:
        return lambda raw: raw
    return redactor(started.home, started.signer, started.authority.state.node)


def restore(at: At) -> list[dict[str, Any]]:
    """Put configuration and policy back as they are recorded; of what else had to be restored the operator says what was done."""
    from femtoclaw.incidents.files import configuration_difference, policy_difference
    from femtoclaw.serving.recorded_files import follow_record

    response.require_next(at.incident, at.incident_id, "restore")
    started, skip = at.node.started, at.arguments.skip
    node = started.authority.state.node
    differs = configuration_difference(started.home, node) or policy_difference(started.home, node)
    if skip and differs:
        raise ConfigurationError(
            "there is something to restore", where="--skip", expected="files as recorded", found=differs
        )
    changed: tuple[str, ...] = ()
    if differs:
        with reading(started) as reader:
            changed = follow_record(started.home, reader)
    if changed:
        made = Taken("done", "put back as recorded: " + ", ".join(os.path.basename(path) for path in changed))
    elif at.arguments.detail and not skip:
        made = Taken("done", "configuration and policy are as recorded")
    else:
        made = Taken("skipped", skip or "configuration and policy are as recorded: nothing to restore")
    return [take(at, "restore", made)]


def verify(at: At) -> list[dict[str, Any]]:
    """Verify program, configuration, policy and log; refused when one of them fails."""
    response.require_next(at.incident, at.incident_id, "verify")
    at.output.progress("verifying ...")
    made = response.verify(at.node.started, at.story())
    at.output.progress("")
    return [take(at, "verify", made)]


def resume(at: At) -> list[dict[str, Any]]:
    """Back into service, and the incident is resolved."""
    response.require_next(at.incident, at.incident_id, "resume")
    made = response.resume(at.node.started, at.incident, at.story(), at.arguments.no_restart or "")
    return [take(at, "resume", made)]


def chosen_containment(at: At) -> list[dict[str, Any]]:
    """Contain as far as the incident's severity asks for."""
    if at.arguments.skip:
        return contain(at, node=False, why_not=at.arguments.skip)
    grave = at.incident.severity <= response.NODE_CONTAINED_UP_TO
    return contain(at, node=grave, why_not=f"severity {at.incident.severity}: the node stays in service")


Walk = Callable[[At], list[dict[str, Any]]]
TAKERS: dict[str, Walk] = {
    "identify": identify, "contain": chosen_containment, "preserve": preserve, "restore": restore, "verify": verify,
    "resume": resume,
}  # fmt: skip
"""Every step, as `respond` takes it."""

assert tuple(TAKERS) == STEPS


def walk(at: At, first: str) -> list[dict[str, Any]]:
    """The steps that remain, of those from ``first`` on. Raises OutOfOrderError where an earlier one was not taken, and what a
    step raises: those before it are recorded."""
    taken: list[dict[str, Any]] = []
    waiting = next_step(at.incident)
    if STEPS.index(waiting) < STEPS.index(first):
        response.require_next(at.incident, at.incident_id, first)
    for step in STEPS[STEPS.index(waiting) :]:
        taken += TAKERS[step](at)
    return taken
