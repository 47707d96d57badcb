"""The judge that runs the criteria's checks."""

from rcsd.errors import RubricError
from rcsd.judges.base import rubric_of
from rcsd.judges.checks import met
from rcsd.rubrics import Criterion
from rcsd.types import Example


class CodeJudge:
    """Exact verdicts by code; a criterion without a check stays unscored."""

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
