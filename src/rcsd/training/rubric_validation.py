"""Rubrics that are written for held-out questions during a run, measured against gold."""

from collections.abc import Sequence
from pathlib import Path

from rcsd.data.load import read_rubrics
from rcsd.data.prompts import PromptPair
from rcsd.data.rubric import rubric_rows, whole_criteria
from rcsd.engines.base import Engine
from rcsd.evaluation.rubric_agreement import measure_rows
from rcsd.evaluation.rubric_matchers import build_matcher
from rcsd.graders.base import rubric_of
from rcsd.graders.code import CodeJudge
from rcsd.io import write_rows
from rcsd.training.validation import HeldOut
from rcsd.types import Completion, Decoding, Rubric


class HeldOutRubrics(HeldOut):
    """Rubrics (stage 1) for held-out questions, measured against gold.

    Matched by checks in the rubric world, by text elsewhere. A completion that is no rubric counts
    0; of one that was cut off its whole criteria count.
    """

    def __init__(
        self, name: str, prompts: Sequence[PromptPair], engine: Engine, decoding: Decoding
    ) -> None:
        super().__init__(name, prompts, engine, decoding)
        for example in self._examples:
            rubric_of(example)
        self._matcher = build_matcher(self._examples, None, None)

    def metrics(self, path: Path | None, num_steps: int) -> dict[str, float]:
        """Share that is valid; precision, recall and F1 by weight."""
        completions = self._engine.sample(self._prompts, self._decoding, seed=0)
        drawn = [whole_criteria(c.text, c.finished) for c in completions]
        rubrics = {
            example.id: rubric
            for example, rubric in zip(self._examples, drawn, strict=True)
            if rubric is not None
        }
        if path is not None:
            self._write(path, num_steps, completions, drawn)
        read = read_rubrics(self._examples, rubrics)
        found = measure_rows(self._examples, read, self._matcher, {}, CodeJudge())
        return {
            "valid_share": len(rubrics) / len(drawn),
            "precision_mean": sum(row.precision for row in found) / len(found),
            "recall_mean": sum(row.recall for row in found) / len(found),
            "f1_mean": sum(row.f1 for row in found) / len(found),
        }

    def _write(
        self,
        path: Path,
        num_steps: int,
        completions: Sequence[Completion],
        drawn: Sequence[Rubric | None],
    ) -> None:
        rows = [
            {
                "step": num_steps,
                "id": example.id,
                "text": completion.text,
                "finished": completion.finished,
                "rubric": None if rubric is None else rubric_rows(rubric),
            }
            for example, completion, rubric in zip(self._examples, completions, drawn, strict=True)
        ]
        write_rows(path, rows)
