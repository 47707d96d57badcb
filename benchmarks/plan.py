"""``rcsd plan --seconds`` beside measured steps: each phase's seconds, and memory.

The step is that of `step.py`, in a fresh process each time; the plan is timed anew beside each,
since other programs may run too. A ratio far from 1 is a fault of the plan. Memory is the most that
tensors hold at once, counted; resident memory stands beside it, which depends on the allocator.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from measuring import (
    CLOCKS,
    MIB,
    Stopwatch,
    console,
    environment,
    medians,
    run_command,
    show,
    write_json,
)
from ours import EXAMPLE, run_of, settings_of
from rcsd.cli.terminal import quieten_libraries
from rcsd.data.prompts import PromptPair
from rcsd.engines.scripted import ScriptedEngine
from rcsd.models.memory import peak_bytes
from rcsd.recipes.plan import Plan, build_lengths, build_plan, this_device
from rcsd.recipes.plan_seconds import measure_seconds
from rcsd.types import Completion
from step import WorkerError, result_of
from worker import Job
from workload import BUILTIN, Work, model_and_tokenizer

PHASES = {"sampling": "sampling", "teacher": "teacher", "student": "student", "update": "optimizer"}
"""What the plan calls a phase, and what the benchmark does."""


def planned(work: Work, overrides: list[str]) -> Plan:
    """The plan of the work on this machine."""
    settings, own = settings_of(work, overrides), work.completion_tokens
    lengths = build_lengths(settings, [(work.student_prefix, work.teacher_prefix)], own)
    return build_plan(settings, lengths, this_device())


def predicted(plan: Plan, clock: str) -> dict[str, float]:
    """Its numbers, by the names of the measured ones; seconds by the same clock."""
    seconds = measure_seconds(plan, CLOCKS[clock])
    learning = sum(plan.phases["student"].values())
    return {
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "step_seconds": sum(seconds.values()),
        "learning_mib": learning / MIB,
        "resident_mib": (learning + plan.held_bytes["optimizer"]) / MIB,
    }


def learning_mib(work: Work, overrides: list[str]) -> float:
    """What tensors hold at most while a step is learned from, gradients included."""
    drawn = np.random.default_rng(0)
    vocabulary = 1000
    said = [
        Completion(tuple(row), "", finished=False)
        for row in drawn.integers(vocabulary, size=(work.num_completions, work.completion_tokens))
        .astype(int)
        .tolist()
    ]
    settings = settings_of(work, overrides)
    run = run_of(settings, *model_and_tokenizer(work.model), ScriptedEngine(said))
    prompts = [PromptPair(EXAMPLE, tuple(s), tuple(t)) for s, t in work.prompts(0)]
    watch = Stopwatch(run.policy.device)

    def learn() -> None:
        run.learn(run.method.collect(prompts, 0), watch)

    learn()  # makes the optimizer's state, which stays
    return peak_bytes(learn, run.policy.device) / MIB


def measured(work: Work, overrides: list[str], num_steps: int, clock: str) -> dict[str, float]:
    """Medians of a fresh process's steps.

    Raises:
        WorkerError: If it failed.
    """
    result = result_of(Job("ours", work, overrides, num_steps, clock))
    found = medians(result["steps"])
    seconds = {f"{name}_seconds": found[f"{ours}_seconds"] for name, ours in PHASES.items()}
    step = {"step_seconds": found["step_seconds"], "resident_mib": result["memory_mib"]}
    return {**seconds, **step}


def main(
    model: Annotated[str, typer.Option(help=f"{' or '.join(BUILTIN)}.")] = "smollm2",
    teacher_prefix: Annotated[int, typer.Option(help="Tokens of the teacher's prompt.")] = 768,
    student_prefix: Annotated[int, typer.Option(help="Tokens of the student's prompt.")] = 128,
    examples: Annotated[int, typer.Option(min=1, help="Examples of the step.")] = 1,
    completions: Annotated[int, typer.Option(min=1, help="Completions of each.")] = 4,
    completion_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each.")] = 128,
    top_k: Annotated[int, typer.Option(min=2, help="Support of the loss.")] = 20,
    lora_rank: Annotated[int, typer.Option(min=1, help="Rank; alpha is twice it.")] = 64,
    repetitions: Annotated[int, typer.Option(min=1, help="Processes.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of each process.")] = 2,
    clock: Annotated[str, typer.Option(help="wall or cpu, as step.py's.")] = "wall",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of our run, as in rcsd train.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write it all.")] = None,
) -> None:
    """The plan's seconds and bytes over the measured ones: 1 is right."""
    if model not in BUILTIN or clock not in CLOCKS:
        raise typer.BadParameter(f"--model {', '.join(BUILTIN)}; --clock {', '.join(CLOCKS)}")
    quieten_libraries()
    lengths = (teacher_prefix, student_prefix, examples, completions, completion_tokens)
    work = Work(model, *lengths, top_k, analysis_tokens=0, lora_rank=lora_rank)
    overrides = list(set_ or [])
    found: list[dict[str, Any]] = []
    for _ in range(repetitions):
        try:
            seen = measured(work, overrides, steps, clock)
        except WorkerError as error:
            console.print(str(error), markup=False)
            raise typer.Exit(1) from error
        found.append({"measured": seen, "predicted": predicted(planned(work, overrides), clock)})
    held = learning_mib(work, overrides)
    for repetition in found:
        repetition["measured"]["learning_mib"] = held
    sides = {side: medians([one[side] for one in found]) for side in ("measured", "predicted")}
    ratios = {
        name: sides["predicted"][name] / value
        for name, value in sides["measured"].items()
        if value > 0
    }
    show(
        f"A step of {model}, {clock} clock, medians",
        ["", *sides, "predicted / measured"],
        [[n, *[side[n] for side in sides.values()], ratio] for n, ratio in ratios.items()],
    )
    record = {
        "benchmark": "plan",
        **environment(),
        "settings": {"work": asdict(work), "overrides": overrides, "steps": steps, "clock": clock},
        "repetitions": found,
        **sides,
        "ratios": ratios,
    }
    write_json(json_file, record)


if __name__ == "__main__":
    run_command(main)
