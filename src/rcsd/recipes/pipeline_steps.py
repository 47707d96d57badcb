"""Steps of a pipeline. Each writes artifacts to disk and continues where it was cut off."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.placebos import with_placebo
from rcsd.data.prompts import build_all_prompts, limit_prompt_tokens
from rcsd.data.views import PromptTemplates
from rcsd.data.written import written_rubrics
from rcsd.engines.analysis import with_analyses
from rcsd.engines.build import build_engine
from rcsd.errors import DataError
from rcsd.graders.code import CodeJudge
from rcsd.graders.grade import sample_and_grade, write_graded
from rcsd.models.loading import refuse_quantized
from rcsd.models.save import MERGING, export_merged, load_trained
from rcsd.recipes.pipeline_config import Writing
from rcsd.recipes.workers import StepProgress
from rcsd.recipes.write_rubrics import write_rows_and_report, write_rubrics
from rcsd.runs import RunFolder
from rcsd.training.stopping import TOKENS
from rcsd.training.trainer import run
from rcsd.types import Decoding, Example

Writer = Literal["direct", "learned"]
"""A rubric writer: the untrained or the trained model."""


def train(progress: StepProgress, settings: config.Config, merged: Path | None = None) -> None:
    """Train a run or resume it; ``merged``, where set, gets its adapter merged into a model."""
    folder = RunFolder(settings.out)
    total = settings.steps if settings.budget is None else settings.budget.tokens

    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        loss = next(value for name, value in metrics.items() if name.startswith("loss/"))
        done = step if settings.budget is None else int(metrics[TOKENS])
        progress(done, total, f"loss {loss:.3f}")

    if merged is not None:
        refuse_quantized(settings.model, MERGING)
    if not folder.model.is_dir():
        progress(0, total, "")
        run(settings, resume=folder.record.is_file(), on_step=on_step)
    if merged is not None:
        export_merged(settings.model, folder.model, merged)


def write(
    progress: StepProgress,
    files: Mapping[str, tuple[config.Data, Path]],
    model: config.Model,
    writing: Writing,
    section: config.AnyEngine,
    cache: Path,
) -> None:
    """Write rubrics for several sets (data and output file); files that exist stay."""
    missing = {name: file for name, file in files.items() if not file[1].is_file()}
    examples = {name: load_examples(data)[0] for name, (data, _) in missing.items()}
    total, before = sum(map(len, examples.values())), 0
    progress(0, total, "")
    policy, writer, _ = load_trained(model)
    engine, size = build_engine(section, policy), section.batch_size
    for name, rows in examples.items():
        path = missing[name][1]

        def on_rows(done: int, _: int, note: str = name, before: int = before) -> None:
            progress(before + done, total, note)

        written = write_rubrics(rows, writing, policy, engine, cache, writer, size, on_rows)
        write_rows_and_report(*written, path)
        before += len(rows)
    progress(total, total, "")


@dataclass(frozen=True)
class EvalJob:
    """A model answers held-out sets, shown the teacher view.

    The rows' rubrics in the prompt are replaced by those of ``rubrics``, a file for each set, or by
    the placebo.
    """

    arm: str
    model: config.Model
    views: config.Views
    sets: Mapping[str, config.Data]
    decoding: Decoding
    max_prompt_tokens: int
    num_samples: int = 1
    seed: int = 0
    rubrics: Mapping[str, Path] = field(default_factory=dict)
    placebo: config.Placebo = config.NoPlacebo()  # noqa: RUF009 (frozen)


def answer(progress: StepProgress, job: EvalJob, section: config.AnyEngine, folder: Path) -> None:
    """Answer the sets that have no file in ``folder`` yet; graded by the rows' rubrics."""
    progress(0, len(job.sets), "")
    policy, *_ = load_trained(job.model)
    engine, views = build_engine(section, policy), job.views
    room = limit_prompt_tokens(policy.max_positions, job.max_prompt_tokens, job.decoding.max_tokens)
    for done, (name, data) in enumerate(job.sets.items(), 1):
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            examples = load_examples(data)[0]
            prompted = _with_prompt_rubrics(job, name, examples)
            pairs = build_all_prompts(prompted, views, policy.tokenizer, room, "evaluation.data")
            if views.analysis:
                pairs, _ = with_analyses(pairs, views, policy, engine, room)
            rows = sample_and_grade(
                engine,
                [example for example in examples for _ in range(job.num_samples)],
                [pair.teacher_ids for pair in pairs for _ in range(job.num_samples)],
                job.decoding,
                CodeJudge(),
                job.seed,
            )
            write_graded(rows, path, arm=job.arm, split=name)
        progress(done, len(job.sets), name)


def _with_prompt_rubrics(job: EvalJob, name: str, examples: list[Example]) -> list[Example]:
    if not job.rubrics:
        return with_placebo(examples, job.placebo, PromptTemplates(job.views.templates))
    rubrics = written_rubrics(examples, job.rubrics[name]).rubrics
    missing = [example.id for example in examples if example.id not in rubrics]
    if missing:
        raise DataError(
            f"{len(missing)} held-out examples have no written rubric, the first: {missing[0]!r}; "
            "raise writing.max_prompt_tokens",
            field=f"evaluation.data.{name}",
        )
    return [replace(example, rubric=rubrics[example.id]) for example in examples]
