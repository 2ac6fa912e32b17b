"""What a permitted control request does: its content becomes events. Pure.

Each effect takes a ``Request`` and returns events, or, for a request that the rules refuse though the operator may make
it, a stable code. It raises ConfigurationError or PolicyError for content that cannot come into force.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw import approvals, commands, config, events, operations
from femtoclaw.adoption import adopt_configuration, adopt_policy, may_be_enabled, whole_configuration
from femtoclaw.control_policy import ROLES, load_control
from femtoclaw.engines import EngineCache, load_policy, registrable
from femtoclaw.errors import ConfigurationError, PolicyError
from femtoclaw.events import Event
from femtoclaw.recorded import recorded_manifest
from femtoclaw.state import Claw, Node, State
from femtoclaw.statement import statement, verify_statement

OPERATORS_MAX = 256
PUBLISHERS_MAX = 256
SECRETS_MAX = 1024
SUBJECTS_MAX = 100_000
REASON_CHARACTERS_MAX = 1000
LINE_CHARACTERS_MAX = 200

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_SECRET = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_DIGEST = re.compile("[0-9a-f]{64}")

Effects = list[Event] | str


class Request(NamedTuple):
    """A permitted request, in the state in which it is decided."""

    state: State
    command: commands.Control
    engines: EngineCache


def _policy_set(request: Request) -> Effects:
    body = _content(request, {"text": str, "engine": str, "report": str, "flips": list})
    return adopt_policy(request.state.node, body["text"], _line(body["engine"]), request.command.operator)


def _control_set(request: Request) -> Effects:
    body = _content(request, {"text": str, "engine": str})
    node, text = request.state.node, body["text"]
    digest = load_control(text).digest
    if not repairable(node, text):
        raise PolicyError(
            "nobody could change this control policy again", expected="an active operator with control.set",
            found="none", remedy="permit `control.set` and `operator.add` to a role that somebody holds",
        )  # fmt: skip
    current = node.control
    adopted = events.ControlPolicyAdopted(
        current.version + 1, digest, text, _line(body["engine"]), current.digest, request.command.operator
    )
    return [adopted]


def repairable(node: Node, text: str, without: str = "") -> bool:
    """Whether some active operator other than ``without`` may change the control policy, and some may add operators."""
    engine = load_control(text)
    active = [(name, each) for name, each in node.operators.items() if each.active and name != without]
    return all(
        any(engine.evaluate(name, each, action, "node").allowed for name, each in active)
        for action in ("control.set", "operator.add")
    )


def _configuration_set(request: Request) -> Effects:
    content, node = request.command.content, request.state.node
    before, after = _in_force(node), whole_configuration(node, content)
    if after["runtime"]["mode"] != before["runtime"]["mode"] and before["runtime"]["mode"] == "secure":
        return "MODE_IS_FIXED"
    if _switches(before) != _switches(after):
        return "SWITCHES_CLAWS"
    return adopt_configuration(node, content, request.command.operator)


def _claw_switched(request: Request) -> Effects:
    """``claw.enable`` and ``claw.disable``: a configuration that differs from the one in force in that switch alone."""
    node, name = request.state.node, request.command.resource
    if name not in node.registry:
        return "NOT_REGISTERED"
    wanted = request.command.action == "claw.enable"
    if wanted and not may_be_enabled(node, name):
        return "PUBLISHER_NOT_TRUSTED"
    before, after = _in_force(node), whole_configuration(node, request.command.content)
    entry = before["capabilities"].setdefault(name, {"enabled": False, "settings": {}})
    entry["enabled"] = wanted
    if before != after:
        return "CHANGES_MORE_THAN_THE_SWITCH"
    return adopt_configuration(node, request.command.content, request.command.operator)


def _in_force(node: Node) -> dict[str, Any]:
    """The configuration in force, without what it says of claws that were removed since: no new one could say it."""
    body = json.loads(node.configuration.content)
    body["capabilities"] = {name: entry for name, entry in body["capabilities"].items() if name in node.registry}
    return config.resolve(body, "the configuration in force", frozenset(node.registry))


def _switches(body: dict[str, Any]) -> dict[str, bool]:
    return {name: True for name, entry in body["capabilities"].items() if entry["enabled"]}


def _claw_install(request: Request) -> Effects:
    body = _content(request, {"manifest": str, "publisher": str, "signature": str})
    node, raw = request.state.node, _bytes(body["manifest"])
    manifest = registrable(raw)
    if manifest.name != request.command.resource or not manifest.files:
        return "ANOTHER_MODULE"
    known = node.registry.get(manifest.name)
    if known is not None and not known.publisher:
        return "NAME_TAKEN"
    if known is not None and known.publisher != body["publisher"]:
        return "ANOTHER_PUBLISHER"
    if known is not None and known.name in config.enabled(node.configuration.content):
        before = recorded_manifest(known.name, known.manifest)
        if not set(manifest.permissions) <= set(before.permissions):
            return "ASKS_FOR_MORE"  # what was granted was granted to less: it is disabled first, and enabled anew
    key = node.publishers.get(body["publisher"])
    if key is None:
        return "UNTRUSTED_KEY"
    signature = _bytes(body["signature"])
    if not signed_by(key, manifest.name, manifest.version, manifest.digest(), signature):
        return "BAD_SIGNATURE"
    installed = events.ModuleInstalled(
        manifest.name, manifest.digest(), body["publisher"], signature, request.command.operator
    )
    registered = events.ClawRegistered(manifest.name, raw, manifest.digest())
    known_as = Claw(manifest.name, raw, manifest.digest(), False, body["publisher"])
    _require_policy(node._replace(registry=node.registry.set(manifest.name, known_as)))
    return [registered, installed]


def _require_policy(node: Node) -> None:
    """Raises PolicyError when the policy in force could not be evaluated any more: every call would fail."""
    if node.policy.text:
        load_policy(node.policy.text, node)


def signed_by(key: str, name: str, version: str, digest: str, note: bytes) -> bool:
    """Whether a publisher's key signed this very manifest."""
    from femtoclaw.modules.signature import verify_signature

    return verify_signature(key, name, version, digest, note)


def _claw_remove(request: Request) -> Effects:
    node, name = request.state.node, request.command.resource
    claw = node.registry.get(name)
    if claw is None:
        return "NOT_REGISTERED"
    if not claw.publisher:
        return "PART_OF_THE_PROGRAM"
    if name in config.enabled(node.configuration.content):
        return "STILL_ENABLED"
    _require_policy(node._replace(registry=node.registry.delete(name)))
    return [events.ClawRemoved(name, request.command.operator)]


def _publisher_trust(request: Request) -> Effects:
    body, node = _content(request, {"public_key": str}), request.state.node
    name, key = _named(request.command.resource, _NAME), _key(body["public_key"])
    if name in node.publishers or any(_same_key(key, each) for each in node.publishers.values()):
        return "KNOWN_BEFORE"
    if any(claw.publisher == name for claw in node.registry.values()):
        return "HAS_CLAWS"  # signed by the key that was distrusted: under the same name they would be trusted again
    if len(node.publishers) >= PUBLISHERS_MAX:
        return "TOO_MANY"
    return [events.PublisherTrusted(name, key, request.command.operator)]


def _publisher_distrust(request: Request) -> Effects:
    node, name = request.state.node, request.command.resource
    if name not in node.publishers:
        return "UNKNOWN"
    return [events.PublisherDistrusted(name, _reason(request), request.command.operator)]


def _operator_add(request: Request) -> Effects:
    body, node = _content(request, {"public_key": str, "roles": list}), request.state.node
    name, key = _named(request.command.resource, _NAME), _key(body["public_key"])
    roles = tuple(sorted({str(role) for role in body["roles"]}))
    if not roles or not set(roles) <= set(ROLES):
        raise ConfigurationError("no such role", expected=", ".join(ROLES), found="another")
    if key.partition("+")[0] != name:
        return "KEY_OF_ANOTHER"  # a key says whose it is, and who signs is found by it
    if name in node.operators:
        return "KNOWN_BEFORE"
    if any(_same_key(key, each.public_key) for each in node.operators.values()):
        return "KEY_IN_USE"  # whoever holds one key is one person, under whatever names
    if len(node.operators) >= OPERATORS_MAX:
        return "TOO_MANY"
    return [events.OperatorAdded(name, key, roles, request.command.operator, _after_all_held(request))]


def _after_all_held(request: Request) -> int:
    """The time of an addition: after every call that is held now, also by a clock that was put back."""
    held = [approval.requested_ns + 1 for approval in request.state.live.approvals.values()]
    return max(request.command.received_ns, *held) if held else request.command.received_ns


def _operator_rekey(request: Request) -> Effects:
    """Both keys sign: the old one the request, the new one that it is to be this operator's on this node."""
    body, node, name = (
        _content(request, {"public_key": str, "signature": str}),
        request.state.node,
        request.command.resource,
    )
    key = _key(body["public_key"])
    if name != request.command.operator or key.partition("+")[0] != name:
        return "KEY_OF_ANOTHER"
    if any(_same_key(key, each.public_key) for each in node.operators.values()):
        return "KEY_IN_USE"
    if not verify_statement(key, rekeying(node, name, key), _signature(body["signature"])):
        return "BAD_SIGNATURE"
    return [events.OperatorRekeyed(name, key)]


def rekeying(node: Node, name: str, key: str) -> bytes:
    """What a new key signs to become an operator's."""
    return statement(node.runtime_id, "", name, "operator.rekey", name, key.encode(), 0)


def _signature(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _operator_revoke(request: Request) -> Effects:
    node, name = request.state.node, request.command.resource
    known = node.operators.get(name)
    if known is None or not known.active:
        return "UNKNOWN"
    if not repairable(node, node.control.text, without=name):
        return "LAST_OF_THEIR_KIND"
    return [events.OperatorRevoked(name, _reason(request), request.command.operator)]


def _key_rotate(request: Request) -> Effects:
    body = _content(request, {"old": str, "new": str, "reason": str})
    if body["reason"] not in ("scheduled", "compromised"):
        raise ConfigurationError("no such reason", expected="scheduled or compromised", found="another")
    return [events.NodeKeyRotated(_key(body["old"]), _key(body["new"]), body["reason"], request.command.operator)]


def _member_changed(request: Request) -> Effects:
    """``member.*`` and ``leadership.transfer``. Whether there is such a member, and whether it has everything, is not in the
    state: the one who leads looks into the log before it lets the request be decided (``femtoclaw.serving.leading``)."""
    from femtoclaw.membership import ENTRY, member_of

    action, name = request.command.action, request.command.resource
    member = member_of(_content(request, ENTRY), action)
    if member.name != name:
        return "ANOTHER_MEMBER"
    change = action.partition(".")[2]
    return [events.MembershipOrdered(change, name, member.key.vkey(), request.command.operator)]


def _secret_set(request: Request) -> Effects:
    body, node = _content(request, {"mark": str}), request.state.node
    name = _named(request.command.resource, _SECRET)
    if not _DIGEST.fullmatch(body["mark"]):
        raise ConfigurationError("a secret's mark is none", expected="64 hex digits", found="another text")
    if name not in node.secrets and len(node.secrets) >= SECRETS_MAX:
        return "TOO_MANY"
    return [events.SecretChanged(name, body["mark"], request.command.operator)]


def _secret_remove(request: Request) -> Effects:
    name = request.command.resource
    if name not in request.state.node.secrets:
        return "UNKNOWN"
    return [events.SecretChanged(name, "", request.command.operator)]


def _granted_to(request: Request) -> tuple[str, str]:
    """A claw's name, and the digest of the manifest that the operator saw.

    Older requests name no manifest. They are decided as they were then, or their histories would not replay; what a claw
    does not ask for it is not handed at a call either (``vault.StoredVault.granted``).
    """
    try:
        body = _content(request, {"claw": str, "manifest": str})
    except ConfigurationError:
        return _content(request, {"claw": str})["claw"], ""
    return body["claw"], body["manifest"] or "none"


def _secret_granted(request: Request) -> Effects:
    node, name = request.state.node, request.command.resource
    grants = request.command.action == "secret.grant"
    claw, manifest = _granted_to(request) if grants else (_content(request, {"claw": str})["claw"], "")
    secret, known = node.secrets.get(name), node.registry.get(claw)
    if secret is None or (grants and known is None):
        return "UNKNOWN"
    if (claw in secret.claws) == grants:
        return "NOTHING_TO_CHANGE"
    if grants and manifest and known is not None:
        if manifest != known.digest:
            return "ANOTHER_MODULE"
        if name not in recorded_manifest(claw, known.manifest).secrets:
            return "NOT_ASKED_FOR"
    kind = events.SecretGranted if grants else events.SecretWithdrawn
    return [kind(name, claw, request.command.operator)]


def _approve(request: Request) -> Effects:
    state, command = request.state, request.command
    code = approvals.refusal(state, command.resource, command.content, command.operator, command.received_ns)
    if code:
        return code
    case = approvals.case_of(state, command.resource, command.received_ns, command.next_id, request.engines)
    return approvals.grant(case, command.operator, command.request_id)


def _refuse(request: Request) -> Effects:
    state, command = request.state, request.command
    if command.resource not in state.live.approvals:
        return "NOT_HELD"
    case = approvals.case_of(state, command.resource, command.received_ns, command.next_id, request.engines)
    return approvals.refuse(case, command.operator, command.request_id, _reason(request))


def _erase(request: Request) -> Effects:
    node, subject = request.state.node, _named(request.command.resource, _NAME)
    if subject in node.erased:
        return "ERASED_BEFORE"
    live = request.state.live
    if any(each.subject == subject for each in (*live.executions.values(), *live.runs.values())):
        return "IN_FLIGHT"  # whoever has to end it needs its key
    if len(node.erased) >= SUBJECTS_MAX:
        return "TOO_MANY"
    return [events.SubjectErased(subject, _reason(request), request.command.operator)]


def _contain(request: Request) -> Effects:
    if request.state.node.contained:
        return "CONTAINED_BEFORE"
    return [events.NodeContained(_reason(request) or "no reason given", request.command.operator)]


def _release(request: Request) -> Effects:
    if not request.state.node.contained:
        return "NOT_CONTAINED"
    if operations.containing(request.state.node):
        return "INCIDENT_OPEN"
    return [events.NodeReleased(_reason(request), request.command.operator)]


def _accept_distribution(request: Request) -> Effects:
    body = _content(request, {"digest": str, "anchor": str})
    return [events.IntegrityVerified("distribution", "accepted", _line(body["digest"]), _line(body["anchor"]))]


def _revoke_distribution(request: Request) -> Effects:
    key = _key(_content(request, {"key": str})["key"])
    return [events.IntegrityVerified("distribution key", "revoked", "", key)]


_OPENING: dict[str, type] = {"kind": str, "severity": int, "detail": str, "evidence": list}
_STEPPING: dict[str, type] = {"step": str, "result": str, "detail": str, "digest": str}
_BEGINNING: dict[str, type] = {"phase": str, "id": str, "digest": str}
_ENDING: dict[str, type] = {"phase": str, "id": str, "result": str, "detail": str, "content": dict, "goals": dict}


def _incident_opened(request: Request) -> Effects:
    return operations.incident_open(request.state.node, request.command, _content(request, _OPENING))


def _incident_stepped(request: Request) -> Effects:
    return operations.incident_step(request.state.node, request.command, _content(request, _STEPPING))


def _alert_acknowledged(request: Request) -> Effects:
    return operations.alert_acknowledge(request.state.node, request.command, _content(request, {}))


def _procedure(request: Request) -> Effects:
    try:
        body = _content(request, _BEGINNING)
    except ConfigurationError:
        body = _content(request, _ENDING)
    return operations.procedure(request.state.node, request.command, body)


def _content(request: Request, fields: dict[str, type]) -> dict[str, Any]:
    """The request's content: a JSON object of exactly these fields. Raises ConfigurationError."""
    try:
        body = json.loads(request.command.content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or {name: type(value) for name, value in body.items()} != fields:
        raise ConfigurationError(
            "the content of a request is not of its form",
            where=request.command.action,
            expected=", ".join(sorted(fields)),
        )
    return body


def _reason(request: Request) -> str:
    reason: str = _content(request, {"reason": str})["reason"]
    if len(reason) > REASON_CHARACTERS_MAX or not reason.isprintable():
        raise ConfigurationError(
            "a reason cannot be shown", expected=f"<= {REASON_CHARACTERS_MAX} printable characters", found=len(reason)
        )
    return reason


def _line(text: str) -> str:
    if len(text) > LINE_CHARACTERS_MAX or not text.isprintable():
        raise ConfigurationError(
            "a text cannot be shown", expected=f"<= {LINE_CHARACTERS_MAX} printable characters", found=len(text)
        )
    return text


def _same_key(key: str, other: str) -> bool:
    """Whether two verifier keys in their one spelling are one key, under whatever names."""
    return key.rpartition("+")[2] == other.rpartition("+")[2]


def _named(name: str, form: re.Pattern[str]) -> str:
    if not form.fullmatch(name):
        raise ConfigurationError(
            "a name is not usable", expected=f"the form {form.pattern}", found=f"{len(name)} characters"
        )
    return name


def _key(text: str) -> str:
    """A verifier key in its one spelling. Raises ConfigurationError."""
    from femtoclaw.keys import parse_public_key

    return parse_public_key(text, "the request").vkey()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


_CHANGES: dict[str, Callable[[Request], Effects]] = {
    "approval.grant": _approve,
    "approval.refuse": _refuse,
    "claw.disable": _claw_switched,
    "claw.enable": _claw_switched,
    "claw.install": _claw_install,
    "claw.remove": _claw_remove,
    "configuration.set": _configuration_set,
    "control.set": _control_set,
    "data.erase": _erase,
    "distribution.accept": _accept_distribution,
    "distribution.revoke": _revoke_distribution,
    "key.rotate": _key_rotate,
    "leadership.transfer": _member_changed,
    "member.add": _member_changed,
    "member.promote": _member_changed,
    "member.remove": _member_changed,
    "node.contain": _contain,
    "node.release": _release,
    "operator.add": _operator_add,
    "operator.rekey": _operator_rekey,
    "operator.revoke": _operator_revoke,
    "policy.set": _policy_set,
    "publisher.distrust": _publisher_distrust,
    "publisher.trust": _publisher_trust,
    "secret.grant": _secret_granted,
    "secret.remove": _secret_remove,
    "secret.set": _secret_set,
    "secret.withdraw": _secret_granted,
    "alert.acknowledge": _alert_acknowledged,
    "incident.open": _incident_opened,
    "incident.step": _incident_stepped,
}
EFFECTS = _CHANGES | dict.fromkeys(operations.PROCEDURES, _procedure)
