"""Values of a metric by question, their bounds where verdicts are missing, and guessing baselines.

Legend of axes: S seeds of an arm, N questions.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rcsd.evaluation.statistics import pass_at_k
from rcsd.graders.answers import can_be_wrong
from rcsd.graders.grade import Graded
from rcsd.types import LETTERS, Example, UnitRule

Arms = Mapping[str, Sequence[Sequence[Graded]]]
"""Arm -> seeds -> rows, of the same questions in the same order; one row for each question, or one
for each of its samples."""

Pairs = Sequence[tuple[str, str]]
"""Arms whose difference, first minus second, is wanted."""


def question_values(rows: Sequence[Graded], metric: str) -> dict[str, float]:
    """One value for each question, in the rows' order; NaN where a completion is not graded.

    The metric is ``score`` or ``accuracy``, with ``_avg@k`` for the mean over k samples; or
    ``pass@k``: the chance that one of k samples has the right answer.
    """
    return _by_question([(row.id, _value(row, metric)) for row in rows], metric)


def graded_values(rows: Sequence[Graded], metric: str) -> dict[str, float]:
    """`question_values` without the questions that have an ungraded completion."""
    values = question_values(rows, metric)
    return {id: value for id, value in values.items() if not math.isnan(value)}


def _value(row: Graded, metric: str) -> float:
    value = row.score if metric.startswith("score") else row.right
    return math.nan if value is None else float(value)


def _by_question(values: Sequence[tuple[str, float]], metric: str) -> dict[str, float]:
    name, _, k = metric.partition("@")
    by_question: dict[str, list[float]] = {}
    for id, value in values:
        by_question.setdefault(id, []).append(value)
    reduced = {id: sum(of_one) / len(of_one) for id, of_one in by_question.items()}
    for id, of_one in by_question.items() if name == "pass" else ():
        if math.isfinite(reduced[id]):
            reduced[id] = float(pass_at_k(len(of_one), round(sum(of_one)), int(k)))
    return reduced


@dataclass(frozen=True, slots=True)
class ArmBounds:
    """Mean of an arm if all `num_unscored` missing values count against it, and if all for it."""

    arm: str
    low: float
    high: float
    num_unscored: int


def arm_bounds(arms: Arms, metric: str, examples: Sequence[Example]) -> tuple[ArmBounds, ...]:
    """Bounds of the arms' means over all questions; empty where every completion has its value.

    The lowest difference of two arms is the low of one minus the high of the other. For accuracy an
    ungraded answer may be right or wrong. Examples without a rubric have no score, those without a
    reference no accuracy.
    """
    is_score = metric.startswith("score")
    ids = {e.id for e in examples if (e.rubric if is_score else e.reference_answer) is not None}

    def ends(row: Graded) -> tuple[float, float]:
        if not math.isnan(value := _value(row, metric)):
            return value, value
        return row.bounds if is_score and row.bounds is not None else (0.0, 1.0)

    bounds: list[ArmBounds] = []
    for arm, seeds in arms.items():
        ranges = [[(row.id, ends(row)) for row in rows if row.id in ids] for rows in seeds]
        if not all(ranges):
            return ()
        values = [
            [_by_question([(id, pair[end]) for id, pair in of], metric).values() for of in ranges]
            for end in (0, 1)
        ]
        low, high = (float(np.mean([np.mean([*seed]) for seed in of_end])) for of_end in values)
        bounds.append(ArmBounds(arm, low, high, sum(a != b for of in ranges for _, (a, b) in of)))
    return tuple(bounds) if any(each.num_unscored for each in bounds) else ()


UNGRADED_AS_WRONG = "ungraded as wrong"
NUMBER_ALONE, UNIT_REQUIRED = "number alone", "unit required"
_UNIT_RULES: Mapping[str, UnitRule] = {NUMBER_ALONE: "ignore", UNIT_REQUIRED: "require"}


def accuracies(arms: Arms, metric: str, examples: Sequence[Example]) -> dict[str, Arms]:
    """The arms' rows by the other rules that an accuracy is given by; empty for other metrics.

    `UNGRADED_AS_WRONG`: over all questions that code can grade, ungraded answers are wrong. Where
    units are asked for, also `NUMBER_ALONE` and `UNIT_REQUIRED`, of which ungraded ones are left
    out (`rcsd.types.UnitRule`).
    """
    ids = {example.id for example in examples if can_be_wrong(example)}
    if not metric.startswith("accuracy") or not ids:
        return {}
    every = {arm: [[r for r in rows if r.id in ids] for rows in of] for arm, of in arms.items()}
    by_rule = {UNGRADED_AS_WRONG: _map_rows(every, lambda r: replace(r, right=bool(r.right)))}
    units = {row.unit_verdict for of in every.values() for rows in of for row in rows}
    if not units <= {None, "none asked"}:
        for name, rule in _UNIT_RULES.items():
            by_rule[name] = _map_rows(every, lambda row, rule=rule: row.by_units(rule))
    return by_rule


def _map_rows(arms: Arms, change: Callable[[Graded], Graded]) -> Arms:
    return {arm: [[change(row) for row in rows] for rows in of] for arm, of in arms.items()}


def baseline_accuracies(examples: Sequence[Example]) -> dict[str, float | str]:
    """Chance and majority-letter baselines of a multiple-choice set; empty if one has no options.

    ``chance`` is the mean of 1 / number of options; ``majority`` the share of questions that their
    most frequent right letter, ``majority_letter`` (the first of equals), answers.
    """
    choices = [(e.grading.options, e.reference_answer) for e in examples if e.grading is not None]
    if not choices or len(choices) < len(examples) or not all(options for options, _ in choices):
        return {}
    counts: Counter[str] = Counter()
    for options, reference in choices:
        right = (reference or "").strip()
        texts = [option.strip() for option in options]
        # As in grading: a letter of the options before a text of one.
        is_letter = right in LETTERS[: len(options)]
        counts[right if is_letter else LETTERS[texts.index(right)]] += 1
    letter, number = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "chance": sum(1 / len(options) for options, _ in choices) / len(choices),
        "majority": number / len(choices),
        "majority_letter": letter,
    }
