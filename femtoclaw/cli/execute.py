"""``run`` and ``intent``: the commands that may cause an effect."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from femtoclaw import commands, events
from femtoclaw.api.socket import is_served, socket_path
from femtoclaw.authority import Recorded
from femtoclaw.authorization import HELD
from femtoclaw.boot import Started, start, stop
from femtoclaw.brains.choice import brain_to_go_on_with, chosen_brain
from femtoclaw.claws import SHIPPED
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.cluster_home import is_member
from femtoclaw.config import DEVELOPMENT, resolve
from femtoclaw.errors import UsageError
from femtoclaw.gate import Gate
from femtoclaw.home import Home, locate
from femtoclaw.integrity import mode_of
from femtoclaw.isolation import Isolation
from femtoclaw.isolation.layers import REQUIRED
from femtoclaw.modules.recording import record_faults
from femtoclaw.runtime import RunResult, Runtime, StepResult
from femtoclaw.sources import live
from femtoclaw.vault import open_vault
from wal import LogError

INTENT_BYTES_MAX = 1024 * 1024


class LocalNode:
    """An open node with its runtime, for the length of one command."""

    served = False

    def __init__(self, started: Started, runtime: Runtime, settings: dict[str, Any], gate: Gate) -> None:
        self.started = started
        self.runtime = runtime
        self.settings = settings
        self.gate = gate

    def intent(self, raw: bytes, subject: str) -> StepResult:
        """Gate one message."""
        return self.runtime.intent(raw, subject)

    def run(self, text: str, brain: str | None, subject: str) -> RunResult:
        """One run with the brain that is named, or the configured one."""
        settings = self.settings["runtime"]
        chosen = chosen_brain(settings, brain)
        return self.runtime.run(text, chosen, source="cli", agent=settings["agent"], subject=subject)

    def control(self, command: commands.Control, brain: str | None) -> tuple[Recorded, RunResult | None]:
        """An operator's request, and what it sets going; with the brain that a run goes on with."""
        live = self.started.authority.state.live
        held = live.executions.get(command.resource)
        run = live.runs.get(held.run_id) if held is not None else None
        chosen = brain_to_go_on_with(self.settings["runtime"], run, brain) if run is not None else None
        return self.runtime.control(command, chosen)


if TYPE_CHECKING:
    from femtoclaw.cli.served import ServedNode

    Node: TypeAlias = LocalNode | ServedNode
else:
    Node = LocalNode


@contextmanager
def open_node(
    home_flag: str | None,
    output: Output,
    listener: Any = None,
    *,
    adopting: frozenset[str] = frozenset(),
    room: int = 0,
    files: bool = False,
) -> Iterator[Node]:
    """Start the node, and stop it in order whatever happens inside; SIGTERM ends the work as Ctrl-C does. ``adopting``
    and ``room`` as in ``boot.start``. Of a home that another process serves: the way to that process, which with ``files``,
    or with something to adopt, must be the one that executes (``cli.served``)."""
    home = locate(home_flag)
    if (os.path.lexists(socket_path(home)) and is_served(home)) or _is_about_to_be(home, output):
        from femtoclaw.cli.served import open_served

        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with open_served(home, listener, files=files or bool(adopting), output=output) as served:
            yield served
        return
    with _open_local(home, output, listener, adopting, room) as node:
        yield node


def _is_about_to_be(home: Home, output: Output) -> bool:
    """Whether a member's `serve` begins within moments: no command but that opens its log."""
    if not is_member(home):
        return False
    from femtoclaw.cli.member_words import starts_to_serve

    return starts_to_serve(home, output)


def at_rest(node: Node, command: str) -> LocalNode:
    """The node, where this process has it. Raises UnavailableError when another one serves it."""
    if isinstance(node, LocalNode):
        return node
    from femtoclaw.cli.served import refused

    raise refused(command)


@contextmanager
def _open_local(
    home: Home, output: Output, listener: Any, adopting: frozenset[str], room: int
) -> Iterator[LocalNode]:  # fmt: skip
    sources = live()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = start(home, sources, adopting=adopting, room=room)
    reason = "command ended"
    gate: Gate | None = None
    try:
        tell_recovery(started, output)
        recorded = json.loads(started.authority.state.node.configuration.content)
        settings = resolve(recorded, "the recorded configuration", None)
        isolation = claws_isolation(started, settings, output)
        gate = Gate(isolation, lambda: started.authority.state)
        for refusal in record_faults(started.authority, home.modules):
            output.note(f"{refusal.name}: {refusal.code}: {refusal.detail}; its calls are refused")
        vault, missing = open_vault(home, started.signer, started.authority.state.node)
        for name in missing:
            output.note(f"the value of secret {name} is not in the store, or not the recorded one: no claw gets it")
        runtime = Runtime(
            started.log, started.authority, gate, sources,
            concurrency_max=settings["runtime"]["concurrency_max"], listener=listener, vault=vault,
        )  # fmt: skip
        yield LocalNode(started, runtime, settings, gate)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            reason = "interrupted by a signal"
        _end(started, gate, reason, output, after=error)
        raise
    else:
        _end(started, gate, reason, output)


def claws_isolation(started: Started, settings: dict[str, Any], output: Output) -> Isolation:
    """The sandbox of this node's claws. In development mode layers may be missing, which is said."""
    home = started.home
    own = [home.log, os.path.dirname(home.key_file), home.modules, home.config_file, home.journal, home.manifest_file]
    own += [os.path.join(home.path, name) for name in ("secrets", "subjects", "index")]
    own += [home.inside(settings["policy"]["file"]), socket_path(home)]
    lenient = mode_of(started.authority.state.node) == DEVELOPMENT
    if lenient:
        output.note(
            "development mode: edited files come into force, and claws run where layers of the sandbox are missing"
        )
    return Isolation(
        home.inside(settings["security"]["workspace"]), modules=_entries(started), module_store=home.modules,
        protected=own, accept_missing=REQUIRED if lenient else (),
    )  # fmt: skip


def _entries(started: Started) -> tuple[str, ...]:
    """The modules of the claws that may be called: what the fork server loads before the first call."""
    registry = started.authority.state.node.registry
    installed: tuple[str, ...] = ()
    if any(claw.publisher and claw.enabled for claw in registry.values()):
        from femtoclaw.modules.startup import entry_modules

        installed = entry_modules(started.authority.state.node)
    return installed + tuple(
        claw.entry.partition(":")[0] for claw in SHIPPED if claw.name in registry and registry[claw.name].enabled
    )


def _end(started: Started, gate: Gate | None, reason: str, output: Output, after: BaseException | None = None) -> None:
    """Stop the claws and the node. ``after`` an error, what goes wrong here is a note: it must not hide the cause."""
    # Once the end has begun a second signal must not cut it short; what the command does behind it may be interrupted again.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if gate is not None:
            gate.close()
    finally:
        try:
            stop(started, reason)
        except (LogError, OSError) as error:
            if after is None:
                raise
            output.note(f"and then the log could not be closed in order: {error}")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def tell_recovery(started: Started, output: Output) -> None:
    for execution_id in started.unknown:
        output.note(f"execution {execution_id} was cut by a crash: OUTCOME_UNKNOWN, not re-run (see `femtoclaw show`)")
    for execution_id in started.interrupted:
        output.note(f"execution {execution_id} was cut by a crash before it started: nothing was executed")
    for what in started.adopted:
        output.note(f"{what} is now in force")


def run(arguments: Arguments, output: Output) -> int:
    """One agent run: 0 answered, 1 ended without an answer, 4 the brain failed."""
    try:
        arguments.text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("text is not UTF-8", where="run TEXT", found=f"a wrong byte at {error.start}") from error

    def listen(recorded: Recorded) -> None:
        for event in recorded.events:
            _print_event(event, output)

    with open_node(getattr(arguments, "home", None), output, listen) as node:
        result = node.run(arguments.text, arguments.brain, _subject(node, arguments))
    output.data(
        {
            "run_id": result.run_id,
            "outcome": result.outcome,
            "response": result.response,
            "steps": [contract(step) for step in result.steps],
        }
    )
    if result.response is not None:
        output.line(printable(result.response, 65_536), "green")
        return 0
    if result.outcome == HELD:
        tell_held(result.steps[-1], output)
        return 1
    output.line(f"run {result.run_id} ended without an answer: {result.outcome}", "yellow")
    if result.outcome == "no_inference":
        output.note("the brain gave no answer; see `femtoclaw show` for the reason")
        return 4
    return 1


def _print_event(event: events.Event, output: Output) -> None:
    match event:
        case events.ProtocolRejected():
            output.line(f"  rejected    {event.kind} {event.code}: {printable(event.detail)}", "red")
        case events.AuthorizationDecided() if event.claw:
            colour = "dim" if event.decision == "AUTHORIZED" else "red"
            by = f" by {', '.join(event.determining)}" if event.determining else ""
            output.line(f"  {event.claw:<11} {event.decision} ({event.reason}{by})", colour)
        case events.ExecutionFinished():
            output.line(
                f"  {'result':<11} {event.status}, {event.kept_bytes} bytes, {event.duration_ns / 1e6:.1f} ms", "dim"
            )
        case events.InferenceFailed():
            output.line(f"  brain       {event.code}: {printable(event.detail)}", "red")
        case _:
            return


def intent(arguments: Arguments, output: Output) -> int:
    """Gate one message: 0 executed or answered, 1 rejected, denied or failed, 5 outcome unknown."""
    raw = arguments.message.encode("utf-8", "surrogateescape")
    if arguments.message == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed", where="intent -", expected="a message on it")
        raw = sys.stdin.buffer.read(INTENT_BYTES_MAX + 1)
    if len(raw) > INTENT_BYTES_MAX - 1024:
        raise UsageError("message is too long to record", expected=f"< {INTENT_BYTES_MAX - 1024} bytes", found=len(raw))
    with open_node(getattr(arguments, "home", None), output) as node:
        step = node.intent(raw, _subject(node, arguments))
    output.data(contract(step))
    if step.outcome == HELD:
        tell_held(step, output)
        return 1
    good = step.outcome in ("success", "answered")
    output.line(f"{step.decision} ({step.code})", "green" if good else "red")
    output.line(f"  execution  {step.execution_id}")
    if step.result is not None:
        output.line(f"  result     {printable(json.dumps(step.result, ensure_ascii=False), 4000)}")
    if step.outcome == "outcome_unknown":
        output.note(
            f"nobody can say what the claw did; look before you repeat it (`femtoclaw show {step.execution_id}`)"
        )
        return 5
    return 0 if good else 1


def tell_held(step: StepResult, output: Output) -> None:
    """A held call: what is to do next."""
    asked = step.result
    who = f" by {' or '.join(asked['roles'])}" if asked["roles"] else ""
    plural = "approval" if asked["approvals"] == 1 else "approvals"
    output.line(f"held: {asked['approvals']} {plural}{who} needed; nothing was executed", "yellow")
    output.line(f"  execution  {step.execution_id}")
    output.note(f"see `femtoclaw approvals`, then `femtoclaw approve {step.execution_id}` or `deny`")


def _subject(node: Node, arguments: Arguments) -> str:
    """Whose texts these are, with a key for them. Raises ConfigurationError for a name that cannot be used."""
    if arguments.subject == "":
        # An unset variable more often than a wish: the text would be recorded so that nobody can ever erase it.
        raise UsageError("the subject has no name", where="--subject", expected="a name")
    subject: str = arguments.subject or ""
    if subject in node.started.authority.state.node.erased:
        raise UsageError(
            "this subject was erased", where="--subject", expected="another name", found="one that was erased"
        )
    if subject:
        node.started.subjects.make(subject)
    return subject


def contract(step: StepResult) -> dict[str, Any]:
    """The four keys that scripts rely on."""
    return {"decision": step.decision, "code": step.code, "execution_id": step.execution_id, "result": step.result}
