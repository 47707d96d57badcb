"""Requests to a server that may be busy, away for a while, or not what it seems."""

import os
import random
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from rcsd.errors import ConfigError, RunError

# Pauses between attempts, in seconds: each twice the last, and by chance down to half of it, so
# that many clients do not come back all at once.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
LONG_WAIT = 10.0
"""Seconds without an answer after which somebody is told."""
AWAY = (429, 502, 503, 504)
"""Answers of a server that may serve later."""


class Said(BaseModel):
    """Part of an answer that is looked at; what else stands there does not matter."""


Answer = TypeVar("Answer", bound=Said)


@dataclass(frozen=True)
class Address:
    """Where a server is, and how patient to be with it.

    Args:
        url: Without a path that requests begin with.
        connections: Requests in flight together, at most.
        setting: How the configuration calls the section that says all this, such as ``engine``.
        kind: What should answer there, such as ``a vLLM server``.
        api_key_variable: Environment variable of the key for ``Authorization: Bearer``; None sends
            none.
        patience_seconds: How long a request is asked again.
        connect_timeout_seconds: Longest wait for a connection.
        read_timeout_seconds: Longest silence while a request is answered.
        remedy: What to do once the patience has ended and the server is there again.
    """

    url: str
    connections: int
    setting: str
    kind: str
    api_key_variable: str | None = None
    patience_seconds: float = 600.0
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 600.0
    remedy: str = "go on with --resume"


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Args:
        status: Of HTTP.
        text: The body.
        source: The request, for errors.
        kind: What should have answered.
        num_attempts: How often it was asked until it did.
    """

    status: int
    text: str
    source: str
    kind: str
    num_attempts: int = 1

    def read(self, kind: type[Answer]) -> Answer:
        """The body as what it should be.

        Raises:
            RunError: If the request was refused, or the body is something else.
        """
        if self.status != 200:
            raise RunError(f"{self.source}: refused with {self.status}: {self.text[:500]}")
        try:
            return kind.model_validate_json(self.text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "its beginning"
            raise RunError(
                f"{self.source}: the answer is not {self.kind}'s: {first['msg']} at {where}; "
                f"it begins {self.text[:200]!r}"
            ) from None


class Server:
    """One server, asked again while it is away.

    Threads may share it. What is asked must be safe to ask twice.

    Args:
        address: Where it is, and how patient to be.
        first_pause: Seconds before the second attempt.

    Raises:
        ConfigError: If the key's variable is not set.
    """

    def __init__(self, address: Address, first_pause: float = FIRST_PAUSE) -> None:
        self.url, self._address, self._first = address.url, address, first_pause
        headers = {}
        if address.api_key_variable is not None:
            key = os.environ.get(address.api_key_variable)
            if not key:
                raise ConfigError(
                    f"{address.setting}.api_key_variable: {address.api_key_variable} is not set "
                    "in the environment"
                )
            headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx2.Timeout(
                address.read_timeout_seconds, connect=address.connect_timeout_seconds, pool=None
            ),
            limits=httpx2.Limits(max_connections=address.connections),
        )
        # Those who ask have no end of their own: connections go with the last who knows them.
        weakref.finalize(self, self._client.close)
        # Of its own: the process's random numbers belong to the run.
        self._chance = random.Random()

    def ask(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        retried: tuple[int, ...] = (*AWAY, 500),
        sleep: Callable[[float], object] = time.sleep,
    ) -> Reply:
        """The server's answer, after as many attempts as it takes.

        Args:
            path: Such as ``/v1/models``.
            body: Sent as JSON; None asks by GET.
            retried: Answers after which it is asked again.
            sleep: Waits between attempts; what it raises ends them.

        Raises:
            RunError: If it stays away for longer than the patience.
        """
        method, source = ("GET" if body is None else "POST"), f"{self.url}{path}"
        began, pause, attempts, told = time.monotonic(), self._first, 0, False
        while True:
            attempts += 1
            try:
                response = self._client.request(method, path, json=body)
                if response.status_code not in retried:
                    return Reply(
                        response.status_code, response.text, source, self._address.kind, attempts
                    )
                problem = f"{response.status_code}: {response.text[:200]}"
                asked_for = response.headers.get("Retry-After", "")
            except httpx2.RequestError as error:
                problem, asked_for = f"{type(error).__name__}: {error}", ""
            wait = pause * self._chance.uniform(0.5, 1.0)
            wait = max(wait, float(asked_for)) if asked_for.isdecimal() else wait
            if time.monotonic() - began + wait > self._address.patience_seconds:
                passed, setting = time.monotonic() - began, self._address.setting
                raise RunError(
                    f"{source}: no answer after {attempts} attempts in {passed:.0f} seconds, the "
                    f"last: {problem}. See that the server runs and {setting}.url is right, then "
                    f"{self._address.remedy}; {setting}.patience_seconds waits longer"
                )
            if time.monotonic() - began > LONG_WAIT and not told:
                told = True
                warnings.warn(
                    f"{source} does not answer ({problem}); it is asked again for up to "
                    f"{self._address.patience_seconds:.0f} seconds",
                    stacklevel=2,
                )
            sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
