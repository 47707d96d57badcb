"""The pipeline on the rubric world: probe, distil, placebo, evaluate, report."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from rcsd import config
from rcsd.data.placebos import shuffled
from rcsd.engines import Engine
from rcsd.engines.hf import HfEngine
from rcsd.errors import ConfigError, RunError
from rcsd.evaluate import Graded, graded, write_graded
from rcsd.insight import (
    criterion_shares,
    curves,
    difference,
    facts,
    metric_values,
    side_by_side,
)
from rcsd.judges.code import CodeJudge
from rcsd.models import Policy, export_merged, load_policy
from rcsd.prompting import Prompted, prompted
from rcsd.report import (
    Arm,
    Difference,
    Estimate,
    HeadroomRow,
    ReportPage,
    figure_svg,
    terminal_table,
    write_report,
)
from rcsd.runs import RunFolder, write_json
from rcsd.stats import Interval, bootstrap_interval
from rcsd.train import run as train
from rcsd.types import Decoding, Example
from rcsd.world.problems import SPLITS, examples
from rcsd.zoo import fetch_model

Progress = Callable[[str, int, int, str], None]
"""Told a stage's name, how much of it is done, of how much, and a note."""

HELD_OUT = SPLITS[1:]
ARMS = (
    Arm("base", "before distillation, no rubric shown"),
    Arm("teacher", "the same weights, each problem's own rubric shown"),
    Arm("rcsd", "distilled from the teacher; no rubric shown", highlight=True),
    Arm("shuffled", "placebo: distilled with other problems' rubrics; no rubric shown"),
)
# The placebo shown to the untrained model, for the headroom alone.
_MISLED = "teacher, shuffled rubric"
# What is added to an arm's name before the warm start.
_GIVEN = ", before the warm start"
_HEADROOM = {
    f"base{_GIVEN}": "before the warm start, no rubric shown",
    f"teacher{_GIVEN}": "before the warm start, own rubric shown",
    "base": "no rubric shown",
    "teacher": "own rubric shown",
    _MISLED: "another problem's rubric shown",
}


@dataclass(frozen=True)
class Scale:
    """How large the pipeline is for a model.

    Args:
        training: What is trained.
        lr: Peak learning rate of stage 2.
        num_train: Problems trained on.
        num_eval: Problems of each held-out split.
        num_steps: Optimizer steps of each arm.
        examples_per_step: Examples of each step.
        max_tokens: Longest completion.
        batch_size: Prompts generated together.
        warm_start_steps: Supervised steps first; 0 for a model that follows rubrics already.
    """

    training: config.Lora | config.FullFineTuning
    lr: float
    num_train: int
    num_eval: int
    num_steps: int
    examples_per_step: int
    max_tokens: int
    batch_size: int
    warm_start_steps: int = 0


_LORA = config.Lora(rank=16, alpha=32)
SCALES = {
    "micro": Scale(config.FullFineTuning(), 3e-4, 2000, 250, 60, 32, 96, 128),
    "smollm2": Scale(_LORA, 5e-4, 1000, 24, 12, 12, 128, 24, warm_start_steps=40),
}


def _quick(scale: Scale) -> Scale:
    """A first look within a minute: too small to show anything but that everything runs."""
    return replace(
        scale,
        num_train=200,
        num_eval=24,
        num_steps=6,
        examples_per_step=8,
        warm_start_steps=min(scale.warm_start_steps, 4),
    )


@dataclass(frozen=True)
class Outcome:
    """What the pipeline found.

    Args:
        summary: As ``summary.json`` holds it.
        findings: Sentences for a reader.
        table: Arms and splits, for the terminal.
        report: The page.
    """

    summary: Mapping[str, Any]
    findings: Sequence[str]
    table: Table
    report: Path


def run(out: Path | None, seed: int, model: str, quick: bool, progress: Progress) -> Outcome:
    """Run the pipeline; returns what it found, which the run folder holds too.

    Raises:
        UserError: If the folder exists, or there is no such model.
    """
    began = time.perf_counter()
    if model not in SCALES and not Path(model).is_dir():
        names = ", ".join(SCALES)
        raise ConfigError(f"--model: no model or folder {model!r}; there are {names}")
    # A folder's model is taken for a real one, of smollm2's kind.
    scale = SCALES.get(model, SCALES["smollm2"])
    scale = _quick(scale) if quick else scale
    out = out or _free_folder(Path("runs"), f"quickstart-{Path(model).name}")
    if out.exists():
        raise RunError(f"{out} exists; choose another folder with --out")
    if model in SCALES:
        fetch_model(model)
    start = f"builtin:{model}" if model in SCALES else model
    held_out = {split: examples(split, scale.num_eval, seed=seed + 1) for split in HELD_OUT}

    rows: Rows = {}
    folders: dict[str, RunFolder] = {}
    if scale.warm_start_steps:
        given = _probed(start, scale, held_out, progress, "probe the given model")
        rows |= {f"{arm}{_GIVEN}": splits for arm, splits in given.items()}
        folders["warm start"] = _warm_start(out, seed, start, scale, progress)
        start = _merged(folders["warm start"], out / "warm-start-merged")
    rows |= _probed(start, scale, held_out, progress, "probe the headroom")
    for arm, placebo in (
        ("rcsd", config.NoPlacebo()),
        ("shuffled", config.ShuffledRubrics(seed=seed)),
    ):
        settings = _settings(out / arm, seed, start, scale, placebo)
        folders[arm] = train(settings, on_step=_shown(progress, f"train {arm}", scale.num_steps))
        rows[arm] = _trained(folders[arm], out / f"{arm}-merged", scale, held_out, progress)
    for arm, splits in rows.items():
        for split, graded_rows in splits.items():
            name = arm.replace(",", "").replace(" ", "-")
            path = out / "evaluations" / f"{name}-{split}.jsonl"
            write_graded(graded_rows, path, arm=arm, split=split)
    seconds = round(time.perf_counter() - began, 1)
    return _reported(out, seed, model, scale, held_out, rows, folders, seconds)


def _free_folder(parent: Path, name: str) -> Path:
    number = 1
    while (folder := parent / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


def _shown(progress: Progress, stage: str, num_steps: int) -> Callable[[int, Any], None]:
    progress(stage, 0, num_steps, "")

    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        loss = next(value for name, value in metrics.items() if name.startswith("loss/"))
        progress(stage, step, num_steps, f"loss {loss:.3f}")

    return on_step


def _settings(
    out: Path, seed: int, start: str, scale: Scale, placebo: config.Placebo
) -> config.Config:
    """Stage 2, as ``rcsd train`` would be given it."""
    return config.Config(
        model=config.Model(path=start, training=scale.training),
        data=config.WorldData(num_examples=scale.num_train, seed=seed),
        method=config.Distill(),
        optim=config.Optim(lr=scale.lr, warmup_steps=min(5, scale.num_steps // 2)),
        sampling=config.Sampling(max_tokens=scale.max_tokens),
        engine=config.HfEngine(batch_size=scale.batch_size),
        placebo=placebo,
        steps=scale.num_steps,
        examples_per_step=scale.examples_per_step,
        save_every_steps=scale.num_steps,
        keep_checkpoints=1,
        seed=seed,
        out=out,
    )


def _warm_start(out: Path, seed: int, start: str, scale: Scale, progress: Progress) -> RunFolder:
    """Teach a model to follow rubrics when they are shown, and keep its habits without."""
    stage2 = _settings(out / "warm-start", seed, start, scale, config.NoPlacebo())
    settings = stage2.model_copy(
        update={
            "data": config.WorldData(num_examples=scale.num_train, seed=seed, rubrics="drawn"),
            "method": config.Sft(view="rubric", habit_share=0.25),
            "steps": scale.warm_start_steps,
            "save_every_steps": scale.warm_start_steps,
        }
    )
    return train(settings, on_step=_shown(progress, "warm start", scale.warm_start_steps))


def _merged(folder: RunFolder, out: Path) -> str:
    """Folder of a run's model as a plain one."""
    section = config.Model.model_validate(folder.read_record()["config"]["model"])
    if section.training.type == "full":
        return str(folder.model)
    export_merged(section, folder.model, out)
    return str(out)


Rows = dict[str, dict[str, list[Graded]]]
"""Graded completions of each arm and split."""


def _probed(
    start: str,
    scale: Scale,
    held_out: Mapping[str, Sequence[Example]],
    progress: Progress,
    stage: str,
) -> Rows:
    """The probe: what the model does without a rubric, with its own, and with another's."""
    policy = load_policy(config.Model(path=start, training=config.FullFineTuning()))
    engine = HfEngine(policy, scale.batch_size)
    rows: Rows = {"base": {}, "teacher": {}, _MISLED: {}}
    for done, (split, problems) in enumerate(held_out.items()):
        prompts = _prompts(problems, policy)
        misled = _prompts(shuffled(problems, seed=0), policy)
        shown = {
            "base": [p.student_ids for p in prompts],
            "teacher": [p.teacher_ids for p in prompts],
            _MISLED: [p.teacher_ids for p in misled],
        }
        for nth, (arm, ids) in enumerate(shown.items()):
            progress(stage, 3 * done + nth, 3 * len(held_out), arm)
            rows[arm][split] = _graded(prompts, ids, engine, scale)
    progress(stage, 3 * len(held_out), 3 * len(held_out), "")
    return rows


def _trained(
    folder: RunFolder,
    merged: Path,
    scale: Scale,
    held_out: Mapping[str, Sequence[Example]],
    progress: Progress,
) -> dict[str, list[Graded]]:
    """The distilled model's answers, without a rubric."""
    path = _merged(folder, merged)
    policy = load_policy(config.Model(path=path, training=config.FullFineTuning()))
    engine, rows = HfEngine(policy, scale.batch_size), {}
    stage = f"evaluate {folder.path.name}"
    for done, (split, problems) in enumerate(held_out.items()):
        progress(stage, done, len(held_out), split)
        prompts = _prompts(problems, policy)
        rows[split] = _graded(prompts, [p.student_ids for p in prompts], engine, scale)
    progress(stage, len(held_out), len(held_out), "")
    return rows


def _prompts(problems: Sequence[Example], policy: Policy) -> list[Prompted]:
    prompts, dropped = prompted(problems, config.Views(), policy, max_tokens=2048)
    if dropped:
        raise RunError(f"{len(dropped)} held-out prompts do not fit: {dropped[0].reason}")
    return prompts


def _graded(
    prompts: Sequence[Prompted],
    shown: Sequence[Sequence[int]],
    engine: Engine,
    scale: Scale,
) -> list[Graded]:
    return graded(prompts, shown, engine, CodeJudge(), Decoding(scale.max_tokens))


def _reported(  # noqa: PLR0913 (everything that was found)
    out: Path,
    seed: int,
    model: str,
    scale: Scale,
    held_out: Mapping[str, Sequence[Example]],
    rows: Rows,
    folders: Mapping[str, RunFolder],
    seconds: float,
) -> Outcome:
    """Statistics, summary, page."""
    estimates = {
        (arm, split, metric): bootstrap_interval(metric_values(rows[arm][split], metric), seed=seed)
        for arm in rows
        for split in HELD_OUT
        for metric in ("score", "accuracy")
    }
    differences = [
        difference(f"{left} - {right}", rows[left][split], rows[right][split], split, metric, seed)
        for left, right in (("rcsd", "base"), ("rcsd", "shuffled"), ("teacher", "rcsd"))
        for split in HELD_OUT
        for metric in ("score", "accuracy")
    ]
    criteria = criterion_shares(
        {arm: rows[arm]["new_numbers"] for arm in ("base", "rcsd", "shuffled", "teacher")},
        held_out["new_numbers"],
    )
    summary = {
        "arms": {
            arm.name: {
                split: {
                    metric: asdict(estimates[arm.name, split, metric])
                    for metric in ("score", "accuracy")
                }
                for split in HELD_OUT
            }
            for arm in ARMS
        },
        "criteria": {c.kind: dict(c.shares) for c in criteria},
        "before_warm_start": {
            arm.removesuffix(_GIVEN): {
                split: {
                    metric: asdict(estimates[arm, split, metric])
                    for metric in ("score", "accuracy")
                }
                for split in HELD_OUT
            }
            for arm in rows
            if arm.endswith(_GIVEN)
        },
        "seconds": seconds,
        "model": model,
        "seed": seed,
        "settings": {k: v for k, v in asdict(scale).items() if k != "training"},
    }
    write_json(out / "summary.json", summary)
    findings = _findings(estimates, differences)
    page = ReportPage(
        title="Rubric-conditioned self-distillation on the rubric world",
        subtitle=f"{model}, seed {seed}, {seconds:.0f} seconds",
        lead=tuple(findings),
        arms=ARMS,
        estimates=tuple(
            Estimate(arm.name, split, metric, estimates[arm.name, split, metric])
            for arm in ARMS
            for split in HELD_OUT
            for metric in ("score", "accuracy")
        ),
        differences=tuple(differences),
        headroom=tuple(
            HeadroomRow(label, estimates[arm, "new_numbers", "score"])
            for arm, label in _HEADROOM.items()
            if arm in rows
        ),
        curves=tuple(c for arm, f in folders.items() for c in curves(arm, f.metrics())),
        criteria=tuple(criteria),
        samples=tuple(
            side_by_side(
                {arm.name: rows[arm.name]["new_numbers"] for arm in ARMS}, held_out["new_numbers"]
            )
        ),
        facts=facts(folders["rcsd"].read_record()),
    )
    write_report(page, out / "report.html")
    (out / "scores.svg").write_text(figure_svg(page, "scores"), encoding="utf-8")
    return Outcome(summary, findings, terminal_table(page), out / "report.html")


def _findings(
    estimates: Mapping[tuple[str, str, str], Interval], differences: Sequence[Difference]
) -> list[str]:
    """What the numbers say on new numbers, for better or worse."""

    def score(arm: str) -> str:
        return _written(estimates[arm, "new_numbers", "score"])

    gap = next(
        d.interval
        for d in differences
        if (d.label, d.split, d.metric) == ("rcsd - shuffled", "new_numbers", "score")
    )
    gain = next(
        d.interval
        for d in differences
        if (d.label, d.split, d.metric) == ("rcsd - base", "new_numbers", "score")
    )
    content = (
        "so the gain comes from what the rubrics say, not from their presence"
        if gap.low > 0 and gain.low > 0
        else "so this run does not show that the rubrics' content helps"
    )
    before = []
    if (f"base{_GIVEN}", "new_numbers", "score") in estimates:
        before = [
            f"Before the warm start the model scores {score('base' + _GIVEN)} without a rubric and "
            f"{score('teacher' + _GIVEN)} when it is shown its own."
        ]
    return [
        *before,
        f"Headroom: shown its rubric, the model that distillation starts from scores "
        f"{score('teacher')} on new numbers; without, {score('base')}; with another problem's "
        f"rubric, {score(_MISLED)}.",
        f"After distillation the student, which sees no rubric, scores {score('rcsd')}; "
        f"the gain over the base is {_written(gain)}.",
        f"The placebo, distilled with shuffled rubrics, scores {score('shuffled')}; the difference "
        f"is {_written(gap)}, {content}.",
        f"On families of problems that no training ever saw: shown "
        f"its rubric the model scores {_written(estimates['teacher', 'new_templates', 'score'])}, "
        f"after distillation {_written(estimates['rcsd', 'new_templates', 'score'])} (accuracy "
        f"{_written(estimates['rcsd', 'new_templates', 'accuracy'])}).",
    ]


def _written(interval: Interval) -> str:
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
