"""Signal quality: what the teacher says of completions that the student sampled."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rcsd.graders.answers import can_be_wrong
from rcsd.graders.base import Judge
from rcsd.graders.rewards import AnswerReward, RubricReward
from rcsd.recipes.probe.contexts import TEACHER, Context
from rcsd.recipes.probe.gains import Metric
from rcsd.recipes.probe.gaps import Pair
from rcsd.recipes.probe.headroom import Answerer
from rcsd.recipes.probe.ranking import (
    Ranking,
    SignErrors,
    TokenClass,
    Weighed,
    ranking,
    sign_errors,
    token_class,
)
from rcsd.types import Example, Rollout


@dataclass(frozen=True)
class Signal:
    """What the teacher says of sampled completions, beside their grades.

    Args:
        num_completions: That were sampled.
        num_tokens: Of all of them: the positions of masses.
        num_ungraded: Completions without a grade, which rank nothing.
        rankings: The teacher's, then those of teachers that are shown a placebo.
        sign_errors: The teacher's, by class of token.
    """

    num_completions: int
    num_tokens: int
    num_ungraded: int
    rankings: tuple[Ranking, ...]
    sign_errors: tuple[SignErrors, ...]


def signal_of(
    rollouts: Sequence[Rollout],
    metric: Metric | None,
    answerer: Answerer,
    pair: Pair,
    placebos: Sequence[Context],
    seed: int = 0,
) -> Signal:
    """Rankings and sign errors.

    Args:
        rollouts: Completions of the student, several of each question.
        metric: By which they are graded; None: they cannot be.
        answerer: Makes the placebos' prompts, and grades.
        pair: Teacher and student.
        placebos: What other teachers are shown.
        seed: Of the intervals.
    """
    scores = completion_scores(rollouts, metric, answerer.judge)
    log_q = pair.student_log_q(rollouts)
    classes = [_classes(rollout, pair) for rollout in rollouts]

    def weighed(shown: Mapping[str, tuple[int, ...]] | None) -> list[Weighed]:
        """The graded completions, with the gaps of the teacher who is shown these prompts."""
        places = [
            place
            for place, rollout in enumerate(rollouts)
            if not math.isnan(scores[place]) and (shown is None or rollout.example.id in shown)
        ]
        asked = [rollouts[place] for place in places]
        if shown is not None:
            asked = [replace(r, teacher_ids=shown[r.example.id]) for r in asked]
        found = zip(places, asked, pair.teacher_log_p(asked), strict=True)
        return [
            Weighed(
                place,
                rollout.example.id,
                scores[place],
                [p - q for p, q in zip(log_p, log_q[place], strict=True)],
                classes[place],
            )
            for place, rollout, log_p in found
        ]

    own = weighed(None)
    rankings = [ranking(TEACHER, own, seed)]
    rankings += [ranking(c.name, weighed(answerer.prompts(c)[0]), seed, own) for c in placebos]
    return Signal(
        len(rollouts),
        sum(len(rollout.completion.token_ids) for rollout in rollouts),
        sum(map(math.isnan, scores)),
        tuple(rankings),
        sign_errors(own),
    )


def completion_scores(
    rollouts: Sequence[Rollout], metric: Metric | None, judge: Judge
) -> list[float]:
    """Score of each completion in [0, 1]; NaN where it cannot be told."""
    reward = RubricReward(judge) if metric == "score" else AnswerReward()

    def has_grade(example: Example) -> bool:
        by_rubric = metric == "score" and example.rubric is not None
        return by_rubric or (metric == "accuracy" and can_be_wrong(example))

    return [
        reward.scores([(rollout.example, rollout.completion)])[0]
        if has_grade(rollout.example)
        else math.nan
        for rollout in rollouts
    ]


def _classes(rollout: Rollout, pair: Pair) -> list[TokenClass]:
    policy = pair.policy
    return [
        "end" if token in policy.end_ids else token_class(policy.tokenizer.decode([token]))
        for token in rollout.completion.token_ids
    ]
