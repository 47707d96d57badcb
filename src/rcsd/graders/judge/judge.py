"""The judge that is a model."""

import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcsd import config
from rcsd.data.views import PromptTemplates
from rcsd.errors import ConfigError
from rcsd.graders.base import Judgement, require_rubric
from rcsd.graders.judge.cache import ReplyCache
from rcsd.graders.judge.chat import Chat, ChatReply, Request
from rcsd.graders.judge.cost import CostTracker, Forecast
from rcsd.graders.judge.prompt import build_conversation, criterion_groups, reply_schema, scale
from rcsd.graders.judge.reading import Finding, read_score, read_verdicts
from rcsd.io import cache_folder
from rcsd.types import Example

MAX_ATTEMPTS = 2
"""Requests for the same verdict, where a reply lacks it."""

# A filter refuses again, and a prompt grows no shorter.
_FINAL = ("refused", "too long")
_CACHED = ("stop", "length", "refused")

Answers = Sequence[tuple[Example, str]]


@dataclass(frozen=True)
class Call:
    """One conversation with the judge.

    Args:
        index: Index of the answer among those that are judged together.
        numbers: Numbers of the criteria; empty: all, for one score.
        attempt: Number of earlier requests for the same.
    """

    index: int
    numbers: tuple[int, ...]
    attempt: int = 0


class ModelJudge:
    """Asks a model for verdicts, and leaves unscored what it does not clearly say.

    Every reply is cached as it comes. A verdict that is missing is requested once more with another
    seed; then it is unscored, with its reason. Threads that share a judge take turns.

    Args:
        chat: The model.
        asks: Verdicts or scores that one call asks for.
        templates: Prompt templates.
        cache: Cache of replies.
        costs: Counts calls, and holds them to a budget.
        seed: Seed of the model's sampling.
        sample: Index among repeated judgements of the same text.
    """

    def __init__(
        self,
        chat: Chat,
        asks: config.Asks,
        templates: PromptTemplates,
        cache: ReplyCache,
        costs: CostTracker,
        seed: int = 0,
        sample: int = 0,
    ) -> None:
        self.chat, self.asks, self.templates, self.cache = chat, asks, templates, cache
        self.costs, self.seed, self.sample = costs, seed, sample
        self._about, self._turn = chat.about(), threading.Lock()

    @classmethod
    def from_config(
        cls, section: config.ModelJudge | config.LocalJudge, chat: Chat
    ) -> "ModelJudge":
        """The judge of a section.

        Raises:
            ConfigError: If the folder of templates is missing.
            DataError: If the cache cannot be opened.
        """
        if section.templates is not None and not section.templates.is_dir():
            raise ConfigError(f"judge.templates: {section.templates} is not a folder")
        costs = CostTracker(max_calls=section.max_calls)
        if isinstance(section, config.ModelJudge):
            costs.prices, costs.max_cost = section.prices, section.max_cost
        cache = ReplyCache(section.cache or cache_folder() / "judgements.sqlite")
        templates = PromptTemplates(section.templates)
        return cls(chat, section.asks, templates, cache, costs, section.seed)

    def resampled(self, sample: int) -> "ModelJudge":
        """The same judge with other seeds, on the same budget."""
        parts = (self.chat, self.asks, self.templates, self.cache, self.costs)
        return ModelJudge(*parts, self.seed, sample)

    def judgements(self, answers: Answers) -> list[Judgement]:
        """One for each example and text, in order.

        Raises:
            DataError: If an example has no rubric, or the cache cannot be written.
            RunError: If the model's server refuses, or stays away; replies so far are cached.
        """
        with self._turn:
            start = time.monotonic()
            try:
                return self._judgements(answers)
            finally:
                self.costs.release()
                self.costs.seconds += time.monotonic() - start

    def forecast(self, answers: Answers, answer_tokens: int = 0) -> Forecast:
        """Calls, tokens and cost of judging the answers; nothing is requested.

        Args:
            answers: Examples and texts.
            answer_tokens: Tokens to add for each answer, where the texts are placeholders.

        Raises:
            DataError: If an example has no rubric.
        """
        _, cached, missing = self._look_up(self._calls(answers), answers)
        requests = [self._request(call, answers) for call in missing.values()]
        prompt = sum(self.chat.num_tokens(each.conversation) + answer_tokens for each in requests)
        longest = len(requests) * self.chat.max_tokens
        cost = None if self.costs.prices is None else self.costs.price(prompt, longest)
        return Forecast(len(requests), len(cached), prompt, longest, cost, self.chat.counting)

    def about(self) -> dict[str, Any]:
        """Everything that judgements depend on, for records: model, parameters, templates."""
        hashes = self.templates.hashes()
        return {
            "chat": dict(self._about),
            "asks": self.asks.model_dump(),
            "seed": self.seed,
            "templates": {name: hashes[name] for name in hashes if name.startswith("judge_")},
        }

    def metrics(self) -> dict[str, float]:
        """Calls, tokens, cost and missing verdicts since the judge was made."""
        return self.costs.metrics()

    def _judgements(self, answers: Answers) -> list[Judgement]:
        findings: dict[tuple[int, int], Finding] = {}
        calls = self._calls(answers)
        while calls:
            keys, replies, missing = self._look_up(calls, answers)
            self.costs.num_cached += len(replies)
            replies |= self._request_all(missing, answers)
            repeated = [
                self._read(call, replies.get(key), findings)
                for call, key in zip(calls, keys, strict=True)
            ]
            calls = [call for call in repeated if call is not None]
        return [self._judgement(index, answer[0], findings) for index, answer in enumerate(answers)]

    def _calls(self, answers: Answers) -> list[Call]:
        """The first call for each group of criteria."""
        return [
            Call(index, numbers)
            for index, (example, _) in enumerate(answers)
            for numbers in criterion_groups(self.asks, len(require_rubric(example).criteria))
        ]

    def _request(self, call: Call, answers: Answers) -> Request:
        example, text = answers[call.index]
        return Request(
            build_conversation(example, text, call.numbers, self.asks, self.templates),
            reply_schema(call.numbers, self.asks),
            self.seed + MAX_ATTEMPTS * self.sample + call.attempt,
            self.sample,
            call.attempt,
        )

    def _look_up(
        self, calls: Sequence[Call], answers: Answers
    ) -> tuple[list[str], dict[str, ChatReply], dict[str, Call]]:
        """Key of each call, cached replies by key, and calls without one, equal ones once."""
        keys = [self._request(call, answers).key(self._about) for call in calls]
        replies = {key: self.cache.read(key) for key in dict.fromkeys(keys)}
        cached = {key: reply for key, reply in replies.items() if reply is not None}
        missing = {key: call for key, call in zip(keys, calls, strict=True) if key not in cached}
        return keys, cached, missing

    def _request_all(self, calls: Mapping[str, Call], answers: Answers) -> dict[str, ChatReply]:
        """Replies by key; without those that the budget does not allow."""
        queue, replies = deque(calls.items()), dict[str, ChatReply]()

        def next_request() -> Request | None:
            if not queue:
                return None
            key, call = queue[0]
            request = self._request(call, answers)
            # Where this is refused, a reply may still cost less than was set aside for it.
            if not self.costs.reserve(key, request.max_prompt_tokens(), self.chat.max_tokens):
                return None
            self.costs.num_retried += call.attempt > 0
            queue.popleft()
            return request

        for request, reply in self.chat.replies(next_request):
            key = request.key(self._about)
            self.costs.settle(key, reply)
            if reply.finish in _CACHED:
                self.cache.write(key, reply)
            replies[key] = reply
        return replies

    def _read(
        self, call: Call, reply: ChatReply | None, findings: dict[tuple[int, int], Finding]
    ) -> Call | None:
        """Add the findings of a reply; returns the call that asks again for what it lacks."""
        if reply is None:
            for number in call.numbers or (0,):
                findings.setdefault((call.index, number), Finding(None, "budget"))
            return None
        if call.numbers:
            read = read_verdicts(reply, call.numbers)
        else:
            read = {0: read_score(reply, *scale(self.asks))}
        findings |= {(call.index, number): finding for number, finding in read.items()}
        missing = tuple(number for number, finding in read.items() if finding.value is None)
        self.costs.num_failed += bool(missing)
        if not missing or call.attempt + 1 == MAX_ATTEMPTS or reply.finish in _FINAL:
            return None
        return Call(call.index, missing if call.numbers else (), call.attempt + 1)

    def _judgement(
        self, index: int, example: Example, findings: Mapping[tuple[int, int], Finding]
    ) -> Judgement:
        rubric, is_holistic = require_rubric(example), self.asks.type == "holistic"
        numbers = [0] if is_holistic else range(1, len(rubric.criteria) + 1)
        results = [findings[index, number] for number in numbers]
        reasons = [finding.reason for finding in results]
        self.costs.unscored.update(reason.partition(":")[0] for reason in reasons if reason)
        if not is_holistic:
            verdicts = [None if each.value is None else bool(each.value) for each in results]
            return Judgement.from_verdicts(rubric, verdicts, reasons)
        if (value := results[0].value) is None:
            return Judgement((), math.nan, (0.0, 1.0), tuple(reasons))
        return Judgement((), float(value), (float(value), float(value)), ("",))
