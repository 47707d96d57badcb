"""The held-out set of a run: answered, or given rubrics, as the run goes on."""

from collections.abc import Sequence
from pathlib import Path

from rcsd import config
from rcsd.data.load import load_examples, read_rubrics
from rcsd.data.prompts import PromptPair, build_all_prompts, grammar_regex, limit_prompt_tokens
from rcsd.data.rubric import parse_completion, rubric_rows
from rcsd.engines.base import Engine
from rcsd.evaluation.rubric_agreement import measure_rows
from rcsd.evaluation.rubric_matchers import build_matcher
from rcsd.graders.base import require_rubric
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import sample_and_grade, write_graded
from rcsd.io import write_rows
from rcsd.models.policy import Policy
from rcsd.runs import RunFolder
from rcsd.types import Completion, Decoding, Rubric


class HeldOut:
    """What is sampled for questions that are not learned from, as the run goes on.

    Args:
        name: Of the set.
        prompts: The held-out examples; for rubrics all with gold ones.
        engine: Samples.
        decoding: Greedy; for rubrics held to the run's grammar where it has one.
    """

    def __init__(
        self, name: str, prompts: Sequence[PromptPair], engine: Engine, decoding: Decoding
    ) -> None:
        self.name, self._engine, self._decoding = name, engine, decoding
        self._examples = [prompt.example for prompt in prompts]
        self._shown = [prompt.student_ids for prompt in prompts]


class HeldOutAnswers(HeldOut):
    """Answers to questions that are not learned from, graded by checks in code."""

    def metrics(self, path: Path | None, num_steps: int) -> dict[str, float]:
        """Score, accuracy, and the share that neither checks nor references could grade."""
        rows = sample_and_grade(
            self._engine, self._examples, self._shown, self._decoding, CodeJudge()
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
    """Rubrics (stage 1) for such questions, measured against gold.

    Matched by checks in the rubric world, by text elsewhere. A completion that is no rubric counts
    0; of one that was cut off its whole criteria count.
    """

    def __init__(
        self, name: str, prompts: Sequence[PromptPair], engine: Engine, decoding: Decoding
    ) -> None:
        super().__init__(name, prompts, engine, decoding)
        for example in self._examples:
            require_rubric(example)
        self._matcher = build_matcher(self._examples, None, None)

    def metrics(self, path: Path | None, num_steps: int) -> dict[str, float]:
        """Share that is valid; precision, recall and F1 by weight."""
        completions = self._engine.sample(self._shown, self._decoding, seed=0)
        drawn = [parse_completion(c.text, c.finished) for c in completions]
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


class Validation:
    """All held-out sets of a run, and when they are due.

    Args:
        sets: The sets; metrics of the first are called ``eval/...``, of another ``eval-NAME/...``.
        folder: Gets what was sampled: one file for each evaluation and set; None keeps nothing.
        every_steps: Steps between evaluations, or None.
        every_tokens: Completion tokens between evaluations, or None.
    """

    def __init__(
        self,
        sets: Sequence[HeldOutAnswers | HeldOutRubrics],
        folder: RunFolder | None,
        every_steps: int | None,
        every_tokens: int | None,
    ) -> None:
        self._sets, self._folder = sets, folder
        self._every_steps, self._every_tokens = every_steps, every_tokens

    def metrics_if_due(
        self, num_steps: int, tokens: tuple[int, int], last: bool
    ) -> dict[str, float]:
        """Metrics after a step; empty where no evaluation is due.

        Args:
            num_steps: Steps done.
            tokens: Completion tokens learned from before the step, and after it.
            last: Whether the run ends with it; then it is always due.
        """
        due = last
        if self._every_steps is not None:
            due |= num_steps % self._every_steps == 0
        if self._every_tokens is not None:
            due |= tokens[0] // self._every_tokens < tokens[1] // self._every_tokens
        if not due:
            return {}
        metrics = {}
        for index, held_out in enumerate(self._sets):
            folder, part = self._folder, "eval" if index == 0 else f"eval-{held_out.name}"
            path = None if folder is None else folder.evaluation(num_steps, held_out.name)
            for name, value in held_out.metrics(path, num_steps).items():
                metrics[f"{part}/{name}"] = value
        return metrics


def build_validation(
    settings: config.Config, policy: Policy, engine: Engine, folder: RunFolder | None
) -> Validation:
    """What a run measures on held-out examples, and when.

    Args:
        settings: The run.
        policy: What is measured.
        engine: Answers.
        folder: As `Validation`.

    Raises:
        DataError: If a prompt does not fit, or an example lacks what is measured against.
    """
    section = settings.evaluation
    if section is None:
        return Validation([], folder, None, None)
    seen = {"student": settings.learned_view, "teacher": settings.learned_view}
    views = settings.views.model_copy(update={**seen, "analysis": False})
    room = limit_prompt_tokens(
        policy.max_positions, settings.sampling.max_prompt_tokens, section.max_tokens
    )
    decoding = Decoding(section.max_tokens, regex=grammar_regex(settings.sampling.grammar))
    kind = HeldOutRubrics if settings.views.writes == "rubric" else HeldOutAnswers
    sets = []
    for name, data in section.by_name.items():
        field = "evaluation.data" if section.data else f"evaluation.sets.{name}"
        prompts = build_all_prompts(load_examples(data)[0], views, policy.tokenizer, room, field)
        sets.append(kind(name, prompts, engine, decoding))
    return Validation(sets, folder, section.every_steps, section.every_tokens)
