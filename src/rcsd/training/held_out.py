"""Held-out sets: answers graded by checks in code, rubrics measured against gold."""

from collections.abc import Sequence
from pathlib import Path

from rcsd.data.load import read_rubrics
from rcsd.data.prompts import PromptPair
from rcsd.data.rubric import parse_completion, rubric_rows
from rcsd.engines.base import Engine
from rcsd.evaluation.rubric_agreement import measure_rows
from rcsd.graders.base import require_rubric
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import sample_and_grade, write_graded
from rcsd.io import write_rows
from rcsd.types import Completion, Decoding, Rubric


class HeldOut:
    """A held-out set.

    Args:
        name: Of the set.
        prompts: The held-out examples; for rubrics all with gold ones.
        engine: Samples.
        decoding: Greedy; for rubrics with the run's grammar, if it has one.
    """

    def __init__(
        self, name: str, prompts: Sequence[PromptPair], engine: Engine, decoding: Decoding
    ) -> None:
        self.name, self._engine, self._decoding = name, engine, decoding
        self._examples = [prompt.example for prompt in prompts]
        self._prompts = [prompt.student_ids for prompt in prompts]


class HeldOutAnswers(HeldOut):
    """Answers to held-out questions, graded by checks in code."""

    def metrics(self, path: Path | None, num_steps: int) -> dict[str, float]:
        """Score, accuracy, and the share that neither checks nor references could grade."""
        rows = sample_and_grade(
            self._engine, self._examples, self._prompts, self._decoding, CodeJudge()
        )
        if path is not None:
            write_graded(rows, path, step=num_steps)
        scores = [row.score for row in rows if row.score is not None and row.score == row.score]
        rights = [row.right for row in rows if row.right is not None]
        metrics = {
            "unscored_share": 1 - len(scores) / len(rows),
            "ungraded_share": 1 - len(rights) / len(rows),
        }
        if scores:
            metrics["score_mean"] = sum(scores) / len(scores)
        if rights:
            metrics["accuracy_mean"] = sum(rights) / len(rights)
        return metrics


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
            require_rubric(example)

    def metrics(self, path: Path | None, num_steps: int) -> dict[str, float]:
        """Share that is valid; precision, recall and F1 by weight."""
        completions = self._engine.sample(self._prompts, self._decoding, seed=0)
        drawn = [parse_completion(c.text, c.finished) for c in completions]
        rubrics = {
            example.id: rubric
            for example, rubric in zip(self._examples, drawn, strict=True)
            if rubric is not None
        }
        if path is not None:
            self._write(path, num_steps, completions, drawn)
        read = read_rubrics(self._examples, rubrics)
        rows = measure_rows(self._examples, read, {})
        return {
            "valid_share": len(rubrics) / len(drawn),
            "precision_mean": sum(row.precision for row in rows) / len(rows),
            "recall_mean": sum(row.recall for row in rows) / len(rows),
            "f1_mean": sum(row.f1 for row in rows) / len(rows),
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
