"""The judge that runs the criteria's checks."""

from collections.abc import Sequence

from rcsd.errors import RubricError
from rcsd.graders.base import Judgement, judgement_of, rubric_of
from rcsd.graders.checks import met
from rcsd.types import Criterion, Example


class CodeJudge:
    """Exact verdicts by code; a criterion without a check stays unscored."""

    def judgements(self, answers: Sequence[tuple[Example, str]]) -> list[Judgement]:
        """Verdicts on every text, and the scores that they amount to; errors as of `verdicts`."""
        found = []
        for example, text in answers:
            verdicts = self.verdicts(example, text)
            reasons = ["the criterion has no check" if v is None else "" for v in verdicts]
            found.append(judgement_of(rubric_of(example), verdicts, reasons))
        return found

    def verdicts(self, example: Example, text: str) -> list[bool | None]:
        """One verdict for each criterion: met, not met, or None where it has no check.

        Raises:
            DataError: If the example has no rubric.
            RubricError: If a check is malformed or cannot be carried out; names the criterion.
        """
        criteria = enumerate(rubric_of(example).criteria)
        return [_verdict(example, index, criterion, text) for index, criterion in criteria]


def _verdict(example: Example, index: int, criterion: Criterion, text: str) -> bool | None:
    if criterion.check is None:
        return None
    try:
        return met(criterion.check, text)
    except RubricError as error:
        raise RubricError(f"example {example.id!r}: rubric[{index}].check: {error}") from error
