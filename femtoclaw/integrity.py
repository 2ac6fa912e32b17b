"""What a start compares: the files in the home with what the log says is in force, and the rights that it runs with.

In secure mode a configuration or policy file that differs from the recorded one stops the start: a change comes into
force by an operator's signed request, never by an edit. In development mode edits are adopted at the next start, and
every start says so; the mode of a node is set when it is made.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from femtoclaw import config, distribution
from femtoclaw.errors import ConfigurationError, IntegrityError
from femtoclaw.home import Home
from femtoclaw.key_index import FILE_NAME
from femtoclaw.preflight import privilege
from femtoclaw.state import Node
from wal.durable_file import read_file, sync_folder, write_file

CONFIGURATION, POLICY, DISTRIBUTION = "configuration", "policy", "distribution"
"""What an operator may be about to have adopted: then it may differ from what is recorded or trusted."""

STAGED = ".next"
"""Ending of a file that waits for its adoption to be recorded."""

VERIFIED, DIFFERS, ADOPTING = "verified", "differs", "about to be adopted"


def takes_files(node: Node) -> bool:
    """Whether edited files come into force at a start: in development mode, and where no control policy is."""
    return node.control.version == 0 or mode_of(node) == config.DEVELOPMENT


def mode_of(node: Node) -> str:
    """The mode that the recorded configuration says: secure or development. Raises HistoryError for one that is none."""
    from femtoclaw.recorded import recorded_configuration

    runtime = recorded_configuration(node.configuration.content).get("runtime", {})
    return str(runtime.get("mode", config.SECURE))


def check_recorded(
    home: Home, node: Node, effective: dict[str, Any], policy: str, adopting: frozenset[str]
) -> tuple[str, ...]:
    """Compare, and return the checks for the record: component, result, digest, anchor, and so on.

    Raises IntegrityError in secure mode for a file that differs and is not in ``adopting``, ConfigurationError for
    capabilities of claws that are not registered.
    """
    require_registered(home, node, effective)
    require_signed_files(home, node, adopting)
    return (
        *check_configuration(home, node, effective, adopting), *check_policy(home, node, effective, policy, adopting),
        *check_registry(node), "privileges", privilege(), "", "kernel", "sandbox", sandbox(), "", "kernel",
    )  # fmt: skip


Check = tuple[str, str, str, str]
"""Component, result, digest and anchor, as a start records them."""


def check_configuration(home: Home, node: Node, effective: dict[str, Any], adopting: frozenset[str]) -> Check:
    """Of the configuration that is read from the files. Raises IntegrityError as ``check_recorded``."""
    same = config.canonical(effective) == node.configuration.content
    recorded, remedy = node.configuration.digest, "put the file back, or have it adopted: `femtoclaw config set`"
    return _compared(node, CONFIGURATION, same, recorded, home.config_file, remedy, adopting)


def check_policy(home: Home, node: Node, effective: dict[str, Any], policy: str, adopting: frozenset[str]) -> Check:
    """Of the policy file's text. Raises IntegrityError as ``check_recorded``."""
    file = home.inside(effective["policy"]["file"])
    remedy = f"put the file back, or have it adopted: `femtoclaw policy set {file}`"
    return _compared(node, POLICY, policy == node.policy.text, node.policy.digest, file, remedy, adopting)


def _compared(
    node: Node, component: str, same: bool, recorded: str, path: str, remedy: str, adopting: frozenset[str]
) -> Check:
    result = VERIFIED if same else ADOPTING if component in adopting else DIFFERS
    if result == DIFFERS and not takes_files(node):
        raise IntegrityError(
            f"the {component} is not the one that is recorded", where=path, expected=f"{component} {recorded[:16]}",
            found="another", remedy=remedy,
        )  # fmt: skip
    return component, result, recorded, "log"


def check_registry(node: Node) -> Check:
    """Which claws are registered, and which of them are on."""
    return "registry", VERIFIED, _registry_digest(node), "log"


def require_registered(home: Home, node: Node, effective: dict[str, Any]) -> None:
    """Raise ConfigurationError for capabilities of claws that are not registered."""
    unknown = sorted(set(effective["capabilities"]) - set(node.registry)) if node.registry else []
    if unknown:
        raise ConfigurationError(
            "unknown claw", where=f"{home.config_file}: capabilities", expected=", ".join(sorted(node.registry)),
            found=unknown[0],
        )  # fmt: skip


def require_signed_files(home: Home, node: Node, adopting: frozenset[str]) -> None:
    """Raise IntegrityError where a node with operators lacks its index of keys, or what it trusts to run it."""
    if node.control.version and not os.path.lexists(key_index_file(home)):
        raise IntegrityError(
            "the index of the key files is gone", where=key_index_file(home), expected="the index that this node signed",
            found="nothing", remedy="put it back from a backup, after a look at every file in the folder",
        )  # fmt: skip
    if node.control.version and DISTRIBUTION not in adopting and not os.path.lexists(distribution.pin_path(home)):
        raise IntegrityError(
            "what this home trusts to run it is gone", where=distribution.pin_path(home),
            expected="the pin that this node signed", found="nothing",
            remedy="put it back from a backup, or have an operator accept: `femtoclaw distribution accept DIGEST`",
        )  # fmt: skip


def staged(home: Home, effective: dict[str, Any]) -> bool:
    """Whether a file waits for its adoption to be recorded, or was left waiting by a crash."""
    return any(os.path.lexists(path + STAGED) for path in (home.config_file, home.inside(effective["policy"]["file"])))


def stage(path: str, raw: bytes) -> None:
    """Put a file's new content beside it, durably, before its adoption is recorded."""
    write_file(path + STAGED, raw)


def put_in_place(path: str) -> None:
    """Let the staged content take the file's place: what it holds is recorded."""
    os.replace(path + STAGED, path)
    sync_folder(os.path.dirname(path))


def discard(path: str) -> None:
    """Remove the staged content: its adoption was refused. Nothing is done where there is none."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + STAGED)
        sync_folder(os.path.dirname(path))


def settle_staged(home: Home, node: Node, effective: dict[str, Any]) -> bool:
    """Finish what a crash cut between the record of an adoption and its file: staged content takes the file's place when
    it is what the log says is in force, and goes when it is not. True when a file has changed."""
    changed = False
    for path, recorded in (
        (home.config_file, lambda raw: _is_configuration(home, raw, node)),
        (home.inside(effective["policy"]["file"]), lambda raw: raw == node.policy.text.encode()),
    ):
        if not os.path.lexists(path + STAGED):
            continue
        if os.path.islink(path + STAGED) or not os.path.isfile(path + STAGED):
            raise IntegrityError(
                "something stands where a file waits to be adopted", where=path + STAGED,
                expected="a file of this node, or nothing", found="a link or a directory",
                remedy="find out who put it there, and remove it",
            )  # fmt: skip
        raw = read_file(path + STAGED) or b""
        if recorded(raw):
            put_in_place(path)
            changed = True
        else:
            os.unlink(path + STAGED)
    return changed


def _is_configuration(home: Home, raw: bytes, node: Node) -> bool:
    try:
        from femtoclaw.config_sources import gather, resolve_sources

        return config.canonical(resolve_sources(gather(home, file=raw), None)) == node.configuration.content
    except ConfigurationError:
        return False


def _registry_digest(node: Node) -> str:
    from blake3 import blake3

    body = json.dumps([[name, claw.digest, claw.enabled] for name, claw in sorted(node.registry.items())])
    return blake3(b"femtoclaw registry v1\x00" + body.encode()).hexdigest()


def sandbox() -> str:
    """The kernel's part of the sandbox at a glance; ``femtoclaw health`` tries every layer."""
    from femtoclaw.isolation import landlock, seccomp

    version = landlock.abi()
    lacking = [] if version else ["landlock"]
    if seccomp.ours() is None:
        lacking.append("seccomp")
    if lacking:
        return f"MISSING: {', '.join(lacking)}; in secure mode no claw is run (see `femtoclaw health`)"
    return f"landlock ABI {version}, seccomp"


def key_index_file(home: Home) -> str:
    """Where the signed index of the key files is. A node with operators has one: without it nothing says which keys are
    its own."""
    return os.path.join(os.path.dirname(home.key_file), FILE_NAME)


def refuse_root(effective: dict[str, Any]) -> None:
    """Raise ConfigurationError for root where nobody said that it may be root (DEPLOY-11.1)."""
    if privilege() == "system" and not effective["security"]["allow_root"]:
        raise ConfigurationError(
            "the node was started as root", where="security.allow_root", expected="a user with no more rights than it needs",
            found="user 0", remedy="start it as the user who owns the home, or set security.allow_root = true",
        )  # fmt: skip
