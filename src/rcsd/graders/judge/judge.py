"""The judge that is a model."""

import copy
import math
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rcsd import config
from rcsd.data.views import PromptTemplates
from rcsd.errors import ConfigError
from rcsd.graders.base import Judge, Judgement, require_rubric
from rcsd.graders.code import CodeJudge
from rcsd.graders.judge.budget import Budget, cost
from rcsd.graders.judge.cache import ReplyCache
from rcsd.graders.judge.prompt import (
    PROMPT_VERSION,
    build_conversation,
    criterion_groups,
    defused,
    reply_schema,
)
from rcsd.graders.judge.reading import Finding, Source, read_score, read_verdicts
from rcsd.graders.judge.server import ChatReply, Request, ServerChat
from rcsd.io import cache_folder
from rcsd.types import Example

MAX_ATTEMPTS = 2
"""Requests for the same verdict, where a reply lacks it."""

# A filter refuses again, a prompt grows no shorter, and what failed was retried.
_FINAL = ("refused", "too long", "failed")

MIN_TOKENS_PER_WORD = 0.8
"""A prompt of which a server counts fewer tokens was cut by it."""

# Calls begun, answered by the cache, made again, and without a verdict; HTTP requests; verdicts of
# the criteria's own checks; prompts that the server cut, and replies that reached their limit.
_COUNTS = (
    *("num_calls", "num_cached", "num_retried", "num_failed", "num_attempts", "num_checked"),
    *("num_cut_prompts", "num_cut_replies", "prompt_tokens", "completion_tokens", "seconds"),
)

Answers = Sequence[tuple[Example, str]]


@dataclass(frozen=True)
class Call:
    """One conversation: on some criteria of an answer by their numbers, or (none) for one score.

    `attempt` is the number of earlier requests for the same.
    """

    index: int
    numbers: tuple[int, ...]
    attempt: int = 0


@dataclass(frozen=True)
class Result:
    """Findings of a reply by the criterion's number; final: to ask again would not help."""

    findings: Mapping[int, Finding]
    is_final: bool

    @property
    def has_verdict(self) -> bool:
        """True if the reply gives something that it was asked for."""
        return not all(finding.is_missing for finding in self.findings.values())


class ModelJudge(Judge):
    """Judge that asks a model; a verdict that its reply does not clearly give is unscored.

    With ``runs_checks`` code decides the criteria that have a check, without a request.

    A reply with a verdict is cached as it comes. A verdict that is missing is requested once more
    with another seed; then it is unscored, with its reason. Threads that share a judge take turns.

    Raises:
        ConfigError: If the folder of templates or the key's variable is missing.
        DataError: If the cache cannot be opened.
    """

    def __init__(self, section: config.ModelJudge) -> None:
        if section.templates is not None and not section.templates.is_dir():
            raise ConfigError(f"judge.templates: {section.templates} is not a folder")
        self.name, self.asks, self.sample = section.model, section.asks, 0
        self.runs_checks = section.runs_checks and section.asks.type != "holistic"
        self._shows_reference, self._models = section.shows_reference, Counter[tuple[str, str]]()
        self._chat = ServerChat(section)
        self._about = {**self._chat.about(), "version": PROMPT_VERSION}
        self._section, self._seed = section, section.seed
        self._templates = PromptTemplates(section.templates)
        self._cache = ReplyCache(section.cache or cache_folder() / "judgements.sqlite")
        self._budget = Budget(section, self._cache)
        self._turn, self._unscored = threading.Lock(), Counter[str]()
        self._counts: dict[str, float] = dict.fromkeys(_COUNTS, 0)

    def resampled(self, sample: int) -> "ModelJudge":
        """The same judge with other seeds, on the same budget."""
        judge = copy.copy(self)
        judge.sample = sample
        return judge

    def judgements(self, answers: Answers) -> list[Judgement]:
        """One for each example and text, in order.

        Raises:
            DataError: If an example has no rubric, or the cache cannot be written.
            RunError: If the model's server refuses, or stays away; replies so far are cached.
        """
        with self._turn:
            start = time.monotonic()
            findings = self._checked(answers) if self.runs_checks else {}
            self._counts["num_checked"] += len(findings)
            calls = []
            for index, (example, _) in enumerate(answers):
                numbers = range(1, len(require_rubric(example).criteria) + 1)
                left = [number for number in numbers if (index, number) not in findings]
                calls += [Call(index, group) for group in criterion_groups(self.asks, left)]
            while calls:
                pairs = zip(calls, self._results(calls, answers), strict=True)
                repeated = [self._add(call, result, findings) for call, result in pairs]
                calls = [call for call in repeated if call is not None]
            self._counts["seconds"] += time.monotonic() - start
            return [self._judgement(n, answer[0], findings) for n, answer in enumerate(answers)]

    def metrics(self) -> dict[str, float]:
        """Calls, tokens, cost, seconds of waiting, missing verdicts, since the judge was made."""
        metrics = {f"judge/{name}": value for name, value in self._counts.items()}
        if (money := cost(self._section, self._counts)) is not None:
            metrics["judge/cost"] = money
        metrics["judge/num_timeouts"] = self._chat.num_timeouts
        metrics["judge/num_unscored"] = self._unscored.total()
        for kind, count in sorted(self._unscored.items()):
            metrics[f"judge/num_unscored/{kind.replace(' ', '_')}"] = count
        return metrics

    def record(self) -> dict[str, Any]:
        """Names and fingerprints of the models that replied, with the number of their replies."""
        rows = sorted(self._models.items())
        names = ("model", "system_fingerprint", "num_replies")
        return {"models": [dict(zip(names, (*of, n), strict=True)) for of, n in rows]}

    def _checked(self, answers: Answers) -> dict[tuple[int, int], Finding]:
        """Verdicts of the criteria's checks, by answer and number."""
        return {
            (index, number): Finding(verdict)
            for index, (example, text) in enumerate(answers)
            for number, verdict in enumerate(CodeJudge().verdicts(example, text), 1)
            if verdict is not None
        }

    def _request(self, call: Call, answers: Answers) -> Request:
        example, text = answers[call.index]
        return Request(
            build_conversation(
                example, text, call.numbers, self.asks, self._templates, self._shows_reference
            ),
            reply_schema(call.numbers, self.asks),
            self._seed + MAX_ATTEMPTS * self.sample + call.attempt,
            self.sample,
            call.attempt,
            hash((example.id, text)),
        )

    def _results(self, calls: Sequence[Call], answers: Answers) -> list[Result | None]:
        """Result of each call, from the cache or the model; None: the budget does not allow it."""
        requests = [self._request(call, answers) for call in calls]
        keys = [request.key(self._about) for request in requests]
        pairs = dict(zip(keys, zip(calls, requests, strict=True), strict=True))  # equal ones once
        results = {key: self._cached(*pair, answers) for key, pair in pairs.items()}
        missing = [request for key, (_, request) in pairs.items() if results[key] is None]
        self._counts["num_cached"] += len(results) - len(missing)

        def received(request: Request, reply: ChatReply) -> None:
            for name in ("num_attempts", "prompt_tokens", "completion_tokens"):
                self._counts[name] += getattr(reply, name)
            self._budget.spend(reply)
            key = request.key(self._about)
            results[key] = result = self._result(pairs[key][0], request, reply, answers)
            if result.has_verdict:
                self._cache.write(key, reply)

        # What was replied before was replied to the same model and parameters.
        self._chat.failures.is_proven |= len(missing) < len(results)
        self._chat.ask(self._begun(missing), received)
        return [results[key] for key in keys]

    def _begun(self, requests: Sequence[Request]) -> Iterator[Request]:
        """Requests that the budget allows, each counted as it is taken."""
        for request in requests:
            if not self._budget.begin_call():
                return
            self._counts["num_calls"] += 1
            self._counts["num_retried"] += request.attempt > 0
            yield request

    def _cached(self, call: Call, request: Request, answers: Answers) -> Result | None:
        """Result of an earlier reply that gave a verdict, to this attempt or the one after it."""
        for attempt in range(call.attempt, MAX_ATTEMPTS):
            seed = request.seed + attempt - call.attempt
            tried = replace(request, seed=seed, attempt=attempt)
            if (reply := self._cache.read(tried.key(self._about))) is not None:
                result = self._result(call, request, reply, answers)
                if result.has_verdict:
                    return result
        return None

    def _result(self, call: Call, request: Request, reply: ChatReply, answers: Answers) -> Result:
        """Findings of a reply."""
        example, text = answers[call.index]
        source = Source(f"{defused(example.question)}\n{defused(text)}", request.prompt)
        self._note_model(reply)
        self._counts["num_cut_replies"] += reply.finish == "length"
        least = MIN_TOKENS_PER_WORD * len(source.prompt.split())
        self._counts["num_cut_prompts"] += 0 < reply.prompt_tokens < least
        if call.numbers:
            findings = read_verdicts(reply, call.numbers, source)
        else:
            findings = {0: read_score(reply, source)}
        return Result(findings, reply.finish in _FINAL)

    def _add(
        self, call: Call, result: Result | None, findings: dict[tuple[int, int], Finding]
    ) -> Call | None:
        """Add the findings of a reply; returns the call that asks again for what it lacks."""
        if result is None:
            for number in call.numbers or (0,):
                findings.setdefault((call.index, number), Finding(None, "budget"))
            return None
        findings |= {(call.index, number): each for number, each in result.findings.items()}
        missing = tuple(n for n, each in result.findings.items() if each.is_missing)
        self._counts["num_failed"] += bool(missing)
        if not missing or call.attempt + 1 == MAX_ATTEMPTS or result.is_final:
            return None
        return Call(call.index, missing if call.numbers else (), call.attempt + 1)

    def _note_model(self, reply: ChatReply) -> None:
        """Count what replied, and warn once where replies come from several."""
        models, of = self._models, (reply.model, reply.fingerprint)
        if not any(of):
            return
        models[of] += 1
        if len(models) == 2 and models[of] == 1:
            names = " and ".join(" ".join(filter(None, each)) for each in models)
            warnings.warn(
                f"the judge's replies come from several models or versions of {self.name}: {names}",
                stacklevel=2,
            )

    def _judgement(
        self, index: int, example: Example, findings: Mapping[tuple[int, int], Finding]
    ) -> Judgement:
        rubric, is_holistic = require_rubric(example), self.asks.type == "holistic"
        numbers = [0] if is_holistic else range(1, len(rubric.criteria) + 1)
        results = [findings[index, number] for number in numbers]
        reasons = [finding.reason for finding in results]
        explanations = tuple(finding.explanation for finding in results)
        self._unscored.update(reason.partition(":")[0] for reason in reasons if reason)
        if not is_holistic:
            verdicts = [None if each.value is None else bool(each.value) for each in results]
            return Judgement.from_verdicts(rubric, verdicts, reasons, explanations)
        if (value := results[0].value) is None:
            return Judgement((), math.nan, (0.0, 1.0), tuple(reasons), explanations)
        return Judgement((), float(value), (float(value), float(value)), ("",), explanations)
