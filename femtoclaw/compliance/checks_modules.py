"""Live checks of the contract of modules (ABI): what the sandbox made of samples in Python and in C."""

from __future__ import annotations

from femtoclaw.compliance.checking import CannotMeasureError, every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.module_contract import CALLS, handles, layouts, ownership
from femtoclaw.compliance.module_life import NAME, Life, module_life
from femtoclaw.compliance.module_runs import FUNCTIONS, Runs, module_runs
from femtoclaw.compliance.sample_modules import message, refusal
from femtoclaw.event_codec import encode
from femtoclaw.events import ExecutionFinished
from femtoclaw.isolation import Outcome
from femtoclaw.isolation.abi import execution_handle

SUCCESS = "success"


def with_c(laboratory: Laboratory) -> Runs:
    """The samples, those in C among them. Raises CannotMeasureError without a compiler."""
    found = laboratory.once(module_runs)
    if found.no_compiler:
        raise CannotMeasureError(found.no_compiler)
    return found


def recorded_as(outcome: Outcome) -> bytes:
    """The bytes of the event that records this outcome, without times and counts of bytes."""
    error = outcome.error or {}
    result = b"" if outcome.result is None else repr(sorted(outcome.result.items())).encode()
    return encode(
        ExecutionFinished(
            "sample", outcome.status, result, "", str(error.get("class", "")), str(error.get("message", "")),
            outcome.exit_status if outcome.exit_status is not None else -1, 0, 0, 0, outcome.output_digest,
        )
    )  # fmt: skip


@shows("ABI-5.1")
def one_capability_in_three_forms(laboratory: Laboratory) -> str:
    """The same capability as a C library, a Python file and a claw of the program gives the same response and the same event."""
    found = with_c(laboratory).outcomes
    three = {name: found[name] for name in ("native whole", "python whole", "built in")}
    every(((name, each.status == SUCCESS) for name, each in three.items()), "a result")
    events = {recorded_as(each) for each in three.values()}
    need(len(events) == 1, "one and the same event", {name: each.result for name, each in three.items()})
    return f"{', '.join(three)}: {three['built in'].result}, one event of {len(events.pop())} bytes but for times and sizes"


@shows("ABI-6.1")
def four_exact_names(laboratory: Laboratory) -> str:
    """A module that lacks one of the four functions, or has one in another case, is refused, and the refusal names the symbol."""
    found = with_c(laboratory).outcomes
    for kind in ("python", "native"):
        for name in FUNCTIONS:
            told = refusal(found[f"{kind} without {name}"])
            need(told == f"SYMBOL_MISSING: femtoclaw_module_{name}", f"the refusal of {kind} without {name}", told)
        told = refusal(found[f"{kind} in another case"])
        need(told == "SYMBOL_MISSING: femtoclaw_module_shutdown", f"the refusal of {kind} in another case", told)
    return "five refusals of each kind, in Python and in C: " + refusal(found["native in another case"])


@shows("ABI-8.1")
def init_decides(laboratory: Laboratory) -> str:
    """A module whose init returns 1, raises or hangs is not used; one that is tried out at installation is not registered."""
    outcomes, life = laboratory.once(module_runs).outcomes, laboratory.once(module_life)
    for name in ("python init returns 1", "python init raises"):
        need(refusal(outcomes[name]).startswith("INIT_FAILED"), f"INIT_FAILED of {name}", outcomes[name])
    hung = outcomes["python init hangs"]
    need(hung.status == "timeout" and hung.exit_status == -9, "the worker of a hanging init gone at its limit", hung)
    need(life.answers["init fails"].code == 3, "exit 3 of its installation", life.answers["init fails"].code)
    rejected = [each for each in life.trail.of("ModuleRejected") if each.event.code == "INIT_FAILED"]
    need(rejected, "its rejection on record")
    need(NAME not in life.standing["after refusals"]["registry"], "no such claw in the registry", NAME)
    return f"twin: {rejected[0].index}: INIT_FAILED, not in the registry; a hang ended after {_ms(hung)} ms"


@shows("ABI-9.1")
def requests_are_read_only(laboratory: Laboratory) -> str:
    """A module that writes to its request gets a TypeError in Python, and is found out in C, where it has a copy."""
    found = with_c(laboratory).outcomes
    said = message(found["python writes its request"])
    need("TypeError" in said, "a TypeError in Python", said)
    said = message(found["native writes its request"])
    need(said == "the module changed its request", "the change found in C", said)
    need(found["native whole"].status == SUCCESS, "a request that is as it was passes", found["native whole"])
    return f"Python: TypeError; C: {said}; untouched: {found['native whole'].result}"


@shows("ABI-10.1")
def shutdown_comes_once(laboratory: Laboratory) -> str:
    """Shutdown is called once for each use; one that hangs or crashes ends within the bounds, and the next call is served."""
    found = with_c(laboratory).outcomes
    for name in ("python shutdown twice", "native shutdown twice"):
        need(found[name].status == SUCCESS, f"not called a second time: {name}", found[name])
        need(found[name].stages[-1:] == ("shutdown",), f"called once: {name}", found[name].stages)
    need(found["python shutdown hangs"].status == "timeout", "a hang ended", found["python shutdown hangs"])
    need(found["native shutdown crashes"].status == "killed", "a crash contained", found["native shutdown crashes"])
    need(found["works again"].status == SUCCESS, "the next call served", found["works again"])
    return (
        f"once in Python and in C; a hang ended after {_ms(found['python shutdown hangs'])} ms, "
        f"a crash: {message(found['native shutdown crashes'])}; modules live for one call, so a stop of the node waits for none"
    )


@shows("ABI-11.1")
def contexts_are_as_published(laboratory: Laboratory) -> str:
    """The structures are those of the published header as a C compiler lays them out; writing the context ends its worker alone."""
    sizes, found = laboratory.once(layouts), with_c(laboratory).outcomes
    need(sizes["program"] == sizes["header"] and len(sizes["header"]) == 16, "equal sizes and offsets", sizes)
    wrote = found["native writes its context"]
    need(wrote.status == "killed" and "SIGSEGV" in message(wrote), "SIGSEGV of the worker", wrote)
    need("TypeError" in refusal(found["python writes its context"]), "a TypeError", found["python writes its context"])
    need(found["works again"].status == SUCCESS, "the next call served", found["works again"])
    return f"4 structures, sizes and offsets {sizes['header']}; {message(wrote)}"


@shows("ABI-12.1")
def handles_follow_from_executions(laboratory: Laboratory) -> str:
    """A request's 64-bit handle follows from the execution's own id: both stand in the execution's record, and none comes twice."""
    found, life, sizes = laboratory.once(handles), laboratory.once(module_life), laboratory.once(layouts)
    need(found["handles"] == found["executions"] and found["largest"] < 1 << 64, "a handle for each of them", found)
    need(sizes["program"] == sizes["header"], "the layout of the header", sizes)
    seen = _handles(life)
    every(
        ((name, execution_handle(name) == handle) for name, handle in seen.items()), "the handle of the execution's id"
    )
    need(len(set(seen.values())) == len(seen) > 1, "another handle for each", seen)
    execution, handle = next(iter(seen.items()))
    return f"{found['handles']} handles of as many ids; twin: execution {execution} told its module {handle}"


def _handles(life: Life) -> dict[str, int]:
    """Execution id to the handle that its module was given, and told."""
    started = {each.event.execution_id for each in life.trail.of("ExecutionStarted")}
    return {
        step.execution_id: int(step.result["result"]["handle"]) for step in life.steps.values()
        if step.execution_id in started and "handle" in (step.result.get("result") or {})
    }  # fmt: skip


RESPONSES = (
    "python no response", "python no json", "python no utf-8", "python no object", "python unknown status", "native huge",
)  # fmt: skip


@shows("ABI-13.1")
def responses_must_be_valid(laboratory: Laboratory) -> str:
    """No response, no JSON, no UTF-8, another status and 100 MB are each an error of the claw, and nothing of the runtime's."""
    found = with_c(laboratory).outcomes
    for name in RESPONSES:
        need(found[name].status == "error", f"a contained error: {name}", found[name])
        need((found[name].error or {}).get("class") == "ExecutionError", f"of the claw: {name}", found[name])
    need(found["works again"].status == SUCCESS, "the next call served", found["works again"])
    return "; ".join(f"{name}: {message(found[name])}" for name in RESPONSES)


@shows("ABI-14.1")
def memory_has_owners(laboratory: Laboratory) -> str:
    """Ten thousand calls under the address sanitizer free and leave nothing wrongly; who frees the request ends its own process."""
    ended, found = laboratory.once(ownership), with_c(laboratory).outcomes
    code, printed, said = ended["careful"]
    need(
        code == 0 and not said and printed == "{'live': 1}",
        "no invalid free, one live answer at the end",
        ended["careful"],
    )
    need("attempting free" in ended["frees the request"][2], "a wrong free seen", ended["frees the request"])
    need(
        found["native frees its request"].status == "killed", "a crash of the worker", found["native frees its request"]
    )
    return f"{CALLS} calls: exit {code}, {printed}; {ended['frees the request'][2][:120]}"


REFUSED_AT_LOAD = {
    "python takes too few": "WRONG_ABI", "python takes too many": "WRONG_ABI", "python is no function": "SYMBOL_MISSING",
    "native is no function": "SYMBOL_MISSING", "python another major": "WRONG_ABI",
}  # fmt: skip


@shows("ABI-19.1")
def descriptors_are_verified(laboratory: Laboratory) -> str:
    """Another arity, data for a function and another version are refused at load; on a node only the refusal is on record."""
    found, life = with_c(laboratory).outcomes, laboratory.once(module_life)
    for name, code in REFUSED_AT_LOAD.items():
        need(refusal(found[name]).startswith(code), f"{code} of {name}", found[name])
    need(life.answers["another arity"].code == 3, "exit 3 of the installation", life.answers["another arity"].code)
    rejected = [each for each in life.trail.of("ModuleRejected") if each.event.code == "WRONG_ABI"]
    need(rejected, "the refusal on record")
    before, after = life.standing["before refusals"], life.standing["after refusals"]
    need(before == after, "registry, policy, configuration, publishers and operators as they were", after)
    return f"{len(REFUSED_AT_LOAD)} refused at load; twin: {rejected[0].index}: {rejected[0].event.detail}"


POINTS = ("module_load", "module_init", "module_execution", "module_shutdown")


@shows("ABI-23.1")
def a_use_tells_its_life(laboratory: Laboratory) -> str:
    """One module used once gives the telemetry of its load, init, execution and shutdown, with its id, version and hash."""
    life = laboratory.once(module_life)
    used = life.steps["works"].execution_id
    rows = [row for row in life.rows if row[5] == used and row[2].startswith("module_")]
    need(tuple(row[2] for row in rows) == POINTS, "four rows in their order", [row[2] for row in rows])
    every(((row[2], row[6] == NAME and row[-1] == f"1.0.0 {life.digest}") for row in rows), "id, version and hash")
    crashed = [row for row in life.rows if row[5] == life.steps["exits"].execution_id and row[2].startswith("module_")]
    need(not crashed, "none of a process that ended without an answer", crashed)
    return f"execution {used}: {', '.join(POINTS)}: {NAME} {rows[0][-1]}, as its process told them"


def _ms(outcome: Outcome) -> int:
    return (outcome.ended_ns - outcome.started_ns) // 1_000_000
