"""Leakage: rubrics that give the reference answer away."""

from collections.abc import Sequence
from dataclasses import dataclass

from rcsd.data.lint import Row, lint
from rcsd.types import Example

ANSWER_GIVEN = "answer given"
"""The rule of `rcsd.data.lint.rules.RULES`."""


@dataclass(frozen=True)
class Leakage:
    """How many rubrics hold or quote their own reference answer.

    Args:
        num_rubrics: Rubrics of examples with a reference answer.
        num_leaking: Those among them with such a criterion.
        share: None without rubrics.
    """

    num_rubrics: int
    num_leaking: int
    share: float | None


def leakage_of(examples: Sequence[Example]) -> Leakage:
    """Leakage of all rubrics that have a reference answer."""
    rows = [
        Row(line, example.id, example, None, "readable")
        for line, example in enumerate(examples, 1)
        if example.rubric is not None and example.reference_answer is not None
    ]
    num = 0
    if rows:
        num = next(c.num_rows for c in lint(rows).counts() if c.rule == ANSWER_GIVEN)
    return Leakage(len(rows), num, num / len(rows) if rows else None)
