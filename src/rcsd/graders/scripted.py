"""A judge with scripted verdicts, for tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rcsd.errors import RunError
from rcsd.graders.base import TextJudge, require_rubric
from rcsd.types import Example


@dataclass(frozen=True)
class ScriptedJudge(TextJudge):
    """Verdicts from a script: for each text, one for each criterion."""

    script: Mapping[str, Sequence[bool | None]]
    unscored = "unscored in the script"

    def verdicts(self, example: Example, text: str) -> list[bool | None]:
        """The scripted verdicts on a text.

        Raises:
            DataError: If the example has no rubric.
            RunError: If the script lacks the text, or has too few or too many verdicts.
        """
        num_criteria, verdicts = len(require_rubric(example).criteria), self.script.get(text)
        if verdicts is None or len(verdicts) != num_criteria:
            raise RunError(
                f"the scripted judge has {len(verdicts or ())} verdicts on {text!r}, but example "
                f"{example.id!r} has {num_criteria} criteria"
            )
        return list(verdicts)
