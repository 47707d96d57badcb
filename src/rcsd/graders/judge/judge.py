"""The judge that is a model."""

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rcsd import config
from rcsd.data.views import PromptTemplates
from rcsd.graders.base import Judgement, judgement_of, rubric_of
from rcsd.graders.judge.account import Account
from rcsd.graders.judge.asking import bounds_of, conversation, groups, schema
from rcsd.graders.judge.cache import ReplyCache
from rcsd.graders.judge.chat import Chat, ChatReply, Request
from rcsd.graders.judge.reading import Finding, score, verdicts
from rcsd.types import Example

MAX_ATTEMPTS = 2
"""How often the same is asked where a reply is of no use."""

# A filter says the same again, and a prompt grows no shorter.
_FINAL = ("refused", "too long")
_KEPT = ("stop", "length", "refused")


@dataclass(frozen=True)
class Call:
    """One conversation with the judge.

    Args:
        place: Of the answer, among those that are judged together.
        numbers: Of the criteria that are asked for; empty: all, for one score.
        attempt: How often it was asked before.
    """

    place: int
    numbers: tuple[int, ...]
    attempt: int = 0


class ModelJudge:
    """Asks a model for verdicts, and leaves unscored what it does not clearly say.

    Every reply goes into the cache as it comes. What brings no verdict is asked once more with
    another seed; what then is missing has its reason. Threads may share a judge: they take turns.

    Args:
        chat: The model.
        asks: What one call asks for.
        words: The templates.
        cache: Of replies.
        account: Counts, and holds to a budget.
        seed: Of the model's sampling.
        sample: Which of several judgements of the same this judge gives.
    """

    def __init__(
        self,
        chat: Chat,
        asks: config.Asks,
        words: PromptTemplates,
        cache: ReplyCache,
        account: Account,
        seed: int = 0,
        sample: int = 0,
    ) -> None:
        self.chat, self.asks, self.words, self.cache = chat, asks, words, cache
        self.account, self.seed, self.sample = account, seed, sample
        self._about, self._turn = chat.about(), threading.Lock()

    def resampled(self, sample: int) -> "ModelJudge":
        """The same judge asked anew: with seeds of its own, on the same account."""
        parts = (self.chat, self.asks, self.words, self.cache, self.account)
        return ModelJudge(*parts, self.seed, sample)

    def judgements(self, answers: Sequence[tuple[Example, str]]) -> list[Judgement]:
        """One for each example and text, in order.

        Raises:
            DataError: If an example has no rubric, or the cache cannot be written.
            RunError: If the model's server refuses, or stays away; the cache then has what came.
        """
        with self._turn:
            began = time.monotonic()
            try:
                return _Round(self, answers).judgements()
            finally:
                self.account.release()
                self.account.seconds += time.monotonic() - began

    def calls(self, answers: Sequence[tuple[Example, str]]) -> list[Call]:
        """The first call of each group of criteria.

        Raises:
            DataError: If an example has no rubric.
        """
        return [
            Call(place, numbers)
            for place, (example, _) in enumerate(answers)
            for numbers in groups(self.asks, len(rubric_of(example).criteria))
        ]

    def request(self, call: Call, answers: Sequence[tuple[Example, str]]) -> Request:
        """What a call sends."""
        example, text = answers[call.place]
        return Request(
            conversation(example, text, call.numbers, self.asks, self.words),
            schema(call.numbers, self.asks),
            self.seed + MAX_ATTEMPTS * self.sample + call.attempt,
            self.sample,
            call.attempt,
        )

    def key(self, request: Request) -> str:
        """By what the cache knows a request."""
        return request.key(self._about)

    def take(self, key: str, reply: ChatReply) -> None:
        """Put a reply down: what it took, and in the cache if it may be used again."""
        self.account.end(key, reply)
        if reply.finish in _KEPT:
            self.cache.write(key, reply)

    def about(self) -> dict[str, Any]:
        """What judgements hang on, for records: model, parameters, words, what is asked."""
        hashes = self.words.hashes()
        return {
            "chat": dict(self._about),
            "asks": self.asks.model_dump(),
            "seed": self.seed,
            "templates": {name: hashes[name] for name in hashes if name.startswith("judge_")},
        }

    def metrics(self) -> dict[str, float]:
        """What was asked, what it took, and what stayed unscored, since the judge was made."""
        return self.account.metrics()


class _Round:
    """All calls that a list of answers takes, and what they brought."""

    def __init__(self, judge: ModelJudge, answers: Sequence[tuple[Example, str]]) -> None:
        self._judge, self._answers = judge, answers
        # Replies of this round, which are no finds in the cache.
        self._said: dict[str, ChatReply] = {}
        self._queue = deque(judge.calls(answers))
        self._waiting: dict[str, list[Call]] = {}
        self._blocked: dict[str, list[Call]] = {}
        self._found: dict[tuple[int, int], Finding] = {}

    def judgements(self) -> list[Judgement]:
        judge = self._judge
        for request, reply in judge.chat.replies(self._next):
            key = judge.key(request)
            judge.take(key, reply)
            self._said[key] = reply
            for call in self._waiting.pop(key):
                self._heed(call, reply)
        # What is left the budget forbids.
        for call in (call for calls in self._blocked.values() for call in calls):
            for number in call.numbers or (0,):
                self._found.setdefault((call.place, number), Finding(None, "budget"))
        return [self._judgement(place) for place in range(len(self._answers))]

    def _next(self) -> Request | None:
        """The next request that neither the cache, nor one under way, answers.

        What the budget forbids waits by its key: a reply may have cost less than was held for it.
        """
        judge = self._judge
        while self._queue:
            call = self._queue.popleft()
            request = judge.request(call, self._answers)
            key = judge.key(request)
            if key in self._waiting:
                self._waiting[key].append(call)
            elif key in self._said:
                self._heed(call, self._said[key])
            elif key in self._blocked:
                self._blocked[key].append(call)
            elif (reply := judge.cache.read(key)) is not None:
                judge.account.num_cached += 1
                self._heed(call, reply)
            elif self._is_begun(key, request, [call]):
                return request
            else:
                self._blocked[key] = [call]
        # One look a reply: walking through all that waits would take time quadratic in them.
        for key, calls in self._blocked.items():
            request = judge.request(calls[0], self._answers)
            if self._is_begun(key, request, calls):
                del self._blocked[key]
                return request
            break
        return None

    def _is_begun(self, key: str, request: Request, calls: list[Call]) -> bool:
        account = self._judge.account
        if not account.begin(key, _most_tokens(request), self._judge.chat.max_tokens):
            return False
        account.num_retried += calls[0].attempt > 0
        self._waiting[key] = calls
        return True

    def _heed(self, call: Call, reply: ChatReply) -> None:
        """Take what a reply says; what it does not say is asked once more, or stays unscored."""
        asks = self._judge.asks
        if asks.type == "holistic":
            said = {0: score(reply, *bounds_of(asks))}
        else:
            said = verdicts(reply, call.numbers)
        missing = tuple(number for number, finding in said.items() if finding.value is None)
        self._judge.account.num_failed += bool(missing)
        self._found |= {(call.place, number): finding for number, finding in said.items()}
        again = missing if call.numbers else ()
        if missing and call.attempt + 1 < MAX_ATTEMPTS and reply.finish not in _FINAL:
            self._queue.append(Call(call.place, again, call.attempt + 1))

    def _judgement(self, place: int) -> Judgement:
        rubric = rubric_of(self._answers[place][0])
        is_whole = self._judge.asks.type == "holistic"
        numbers = [0] if is_whole else range(1, len(rubric.criteria) + 1)
        found = [self._found[place, number] for number in numbers]
        reasons = [finding.reason for finding in found]
        self._judge.account.unscored.update(r.partition(":")[0] for r in reasons if r)
        if not is_whole:
            met = [None if each.value is None else bool(each.value) for each in found]
            return judgement_of(rubric, met, reasons)
        value = found[0].value
        if value is None:
            return Judgement((), math.nan, (0.0, 1.0), tuple(reasons))
        return Judgement((), float(value), (float(value), float(value)), ("",))


def _most_tokens(request: Request) -> int:
    """Tokens of a prompt, at most: no tokenizer in use makes more of a text than it has bytes."""
    return sum(len(message["content"].encode()) + 64 for message in request.conversation)
