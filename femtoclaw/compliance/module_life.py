"""Measurement of modules on a twin: refused, installed, enabled, called, upgraded and removed, by its operator's commands."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
from typing import Any, NamedTuple

from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.compliance.kit import CHANCE
from femtoclaw.compliance.laboratory import Answer, Laboratory
from femtoclaw.compliance.sample_modules import FOUR, SCHEMA, claw, four
from femtoclaw.compliance.session import Quiet
from femtoclaw.compliance.trails import Trail, read_trail
from femtoclaw.compliance.twin import POLICY, call, twin
from femtoclaw.key_file import SEED_BYTES, KeySigner
from femtoclaw.state import Node
from wal.reader import read_log_directory

NAME, RENAMED, DRIFTING = "sample.life", "sample.other", "sample.drifting"
ENTRY = f"python:m.py:{FOUR}"
SECRET = "twin-secret-5d1f0a7c"
"""What a module tries to bring into its record: it must not be there."""

EXECUTE = """
def femtoclaw_module_execute(request, response):
    import json
    how = json.loads(request.arguments_json)['text']
    if how == 'raises':
        raise RuntimeError('SECRET')
    if how == 'exits':
        import os
        os._exit(3)
    if how == 'hangs':
        while True: pass
    if how == 'tells':
        from femtoclaw.sdk import ClawError, secret
        raise ClawError('it is ' + secret('token'))
    response.status_code, response.result_json = 0, json.dumps({'handle': str(request.execution_id)})
    return 0
""".replace("SECRET", SECRET)
DRIFTS = ("drifts once", "drifts twice", "drifts no more")
WAYS = ("works", "raises", "exits", "hangs", "tells", "works again")


class Life(NamedTuple):
    """What came of it: answers and steps by name; ``standing`` is what must not change (``_standing``), before and after the
    refusals, and before and after the calls that fail; ``rows`` are the telemetry that follows from the log."""

    home: str
    answers: dict[str, Answer]
    steps: dict[str, Any]
    standing: dict[str, Any]
    trail: Trail
    rows: list[tuple[Any, ...]]
    digest: str
    """Of the manifest of the module that was called."""


class Publisher:
    """Somebody with a key who packs modules."""

    def __init__(self, laboratory: Laboratory) -> None:
        self._laboratory = laboratory
        self.signer = KeySigner("acme", os.urandom(SEED_BYTES))

    def pack(self, raw: bytes, entry: str, **fields: Any) -> str:
        """The folder of a signed package of one file. Raises CannotMeasureError."""
        from femtoclaw.modules.drafting import draft, pack
        from femtoclaw.modules.package import Package

        folder = self._laboratory.place("package")
        os.mkdir(folder)
        with open(os.path.join(folder, "m.py"), "wb") as file:
            file.write(raw)
        body = {
            "type": "capability", "name": NAME, "version": "1.0.0", "description": "a sample", "category": "system",
            "arguments": SCHEMA, "permissions": [], "entry": entry, "limits": {"wall_seconds": 0.5},
            "abi": "FC-ABI-1.0.0" if FOUR in entry else "",
        } | fields  # fmt: skip
        with open(os.path.join(folder, "module.json"), "w") as stated:
            json.dump(body, stated)
        drafted = draft(folder)
        if not isinstance(drafted, Package):
            raise CannotMeasureError(f"a sample module cannot be packed: {drafted.code}: {drafted.detail}")
        pack(folder, drafted, self.signer)
        return folder

    def sample(self, name: str = NAME, **fields: Any) -> str:
        """The package of the sample."""
        return self.pack(four(execute=EXECUTE), ENTRY, name=name, **fields)


def module_life(laboratory: Laboratory) -> Life:
    """The life of a module of a trusted publisher, and of others that come no further than the door."""
    home = laboratory.copy(laboratory.once(twin), "modules")
    publisher = Publisher(laboratory)
    answers: dict[str, Answer] = {}
    standing: dict[str, Any] = {}
    run = laboratory.run
    answers["trust"] = run(home, "publisher", "trust", "acme", "--public-key", publisher.signer.public.vkey())
    standing["before refusals"] = _standing(home)
    for name, folder in _refused(publisher).items():
        answers[name] = run(home, "claw", "install", folder)
    standing["after refusals"] = _standing(home)
    whole = publisher.sample(secrets=["token"])
    answers["untested"] = run(home, "claw", "install", whole)
    answers["enable"] = run(home, "claw", "enable", NAME)
    drifting = publisher.pack(claw(CHANCE, name=DRIFTING), "python:m.py:claw", name=DRIFTING, deterministic=True)
    answers["drifting"] = run(home, "claw", "install", drifting)
    answers["enable drifting"] = run(home, "claw", "enable", DRIFTING)
    answers["secret"] = run(home, "secret", "set", "token", stdin=SECRET.encode())
    answers["grant"] = run(home, "secret", "grant", "token", NAME)
    answers["policy"] = run(home, "policy", "set", _policy(laboratory, (NAME, DRIFTING)))
    standing["before calls"] = _standing(home)
    steps = _called(home)
    standing["after calls"] = _standing(home)
    _upgraded(laboratory, home, publisher, answers)
    trail = read_trail("twin", os.path.join(home, "log"))
    digest = next((each.event.manifest_digest for each in trail.of("ModuleCalled")), "")
    return Life(home, answers, steps, standing, trail, _telemetry(home), digest)


def _refused(publisher: Publisher) -> dict[str, str]:
    """Packages that a trusted publisher signed and that are refused all the same, by what is wrong."""
    return {
        "init fails": publisher.pack(four(init="def femtoclaw_module_init(context): return 1"), ENTRY),
        "another arity": publisher.pack(four(init="def femtoclaw_module_init(): return 0"), ENTRY),
        "a taken name": publisher.pack(claw("return {}", name="fs.read"), "python:m.py:claw", name="fs.read"),
    }


def _policy(laboratory: Laboratory, names: tuple[str, ...]) -> str:
    path = laboratory.place("modules.cedar")
    permits = "".join(f'@id("{name}") permit (principal, action == Action::"{name}", resource);\n' for name in names)
    with open(path, "w") as file:
        file.write(POLICY + permits)
    return path


def _called(home: str) -> dict[str, Any]:
    """The sample in every way, and a claw that is declared deterministic and answers otherwise each time."""
    from femtoclaw.cli.execute import at_rest, open_node

    with open_node(home, Quiet()) as opened:
        runtime = at_rest(opened, "comply").runtime
        steps = {way: runtime.intent(call(NAME, text=way)) for way in WAYS}
        for time in DRIFTS:
            steps[time] = runtime.intent(call(DRIFTING, text="word"))
    return steps


def _upgraded(laboratory: Laboratory, home: str, publisher: Publisher, answers: dict[str, Answer]) -> None:
    """The next version has another name; the earlier one is taken out of the node."""
    run = laboratory.run
    answers["renamed"] = run(home, "claw", "install", publisher.sample(RENAMED, version="1.1.0"))
    answers["call renamed"] = run(home, "intent", call(RENAMED, text="word").decode())
    answers["disable"] = run(home, "claw", "disable", NAME)
    answers["policy without"] = run(home, "policy", "set", _policy(laboratory, ()))
    answers["remove"] = run(home, "claw", "remove", NAME)
    answers["list"] = run(home, "claw", "list")
    answers["verify"] = run(home, "verify")


def _standing(home: str) -> dict[str, Any]:
    """Registry, policy, configuration, publishers and operators, as the log has them."""
    from femtoclaw.cli.recorded_state import recorded_state
    from femtoclaw.home import Home

    node: Node = recorded_state(Home(home)).node
    return {
        "registry": {name: (known.digest, known.enabled) for name, known in sorted(node.registry.items())},
        "policy": node.policy.digest, "configuration": node.configuration.digest,
        "publishers": sorted(node.publishers), "operators": sorted(node.operators),
    }  # fmt: skip


def _telemetry(home: str) -> list[tuple[Any, ...]]:
    """The telemetry rows that follow from the twin's log."""
    from femtoclaw.projections.derivation import Progress, take_all

    reader = read_log_directory(os.path.join(home, "log"))
    try:
        return list(take_all(Progress(), reader.scan(1)).telemetry)
    finally:
        reader.close()
