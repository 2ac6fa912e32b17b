"""Every command and its options, as data, and a quick reading of command lines that leave nothing to explain.

``femtoclaw.cli.parser`` builds argparse parsers from the same data; help, errors and every unusual spelling are theirs.
Loading argparse takes as long as starting the interpreter, and a plain ``status`` needs none of what it can do.
"""

from __future__ import annotations

from femtoclaw.cli.operating_options import OPERATING
from femtoclaw.cli.shared_options import COSIGNING, SIGNING, moment, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SHARED: dict[str, dict[str, Any]] = {
    "--home": {"metavar": "DIR", "help": "the node's home (default: $FEMTOCLAW_HOME or ~/.femtoclaw)"},
    "--json": {"action": "store_true", "help": "one JSON object (JSON lines for streams) on stdout"},
}
"""Options of every command, also allowed before it; the result only has the ones that were given."""

_DEMO: dict[str, dict[str, Any]] = {
    "--keep": {"metavar": "DIR", "help": "use this new directory and keep it"},
    "--cluster": {"action": "store_true", "help": "three machines instead, of which the leader is killed; needs etcd"},
    "--static": {"action": "store_true", "help": "--cluster: without etcd; an operator names the next leader"},
}

_INIT: dict[str, dict[str, Any]] = {
    "--enable": {"action": "append", "metavar": "CLAW", "help": "enable a claw (repeatable)"},
    "--binary": {"action": "append", "metavar": "PATH", "help": "a program that shell may run"},
    "--policy": {"metavar": "NAME|FILE", "help": "a shipped policy by its name, or a Cedar file"},
    "--development": {"action": "store_true", "help": "edited files come into force; for where nothing is at stake"},
}

_HEALTH: dict[str, dict[str, Any]] = {
    "--record": {"action": "store_true", "help": "put the result on record, whatever it is"},
}

_RUN: dict[str, dict[str, Any]] = {
    "text": {"metavar": "TEXT"},
    "--brain": {
        "type": utf8,
        "metavar": "NAME[:ARG]",
        "help": "script:FILE, echo, openai:MODEL (default: configuration)",
    },
}

_INTENT: dict[str, dict[str, Any]] = {
    "message": {"metavar": "JSON|-", "help": "the message, or - to read it from standard input"},
}

_SUBJECT: dict[str, Any] = {
    "type": utf8,
    "metavar": "NAME",
    "help": "whose texts these are: recorded sealed under a key of their own, which `redact` destroys",
}
_RUN["--subject"] = _SUBJECT
_INTENT["--subject"] = _SUBJECT

_LOG: dict[str, dict[str, Any]] = {
    "--execution": {"type": utf8, "metavar": "ID"},
    "--kind": {"type": utf8, "metavar": "TYPE", "help": "an event type, such as AuthorizationDecided"},
    "--capability": {"type": utf8, "metavar": "CLAW"},
    "--since": {"type": moment, "metavar": "TIME", "help": "UTC, such as 2026-11-21T10:00:00, or seconds since 1970"},
    "--until": {"type": moment, "metavar": "TIME"},
    "--store": {
        "type": utf8,
        "metavar": "STORE",
        "help": "its rows: execution, audit, telemetry, configuration, metadata",
    },
    "--rebuild": {"action": "store_true", "help": "derive all stores again, and say whether the index held them"},
    "--limit": {"type": int, "default": 50, "metavar": "N", "help": "the newest N (0: all; default 50)"},
    "--follow": {"action": "store_true", "help": "go on with what is recorded from now on"},
}

_SHOW: dict[str, dict[str, Any]] = {"execution": {"type": utf8, "metavar": "EXECUTION_ID"}}

_VERIFY: dict[str, dict[str, Any]] = {
    "--bundle": {"metavar": "FILE", "help": "check an exported bundle; needs --key and no home"},
    "--key": {"metavar": "KEY", "help": "the public key you trust (also for a home): a file, or name+hash+base64"},
    "--checkpoint": {"metavar": "FILE", "help": "a signed checkpoint that you kept: is it still fulfilled?"},
    "--deep": {"action": "store_true", "help": "walk LMDB's pages whatever the size of the file"},
    "--fork": {"metavar": "FILE", "help": "check a proof that one key signed two histories; needs no home"},
}

_REPLAY: dict[str, dict[str, Any]] = {
    "--to": {"type": int, "metavar": "INDEX"},
    "--policy": {"metavar": "FILE", "help": "also list the decisions that this policy would flip"},
}

_PROOF: dict[str, dict[str, Any]] = {
    "which": {"choices": ("inclusion", "consistency")},
    "numbers": {"type": int, "nargs": "+", "metavar": "N"},
}

_POLICY: dict[str, dict[str, Any]] = COSIGNING | {
    "which": {
        "choices": ("check", "test", "explain", "diff", "set", "show"),
        "help": "check FILE, test FILE, explain, diff OLD NEW, set FILE, show",
    },
    "files": {"nargs": "*", "metavar": "FILE", "help": "a Cedar policy, a shipped one's name, or for diff `recorded`"},
    "--cases": {"metavar": "CASES", "help": "test: calls and what must become of them, in TOML or JSON lines"},
    "--execution": {"type": utf8, "metavar": "ID", "help": "explain: a recorded call"},
    "--message": {"metavar": "JSON|-", "help": "explain: a message as if it came now"},
    "--agent": {"type": utf8, "metavar": "NAME", "default": "operator", "help": "explain: who sends the message"},
    "--policy": {"metavar": "FILE", "help": "explain: under this policy instead of the one in force"},
    "--allow-flip": {
        "action": "append",
        "type": utf8,
        "metavar": "EXECUTION_ID",
        "help": "set: a recorded denial that the new policy may permit (repeatable)",
    },
    "--control": {"action": "store_true", "help": "set, show: the policy over operators instead"},
    "--verify": {"metavar": "REPORT", "help": "diff: compute a report again, and say whether it is equal"},
    "--bundle": {"metavar": "FILE", "help": "explain, diff: the history in an exported bundle; needs --key"},
    "--key": {"metavar": "KEY", "help": "the public key you trust: a file, or name+hash+base64"},
}

_EXPORT: dict[str, dict[str, Any]] = {"--bundle": {"metavar": "FILE", "default": "femtoclaw.bundle"}}

_RECOVER: dict[str, dict[str, Any]] = {
    "--dry-run": {"action": "store_true", "help": "only say what would be decided"},
    "--from-archive": {
        "action": "append",
        "metavar": "PATH|s3://...",
        "help": "an archive, a folder of segments, or a bundle (repeatable)",
    },
    "--from-peer": {
        "nargs": "?",
        "const": "",
        "metavar": "INVITATION",
        "help": "a member's log, fetched anew from the others",
    },
    "--endpoint": {"metavar": "URL", "help": "--from-archive s3://...: of an S3-compatible service"},
    "--salvage": {"action": "store_true", "help": "rebuild from whatever still verifies"},
    "--accept-gap": {"action": "store_true", "help": "accept a loss and continue in a new log"},
}

_ARCHIVE: dict[str, dict[str, Any]] = {
    "what": {
        "choices": ("push", "verify", "list", "restore"),
        "help": "push TARGET, verify TARGET, list TARGET, restore TARGET --to DIR",
    },
    "target": {"type": utf8, "metavar": "TARGET", "help": "a folder, or s3://BUCKET/PREFIX (AWS_* variables apply)"},
    "--endpoint": {"type": utf8, "metavar": "URL", "help": "of an S3-compatible service (default: $AWS_ENDPOINT_URL)"},
    "--log": {"type": utf8, "metavar": "ID|ORIGIN", "help": "verify, restore: which log (default: the home's own)"},
    "--key": {
        "metavar": "KEY",
        "help": "verify, restore: with --log ORIGIN, its first key: a file, or name+hash+base64",
    },
    "--to": {"metavar": "DIR", "help": "restore: the log's new directory"},
}

_DISTRIBUTION: dict[str, dict[str, Any]] = COSIGNING | {
    "which": {"choices": ("show", "verify", "accept", "revoke")},
    "value": {"nargs": "?", "metavar": "DIGEST|KEY"},
}

_CONFIG: dict[str, dict[str, Any]] = COSIGNING | {
    "which": {"choices": ("show", "verify", "history", "set"), "help": "show, verify, history, set [KEY=VALUE ...]"},
    "changes": {
        "nargs": "*",
        "type": utf8,
        "metavar": "KEY=VALUE",
        "help": "set: lines of TOML, such as runtime.steps_max=8",
    },
    "--file": {"metavar": "FILE", "help": "set: take this TOML or JSON file instead"},
    "--dry-run": {"action": "store_true", "help": "set: only say what would be decided"},
    "--origin": {"action": "store_true", "help": "show: what the sources say now, and which of them decides each key"},
    "--set": {
        "action": "append",
        "metavar": "KEY=VALUE",
        "help": "show, verify: with this flag over all other sources",
    },
}

_APPROVE: dict[str, dict[str, Any]] = SIGNING | {
    "execution": {"type": utf8, "metavar": "EXECUTION_ID"},
    "--brain": {"type": utf8, "metavar": "NAME[:ARG]", "help": "what goes on with the run (default: configuration)"},
}

_DENY: dict[str, dict[str, Any]] = _APPROVE | {
    "--reason": {"type": utf8, "metavar": "TEXT"},
}

_OPERATOR: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {"choices": ("list", "keygen", "add", "rekey", "revoke")},
    "name": {"type": utf8, "nargs": "?", "metavar": "NAME"},
    "--role": {"action": "append", "metavar": "ROLE", "help": "a role they have (repeatable)"},
    "--public-key": {"metavar": "KEY", "help": "their public key: a file, or name+hash+base64"},
    "--reason": {"type": utf8, "metavar": "TEXT"},
    "--out": {"metavar": "FILE", "help": "keygen, rekey: the new key file"},
}

_CLAW: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {
        "choices": ("list", "show", "pack", "verify", "test", "install", "enable", "disable", "remove"),
        "help": "list; show, enable, disable, remove NAME; pack, verify, test, install DIR",
    },
    "target": {"type": utf8, "nargs": "?", "metavar": "NAME|DIR"},
    "--key": {"metavar": "FILE", "help": "pack, test: the publisher's own key, which signs"},
    "--entry": {
        "type": utf8,
        "metavar": "ENTRY",
        "help": "pack, test: python:FILE.py:NAME where there is no module.json",
    },
    "--publisher": {
        "action": "append",
        "metavar": "KEY",
        "help": "verify: a trusted key instead of the node's (repeatable): a file, or name+hash+base64",
    },
}

_PUBLISHER: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {"choices": ("list", "trust", "distrust")},
    "name": {"type": utf8, "nargs": "?", "metavar": "NAME"},
    "--public-key": {"metavar": "KEY", "help": "trust: their public key: a file, or name+hash+base64"},
    "--reason": {"type": utf8, "metavar": "TEXT"},
}

_KEY: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {
        "choices": ("list", "trust", "verify", "protect", "rotate", "selftest"),
        "help": "list, trust, verify, protect [OPERATOR], rotate, selftest",
    },
    "--unrecorded": {"action": "store_true", "help": "verify: only look; leave no record of it"},
    "name": {"type": utf8, "nargs": "?", "metavar": "OPERATOR", "help": "protect: whose key (default: the node's)"},
    "--compromised": {"action": "store_true", "help": "rotate: somebody else may have the old key"},
    "--dry-run": {"action": "store_true", "help": "rotate: only say what would be decided"},
}

_SECRET: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {
        "choices": ("set", "list", "remove", "grant", "withdraw"),
        "help": "set NAME (value on standard input), list, remove NAME, grant NAME CLAW, withdraw NAME CLAW",
    },
    "name": {"type": utf8, "nargs": "?", "metavar": "NAME"},
    "claw": {"type": utf8, "nargs": "?", "metavar": "CLAW"},
}

_REDACT: dict[str, dict[str, Any]] = SIGNING | {
    "subject": {"type": utf8, "metavar": "SUBJECT"},
    "--reason": {"type": utf8, "metavar": "TEXT"},
}

_CONTAIN: dict[str, dict[str, Any]] = SIGNING | {
    "--lift": {"action": "store_true", "help": "put it back into service"},
    "--reason": {"type": utf8, "metavar": "TEXT"},
    "--dry-run": {"action": "store_true", "help": "only say what would be decided"},
}

_SERVE: dict[str, dict[str, Any]] = {
    "--dry-run": {"action": "store_true", "help": "only look at what a start looks at; nothing is recorded"},
}

_WITNESS: dict[str, dict[str, Any]] = {
    "what": {
        "choices": ("init", "serve", "add-log", "key"),
        "help": "init DIR, serve DIR, add-log DIR ORIGIN VKEY, key DIR",
    },
    "directory": {"metavar": "DIR", "help": "the witness's own directory; no home of a node"},
    "origin": {"type": utf8, "nargs": "?", "metavar": "ORIGIN", "help": "add-log: the first line of its checkpoints"},
    "vkey": {
        "type": utf8,
        "nargs": "?",
        "metavar": "KEY",
        "help": "add-log: its public key: a file, or name+hash+base64",
    },
    "--name": {"type": utf8, "metavar": "NAME", "help": "init: the name of its key, such as witness.example/w1"},
    "--listen": {"type": utf8, "metavar": "HOST:PORT", "help": "init: where it will listen (default 127.0.0.1:8430)"},
}

_CLUSTER: dict[str, dict[str, Any]] = COSIGNING | {
    "what": {
        "choices": ("init", "request", "join", "accept", "promote", "leave", "transfer", "owner", "rejoin", "status"),
        "help": "init; request; join REQUEST; accept INVITATION; promote, leave, transfer, owner NAME; rejoin; status",
    },
    "target": {"type": utf8, "nargs": "?", "metavar": "NAME|FILE"},
    "--name": {"type": utf8, "metavar": "NAME", "help": "init, request: this member's name, of a-z, 0-9 and -"},
    "--listen": {"type": utf8, "metavar": "HOST:PORT", "help": "init, request: where it listens for the others"},
    "--address": {
        "type": utf8,
        "metavar": "HOST:PORT",
        "help": "init, request: where the others reach it (default: --listen)",
    },
    "--coordinator": {"choices": ("static", "etcd"), "help": "init: who says who may lead (default static)"},
    "--etcd": {
        "action": "append",
        "type": utf8,
        "metavar": "HOST:PORT",
        "help": "init: an endpoint of etcd (repeatable)",
    },
    "--mode": {
        "choices": ("local", "quorum", "in_sync_all", "witnessed"),
        "help": "init: what an answer waits for (default quorum)",
    },
    "--witnesses": {"metavar": "FILE", "help": "init, accept: the witness policy of mode witnessed"},
    "--out": {"metavar": "FILE", "help": "request, join: the new file"},
    "--key": {"metavar": "KEY", "help": "accept: the key that must have signed it: a file, or name+hash+base64"},
    "--epoch": {"type": int, "metavar": "N", "help": "owner: the lowest epoch, the same on every machine"},
}

COMMANDS: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    "demo": ("the main job end to end, in a temporary home", "demo", _DEMO),
    "init": ("provision a node: config, policy, keys, claws, log", "node", _INIT),
    "status": ("what this node is, knows and has in flight", "node", {}),
    "serve": ("stay open: answer at the home's socket, and take part in the cluster", "serve", _SERVE),
    "health": ("whether the node could work now, and what is missing", "health", _HEALTH),
    "run": ("one agent run", "execute", _RUN),
    "intent": ("gate exactly one raw protocol message", "execute", _INTENT),
    "log": ("the recorded events", "history", _LOG),
    "show": ("everything about one execution", "history", _SHOW),
    "verify": ("check chain, tree, signatures, segments, blobs and rules", "evidence", _VERIFY),
    "replay": ("derive state and every decision again", "evidence", _REPLAY),
    "proof": ("inclusion INDEX, or consistency OLD NEW", "evidence", _PROOF),
    "policy": ("check, test, explain, compare and change policies", "policies", _POLICY),
    "export": ("write an evidence bundle that a third party checks offline", "evidence", _EXPORT),
    "config": ("the configuration: show, verify, history, set", "configuring", _CONFIG),
    "approvals": ("the calls that are held for operators, exactly as they will run", "approving", {}),
    "approve": ("approve a held call; the last approval runs it", "approving", _APPROVE),
    "deny": ("refuse a held call", "approving", _DENY),
    "claw": ("capabilities: list, install, enable; for publishers: pack, verify, test", "claws", _CLAW),
    "publisher": ("whose modules may be installed: list, trust, distrust", "publishers", _PUBLISHER),
    "operator": ("who may change this node: list, keygen, add, rekey, revoke", "operators", _OPERATOR),
    "key": ("the keys of this node: list, trust, verify, protect, rotate, selftest", "keys", _KEY),
    "secret": ("values that claws are granted: set, list, remove, grant, withdraw", "secrets", _SECRET),
    "redact": ("erase what was said in a subject's executions; the chain stays", "operators", _REDACT),
    "contain": ("take the node out of service: every call is denied; or --lift that", "operators", _CONTAIN),
    "recover": ("open after damage: verify, repair, and say what was decided", "recovery", _RECOVER),
    "archive": ("sealed history in a folder or an object store: push, verify, list, restore", "archiving", _ARCHIVE),
    "witness": ("cosign checkpoints of other nodes' logs: init, serve, add-log, key", "witnessing", _WITNESS),
    "cluster": ("several machines, one log: init, request, join, accept, promote, status, ...", "clustering", _CLUSTER),
    "distribution": ("show, verify or accept the program's files; revoke a key", "distribution", _DISTRIBUTION),
} | OPERATING
"""Name to (help, module in femtoclaw.cli, what it takes: argparse's keywords by option or positional name)."""


class Arguments:
    """What a command line says: one attribute for each option and positional."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


PLACES = ("to", "from", "out", "bundle", "work", "key", "root")
"""Options that name a file or a folder, in whichever command: with nothing given they would be the current folder."""


def read_plain(words: list[str]) -> Arguments | None:
    """The arguments as argparse would read them; None when the words are anything but plain.

    Plain is a known command with whole option names, each value a word of its own that does not begin with a dash, and
    exactly the positionals that the command takes. What is not plain may still be right, wrong, or a call for help.
    """
    given: dict[str, Any] = {}
    rest = iter(words)
    command = _take_options(rest, SHARED, given, [])
    if command is None or command not in COMMANDS:
        return None
    _, module, takes = COMMANDS[command]
    values = {_attribute(name): _default(keywords) for name, keywords in takes.items()}
    positionals = [name for name in takes if not name.startswith("-")]
    if any(takes[name].keys() & {"nargs", "choices"} for name in positionals):
        return None
    if _take_options(rest, takes | SHARED, given, positionals) is not None or positionals:
        return None
    return Arguments(command=command, module=module, **values | given)


def _take_options(
    rest: Iterator[str], takes: dict[str, dict[str, Any]], given: dict[str, Any], positionals: list[str]
) -> str | None:
    """Put what comes into ``given`` and return the first word that is neither: None at the end."""
    for word in rest:
        if not word.startswith("-") or word == "-":
            if not positionals:
                return word
            name = positionals.pop(0)
            if not _convert(name, takes[name], word, given):
                return word
            continue
        keywords = takes.get(word)
        if keywords is None:
            return word
        if not _take_value(_attribute(word), keywords, rest, given):
            return word
    return None


def _take_value(name: str, keywords: dict[str, Any], rest: Iterator[str], given: dict[str, Any]) -> bool:
    """Put one option into ``given``; False when its value is missing or not plain."""
    action = keywords.get("action")
    if action == "store_true":
        given[name] = True
        return True
    value: Any = next(rest, None)
    if value is None or (value.startswith("-") and value != "-") or (not value and name in PLACES):
        return False
    return _convert(name, keywords, value, given)


def _convert(name: str, keywords: dict[str, Any], value: Any, given: dict[str, Any]) -> bool:
    """Put one value into ``given`` as its type; False when it is none of it."""
    if "type" in keywords:
        try:
            value = keywords["type"](value)
        except ValueError:
            return False
    if keywords.get("action") == "append":
        given.setdefault(name, []).append(value)
    else:
        given[name] = value
    return True


def _attribute(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _default(keywords: dict[str, Any]) -> Any:
    match keywords.get("action"):
        case "store_true":
            return False
        case "append":
            return []
    return keywords.get("default")
