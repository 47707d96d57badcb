"""Does the teacher's signal rank completions, and on which tokens does it err? No tensors here.

A token's gap is log p - log q in nats: the teacher's log-probability of it minus the student's. It
is how far distillation wants to move the token; so it should be larger in better completions.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rcsd.evaluation.statistics import Interval, bootstrap_interval

TokenClass = Literal["number", "operator", "word", "punctuation", "space", "end"]
"""Number: digits and no letter, with or without a point or sign. Operator: signs of arithmetic and
comparison alone. Word: with a letter. Space: spaces and line breaks alone. End: a token that ends a
completion. Punctuation: whatever else."""

CERTAIN_NATS = 0.01
"""A smaller gap has no sign: teacher and student agree within one percent, and rounding or a
thousandth of probability decides. Ours, a convention."""

_OPERATORS = frozenset(
    "+-*/=^<>%\u00d7\u00b7\u00f7\u00b1\u2212\u2248\u2260\u2264\u2265\u221a\u2211"
)


@dataclass(frozen=True)
class Weighed:
    """A completion with its score.

    Args:
        place: Tells it from the other completions.
        question: Its question's id.
        score: In [0, 1].
        gaps: One for each token, in nats.
        classes: Of its tokens.
    """

    place: int
    question: str
    score: float
    gaps: Sequence[float]
    classes: Sequence[TokenClass]


@dataclass(frozen=True)
class Ranking:
    """How one teacher orders the completions of a question.

    Args:
        teacher: The context whose gaps these are.
        num_pairs: Completions of the same question with different scores.
        by_sum: Share of the pairs whose better completion has the larger sum of gaps, ties counted
            half (the AUC within questions), clustered by question; None without pairs.
        by_mean: The same with the mean gap of a token, which does not grow with length.
        lead: Of the teacher that is shown the own rubrics over this one, by sum, paired; None for
            itself. A placebo's teacher may rank well too, by form alone: 0.5 is not the yardstick.
    """

    teacher: str
    num_pairs: int
    by_sum: Interval | None
    by_mean: Interval | None
    lead: Interval | None = None


@dataclass(frozen=True)
class SignErrors:
    """Tokens of one class that the teacher moves the wrong way, over questions with pairs.

    An error is a gap below -`CERTAIN_NATS` in a completion with the question's best score, or above
    `CERTAIN_NATS` in one with its worst. Not all are the teacher's: a bad completion has good
    tokens too, up to its mistake. So read the classes against each other, and against a placebo's.

    Args:
        token_class: The class.
        num_best: Tokens of the best completions.
        num_best_errors: Errors among them.
        best_error_share: Their share; None without tokens.
        num_worst: Tokens of the worst completions.
        num_worst_errors: Errors among them.
        worst_error_share: Their share; None without tokens.
    """

    token_class: TokenClass
    num_best: int
    num_best_errors: int
    best_error_share: float | None
    num_worst: int
    num_worst_errors: int
    worst_error_share: float | None


def ranking(
    teacher: str,
    completions: Sequence[Weighed],
    seed: int = 0,
    own: Sequence[Weighed] | None = None,
) -> Ranking:
    """AUC of the summed and of the mean gap, within questions.

    Args:
        teacher: Whose gaps these are.
        completions: Graded, with this teacher's gaps.
        seed: Of the intervals.
        own: With the gaps of the teacher that is shown the own rubrics, where this one is not.
    """
    orders = _orders(completions)
    if not orders:
        return Ranking(teacher, 0, None, None)
    questions = [order.question for order in orders.values()]
    by_sum = bootstrap_interval([o.by_sum for o in orders.values()], questions, seed)
    by_mean = bootstrap_interval([o.by_mean for o in orders.values()], questions, seed)
    lead = None
    if own is not None:
        owns = _orders(own)
        ahead = [owns[pair].by_sum - order.by_sum for pair, order in orders.items()]
        lead = bootstrap_interval(ahead, questions, seed)
    return Ranking(teacher, len(orders), by_sum, by_mean, lead)


def sign_errors(completions: Sequence[Weighed]) -> tuple[SignErrors, ...]:
    """Errors by class, in the order of `TokenClass`; classes without a token are left out."""
    best: dict[TokenClass, list[bool]] = {name: [] for name in get_args(TokenClass)}
    worst: dict[TokenClass, list[bool]] = {name: [] for name in get_args(TokenClass)}
    for group in _groups(completions).values():
        scores = [completion.score for completion in group]
        if min(scores) == max(scores):
            continue
        for completion in group:
            for gap, name in zip(completion.gaps, completion.classes, strict=True):
                if completion.score == max(scores):
                    best[name].append(gap < -CERTAIN_NATS)
                elif completion.score == min(scores):
                    worst[name].append(gap > CERTAIN_NATS)
    return tuple(
        SignErrors(name, *_counted(best[name]), *_counted(worst[name]))
        for name in best
        if best[name] or worst[name]
    )


def token_class(text: str) -> TokenClass:
    """Class of a token that does not end a completion, from its text alone."""
    bare = text.strip()
    if not bare:
        return "space"
    if any(character.isalpha() for character in bare):
        return "word"
    if any(character.isdigit() for character in bare):
        return "number"
    return "operator" if set(bare) <= _OPERATORS else "punctuation"


def _groups(completions: Sequence[Weighed]) -> Mapping[str, list[Weighed]]:
    groups: dict[str, list[Weighed]] = {}
    for completion in completions:
        groups.setdefault(completion.question, []).append(completion)
    return groups


@dataclass(frozen=True)
class _Order:
    """A pair of a question: 1 where the better completion has the larger gap, 0.5 for a tie."""

    question: str
    by_sum: float
    by_mean: float


def _orders(completions: Sequence[Weighed]) -> dict[tuple[int, int], _Order]:
    """Pairs of the same question with different scores, by their places, the better one first."""
    found = {}
    for group in _groups(completions).values():
        for better, worse in itertools.permutations(group, 2):
            if better.score > worse.score:
                sums = math.fsum(better.gaps), math.fsum(worse.gaps)
                means = sums[0] / len(better.gaps), sums[1] / len(worse.gaps)
                order = _Order(better.question, _is_larger(*sums), _is_larger(*means))
                found[better.place, worse.place] = order
    return found


def _is_larger(better: float, worse: float) -> float:
    return 0.5 if better == worse else float(better > worse)


def _counted(errors: Sequence[bool]) -> tuple[int, int, float | None]:
    return len(errors), sum(errors), sum(errors) / len(errors) if errors else None
