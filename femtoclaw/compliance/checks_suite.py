"""Checks of what the suite asks of the whole: guarantees as sets of other checks, the register, deviations, and a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from femtoclaw.compliance.checking import (
    CHECKS,
    FAILED,
    NOT_APPLICABLE,
    NOT_SHOWN,
    SHOWN,
    Verdict,
    every,
    judge,
    need,
    shows,
)
from femtoclaw.compliance.clustered import STEPS, cluster
from femtoclaw.compliance.grading import COMPLIANT, INCOMPLETE, NON_COMPLIANT, overall
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.register import DOMAINS, requirements

GUARANTEES = {
    "authority integrity": ("WHITE-2.1", "DEPLOY-7.3"), "authorization": ("POLICY-8.1", "WHITE-9.2"),
    "capability isolation": ("WHITE-4.3",), "memory integrity": ("STORAGE-6.3", "STORAGE-16.2"),
    "auditability": ("AUDIT-12.1", "RUNBOOK-4.2"), "determinism": ("WHITE-4.1", "STORAGE-25.1"),
    "secure boundaries": ("DEPLOY-13.1", "WHITE-9.4"), "observability": ("STORAGE-7.1", "WHITE-13.1"),
    "upgrade safety": ("SUITE-13.1", "DEPLOY-5.1"), "operational safety": ("RUNBOOK-11.1", "RUNBOOK-13.2"),
}  # fmt: skip
"""The ten guarantees of the suite (SUITE-10.1), each by requirements whose checks inject its violation."""

MANDATORY = {
    "state machine": ("STATE-2.1", "STATE-3.1"), "protocol": ("PROTO-12.1", "PROTO-4.1"),
    "authorization and policy": ("POLICY-8.1", "POLICY-7.1"), "memory": ("MEMORY-3.1", "WHITE-7.1"),
    "observability": ("OBSERVE-4.1", "OBSERVE-7.1"), "security": ("SECURITY-4.1", "THREAT-7.1"),
    "error model": ("ERROR-3.1", "ERROR-5.1"), "configuration": ("CONFIG-4.1", "CONFIG-2.1"),
    "deployment": ("DEPLOY-4.1", "DEPLOY-17.1"),
}  # fmt: skip
"""The nine mandatory specifications (CONFORM-4.1)."""


def together(laboratory: Laboratory, groups: Mapping[str, tuple[str, ...]]) -> str:
    """All requirements of each group are shown, in this very run. Raises NotSoError naming the one that is not."""
    said = []
    for name, ids in groups.items():
        for each in ids:
            verdict = judge(each, laboratory, {})
            need(verdict.result == SHOWN, f"{name}: {each} shown", f"{verdict.result}: {verdict.text[:200]}")
        said.append(f"{name}: {', '.join(ids)}")
    return "; ".join(said)


@shows("SUITE-10.1", "SUITE-3.1")
def ten_guarantees_hold(laboratory: Laboratory) -> str:
    """Each of the ten guarantees, by checks in this run that inject the matching violation."""
    need(len(GUARANTEES) == 10, "ten guarantees", len(GUARANTEES))
    return together(laboratory, GUARANTEES)


@shows("CONFORM-4.1", "SUITE-9.3")
def nine_specifications_are_met(laboratory: Laboratory) -> str:
    """Each mandatory specification has checks, and they are shown in this run; an empty one would fail it."""
    every(MANDATORY.items(), "checks of each")
    return together(laboratory, MANDATORY)


@shows("SUITE-2.1")
def authority_is_the_runtimes(laboratory: Laboratory) -> str:
    """All effects go through explicit calls, the gate cannot be passed, and no entry lets a refused call through."""
    return together(
        laboratory, {"explicit": ("WHITE-2.1", "WHITE-1.2"), "gate": ("DEPLOY-7.3",), "entries": ("DEPLOY-2.2",)}
    )


@shows("SUITE-3.5")
def others_can_build_on_it(laboratory: Laboratory) -> str:
    """A module made with the published kit comes in, calls go over the published interface, and the audit is exported."""
    return together(laboratory, {"kit": ("WHITE-14.1",), "interface": ("DEPLOY-12.1",), "export": ("AUDIT-13.1",)})


@shows("STORAGE-24.1")
def storage_is_compliant(laboratory: Laboratory) -> str:
    """Durable storage, append-only audit logs, crash recovery and audit integrity, as live checks of this run."""
    return together(laboratory, {
        "durable": ("STORAGE-10.2", "STORAGE-10.3"), "append-only": ("STORAGE-15.1", "STORAGE-14.2"),
        "crash recovery": ("STORAGE-2.2", "STORAGE-13.3"), "audit integrity": ("STORAGE-6.3",),
    })  # fmt: skip


@shows("SUITE-6.1", "SUITE-5.1")
def the_register_is_whole(laboratory: Laboratory) -> str:
    """Every check, reason and deviation names a requirement of the register, and each of the eighteen domains has tests."""
    from femtoclaw.compliance.coverage import count
    from femtoclaw.compliance.report import deviations, reasons

    register = requirements()
    unknown = [each for each in (*CHECKS, *reasons()) if each not in register]
    need(not unknown, "only ids of the register", unknown)
    foreign = [
        each["id"] for each in deviations() if each["id"].split("-")[0] not in {r.document for r in register.values()}
    ]
    need(not foreign, "only documents of the suite", foreign)
    domains = laboratory.once(domain_tests)
    need(len(domains) == len(DOMAINS) == 18, "eighteen domains", len(domains))
    every(domains.items(), "tests of each domain")
    musts = count("domain")
    return "; ".join(f"{name}: {musts[name]['must']} MUST, {number} tested" for name, number in domains.items())


def domain_tests(laboratory: Laboratory) -> dict[str, int]:
    """Domain to how many of its requirements a test shows."""
    from femtoclaw.compliance.coverage import count

    return {name: row["test"] for name, row in count("domain").items()}


@shows("SUITE-1.1")
def every_seed_is_traced(laboratory: Laboratory) -> str:
    """Each requirement of the five seed documents leads to a test and a live check, or to the reason why it does not apply."""
    found = laboratory.once(traced)
    need(not found["open"], "a test and a check, or a reason, for each", found["open"][:12])
    return f"{found['seeds']} seed requirements: {found['checked']} checked, {found['exempt']} not applicable"


def traced(laboratory: Laboratory) -> dict[str, Any]:
    """The seed requirements without both a test and a live check, and without a reason."""
    from femtoclaw.compliance.coverage import tests
    from femtoclaw.compliance.report import reasons

    seeds = [each.id for each in requirements().values() if each.seed]
    shown, exempt = tests(), reasons()
    missing = [each for each in seeds if each not in exempt and not (each in shown and each in CHECKS)]
    return {
        "seeds": len(seeds), "open": missing, "checked": sum(each in CHECKS for each in seeds),
        "exempt": sum(each in exempt for each in seeds),
    }  # fmt: skip


@shows("SUITE-9.1", "CONFORM-20.1")
def one_failure_is_enough(laboratory: Laboratory) -> str:
    """Compliant only with no failed MUST and none left open: one failed turns the whole verdict, and so does one not shown."""
    words = laboratory.once(verdict_words)
    need(words["all shown"] == COMPLIANT, "compliant when all are shown", words)
    need(words["one failed"] == NON_COMPLIANT, "not with one failed", words)
    need(words["one not shown"] == INCOMPLETE, "incomplete with one not shown", words)
    need(words["one not applicable"] == COMPLIANT, "compliant with one that does not apply", words)
    return ", ".join(f"{name}: {word}" for name, word in words.items())


def verdict_words(laboratory: Laboratory) -> dict[str, str]:
    """The overall word over the register where all are shown, and where one of them is otherwise."""
    register = requirements()
    shown = {name: Verdict(name, SHOWN, "evidence") for name in register}
    changed = {"one failed": FAILED, "one not shown": NOT_SHOWN, "one not applicable": NOT_APPLICABLE}
    return {"all shown": overall(shown.values(), register)} | {
        name: overall((shown | {"DEPLOY-2.1": Verdict("DEPLOY-2.1", result, "")}).values(), register)
        for name, result in changed.items()
    }  # fmt: skip


@shows("SUITE-14.1")
def deviations_are_published(laboratory: Laboratory) -> str:
    """Every deviation and interpretation stands in one file with id, place, what is done and why; exemptions have reasons."""
    declared, exempt = laboratory.once(declarations)
    need(declared, "declared deviations")
    for each in declared:
        every(
            ((f"{field} of {each.get('id')}", each.get(field)) for field in ("id", "where", "reads", "does", "reason")),
            "every field",
        )
    every(((name, len(reason) > 30) for name, reason in exempt.items()), "a reason")
    return f"{len(declared)} deviations, {len(exempt)} requirements that do not apply, each with its reason"


def declarations(laboratory: Laboratory) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The published deviations, and the requirements that do not apply."""
    from femtoclaw.compliance.report import deviations, reasons

    return deviations(), reasons()


@shows("SUITE-3.2")
def a_cluster_loses_nothing(laboratory: Laboratory) -> str:
    """Three machines: the leader is killed at work, another takes over, and every acknowledged execution is there, once."""
    found = laboratory.once(cluster)
    need(found["ok"], "a cluster that did all of it", found)
    compared, verified = found["compared"], found["verified"]
    need(compared["acknowledged"] > 0, "acknowledged executions", compared)
    need(len(verified["root"]) == 64 and verified["size"] > 0, "three equal roots", verified)
    return f"{found['killed']['proved'][:120]}; {compared['proved'][:160]}; {verified['proved']}"


@shows("SUITE-3.7", "SUITE-3.8", "SUITE-10.2")
def one_node_appends(laboratory: Laboratory) -> str:
    """A killed leader comes back under a higher epoch, follows, and what only it had is cut as kept, signed evidence."""
    found = laboratory.once(cluster)
    need(found["ok"], "a cluster that did all of it", found)
    epochs = [each["epoch"] for each in found["exported"]["epochs"]]
    need(epochs == sorted(set(epochs)) and len(epochs) > 1, "rising epochs of several leaders", epochs)
    need(
        "evidence" in found["rejoined"]["proved"] or "has all" in found["rejoined"]["proved"],
        "a member that came back",
        found["rejoined"],
    )
    return f"{found['rejoined']['proved'][:200]}; epochs {epochs}"


@shows("DEPLOY-16.1", "DEPLOY-16.2")
def followers_execute_nothing(laboratory: Laboratory) -> str:
    """Asked, a follower has the leader execute: the execution is in both logs and happened on one machine alone."""
    found = laboratory.once(cluster)
    need(set(STEPS) <= set(found), "every step", sorted(found))
    need(
        "alone" in found["asked"]["proved"] and found["asked"]["executions"],
        "executed on the leader alone",
        found["asked"],
    )
    need(
        "without a difference" in found["verified"]["proved"],
        "replays that execute nothing",
        found["verified"]["proved"],
    )
    return str(found["asked"]["proved"])[:200]


@shows("SUITE-12.1")
def the_reference_tier_is_refused(laboratory: Laboratory) -> str:
    """A certificate of the enterprise or reference tier is denied with the numbers of the unpublished specifications."""
    found = laboratory.once(tiers)
    for tier, number in (("enterprise", "40"), ("reference", "60")):
        need(
            any("TIER_UNPUBLISHED" in each and number in each for each in found[tier]),
            f"{tier} denied up to {number}",
            found[tier],
        )
    need(not found["published"], "nothing against the published tier", found["published"])
    return found["reference"][0][:300]


def tiers(laboratory: Laboratory) -> dict[str, list[str]]:
    """What is said against a certificate of each tier, over a report in which everything is shown."""
    from femtoclaw.auditing.denial import Facts, denials

    register = requirements()
    verdicts = [{"id": name, "level": each.level, "result": SHOWN} for name, each in register.items()]
    installation = {"configuration": "c", "runtime_id": "r"}
    report = {"scope": ["all"], "build": {"digest": "b"}, "installation": installation, "verdicts": verdicts}
    facts = Facts({"d": 1}, "b", "c", "r", frozenset(register), True, "verified")
    return {
        tier: [f"{denial.reason} {denial.text}" for denial in denials(report, "d", facts, tier)]
        for tier in ("published", "enterprise", "reference")
    }  # fmt: skip


@shows("AUDIT-27.1")
def levels_follow_from_evidence(laboratory: Laboratory) -> str:
    """The level is computed from verdicts, a certificate and witnesses, step by step; nothing sets it."""
    found = laboratory.once(levels)
    need(
        found == {"nothing": 0, "shown": 2, "failed": 0, "certified": 3, "witnessed": 4},
        "each level by its evidence",
        found,
    )
    return ", ".join(f"{name}: level {number}" for name, number in found.items())


def levels(laboratory: Laboratory) -> dict[str, int]:
    """The grade over the register for different evidence."""
    from femtoclaw.compliance.grading import Standing, grade

    register = requirements()
    shown = [Verdict(name, SHOWN, "") for name in register]
    failed = [*shown[1:], Verdict(shown[0].requirement, FAILED, "")]
    none, certified, witnessed = Standing(False, False), Standing(True, False), Standing(True, True)
    return {
        "nothing": grade([], register, witnessed).level, "shown": grade(shown, register, none).level,
        "failed": grade(failed, register, witnessed).level, "certified": grade(shown, register, certified).level,
        "witnessed": grade(shown, register, witnessed).level,
    }  # fmt: skip
