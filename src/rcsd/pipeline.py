"""Two stages in one: train a rubric writer, write rubrics, train reasoners with them, evaluate.

Each step's product lies in the pipeline's folder under a name that holds a fingerprint of all that
went into it. A step whose product is there is not done again; one that was cut off goes on.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import rcsd
from rcsd import config, steps
from rcsd.data.load import load_examples
from rcsd.data.placebos import PLACEBOS
from rcsd.errors import ConfigError, DataError
from rcsd.evaluate import Graded, read_graded
from rcsd.runs import RunFolder, fingerprint
from rcsd.steps import Answering, Shown, Writer, WritingJob
from rcsd.types import Example
from rcsd.views import Words
from rcsd.workers import Progress, Step, run_steps
from rcsd.zoo import model_digest


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


def run(settings: config.Pipeline, progress: Progress) -> Found:
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


class Plan:
    """The steps of a pipeline and where their products lie.

    Args:
        settings: The pipeline.

    Raises:
        UserError: If its data cannot be read, or an arm needs what there is not.
    """

    def __init__(self, settings: config.Pipeline) -> None:
        self.settings = settings
        self.sets = {name: load_examples(d)[0] for name, d in settings.evaluation.data.items()}
        self.steps: list[Step] = []
        self.answerings: list[Answering] = []
        self.folders: dict[str, RunFolder] = {}
        self.written: dict[Writer, dict[str, Path]] = {}
        self.questions: dict[Writer, Path] = {}
        self.samples: dict[str, Path] = {}
        self._questions = load_examples(settings.reasoner.data)[0]
        self._refuse_leaks()
        self._has_gold = all(example.rubric is not None for example in self._questions)
        if "gold" in settings.arms and not self._has_gold:
            raise ConfigError("arms: gold needs a rubric in every row of reasoner.data")
        self._start, self._identity = settings.model, _identity(settings.model)
        self._start_step: tuple[str, ...] = ()
        if settings.warm_start is not None:
            self._answer("base, before the warm start", settings.model, "nothing", ())
            self._answer("teacher, before the warm start", settings.model, "gold", ())
            self._warm_start(settings.warm_start)
        self._probe()
        for arm in settings.arms:
            self._arm(arm)

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

    def _add(self, name: str, needs: tuple[str, ...], call: Any, *arguments: Any) -> None:
        if name not in {step.name for step in self.steps}:
            self.steps.append(Step(name, needs, call, (name, *arguments)))

    def _folder(self, name: str, *parts: object) -> Path:
        always = (rcsd.__version__, self._identity, self.settings.seed)
        return self.settings.out / f"{name}-{_digest(*always, *parts)}"

    def _run(
        self, name: str, stage: config.Stage, rows: str | None = None, **changes: Any
    ) -> config.Config:
        """The configuration of one run, in a folder that is named after all that goes into it.

        Args:
            name: Of the run.
            stage: What it does.
            rows: What its data will be known by, where they are not there yet.
            changes: Of the stage.
        """
        given = {**dict(stage), **changes, "model": self._start, "seed": self.settings.seed}
        settings = config.Config(**given, out=Path(name))
        rows = rows or fingerprint(load_examples(settings.data)[0])
        everything = [rows, settings.model_dump(mode="json", exclude={"data", "model", "out"})]
        everything += [Words(settings.views.templates).hashes()]
        if settings.evaluation is not None:
            everything += [fingerprint(load_examples(settings.evaluation.data)[0])]
        return settings.model_copy(update={"out": self._folder(name, *everything)})

    def _warm_start(self, stage: config.Stage) -> None:
        settings = self._run("warm-start", stage)
        self.folders["warm start"] = RunFolder(settings.out)
        plain = RunFolder(settings.out).model
        if settings.model.training.type == "lora":
            plain = settings.out / "merged"
            self._add("warm start", (), steps.train_and_merge, settings, plain)
        else:
            self._add("warm start", (), steps.train, settings)
        self._start = self._start.model_copy(update={"path": str(plain), "revision": None})
        self._start_step = ("warm start",)
        self._identity = settings.out.name

    def _probe(self) -> None:
        """What the model does before stage 2: without a rubric, with its own, with another's."""
        path = self._start
        self._answer("base", path, "nothing", self._start_step)
        if all(example.rubric is not None for rows in self.sets.values() for example in rows):
            self._answer("teacher", path, "gold", self._start_step)
            self._answer("teacher, shuffled rubric", path, "another's", self._start_step)
        if any(self._source(arm) != "gold" for arm in self.settings.arms):
            held_out = [fingerprint(rows) for rows in self.sets.values()]
            given = self.settings.evaluation.model_dump(mode="json", exclude={"data"})
            folder = self._folder("samples", given, held_out, self._views())
            self.samples = {name: folder / f"{name}.jsonl" for name in self.sets}
            needs = self._start_step
            self._add("sample answers", needs, steps.sample, path, folder, self.settings)
        writers: tuple[Writer, ...] = ("direct", "learned")
        for writer in writers:
            if writer in map(self._source, self.settings.arms):
                self._writer(writer)
                needs = (f"write {writer} rubrics",)
                self._answer(f"teacher, {writer} rubric", path, writer, needs)

    def _writer(self, writer: Writer) -> None:
        """Stage 1, and its rubrics for the reasoner's questions and the held-out sets."""
        model, needs, identity = self._start, self._start_step, writer
        if writer == "learned":
            if self.settings.writer is None:
                raise ConfigError("arms: without gold rubrics the placebo needs a writer")
            settings = self._run("writer", self.settings.writer)
            self.folders["writer"] = RunFolder(settings.out)
            self._add("train writer", needs, steps.train, settings)
            model = config.Model(path=str(settings.out))
            needs, identity = ("train writer",), settings.out.name
        writing = self.settings.writing
        given = [identity, writing.model_dump(mode="json"), Words(writing.templates).hashes()]
        self.questions[writer] = self._written(writer, "questions", self._questions, given)
        self.written[writer] = {
            name: self._written(writer, name, rows, given) for name, rows in self.sets.items()
        }
        files = {"questions": (self.settings.reasoner.data, self.questions[writer])}
        for name, data in self.settings.evaluation.data.items():
            files[f"held-out {name}"] = (data, self.written[writer][name])
        self._add(
            f"write {writer} rubrics",
            needs,
            steps.write,
            WritingJob(
                model,
                writing,
                self.settings.reasoner.engine.batch_size,
                files,
                self.settings.out / "written",
            ),
        )

    def _written(
        self, writer: Writer, name: str, rows: Sequence[Example], given: Sequence[object]
    ) -> Path:
        """File of the rubrics for one set."""
        folder = self._folder(f"rubrics-{writer}-{name}", *given, fingerprint(rows))
        return folder / "rows.jsonl"

    def _views(self) -> list[object]:
        """The reasoner's views, with their words."""
        views = self.settings.reasoner.views
        room = self.settings.reasoner.sampling.max_prompt_tokens
        return [views.model_dump(mode="json"), Words(views.templates).hashes(), room]

    def _source(self, arm: config.Arm) -> Literal["gold", "learned", "direct"]:
        """Where an arm's rubrics come from."""
        if arm in ("gold", "learned", "direct"):
            return arm
        return "gold" if self._has_gold else "learned"

    def _arm(self, arm: config.Arm) -> None:
        """Stage 2 with one source of rubrics, and its evaluation."""
        changes: dict[str, Any] = {}
        needs, rows = self._start_step, fingerprint(self._questions)
        source = self._source(arm)
        if source != "gold":
            path = self.questions[source]
            changes["data"], rows = config.JsonlData(path=path), path.parent.name
            needs = (f"write {source} rubrics",)
        if arm in PLACEBOS:
            changes["rubrics"] = config.Rubrics(placebo=PLACEBOS[arm](self.settings.seed))
        settings = self._run(f"reasoner-{arm}", self.settings.reasoner, rows, **changes)
        self.folders[arm] = RunFolder(settings.out)
        self._add(f"train {arm}", needs, steps.train, settings)
        trained = config.Model(path=str(settings.out))
        self._answer(arm, trained, "nothing", (f"train {arm}",), settings.out.name)

    def _answer(
        self,
        arm: str,
        model: config.Model,
        shown: Shown,
        needs: tuple[str, ...],
        identity: str = "",
    ) -> None:
        rubrics: dict[str, Path] = {}
        if shown in ("learned", "direct"):
            rubrics = {name: self.written[shown][name] for name in self.sets}
        evaluation = self.settings.evaluation
        parts = [identity, arm, shown, self._views(), evaluation.max_tokens]
        parts += [path.parent.name for path in rubrics.values()]
        parts += [fingerprint(rows) for rows in self.sets.values()]
        name = "answers-" + arm.replace(",", "").replace("'", "").replace(" ", "-")
        answering = Answering(arm, model, shown, rubrics, self._folder(name, *parts))
        self.answerings.append(answering)
        self._add(f"evaluate {arm}", needs, steps.answer, answering, self.settings)


def _identity(model: config.Model) -> str:
    """What a model is known by: its files, and how they are loaded and trained."""
    template = model.chat_template
    words = None if template is None else template.read_text(encoding="utf-8")
    section = model.model_dump(mode="json", exclude={"path", "chat_template"})
    return _digest(model_digest(model.path), section, words)


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
