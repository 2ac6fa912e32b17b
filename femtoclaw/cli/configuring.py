"""``config show|verify|history|set``: what is in force, where it comes from, and how it is changed."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from femtoclaw.cli.asking import change
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.recorded_state import recorded_state
from femtoclaw.cli.render import Output, printable
from femtoclaw.config import canonical, digest, parse_toml, resolve
from femtoclaw.config_effect import effect_of
from femtoclaw.config_sources import gather, origins, parse_file, resolve_sources
from femtoclaw.errors import ConfigurationError, FemtoClawError, IntegrityError, UsageError
from femtoclaw.home import Home, check_workspace, locate, policy_text, read_bounded, require
from femtoclaw.integrity import CONFIGURATION, discard, put_in_place, refuse_root, stage, takes_files
from femtoclaw.recorded import recorded_configuration
from femtoclaw.state import Node
from wal.errors import LogError
from wal.reader import read_log_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.cli.execute import Node as CommandNode

SHOWN_CHARACTERS_MAX = 400


def config(arguments: Arguments, output: Output) -> int:
    """One of the commands below, by its word."""
    acts = {"show": _show, "verify": _verify, "history": _history, "set": _set}
    return acts[arguments.which](arguments, output)


def _show(arguments: Arguments, output: Output) -> int:
    """The configuration that is in force, or with ``--origin`` what the sources say now, each key with its source."""
    home = locate(getattr(arguments, "home", None))
    node = recorded_state(home).node
    if not arguments.origin:
        body = recorded_configuration(node.configuration.content)
        output.data({"version": node.configuration.version, "digest": node.configuration.digest, "configuration": body})
        output.fields([(key, _shown(value)) for key, value in _flat(body)])
        return 0
    sources = gather(home, arguments.set)
    effective = resolve_sources(sources, frozenset(node.registry))
    found = origins(sources, effective)
    output.data(
        {
            "digest": digest(canonical(effective)),
            "configuration": effective,
            "origins": found,
            "sources": [{"name": source.name, "where": source.where} for source in sources],
        }
    )
    output.fields([(key, f"{_shown(value)}   ({found[key]})") for key, value in _flat(effective)])
    return 0


def _flat(table: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = f"{above}.{key}" if above else key
        found += _flat(value, name) if isinstance(value, dict) and value else [(name, value)]
    return found


def _shown(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False), SHOWN_CHARACTERS_MAX)


def _verify(arguments: Arguments, output: Output) -> int:
    """0 when the sources give what is recorded. Raises IntegrityError (exit 3) when they do not."""
    home = locate(getattr(arguments, "home", None))
    node = recorded_state(home).node
    effective = resolve_sources(gather(home, arguments.set), frozenset(node.registry))
    found, recorded = digest(canonical(effective)), node.configuration.digest
    if found != recorded:
        before, after = (dict(_flat(json.loads(raw))) for raw in (node.configuration.content, canonical(effective)))
        keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        raise IntegrityError(
            "the configuration is not the one that is recorded", where=f"{home.config_file}: {', '.join(keys)}",
            expected=recorded, found=found, remedy="put it back, or have it adopted: `femtoclaw config set`",
        )  # fmt: skip
    output.data({"ok": True, "version": node.configuration.version, "digest": recorded})
    output.line(f"ok: version {node.configuration.version}, {recorded}", "green")
    return 0


def _history(arguments: Arguments, output: Output) -> int:
    """Every configuration that was in force, with who adopted it, and what changed."""
    from femtoclaw import events
    from femtoclaw.projections.reading import read_event
    from wal.record import KIND_EVENT

    home = locate(getattr(arguments, "home", None))
    require(home)
    reader = read_log_directory(home.log)
    before: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    try:
        for record in reader.scan(1, reader.size + 1):
            event = read_event(record.payload) if record.kind == KIND_EVENT else None
            if isinstance(event, events.ConfigurationAdopted):
                after = dict(_flat(recorded_configuration(event.content)))
                changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
                rows.append(
                    {"index": record.index, "time_ns": record.time_ns, "version": event.version, "digest": event.digest,
                     "operator": event.operator, "changed": changed if before else []}
                )  # fmt: skip
                before = after
    finally:
        reader.close()
    output.data({"history": rows})
    for row in rows:
        output.line(f"version {row['version']}  index {row['index']}  by {printable(row['operator'])}", "bold")
        output.fields([("digest", row["digest"]), ("changed", ", ".join(row["changed"]) or "everything: the first")])
    return 0


def _set(arguments: Arguments, output: Output) -> int:
    """Change keys, take another file, or adopt the sources as they stand; 0 when it is in force."""
    if arguments.file and arguments.changes:
        raise UsageError("either a file or single keys", where="config set", expected="KEY=VALUE ... or --file FILE")
    home = locate(getattr(arguments, "home", None))
    require(home)
    try:
        return _set_from(home, arguments, output)
    except ConfigurationError as error:
        _tell_rejected(home, arguments, error)
        raise


def _tell_rejected(home: Home, arguments: Arguments, error: ConfigurationError) -> None:
    """Have a served node put on record that what it was to take is no configuration: it is asked for something that it refuses,
    which holds the error's code and no value."""
    from femtoclaw.api.socket import is_served
    from femtoclaw.cli.asking import ask
    from femtoclaw.cli.execute import open_node

    if getattr(arguments, "dry_run", False) or not is_served(home):
        return
    with contextlib.suppress(FemtoClawError, LogError), open_node(home.path, Output(as_json=True)) as node:
        ask(node, arguments, "configuration.set", "node", {"rejected": {"code": error.code}})


def _set_from(home: Home, arguments: Arguments, output: Output) -> int:
    raw = _new_file(home, arguments)
    before: dict[str, Any] = {}

    def content(node: CommandNode) -> bytes:
        before.update(_in_force(node))
        return _content(home, raw, node.started.authority.state.node)

    def steps(node: CommandNode, permitted: bool) -> dict[str, Any]:
        return _steps(before, _in_force(node), permitted, node.served, output)

    return change(
        arguments, output, "configuration.set", "node",
        content,
        adopting=frozenset({CONFIGURATION}), before=lambda node: stage(home.config_file, raw),
        after=lambda node: put_in_place(home.config_file), undo=lambda node: discard(home.config_file),
        room=_effective(home, raw, None)["memory"]["map_bytes"], more=steps,
    )  # fmt: skip


def _in_force(node: CommandNode) -> dict[str, Any]:
    """The recorded configuration, whole."""
    return resolve(
        json.loads(node.started.authority.state.node.configuration.content), "the recorded configuration", None
    )


def _steps(
    before: dict[str, Any], after: dict[str, Any], permitted: bool, served: bool, output: Output
) -> dict[str, Any]:
    """The five steps of a change (RUNBOOK-15.1), and the keys whose old value is in effect until the node starts again."""
    effect = effect_of(before, after)
    restart = list(effect.restart) if served and permitted else []
    changed = sorted((*effect.now, *effect.restart, *effect.at_rest)) if permitted else []
    result = "done" if permitted else "skipped"
    for key in restart:
        output.note(f"{key}: the old value is in effect until the node is started again")
    names = ("validated", "integrity checked", "audited", "applied", "restarted")
    results = ("done", "done", "done", result, "required" if restart else "not required")
    return {"changed": changed, "restart_required": restart,
            "steps": [{"step": name, "result": each} for name, each in zip(names, results, strict=True)]}  # fmt: skip


def _new_file(home: Home, arguments: Arguments) -> bytes:
    """What the home's file is to be. Raises ConfigurationError."""
    from femtoclaw.config_file import edited

    raw = read_bounded(home.config_file)
    if arguments.file:
        body = parse_file(read_bounded(arguments.file), arguments.file)
        return edited(b"", arguments.file, body) if arguments.file.endswith(".json") else read_bounded(arguments.file)
    if not arguments.changes:
        return raw
    changes = parse_toml("\n".join(arguments.changes).encode("utf-8", "surrogateescape"), "KEY=VALUE")
    return edited(raw, home.config_file, changes)


def _effective(home: Home, raw: bytes, claws: frozenset[str] | None) -> dict[str, Any]:
    return resolve_sources(gather(home, file=raw), claws)


def _content(home: Home, raw: bytes, node: Node) -> bytes:
    """What is asked for. Raises ConfigurationError for what no start could come up with: nobody could change it back."""
    effective = _effective(home, raw, frozenset(node.registry))
    check_workspace(home, effective)
    refuse_root(effective)
    if policy_text(home, effective) != node.policy.text and not takes_files(node):
        raise ConfigurationError(
            "the policy file holds another policy than the one in force", where="policy.file",
            expected=f"policy {node.policy.digest[:16]}", found="another",
            remedy="copy the policy in force to that file first: `femtoclaw policy show` prints it",
        )  # fmt: skip
    return canonical(effective)
