"""Leakage: rubrics that give the reference answer away."""

from collections.abc import Sequence
from dataclasses import dataclass

from rcsd.data.check import rubric_findings
from rcsd.types import Example

ANSWER_GIVEN = "answer given"
"""Rule of `rcsd.data.lint_rules.RULES`."""


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
    examples = [e for e in examples if e.rubric is not None and e.reference_answer is not None]
    findings = rubric_findings(list(enumerate(examples, 1)))
    num = len({finding.line for finding in findings if finding.rule == ANSWER_GIVEN})
    return Leakage(len(examples), num, num / len(examples) if examples else None)
