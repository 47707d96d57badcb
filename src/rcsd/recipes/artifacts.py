"""What the steps of one seed make, named after all that goes into it: nothing is done twice.

Each step's product lies in one folder under a name that holds a fingerprint of model, data, words
and settings. A step whose product is there is not done again; one that was cut off goes on.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import rcsd
from rcsd import config
from rcsd.config.data import Arm
from rcsd.data.load import load_examples, pinned
from rcsd.data.placebos import PLACEBOS
from rcsd.data.views import PromptTemplates
from rcsd.errors import ConfigError, DataError
from rcsd.io import fingerprint
from rcsd.models.hub import model_digest
from rcsd.recipes import pipeline_steps
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_steps import Answering, Writer, WritingJob
from rcsd.recipes.workers import Step
from rcsd.runs import RunFolder
from rcsd.types import Example


class Products:
    """Steps, and the files and folders that they fill.

    Args:
        settings: The pipeline, or one seed of a study.
        label: Goes before the name of every step.

    Raises:
        UserError: If its data cannot be read, or held-out questions are trained on.
    """

    def __init__(self, settings: Pipeline, label: str = "") -> None:
        settings = pinned(settings)
        self.settings, self._label = settings, label
        self.sets = {name: load_examples(d)[0] for name, d in settings.evaluation.data.items()}
        self.steps: list[Step] = []
        self.answerings: list[Answering] = []
        self.folders: dict[str, RunFolder] = {}
        self.written: dict[Writer, dict[str, Path]] = {}
        self.questions: dict[Writer, Path] = {}
        self._questions = load_examples(settings.reasoner.data)[0]
        self._refuse_leaks()
        self.has_gold = all(example.rubric is not None for example in self._questions)
        self.start, self._identity = settings.model, _identity(settings.model)
        self.start_step: tuple[str, ...] = ()

    def _refuse_leaks(self) -> None:
        """What is measured on must not stand in what is learned from."""
        sources = {"reasoner.data": self._questions}
        if self.settings.writer is not None:
            sources["writer.data"] = load_examples(self.settings.writer.data)[0]
        for source, examples in sources.items():
            learned = {example.question for example in examples}
            for name, rows in self.sets.items():
                leaked = [example.id for example in rows if example.question in learned]
                if leaked:
                    raise DataError(
                        f"{len(leaked)} of its questions stand in {source} too, the first: "
                        f"{leaked[0]!r}; take them out of one of the two",
                        field=f"evaluation.data.{name}",
                    )

    @property
    def new_kinds(self) -> frozenset[str]:
        """Sets whose templates no training question has; see `Found`."""
        known = {example.tags.get("template") for example in self._questions}
        kinds = {
            name: {row.tags.get("template") for row in rows} for name, rows in self.sets.items()
        }
        return frozenset(n for n, found in kinds.items() if None not in found and not found & known)

    def add(self, name: str, needs: tuple[str, ...], call: Any, *arguments: Any) -> None:
        """Add a step, once."""
        name, needs = self._label + name, tuple(self._label + other for other in needs)
        if name not in {step.name for step in self.steps}:
            self.steps.append(Step(name, needs, call, (name, *arguments)))

    def folder(self, name: str, *parts: object) -> Path:
        """Folder of a product, named after what goes into it."""
        always = (rcsd.__version__, self._identity, self.settings.seed)
        return self.settings.out / f"{name}-{_digest(*always, *parts)}"

    def run_of(
        self, name: str, stage: config.Stage, rows: str | None = None, **changes: Any
    ) -> config.Config:
        """The configuration of one run, in a folder that is named after all that goes into it.

        Args:
            name: Of the run.
            stage: What it does.
            rows: What its data will be known by, where they are not there yet.
            changes: Of the stage.
        """
        given = {**dict(pinned(stage)), **changes, "model": self.start, "seed": self.settings.seed}
        settings = config.Config(**given, out=Path(name))
        rows = rows or fingerprint(load_examples(settings.data)[0])
        everything = [rows, settings.model_dump(mode="json", exclude={"data", "model", "out"})]
        everything += [PromptTemplates(settings.views.templates).hashes()]
        if settings.evaluation is not None:
            held_out = settings.evaluation.by_name.values()
            everything += [fingerprint(load_examples(data)[0]) for data in held_out]
        return settings.model_copy(update={"out": self.folder(name, *everything)})

    def writer(self, writer: Writer) -> None:
        """Stage 1, and its rubrics for the reasoner's questions and the held-out sets."""
        model, needs, identity = self.start, self.start_step, writer
        if writer == "learned":
            if self.settings.writer is None:
                raise ConfigError("arms: without gold rubrics the placebo needs a writer")
            settings = self.run_of("writer", self.settings.writer)
            self.folders["writer"] = RunFolder(settings.out)
            self.add("train writer", needs, pipeline_steps.train, settings)
            model = config.Model(path=str(settings.out))
            needs, identity = ("train writer",), settings.out.name
        writing = self.settings.writing
        given = [
            identity,
            writing.model_dump(mode="json"),
            PromptTemplates(writing.templates).hashes(),
        ]
        self.questions[writer] = self._written(writer, "questions", self._questions, given)
        self.written[writer] = {
            name: self._written(writer, name, rows, given) for name, rows in self.sets.items()
        }
        files = {"questions": (self.settings.reasoner.data, self.questions[writer])}
        for name, data in self.settings.evaluation.data.items():
            files[f"held-out {name}"] = (data, self.written[writer][name])
        self.add(
            f"write {writer} rubrics",
            needs,
            pipeline_steps.write,
            WritingJob(
                model,
                writing,
                self.settings.reasoner.engine,
                files,
                self.settings.out / "written",
            ),
        )

    def _written(
        self, writer: Writer, name: str, rows: Sequence[Example], given: Sequence[object]
    ) -> Path:
        """File of the rubrics for one set."""
        folder = self.folder(f"rubrics-{writer}-{name}", *given, fingerprint(rows))
        return folder / "rows.jsonl"

    def words_of(self, views: config.Views) -> list[object]:
        """Views, with their words and their room."""
        room = self.settings.reasoner.sampling.max_prompt_tokens
        return [views.model_dump(mode="json"), PromptTemplates(views.templates).hashes(), room]

    def source(self, rubrics: Arm) -> Literal["gold", "learned", "direct"]:
        """Where an arm's rubrics come from, a placebo's before they are changed."""
        if rubrics in ("gold", "learned", "direct"):
            return rubrics
        return "gold" if self.has_gold else "learned"

    def train(self, name: str, stage: config.Stage, rubrics: Arm) -> config.Config:
        """Add the step that trains a reasoner with these rubrics; returns its run."""
        changes: dict[str, Any] = {}
        needs, rows = self.start_step, fingerprint(self._questions)
        source = self.source(rubrics)
        if source != "gold":
            path = self.questions[source]
            changes["data"], rows = config.JsonlData(path=path), path.parent.name
            needs = (f"write {source} rubrics",)
        if rubrics in PLACEBOS:
            changes["rubrics"] = config.Rubrics(placebo=PLACEBOS[rubrics](self.settings.seed))
        settings = self.run_of(f"reasoner-{plain(name)}", stage, rows, **changes)
        self.folders[name] = RunFolder(settings.out)
        self.add(f"train {name}", needs, pipeline_steps.train, settings)
        return settings

    def answer(
        self,
        arm: str,
        model: config.Model,
        views: config.Views,
        needs: tuple[str, ...],
        identity: str = "",
        writer: Writer | None = None,
        placebo: config.Placebo | None = None,
    ) -> None:
        """Add the step in which a model answers the held-out sets.

        Args:
            arm: Name of what is evaluated.
            model: Its ``path`` is a run's folder or a model.
            views: What it is shown, as the teacher.
            needs: Steps before.
            identity: What the model is known by, where its weights are not there yet.
            writer: Whose rubrics it is shown; None: the rows' own.
            placebo: What becomes of the rows' own before they are shown; None: nothing.
        """
        rubrics = {} if writer is None else {name: self.written[writer][name] for name in self.sets}
        placebo = placebo or config.NoPlacebo()
        evaluation = self.settings.evaluation
        parts = [identity, arm, placebo.model_dump(mode="json"), evaluation.max_tokens]
        parts += self.words_of(views)
        parts += [path.parent.name for path in rubrics.values()]
        parts += [fingerprint(rows) for rows in self.sets.values()]
        folder = self.folder(f"answers-{plain(arm)}", *parts)
        answering = Answering(arm, model, views, folder, rubrics, placebo)
        self.answerings.append(answering)
        self.add(f"evaluate {arm}", needs, pipeline_steps.answer, answering, self.settings)


def plain(name: str) -> str:
    """A name as files have it."""
    return name.replace(",", "").replace("'", "").replace(" ", "-")


def _identity(model: config.Model) -> str:
    """What a model is known by: its files, and how they are loaded and trained."""
    template = model.chat_template
    words = None if template is None else template.read_text(encoding="utf-8")
    section = model.model_dump(mode="json", exclude={"path", "chat_template"})
    return _digest(model_digest(model.path), section, words)


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
