"""Judge that runs the criteria's checks."""

from collections.abc import Sequence

from rcsd.errors import RubricError
from rcsd.graders.base import Judgement, require_rubric
from rcsd.graders.checks import met
from rcsd.types import Criterion, Example


class CodeJudge:
    """Exact verdicts by code; a criterion without a check stays unscored."""

    def judgements(self, answers: Sequence[tuple[Example, str]]) -> list[Judgement]:
        """Verdicts and scores of every text; raises as `verdicts`."""
        judgements = []
        for example, text in answers:
            verdicts = self.verdicts(example, text)
            reasons = ["the criterion has no check" if v is None else "" for v in verdicts]
            judgements.append(Judgement.from_verdicts(require_rubric(example), verdicts, reasons))
        return judgements

    def verdicts(self, example: Example, text: str) -> list[bool | None]:
        """One verdict for each criterion: met, not met, or None where it has no check.

        Raises:
            DataError: If the example has no rubric.
            RubricError: If a check is malformed or cannot be carried out; names the criterion.
        """
        criteria = enumerate(require_rubric(example).criteria)
        return [_verdict(example, index, criterion, text) for index, criterion in criteria]


def _verdict(example: Example, index: int, criterion: Criterion, text: str) -> bool | None:
    if criterion.check is None:
        return None
    try:
        return met(criterion.check, text)
    except RubricError as error:
        raise RubricError(f"example {example.id!r}: rubric[{index}].check: {error}") from error
