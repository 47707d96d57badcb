"""What a judge needs of a model: conversations in, replies out, from wherever it runs."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from rcsd.types import Conversation

Finish = Literal["stop", "length", "refused", "too long", "garbage"]
"""How a reply ended: by itself; cut off at its limit; a filter or the model refused; the prompt was
too long; what came was no reply."""

NextRequest = Callable[[], "Request | None"]
"""What is to be asked next; None: nothing at present, a reply may change that."""


@dataclass(frozen=True)
class Request:
    """One conversation that waits for a reply.

    Args:
        conversation: What is said.
        schema: JSON schema of the reply.
        seed: Of the sampling.
        sample: Which of several judgements of the same this is.
        attempt: How often it was asked before, without a reply of use.
    """

    conversation: Conversation
    schema: Mapping[str, Any]
    seed: int
    sample: int = 0
    attempt: int = 0

    def key(self, about: Mapping[str, Any]) -> str:
        """SHA-256 of everything that a reply hangs on.

        Args:
            about: Of the chat: the model and every parameter. Not its address, so that replies
                stay good when a server moves.
        """
        row = [about, self.conversation, self.schema, self.seed, self.sample, self.attempt]
        text = json.dumps(row, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class ChatReply:
    """What a model said.

    Args:
        text: Its words; empty where it said none.
        finish: How it ended.
        prompt_tokens: Of the conversation.
        completion_tokens: Of the reply, with what it thought.
        num_attempts: How often a server was asked until it answered.
    """

    text: str
    finish: Finish
    prompt_tokens: int = 0
    completion_tokens: int = 0
    num_attempts: int = 1


@runtime_checkable
class Chat(Protocol):
    """A model that answers conversations."""

    max_tokens: int
    """Longest reply."""
    counting: str
    """How prompts are counted before they are sent, in words."""

    def about(self) -> Mapping[str, Any]:
        """The model and every parameter that its replies hang on, as plain values."""
        ...

    def num_tokens(self, conversation: Conversation) -> int:
        """Tokens of a conversation, about; see ``counting``."""
        ...

    def replies(self, next_request: NextRequest) -> Iterator[tuple[Request, ChatReply]]:
        """Replies as they come, in any order, until there is nothing more to ask.

        Asks for the next request in the thread that takes the replies, and only once there is room
        for it, so that a reply can change what is asked next.

        Raises:
            RunError: If the model cannot be reached or will not serve; after all replies that came.
        """
        ...
