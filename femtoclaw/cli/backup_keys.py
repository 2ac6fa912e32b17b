"""``backup keygen``: make a recovery key, and put its public half in force for a node, as an operator's request on record."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from femtoclaw.cli.key_places import refuse_among_keys
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import ConfigurationError, UsageError
from femtoclaw.home import Home, locate

if TYPE_CHECKING:
    from collections.abc import Callable

    from wal.note import PublicKey

RESOURCE = "recovery-key"
"""What the request is about: who may back up says to which key."""


def keygen(arguments: Arguments, output: Output) -> int:
    """Make a pair where --out says, or take the public half that --key names; put that in force where there is a node. 0 done, 1
    the control policy refused it: then nothing was made."""
    from femtoclaw.backup.recovery_key import NAME, PUBLIC_FILE, load_recovery_public
    from femtoclaw.key_file import at_rest, create_key
    from femtoclaw.passphrase import chosen_passphrase

    home = locate(getattr(arguments, "home", None))
    node = os.path.isdir(home.log)
    if (arguments.out is None) == (arguments.key is None) or (arguments.out is None and not node):
        raise UsageError(
            "backup keygen needs --out FILE for a new key, or --key FILE and a node to put that one in force",
            where="backup keygen",
        )
    replaced = _replaced(home, arguments.replace) if node else ""
    if arguments.out is not None and arguments.out.endswith(".pub"):
        raise UsageError(
            "the recovery key would have the name of a public half", where="--out", expected="a name without .pub",
            found=arguments.out, remedy="its public half gets that name: somebody would give away the key",
        )  # fmt: skip
    out = os.path.abspath(arguments.out) if arguments.out is not None else None
    if out is not None:
        refuse_among_keys(home, out)
        make = partial(create_key, out, NAME, chosen_passphrase(out))
    else:
        make = partial(load_recovery_public, arguments.key)
    public, recorded = _in_force(home, arguments, output, make, replaced) if node else (make(), 0)
    kept = at_rest(out) if out is not None else None
    installed = home.inside(PUBLIC_FILE) if node else None
    output.data(
        {"file": out, "public_key": public.vkey(), "at_rest": kept, "installed": installed, "replaced": replaced or None,
         "recorded_at": recorded}
    )  # fmt: skip
    output.line(public.vkey(), "bold")
    output.fields([
        *([("recovery key", out), ("kept", kept)] if out is not None else []), ("public half in the home", installed or "no"),
        *([("recorded at", recorded)] if recorded else []), *([("instead of", replaced)] if replaced else []),
    ])  # fmt: skip
    if replaced:
        output.note("backups that were made before open under the old key alone: keep it as long as one of them")
    if out is not None:
        output.note(
            "take the recovery key away from this machine: without it no backup opens, and with it every one does"
        )
    return 0


def _replaced(home: Home, replace: bool) -> str:
    """The key that another one would replace, empty for none. Raises ConfigurationError unless ``replace``."""
    from femtoclaw.backup.recovery_key import PUBLIC_FILE
    from femtoclaw.home import read_bounded

    path = home.inside(PUBLIC_FILE)
    if not os.path.lexists(path):
        return ""
    found = read_bounded(path, 1024).decode("ascii", "replace").strip()
    if not replace:
        raise ConfigurationError(
            "a recovery key is in force here already", where=path, expected="no recovery key, or --replace", found=found,
            remedy="--replace puts another in force, as an operator's request on record; what was backed up before opens under "
            "the old one alone",
        )  # fmt: skip
    return found


def _in_force(
    home: Home, arguments: Arguments, output: Output, make: Callable[[], PublicKey], replaced: str
) -> tuple[PublicKey, int]:  # fmt: skip
    """Make the key and list its public half in the signed index of the keys, once the control policy has permitted it."""
    from femtoclaw.backup.recovery_key import PUBLIC_NAME
    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.execute import open_node
    from femtoclaw.control import load_cosigners
    from femtoclaw.keys import change_keys
    from femtoclaw.procedures import procedure

    with open_node(getattr(arguments, "home", None), output) as node:
        who, cosigners = signer_of(node, arguments), load_cosigners(home, arguments.cosign)
        with procedure(node.started, who, "backup.create", RESOURCE, cosigners=cosigners) as told:
            told.content = {"in_force": "", "replaced": replaced}  # what failed was no backup either
            public = make()
            change_keys(home, node.started.signer, {PUBLIC_NAME: public.vkey().encode() + b"\n"})
            told.content = {"in_force": public.vkey(), "replaced": replaced}
            told.detail = f"backups are sealed to {public.name}+{public.key_id.hex()} from now on"
        return public, told.ended
