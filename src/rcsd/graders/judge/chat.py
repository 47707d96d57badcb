"""Interface between a judge and the model that replies, wherever it runs."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from rcsd.io import digest
from rcsd.types import Conversation

Finish = Literal["stop", "length", "refused", "too long", "garbage"]
"""End of a reply: by itself; at its token limit; by a filter or the model's refusal; the prompt was
too long; the response was no reply."""

NextRequest = Callable[[], "Request | None"]
"""Source of requests; None: none at present, a reply may change that."""


@dataclass(frozen=True)
class Request:
    """One conversation that needs a reply.

    Args:
        conversation: Messages.
        schema: JSON schema of the reply.
        seed: Seed of the sampling.
        sample: Index among repeated judgements of the same text.
        attempt: Number of earlier requests whose reply was of no use.
    """

    conversation: Conversation
    schema: Mapping[str, Any]
    seed: int
    sample: int = 0
    attempt: int = 0

    def key(self, about: Mapping[str, Any]) -> str:
        """Digest of everything that a reply depends on, `Chat.about` included."""
        row = [about, self.conversation, self.schema, self.seed, self.sample, self.attempt]
        return digest(json.dumps(row, sort_keys=True))

    def max_prompt_tokens(self) -> int:
        """Upper bound: no tokenizer in use makes more tokens of a text than it has bytes."""
        return sum(len(message["content"].encode()) + 64 for message in self.conversation)


@dataclass(frozen=True)
class ChatReply:
    """Reply of a model; its completion tokens include thinking, its attempts are HTTP requests."""

    text: str
    finish: Finish
    prompt_tokens: int = 0
    completion_tokens: int = 0
    num_attempts: int = 1


@runtime_checkable
class Chat(Protocol):
    """A model that replies to conversations."""

    max_tokens: int
    """Maximum tokens of a reply."""
    counting: str
    """How `num_tokens` counts, in words."""

    def about(self) -> Mapping[str, Any]:
        """Model and parameters that replies depend on, as plain values.

        The address of a server is not among them, so replies stay valid when it moves.
        """
        ...

    def num_tokens(self, conversation: Conversation) -> int:
        """Tokens of a conversation; see ``counting``."""
        ...

    def replies(self, next_request: NextRequest) -> Iterator[tuple[Request, ChatReply]]:
        """Replies as they come, in any order, until there is nothing more to ask.

        Takes the next request in the caller's thread, and only once there is room for it, so that
        a reply can change what is asked next.

        Raises:
            RunError: If the model cannot be reached or refuses to serve; after the replies that
                were under way.
        """
        ...
