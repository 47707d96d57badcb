"""Judge that runs the criteria's checks."""

from rcsd.errors import RubricError
from rcsd.graders.base import TextJudge, require_rubric
from rcsd.graders.checks import met
from rcsd.types import Example


class CodeJudge(TextJudge):
    """Exact verdicts by code; a criterion without a check stays unscored."""

    unscored = "the criterion has no check"

    def verdicts(self, example: Example, text: str) -> list[bool | None]:
        """One verdict for each criterion: met, not met, or None where it has no check.

        Raises:
            DataError: If the example has no rubric.
            RubricError: If a check is malformed or cannot be carried out; names the criterion.
        """
        verdicts = list[bool | None]()
        for index, criterion in enumerate(require_rubric(example).criteria):
            try:
                verdicts.append(None if criterion.check is None else met(criterion.check, text))
            except RubricError as error:
                where = f"example {example.id!r}: rubric[{index}].check"
                raise RubricError(f"{where}: {error}") from error
        return verdicts
