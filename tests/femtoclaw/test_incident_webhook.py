"""Alerts on their way out: to a real server that answers, refuses, hangs, and comes back. Nothing waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from femtoclaw.home import Home
from femtoclaw.incidents import delivery
from femtoclaw.incidents.alertmanager import Alert, alerts_of
from femtoclaw.incidents.delivery import Notifier
from femtoclaw.incidents.detection import Told
from femtoclaw.monitoring.looked import OK, WARNING, Finding
from femtoclaw.sources import live
from femtoclaw.state import EMPTY, Incident
from tests.femtoclaw.alert_receiver import Receiver
from tests.femtoclaw.serving_process import wait_until

NODE = "0" * 32
TOKEN = "s3cret-token"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def notifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notifier]:
    """One that is quick to give up, and to try again."""
    for name, seconds in (("WAIT_S", 0.01), ("WAIT_MAX_S", 0.02), ("TOTAL_S", 0.4), ("CONNECT_S", 0.4)):
        monkeypatch.setattr(delivery, name, seconds)
    made = Notifier(Home(str(tmp_path)), live(), again_s=60, rest_s=0.05)
    yield made
    made.close()


def alert(name: str = "crash") -> Alert:
    return Alert((("alertname", name), ("severity", "high")), (("description", "x"),), 1_800_000_000 * 10**9)


def journal(tmp_path: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(line)["text"] for line in (tmp_path / "boot.journal").read_text().splitlines()]
    return []


def test_what_is_due_is_sent_once_and_its_end_once(notifier: Notifier, receiver: Receiver) -> None:
    """As an Alertmanager takes it: labels that stay, a start, and an end when it is over."""
    notifier.configure(receiver.url, "")
    for _ in range(3):
        notifier.update(NODE, [alert(), alert("disk_low")])
        assert notifier.flush(10)
    notifier.update(NODE, [alert()])
    assert notifier.flush(10)
    first, second, end = receiver.alerts
    assert first == {
        "labels": {"alertname": "crash", "severity": "high"}, "annotations": {"description": "x"},
        "startsAt": "2027-01-15T08:00:00.000Z", "generatorURL": f"urn:femtoclaw:{NODE}",
    }  # fmt: skip
    assert "endsAt" not in second
    assert end["labels"] == second["labels"]
    assert end["endsAt"] >= end["startsAt"]
    assert receiver.headers[0]["path"] == "/api/v2/alerts"
    assert notifier.check().result == OK


def test_an_end_does_not_say_what_is_still_to_be_done(notifier: Notifier, receiver: Receiver) -> None:
    """An incident whose six steps were taken between two messages was never told to be under way."""
    notes = {"description": "x", "next": "femtoclaw incident show", "respond_by": "soon", "step": "nobody has begun"}
    notifier.configure(receiver.url, "")
    notifier.update(NODE, [alert()._replace(annotations=tuple(notes.items()))])
    assert notifier.flush(10)
    notifier.update(NODE, [])
    assert notifier.flush(10)
    begun, end = receiver.alerts
    assert begun["annotations"] == notes
    assert end["annotations"] == {"description": "x", "step": "resolved"} and end["endsAt"]


@pytest.mark.parametrize("answer", [500, 404, 302, 0, -1])
def test_what_could_not_be_delivered_stays_due(
    notifier: Notifier, receiver: Receiver, tmp_path: Path, answer: int
) -> None:
    """Shown in health and, once, in the journal, and delivered when somebody takes it. Whoever hands an alert over waits for none
    of it."""
    receiver.answer = answer
    notifier.configure(receiver.url, "")
    began = time.monotonic()
    notifier.update(NODE, [alert()])
    assert time.monotonic() - began < 0.3
    wait_until(lambda: notifier.check().result == WARNING and journal(tmp_path), "health and journal", 20)
    assert not notifier.flush(0)
    assert [text.partition(":")[0] for text in journal(tmp_path)] == ["not delivered"]
    receiver.answer = 200
    receiver.over.set()
    assert notifier.flush(20)
    assert [each["labels"]["alertname"] for each in receiver.alerts] == ["crash"]
    wait_until(lambda: notifier.check().result == OK and journal(tmp_path)[-1] == "delivered again", "again", 10)


def test_what_ends_before_anybody_was_told_is_told_and_ended(notifier: Notifier, receiver: Receiver) -> None:
    """An incident that is answered while the receiver is away: it is still due, and health says so, until it was told once."""
    receiver.answer = 500
    notifier.configure(receiver.url, "")
    notifier.update(NODE, [alert()])
    wait_until(lambda: notifier.check().result == WARNING, "a round that failed", 20)
    notifier.update(NODE, [alert("disk_low")])
    notifier.update(NODE, [])
    assert notifier.check().result == WARNING and not notifier.flush(0)
    receiver.answer = 200
    assert notifier.flush(20)
    wait_until(lambda: sum("endsAt" in each for each in receiver.alerts) == 2, "both ends", 20)
    told = [(each["labels"]["alertname"], "endsAt" in each) for each in receiver.alerts]
    for name in ("crash", "disk_low"):
        assert [over for of, over in told if of == name] == [False, True]
    assert notifier.check().text == "what was due was delivered"


def test_a_receiver_that_never_answers_is_told_before_the_round_is_over(tmp_path: Path) -> None:
    """Of what is due and was never delivered health says so once one attempt should have ended."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        notifier = Notifier(Home(str(tmp_path)), live())
        try:
            notifier.configure(f"http://127.0.0.1:{silent.getsockname()[1]}", "")
            notifier.update("node", [alert()])
            assert (notifier.check().result, notifier.check().text) == (OK, "what is due is being delivered")
            notifier._updated -= delivery.TOTAL_S + 0.1  # as if that time had gone by
            assert (notifier.check().result, "not yet delivered" in notifier.check().text) == (WARNING, True)
        finally:
            notifier.close()


def test_a_round_is_a_bounded_number_of_attempts(notifier: Notifier, receiver: Receiver, tmp_path: Path) -> None:
    notifier = Notifier(Home(str(tmp_path)), live(), rest_s=60)
    receiver.answer = 503
    notifier.configure(receiver.url, "")
    notifier.update(NODE, [alert()])
    wait_until(lambda: notifier.check().result == WARNING, "health", 20)
    assert len(receiver.headers) == delivery.ATTEMPTS
    notifier.close()


def test_nobody_listens_and_then_somebody_does(notifier: Notifier, tmp_path: Path) -> None:
    """A port that refuses; then a receiver at it."""
    receiver = Receiver()
    url = receiver.url
    receiver.close()
    notifier.configure(url, "")
    notifier.update(NODE, [alert()])
    wait_until(lambda: notifier.check().result == WARNING, "health", 20)
    again = Receiver()
    notifier.configure(again.url, "")
    notifier.update(NODE, [alert()])
    assert notifier.flush(20)
    assert len(again.alerts) == 1
    again.close()


def test_the_token_comes_from_a_file_that_nobody_else_may_read(
    notifier: Notifier, receiver: Receiver, tmp_path: Path
) -> None:
    """It is sent, and neither health nor journal nor an alert holds it; a file that others may read is not used."""
    file = tmp_path / "alert.token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o644)
    notifier.configure(receiver.url, "alert.token")
    notifier.update(NODE, [alert()])
    wait_until(lambda: notifier.check().result == WARNING, "health", 20)
    assert not receiver.headers
    file.chmod(0o600)
    assert notifier.flush(20)
    assert receiver.headers[-1]["Authorization"] == f"Bearer {TOKEN}"
    told = json.dumps(receiver.alerts) + notifier.check().text + " ".join(journal(tmp_path))
    assert TOKEN not in told


def test_what_another_leads_is_not_said_to_have_ended(notifier: Notifier, receiver: Receiver) -> None:
    notifier.configure(receiver.url, "")
    notifier.update(NODE, [alert()])
    assert notifier.flush(10)
    notifier.update(NODE, [], ends=False)
    notifier.update(NODE, [])
    assert notifier.flush(10)
    assert len(receiver.alerts) == 1


def test_every_open_incident_and_alert_is_told() -> None:
    """With what its records say where they were seen, from the state alone where not; what no log holds as well."""
    from femtoclaw import events

    raised = events.AlertRaised("b" * 32, "health.memory", 2, "health", "", "no room", (), 5)
    operations = EMPTY.node.operations._replace(
        incidents=EMPTY.node.operations.incidents.set("a" * 32, Incident("crash", 2, "", 3600 * 10**9 + 7)),
        alerts=EMPTY.node.operations.alerts.set("b" * 32, 5),
    )
    node = EMPTY.node._replace(operations=operations, runtime_id=NODE)
    found = alerts_of(node, {"b" * 32: Told(3, raised)}, [Finding("disk_low", "little space")], 9)
    labels = [dict(each.labels) for each in found]
    assert [each["alertname"] for each in labels] == ["crash", "health.memory", "disk_low"]
    assert (labels[0]["incident"], labels[0]["severity"], found[0].starts_ns) == ("a" * 32, "high", 7)
    assert labels[2]["recorded"] == "no"
    assert all(each["node"] == NODE for each in labels)


@pytest.mark.skipif(shutil.which("prometheus-alertmanager") is None, reason="no Alertmanager here")
def test_a_real_alertmanager_takes_them(notifier: Notifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows the alert as active, and not any more after its end."""
    for name, seconds in (("TOTAL_S", 8.0), ("CONNECT_S", 3.0)):
        monkeypatch.setattr(delivery, name, seconds)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "am.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    process = subprocess.Popen(
        ["prometheus-alertmanager", f"--config.file={tmp_path}/am.yml", f"--storage.path={tmp_path}/am",
         f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"GOMAXPROCS": "1"},
    )  # fmt: skip

    def active() -> list[str]:
        with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/api/v2/alerts", timeout=5) as answer:
            return [each["labels"]["alertname"] for each in json.load(answer)]
        return ["not there"]

    try:
        wait_until(lambda: active() == [], "an Alertmanager", 30)
        notifier.configure(f"http://127.0.0.1:{port}", "")
        notifier.update(NODE, [alert()._replace(starts_ns=time.time_ns())])
        assert notifier.flush(20), notifier.check()
        wait_until(lambda: active() == ["crash"], "active", 20)
        notifier.update(NODE, [])
        assert notifier.flush(20), notifier.check()
        wait_until(lambda: active() == [], "over", 20)
    finally:
        process.terminate()
        process.wait(20)
