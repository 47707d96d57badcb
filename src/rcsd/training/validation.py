"""Validation: when held-out sets are measured as the run goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.prompts import build_all_prompts, grammar_regex, limit_prompt_tokens
from rcsd.engines.base import Engine
from rcsd.models.policy import Policy
from rcsd.runs import RunFolder
from rcsd.types import Decoding


@runtime_checkable
class HeldOutSet(Protocol):
    """A set that is sampled and measured (`rcsd.training.held_out`)."""

    name: str

    def metrics(self, path: Path | None, num_steps: int) -> dict[str, float]:
        """Sample and measure; samples are written to the file, if there is one."""
        ...


class Validation:
    """All held-out sets of a run, and when they are due.

    Args:
        sets: The sets; metrics of the first are called ``eval/...``, of another ``eval-NAME/...``.
        folder: Gets the samples: one file for each evaluation and set; None writes nothing.
        every_steps: Steps between evaluations, or None.
        every_tokens: Completion tokens between evaluations, or None.
    """

    def __init__(
        self,
        sets: Sequence[HeldOutSet],
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
            num_steps: Number of steps done.
            tokens: Completion tokens learned from before the step, and after it.
            last: Whether the run ends with it; then an evaluation is always due.
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
            prefix = "eval" if index == 0 else f"eval-{held_out.name}"
            folder = self._folder
            path = None if folder is None else folder.evaluation(num_steps, held_out.name)
            for name, value in held_out.metrics(path, num_steps).items():
                metrics[f"{prefix}/{name}"] = value
        return metrics


def build_validation(
    settings: config.Config, policy: Policy, engine: Engine, folder: RunFolder | None
) -> Validation:
    """The validation that the configuration asks for.

    Args:
        settings: The run.
        policy: The model.
        engine: Samples.
        folder: As `Validation`.

    Raises:
        DataError: If a prompt does not fit, or an example lacks a reference to measure against.
    """
    section = settings.evaluation
    if section is None:
        return Validation([], folder, None, None)
    view = {"student": settings.learned_view, "teacher": settings.learned_view}
    views = settings.views.model_copy(update={**view, "analysis": False})
    max_prompt_tokens = limit_prompt_tokens(
        policy.max_positions, settings.sampling.max_prompt_tokens, section.max_tokens
    )
    decoding = Decoding(section.max_tokens, regex=grammar_regex(settings.sampling.grammar))
    # Only here: a run without validation imports no grader.
    from rcsd.training.held_out import HeldOutAnswers, HeldOutRubrics  # noqa: PLC0415

    kind = HeldOutRubrics if settings.views.writes == "rubric" else HeldOutAnswers
    sets = []
    for name, data in section.by_name.items():
        field = "evaluation.data" if section.data else f"evaluation.sets.{name}"
        examples, _ = load_examples(data)
        prompts = build_all_prompts(examples, views, policy.tokenizer, max_prompt_tokens, field)
        sets.append(kind(name, prompts, engine, decoding))
    return Validation(sets, folder, section.every_steps, section.every_tokens)
