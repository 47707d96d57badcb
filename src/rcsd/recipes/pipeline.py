"""Two stages in one: train a rubric writer, write rubrics, train reasoners with them, evaluate."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rcsd import config
from rcsd.errors import ConfigError
from rcsd.graders.grade import Graded, read_graded
from rcsd.io import fingerprint
from rcsd.recipes import pipeline_steps
from rcsd.recipes.artifacts import Products
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_steps import Writer, nothing_shown
from rcsd.recipes.workers import run_steps
from rcsd.runs import RunFolder
from rcsd.types import Example, Progress


@dataclass(frozen=True)
class Found:
    """What a pipeline has made.

    Args:
        rows: Graded completions of each arm and set.
        folders: Runs, by what they trained.
        written: Files of the rubrics that were written for the held-out sets, by writer and set.
        questions: Files of the rubrics that were written for the reasoner's questions, by writer.
        samples: Files of sampled completions, by set; empty where no rubrics were written.
        held_out: Examples of each set.
        new_kinds: Sets none of whose ``tags["template"]`` stands in the reasoner's questions.
    """

    rows: Mapping[str, Mapping[str, list[Graded]]]
    folders: Mapping[str, RunFolder]
    written: Mapping[Writer, Mapping[str, Path]]
    questions: Mapping[Writer, Path]
    samples: Mapping[str, Path]
    held_out: Mapping[str, list[Example]]
    new_kinds: frozenset[str]


def run(settings: Pipeline, progress: Progress) -> Found:
    """Run what has not been done yet; returns all of it.

    Raises:
        UserError: If something is wrong that the user can mend; finished steps stay.
    """
    plan = Plan(settings)
    settings.out.mkdir(parents=True, exist_ok=True)
    run_steps(plan.steps, settings.jobs, progress)
    rows = {
        answering.arm: {name: read_graded(answering.folder / f"{name}.jsonl") for name in plan.sets}
        for answering in plan.answerings
    }
    return Found(
        rows,
        plan.folders,
        plan.written,
        plan.questions,
        plan.samples,
        plan.sets,
        plan.new_kinds,
    )


class Plan(Products):
    """The steps of a pipeline and where their products lie.

    Args:
        settings: The pipeline.

    Raises:
        UserError: If its data cannot be read, or an arm needs what there is not.
    """

    def __init__(self, settings: Pipeline) -> None:
        super().__init__(settings)
        self.samples: dict[str, Path] = {}
        self._taught = settings.reasoner.views
        self._untaught = nothing_shown(self._taught)
        if "gold" in settings.arms and not self.has_gold:
            raise ConfigError("arms: gold needs a rubric in every row of reasoner.data")
        if settings.warm_start is not None:
            self.answer("base, before the warm start", settings.model, self._untaught, ())
            self.answer("teacher, before the warm start", settings.model, self._taught, ())
            self._warm_start(settings.warm_start)
        self._probe()
        for arm in settings.arms:
            trained = self.train(arm, settings.reasoner, arm).out
            model = config.Model(path=str(trained))
            self.answer(arm, model, self._untaught, (f"train {arm}",), trained.name)

    def _warm_start(self, stage: config.Stage) -> None:
        settings = self.run_of("warm-start", stage)
        self.folders["warm start"] = RunFolder(settings.out)
        plain = RunFolder(settings.out).model
        if settings.model.training.type == "lora":
            plain = settings.out / "merged"
            self.add("warm start", (), pipeline_steps.train_and_merge, settings, plain)
        else:
            self.add("warm start", (), pipeline_steps.train, settings)
        self.start = self.start.model_copy(update={"path": str(plain), "revision": None})
        self.start_step = ("warm start",)
        self._identity = settings.out.name

    def _probe(self) -> None:
        """What the model does before stage 2: without a rubric, with its own, with another's."""
        model, needs = self.start, self.start_step
        self.answer("base", model, self._untaught, needs)
        if all(example.rubric is not None for rows in self.sets.values() for example in rows):
            self.answer("teacher", model, self._taught, needs)
            another = config.ShuffledRubrics()
            self.answer("teacher, shuffled rubric", model, self._taught, needs, placebo=another)
        if any(self.source(arm) != "gold" for arm in self.settings.arms):
            held_out = [fingerprint(rows) for rows in self.sets.values()]
            given = self.settings.evaluation.model_dump(mode="json", exclude={"data"})
            folder = self.folder("samples", given, held_out, self.words_of(self._taught))
            self.samples = {name: folder / f"{name}.jsonl" for name in self.sets}
            self.add("sample answers", needs, pipeline_steps.sample, model, folder, self.settings)
        writers: tuple[Writer, ...] = ("direct", "learned")
        for writer in writers:
            if writer in map(self.source, self.settings.arms):
                self.writer(writer)
                needs = (f"write {writer} rubrics",)
                self.answer(f"teacher, {writer} rubric", model, self._taught, needs, writer=writer)
