"""Validation: when held-out sets are measured as the run goes on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.prompts import build_all_prompts, grammar_regex, limit_prompt_tokens
from rcsd.engines.base import Engine
from rcsd.models.policy import Policy
from rcsd.runs import RunFolder
from rcsd.types import Decoding

if TYPE_CHECKING:
    from rcsd.training.held_out import HeldOutAnswers


class Validation:
    """All held-out sets of a run, and when they are due.

    Args:
        sets: The sets; metrics of the first are called ``eval/...``, of another ``eval-NAME/...``.
        folder: Gets the samples: one file for each evaluation and set; None writes nothing.
        section: Steps or completion tokens between evaluations.
    """

    def __init__(
        self,
        sets: Sequence["HeldOutAnswers"],
        folder: RunFolder | None,
        section: config.Evaluation | None,
    ) -> None:
        self._sets, self._folder, self._section = sets, folder, section

    def metrics_if_due(
        self, num_steps: int, tokens: tuple[int, int], last: bool
    ) -> dict[str, float]:
        """Metrics after a step; empty where no evaluation is due.

        Args:
            num_steps: Number of steps done.
            tokens: Completion tokens learned from before the step, and after it.
            last: Whether the run ends with it; then an evaluation is always due.
        """
        section, metrics = self._section, {}
        if section is None:
            return metrics
        by_steps = section.every_steps and num_steps % section.every_steps == 0
        every = section.every_tokens
        by_tokens = every is not None and tokens[0] // every < tokens[1] // every
        for held_out in self._sets if last or by_steps or by_tokens else ():
            prefix = "eval" if held_out is self._sets[0] else f"eval-{held_out.name}"
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
        return Validation([], folder, None)
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
    return Validation(sets, folder, section)
