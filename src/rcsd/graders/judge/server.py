"""A model behind an OpenAI-compatible address: its requests and replies."""

import itertools
import json
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

from rcsd import config
from rcsd.errors import RunError, UserError
from rcsd.http import Reply, ResponseModel, Server, ServerSettings
from rcsd.io import digest
from rcsd.types import Conversation

Finish = Literal["stop", "length", "refused", "too long", "garbage"]
"""End of a reply: by itself; at its token limit; by a filter or the model's refusal; the prompt was
too long; the response was no reply."""

_REMEDIES = {
    401: "the key is missing or wrong: set judge.api_key_variable and that variable",
    402: "the account has no credit",
    403: "the key may not use this model",
    404: "judge.url or judge.model is wrong: the address ends before /chat/completions",
}
_LENGTH = re.compile(
    r"(?i)context.{0,20}(?:length|window|size)|maximum.{0,20}context"
    r"|\b(?:prompt|input|messages?)\b.{0,40}too (?:long|large)"
)
_FILTER = re.compile(r"(?i)content.?(?:filter|policy|management)|responsible ?ai|flagged")


@dataclass(frozen=True)
class Request:
    """One conversation that needs a reply of a JSON schema.

    `sample` is the index among repeated judgements of the same text, `attempt` the number of
    earlier requests whose reply was of no use.
    """

    conversation: Conversation
    schema: Mapping[str, Any]
    seed: int
    sample: int = 0
    attempt: int = 0

    @property
    def prompt(self) -> str:
        """Text of the conversation."""
        return "\n".join(message["content"] for message in self.conversation)

    def key(self, about: Mapping[str, Any]) -> str:
        """Digest of everything that a reply depends on, `ServerChat.about` included."""
        row = [about, self.conversation, self.schema, self.seed, self.sample, self.attempt]
        return digest(json.dumps(row, sort_keys=True))


@dataclass(frozen=True)
class ChatReply:
    """Reply of a model; its completion tokens include thinking, its attempts are HTTP requests.

    With `in_reasoning` the text is the model's reasoning: some servers take the whole reply for it.
    """

    text: str
    finish: Finish
    prompt_tokens: int = 0
    completion_tokens: int = 0
    num_attempts: int = 1
    in_reasoning: bool = False


class _Message(ResponseModel):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None


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

    Raises ConfigError if the key's variable is not set.
    """

    def __init__(self, section: config.ModelJudge) -> None:
        self._section, self._has_answered = section, False
        settings = ServerSettings.from_section(
            section,
            connections=section.max_concurrent,
            setting="judge",
            kind="a chat server",
            remedy="run the same command again: replies so far are in the cache",
        )
        self._server = Server(settings)

    def about(self) -> Mapping[str, Any]:
        """Model and parameters that replies depend on; not the address: servers move."""
        names = ("model", "temperature", "max_tokens", "response_format", "sends_seed", "extra")
        return {name: getattr(self._section, name) for name in names}

    def replies(self, requests: Iterator[Request]) -> Iterator[tuple[Request, ChatReply]]:
        """Replies as they come, in any order; a request is taken once there is room for it.

        Raises RunError if the model cannot be reached or refuses to serve. Then no request is
        begun, and replies that were under way are awaited.
        """
        running: dict[Future[ChatReply], Request] = {}
        failure: UserError | None = None
        ended, size = threading.Event(), self._section.max_concurrent
        executor = ThreadPoolExecutor(size, "rcsd-judge")
        try:
            while True:
                if failure is None:
                    for request in itertools.islice(requests, size - len(running)):
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

        reply = self._server.request("/chat/completions", self._body(request), sleep=sleep)
        if reply.status == 200:
            return self._read(reply)
        if (finish := self._refusal(reply)) is not None:
            return ChatReply("", finish, num_attempts=reply.num_attempts)
        remedy = _REMEDIES.get(
            reply.status, "see what it says, and judge.response_format and judge.extra"
        )
        raise RunError(f"{reply.source}: refused with {reply.status}: {reply.text[:500]}; {remedy}")

    def _body(self, request: Request) -> dict[str, Any]:
        section = self._section
        body: dict[str, Any] = {"model": section.model, "messages": request.conversation}
        body[section.limit_name] = section.max_tokens
        if section.temperature is not None:
            body["temperature"] = section.temperature
        if section.sends_seed:
            body["seed"] = request.seed
        if section.response_format == "json_schema":
            schema = {"name": "judgement", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | section.extra

    def _refusal(self, reply: Reply) -> Finish | None:
        """The fault of one prompt, where a status says that; None: another error."""
        if reply.status == 413:
            return "too long"
        if reply.status not in (400, 422):
            return None
        # Where nothing was ever answered, max_tokens may exceed what the model can take.
        is_prompts_fault = self._has_answered or self._section.limit_name not in reply.text
        if _LENGTH.search(reply.text) and is_prompts_fault:
            return "too long"
        return "refused" if _FILTER.search(reply.text) else None

    def _read(self, reply: Reply) -> ChatReply:
        """The reply in a response; an invalid one is an error where none was ever valid."""
        try:
            response = reply.read(_ChatCompletion)
        except RunError:
            if not self._has_answered:
                raise
            return ChatReply("", "garbage", num_attempts=reply.num_attempts)
        self._has_answered = True
        usage = response.usage or _Usage()
        counts = usage.prompt_tokens or 0, usage.completion_tokens or 0, reply.num_attempts
        if not response.choices:
            return ChatReply("", "garbage", *counts)
        choice = response.choices[0]
        text, refusal = choice.message.content or "", choice.message.refusal or ""
        if refusal or choice.finish_reason == "content_filter":
            return ChatReply(refusal or text, "refused", *counts)
        finish = "length" if choice.finish_reason == "length" else "stop"
        if not text.strip():
            for reasoning in (choice.message.reasoning_content, choice.message.reasoning):
                if isinstance(reasoning, str) and reasoning.strip():
                    return ChatReply(reasoning, finish, *counts, in_reasoning=True)
        return ChatReply(text, finish, *counts)
