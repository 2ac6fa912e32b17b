"""``witness``: a process that cosigns the checkpoints of others' logs; and ``verify --fork``, for proofs against a log's key.

A witness has a directory of its own, and a key of its own. It should run on another machine, and be run by somebody else,
than the logs that it watches: that is what its word is worth.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable, program
from femtoclaw.errors import UsageError
from femtoclaw.home import read_bounded

if TYPE_CHECKING:
    from femtoclaw.key_file import KeySigner
    from wal.cosignature import CosignerKey

KEY_FILE = "witness.key"


def witness(arguments: Arguments, output: Output) -> int:
    """``init DIR``, ``serve DIR``, ``add-log DIR ORIGIN VKEY``, ``key DIR``."""
    acts = {"init": _init, "serve": _serve, "add-log": _add_log, "key": _key}
    given = arguments.origin is not None, arguments.vkey is not None
    if given != ((True, True) if arguments.what == "add-log" else (False, False)):
        raise UsageError(
            f"witness {arguments.what} takes other arguments", expected="add-log DIR ORIGIN VKEY; all others only DIR"
        )
    if arguments.what != "init" and (arguments.name is not None or arguments.listen is not None):
        raise UsageError("--name and --listen are for init", remedy="to listen elsewhere, edit witness.toml")
    return acts[arguments.what](os.path.abspath(arguments.directory), arguments, output)


def _init(folder: str, arguments: Arguments, output: Output) -> int:
    """Make key and configuration. With FEMTOCLAW_PASSPHRASE the key is encrypted."""
    from cluster.witness_config import DEFAULT_LISTEN
    from cluster.witness_store import create_witness
    from femtoclaw.key_file import SEED_BYTES, seal
    from femtoclaw.passphrase import chosen_passphrase
    from wal.cosignature import cosigner_of
    from wal.durable_file import write_file
    from wal.note import Ed25519Signer

    path = os.path.join(folder, KEY_FILE)
    if os.path.lexists(path):
        raise UsageError("there is a key already", where=path, remedy="nothing replaces a key unasked: use another DIR")
    name, seed = arguments.name or f"femtoclaw.witness/{os.urandom(16).hex()}", os.urandom(SEED_BYTES)
    own = cosigner_of(Ed25519Signer(name, seed).public)
    content = seal(name, seed, chosen_passphrase(path))
    create_witness(folder, own, arguments.listen or DEFAULT_LISTEN, lambda: write_file(path, content))
    output.data({"directory": folder, "name": name, "public_key": own.vkey()})
    output.line(f"a witness in {folder}", "green")
    output.fields([("public key", own.vkey())])
    output.note("add a log with `femtoclaw witness add-log DIR ORIGIN VKEY`, then `femtoclaw witness serve DIR`")
    return 0


def _add_log(folder: str, arguments: Arguments, output: Output) -> int:
    """Watch a log, or trust one more key of one."""
    from cluster.witness_store import add_log
    from femtoclaw.cli.evidence import trusted_key

    key = trusted_key(arguments.vkey)
    new = add_log(folder, arguments.origin, key)
    output.data({"origin": arguments.origin, "public_key": key.vkey(), "new": new})
    output.line(f"{'trusts' if new else 'already trusted'} {key.vkey()} for {printable(arguments.origin)}", "green")
    return 0


def _key(folder: str, arguments: Arguments, output: Output) -> int:
    """The public key, for those who rely on this witness; needs no passphrase."""
    from cluster.witness_store import read_witness

    config, own = read_witness(folder)
    output.data({"name": own.name, "public_key": own.vkey(), "logs": sorted(config.logs)})
    output.line(own.vkey())
    return 0


def _serve(folder: str, arguments: Arguments, output: Output) -> int:
    """Answer until SIGTERM or SIGINT."""
    import signal
    import threading
    import time

    from cluster.witness_server import Witness, WitnessServer, serve
    from cluster.witness_store import open_witness
    from femtoclaw.keys import protect_process

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    protect_process()
    store = open_witness(folder)
    try:
        at_work = Witness(store, _signer(folder, store.own), lambda: int(time.time()), output.note)
        server = WitnessServer(at_work, store.config.host, store.config.port)
        output.data({"name": store.own.name, "url": server.url, "logs": len(store.config.logs)})
        output.line(f"witness {store.own.name} of {len(store.config.logs)} logs listens on {server.url}", "green")
        serve(server, stop)
    finally:
        store.close()
    return 0


def _signer(folder: str, own: CosignerKey) -> KeySigner:
    from femtoclaw.key_file import open_key, read_key_file
    from femtoclaw.passphrase import node_passphrase
    from wal.note import public_key

    path = os.path.join(folder, KEY_FILE)
    return open_key(read_key_file(path), path, node_passphrase, public_key(own.name, own.raw))


def verify_fork(arguments: Arguments, output: Output) -> int:
    """Check a fork proof offline: 0 when it convicts the key, 3 (ForkProofError) when it proves nothing."""
    from femtoclaw.cli.evidence import trusted_key
    from wal.fork_proof import FORK_PROOF_BYTES_MAX, parse_fork_proof, verify_fork_proof

    if arguments.bundle is not None or arguments.checkpoint is not None or arguments.deep:
        raise UsageError("--fork goes with --key only", where="verify --fork")
    key = trusted_key(arguments.key) if arguments.key is not None else None
    fork = verify_fork_proof(parse_fork_proof(read_bounded(arguments.fork, FORK_PROOF_BYTES_MAX)), key)
    body: dict[str, Any] = {
        "fork": True,
        "origin": fork.origin,
        "signer": fork.key.vkey(),
        "trusted": key is not None,
        "first": {"size": fork.first.size, "root": fork.first.root.hex()},
        "second": {"size": fork.second.size, "root": fork.second.root.hex()},
        "second_root_at_first_size": fork.root.hex(),
    }
    output.data(body)
    output.line(f"proven: {printable(fork.key.name)} signed two histories of {printable(fork.origin)}", "red")
    output.fields(
        [
            ("signer", fork.key.vkey()),
            ("one", f"size {fork.first.size}, root {fork.first.root.hex()}"),
            ("other", f"size {fork.second.size}, root {fork.second.root.hex()}"),
        ]
    )
    if fork.second.size != fork.first.size:
        output.fields([(f"the other at size {fork.first.size}", fork.root.hex())])
    if key is None:
        output.note(
            "the key is the one in the file: compare it with the log's, or run "
            f"{program()} verify --fork FILE --key KEY with the one that you trust"
        )
    return 0
