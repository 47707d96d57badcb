"""A model behind an OpenAI-compatible address: its requests and replies."""

import itertools
import json
import queue
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from rcsd import config
from rcsd.errors import RunError
from rcsd.graders.judge.failures import FailureRun, refusal, refuses_format, trouble
from rcsd.http import NoAnswerError, Reply, ResponseModel, Server, ServerSettings
from rcsd.io import digest
from rcsd.types import Conversation

Finish = Literal["stop", "length", "refused", "too long", "garbage", "failed"]
"""End of a reply: by itself; at its token limit; by a filter or the model's refusal; the prompt was
too long; the response was no reply; there was none. The text of the last three is why."""

_FORMATS = ("json_schema", "json_object", "text")
"""Formats of replies; where a server refuses one, the next is taken."""


@dataclass(frozen=True)
class Request:
    """One conversation that needs a reply of a JSON schema.

    `sample` is the index among repeated judgements of the same text, `attempt` the number of
    earlier requests whose reply was of no use. `answer` tells answers apart; no reply depends on
    it.
    """

    conversation: Conversation
    schema: Mapping[str, Any]
    seed: int
    sample: int = 0
    attempt: int = 0
    answer: int = 0

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

    `model` and `fingerprint` are the server's words for what replied; empty: it says none. With
    `in_reasoning` the text is the model's reasoning: some servers take the whole reply for it.
    """

    text: str
    finish: Finish
    prompt_tokens: int = 0
    completion_tokens: int = 0
    num_attempts: int = 1
    model: str = ""
    fingerprint: str = ""
    in_reasoning: bool = False


class _Part(ResponseModel):
    text: str | None = None


class _Message(ResponseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None

    @property
    def text(self) -> str:
        """The content; of parts those that are text."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""


class _Choice(ResponseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(ResponseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _ChatCompletion(ResponseModel):
    choices: list[_Choice]
    usage: _Usage | None = None
    model: str | None = None
    system_fingerprint: str | None = None


class ServerChat:
    """Sends requests to a server's ``/chat/completions``, several at a time.

    A request that fails gets a reply with the reason; after many that fail alike the job ends
    (`FailureRun`).

    Raises ConfigError if the key's variable is not set.
    """

    def __init__(self, section: config.ModelJudge) -> None:
        self._section, self._format = section, section.response_format
        self.failures = FailureRun()
        settings = ServerSettings.from_section(
            section,
            connections=section.max_concurrent,
            setting="judge",
            kind="a chat server",
            remedy="run the same command again: replies so far are in the cache",
        )
        self._server = Server(settings)

    @property
    def num_timeouts(self) -> int:
        """Attempts that timed out, since the client was made."""
        return self._server.num_timeouts

    def about(self) -> Mapping[str, Any]:
        """Model and parameters that replies depend on; not the address: servers move."""
        names = ("model", "temperature", "max_tokens", "response_format", "sends_seed", "extra")
        return {name: getattr(self._section, name) for name in names}

    def ask(
        self, requests: Iterator[Request], on_reply: Callable[[Request, ChatReply], None]
    ) -> None:
        """Send all requests, at most ``max_concurrent`` at a time; replies come in any order.

        After an error or an interruption, replies that have arrived are delivered, and requests in
        flight are cancelled.

        Raises RunError if the model cannot be reached, or fails too many requests alike.
        """
        running: dict[Future[Reply], tuple[Request, str]] = {}
        arrived: queue.SimpleQueue[Future[Reply]] = queue.SimpleQueue()

        def begin(request: Request) -> None:
            future = self._server.submit("/chat/completions", self._body(request))
            running[future] = request, self._format
            future.add_done_callback(arrived.put)

        def finish(future: Future[Reply]) -> None:
            reply = self._reply(future, *running[future])
            if reply is None:  # in another format
                begin(running[future][0])
            else:
                on_reply(running[future][0], reply)
            del running[future]

        try:
            while True:
                room = self._section.max_concurrent - len(running)
                for request in itertools.islice(requests, room):
                    begin(request)
                if not running:
                    break
                finish(arrived.get())
        finally:
            for future in list(running):
                future.cancel()
                if future.done() and not future.cancelled() and future.exception() is None:
                    reply = future.result()
                    with suppress(RunError):  # no model's reply
                        if reply.status == 200:
                            on_reply(running[future][0], self._read(reply))
        self.failures.check()

    def _body(self, request: Request) -> dict[str, Any]:
        section = self._section
        body: dict[str, Any] = {"model": section.model, "messages": request.conversation}
        body[section.limit_name] = section.max_tokens
        if section.temperature is not None:
            body["temperature"] = section.temperature
        if section.sends_seed:
            body["seed"] = request.seed
        if self._format == "json_schema":
            schema = {"name": "judgement", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self._format == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body | section.extra

    def _reply(self, future: Future[Reply], request: Request, format_sent: str) -> ChatReply | None:
        """The reply to a request; None: it must be asked again, since its format was refused.

        Raises RunError if a failure is the whole job's.
        """
        failures = self.failures
        try:
            reply = future.result()
        except NoAnswerError as error:
            if error.is_away:
                raise
            failures.add("no answer", error, request.answer, is_own=False)
            return ChatReply(f"no answer: {error.problem}"[:200], "failed")
        if reply.status == 200:
            return self._read(reply)
        if self._takes_other_format(reply, format_sent):
            return None
        error = refusal(reply)
        # Where nothing was ever answered, max_tokens may exceed what the model can take.
        names_limit = not failures.has_replied and self._section.limit_name in reply.text
        finish = trouble(reply, names_limit)
        if finish == "failed":
            is_first = not failures.has_replied and (reply.status in (401, 404) or names_limit)
            if reply.is_quota or is_first or (reply.status == 403 and not failures.is_proven):
                raise error
        failures.add(f"{finish} {reply.status}", error, request.answer, finish != "failed")
        text = f"{reply.status}: {reply.message}"[:200]
        return ChatReply(text, finish, num_attempts=reply.num_attempts)

    def _takes_other_format(self, reply: Reply, format_sent: str) -> bool:
        """True if a request must be sent again, since the server refuses its format."""
        if self.failures.has_replied or format_sent == "text" or not refuses_format(reply):
            return False
        if format_sent == self._format:
            self._format = _FORMATS[_FORMATS.index(format_sent) + 1]
            warnings.warn(
                f"the judge's server refuses replies of the format {format_sent} "
                f"({reply.message}), so requests ask for {self._format}; "
                f"judge.response_format: {self._format} does so from the start",
                stacklevel=2,
            )
        return True

    def _read(self, reply: Reply) -> ChatReply:
        """The reply in a response; an invalid one is an error where none was ever valid."""
        try:
            response = reply.read(_ChatCompletion)
        except RunError as error:
            if not self.failures.is_proven:
                raise
            text = str(error).removeprefix(f"{reply.source}: ")[:200]
            return ChatReply(text, "garbage", num_attempts=reply.num_attempts)
        self.failures.end()
        usage = response.usage or _Usage()
        about = (
            *(usage.prompt_tokens or 0, usage.completion_tokens or 0, reply.num_attempts),
            *(response.model or "", response.system_fingerprint or ""),
        )
        if not response.choices:
            return ChatReply("no choices", "garbage", *about)
        choice = response.choices[0]
        text, refused = choice.message.text, choice.message.refusal or ""
        if refused or choice.finish_reason == "content_filter":
            return ChatReply(refused or text, "refused", *about)
        finish = "length" if choice.finish_reason == "length" else "stop"
        if not text.strip():
            for reasoning in (choice.message.reasoning_content, choice.message.reasoning):
                if isinstance(reasoning, str) and reasoning.strip():
                    return ChatReply(reasoning, finish, *about, in_reasoning=True)
        return ChatReply(text, finish, *about)
