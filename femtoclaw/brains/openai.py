"""Any OpenAI-compatible chat-completions endpoint: llama.cpp, Ollama, vLLM, or remote. Thin: one request, one answer.

Everything from the network is untrusted and bounded: the answer's size, each read, and the whole exchange. Retries go
to errors that may pass (429, 5xx, resets, timeouts). Redirects and proxy variables are not honoured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from femtoclaw.brains import Context, OversizeError, Thought
from femtoclaw.brains.prompt import system_prompt
from femtoclaw.errors import BrainError, ConfigurationError

ANSWER_BYTES_MAX = 1024 * 1024
RETRY_AFTER_SECONDS_MAX = 30.0
_RETRIED = frozenset({429, 500, 502, 503, 504})


class RateLimitedError(BrainError):
    """The endpoint asks to come back later (429)."""

    code = "BRAIN_RATE_LIMITED"

    retry_after = 0.0


class HttpError(BrainError):
    """The endpoint answered with an error status."""

    code = "BRAIN_HTTP_ERROR"


class ServerError(HttpError):
    """A status that may pass (5xx)."""


class MalformedAnswerError(BrainError):
    """The answer is not a chat completion."""

    code = "BRAIN_MALFORMED_ANSWER"


class UnreachableError(BrainError):
    """No connection, or it broke."""

    code = "BRAIN_UNREACHABLE"


class TimeoutExpiredError(BrainError):
    """No answer in time."""

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
        if not good or (type(default) in (int, float) and value < 0):
            raise ConfigurationError(
                "wrong brain setting",
                where=f"runtime.brains.openai.{key}",
                expected=type(default).__name__,
                found=value,
            )
        settings = settings._replace(**{key: value})
    if not settings.base_url.startswith(("http://", "https://")) or settings.attempts < 1:
        raise ConfigurationError(
            "wrong brain setting", where="runtime.brains.openai", expected="an http(s) base_url, attempts >= 1"
        )
    return settings


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
        self.name = f"openai:{model}"
        self._model = model
        self._settings = settings
        self._api_key = api_key
        self._sleep = sleep
        self._clock = clock

    def __repr__(self) -> str:
        return f"OpenAIBrain({self.name!r}, {self._settings.base_url!r})"

    def think(self, context: Context) -> Thought:
        """The model's answer as raw bytes. Raises a BrainError after the last attempt."""
        import tenacity

        deadline = self._clock() + self._settings.total_seconds
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._settings.attempts),
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
                if self._clock() >= deadline:
                    raise BrainDeadlineError(
                        "the brain's total time is used up", expected=f"{self._settings.total_seconds} s"
                    )
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
        """One request over one connection."""
        import http.client
        import urllib.parse

        settings = self._settings
        url = urllib.parse.urlsplit(settings.base_url)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=settings.connect_seconds)
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if settings.stream else "application/json",
        }
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        try:
            connection.connect()
            assert connection.sock is not None
            connection.sock.settimeout(min(settings.read_seconds, max(0.001, deadline - self._clock())))
            connection.request("POST", f"{url.path.rstrip('/')}/chat/completions", self._request(context), headers)
            response = connection.getresponse()
            _check_status(response.status, response.getheader("Retry-After"))
            raw = self._read(response, deadline)
        except TimeoutError as error:
            raise TimeoutExpiredError(
                "the brain did not answer in time", where=url.netloc.rpartition("@")[2]
            ) from error
        except (OSError, http.client.HTTPException) as error:
            where = url.netloc.rpartition("@")[2]
            raise UnreachableError("the brain cannot be reached", where=where, found=type(error).__name__) from error
        finally:
            connection.close()
        answer = streamed(raw) if settings.stream else completed(raw)
        return answer, {"endpoint": url.netloc.rpartition("@")[2], "http_status": "200"}

    def _read(self, response: Any, deadline: float) -> bytes:
        """The body, bounded in size and in total time however slowly it drips."""
        parts: list[bytes] = []
        size = 0
        while True:
            part = response.read1(65536)
            if not part:
                break
            size += len(part)
            parts.append(part)
            if size > ANSWER_BYTES_MAX:
                raise OversizeError(
                    "the brain's answer is too large", expected=f"<= {ANSWER_BYTES_MAX} bytes", found=f"> {size}"
                )
            if self._clock() > deadline:
                raise TimeoutExpiredError(
                    "the brain's total time is used up", expected=f"{self._settings.total_seconds} s"
                )
        if response.length:
            raise UnreachableError("the answer ended early", expected=f"{response.length} more bytes")
        return b"".join(parts)


class BrainDeadlineError(BrainError):
    """All attempts together took too long."""

    code = "BRAIN_TIMEOUT"


def _check_status(status: int, retry_after: str | None) -> None:
    if status == 200:
        return
    if status == 429:
        error = RateLimitedError("the brain asks to come back later", found="status 429")
        if retry_after is not None and retry_after.strip().isdigit():
            error.retry_after = float(retry_after)
        raise error
    kind = ServerError if status in _RETRIED else HttpError
    raise kind("the brain's endpoint refused", expected="status 200", found=f"status {status}")


def completed(raw: bytes) -> bytes:
    """The content of a whole chat completion. Raises MalformedAnswerError."""
    return _content(_json(raw), "message")


def streamed(raw: bytes) -> bytes:
    """The content of a server-sent stream of deltas, which must end with [DONE]. Raises MalformedAnswerError."""
    parts: list[bytes] = []
    for line in raw.replace(b"\r\n", b"\n").split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return b"".join(parts)
        parts.append(_content(_json(data), "delta"))
    raise MalformedAnswerError("the stream ended without [DONE]")


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswerError("the answer is not JSON", found=type(error).__name__) from error


def _content(body: Any, part: str) -> bytes:
    """choices[0].message.content, or the one native function call in the protocol's own form."""
    try:
        message = body["choices"][0][part]
        calls, content = message.get("tool_calls"), message.get("content")
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise MalformedAnswerError("the answer is no chat completion", expected=f"choices[0].{part}") from error
    if calls and not content and part == "message":
        return _native_calls(calls)
    if content is None and part == "delta":
        return b""
    if not isinstance(content, str):
        raise MalformedAnswerError("the answer has no text", expected="choices[0].message.content")
    return content.encode("utf-8", "surrogatepass")


def _native_calls(calls: Any) -> bytes:
    """Native function calls, each as a protocol message on a line: more than one is no valid message and is rejected."""
    lines: list[str] = []
    try:
        for call in calls:
            function = call["function"]
            name, arguments = json.dumps(function["name"]), str(function["arguments"])
            lines.append(f'{{"tool_call":{{"tool":{name},"args":{arguments}}}}}')
    except (TypeError, KeyError) as error:
        raise MalformedAnswerError("a native tool call is malformed") from error
    return "\n".join(lines).encode("utf-8", "surrogatepass")
