"""Claws under a policy, in the sandbox, with what is recorded of them: what rules restrict, and how bad peers end."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.event_codec import decode
from femtoclaw.events import ExecutionFinished
from femtoclaw.isolation import Isolation
from tests.femtoclaw.simulated import CountingIsolation, Simulated
from tests.femtoclaw.test_web_get import dripping, flooding, hanging, redirecting
from tests.femtoclaw.web_site import site
from wal.record import decode as decode_record

EVERYTHING = '@id("everything") permit (principal, action, resource);'


def node(policy: str, isolation: Any = None, **settings: dict[str, Any]) -> Simulated:
    """With the given claws enabled; without an isolation nothing is executed, and what would be is counted."""
    enabled = {name.replace("_", "."): {"enabled": True, "settings": each} for name, each in settings.items()}
    return Simulated(policy=policy, settings={"capabilities": enabled}, isolation=isolation or CountingIsolation())


@pytest.fixture
def isolation(workspace: Path) -> Iterator[Isolation]:
    isolation = Isolation(str(workspace))
    yield isolation
    isolation.close()


RESTRICTED = """
@id("everything") permit (principal, action, resource);
@id("no-keys") forbid (principal, action, resource) when { context has path && context.path like "keys*" };
@id("no-address") forbid (principal, action, resource)
when { context has host && [ "10.0.0.1", "example.org", "xn--bcher-kva.example", "fd00::1" ].contains(context.host) };
@id("no-port") forbid (principal, action, resource) when { context has port && context.port != 443 };
@id("no-area") forbid (principal, action, resource) when { context has url_path && context.url_path like "/admin*" };
@id("not-one") forbid (principal, action, resource) when { context has pid && context.pid == 1 };
@id("no-ls") forbid (principal, action, resource) when { context has binary && context.binary == "/bin/ls" };
"""
HOSTS = ["*.example", "example.org", "10.0.0.1", "fd00::1", "inside.test"]

DENIED_BY_RULE = [
    ("fs.read", {"path": "keys/a"}, "no-keys"), ("fs.read", {"path": "./keys//a"}, "no-keys"),
    ("fs.read", {"path": "././keys"}, "no-keys"),
    ("web.get", {"url": "https://EXAMPLE.org"}, "no-address"), ("web.get", {"url": "https://example.org.:443/"}, "no-address"),
    ("web.get", {"url": "https://BÜCHER.example/"}, "no-address"), ("web.get", {"url": "https://10.0.0.1/"}, "no-address"),
    ("web.get", {"url": "https://[::ffff:10.0.0.1]/"}, "no-address"), ("web.get", {"url": "https://[::ffff:a00:1]"}, "no-address"),
    ("web.get", {"url": "https://[FD00:0::1]/"}, "no-address"), ("web.get", {"url": "https://a.example:8443/"}, "no-port"),
    ("web.get", {"url": "https://a.example/%61dmin"}, "no-area"), ("process.list", {"pid": 1}, "not-one"),
    ("shell", {"bin": "ls"}, "no-ls"), ("shell", {"bin": "/bin/ls", "argv": ["-l"]}, "no-ls"),
]  # fmt: skip
DENIED_AS_NO_FORM = [
    ("fs.read", {"path": "a/../keys/a"}), ("fs.read", {"path": "/keys"}), ("fs.read", {"path": "keys\n"}),
    ("web.get", {"url": "https://167772161/"}), ("web.get", {"url": "https://0xa.1/"}), ("web.get", {"url": "https://012.0.0.1/"}),
    ("web.get", {"url": "https://１０.0.0.1/"}), ("web.get", {"url": "https://a@example.org/"}),
    ("web.get", {"url": "https://a.example/x/../admin"}), ("web.get", {"url": "https://a.example/%2e/admin"}),
    ("web.get", {"url": "https://a.example//admin"}), ("shell", {"bin": "/bin/../bin/ls"}), ("shell", {"bin": "LS"}),
]  # fmt: skip


def restricted() -> Simulated:
    return node(
        RESTRICTED, fs_read={}, process_list={}, web_get={"hosts": HOSTS, "ports": [443, 8443]},
        shell={"binaries": ["/bin/ls", "/bin/echo"]},
    )  # fmt: skip


@pytest.mark.requirement("POLICY-12.1")
@pytest.mark.parametrize("tool, args, rule", DENIED_BY_RULE)
def test_a_rule_holds_for_every_spelling(tool: str, args: dict[str, Any], rule: str) -> None:
    """Before execution, and the decision names the rule."""
    made = restricted()
    step = made.intent(tool, **args)
    assert (step.decision, step.code) == ("DENIED_POLICY_VIOLATION", "FORBIDDEN")
    decided = [event for recorded in made.recorded for event in recorded.events if hasattr(event, "determining")]
    assert decided[-1].determining == (rule,)
    assert made.isolation.calls == []


@pytest.mark.requirement("POLICY-12.1")
@pytest.mark.parametrize("tool, args", DENIED_AS_NO_FORM)
def test_what_no_rule_could_judge_is_denied_before_it(tool: str, args: dict[str, Any]) -> None:
    """An argument without one canonical form gets no further."""
    made = restricted()
    assert made.intent(tool, **args).decision == "DENIED_ARGUMENT_INVALID"
    assert made.isolation.calls == []


@pytest.mark.requirement("POLICY-12.1")
def test_unicode_forms_of_a_path_are_other_files() -> None:
    """File names are bytes: the composed and the decomposed form differ on the disk, and so for a rule."""
    rule = '@id("no") forbid (principal, action, resource) when { context has path && context.path == "clé" };'
    made = node(EVERYTHING + rule, fs_read={})
    assert made.intent("fs.read", path="clé").code == "FORBIDDEN"
    assert made.intent("fs.read", path=unicodedata.normalize("NFD", "clé")).decision == "AUTHORIZED"
    assert [args for _, args, _ in made.isolation.calls] == [{"path": unicodedata.normalize("NFD", "clé")}]


@pytest.mark.requirement("POLICY-12.1")
def test_a_name_that_leads_into_a_denied_range_is_refused_by_the_claw(isolation: Isolation) -> None:
    """Only the claw looks names up: the outcome is an error of authorization, and nothing was connected to."""
    with site(b"") as where:
        settings = {"hosts": ["localhost"], "ports": [where.port], "plain_http": True}
        made = node(EVERYTHING, isolation, web_get=settings)
        step = made.intent("web.get", url=f"http://localhost:{where.port}/")
        assert (step.decision, step.outcome) == ("AUTHORIZED", "error")
        assert where.peers == 0
        assert finished(made).error_class == "AuthorizationError"


def finished(made: Simulated) -> ExecutionFinished:
    """The last record of its kind in the log."""
    found = [decode(decode_record(raw).payload) for index, raw in made.storage.records.items() if index > 1]
    return [event for event in found if isinstance(event, ExecutionFinished)][-1]


@pytest.mark.requirement("WHITE-9.5")
@pytest.mark.parametrize(
    "behave, text",
    [
        (hanging, "seconds_max is used up; 0 bytes read"),
        (dripping, "seconds_max is used up; "),
        (flooding, "over bytes_max, 1048576 bytes; "),
        (
            redirecting(lambda path: "http://forbidden.test/" if path == b"/" else ""),
            "the host is not in the node's list; ",
        ),
        (redirecting(lambda path: path.decode() + "x"), "redirects_max is reached; "),
    ],
    ids=["hangs", "drips", "sends a gigabyte", "redirects elsewhere", "redirects for ever"],
)
def test_a_bad_server_ends_as_a_recorded_error(isolation: Isolation, behave: Any, text: str) -> None:
    """Within the limits; the record says which one was met, and how many bytes had been read."""
    with site(behave) as where:
        settings = {
            "hosts": ["localhost"], "ports": [where.port], "plain_http": True, "private_networks": ["127.0.0.0/8", "::1/128"],
            "seconds_max": 1 if behave in (hanging, dripping) else 20, "redirects_max": 3,
        }  # fmt: skip
        made = node(EVERYTHING, isolation, web_get=settings)
        assert made.intent("web.get", url=f"http://localhost:{where.port}/").outcome == "error"
        event = finished(made)
        assert (event.status, text in event.error_message, "bytes read" in event.error_message) == ("error", True, True)
        assert event.duration_ns < 10 * 10**9


INTERPRETED = [
    ("sh", ["-c", "id"]), ("env", ["sh", "-c", "id"]), ("awk", ["BEGIN{system()}"]), ("find", [".", "-exec", "id", ";"]),
    ("sort", ["--compress-program=x"]), ("tar", ["--to-command=x", "-xf", "a"]), ("git", ["-c", "a=b", "log"]), ("echo", ["a\nb"]),
]  # fmt: skip


@pytest.mark.requirement("CLAW-16.1")
@pytest.mark.parametrize("program, argv", INTERPRETED)
def test_a_hazard_needs_a_permit_that_accepts_it(program: str, argv: list[str]) -> None:
    """A permit of the program, or of everything, is not enough; one that names the exact command and its hazards is."""
    binary = shutil.which(program) or f"/usr/bin/{program}"
    shell = {"binaries": [binary]}
    made = node(EVERYTHING, shell=shell)
    step = made.intent("shell", bin=binary, argv=argv)
    assert (step.decision, step.code, made.isolation.calls) == ("DENIED_POLICY_VIOLATION", "HAZARD", [])
    from femtoclaw.claws import SHELL
    from femtoclaw.facts import Facts, facts

    found = facts(SHELL, {"bin": binary, "argv": argv}, shell)
    assert isinstance(found, Facts)
    exact = json.dumps(found.attributes["command"])
    accepting = (
        f'@id("exactly") @accepts("{",".join(found.attributes["hazards"])}") permit (principal, action, resource) '
        f"when {{ context has command && context.command == {exact} }};"
    )
    made = node(accepting, shell=shell)
    assert made.intent("shell", bin=binary, argv=argv).decision == "AUTHORIZED"
    assert made.intent("shell", bin=binary, argv=[*argv, "more"]).decision == "DENIED_POLICY_VIOLATION"
