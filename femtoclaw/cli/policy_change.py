"""``policy set`` and ``policy show``: another policy comes into force by an operator's signed request.

A change that would have permitted what was denied is refused unless each such flip is named: nobody loosens a policy
without having seen what that would have let through.
"""

from __future__ import annotations

from typing import Any

from femtoclaw.cli.asking import Content, change
from femtoclaw.cli.execute import Node
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.recorded_state import recorded_state
from femtoclaw.cli.render import Output
from femtoclaw.errors import AnswerIsNoError, UsageError
from femtoclaw.home import locate
from femtoclaw.integrity import POLICY, discard, put_in_place, stage
from femtoclaw.policy import engine_version

FLIPS_SHOWN_MAX = 20


def set_policy(arguments: Arguments, output: Output) -> int:
    """0 when the policy is in force, 1 when the request was refused, or loosens what is not named."""
    from femtoclaw.policy_starters import chosen

    if len(arguments.files) != 1:
        raise UsageError("which policy?", where="policy set", expected="one FILE, or a shipped policy's name")
    text = chosen(arguments.files[0])
    if arguments.control:
        body = {"text": text, "engine": engine_version()}
        return change(arguments, output, "control.set", "node", lambda node: body)
    return change(
        arguments, output, "policy.set", "node", lambda node: _content(node, text, arguments, output),
        adopting=frozenset({POLICY}), before=lambda node: stage(_file(node), text.encode()),
        after=lambda node: put_in_place(_file(node)), undo=lambda node: discard(_file(node)),
    )  # fmt: skip


def _file(node: Node) -> str:
    return node.started.home.inside(node.settings["policy"]["file"])


def _content(node: Node, text: str, arguments: Arguments, output: Output) -> Content:
    """The request's content, with the report of what would have been decided otherwise. Raises AnswerIsNoError."""
    from femtoclaw.counterfactual import compare, flips_to_allow

    # This process holds the writer's lock: nothing is decided between the comparison and the change.
    report = compare(node.started.log.scan(), None, text, node.started.authority.engines.sealer)
    loosened = flips_to_allow(report)
    named = set(arguments.allow_flip)
    missing = [flip for flip in loosened if flip["execution"] not in named]
    for flip in missing[:FLIPS_SHOWN_MAX]:
        before, after = (f"{flip[side]['decision']} {flip[side]['reason']}" for side in ("old", "new"))
        output.line(f"  {flip['index']}  {flip['execution']}  {flip['claw']}: {before} -> {after}", "red")
    if missing:
        raise AnswerIsNoError(
            "the policy would permit what was denied, or hold it for less", where="policy set",
            expected="every such call named with --allow-flip", found=f"{len(missing)} that are not",
            remedy="look at each with `femtoclaw show`, then name those that may be permitted, or change the policy",
        )  # fmt: skip
    flips: list[Any] = sorted(flip["execution"] for flip in loosened)
    if report["sealed"]:
        output.note(f"{report['sealed']} calls of erased subjects could not be judged again")
    output.note(f"{report['decisions']} recorded decisions compared, {len(report['flips'])} flips")
    return {"text": text, "engine": engine_version(), "report": report["digest"], "flips": flips}


def show_policy(arguments: Arguments, output: Output) -> int:
    """Print the policy that is in force, as it is recorded."""
    home = locate(getattr(arguments, "home", None))
    node = recorded_state(home).node
    found: Any = node.control if arguments.control else node.policy
    output.data({"version": found.version, "digest": found.digest, "engine": found.engine, "text": found.text})
    output.line(found.text.rstrip("\n"))
    return 0
