"""The pipeline on the rubric world, at a scale of minutes."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rcsd import config
from rcsd.config.data import Arm
from rcsd.data.world.problems import SPLITS
from rcsd.errors import ConfigError, RunError
from rcsd.evaluation.report import Outcome
from rcsd.models.hub import fetch_model
from rcsd.recipes.findings import run_and_report
from rcsd.recipes.pipeline_config import Pipeline, PipelineEvaluation, Writing
from rcsd.types import Progress

WRITER_SEED = 1000
"""Added to the seed for the problems of stage 1."""


@dataclass(frozen=True)
class Scale:
    """How large the pipeline is for a model.

    Args:
        training: What is trained.
        lr: Peak learning rate of both stages.
        num_train: Problems trained on.
        num_eval: Problems of each held-out split.
        num_steps: Optimizer steps of each arm of stage 2.
        examples_per_step: Examples of each step.
        max_tokens: Longest answer.
        batch_size: Prompts generated together.
        arms: Whose rubrics stage 2 learns from.
        num_writer_steps: Optimizer steps of stage 1; 0 for none.
        max_rubric_tokens: Longest rubric.
        num_warm_start_steps: Supervised steps first; 0 for a model that follows rubrics already.
        jobs: Steps at the same time, in processes of one thread each.
    """

    training: config.Lora | config.FullFineTuning
    lr: float
    num_train: int
    num_eval: int
    num_steps: int
    examples_per_step: int
    max_tokens: int
    batch_size: int
    arms: tuple[Arm, ...] = ("gold", "learned", "direct", "shuffled")
    num_writer_steps: int = 60
    max_rubric_tokens: int = 300
    num_warm_start_steps: int = 0
    jobs: int = 2


SCALES = {
    "micro": Scale(config.FullFineTuning(), 3e-4, 640, 250, 60, 32, 96, 128),
    # Gold rubrics and their placebo alone: stage 1 would double the three quarters of an hour.
    "smollm2": Scale(
        config.Lora(rank=16, alpha=32),
        5e-4,
        1000,
        24,
        12,
        12,
        128,
        24,
        arms=("gold", "shuffled"),
        num_writer_steps=0,
        num_warm_start_steps=40,
        jobs=1,
    ),
}


def _quick(scale: Scale) -> Scale:
    """A first look within a minute: too small to show anything but that everything runs."""
    return replace(
        scale,
        num_train=64,
        num_eval=24,
        num_steps=4,
        examples_per_step=8,
        num_writer_steps=min(scale.num_writer_steps, 4),
        num_warm_start_steps=min(scale.num_warm_start_steps, 4),
    )


def run(out: Path | None, seed: int, model: str, quick: bool, progress: Progress) -> Outcome:
    """Run the pipeline; returns what it found, which the run folder holds too.

    Raises:
        UserError: If the folder exists, or there is no such model.
    """
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
    path = f"builtin:{model}" if model in SCALES else model
    size = {name: value for name, value in asdict(scale).items() if name != "training"}
    title = "Rubric-conditioned self-distillation on the rubric world"
    pipeline = settings(out, seed, path, scale)
    return run_and_report(pipeline, title, model, {"settings": size}, progress)


def _free_folder(parent: Path, name: str) -> Path:
    number = 1
    while (folder := parent / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


def settings(out: Path, seed: int, path: str, scale: Scale) -> Pipeline:
    """The pipeline, as ``rcsd pipeline`` would be given it."""
    answers = _stage(scale, scale.num_steps, seed)
    rubrics = answers.model_copy(
        update={
            # Other problems than those that it will write for.
            "data": config.WorldData(num_examples=scale.num_train, seed=seed + WRITER_SEED),
            "views": config.Views(writes="rubric", student="answer", teacher="rubric+answer"),
            "sampling": config.Sampling(
                max_tokens=scale.max_rubric_tokens, grammar=config.RubricGrammar()
            ),
        }
    )
    warm_start = answers.model_copy(
        update={
            "data": config.WorldData(num_examples=scale.num_train, seed=seed, rubrics="drawn"),
            "method": config.Sft(view="rubric", habit_share=0.25),
        }
    )

    def lasting(stage: config.Stage, num_steps: int) -> config.Stage | None:
        changes = {"steps": num_steps, "save_every_steps": num_steps}
        return stage.model_copy(update=changes) if num_steps else None

    return Pipeline(
        model=config.Model(path=path, training=scale.training),
        warm_start=lasting(warm_start, scale.num_warm_start_steps),
        writer=lasting(rubrics, scale.num_writer_steps),
        writing=Writing(view="answer", max_tokens=scale.max_rubric_tokens),
        reasoner=answers,
        arms=list(scale.arms),
        evaluation=PipelineEvaluation(
            data={
                split: config.WorldData(split=split, num_examples=scale.num_eval, seed=seed + 1)
                for split in SPLITS
                if split != "train"
            },
            max_tokens=scale.max_tokens,
        ),
        out=out,
        jobs=scale.jobs,
        seed=seed,
    )


def _stage(scale: Scale, num_steps: int, seed: int) -> config.Stage:
    return config.Stage(
        data=config.WorldData(num_examples=scale.num_train, seed=seed),
        method=config.Distill(),
        optim=config.Optim(lr=scale.lr, warmup_steps=min(5, num_steps // 2)),
        sampling=config.Sampling(max_tokens=scale.max_tokens),
        engine=config.LocalEngine(batch_size=scale.batch_size),
        steps=num_steps,
        examples_per_step=scale.examples_per_step,
        save_every_steps=num_steps,
        keep_checkpoints=1,
    )
