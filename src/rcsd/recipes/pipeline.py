"""Two stages in one: train a rubric writer, write rubrics, train reasoners with them, evaluate.

Every step writes artifacts under names that hold a digest of everything that goes into them. A step
whose artifacts exist is skipped; a step that was cut off continues.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast, get_args

import rcsd
from rcsd import config
from rcsd.config.data import Arm
from rcsd.data.load import load_examples, pinned
from rcsd.data.placebos import PLACEBOS
from rcsd.data.rows import read_jsonl
from rcsd.data.views import PromptTemplates
from rcsd.errors import ConfigError, DataError
from rcsd.graders.grade import Graded, read_graded
from rcsd.io import digest, fingerprint, one_owner
from rcsd.models.hub import model_digest
from rcsd.recipes import pipeline_steps
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_steps import EvalJob, Writer
from rcsd.recipes.workers import Step, run_steps
from rcsd.recipes.write_rubrics import read_report
from rcsd.runs import RunFolder
from rcsd.types import Decoding, Example, Progress

WARM_START = "warm start"
"""Name of the warm start's run."""

UNTRAINED = ", before the warm start"
"""Suffix of an arm's name before the warm start."""

SAMPLES = "samples"
"""Name of the sampled answers that written rubrics are to order."""

_DATA = get_args(get_args(config.Data)[0])


def run(settings: Pipeline, progress: Progress) -> "Artifacts":
    """Run the steps that are not done yet; all artifacts exist afterwards.

    Raises UserError if something is wrong that the user can mend; finished steps stay.
    """
    artifacts = plan_pipeline(settings)
    settings.out.mkdir(parents=True, exist_ok=True)
    with one_owner(settings.out):
        artifacts.check()
        run_steps(artifacts.steps, settings.jobs, progress)
    return artifacts


def plan_pipeline(settings: Pipeline) -> "Artifacts":
    """Steps and artifacts of a pipeline.

    Raises UserError if its data cannot be read, or an arm needs what there is not.
    """
    plan = Artifacts(settings)
    taught = settings.reasoner.views
    untaught = taught.untaught(taught.student)
    if "gold" in settings.arms and not plan.has_gold:
        raise ConfigError("arms: gold needs a rubric in every row of reasoner.data")
    if settings.warm_start is not None:
        plan.add_answers(f"base{UNTRAINED}", untaught)
        plan.add_answers(f"teacher{UNTRAINED}", taught)
        plan.add_warm_start(settings.warm_start)
    # Before stage 2: without a rubric, with the rows' rubrics, with another row's.
    plan.add_answers("base", untaught)
    if all(example.rubric is not None for rows in plan.sets.values() for example in rows):
        plan.add_answers("teacher", taught)
        plan.add_answers("teacher, shuffled rubric", taught, placebo=config.ShuffledRubrics())
    sources = [plan.source(arm) for arm in settings.arms]
    if any(source != "gold" for source in sources):
        num_samples = settings.evaluation.num_ordered
        plan.add_answers(SAMPLES, untaught, num_samples=num_samples)
    for writer in get_args(Writer):
        if writer in sources:
            plan.add_writer(writer)
            plan.add_answers(f"teacher, {writer} rubric", taught, writer=writer)
    for arm in settings.arms:
        trained = plan.add_reasoner(arm, settings.reasoner, arm)
        plan.add_answers(arm, untaught, config.Model(path=str(trained.path)))
    return plan


class Artifacts:
    """Steps of one seed of a pipeline or a study, and the artifacts that they make.

    An artifact's name holds a digest of the version, the seed and its inputs: of data, templates
    and models the content, of another artifact its name. A step needs the steps that make the
    artifacts among its inputs. ``label`` is the prefix of the steps' names.

    Attributes:
        sets: Examples of each held-out set.
        model: Model that both stages start from.
        answers: Folder of each arm's answers.
        folders: Run of each trained arm, of the writer and of the warm start.
        written: Files of the rubrics that were written for the held-out sets, by writer and set.
        questions: Files of the rubrics that were written for the reasoner's questions, by writer.

    Raises:
        UserError: If data cannot be read, or held-out questions are trained on.
    """

    def __init__(self, settings: Pipeline, label: str = "") -> None:
        self.settings, self._label = pinned(settings), label
        self.sets = {
            name: load_examples(data)[0] for name, data in self.settings.evaluation.data.items()
        }
        self.trained_on = load_examples(self.settings.reasoner.data)[0]
        self.has_gold = all(row.rubric is not None for row in self.trained_on)
        self.model = self.settings.model
        self.steps: list[Step] = []
        self.answers: dict[str, Path] = {}
        self.folders: dict[str, RunFolder] = {}
        self.written: dict[Writer, dict[str, Path]] = {}
        self.questions: dict[Writer, Path] = {}
        self._names: set[str] = set()
        self._contents: dict[str, object] = {}
        self._check_leaks()

    def _check_leaks(self) -> None:
        sources = {"reasoner.data": self.trained_on}
        if self.settings.writer is not None:
            sources["writer.data"] = load_examples(self.settings.writer.data)[0]
        for (source, learned), (name, rows) in product(sources.items(), self.sets.items()):
            questions = {example.prompt_text for example in learned}
            leaked = [example.id for example in rows if example.prompt_text in questions]
            if leaked:
                raise DataError(
                    f"{len(leaked)} of its questions stand in {source} too, the first: "
                    f"{leaked[0]!r}; take them out of one of the two",
                    field=f"evaluation.data.{name}",
                )

    @property
    def new_kinds(self) -> frozenset[str]:
        """Sets that have no template in common with the training questions."""
        trained = {example.tags.get("template") for example in self.trained_on}
        kinds = {
            name: {row.tags.get("template") for row in rows} for name, rows in self.sets.items()
        }
        return frozenset(n for n, of in kinds.items() if None not in of and not of & trained)

    @functools.cached_property
    def rows(self) -> dict[str, dict[str, list[Graded]]]:
        """Graded completions of each arm and set, once the steps are done."""
        return {
            arm: {name: self._read_answers(arm, name) for name in self.sets} for arm in self.answers
        }

    def check(self) -> None:
        """Refuse damaged answers and rubrics before further steps build on them.

        Raises DataError naming the file and what to do.
        """
        for arm, name in product(self.answers, self.sets):
            if (self.answers[arm] / f"{name}.jsonl").exists():
                self._read_answers(arm, name)
        for writer, files in self.written.items():
            for path in filter(Path.exists, (self.questions[writer], *files.values())):
                with intact(path, path.parent):
                    if len(read_jsonl(path)) != read_report(path).get("num_written"):
                        raise ValueError("its rows are not as many as were written")

    def _read_answers(self, arm: str, name: str) -> list[Graded]:
        num = self.settings.evaluation.num_ordered if arm == SAMPLES else 1
        return read_answers(self.answers[arm] / f"{name}.jsonl", self.sets[name], num=num)

    def source(self, rubrics: Arm) -> Literal["gold", "learned", "direct"]:
        """Origin of an arm's rubrics; of a placebo's, before they are changed."""
        if rubrics in ("gold", "learned", "direct"):
            return rubrics
        return "gold" if self.has_gold else "learned"

    # Steps

    def add_warm_start(self, stage: config.Stage) -> None:
        """Train the model that everything after starts from."""
        merges = self.model.training.type == "lora"
        folder = self._train(WARM_START, "warm-start", stage, merges)
        path = folder.path / "merged" if merges else folder.model
        self.model = self.model.model_copy(update={"path": str(path), "revision": None})

    def add_writer(self, writer: Writer) -> None:
        """Train a writer, if it is the learned one, and write rubrics for all questions."""
        settings, model = self.settings, self.model
        if settings.writer is not None:  # both writers in one chat format
            kwargs = {**model.chat_template_kwargs, **settings.writer.views.student_kwargs}
            model = model.model_copy(update={"chat_template_kwargs": kwargs})
        if writer == "learned":
            if settings.writer is None:
                raise ConfigError("arms: without gold rubrics the placebo needs a writer")
            trained = self._train("writer", "writer", settings.writer)
            model = config.Model(path=str(trained.path))

        def path(name: str, data: config.Data) -> Path:
            folder = self._artifact(f"rubrics-{writer}-{name}", model, settings.writing, data)
            return folder / "rows.jsonl"

        data, held_out = settings.reasoner.data, settings.evaluation.data
        self.questions[writer] = path("questions", data)
        self.written[writer] = {name: path(name, of) for name, of in held_out.items()}
        files = {"questions": (data, self.questions[writer])}
        files |= {f"held-out {n}": (of, self.written[writer][n]) for n, of in held_out.items()}
        makes = [file for _, file in files.values()]
        how = model, settings.writing, settings.reasoner.engine, settings.out / "written"
        self._add(f"write {writer} rubrics", makes, pipeline_steps.write, files, *how)

    def add_reasoner(self, arm: str, stage: config.Stage, rubrics: Arm) -> RunFolder:
        """Train a reasoner with these rubrics."""
        changes: dict[str, Any] = {}
        if (source := self.source(rubrics)) != "gold":
            changes["data"] = config.JsonlData(path=self.questions[source])
        if rubrics in PLACEBOS:
            changes["rubrics"] = config.Rubrics(placebo=PLACEBOS[rubrics](self.settings.seed))
        return self._train(arm, f"reasoner-{_file_name(arm)}", stage, **changes)

    def add_answers(
        self,
        arm: str,
        views: config.Views,
        model: config.Model | None = None,
        writer: Writer | None = None,
        placebo: config.Placebo | None = None,
        num_samples: int | None = None,
    ) -> None:
        """Answer the held-out sets, shown the teacher's view: greedily, or samples at T = 1."""
        settings = self.settings
        job = EvalJob(
            arm,
            model or self.model,
            views,
            settings.evaluation.data,
            Decoding(settings.evaluation.max_tokens, None if num_samples is None else 1.0),
            settings.reasoner.sampling.max_prompt_tokens,
            num_samples or 1,
            settings.seed,
            {} if writer is None else self.written[writer],
            placebo or config.NoPlacebo(),
        )
        self.answers[arm] = folder = self._artifact(f"answers-{_file_name(arm)}", job)
        makes = [folder / f"{name}.jsonl" for name in self.sets]
        how = job, settings.reasoner.engine, folder
        self._add(f"evaluate {arm}", makes, pipeline_steps.answer, *how)

    def _train(
        self, name: str, folder: str, stage: config.Stage, merges: bool = False, **changes: Any
    ) -> RunFolder:
        """Train a run in a folder that is named after everything that goes into it."""
        values = {**dict(pinned(stage)), **changes, "model": self.model, "seed": self.settings.seed}
        settings = config.Config(**values, out=Path(folder))
        settings = settings.model_copy(update={"out": self._artifact(folder, settings)})
        self.folders[name] = run = RunFolder(settings.out)
        merged = run.path / "merged" if merges else None
        makes = [run.model] if merged is None else [run.model, merged]
        self._add(f"train {name}", makes, pipeline_steps.train, settings, merged)
        return run

    def _add(self, name: str, makes: Sequence[Path], call: Any, *arguments: Any) -> None:
        inputs = json.dumps(self._content(arguments))
        needs = [
            step.name
            for step in self.steps
            if any(f'"{self._artifact_name(path)}"' in inputs for path in step.makes)
        ]
        self.steps.append(Step(self._label + name, needs, makes, call, arguments))

    # Names

    def _artifact(self, name: str, *inputs: object) -> Path:
        parts = rcsd.__version__, self.settings.seed, self._content(inputs)
        name = f"{name}-{digest(json.dumps(parts, sort_keys=True))[:10]}"
        self._names.add(name)
        return self.settings.out / name

    def _content(self, value: Any) -> Any:
        """JSON that changes with the content of an input."""
        match value:
            case Path():
                return self._artifact_name(value) or str(value)
            case config.JsonlData() if name := self._artifact_name(value.path):
                return name
            case config.Section():
                key = f"{type(value).__name__} {value.model_dump_json()}"
                if key not in self._contents:
                    self._contents[key] = self._section_content(value)
                return self._contents[key]
            case Mapping():
                return {str(name): self._content(inner) for name, inner in value.items()}
            case list() | tuple():
                return [self._content(inner) for inner in value]
            case EvalJob() | Decoding():
                return {of.name: self._content(getattr(value, of.name)) for of in fields(value)}
            case _:
                return value

    def _section_content(self, section: Any) -> Any:
        if isinstance(section, _DATA):
            return fingerprint(load_examples(cast("config.Data", section))[0])
        values = {name: self._content(value) for name, value in section if name != "out"}
        if "templates" in values:
            values["templates"] = PromptTemplates(dict(section)["templates"]).hashes()
        if isinstance(section, config.Model):
            artifact, template = self._artifact_name(Path(section.path)), section.chat_template
            values["path"] = artifact or model_digest(section.path)
            values["chat_template"] = None if template is None else template.read_text("utf-8")
        return values

    def _artifact_name(self, path: Path) -> str | None:
        """Name of the artifact that a path is or lies in."""
        if not path.is_relative_to(self.settings.out):
            return None
        name = next(iter(path.relative_to(self.settings.out).parts), None)
        return name if name in self._names else None


@contextmanager
def intact(path: Path, artifact: Path) -> Iterator[None]:
    """Read a file of an artifact; where it is damaged, a DataError says what to make anew."""
    try:
        yield
    except (DataError, ValueError) as error:
        fault = error if isinstance(error, DataError) else DataError(str(error))
        raise DataError(
            f"damaged: {fault.message.partition('; ')[0]}; delete the folder {artifact}, and run "
            "the same command again",
            fault.path or path,
            fault.line,
        ) from error


def read_answers(
    path: Path, examples: Sequence[Example], num: int = 1, artifact: Path | None = None
) -> list[Graded]:
    """Graded answers to the examples, ``num`` to each; the artifact is the folder they lie in.

    Raises DataError if they are damaged.
    """
    with intact(path, artifact or path.parent):
        rows = read_graded(path)
        if [row.id for row in rows] != [example.id for example in examples for _ in range(num)]:
            text = f"expected {num * len(examples)} answers to {len(examples)} questions, in order"
            raise ValueError(text)
    return rows


def _file_name(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")
