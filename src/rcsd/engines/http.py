"""Requests to a server that may be busy, away for a while, or not what it seems."""

import os
import random
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from rcsd import config
from rcsd.errors import ConfigError, RunError

# Pauses between attempts, in seconds: each twice the last, and by chance down to half of it, so
# that many clients do not come back all at once.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
AWAY = (429, 502, 503, 504)
"""Answers of a server that may serve later."""


class Said(BaseModel):
    """Part of an answer that is looked at; what else stands there does not matter."""


Answer = TypeVar("Answer", bound=Said)


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Args:
        status: Of HTTP.
        text: The body.
        source: The request, for errors.
    """

    status: int
    text: str
    source: str

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
                f"{self.source}: the answer is not a vLLM server's: {first['msg']} at {where}; "
                f"it begins {self.text[:200]!r}"
            ) from None


class Server:
    """One server, asked again while it is away.

    Threads may share it. What is asked must be safe to ask twice.

    Args:
        section: Its address, and how patient to be.
        first_pause: Seconds before the second attempt.

    Raises:
        ConfigError: If the key's variable is not set.
    """

    def __init__(self, section: config.VllmServer, first_pause: float = FIRST_PAUSE) -> None:
        self.url, self._patience, self._first = section.url, section.patience_seconds, first_pause
        headers = {}
        if section.api_key_variable is not None:
            key = os.environ.get(section.api_key_variable)
            if not key:
                raise ConfigError(
                    f"engine.api_key_variable: {section.api_key_variable} is not set in the "
                    "environment"
                )
            headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx2.Timeout(
                section.read_timeout_seconds, connect=section.connect_timeout_seconds, pool=None
            ),
            limits=httpx2.Limits(max_connections=section.batch_size),
        )
        # Engines have no end of their own: connections go with the last who knows them.
        weakref.finalize(self, self._client.close)
        # Of its own: the process's random numbers belong to the run.
        self._chance = random.Random()

    def ask(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        retried: tuple[int, ...] = (*AWAY, 500),
    ) -> Reply:
        """The server's answer, after as many attempts as it takes.

        Args:
            path: Such as ``/v1/models``.
            body: Sent as JSON; None asks by GET.
            retried: Answers after which it is asked again.

        Raises:
            RunError: If it stays away for longer than the patience.
        """
        method, source = ("GET" if body is None else "POST"), f"{self.url}{path}"
        began, pause, attempts = time.monotonic(), self._first, 0
        while True:
            attempts += 1
            try:
                response = self._client.request(method, path, json=body)
                if response.status_code not in retried:
                    return Reply(response.status_code, response.text, source)
                problem = f"{response.status_code}: {response.text[:200]}"
                asked_for = response.headers.get("Retry-After", "")
            except httpx2.RequestError as error:
                problem, asked_for = f"{type(error).__name__}: {error}", ""
            wait = pause * self._chance.uniform(0.5, 1.0)
            wait = max(wait, float(asked_for)) if asked_for.isdecimal() else wait
            if time.monotonic() - began + wait > self._patience:
                passed = time.monotonic() - began
                raise RunError(
                    f"{source}: no answer after {attempts} attempts in {passed:.0f} seconds, the "
                    f"last: {problem}. See that the server runs and engine.url is right, then go "
                    "on with --resume; engine.patience_seconds waits longer"
                )
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
