"""Sending alerts to whoever wakes people: in a thread of its own, in bounded time, tried again, and never in anybody's way.

``update`` says what is to be told now and returns at once. The thread sends what changed, all of it again every ``AGAIN_S`` (an
Alertmanager ends what it does not hear of any more), and the end of what is over. What could not be delivered stays due; ``check``
says so in health, the journal has a line when it begins and when it is over, and the log holds the alerts whatever happens here.
"""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from femtoclaw.brains.connection import Deadline, Resolver, open_connection
from femtoclaw.errors import ConfigurationError, UnavailableError
from femtoclaw.home import Home, journal, read_bounded
from femtoclaw.incidents.alertmanager import PATH, Alert, body_of, ended
from femtoclaw.monitoring.looked import OK, WARNING, Check
from femtoclaw.web_address import WebAddress, read_address

if TYPE_CHECKING:
    from femtoclaw.sources import Sources

AGAIN_S = 60.0
CONNECT_S = 3.0
TOTAL_S = 8.0
"""Of one attempt, whatever the other side does."""

ATTEMPTS = 3
WAIT_S, WAIT_MAX_S = 0.5, 4.0
"""Before the second attempt and each later one: twice as long as before, up to the bound."""

REST_S = 30.0
"""Between two rounds of attempts that failed: a second at first, each time twice as long, up to this."""

ALERTS_SENT_MAX = 1024
TOKEN_BYTES_MAX = 4096
STOP_S = 1.0

Labels = tuple[tuple[str, str], ...]


class DeliveryError(UnavailableError):
    """Alerts could not be delivered; they stay due."""

    code = "ALERTS_NOT_DELIVERED"
    default_remedy = "see `observability.alert_webhook` and whoever listens there; the log holds every alert"


class Target(NamedTuple):
    """Where alerts go; ``token_file`` is empty where no token is sent."""

    address: WebAddress
    token_file: str


class Notifier:
    """One receiver, one thread, one bounded set of alerts. Thread-safe."""

    def __init__(self, home: Home, sources: Sources, *, again_s: float = AGAIN_S, rest_s: float = REST_S) -> None:
        self._home = home
        self._sources = sources
        self._again_s, self._rest_s = again_s, rest_s
        self._changed = threading.Condition()
        self._target: Target | None = None
        self._resolver: Resolver | None = None
        self._node = ""
        self._due: dict[Labels, Alert] = {}
        self._owed: dict[Labels, Alert] = {}
        """What has ended before anybody was told that it had begun: told once, and then its end."""
        self._sent: dict[Labels, tuple[Alert, float]] = {}
        self._failing = ""
        self._updated = 0.0
        """When what has not been delivered so far became due, by the monotonic clock."""
        self._failed_rounds = 0
        self._over = False
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def configure(self, webhook: str, token_file: str) -> None:
        """Send there from now on; nowhere for an empty address. It was checked when it was configured."""
        path = self._home.inside(token_file) if token_file else ""
        target = Target(read_address(webhook), path) if webhook else None
        with self._changed:
            if target != self._target:
                self._target, self._sent, self._failing = target, {}, ""
                self._resolver = Resolver(target.address.host, target.address.port) if target is not None else None

    def update(self, node: str, alerts: list[Alert], *, ends: bool = True) -> None:
        """What is to be told now, all of it: what is not among these any more has ended, or without ``ends`` is no longer this
        node's to tell. Returns at once."""
        with self._changed:
            new = any(alert.labels not in self._due for alert in alerts[:ALERTS_SENT_MAX])
            if new and all(labels in self._sent for labels in self._due):
                self._updated = time.monotonic()
            self._node = node
            due = {alert.labels: alert for alert in alerts[:ALERTS_SENT_MAX]}
            if self._target is not None:
                over = {labels: each for labels, each in self._due.items() if labels not in due and labels not in self._sent}
                self._owed = dict(list((self._owed | over).items())[-ALERTS_SENT_MAX:])
            self._owed = {labels: each for labels, each in self._owed.items() if labels not in due}
            self._due = due
            if not ends:
                self._owed = {}
                self._sent = {labels: each for labels, each in self._sent.items() if labels in self._due}
            if self._target is None or self._over:
                return
            if self._thread is None and (alerts or self._owed):
                self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
                self._thread.start()
            self._changed.notify()

    def check(self) -> Check:
        """How delivery stands, for health."""
        with self._changed:
            if self._target is None:
                return Check("alerts", OK, "no webhook is configured")
            if self._failing:
                return Check("alerts", WARNING, self._failing)
            # What has been delivered once and is only due again is nobody's loss while its turn comes.
            if all(labels in self._sent for labels in self._due) and not self._owed:
                return Check("alerts", OK, "what was due was delivered")
            late = time.monotonic() - self._updated > TOTAL_S
            text = "not yet delivered: the receiver has not answered" if late else "what is due is being delivered"
            return Check("alerts", WARNING if late else OK, text)

    def close(self) -> None:
        """Stop; waits a moment for what is under way, and sends nothing more."""
        with self._changed:
            self._over = True
            self._changed.notify()
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def flush(self, seconds: float) -> bool:
        """Wait until everything due was delivered; False when it was not in time."""
        until = time.monotonic() + seconds
        with self._changed:
            while self._pending() and time.monotonic() < until:
                self._changed.wait(0.05)
            return not self._pending()

    # --- the thread ---

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._over and not self._pending():
                    self._changed.wait(self._again_s / 2)
                if self._over:
                    return
                target, resolver, node = self._target, self._resolver, self._node
                batch = self._pending()
            if target is None or resolver is None:
                continue
            try:
                self._attempts(target, resolver, [body_of(each, node) for each in batch])
            except (DeliveryError, ConfigurationError) as error:
                self._failed(error)
                self._stop.wait(min(self._rest_s, float(1 << min(self._failed_rounds, 16))))
                self._failed_rounds += 1
                continue
            self._failed_rounds = 0
            self._delivered(target, batch)

    def _pending(self) -> list[Alert]:
        """What is new, changed, due again, or over. Of what failed all is still pending."""
        if self._target is None:
            return []
        now, wall = time.monotonic(), self._sources.wall_ns()
        found = []
        for labels, alert in self._due.items():
            before, at = self._sent.get(labels, (None, 0.0))
            if before is None or before.annotations != alert.annotations or now - at >= self._again_s:
                found.append(alert)
        found += self._owed.values()
        return found + [ended(each, wall) for labels, (each, _) in self._sent.items() if labels not in self._due]

    def _delivered(self, target: Target, batch: list[Alert]) -> None:
        with self._changed:
            if target != self._target:
                return
            now = time.monotonic()
            for alert in batch:
                if alert.ends_ns:
                    self._sent.pop(alert.labels, None)
                else:
                    self._sent[alert.labels] = alert, now
                    self._owed.pop(alert.labels, None)
            was, self._failing = self._failing, ""
            self._changed.notify_all()
        if was:
            journal(self._home, self._sources.wall_ns(), "alerts", text="delivered again")

    def _failed(self, error: DeliveryError | ConfigurationError) -> None:
        told = f"not delivered: {error.what}" + (f" ({error.found})" if error.found else "")
        with self._changed:
            was, self._failing = self._failing, told
        if not was:
            journal(self._home, self._sources.wall_ns(), "alerts", text=told)

    def _attempts(self, target: Target, resolver: Resolver, alerts: list[dict[str, Any]]) -> None:
        import tenacity

        raw = json.dumps(alerts, ensure_ascii=True).encode()
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_when_event_set(self._stop),
            wait=tenacity.wait_exponential(multiplier=WAIT_S, max=WAIT_MAX_S),
            retry=tenacity.retry_if_exception_type(DeliveryError),
            sleep=tenacity.sleep_using_event(self._stop),
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                post(target, resolver, raw)


def post(target: Target, resolver: Resolver, raw: bytes) -> None:
    """One attempt, over within ``TOTAL_S``. Redirects are not followed and proxy variables not looked at: the token goes to the
    configured address only. Raises DeliveryError, or ConfigurationError for a token file that cannot be used."""
    import http.client

    address = target.address
    path = address.path.rstrip("/")
    headers = {"Content-Type": "application/json", "Host": address.authority, **_authorization(target.token_file)}
    now = time.monotonic()
    connecting, exchanging = (
        Deadline(time.monotonic, now + CONNECT_S, CONNECT_S),
        Deadline(time.monotonic, now + TOTAL_S, TOTAL_S),
    )
    try:
        connection = open_connection(address.scheme, address.host, address.port, resolver, connecting, exchanging)
        try:
            connection.request("POST", path if path.endswith(PATH) else path + PATH, raw, headers)
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        kind = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        raise DeliveryError("the receiver of alerts cannot be reached", where=address.authority, found=kind) from error
    if not 200 <= status < 300:
        raise DeliveryError("the receiver of alerts refused them", where=address.authority, found=f"status {status}")


def _authorization(path: str) -> dict[str, str]:
    """The header with the token in this file, which nobody else may read. Raises ConfigurationError without its content."""
    if not path:
        return {}
    try:
        status = os.stat(path)
    except OSError as error:
        raise ConfigurationError("the token file cannot be read", where=path, found=error.strerror) from error
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigurationError(
            "others may read the token file", where=path, expected="mode 0600", found=f"{stat.S_IMODE(status.st_mode):04o}",
            remedy=f"run `chmod 600 {path}`, and have the token changed at whoever gave it",
        )  # fmt: skip
    token = read_bounded(path, TOKEN_BYTES_MAX).strip()
    if not token or not token.isascii() or any(each < 0x21 or each > 0x7E for each in token):
        raise ConfigurationError("the token file holds no token", where=path, expected="one line of visible ASCII")
    return {"Authorization": f"Bearer {token.decode()}"}
