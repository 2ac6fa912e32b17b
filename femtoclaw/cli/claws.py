"""``claw``: what is registered here, and what a publisher does: pack, verify and test a module without a node."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable
from femtoclaw.errors import ConfigurationError, UsageError
from femtoclaw.home import Home, locate

if TYPE_CHECKING:
    from femtoclaw.key_file import KeySigner
    from femtoclaw.manifest import Manifest
    from femtoclaw.modules.package import Package
    from femtoclaw.state import Node
    from wal.note import PublicKey


def claw(arguments: Arguments, output: Output) -> int:
    """``list``, ``show NAME``; ``pack|verify|test DIR``; ``install DIR``; ``enable|disable|remove NAME``."""
    if arguments.what in ("install", "enable", "disable", "remove"):
        from femtoclaw.cli import claw_changes

        return int(getattr(claw_changes, arguments.what)(arguments, output))
    acts = {"list": _list, "show": _show, "pack": _pack, "verify": _verify, "test": _test}
    return acts[arguments.what](arguments, output)


def target_of(arguments: Arguments, expected: str) -> str:
    """The positional behind the sub-command. Raises UsageError without one."""
    if not arguments.target:
        raise UsageError("what is meant?", where=f"claw {arguments.what}", expected=expected)
    return str(arguments.target)


def folder_of(arguments: Arguments) -> str:
    """The module's folder. Raises UsageError when it is none."""
    folder = target_of(arguments, "the DIR of a module")
    if not os.path.isdir(folder):
        raise UsageError("there is no such folder", where=folder, expected="the folder of a module")
    return folder


def _list(arguments: Arguments, output: Output) -> int:
    node = _recorded(arguments)
    rows = [_row(node, name) for name in sorted(node.registry)]
    output.data({"claws": rows, "classes": classes(rows)})
    for row in rows:
        state = "enabled" if row["enabled"] else "disabled"
        origin = f"module of {row['publisher']}" if row["publisher"] else "part of the program"
        output.line(f"{row['name']:<24} {row['version']:<10} {state:<9} {origin}", "" if row["enabled"] else "dim")
    for name, known in classes(rows).items():
        if not known["claws"]:
            output.line(f"class {name}: {known['reason']}", "dim")
    return 0


def classes(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each class of claws with those that are of it; of a class without one, why (CLAW-19.1)."""
    from femtoclaw.manifest import CATEGORIES

    found = {name: [row["name"] for row in rows if row["category"] == name] for name in CATEGORIES}
    return {
        name: {"claws": claws, "reason": "" if claws else "none is shipped, and no module of it is installed"}
        for name, claws in found.items()
    }


def _show(arguments: Arguments, output: Output) -> int:
    home, node, name = locate(getattr(arguments, "home", None)), _recorded(arguments), target_of(arguments, "a NAME")
    if name not in node.registry:
        raise ConfigurationError(
            "no such claw is registered", where="claw show", expected=", ".join(sorted(node.registry)) or "a claw",
            found="another name", remedy="see `femtoclaw claw list`",
        )  # fmt: skip
    row = _row(node, name)
    manifest = _manifest(node, name)
    fault = _fault(home, manifest) if row["publisher"] else ""
    if row["publisher"]:
        row["files"] = dict(manifest.files)
        row["files_fault"] = fault
    output.data(row)
    output.line(name, "bold")
    output.fields([(key, _plain(value)) for key, value in row.items() if key not in ("name", "files", "arguments")])
    return 3 if fault else 0


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _fault(home: Home, manifest: Manifest) -> str:
    from femtoclaw.modules.store import verify_installed

    found = verify_installed(home.modules, manifest)
    return f"{found.code}: {found.detail}" if found is not None else ""


def _row(node: Node, name: str) -> dict[str, Any]:
    known, manifest = node.registry[name], _manifest(node, name)
    return {
        "name": name,
        "version": manifest.version,
        "description": manifest.description,
        "category": manifest.category,
        "enabled": known.enabled,
        "publisher": known.publisher,
        "digest": known.digest,
        "entry": manifest.entry,
        "permissions": list(manifest.permissions),
        "secrets": list(manifest.secrets),
        "arguments": manifest.arguments,
    }


def _manifest(node: Node, name: str) -> Manifest:
    from femtoclaw.recorded import recorded_manifest

    return recorded_manifest(name, node.registry[name].manifest)


def _recorded(arguments: Arguments) -> Node:
    """The node as the log has it. Raises ConfigurationError without a home."""
    from femtoclaw.cli.recorded_state import recorded_state

    return recorded_state(locate(getattr(arguments, "home", None))).node


def _signer(arguments: Arguments) -> KeySigner:
    """The publisher's own key, from --key."""
    from femtoclaw.key_file import open_key, read_key_file
    from femtoclaw.passphrase import operator_passphrase

    if not arguments.key:
        raise UsageError(
            "whose module is it?", where=f"claw {arguments.what}", expected="--key FILE",
            remedy="make a key with `femtoclaw operator keygen NAME --out FILE`",
        )  # fmt: skip
    return open_key(read_key_file(arguments.key), arguments.key, operator_passphrase)


def _drafted(arguments: Arguments) -> Package:
    """The folder with a manifest that lists its files. Raises ModuleRejectedError."""
    from femtoclaw.modules.drafting import draft
    from femtoclaw.modules.refusal import ModuleRejectedError, Refusal

    package = draft(folder_of(arguments), arguments.entry or "")
    if isinstance(package, Refusal):
        raise ModuleRejectedError(package)
    return package


def _pack(arguments: Arguments, output: Output) -> int:
    """Write module.json and module.sig; what would be refused at installation is refused here."""
    from femtoclaw.modules.drafting import pack
    from femtoclaw.modules.refusal import ModuleRejectedError, Refusal
    from femtoclaw.modules.verification import verify_folder

    signer, package = _signer(arguments), _drafted(arguments)
    pack(folder_of(arguments), package, signer)
    found = verify_folder(folder_of(arguments), [signer.public])
    if isinstance(found, Refusal):
        raise ModuleRejectedError(found)
    _tell(output, package.manifest, signer.public)
    return 0


def _verify(arguments: Arguments, output: Output) -> int:
    """Exactly what an installation does before it changes anything: 0, or 3 with the refusal's code."""
    from femtoclaw.modules.probe import probe
    from femtoclaw.modules.refusal import ModuleRejectedError, Refusal
    from femtoclaw.modules.verification import verify_folder

    trusted = [_key(text) for text in arguments.publisher] or _node_publishers(arguments)
    found = verify_folder(folder_of(arguments), trusted)
    tried = found if isinstance(found, Refusal) else probe(found.manifest, found.files)
    if isinstance(found, Refusal):
        raise ModuleRejectedError(found)
    if isinstance(tried, Refusal):
        raise ModuleRejectedError(tried)
    _tell(output, found.manifest, found.publisher)
    return 0


def _tell(output: Output, manifest: Manifest, publisher: PublicKey) -> None:
    body = {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest(),
        "publisher": publisher.vkey(),
        "entry": manifest.entry,
        "permissions": list(manifest.permissions),
        "secrets": list(manifest.secrets),
        "files": len(manifest.files),
    }
    output.data(body)
    output.line(f"ok: {manifest.name} {manifest.version}", "green")
    output.fields([(name, _plain(value)) for name, value in body.items() if name not in ("name", "version")])


def _key(text: str) -> PublicKey:
    from femtoclaw.keys import load_public_key, parse_public_key

    return load_public_key(text) if os.path.isfile(text) else parse_public_key(text, "--publisher")


def _node_publishers(arguments: Arguments) -> list[PublicKey]:
    home = locate(getattr(arguments, "home", None))
    if not os.path.exists(home.config_file):
        raise UsageError(
            "whose signature is trusted?",
            where="claw verify",
            expected="--publisher KEY, or a node that trusts somebody",
        )
    return list(publishers(_recorded(arguments)).values())


def publishers(node: Node) -> dict[str, PublicKey]:
    """Those whom the node trusts, by name."""
    from wal.note import PublicKey

    return {name: PublicKey.parse(key) for name, key in sorted(node.publishers.items())}


def _test(arguments: Arguments, output: Output) -> int:
    """The four groups in the real sandbox; with --key the result is signed and written beside the module."""
    from femtoclaw.sdk.results import write_result
    from femtoclaw.sdk.testing import ClawTester, summary

    signer = _signer(arguments) if arguments.key else None
    with ClawTester(folder_of(arguments), entry=arguments.entry or "") as tester:
        manifest, checks = tester.package.manifest, tester.check()
    groups = summary(checks)
    passed = all(right == count > 0 for right, count in groups.values())
    output.data(
        {
            "name": manifest.name,
            "digest": manifest.digest(),
            "passed": passed,
            "groups": {name: {"passed": right, "of": count} for name, (right, count) in groups.items()},
            "failed": [check._asdict() for check in checks if not check.passed],
        }
    )
    for name, (right, count) in groups.items():
        told = f"{right} of {count}" if count else "not tested: module.tests.json has no case for it"
        output.line(f"  {name:<10} {told}", "green" if right == count > 0 else "red")
    for check in checks:
        if not check.passed:
            output.line(f"    {check.group}: {printable(check.name)}: {printable(check.detail)}", "red")
    if signer is not None:
        write_result(folder_of(arguments), manifest, groups, signer)
    return 0 if passed else 1
