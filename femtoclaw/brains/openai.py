"""Any OpenAI-compatible chat-completions endpoint: llama.cpp, Ollama, vLLM, or remote. Thin: one request, one answer.

Everything from the network is untrusted and bounded: the answer's size, each read, and the whole exchange with name
lookup, waits and retries. Retries go to errors that may pass (429, 5xx, resets, timeouts). Redirects and proxy variables
are not honoured: the key goes to the configured address only.
"""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from femtoclaw.brains import Context, OversizeError, Thought
from femtoclaw.brains.completions import MalformedAnswerError, completed, shows, streamed
from femtoclaw.brains.connection import Deadline, LookupTimeoutError, Resolver, open_connection
from femtoclaw.brains.prompt import system_prompt
from femtoclaw.errors import BrainError, ConfigurationError

ANSWER_BYTES_MAX = 1024 * 1024
RETRY_AFTER_SECONDS_MAX = 30.0
SECONDS_MAX = 86_400.0
"""Any of the three times in the settings."""

ATTEMPTS_MAX = 100
KEY_CHARS_MIN = 12
"""Shorter keys are words like `none` that local endpoints are given, and that answers may hold."""

_RETRIED = frozenset({429, 500, 502, 503, 504})
_PORTS = {"http": 80, "https": 443}


class RateLimitedError(BrainError):
    """The endpoint asks to come back later (429)."""

    code = "BRAIN_RATE_LIMITED"

    retry_after = 0.0


class HttpError(BrainError):
    """The endpoint answered with an error status."""

    code = "BRAIN_HTTP_ERROR"


class ServerError(HttpError):
    """A status that may pass (5xx)."""


class UnreachableError(BrainError):
    """No connection, or it broke."""

    code = "BRAIN_UNREACHABLE"


class TimeoutExpiredError(BrainError):
    """No answer in time."""

    code = "BRAIN_TIMEOUT"


class BrainDeadlineError(BrainError):
    """All attempts together took too long."""

    code = "BRAIN_TIMEOUT"


class Settings(NamedTuple):
    """``runtime.brains.openai`` in the configuration."""

    base_url: str = "http://127.0.0.1:8080/v1"
    connect_seconds: float = 5.0
    read_seconds: float = 60.0
    total_seconds: float = 300.0
    attempts: int = 4
    stream: bool = False
    temperature: float = 0.0
    max_tokens: int = 2048


def read_settings(raw: Mapping[str, Any]) -> Settings:
    """Settings over their defaults. Raises ConfigurationError for unknown keys, wrong types and values out of bounds."""
    settings = Settings()
    for key, value in raw.items():
        if key not in Settings._fields:
            raise ConfigurationError(
                "unknown brain setting", where=f"runtime.brains.openai.{key}", expected=Settings._fields
            )
        default = getattr(settings, key)
        good = (
            isinstance(value, (int, float)) and not isinstance(value, bool)
            if type(default) is float
            else type(value) is type(default)
        )
        low, high = _BOUNDS.get(key, (0, 0))
        if not good or (key in _BOUNDS and not low <= value <= high):
            raise ConfigurationError(
                "wrong brain setting",
                where=f"runtime.brains.openai.{key}",
                expected=type(default).__name__ + (f", {low} to {high}" if key in _BOUNDS else ""),
                found=value if good else type(value).__name__,  # a text may be a key that was meant for elsewhere
            )
        settings = settings._replace(**{key: value})
    if _endpoint(settings.base_url) is None:
        # Not shown: what does not belong into it is often a user's name and password.
        raise ConfigurationError(
            "wrong brain setting",
            where="runtime.brains.openai.base_url",
            expected="http(s)://HOST[:PORT][/PATH] in ASCII, without user, query or fragment",
        )
    return settings


_BOUNDS: dict[str, tuple[float, float]] = {
    "connect_seconds": (0.001, SECONDS_MAX),
    "read_seconds": (0.001, SECONDS_MAX),
    "total_seconds": (0.001, SECONDS_MAX),
    "attempts": (1, ATTEMPTS_MAX),
    "temperature": (0, 100),
    "max_tokens": (0, 1 << 31),
}


class _Endpoint(NamedTuple):
    """A base_url's parts; ``where`` is host and port as they were written."""

    scheme: str
    host: str
    port: int
    path: str
    where: str


def _endpoint(base_url: str) -> _Endpoint | None:
    """Its parts, or None when it is no address that a key may be sent to."""
    if not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        return None
    try:
        url = urllib.parse.urlsplit(base_url)
        port = url.port
    except ValueError:
        return None
    if url.scheme not in _PORTS or not url.hostname or port == 0 or "@" in url.netloc or {"?", "#"} & set(base_url):
        return None
    return _Endpoint(url.scheme, url.hostname, port or _PORTS[url.scheme], url.path.rstrip("/"), url.netloc)


class OpenAIBrain:
    """A brain behind ``base_url``/chat/completions."""

    def __init__(
        self,
        model: str,
        settings: Settings,
        api_key: str | None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not model:
            raise ConfigurationError("the brain needs a model", where="--brain", expected="openai:MODEL")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise ConfigurationError(
                "the brain's key cannot be sent",
                where="FEMTOCLAW_OPENAI_API_KEY",
                expected="printable ASCII without line breaks",
                found="other characters",
            )
        endpoint = _endpoint(settings.base_url)
        if endpoint is None:
            raise ConfigurationError("the brain's address cannot be used", where="runtime.brains.openai.base_url")
        self._endpoint = endpoint
        self._resolver = Resolver(endpoint.host, endpoint.port)
        self.name = f"openai:{model}"
        self._model = model
        self._settings = settings
        self._api_key = api_key
        self._sleep = sleep
        self._clock = clock

    def __repr__(self) -> str:
        return f"OpenAIBrain({self.name!r}, {self._settings.base_url!r})"

    def think(self, context: Context) -> Thought:
        """The model's answer as raw bytes. Raises a BrainError after the last attempt, at most ``total_seconds`` later.

        A wait that would outlast the deadline is not begun: what the last attempt came to is raised at once.
        """
        import tenacity

        deadline = self._clock() + self._settings.total_seconds
        retrying = tenacity.Retrying(
            stop=lambda state: (
                state.attempt_number >= self._settings.attempts or self._clock() + state.upcoming_sleep >= deadline
            ),
            retry=tenacity.retry_if_exception_type(
                (RateLimitedError, ServerError, UnreachableError, TimeoutExpiredError)
            ),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        attempts = 0
        for attempt in retrying:
            with attempt:
                attempts += 1
                raw, provenance = self._ask(context, deadline)
        return Thought(raw, {**provenance, "model": self._model, "attempts": str(attempts)})

    def _wait(self, state: Any) -> float:
        """Exponential from half a second, or what the endpoint asked for, bounded."""
        error = state.outcome.exception()
        asked = getattr(error, "retry_after", 0.0)
        return float(min(RETRY_AFTER_SECONDS_MAX, max(asked, 0.5 * 2 ** (state.attempt_number - 1))))

    def _request(self, context: Context) -> bytes:
        messages = [{"role": "system", "content": system_prompt(context.tools)}]
        for turn in context.turns:
            # Tool results come back as user turns: the protocol is text, not the endpoint's own tool format.
            messages.append({"role": "assistant" if turn.role == "assistant" else "user", "content": turn.content})
        body = {
            "model": self._model,
            "messages": messages,
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens,
            "stream": self._settings.stream,
        }
        return json.dumps(body).encode()

    def _ask(self, context: Context, deadline: float) -> tuple[bytes, dict[str, str]]:
        """One request over one connection, over by ``deadline``."""
        import http.client

        settings, where = self._settings, self._endpoint.where
        exchanging = Deadline(self._clock, deadline, settings.read_seconds)
        try:
            raw = self._exchange(self._request(context), exchanging)
        except TimeoutError as error:
            if self._clock() >= deadline:
                raise BrainDeadlineError(
                    "the brain's total time is used up", where=where, expected=f"{settings.total_seconds} s"
                ) from error
            looking_up = isinstance(error, LookupTimeoutError)
            what = "the brain's name was not resolved in time" if looking_up else "the brain did not answer in time"
            raise TimeoutExpiredError(what, where=where) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError("the brain cannot be reached", where=where, found=type(error).__name__) from error
        answer = streamed(raw) if settings.stream else completed(raw)
        key = self._api_key or ""
        if len(key) >= KEY_CHARS_MIN and shows(answer, key):
            # An endpoint that shows the headers it got; recorded, the key would be in every export (I12).
            raise MalformedAnswerError("the answer holds the key that was sent", where=where)
        return answer, {"endpoint": where, "http_status": "200"}

    def _exchange(self, body: bytes, exchanging: Deadline) -> bytes:
        """Connect, ask, and read the answer's body. Raises OSError, HTTPException or BrainError."""
        settings, endpoint = self._settings, self._endpoint
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if settings.stream else "application/json",
        }
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        ends = min(exchanging.at, self._clock() + settings.connect_seconds)
        connecting = Deadline(self._clock, ends, settings.connect_seconds)
        connection = open_connection(
            endpoint.scheme, endpoint.host, endpoint.port, self._resolver, connecting, exchanging
        )
        try:
            connection.request("POST", f"{endpoint.path}/chat/completions", body, headers)
            with connection.getresponse() as response:
                _check_status(response.status, response.getheader("Retry-After"))
                return _read(response)
        finally:
            connection.close()


def _read(response: Any) -> bytes:
    """The body, bounded in size; its connection bounds the time."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(65536):
        size += len(part)
        parts.append(part)
        if size > ANSWER_BYTES_MAX:
            raise OversizeError(
                "the brain's answer is too large", expected=f"<= {ANSWER_BYTES_MAX} bytes", found=f"> {size}"
            )
    if response.length:
        raise UnreachableError("the answer ended early", expected=f"{response.length} more bytes")
    return b"".join(parts)


def _check_status(status: int, retry_after: str | None) -> None:
    if status == 200:
        return
    if status == 429:
        error = RateLimitedError("the brain asks to come back later", found="status 429")
        if retry_after is not None and retry_after.isascii() and retry_after.strip().isdigit():
            error.retry_after = float(retry_after)
        raise error
    kind = ServerError if status in _RETRIED else HttpError
    raise kind("the brain's endpoint refused", expected="status 200", found=f"status {status}")
