"""Which acts of a command take which of its options: all of them, where nothing is said here.

An option of another act is a mistake: a ``--dry-run`` that this one does not know would be believed to have been heard. Those of
``archive``, ``cluster``, ``distribution`` and ``witness`` are looked at where it is also said what is missing.
"""

from __future__ import annotations

from femtoclaw.cli.options import COMMANDS, Arguments
from femtoclaw.errors import UsageError

_STEPS = "identify contain preserve restore verify resume respond resolve"

TAKEN_BY: dict[str, dict[str, str]] = {
    "audit": {
        "--execution": "query export", "--type": "query", "--since": "query", "--until": "query", "--capability": "query",
        "--operator": "query", "--limit": "query", "--format": "export", "--out": "export", "--first": "export",
        "--last": "export", "--key": "statement", "--endpoint": "retain", "--delete": "retain", "--dry-run": "export retain",
    },
    "backup": {
        "--to": "create restore", "--from": "list verify restore prune", "--key": "keygen create verify restore",
        "--out": "keygen", "--id": "verify restore", "--log": "list verify restore prune", "--at-index": "restore",
        "--at-time": "restore", "--replace": "restore keygen", "--from-archive": "resume", "--accept-gap": "resume",
        "--nothing-newer": "resume", "--known": "resume", "--keep": "prune", "--work": "verify",
        "--dry-run": "create restore resume prune", "--endpoint": "create list verify restore resume prune",
    },
    "certificate": {
        "--report": "issue", "--rerun": "issue", "--authority-key": "issue", "--authority-kind": "issue", "--tier": "issue",
        "--dry-run": "issue", "--key": "verify", "--reason": "revoke",
    },
    "claw": {
        "target": "show pack verify test install enable disable remove", "--key": "pack test", "--entry": "pack test",
        "--publisher": "verify",
    },
    "comply": {
        "--domain": "run methods", "--out": "run methods", "--from": "again", "--html": "run", "--level": "run",
        "--dry-run": "run", "--as": "run", "--operator-key": "run",
    },
    "config": {"changes": "set", "--file": "set", "--dry-run": "set", "--origin": "show", "--set": "show verify"},
    "incident": {
        "target": f"show open acknowledge {_STEPS} verify-evidence", "--all": "list", "--severity": "open",
        "--evidence": "open", "--detail": f"open {_STEPS}", "--dry-run": f"open acknowledge {_STEPS}",
        "--skip": "contain restore respond resolve", "--claw": "contain", "--operator": "contain", "--publisher": "contain",
        "--distribution-key": "contain", "--out": "preserve respond", "--sign-as-operator": "preserve respond",
        "--no-restart": "resume respond resolve", "--key": "verify-evidence",
    },
    "key": {"name": "protect", "--unrecorded": "verify", "--compromised": "rotate", "--dry-run": "rotate"},
    "migrate": {"--owner": "run", "--dry-run": "run rollback"},
    "operator": {
        "name": "keygen add rekey revoke", "--role": "add", "--public-key": "add", "--reason": "revoke", "--out": "keygen rekey",
    },
    "policy": {
        "--cases": "test", "--execution": "explain", "--message": "explain", "--agent": "explain", "--policy": "explain",
        "--allow-flip": "set", "--control": "set show", "--verify": "diff", "--bundle": "explain diff", "--key": "explain diff",
    },
    "publisher": {"name": "trust distrust", "--public-key": "trust", "--reason": "distrust"},
    "release": {
        "file": "verify deploy repair", "--key": "build verify deploy", "--out": "build", "--from": "build",
        "--counter": "build", "--floor": "build", "--major": "deploy", "--wait": "deploy rollback",
        "--dry-run": "deploy rollback prune", "--root": "deploy rollback list prune repair",
    },
    "secret": {"name": "set remove grant withdraw", "claw": "grant withdraw"},
    "service": {"kind": "show", "--user": "show", "--wait": "restart", "--dry-run": "stop restart"},
}  # fmt: skip


def refuse_other_acts(arguments: Arguments) -> None:
    """Raise UsageError for the first option or positional that was given and is another act's."""
    command = str(getattr(arguments, "command", ""))
    taken = TAKEN_BY.get(command, {})
    act = getattr(arguments, "what", None) or getattr(arguments, "which", None)
    for name, acts in taken.items():
        keywords = COMMANDS[command][2][name]
        given = getattr(arguments, keywords.get("dest") or name.lstrip("-").replace("-", "_"))
        if given is None or given is False or given == [] or given == keywords.get("default") or act in acts.split():
            continue
        mine = ", ".join(each for each in taken if each.startswith("-") and act in taken[each].split())
        shown = name if name.startswith("-") else keywords["metavar"] if "metavar" in keywords else name.upper()
        raise UsageError(
            f"{shown} has no meaning here", where=f"{command} {act}", expected=mine or "none of the options of other acts"
        )
