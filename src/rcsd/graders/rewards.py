"""Rewards of completions: one protocol for exact answers, checks in code and judges."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from rcsd import config
from rcsd.data.thinking import without_thinking
from rcsd.errors import DataError, RunError
from rcsd.graders.answers import grade_example
from rcsd.graders.answers.mathematics import in_parallel
from rcsd.graders.base import Judge, build_judge, require_rubric
from rcsd.graders.code import CodeJudge
from rcsd.types import Completion, Example


@runtime_checkable
class Reward(Protocol):
    """Scores completions."""

    def scores(self, answers: Sequence[tuple[Example, Completion]]) -> list[float]:
        """A score in [0, 1] for each example and completion, in order; NaN: unscored.

        All at once, so that a model behind the reward is called concurrently.

        Raises:
            DataError: If an example lacks a reference or a rubric.
        """
        ...


class AnswerReward:
    """1 where the final answer is the reference's, 0 where it is not, NaN where it is ungraded.

    A number without its unit passes, one in a wrong unit does not (`rcsd.types.DEFAULT_UNITS`).
    """

    def scores(self, answers: Sequence[tuple[Example, Completion]]) -> list[float]:
        """Scores; an example without a reference answer is a DataError."""

        def verdict_on(answer: tuple[Example, Completion]) -> bool | None:
            example, completion = answer
            return grade_example(example, completion.text, completion.finished).verdict

        verdicts = in_parallel(verdict_on, answers)
        return [math.nan if verdict is None else float(verdict) for verdict in verdicts]


class RubricReward:
    """Rubric score by a judge; NaN where a verdict is missing.

    ``unscored`` counts the reasons of the verdicts that the last scores lack, where a model judges.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge, self.unscored = judge, Counter[str]()

    def scores(self, answers: Sequence[tuple[Example, Completion]]) -> list[float]:
        """Scores; an example without a rubric is a DataError, a spent budget a RunError."""
        texts = [(example, without_thinking(completion.text)) for example, completion in answers]
        judgements = self.judge.judgements(texts)
        if not isinstance(self.judge, CodeJudge):
            reasons = (reason for each in judgements for reason in each.reasons)
            self.unscored = Counter(filter(None, reasons))
        if any("budget" in judgement.reasons for judgement in judgements):
            raise RunError(
                "the judge of the reward 'rubric' has spent its budget, so completions go without "
                "a reward; raise judge.max_calls and resume from the newest checkpoint: replies so "
                "far are in the cache"
            )
        return [judgement.score for judgement in judgements]


def build_rewards(sections: Sequence[config.Reward], examples: Sequence[Example]) -> list[Reward]:
    """The rewards of a configuration, tried on the examples; no model is called.

    Raises:
        ConfigError: If a variable or folder that a judge needs is missing.
        DataError: If an example lacks a reference or a rubric, or a reward scores an empty
            completion of no example: nothing would ever be learned from it.
    """
    rewards: list[Reward] = [
        RubricReward(build_judge(section.judge)) if section.type == "rubric" else AnswerReward()
        for section in sections
    ]
    empty = Completion((), "", finished=True)
    for section, reward in zip(sections, rewards, strict=True):
        if section.type == "rubric" and section.judge.type != "code":
            for example in examples:
                require_rubric(example)
        elif all(math.isnan(score) for score in reward.scores([(e, empty) for e in examples])):
            why = "every rubric has a criterion without a check"
            if section.type == "answer":
                why = "no reference answer is a number"
            raise DataError(f"the reward '{section.type}' cannot tell a wrong completion: {why}")
    return rewards


def weighted_sums(weights: Sequence[float], scores: Sequence[Sequence[float]]) -> list[float]:
    """``sum_i w_i s_i`` of each completion, i a reward; NaN where any of its scores is."""
    return [
        sum(weight * score for weight, score in zip(weights, column, strict=True))
        for column in zip(*scores, strict=True)
    ]
