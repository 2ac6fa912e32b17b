"""``claw install|enable|disable|remove``: changes of the registry, each an operator's signed request.

A module's files are verified, tried out and put into the store before the request is made, and taken away again when it
is refused: what the log says is installed is there. A refusal by verification is recorded, too.
"""

from __future__ import annotations

from typing import Any

from femtoclaw import config
from femtoclaw.cli.asking import Content, ask, change, tell
from femtoclaw.cli.claws import folder_of, publishers, target_of
from femtoclaw.cli.execute import LocalNode, Node, at_rest, open_node
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import ConfigurationError
from femtoclaw.home import read_bounded
from femtoclaw.integrity import CONFIGURATION, put_in_place, stage
from femtoclaw.manifest import Manifest, manifest_from_canonical
from femtoclaw.modules.probe import probe
from femtoclaw.modules.recording import record
from femtoclaw.modules.refusal import ModuleRejectedError, Refusal
from femtoclaw.modules.store import install_files, remove_files, verify_installed
from femtoclaw.modules.verification import Verified, verify_folder
from femtoclaw.sdk.results import has_passed
from femtoclaw.switching import switched

CONFIGURATION_BYTES_MAX = 1024 * 1024


def install(arguments: Arguments, output: Output) -> int:
    """0 when the module is registered, 1 when the request was refused, 3 when the module was."""
    folder = folder_of(arguments)
    with open_node(getattr(arguments, "home", None), output) as opened:
        node = at_rest(opened, "claw install")
        state, home = node.started.authority.state.node, node.started.home
        trusted = publishers(state)
        shipped = {name for name, known in state.registry.items() if not known.publisher}
        found = verify_folder(folder, list(trusted.values()), taken=shipped)
        tried = found if isinstance(found, Refusal) else probe(found.manifest, found.files)
        if isinstance(tried, Refusal):
            raise rejected(node, tried)
        assert isinstance(found, Verified)
        manifest = found.manifest
        if not has_passed(folder, manifest, [found.publisher]):
            output.note(f"{manifest.name}: no signed test result of its publisher (see `femtoclaw claw test --key`)")
        before = state.registry.get(manifest.name)
        install_files(home.modules, manifest, found.files)
        content = {
            "manifest": manifest.canonical().decode(),
            "publisher": next(name for name, key in trusted.items() if key == found.publisher),
            "signature": found.signature.decode(),
        }
        try:
            asked = ask(node, arguments, "claw.install", manifest.name, content)
        finally:
            _forget(node, before.digest if before is not None else "", manifest)
        return tell(asked, output, "claw.install", manifest.name)


def _forget(node: Node, before: str, manifest: Manifest) -> None:
    """Take away the files that no registered claw has: of a refused request the new ones, else those before."""
    known = node.started.authority.state.node.registry.get(manifest.name)
    for digest in {before, manifest.digest()} - {known.digest if known is not None else ""} - {""}:
        remove_files(node.started.home.modules, digest)


def rejected(node: LocalNode, refusal: Refusal) -> ModuleRejectedError:
    """Have the refusal recorded. Returns the error to raise."""
    record(node.started.authority, refusal)
    return ModuleRejectedError(refusal)


def remove(arguments: Arguments, output: Output) -> int:
    """Take a module's claw out of the registry; it must be disabled before."""
    name = target_of(arguments, "the NAME of a claw")
    digests: list[str] = []

    def before(node: Node) -> None:
        known = node.started.authority.state.node.registry.get(name)
        digests.extend([known.digest] if known is not None and known.publisher else [])

    def after(node: Node) -> None:
        for digest in digests:
            remove_files(node.started.home.modules, digest)

    return change(arguments, output, "claw.remove", name, lambda node: {}, before=before, after=after)


def enable(arguments: Arguments, output: Output) -> int:
    """Let policy permit calls of a claw; a module's files are verified first."""
    return _switch(arguments, output, wanted=True)


def disable(arguments: Arguments, output: Output) -> int:
    """Refuse every call of a claw, whatever policy says."""
    return _switch(arguments, output, wanted=False)


def _switch(arguments: Arguments, output: Output, *, wanted: bool) -> int:
    name = target_of(arguments, "the NAME of a claw")
    made: dict[str, bytes] = {}

    def content(node: Node) -> Content:
        _check_files(node, name, wanted)
        home, registry = node.started.home, frozenset(node.started.authority.state.node.registry)
        text = switched(read_bounded(home.config_file, CONFIGURATION_BYTES_MAX), name, wanted)
        made["file"] = text
        return config.canonical(config.resolve(config.parse_toml(text, home.config_file), home.config_file, registry))

    return change(
        arguments, output, "claw.enable" if wanted else "claw.disable", name, content, adopting=frozenset({CONFIGURATION}),
        before=lambda node: stage(node.started.home.config_file, made["file"]),
        after=lambda node: put_in_place(node.started.home.config_file),
    )  # fmt: skip


def _check_files(node: Node, name: str, wanted: bool) -> None:
    registry = node.started.authority.state.node.registry
    if name not in registry:
        raise ConfigurationError(
            "no such claw is registered", where="claw", expected=", ".join(sorted(registry)), found="another name"
        )
    if wanted and registry[name].publisher and isinstance(node, LocalNode):  # who serves a node looks itself
        fault: Any = verify_installed(node.started.home.modules, manifest_from_canonical(registry[name].manifest))
        if fault is not None:
            raise rejected(node, fault)
