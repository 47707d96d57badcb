"""Validation: held-out sets, and when they are measured as the run goes on."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rcsd import config
from rcsd.data.load import load_examples, read_rubrics
from rcsd.data.prompts import PromptPair, build_all_prompts, grammar_regex, limit_prompt_tokens
from rcsd.data.rubric import parse_completion, rubric_rows
from rcsd.distributed import Ranks
from rcsd.engines.base import Engine
from rcsd.errors import DataError, RunError, UserError
from rcsd.evaluation.bounds import UNGRADED_AS_WRONG, accuracies, graded_values
from rcsd.evaluation.rubric_agreement import measure_rows
from rcsd.graders.base import Judge, Judgement, build_judge, require_rubric
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import sample_and_grade, write_graded
from rcsd.io import write_rows
from rcsd.models.policy import Policy
from rcsd.runs import RunFolder
from rcsd.types import Decoding, Example

MAX_SILENT = 3
"""Evaluations in a row without any verdict of a judge after which a run ends."""
_FAILED = "failed"


@dataclass(frozen=True)
class HeldOutAnswers:
    """Answers to held-out questions, graded by a judge and by their references."""

    name: str
    pairs: Sequence[PromptPair]
    engine: Engine
    decoding: Decoding
    judge: Judge = field(default_factory=CodeJudge)

    def metrics(self, path: Path | None, num_steps: int) -> dict[str, float]:
        """Score, accuracy, and the share that neither judge nor references could grade."""
        examples = [pair.example for pair in self.pairs]
        prompts = [pair.student_ids for pair in self.pairs]
        rows = sample_and_grade(self.engine, examples, prompts, self.decoding, self.judge)
        if path is not None:
            write_graded(rows, path, step=num_steps)
        # After a judge's budget the first answers alone are scored: no mean to compare with others.
        is_spent = any("budget" in row.unscored for row in rows)
        metrics = {}
        for name, missing in (("score", "unscored_share"), ("accuracy", "ungraded_share")):
            values = graded_values(rows, name).values()
            metrics[missing] = 1 - len(values) / len(rows)
            if values and not (is_spent and name == "score"):
                metrics[f"{name}_mean"] = sum(values) / len(values)
        by_rule = accuracies({"": [rows]}, "accuracy", examples)
        if UNGRADED_AS_WRONG in by_rule:
            values = graded_values(by_rule[UNGRADED_AS_WRONG][""][0], "accuracy").values()
            metrics["accuracy_ungraded_as_wrong_mean"] = sum(values) / len(values)
        return metrics


class HeldOutRubrics(HeldOutAnswers):
    """Rubrics (stage 1) for held-out questions, measured against gold.

    Matched by checks in the rubric world, by text elsewhere. A completion that is no rubric counts
    0; of one that was cut off its whole criteria count. Decoding has the run's grammar.
    """

    def __post_init__(self) -> None:
        """Refuse an example without a gold rubric."""
        for pair in self.pairs:
            require_rubric(pair.example)

    def metrics(self, path: Path | None, num_steps: int) -> dict[str, float]:
        """Share that is valid; precision, recall and F1 by weight."""
        examples = [pair.example for pair in self.pairs]
        prompts = [pair.student_ids for pair in self.pairs]
        completions = self.engine.sample(prompts, self.decoding, seed=0)
        drawn = [parse_completion(c.text, c.finished) for c in completions]
        by_id = {e.id: r for e, r in zip(examples, drawn, strict=True) if r is not None}
        if path is not None:
            columns = zip(examples, completions, drawn, strict=True)
            rows = [
                {
                    "step": num_steps,
                    "id": example.id,
                    "text": completion.text,
                    "finished": completion.finished,
                    "rubric": None if rubric is None else rubric_rows(rubric),
                }
                for example, completion, rubric in columns
            ]
            write_rows(path, rows)
        measured = measure_rows(examples, read_rubrics(examples, by_id), {})
        means = {
            f"{name}_mean": sum(getattr(row, name) for row in measured) / len(measured)
            for name in ("precision", "recall", "f1")
        }
        return {"valid_share": len(by_id) / len(drawn)} | means


class HeldOutJudge(Judge):
    """Judge of a run's held-out answers, asked on the main rank alone.

    Where it fails, answers are unscored, and the run goes on until `MAX_SILENT` evaluations in a
    row are without a verdict. A request to end is acted on while it is asked.
    """

    def __init__(self, judge: Judge, ranks: Ranks) -> None:
        self._judge, self._ranks = judge, ranks
        self._missing: list[str] = []  # reasons in this evaluation, empty where there is a verdict
        self._num_silent = 0

    def judgements(self, answers: Sequence[tuple[Example, str]]) -> list[Judgement]:
        """One for each example and text, in order, the same on all ranks."""
        judged = self._ranks.on_main(lambda: self._judgements(answers))
        for (example, _), judgement in zip(answers, judged, strict=True):
            self._missing += _reasons_of_judge(example, judgement)
        return judged

    def _judgements(self, answers: Sequence[tuple[Example, str]]) -> list[Judgement]:
        try:
            with self._ranks.interrupts.interruptible():
                return self._judge.judgements(answers)
        except UserError as error:
            reason = f"{_FAILED}: {error}"
        rubrics = [require_rubric(example) for example, _ in answers]
        return [
            Judgement.from_verdicts(
                rubric, [None] * len(rubric.criteria), [reason] * len(rubric.criteria)
            )
            for rubric in rubrics
        ]

    def end_evaluation(self) -> dict[str, float]:
        """Metrics of the judge since the run began, after all sets of an evaluation.

        Raises RunError after `MAX_SILENT` evaluations in a row without a verdict.
        """
        reasons, self._missing = self._missing, []
        is_silent = bool(reasons) and all(reasons)
        self._num_silent = self._num_silent + 1 if is_silent else 0
        failed = [reason for reason in reasons if reason.startswith(_FAILED)]
        message = (
            f"the judge failed on {len(failed)} of {len(reasons)} criteria of held-out answers"
        )
        if is_silent:
            [(reason, _)] = Counter(reasons).most_common(1)
            message = f"no held-out answer has a verdict of the judge; most often: {reason}"
        if self._num_silent == MAX_SILENT:
            raise RunError(
                f"{message}. That is {MAX_SILENT} evaluations in a row: mend evaluation.judge (or "
                "raise its max_calls), or leave it out, and resume"
            )
        if (failed or is_silent) and self._ranks.is_main:
            warnings.warn(message, stacklevel=2)
        return self._judge.metrics()


def _reasons_of_judge(example: Example, judgement: Judgement) -> Sequence[str]:
    """Reasons of criteria without a check: checks give verdicts while the judge is away."""
    if not judgement.verdicts:
        return judgement.reasons
    pairs = zip(require_rubric(example).criteria, judgement.reasons, strict=False)
    left = [reason for criterion, reason in pairs if criterion.check is None]
    return left or judgement.reasons


@dataclass(frozen=True)
class Validation:
    """All held-out sets of a run, and when they are due.

    Args:
        sets: The sets; metrics of the first are called ``eval/...``, of another ``eval-NAME/...``.
        section: Steps or completion tokens between evaluations.
        folder: Gets the samples: one file for each evaluation and set; None writes nothing.
        judge: A model's; None: answers are graded in code.
    """

    sets: Sequence[HeldOutAnswers]
    section: config.Evaluation
    folder: RunFolder | None
    judge: HeldOutJudge | None

    def metrics_if_due(
        self, num_steps: int, tokens: tuple[int, int], last: bool
    ) -> dict[str, float]:
        """Metrics after a step; empty where no evaluation is due.

        ``tokens`` are the completion tokens learned from before the step, and after it. After the
        last step an evaluation is always due.
        """
        every_steps, every_tokens = self.section.every_steps, self.section.every_tokens
        by_steps = every_steps is not None and num_steps % every_steps == 0
        by_tokens = every_tokens is not None and (
            tokens[0] // every_tokens < tokens[1] // every_tokens
        )
        metrics: dict[str, float] = {}
        for held_out in self.sets if last or by_steps or by_tokens else ():
            prefix = "eval" if held_out is self.sets[0] else f"eval-{held_out.name}"
            path = self.folder and self.folder.evaluation(num_steps, held_out.name)
            measured = held_out.metrics(path, num_steps)
            metrics |= {f"{prefix}/{name}": value for name, value in measured.items()}
        if metrics and self.judge is not None:
            metrics |= {f"eval/{n}": value for n, value in self.judge.end_evaluation().items()}
        return metrics


def build_validation(
    settings: config.Config,
    section: config.Evaluation,
    policy: Policy,
    engine: Engine,
    folder: RunFolder,
    ranks: Ranks,
) -> Validation:
    """The validation that the configuration asks for; the main rank writes and asks the judge.

    Raises DataError if a prompt does not fit, or an example lacks what it is measured against.
    """
    view = settings.learned_view
    views = settings.views.model_copy(update={"student": view}).untaught(view)
    max_prompt_tokens = limit_prompt_tokens(
        policy.max_positions, settings.sampling.max_prompt_tokens, section.max_tokens
    )
    decoding = Decoding(section.max_tokens, regex=grammar_regex(settings.sampling.grammar))
    kind = HeldOutRubrics if settings.views.writes == "rubric" else HeldOutAnswers
    judge = None
    if section.judge.type != "code":
        judge = HeldOutJudge(build_judge(section.judge) if ranks.is_main else CodeJudge(), ranks)
    sets = []
    for name, data in section.by_name.items():
        field = "evaluation.data" if section.data else f"evaluation.sets.{name}"
        examples, _ = load_examples(data)
        prompts = build_all_prompts(examples, views, policy.tokenizer, max_prompt_tokens, field)
        sets.append(kind(name, prompts, engine, decoding, judge or CodeJudge()))
    if judge and not any(pair.example.rubric for of in sets for pair in of.pairs):
        raise DataError("evaluation.judge: no held-out example has a rubric; leave the judge out")
    return Validation(sets, section, folder if ranks.is_main else None, judge)
