"""A judge with scripted verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rcsd.graders.base import require_rubric
from rcsd.graders.code import CodeJudge
from rcsd.types import Example


@dataclass(frozen=True)
class ScriptedJudge(CodeJudge):
    """Verdicts from a script: for each text, one for each criterion."""

    script: Mapping[str, Sequence[bool | None]]

    def verdicts(self, example: Example, text: str) -> list[bool | None]:
        """The scripted verdicts on a text."""
        verdicts = list(self.script[text])
        assert len(verdicts) == len(require_rubric(example).criteria)
        return verdicts
