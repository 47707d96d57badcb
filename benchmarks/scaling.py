"""How time and memory of our step grow: one quantity at a time, the others fixed.

Completions are scripted, so what is measured is scoring and learning: the teacher's and the
student's pass, the backward pass, the optimizer. The exponent is the slope of a line through the
logarithms: 1 is linear, 0 costs nothing, and small ones say that something else dominates.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy import stats

from measuring import (
    Stopwatch,
    allocated_peak_mib,
    alternating,
    console,
    environment,
    medians,
    run_command,
    show,
    write_json,
)
from ours import EXAMPLE, Run, run_of, settings_of
from rcsd.cli.terminal import quieten_libraries
from rcsd.data.prompts import PromptPair
from rcsd.engines.scripted import ScriptedEngine
from rcsd.types import Completion
from workload import Work, random_model, small_config

FIXED: dict[str, int] = {
    "teacher_prefix": 512,
    "completions": 4,
    "completion_tokens": 64,
    "vocabulary": 16_384,
    "top_k": 20,
}
GROWN: dict[str, tuple[int, ...]] = {
    "teacher_prefix": (256, 512, 1024, 2048),
    "completions": (2, 4, 8, 16),
    "completion_tokens": (32, 64, 128, 256),
    "vocabulary": (8192, 16_384, 32_768, 65_536),
    "top_k": (5, 20, 80, 320),
}
QUANTITIES = ("teacher_seconds", "student_seconds", "learning_seconds", "memory_mib")


def work_of(sizes: Mapping[str, int]) -> Work:
    """The step of these sizes; its model is the small one, of whatever vocabulary."""
    fixed = Work("small", 0, 64, 1, 0, 0, 0, analysis_tokens=0, lora_rank=16)
    return replace(fixed, **{name: n for name, n in sizes.items() if name != "vocabulary"})


def built(sizes: Mapping[str, int]) -> Run:
    """Our run on a small random model, which says what it is told to."""
    work = work_of(sizes)
    shape = small_config(sizes["vocabulary"])
    drawn = np.random.default_rng(0).integers(
        shape.vocab_size, size=(work.completions, work.completion_tokens)
    )
    said = [Completion(tuple(row), "", finished=False) for row in drawn.tolist()]
    # One part for all, however large: splitting would hide how memory grows.
    settings = settings_of(work, ["max_tokens_per_microbatch=1000000000"])
    return run_of(settings, *random_model(shape), ScriptedEngine(said))


def learned(sizes: Mapping[str, int], num_steps: int) -> list[dict[str, float]]:
    """Seconds and peak memory of some steps; one before them warms up."""
    run, work = built(sizes), work_of(sizes)
    vocab_size = sizes["vocabulary"]
    teacher = np.random.default_rng(1).integers(vocab_size, size=work.teacher_prefix).tolist()
    prompt = PromptPair(EXAMPLE, tuple(teacher[: work.student_prefix]), tuple(teacher))
    watch = Stopwatch(run.policy.device)
    run.time_teacher(watch)
    steps = []
    for step in range(num_steps + 1):
        batch = run.method.collect([prompt], step)
        assert batch.num_learned_tokens == work.num_tokens
        with watch("learning"):
            run.learn(batch, watch)
        seconds = watch.taken()
        seconds["student"] -= seconds["teacher"]
        steps.append({f"{phase}_seconds": value for phase, value in seconds.items()})
    batch = run.method.collect([prompt], num_steps)
    peak_mib = allocated_peak_mib(lambda: run.learn(batch, watch), run.policy.device)
    return [{**step, "memory_mib": peak_mib} for step in steps[1:]]


def exponent(sizes: list[int], values: list[float]) -> float | None:
    """The slope of log(value) over log(size); None where a value is too small to measure."""
    if min(values) <= 0:
        return None
    fit: Any = stats.linregress(np.log(sizes), np.log(values))
    return float(fit.slope)


def grown(name: str, sizes: tuple[int, ...], repetitions: int) -> dict[str, Any]:
    """What happens as one quantity grows."""
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for size in alternating(list(map(str, sizes)), repetitions):
        found[int(size)] += learned({**FIXED, name: int(size)}, num_steps=2)
    points = [
        {"size": size, "repetitions": steps, "medians": medians(steps)}
        for size, steps in found.items()
    ]
    return {
        "points": points,
        "exponents": {
            quantity: exponent(list(sizes), [point["medians"][quantity] for point in points])
            for quantity in QUANTITIES
        },
    }


def main(
    grow: Annotated[str, typer.Option(help="What grows.")] = ",".join(GROWN),
    repetitions: Annotated[int, typer.Option(min=1, help="Two steps each.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write it all.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The two smallest sizes, once: a first look.")
    ] = False,
) -> None:
    """Time and memory of our step as one quantity grows, with fitted exponents."""
    names = grow.split(",")
    unknown = [name for name in names if name not in GROWN]
    if unknown:
        raise typer.BadParameter(f"--grow {unknown[0]}; there are {', '.join(GROWN)}")
    quieten_libraries()
    growth = {}
    for name in names:
        console.print(f"growing {name}")
        sizes = GROWN[name][:2] if quick else GROWN[name]
        growth[name] = grown(name, sizes, 1 if quick else repetitions)
    show(
        "Medians",
        ["", "size", *QUANTITIES],
        list(
            itertools.chain.from_iterable(
                [[name, p["size"], *[p["medians"][q] for q in QUANTITIES]] for p in g["points"]]
                for name, g in growth.items()
            )
        ),
    )
    show(
        "Exponents: quantity ~ size ^ exponent",
        ["", *QUANTITIES],
        [[name, *[g["exponents"][q] for q in QUANTITIES]] for name, g in growth.items()],
    )
    record = {
        "benchmark": "scaling",
        **environment(),
        "settings": {
            "fixed": FIXED,
            "work": asdict(work_of(FIXED)),
            "model": small_config(FIXED["vocabulary"]).to_diff_dict(),
            "repetitions": 1 if quick else repetitions,
        },
        "growth": growth,
    }
    write_json(json_file, record)


if __name__ == "__main__":
    run_command(main)
