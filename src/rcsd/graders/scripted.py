"""A judge with scripted verdicts, for tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rcsd.errors import RunError
from rcsd.graders.base import Judgement, require_rubric
from rcsd.types import Example


@dataclass(frozen=True)
class ScriptedJudge:
    """Returns verdicts from a script.

    Args:
        script: For each text, one verdict for each criterion.
    """

    script: Mapping[str, Sequence[bool | None]]

    def judgements(self, answers: Sequence[tuple[Example, str]]) -> list[Judgement]:
        """The scripted verdicts on every text; errors as of `verdicts`."""
        judgements = []
        for example, text in answers:
            verdicts = self.verdicts(example, text)
            reasons = ["unscored in the script" if v is None else "" for v in verdicts]
            judgements.append(Judgement.from_verdicts(require_rubric(example), verdicts, reasons))
        return judgements

    def verdicts(self, example: Example, text: str) -> list[bool | None]:
        """The scripted verdicts on a text.

        Raises:
            DataError: If the example has no rubric.
            RunError: If the script lacks the text, or has too few or too many verdicts.
        """
        num_criteria = len(require_rubric(example).criteria)
        verdicts = self.script.get(text)
        if verdicts is None:
            raise RunError(f"the scripted judge has no verdicts on {text!r}")
        if len(verdicts) != num_criteria:
            raise RunError(
                f"the scripted judge has {len(verdicts)} verdicts on {text!r}, but example "
                f"{example.id!r} has {num_criteria} criteria"
            )
        return list(verdicts)
