"""Judge that runs the criteria's checks."""

from collections.abc import Sequence

from rcsd.errors import RubricError
from rcsd.graders.base import Judge, Judgement, require_rubric
from rcsd.graders.checks import met
from rcsd.types import Example


class CodeJudge(Judge):
    """Exact verdicts by code; a criterion without a check stays unscored."""

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

    def judgements(self, answers: Sequence[tuple[Example, str]]) -> list[Judgement]:
        """Verdicts and scores of every text; raises as `verdicts`."""
        judgements = []
        for example, text in answers:
            verdicts = self.verdicts(example, text)
            reasons = ["the criterion has no check" if v is None else "" for v in verdicts]
            judgements.append(Judgement.from_verdicts(require_rubric(example), verdicts, reasons))
        return judgements
