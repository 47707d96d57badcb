"""The pipeline on the rubric world: probe, distil, placebo, evaluate, report."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.data.placebos import shuffled
from rcsd.engines import Engine
from rcsd.engines.hf import HfEngine
from rcsd.errors import ConfigError, RunError
from rcsd.evaluate import Graded, graded, write_graded
from rcsd.findings import GIVEN, HELD_OUT, MISLED, Outcome, Rows, reported
from rcsd.judges.code import CodeJudge
from rcsd.models import Policy, export_merged, load_policy
from rcsd.prompting import Prompted, prompted
from rcsd.runs import RunFolder
from rcsd.train import run as train
from rcsd.types import Decoding, Example
from rcsd.world.problems import examples
from rcsd.zoo import fetch_model

Progress = Callable[[str, int, int, str], None]
"""Told a stage's name, how much of it is done, of how much, and a note."""


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
        rows |= {f"{arm}{GIVEN}": splits for arm, splits in given.items()}
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
    size = {name: value for name, value in asdict(scale).items() if name != "training"}
    return reported(out, seed, model, size, held_out, rows, folders, seconds)


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
    rows: Rows = {"base": {}, "teacher": {}, MISLED: {}}
    for done, (split, problems) in enumerate(held_out.items()):
        prompts = _prompts(problems, policy)
        misled = _prompts(shuffled(problems, seed=0), policy)
        shown = {
            "base": [p.student_ids for p in prompts],
            "teacher": [p.teacher_ids for p in prompts],
            MISLED: [p.teacher_ids for p in misled],
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
