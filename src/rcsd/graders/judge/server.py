"""A model behind an OpenAI-compatible address."""

import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from rcsd import config
from rcsd.errors import RunError, UserError
from rcsd.graders.judge.chat import ChatReply, Finish, NextRequest, Request
from rcsd.http import AWAY, FIRST_PAUSE, Address, Reply, Said, Server
from rcsd.types import Conversation

CHARACTERS_PER_TOKEN = 4.0
"""Of English text, about."""

FIRST_REFUSALS = 8
"""So many first calls, refused alike, mean that no call will be answered."""

# 408 and 529 are answers of a server that may serve later too.
_ASKED_AGAIN = (*AWAY, 500, 408, 529)
_REMEDIES = {
    401: "the key is missing or wrong: set judge.api_key_variable and that variable",
    402: "the account has no credit",
    403: "the key may not use this model",
    404: "judge.url or judge.model is wrong: the address ends before /chat/completions",
}
_FORMAT = re.compile(r"(?i)response_?format|json_?schema|json_?object|structured|guided|grammar")
_LENGTH = re.compile(
    r"(?i)context.{0,20}(?:length|window|size)|maximum.{0,20}context"
    r"|\b(?:prompt|input|messages?)\b.{0,40}too (?:long|large)"
)
_FILTER = re.compile(r"(?i)content.?(?:filter|policy|management)|responsible ?ai|flagged")


class _Message(Said):
    content: str | None = None
    refusal: str | None = None


class _Choice(Said):
    message: _Message
    finish_reason: str | None = None


class _Usage(Said):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chat(Said):
    choices: list[_Choice]
    usage: _Usage | None = None


class _EndedError(Exception):
    """Nobody waits for the reply any more."""


def _sleep(ended: threading.Event) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        if ended.wait(seconds):
            raise _EndedError

    return sleep


class Pace:
    """Spaces requests evenly, so that no minute has more than are allowed.

    Args:
        requests_per_minute: None: no limit.
        tokens_per_minute: None: no limit.
    """

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._per_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._lock, self._free = threading.Lock(), 0.0

    def wait_seconds(self, num_tokens: int, now: float) -> float:
        """How long a request waits that would begin now; its turn is taken."""
        with self._lock:
            begins = max(now, self._free)
            self._free = begins + max(self._per_request, num_tokens * self._per_token)
        return begins - now


class ServerChat:
    """Asks a server's ``/chat/completions``, several requests at a time.

    Args:
        section: The server, the model, and how it is asked.
        first_pause: Seconds before a request is tried again.

    Raises:
        ConfigError: If the key's variable is not set.
    """

    counting = f"{CHARACTERS_PER_TOKEN:g} characters a token"

    def __init__(self, section: config.ModelJudge, first_pause: float = FIRST_PAUSE) -> None:
        self.max_tokens, self.max_concurrent = section.max_tokens, section.max_concurrent
        self._section = section
        address = Address(
            url=section.url,
            connections=section.max_concurrent,
            setting="judge",
            kind="a chat server",
            api_key_variable=section.api_key_variable,
            patience_seconds=section.patience_seconds,
            connect_timeout_seconds=section.connect_timeout_seconds,
            read_timeout_seconds=section.read_timeout_seconds,
            remedy="run the same command again: replies so far are in the cache",
        )
        self._server = Server(address, first_pause)
        self._pace = Pace(section.requests_per_minute, section.tokens_per_minute)
        self._format, self._has_answered = section.response_format, False
        self._refusals: list[str] = []

    def about(self) -> Mapping[str, Any]:
        """As `Chat`."""
        section = self._section
        names = ("model", "temperature", "max_tokens", "response_format", "sends_seed", "extra")
        return {name: getattr(section, name) for name in names}

    def num_tokens(self, conversation: Conversation) -> int:
        """As `Chat`: by characters."""
        num = sum(len(message["content"]) for message in conversation)
        return round(num / CHARACTERS_PER_TOKEN)

    def replies(self, next_request: NextRequest) -> Iterator[tuple[Request, ChatReply]]:
        """As `Chat`; after a failure no request is begun, and those under way are awaited."""
        running: dict[Future[ChatReply], Request] = {}
        failure: UserError | None = None
        executor, ended = ThreadPoolExecutor(self.max_concurrent, "rcsd-judge"), threading.Event()
        try:
            while True:
                while (
                    failure is None
                    and len(running) < self.max_concurrent
                    and not self._is_refused_throughout()
                ):
                    if (request := next_request()) is None:
                        break
                    running[executor.submit(self._reply, request, _sleep(ended))] = request
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    request = running.pop(future)
                    try:
                        yield request, future.result()
                    except UserError as error:
                        failure = failure or error
        finally:  # an interruption does not wait for a busy server
            ended.set()
            executor.shutdown(cancel_futures=True)
        if failure is not None:
            raise failure
        if self._is_refused_throughout():
            raise RunError(
                f"judge.url: the first {len(self._refusals)} calls were refused alike, and none "
                f"was answered; judge.model, judge.max_tokens or the server's limit of the context "
                f"is not right for them: {self._refusals[0]}"
            )

    def _is_refused_throughout(self) -> bool:
        """Whether every one of many first replies was the same refusal, numbers aside."""
        if self._has_answered or len(self._refusals) < FIRST_REFUSALS:
            return False
        return len({re.sub(r"\d+", "0", refusal) for refusal in self._refusals}) == 1

    def _reply(self, request: Request, sleep: Callable[[float], object]) -> ChatReply:
        num_tokens = self.num_tokens(request.conversation) + self.max_tokens
        sleep(self._pace.wait_seconds(num_tokens, time.monotonic()))
        reply = self._asked(request, sleep)
        if (finish := self._refusal(reply)) is not None:
            if not self._has_answered:
                self._refusals.append(f"{reply.status}: {reply.text[:500]}")
            return ChatReply("", finish, num_attempts=reply.num_attempts)
        if reply.status != 200:
            remedy = _REMEDIES.get(reply.status, "see what it says, and judge.extra")
            raise RunError(
                f"{reply.source}: refused with {reply.status}: {reply.text[:500]}; {remedy}"
            )
        return self._read(reply, request)

    def _refusal(self, reply: Reply) -> Finish | None:
        """What is wrong with one prompt, where a status says that; None: it is no such status."""
        if reply.status not in (400, 413, 422):
            return None
        # Where nothing was ever answered, the limit of replies is more than the model has.
        fits = self._has_answered or self._section.limit_name not in reply.text
        if reply.status == 413 or (_LENGTH.search(reply.text) and fits):
            return "too long"
        return "refused" if _FILTER.search(reply.text) else None

    def _asked(self, request: Request, sleep: Callable[[float], object]) -> Reply:
        while True:
            form = self._format
            body = self._body(request, form)
            reply = self._server.ask("/chat/completions", body, _ASKED_AGAIN, sleep)
            if reply.status not in (400, 422) or form == "text" or not _FORMAT.search(reply.text):
                return reply
            if self._format != "text":  # the first thread to find out says so
                self._format = "text"
                warnings.warn(
                    f"{reply.source} refuses the response format {form}; it is asked for text from "
                    f"now on: {reply.text[:200]}",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _body(self, request: Request, form: str) -> dict[str, Any]:
        section = self._section
        body: dict[str, Any] = {"model": section.model, "messages": request.conversation}
        body[section.limit_name] = section.max_tokens
        if section.temperature is not None:
            body["temperature"] = section.temperature
        if section.sends_seed:
            body["seed"] = request.seed
        if form == "json_schema":
            schema = {"name": "judgement", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": form, "json_schema": schema}
        elif form == "json_object":
            body["response_format"] = {"type": form}
        return body | section.extra

    def _read(self, reply: Reply, request: Request) -> ChatReply:
        """The reply in a body; one that is none is an error where there was never a good one."""
        try:
            said = reply.read(_Chat)
        except RunError:
            if not self._has_answered:
                raise
            return ChatReply("", "garbage", num_attempts=reply.num_attempts)
        self._has_answered = True
        usage = said.usage or _Usage()
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        if not said.choices:
            return ChatReply("", "garbage", prompt or 0, completion or 0, reply.num_attempts)
        choice = said.choices[0]
        text, refusal = choice.message.content or "", choice.message.refusal or ""
        if prompt is None or completion is None:  # not told: reckoned
            prompt = self.num_tokens(request.conversation)
            completion = round(len(text) / CHARACTERS_PER_TOKEN)
        finish: Finish = "length" if choice.finish_reason == "length" else "stop"
        if refusal or choice.finish_reason == "content_filter":
            finish, text = "refused", refusal or text
        return ChatReply(text, finish, prompt, completion, reply.num_attempts)
