"""Checks of the configuration: its forms, who a node is, what keys do, and secrets by reference."""

from __future__ import annotations

import json
import os

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.configured import (
    IDENTITY,
    archived,
    forms,
    identified,
    memory_keys,
    referenced,
    unobserved,
)
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.starts import starts


@shows("CONFIG-5.1")
def one_configuration_in_each_form(laboratory: Laboratory) -> str:
    """The same configuration in TOML and JSON has one digest; duplicate keys are refused, and YAML, tags and all, is not read."""
    found = laboratory.once(forms)
    need(len(found["digests"]) >= 3 and len(set(found["digests"].values())) == 1, "one digest", found["digests"])
    every(found["refused"].items(), "a refusal")
    digest = next(iter(found["digests"].values()))
    return f"{', '.join(found['digests'])}: {digest[:16]}; refused: {', '.join(found['refused'])}; left out: YAML is no form here"


@shows("CONFIG-7.1")
def a_node_says_who_it_is(laboratory: Laboratory) -> str:
    """Id, version, environment and mode are needed and a node's own; a foreign program does not start, no member is twice."""
    found = laboratory.once(identified)
    for name, node in found["nodes"].items():
        every(((f"{field} of {name}", node[field]) for field in IDENTITY), "a value")
    need(len({node["runtime_id"] for node in found["nodes"].values()}) == 2, "an id of each node's own", found["nodes"])
    every(found["missing"].items(), "a refusal without it")
    other = laboratory.once(starts)["distribution's pin changed"]
    need(other.refused, "a refused start with another program than the pinned one", other.answer.error)
    members = found["members"]
    need(not members["another"], "another node taken as a member", members["another"])
    every(
        ((name, code == "KNOWN_BEFORE") for name, code in members.items() if name != "another"), "a refused second one"
    )
    node = found["nodes"]["first"]
    return f"{', '.join(f'{field} {node[field]}' for field in IDENTITY)}; without: {', '.join(found['missing'])}; members {members}"


@shows("CONFIG-9.1")
def keys_of_memory_have_their_effect(laboratory: Laboratory) -> str:
    """The log is in its home; another format, no integrity and no bound are refused; what is old is archived and stays."""
    refused, found = laboratory.once(memory_keys), laboratory.once(archived)
    every(refused.items(), "a refusal")
    need(os.path.exists(found["log"]), "LMDB's file in the home that was named", found["log"])
    need(
        found["young"] == 0 and found["content"]["last"] > 0,
        "old records archived and young ones not",
        found["content"],
    )
    need(found["deletions"] == {"young": "RETENTION_MINIMUM", "old": "LOG_IS_WHOLE"}, "no deletion", found["deletions"])
    need(found["whole"] == 0, "a log that is whole afterwards", found["whole"])
    return (
        f"{'; '.join(f'{name}: {said}' for name, said in refused.items())}; retention of {found['days']} days: archived 1 to"
        f" {found['content']['last']}, deletion {found['deletions']['old']}; the location is the home's (`--home`)"
    )


@shows("MEMORY-4.1")
def archival_is_on_record(laboratory: Laboratory) -> str:
    """The archival of a sealed segment is recorded with range and root, and an archived execution is traced as before."""
    found = laboratory.once(archived)
    content = json.loads(found["recorded"] or "{}")
    need(
        content.get("first") == 1 and content.get("root") == found["content"]["root"],
        "range and root on record",
        content,
    )
    need(found["archive"] == content["last"], "the range read back from the archive", found["archive"])
    records = found["trace"].get("records", [])
    need(records and max(records) <= content["last"], "an archived execution traced", records)
    need(found["trace"].get("outcome") == "success", "with its outcome", found["trace"].get("outcome"))
    return f"archived: {found['index']}: records 1 to {content['last']}, root {content['root'][:16]}; traced {records}"


@shows("CONFIG-10.1")
def telemetry_is_never_off_in_production(laboratory: Laboratory) -> str:
    """Off is refused in production; elsewhere nothing leaves the node then, and every record of the audit is there."""
    found = laboratory.once(unobserved)
    need(found["production"] == (2, "ConfigurationError"), "a refusal in production", found["production"])
    need(found["set"] == 0 and found["outcome"] == "success", "taken outside of it, and at work", found)
    need(not found["lines"] and not found["listens"] and not found["sinks"], "no line, port or sink", found)
    need(found["audit"] >= 5, "the execution's audit records", found["audit"])
    wanted = {"enabled", "listen", "log", "telemetry_retention_events", "traces"}
    need(wanted <= set(found["keys"]), "keys of enabling, location, retention, logging and metrics", found["keys"])
    return f"production: exit 2; elsewhere no line, port or sink, {found['audit']} audit records; keys: {', '.join(found['keys'])}"


@shows("CONFIG-14.1")
def secrets_are_references(laboratory: Laboratory) -> str:
    """A literal secret is refused and not repeated; a reference needs mode 0600, and only it and a digest are shown."""
    found = laboratory.once(referenced)
    every(found["refused"].items(), "a refused literal")
    need(found["asked"] == 2, "a refused command", found["asked"])
    need(
        found["modes"].get("0600") == "taken" and found["modes"].get("0644") != "taken",
        "mode 0600 alone",
        found["modes"],
    )
    need(not found["told"], "the value in no answer, error or `config show`")
    need(found["reference"] == "token" and len(found["digest"]) == 64, "a reference and a digest", found["reference"])
    need(found["secret"] == 0 and found["kept"] == {"token": "0600"}, "the value in its own file alone", found["kept"])
    return f"refused: {', '.join(found['refused'])}; shown: {found['reference']} and {found['digest'][:16]}; kept: {found['kept']}"
