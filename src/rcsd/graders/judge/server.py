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
from rcsd.graders.judge.cost import RateLimiter
from rcsd.http import FIRST_PAUSE, Reply, ResponseModel, Server, ServerSettings
from rcsd.types import Conversation

CHARACTERS_PER_TOKEN = 4.0
"""Average of English text."""

MAX_FIRST_REFUSALS = 8
"""Refused calls without a single answer after which the settings are at fault, not the prompts."""

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


class _Message(ResponseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(ResponseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(ResponseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _ChatCompletion(ResponseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


class _EndedError(Exception):
    """Nobody waits for the reply any more."""


class ServerChat:
    """Sends requests to a server's ``/chat/completions``, several at a time.

    Args:
        section: Server, model and parameters.
        first_pause: Seconds before a request is retried.

    Raises:
        ConfigError: If the key's variable is not set.
    """

    counting = f"{CHARACTERS_PER_TOKEN:g} characters a token"

    def __init__(self, section: config.ModelJudge, first_pause: float = FIRST_PAUSE) -> None:
        self.max_tokens, self._section = section.max_tokens, section
        settings = ServerSettings(
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
        self._server = Server(settings, first_pause)
        self._rate = RateLimiter(section.requests_per_minute, section.tokens_per_minute)
        self._format, self._has_answered, self._num_refused = section.response_format, False, 0

    def about(self) -> Mapping[str, Any]:
        """The request as it is sent."""
        names = ("model", "temperature", "max_tokens", "response_format", "sends_seed", "extra")
        return {name: getattr(self._section, name) for name in names}

    def num_tokens(self, conversation: Conversation) -> int:
        """Estimated number of tokens of a request, by its characters."""
        num = sum(len(message["content"]) for message in conversation)
        return round(num / CHARACTERS_PER_TOKEN)

    def replies(self, next_request: NextRequest) -> Iterator[tuple[Request, ChatReply]]:
        """Replies; after a failure no request is begun, and those under way are awaited."""
        running: dict[Future[ChatReply], Request] = {}
        failure: UserError | None = None
        ended, size = threading.Event(), self._section.max_concurrent
        executor = ThreadPoolExecutor(size, "rcsd-judge")
        try:
            while True:
                while failure is None and len(running) < size and (request := next_request()):
                    running[executor.submit(self._reply, request, ended)] = request
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    request = running.pop(future)
                    try:
                        yield request, future.result()
                    except UserError as error:
                        failure = failure or error
        finally:  # an interrupted run does not wait for the retries of a busy server
            ended.set()
            executor.shutdown(cancel_futures=True)
        if failure is not None:
            raise failure

    def _reply(self, request: Request, ended: threading.Event) -> ChatReply:
        def sleep(seconds: float) -> None:
            if ended.wait(seconds):
                raise _EndedError

        num_tokens = self.num_tokens(request.conversation) + self.max_tokens
        sleep(self._rate.wait_seconds(num_tokens, time.monotonic()))
        reply = self._sent(request, sleep)
        if reply.status == 200:
            return self._read(reply, request)
        if (finish := self._refusal(reply)) is not None:
            return ChatReply("", finish, num_attempts=reply.num_attempts)
        remedy = _REMEDIES.get(reply.status, "see what it says, and judge.extra")
        raise RunError(f"{reply.source}: refused with {reply.status}: {reply.text[:500]}; {remedy}")

    def _refusal(self, reply: Reply) -> Finish | None:
        """The fault of one prompt, where a status says that; None: another error.

        Raises:
            RunError: If many calls were refused, and none was answered.
        """
        if reply.status not in (400, 413, 422):
            return None
        # Where nothing was ever answered, max_tokens may exceed what the model can take.
        is_prompts_fault = self._has_answered or self._section.limit_name not in reply.text
        finish: Finish | None = "refused" if _FILTER.search(reply.text) else None
        if reply.status == 413 or (_LENGTH.search(reply.text) and is_prompts_fault):
            finish = "too long"
        if finish is not None and not self._has_answered:
            self._num_refused += 1
            if self._num_refused >= MAX_FIRST_REFUSALS:
                raise RunError(
                    f"judge.url: the first {self._num_refused} calls were refused, and none was "
                    "answered; judge.model, judge.max_tokens or the server's context length does "
                    f"not suit them: {reply.status}: {reply.text[:500]}"
                )
        return finish

    def _sent(self, request: Request, sleep: Callable[[float], object]) -> Reply:
        """Response to a request; in plain text where the server refuses the response format."""
        while True:
            form = self._format
            body = self._body(request, form)
            reply = self._server.request("/chat/completions", body, sleep=sleep)
            if reply.status not in (400, 422) or form == "text" or not _FORMAT.search(reply.text):
                return reply
            if self._format != "text":  # one thread warns
                self._format = "text"
                warnings.warn(
                    f"{reply.source} refuses the response format {form}; plain text is requested "
                    f"from now on: {reply.text[:200]}",
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
        """The reply in a response; an invalid one is an error where none was ever valid."""
        try:
            response = reply.read(_ChatCompletion)
        except RunError:
            if not self._has_answered:
                raise
            return ChatReply("", "garbage", num_attempts=reply.num_attempts)
        self._has_answered = True
        usage = response.usage or _Usage()
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        if not response.choices:
            return ChatReply("", "garbage", prompt or 0, completion or 0, reply.num_attempts)
        choice = response.choices[0]
        text, refusal = choice.message.content or "", choice.message.refusal or ""
        if prompt is None or completion is None:  # estimated where the server does not count
            prompt = self.num_tokens(request.conversation)
            completion = round(len(text) / CHARACTERS_PER_TOKEN)
        finish: Finish = "length" if choice.finish_reason == "length" else "stop"
        if refusal or choice.finish_reason == "content_filter":
            finish, text = "refused", refusal or text
        return ChatReply(text, finish, prompt, completion, reply.num_attempts)
