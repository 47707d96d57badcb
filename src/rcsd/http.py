"""HTTP requests, retried within one deadline while a server is busy or away.

When to retry is as in openai-python: faults of the connection, 408, 409, 425, 429 and every 5xx,
with ``Retry-After`` and ``x-should-retry`` honoured. That client counts attempts and has no
deadline, so the loop is here. Requests run on an event loop in a thread: a cancelled one ends at
once, whatever the server does, and one that drips ends at its deadline.
"""

import asyncio
import contextlib
import json
import math
import os
import random
import re
import ssl
import string
import threading
import time
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from rcsd.errors import ConfigError, RunError
from rcsd.redact import redacted, register_secret, without_registered

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between attempts: doubled each time, and by chance shortened to no less than half."""
LONG_WAIT = 10.0
"""Seconds without an answer after which a warning says so."""
MAX_ERROR_CHARACTERS = 20_000
"""Longer bodies of errors are cut before anything is looked for in them."""

# Codes, not sentences: Gemini says "exceeded your current quota" of a limit per minute.
_QUOTA = re.compile(r"(?i)insufficient_(?:quota|balance|funds|credits?)|billing_(?:hard_)?limit")
# Codes of errors that come with the status 200, by the status that they amount to.
_STATUS_WORDS = (
    (429, re.compile(r"(?i)rate.?limit|too.?many|resource_exhausted")),
    (503, re.compile(r"(?i)overload|unavailable|time.?out|server|internal")),
    (401, re.compile(r"(?i)auth|api.?key")),
)
_TRANSIENT_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_PERMANENT = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
_UNCONNECTED = (httpx2.ConnectError, httpx2.ConnectTimeout)


class ResponseModel(BaseModel):
    """Fields read from a response; extra fields are ignored."""


Model = TypeVar("Model", bound=ResponseModel)


class NoAnswerError(RunError):
    """A request that got no answer within its deadline.

    Args:
        problem: Fault of the last attempt.
        is_away: True if there was no connection: the fault is not the request's.
    """

    def __init__(self, message: str, problem: str, is_away: bool) -> None:
        super().__init__(message)
        self.problem, self.is_away = redacted(problem), is_away


@dataclass(frozen=True)
class ServerSettings:
    """Address of a server, what goes with each request, and limits of requests.

    ``setting`` (the configuration section), ``kind`` (such as ``a vLLM server``) and ``remedy``
    (for when it is back) are words of errors; ``connections`` is the maximum number of requests in
    flight.
    """

    url: str
    connections: int
    setting: str
    kind: str
    api_key_variable: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    patience_seconds: float = 600.0
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 600.0
    remedy: str = "go on with --resume"

    @classmethod
    def from_section(cls, section: Any, **words: Any) -> "ServerSettings":
        """Settings with the address, the key and the times of a configuration section."""
        times = ("patience_seconds", "connect_timeout_seconds", "read_timeout_seconds")
        names = ("url", "api_key_variable", "headers", "query", *times)
        return cls(**{name: getattr(section, name) for name in names}, **words)

    def filled(self, kind: Literal["headers", "query"]) -> dict[str, str]:
        """Headers or parameters with the values of variables, which are redacted from now on.

        Raises ConfigError if a variable is not set, or a value cannot be sent.
        """
        filled = self._authorization() if kind == "headers" else {}
        for name, text in getattr(self, kind).items():
            where = f"{self.setting}.{kind}.{name}"
            value = string.Template(text).substitute(_Variables(where)).strip()
            if kind == "headers" and not re.fullmatch(r"[ -~]*", value):
                raise ConfigError(f"{where}: a header holds ASCII on one line, no more")
            filled[name] = value
        return filled

    def _authorization(self) -> dict[str, str]:
        if (variable := self.api_key_variable) is None:
            return {}
        key, where = os.environ.get(variable, "").strip(), f"{self.setting}.api_key_variable"
        if not key:
            # What looks unlike a variable may be the key itself.
            name = variable if re.fullmatch(r"[A-Z_][A-Z0-9_]{0,60}", variable) else "the variable"
            raise ConfigError(
                f"{where}: {name} is not set in the environment; it takes the name of a variable, "
                "not a key"
            )
        if not re.fullmatch(r"[!-~]+", key):
            raise ConfigError(
                f"{where}: the value of the variable cannot be a header: it holds white space or a "
                "character beyond ASCII; it must be the key alone, without 'Bearer'"
            )
        register_secret(key)
        return {"Authorization": f"Bearer {key}"}


class _Variables(dict[str, str]):
    """Values of environment variables, each registered as a secret once it is read."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def __missing__(self, name: str) -> str:
        if not (value := os.environ.get(name, "").strip()):
            raise ConfigError(f"{self._where}: {name} is not set in the environment")
        register_secret(value)
        return value


@dataclass(frozen=True)
class Reply:
    """Response to a request; its address and the kind of server expected there are for errors.

    An error that came with the status 200 has the status that its code says. Texts of errors hold
    no secrets; others not the key.
    """

    status: int
    text: str
    source: str
    kind: str
    num_attempts: int = 1

    @property
    def message(self) -> str:
        """Short text of an error: the server's own message where the body has one."""
        return " ".join(_error_message(self.text).split())[:300]

    @property
    def is_quota(self) -> bool:
        """True if the account has no credit or quota left."""
        return self.status == 402 or (self.status != 200 and bool(_QUOTA.search(self.text)))

    def read(self, model: type[Model]) -> Model:
        """The body, validated.

        Raises RunError if the request was refused, or the body is something else.
        """
        if self.status != 200:
            raise RunError(f"{self.source}: refused with {self.status}: {self.text[:500]}")
        try:
            return model.model_validate_json(self.text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "its beginning"
            begin = redacted(self.text[:MAX_ERROR_CHARACTERS])[:200]
            raise RunError(
                f"{self.source}: the answer is not {self.kind}'s: {first['msg']} at {where}; "
                f"it begins {begin!r}"
            ) from None


class Server:
    """Client of one server. Threads may share it. Requests must be safe to repeat.

    Raises ConfigError if a variable is not set, or the address is malformed.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.url, self._settings, self.num_timeouts = settings.url, settings, 0
        read, connect = settings.read_timeout_seconds, settings.connect_timeout_seconds
        try:
            self._client = httpx2.AsyncClient(
                base_url=self.url,
                headers=settings.filled("headers"),
                params=settings.filled("query"),
                timeout=httpx2.Timeout(read, connect=connect, pool=None),
                limits=httpx2.Limits(max_connections=settings.connections),
            )
        except httpx2.InvalidURL as error:
            raise ConfigError(f"{settings.setting}.url: {error}") from None
        # Apart from the process's random numbers, which belong to the run.
        self._random, self._room = random.Random(), asyncio.Semaphore(settings.connections)
        self._loop, self._is_answering = asyncio.new_event_loop(), True
        arguments = (self._loop, self._client)
        thread = threading.Thread(target=_serve, args=arguments, name="rcsd-http", daemon=True)
        thread.start()
        # Nobody closes a judge or an engine: the connections go with the last reference.
        weakref.finalize(self, _stop, self._loop, thread)

    def submit(
        self, path: str, body: Mapping[str, Any] | None = None, retries_500: bool = True
    ) -> Future[Reply]:
        """Begin a request once there is room for it; a cancelled one ends at once.

        The arguments and the result's errors are those of `request`.
        """
        return asyncio.run_coroutine_threadsafe(
            self._requested(path, body, retries_500), self._loop
        )

    def request(
        self, path: str, body: Mapping[str, Any] | None = None, retries_500: bool = True
    ) -> Reply:
        """Response to a request, after as many attempts as the deadline allows.

        A body is sent by POST as JSON. Without ``retries_500`` a 500 is an answer, as on routes
        that give it for bad requests. Raises NoAnswerError if there is no answer within
        ``patience_seconds``, and RunError where no attempt could ever succeed.
        """
        [reply] = self._results([self.submit(path, body, retries_500)])
        return reply

    def request_all(self, path: str, bodies: Sequence[Mapping[str, Any]]) -> list[Reply]:
        """Responses to several bodies, in order; the first failure ends the others."""
        return self._results([self.submit(path, body) for body in bodies])

    def give_up_unanswered(self) -> None:
        """Cancel all requests, if the last attempt of any had no answer."""
        if not self._is_answering:
            self._loop.call_soon_threadsafe(lambda: [t.cancel() for t in asyncio.all_tasks()])

    def _results(self, futures: Sequence[Future[Reply]]) -> list[Reply]:
        try:
            return [future.result() for future in futures]
        finally:  # also where the caller is interrupted
            for future in futures:
                future.cancel()

    async def _requested(
        self, path: str, body: Mapping[str, Any] | None, retries_500: bool
    ) -> Reply:
        async with self._room:
            return await self._retried(path, body, retries_500)

    async def _retried(self, path: str, body: Mapping[str, Any] | None, retries_500: bool) -> Reply:
        method, source = ("GET" if body is None else "POST"), f"{self.url}{path}"
        start, patience = time.monotonic(), self._settings.patience_seconds
        num_attempts, warned, problem, is_away = 0, False, "", False
        while True:
            num_attempts, retry_after = num_attempts + 1, 0.0
            left = start + patience - time.monotonic()
            try:
                attempt = self._client.request(method, path, json=body)
                response = await asyncio.wait_for(attempt, left)
                status, text, is_transient = _read(response, retries_500)
                if not is_transient:
                    self._is_answering = True
                    return Reply(status, text, source, self._settings.kind, num_attempts)
                problem, is_away = f"{status}: {text[:200]}", False
                retry_after = _retry_after_seconds(response.headers)
            except asyncio.TimeoutError:
                self.num_timeouts += 1
                problem = problem or "the server was silent, or too slow"
            except httpx2.RequestError as error:
                self.num_timeouts += isinstance(error, httpx2.TimeoutException)
                problem, is_away = _problem(error), isinstance(error, _UNCONNECTED)
                if fault := _permanent_fault(error):
                    setting = self._settings.setting
                    raise RunError(f"{source}: {problem}; {fault} ({setting}.url)") from None
            self._is_answering = False
            backoff = min(FIRST_PAUSE * 2.0 ** min(num_attempts - 1, 30), LONGEST_PAUSE)
            wait = max(backoff * self._random.uniform(0.5, 1.0), retry_after)
            passed = time.monotonic() - start
            if passed + wait > patience:
                raise self._no_answer(source, num_attempts, passed, problem, is_away)
            if passed > LONG_WAIT and not warned:
                warned = True
                warnings.warn(
                    f"{source} does not answer ({problem}); the request is retried for up to "
                    f"{patience:.0f} seconds",
                    stacklevel=1,
                )
            await asyncio.sleep(wait)

    def _no_answer(
        self, source: str, num_attempts: int, passed: float, problem: str, is_away: bool
    ) -> NoAnswerError:
        setting, remedy = self._settings.setting, self._settings.remedy
        message = (
            f"{source}: no answer after {num_attempts} attempts in {passed:.0f} seconds, "
            f"the last: {problem}. Check that the server runs and {setting}.url is right, "
            f"then {remedy}; {setting}.patience_seconds waits longer"
        )
        return NoAnswerError(message, problem, is_away)


def _serve(loop: asyncio.AbstractEventLoop, client: httpx2.AsyncClient) -> None:
    """Run requests until `_stop`, then end those that are left."""

    async def close() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.aclose()
        await asyncio.sleep(0)  # transports end in the loop's next round

    loop.run_forever()
    loop.run_until_complete(close())
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    with contextlib.suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(1.0)


def _read(response: httpx2.Response, retries_500: bool) -> tuple[int, str, bool]:
    """Status and text without secrets, and True if the same request may succeed later."""
    status, text = response.status_code, response.text
    if status == 200:
        body = text.strip()
        if body.startswith("{") and not body.endswith("}"):
            return status, f"the body is cut off after {len(text)} characters", True
        error = _error(text) if '"error"' in text else None
        if error is None:
            return status, without_registered(text), False
        status = _error_status(error)
    text = redacted(text[:MAX_ERROR_CHARACTERS])
    verdict = response.headers.get("x-should-retry")
    if _QUOTA.search(text):
        return status, text, False
    if verdict in ("true", "false"):
        return status, text, verdict == "true"
    is_transient = status in (408, 409, 425, 429) or status > 500
    return status, text, is_transient or (status == 500 and retries_500)


def _error(text: str) -> Any:
    """The error object in a JSON body or its first choice; None: there is none."""
    with contextlib.suppress(ValueError, RecursionError):
        tree = json.loads(text)
        tree = tree[0] if isinstance(tree, list) and tree else tree
        if isinstance(tree, dict):
            choices = tree.get("choices")
            first = choices[0] if isinstance(choices, list) and choices else None
            return tree.get("error") or (first.get("error") if isinstance(first, dict) else None)
    return None


def _error_status(error: Any) -> int:
    """Status that an error object amounts to; 400 where its code does not say."""
    fields = error if isinstance(error, Mapping) else {"code": error}
    codes = [fields.get(name) for name in ("code", "status", "type")]
    for code in codes:
        if re.fullmatch(r"[45]\d\d", str(code)):
            return int(str(code))
    words = " ".join(str(code) for code in codes)
    matches = (status for status, pattern in _STATUS_WORDS if pattern.search(words))
    return next(matches, 400)


def _error_message(text: str) -> str:
    """The message within an error's body, with its code; the body where there is none."""
    error = _error(text)
    if error is None:
        with contextlib.suppress(ValueError, RecursionError):
            error = json.loads(text)
    if isinstance(error, Mapping):
        message = next((error[n] for n in ("message", "msg", "detail") if error.get(n)), None)
        if message is not None:
            code = error.get("code") or error.get("type")
            return f"{message} ({code})" if isinstance(code, str) else str(message)
    return error if isinstance(error, str) else text


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes."""
    while error is not None:
        yield error
        for inner in getattr(error, "exceptions", ()):  # of a group
            yield from _causes(inner)
        error = error.__cause__ or error.__context__


def _problem(error: httpx2.RequestError) -> str:
    """The error in words; a connection that failed says why only in its cause."""
    reasons = [os.strerror(e.errno) for e in _causes(error) if isinstance(e, OSError) and e.errno]
    reason = reasons[-1] if reasons else ""
    text = str(error)
    more = f" ({reason})" if reason and reason not in text else ""
    return redacted(f"{type(error).__name__}: {text}{more}")


def _permanent_fault(error: httpx2.RequestError) -> str:
    """Remedy of a fault that no repetition mends; empty: it may pass."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "its certificate is not trusted: set SSL_CERT_FILE, or check the address"
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _TRANSIENT_TLS):
            return "TLS failed: check the address, and whether it begins with http or https"
    return "the address cannot be used: check it" if isinstance(error, _PERMANENT) else ""


def _retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Wait that a server asks for, in milliseconds, seconds or as a date; 0: none, or malformed."""
    seconds = 0.0
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with contextlib.suppress(KeyError, ValueError):
            seconds = float(headers[name]) * unit
            break
    else:
        with contextlib.suppress(KeyError, ValueError, TypeError, OverflowError):
            date = parsedate_to_datetime(headers["retry-after"])
            seconds = date.timestamp() - time.time()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
