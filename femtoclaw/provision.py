"""``init``: make a node's home, whole or recognisably unfinished (``femtoclaw.place``)."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.

import json
import os
import sys
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw import commands, config, distribution
from femtoclaw.authority import Authority
from femtoclaw.carrying import Part, steps
from femtoclaw.claws import SHIPPED
from femtoclaw.control_policy import ROLES
from femtoclaw.errors import ConfigurationError, UnavailableError
from femtoclaw.home import (
    DIRECTORY_MODE,
    PLACE_REMEDY,
    Home,
    claw_names,
    effective_configuration,
    policy_text,
    refuse_overlap,
    resolved_configuration,
)
from femtoclaw.key_file import SEED_BYTES, KeySigner, seal
from femtoclaw.keys import write_index
from femtoclaw.passphrase import chosen_passphrase
from femtoclaw.place import unfinished
from femtoclaw.policy import engine_version
from femtoclaw.settings import check_path
from femtoclaw.sources import Sources
from femtoclaw.state import EMPTY
from femtoclaw.version import VERSION
from wal import Genesis, create_log_directory, open_log_directory
from wal.durable_file import sync_folder
from wal.note import PublicKey, Signer

ENABLE_HELP = """\
# FemtoClaw configuration. Every key that is not here has its embedded default (see docs/configuration.md).
# A claw runs only when it is enabled here AND permitted by the policy. In secure mode a changed file stops the next
# start until an operator has adopted it: `femtoclaw config set`, `femtoclaw policy set FILE`.

[runtime]
mode = "{mode}"
environment = "production"
steps_max = 16

[policy]
file = "policy.cedar"

[security]
workspace = "workspace"
"""


def initialize(
    home: Home, *, enable: list[str], binaries: list[str], policy: str, operator: str, sources: Sources,
    mode: str = config.SECURE,
) -> dict[str, Any]:  # fmt: skip
    """Provision a node in a new or an empty directory; return its manifest: the six artifacts with their hashes
    (DEPLOY-2.1). Missing parents are made for their owner alone.

    Raises ConfigurationError when something is there already or an input is wrong, UnavailableError when the place
    cannot be written. Nothing is left behind then, except parents; what a crash leaves, the next call removes.
    """
    _check_inputs(enable, binaries, sources)
    place = Home(os.path.realpath(home.path))
    try:
        with unfinished(place):
            manifest = _build(place, _settings(mode) + _capabilities(enable, binaries), policy, operator, sources)
    except OSError as error:
        raise UnavailableError(
            "the home cannot be made", where=home.path, found=error.strerror, remedy=PLACE_REMEDY
        ) from error
    return manifest | {"home": home.path}


def _check_inputs(enable: list[str], binaries: list[str], sources: Sources) -> None:
    known = claw_names(SHIPPED)
    for name in enable:
        if name not in known:
            raise ConfigurationError("unknown claw", where="--enable", expected=", ".join(sorted(known)), found=name)
    for path in binaries:
        check_path(path, "--binary")
        if not os.path.isfile(path) or not os.access(path, os.X_OK):
            raise ConfigurationError(
                "no such program", where="--binary", expected="a file that may be executed", found=path
            )
    if sources.wall_ns() < 0:
        raise ConfigurationError(
            "the clock is before 1970", where="the machine's clock", expected="a time that a record can hold",
            remedy="set the clock; what a node records is dated",
        )  # fmt: skip


def _build(home: Home, settings: str, policy: str, operator: str, sources: Sources) -> dict[str, Any]:
    nonce = os.urandom(16)
    origin = f"femtoclaw.log/{nonce.hex()}"
    seed, owner_seed = os.urandom(SEED_BYTES), os.urandom(SEED_BYTES)
    signer, owner = KeySigner(origin, seed), KeySigner(operator, owner_seed)
    _write(home.config_file, settings.encode())
    _write(os.path.join(home.path, "policy.cedar"), policy.encode())
    _write_keys(home, signer, seed, owner, owner_seed)
    distribution.pin(home, signer)
    effective = resolved_configuration(home, claw_names(SHIPPED))
    workspace = home.inside(effective["security"]["workspace"])
    refuse_overlap(home, workspace)
    os.mkdir(workspace, DIRECTORY_MODE)
    genesis = Genesis(origin, signer.public, nonce)
    manifest = reprovision(home, home.log, genesis, signer, first_inheritance(home, owner.public), sources)
    _write(home.manifest_file, json.dumps(manifest, indent=2, sort_keys=True).encode() + b"\n")
    sync_folder(home.path)
    return manifest


def _write_keys(home: Home, signer: KeySigner, seed: bytes, owner: KeySigner, owner_seed: bytes) -> None:
    """The node's key and its first operator's, encrypted where there is a passphrase for it, and their index."""
    passphrase = chosen_passphrase(home.key_file)
    _write(home.key_file, seal(signer.public.name, seed, passphrase))
    _write(home.public_key_file, signer.public.vkey().encode() + b"\n", 0o644)
    name = owner.public.name
    _write(os.path.join(home.operators, f"{name}.key"), seal(name, owner_seed, passphrase))
    _write(os.path.join(home.operators, f"{name}.pub"), owner.public.vkey().encode() + b"\n", 0o644)
    write_index(home, signer)
    sync_folder(home.operators)
    sync_folder(os.path.dirname(home.key_file))


class Inheritance(NamedTuple):
    """What a log begins with: operators (flat, as in ``commands.Provision``), and the texts that are put in force."""

    operator: str
    operators: tuple[str, ...]
    control: str
    configuration: bytes
    policy: str
    parts: tuple[Part, ...] = ()
    """What was in force in the log that this one quotes."""


def first_inheritance(home: Home, owner: PublicKey) -> Inheritance:
    """A new node's: one operator with every role, the shipped control policy, the home's own files."""
    effective = effective_configuration(home, claw_names(SHIPPED))
    operators = (owner.name, owner.vkey(), ",".join(sorted(ROLES)))
    content = config.canonical(effective)
    return Inheritance(owner.name, operators, default_control(), content, policy_text(home, effective))


def reprovision(
    home: Home, path: str, genesis: Genesis, signer: Signer, inheritance: Inheritance, sources: Sources
) -> dict[str, Any]:
    """Make a log at ``path`` and record identity, operators, claws, control policy, configuration and policy in it."""
    map_bytes = json.loads(inheritance.configuration)["memory"]["map_bytes"]
    create_log_directory(path, genesis, signer=signer, clock=sources.wall_ns, map_bytes=map_bytes)
    log, _ = open_log_directory(path, signer=signer, clock=sources.wall_ns, threaded=False)
    try:
        authority = Authority(log, EMPTY)
        runtime_id, operator = sources.new_id(), inheritance.operator
        authority.perform(commands.Provision(runtime_id, VERSION, operator, inheritance.operators))
        authority.perform(commands.AdoptControlPolicy(inheritance.control, engine_version(), operator))
        for claw in SHIPPED:
            authority.perform(commands.RegisterClaw(claw.canonical()))
        for part in steps(inheritance.parts, sources.wall_ns()):
            authority.perform(part)
        authority.perform(commands.AdoptConfiguration(inheritance.configuration, operator))
        authority.perform(commands.AdoptPolicy(inheritance.policy, engine_version(), operator))
        return _manifest(home, authority, runtime_id, genesis.origin, signer.public.vkey())
    finally:
        log.close()


def default_control() -> str:
    """The control policy that a new node begins with."""
    with open(os.path.join(os.path.dirname(__file__), "policies", "control.cedar")) as file:
        return file.read()


def _settings(mode: str) -> str:
    """The TOML that every home begins with. Root is allowed where root makes the home: that is somebody's decision."""
    text = ENABLE_HELP.replace("{mode}", mode)
    return text + ("allow_root = true\n" if os.geteuid() == 0 else "")


def _capabilities(enable: list[str], binaries: list[str]) -> str:
    """The TOML for the claws that are enabled from the beginning."""
    lines: list[str] = []
    for name in dict.fromkeys(enable):
        lines.append(f'\n[capabilities."{name}"]\nenabled = true')
        if name == "shell":
            lines.append(f"settings = {{ binaries = {json.dumps(binaries)} }}")
    return "\n".join(lines) + "\n" if lines else ""


def _manifest(home: Home, authority: Authority, runtime_id: str, origin: str, vkey: str) -> dict[str, Any]:
    node = authority.state.node
    package = os.path.dirname(os.path.abspath(__file__))
    return {
        "runtime_id": runtime_id,
        "version": VERSION,
        "python": sys.version.split()[0],
        "log": origin,
        "public_key": vkey,
        "artifacts": {
            "distribution": distribution_digest(package),
            "configuration": node.configuration.digest,
            "policy": node.policy.digest,
            "capability_modules": {name: claw.digest for name, claw in sorted(node.registry.items())},
            "memory_store": "log",
            "telemetry_store": os.path.relpath(home.index_file, home.path),
        },
    }


def distribution_digest(package: str) -> str:
    """BLAKE3 over the names and bytes of the installed package's Python files, in name order."""
    hasher = blake3(b"femtoclaw distribution v1\x00")
    root = os.path.dirname(package)
    for name in ("wal", "cluster", "femtoclaw"):
        for folder, folders, files in os.walk(os.path.join(root, name)):
            folders.sort()
            for file in sorted(files):
                if file.endswith((".py", ".cedar")):
                    path = os.path.join(folder, file)
                    hasher.update(os.path.relpath(path, root).encode() + b"\x00")
                    with open(path, "rb") as source:
                        hasher.update(source.read())
    return hasher.hexdigest()


def _write(path: str, raw: bytes, mode: int = 0o600) -> None:
    os.makedirs(os.path.dirname(path), DIRECTORY_MODE, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
