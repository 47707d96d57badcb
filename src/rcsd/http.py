"""HTTP requests, retried within one deadline while a server is busy or away.

When to retry is as in openai-python: faults of the connection, 408, 409, 425, 429 and every 5xx,
with ``Retry-After`` and ``x-should-retry`` honoured. That client counts attempts and has no
deadline, and a sleep of its cannot be ended from outside, so the loop is here.
"""

import os
import random
import string
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from rcsd.errors import ConfigError, RunError
from rcsd.redact import register_secret

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between attempts: doubled each time, and by chance shortened to no less than half."""
LONG_WAIT = 10.0
"""Seconds without an answer after which a warning says so."""


class ResponseModel(BaseModel):
    """Fields read from a response; extra fields are ignored."""


Model = TypeVar("Model", bound=ResponseModel)


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


@dataclass(frozen=True)
class Reply:
    """Response to a request; its address and the kind of server expected there are for errors."""

    status: int
    text: str
    source: str
    kind: str
    num_attempts: int = 1

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
            raise RunError(
                f"{self.source}: the answer is not {self.kind}'s: {first['msg']} at {where}; "
                f"it begins {self.text[:200]!r}"
            ) from None


class Server:
    """Client of one server. Threads may share it. Requests must be safe to repeat.

    Raises ConfigError if a variable of the environment is not set.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.url, self._settings = settings.url, settings
        headers = _filled(settings, "headers")
        if (variable := settings.api_key_variable) is not None:
            if not (key := os.environ.get(variable)):
                raise ConfigError(
                    f"{settings.setting}.api_key_variable: {variable} is not set in the environment"
                )
            headers = {"Authorization": f"Bearer {key}", **headers}
        read, connect = settings.read_timeout_seconds, settings.connect_timeout_seconds
        self._client = httpx2.Client(
            base_url=self.url,
            headers=headers,
            params=_filled(settings, "query"),
            timeout=httpx2.Timeout(read, connect=connect, pool=None),
            limits=httpx2.Limits(max_connections=settings.connections),
        )
        # Nobody closes a judge or an engine: the connections go with the last reference.
        weakref.finalize(self, self._client.close)
        # Apart from the process's random numbers, which belong to the run.
        self._random = random.Random()

    def request(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        retries_500: bool = True,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Reply:
        """Response to a request, after as many attempts as the deadline allows.

        A body is sent by POST as JSON. Without ``retries_500`` a 500 is an answer, as on routes
        that give it for bad requests. An exception of ``sleep`` ends the attempts. Raises RunError
        if the server is away for longer than ``patience_seconds``.
        """
        method, source = ("GET" if body is None else "POST"), f"{self.url}{path}"
        start, num_attempts, warned = time.monotonic(), 0, False
        while True:
            num_attempts += 1
            try:
                response = self._client.request(method, path, json=body)
                if not _is_transient(response, retries_500):
                    status, text = response.status_code, response.text
                    return Reply(status, text, source, self._settings.kind, num_attempts)
                problem = f"{response.status_code}: {response.text[:200]}"
                retry_after = _retry_after_seconds(response.headers)
            except httpx2.RequestError as error:
                problem, retry_after = f"{type(error).__name__}: {error}", 0.0
            backoff = min(FIRST_PAUSE * 2.0 ** min(num_attempts - 1, 30), LONGEST_PAUSE)
            wait = max(backoff * self._random.uniform(0.5, 1.0), retry_after)
            passed = time.monotonic() - start
            if passed + wait > self._settings.patience_seconds:
                setting = self._settings.setting
                raise RunError(
                    f"{source}: no answer after {num_attempts} attempts in {passed:.0f} seconds, "
                    f"the last: {problem}. Check that the server runs and {setting}.url is right, "
                    f"then {self._settings.remedy}; {setting}.patience_seconds waits longer"
                )
            if passed > LONG_WAIT and not warned:
                warned = True
                warnings.warn(
                    f"{source} does not answer ({problem}); the request is retried for up to "
                    f"{self._settings.patience_seconds:.0f} seconds",
                    stacklevel=2,
                )
            sleep(wait)


def _filled(settings: ServerSettings, kind: Literal["headers", "query"]) -> dict[str, str]:
    """Headers or parameters with the values of the variables, which are redacted from now on."""
    filled = {}
    for name, text in getattr(settings, kind).items():
        where = f"{settings.setting}.{kind}.{name}"
        value = string.Template(text).substitute(_Variables(where)).strip()
        if kind == "headers" and not (value.isascii() and value.isprintable()):
            raise ConfigError(f"{where}: a header holds printable ASCII on one line, no more")
        filled[name] = value
    return filled


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


def _is_transient(response: httpx2.Response, retries_500: bool) -> bool:
    """True if the same request may succeed later."""
    verdict = response.headers.get("x-should-retry")
    if verdict in ("true", "false"):
        return verdict == "true"
    status = response.status_code
    return status in (408, 409, 425, 429) or status > 500 or (status == 500 and retries_500)


def _retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Wait that a server asks for, in seconds or as a date; 0: none, or malformed."""
    with suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after"]))
    with suppress(KeyError, ValueError):
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    return 0.0
