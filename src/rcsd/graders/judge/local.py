"""A judge's model in this process: an engine behind `rcsd.graders.judge.Chat`."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from rcsd import config
from rcsd.data.views import CUT
from rcsd.engines.base import Engine
from rcsd.engines.build import chosen_engine
from rcsd.errors import ModelError
from rcsd.graders.judge.chat import ChatReply, NextRequest, Request
from rcsd.io import digest
from rcsd.models.policy import load_policy
from rcsd.types import Conversation, Decoding

REQUESTS_AT_ONCE = 32
"""Requests passed to the engine together; an interruption loses their replies."""
_ENGINE_BATCH, _MAX_PROMPT_TOKENS = 16, 16_384


class LocalChat:
    """Samples replies from an engine.

    At a temperature, draws depend on the requests that are sampled together and on the seed.

    Args:
        model: Identity of the model, for the cache's keys.
        tokenizer: Tokenizer with a chat template.
        engine: Engine.
        max_tokens: Maximum tokens of a reply.
        temperature: Sampling temperature; 0 or None: greedy.
    """

    counting = "the model's tokenizer"

    def __init__(
        self,
        model: Mapping[str, Any],
        tokenizer: Any,
        engine: Engine,
        max_tokens: int,
        temperature: float | None = 0.0,
    ) -> None:
        self._model, self._tokenizer, self._engine = model, tokenizer, engine
        self.max_tokens, self._temperature = max_tokens, temperature or None

    @classmethod
    def from_config(cls, section: config.LocalJudge) -> "LocalChat":
        """The model of a section.

        Raises:
            ModelError: If the model cannot be loaded, or has no chat template.
        """
        policy = load_policy(section.model)
        if not policy.tokenizer.chat_template:
            raise ModelError(
                f"{section.model.path} has no chat template; take an instruction model"
            )
        longest = _MAX_PROMPT_TOKENS + section.max_tokens
        engine = chosen_engine(section.engine, policy, _ENGINE_BATCH, longest)
        # A path alone may hold other weights tomorrow.
        model = {
            "model": section.model.path,
            "revision": section.model.revision,
            "dtype": section.model.dtype,
            "chat_template_kwargs": section.model.chat_template_kwargs,
            "weights_sha256": policy.weights_sha256,
        }
        return cls(model, policy.tokenizer, engine, section.max_tokens, section.temperature)

    def about(self) -> Mapping[str, Any]:
        """The request as the chat template renders it."""
        rendered = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": CUT}], tokenize=False, add_generation_prompt=True
        )
        return {
            **self._model,
            "chat_template_sha256": digest(rendered),
            "temperature": self._temperature,
            "max_tokens": self.max_tokens,
        }

    def num_tokens(self, conversation: Conversation) -> int:
        """Number of tokens of a request, exactly."""
        return len(inert_ids(self._tokenizer, conversation))

    def replies(self, next_request: NextRequest) -> Iterator[tuple[Request, ChatReply]]:
        """Replies to all requests, many at a time."""
        decoding = Decoding(self.max_tokens, self._temperature)
        while requests := list(itertools.islice(iter(next_request, None), REQUESTS_AT_ONCE)):
            for seed in sorted({request.seed for request in requests}):
                batch = [request for request in requests if request.seed == seed]
                prompts = [inert_ids(self._tokenizer, each.conversation) for each in batch]
                completions = self._engine.sample(prompts, decoding, seed)
                for request, prompt, completion in zip(batch, prompts, completions, strict=True):
                    finish = "stop" if completion.finished else "length"
                    num_tokens = len(completion.token_ids)
                    yield request, ChatReply(completion.text, finish, len(prompt), num_tokens)


def inert_ids(tokenizer: Any, conversation: Conversation) -> list[int]:
    """Token ids of a conversation; its contents never become control tokens.

    Raises:
        ModelError: If the chat template drops or alters a turn.
    """
    marked = [{**message, "content": CUT} for message in conversation]
    text = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    around = text.split(CUT)
    if len(around) != len(conversation) + 1:
        raise ModelError("the chat template drops or alters turns; take another model as the judge")
    ids = list(tokenizer(around[0], add_special_tokens=False)["input_ids"])
    for message, after in zip(conversation, around[1:], strict=True):
        content = tokenizer(message["content"], add_special_tokens=False, split_special_tokens=True)
        ids += content["input_ids"]
        ids += tokenizer(after, add_special_tokens=False)["input_ids"]
    return ids
