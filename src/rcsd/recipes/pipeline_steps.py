"""The steps of a pipeline: each leaves a product on disk, and does nothing where that is there."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.placebos import with_placebo
from rcsd.data.prompts import PromptPair, build_all_prompts, limit_prompt_tokens
from rcsd.data.reading import written_rubrics
from rcsd.data.views import PromptTemplates
from rcsd.engines.analysis import with_analyses
from rcsd.engines.base import Engine
from rcsd.engines.build import build_engine
from rcsd.errors import DataError, RunError
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import sample_and_grade, write_graded
from rcsd.io import cache_folder, write_rows
from rcsd.models.policy import Policy
from rcsd.models.save import export_merged, load_trained
from rcsd.recipes.pipeline_config import Pipeline, Writing
from rcsd.recipes.write_rubrics import write_rows_and_report, write_rubrics
from rcsd.runs import RunFolder
from rcsd.training.budget import TOKENS
from rcsd.training.trainer import run
from rcsd.types import Decoding, Example, Progress

Writer = Literal["learned", "direct"]


@dataclass(frozen=True)
class Answering:
    """A model answers every held-out set in the teacher's view.

    Args:
        arm: Name of what is evaluated.
        model: Its ``path`` is a run's folder or a model.
        views: What it sees.
        folder: Gets one file for each set.
        rubrics: Files of the written rubrics that it is shown, by set; empty: the rows' own.
        placebo: What becomes of the rows' own before they are shown.
    """

    arm: str
    model: config.Model
    views: config.Views
    folder: Path
    rubrics: Mapping[str, Path] = field(default_factory=dict)
    placebo: config.Placebo = config.NoPlacebo()  # noqa: RUF009 (frozen)


def train(progress: Progress, stage: str, settings: config.Config) -> None:
    """Train a run, or go on with it."""
    folder = RunFolder(settings.out)
    if folder.record.is_file() and folder.read_record()["config"] != settings.model_dump(
        mode="json"
    ):
        raise RunError(f"{settings.out} holds another run than its name says; delete it")

    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        loss = next(value for name, value in metrics.items() if name.startswith("loss/"))
        if settings.budget is None:
            progress(stage, step, settings.steps, f"loss {loss:.3f}")
        else:
            progress(stage, int(metrics[TOKENS]), settings.budget.tokens, f"loss {loss:.3f}")

    if folder.model.is_dir():
        progress(stage, settings.steps, settings.steps, "done before")
        return
    progress(stage, 0, settings.steps, "")
    run(settings, resume=folder.record.is_file(), on_step=on_step)


def train_and_merge(progress: Progress, stage: str, settings: config.Config, merged: Path) -> None:
    """Train adapters, and merge them into a plain model that later runs start from."""
    train(progress, stage, settings)
    if merged.is_dir():
        return
    unfinished = merged.with_name(f"{merged.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    export_merged(settings.model, RunFolder(settings.out).model, unfinished)
    unfinished.rename(merged)


@dataclass(frozen=True)
class WritingJob:
    """A model writes rubrics for several data sets.

    Args:
        model: Its ``path`` is a run's folder or a model.
        writing: How.
        engine: Samples, and says how many rows together.
        files: For each set its data, and the file that gets the rubrics.
        cache: Folder of what was written when a step was cut off.
    """

    model: config.Model
    writing: Writing
    engine: config.AnyEngine
    files: Mapping[str, tuple[config.Data, Path]]
    cache: Path


def write(progress: Progress, stage: str, job: WritingJob) -> None:
    """Write the files that are not there yet."""
    missing = {name: file for name, file in job.files.items() if not file[1].is_file()}
    if not missing:
        progress(stage, 1, 1, "done before")
        return
    examples = {name: load_examples(source)[0] for name, (source, _) in missing.items()}
    total, before = sum(map(len, examples.values())), 0
    progress(stage, 0, total, "")
    policy, writer = load_trained(job.model)
    engine = build_engine(job.engine, policy)
    for name, (_, path) in missing.items():
        path.parent.mkdir(parents=True, exist_ok=True)

        def on_rows(done: int, _: int, note: str = name, before: int = before) -> None:
            progress(stage, before + done, total, note)

        rows, report = write_rubrics(
            examples[name],
            job.writing,
            policy,
            engine,
            job.cache,
            writer,
            batch_size=job.engine.batch_size,
            progress=on_rows,
        )
        write_rows_and_report(rows, report, path)
        before += len(examples[name])
    progress(stage, total, total, "")


def answer(progress: Progress, stage: str, answering: Answering, settings: Pipeline) -> None:
    """Answer the held-out sets whose file is not there yet; graded by their own rubrics."""
    paths = {name: answering.folder / f"{name}.jsonl" for name in settings.evaluation.data}
    missing = [name for name, path in paths.items() if not path.is_file()]
    if not missing:
        progress(stage, len(paths), len(paths), "done before")
        return
    progress(stage, 0, len(paths), "")
    policy, _ = load_trained(answering.model)
    engine = build_engine(settings.reasoner.engine, policy)
    for done, name in enumerate(missing, 1 + len(paths) - len(missing)):
        examples = load_examples(settings.evaluation.data[name])[0]
        guided = _guided(examples, answering, name)
        prompts = _prompts(guided, answering.views, settings, policy, engine)
        shown = [prompt.teacher_ids for prompt in prompts]
        decoding = Decoding(settings.evaluation.max_tokens)
        rows = sample_and_grade(engine, examples, shown, decoding, CodeJudge())
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        write_graded(rows, paths[name], arm=answering.arm, split=name)
        progress(stage, done, len(paths), name)


def sample(
    progress: Progress, stage: str, model: config.Model, folder: Path, settings: Pipeline
) -> None:
    """Sample several completions of each held-out question, in the student's view."""
    paths = {name: folder / f"{name}.jsonl" for name in settings.evaluation.data}
    missing = [name for name, path in paths.items() if not path.is_file()]
    progress(stage, len(paths) - len(missing), len(paths), "" if missing else "done before")
    if not missing:
        return
    policy, _ = load_trained(model)
    engine = build_engine(settings.reasoner.engine, policy)
    decoding = Decoding(settings.evaluation.max_tokens, temperature=1.0)
    views = nothing_shown(settings.reasoner.views)
    for done, name in enumerate(missing, 1 + len(paths) - len(missing)):
        examples = load_examples(settings.evaluation.data[name])[0]
        prompts = _prompts(examples, views, settings, policy, engine)
        asked = [p for p in prompts for _ in range(settings.evaluation.num_ordered)]
        shown = [prompt.student_ids for prompt in asked]
        completions = engine.sample(shown, decoding, settings.seed)
        write_rows(
            paths[name],
            [
                {"id": p.example.id, "text": completion.text}
                for p, completion in zip(asked, completions, strict=True)
            ],
        )
        progress(stage, done, len(paths), name)


def nothing_shown(views: config.Views) -> config.Views:
    """Views whose teacher sees no more than the student."""
    return views.model_copy(update={"teacher": views.student, "analysis": False})


def _prompts(
    examples: list[Example],
    views: config.Views,
    settings: Pipeline,
    policy: Policy,
    engine: Engine,
) -> list[PromptPair]:
    """The prompts that are answered, as the teacher's."""
    longest = settings.reasoner.sampling.max_prompt_tokens
    room = limit_prompt_tokens(policy.max_positions, longest, settings.evaluation.max_tokens)
    prompts = build_all_prompts(examples, views, policy.tokenizer, room, "evaluation.data")
    if views.analysis:
        cache = cache_folder() / "analyses"
        prompts, _ = with_analyses(prompts, views, policy, engine, cache, room)
    return prompts


def _guided(examples: list[Example], answering: Answering, name: str) -> list[Example]:
    """The examples with the rubrics that the model is shown; they are graded by their own."""
    if answering.rubrics:
        rubrics = written_rubrics(examples, answering.rubrics[name]).rubrics
        missing = [example.id for example in examples if example.id not in rubrics]
        if missing:
            raise DataError(
                f"{len(missing)} held-out examples have no written rubric, the first: "
                f"{missing[0]!r}; raise writing.max_prompt_tokens",
                field=f"evaluation.data.{name}",
            )
        return [replace(example, rubric=rubrics[example.id]) for example in examples]
    return with_placebo(examples, answering.placebo, PromptTemplates(answering.views.templates))
