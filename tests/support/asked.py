"""Questions whose answers say yes or no, and answers with given scores."""

from collections.abc import Sequence
from typing import Any

from rcsd.graders.grade import Graded
from rcsd.recipes.probe_numbers import Answers
from rcsd.types import Criterion, Example, Rubric

SAYS_YES = Criterion("Says yes.", 1, "yes", {"type": "matches", "pattern": "yes"})
SAYS_NO = Criterion("Says no.", -1, "no", {"type": "matches", "pattern": "no"})


def question(number: int, *criteria: Criterion, reference: str | None = None) -> Example:
    rubric = Rubric(criteria) if criteria else None
    return Example(f"q{number}", f"question {number}?", reference, rubric=rubric)


def answers(name: str, scores: Sequence[float | None], **changes: Any) -> Answers:
    """Answers to q0, q1, ... with these scores."""
    rows = {
        f"q{n}": Graded(f"q{n}", "?", "", 1, True, (None,), score, None)
        for n, score in enumerate(scores)
    }
    return Answers(name, rows, **changes)
