"""``rcsd plan``: memory of an optimizer step, and on request its seconds on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcsd.cli.table import Table
from rcsd.cli.terminal import console, quieten_libraries, say
from rcsd.cli.training import Overrides, RunFile
from rcsd.errors import ConfigError, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rcsd.config import Config
    from rcsd.recipes.plan import Device, Plan

GIB = 2**30


def plan(  # noqa: PLR0913 (each is an option)
    file: RunFile,
    overrides: Overrides = None,
    memory_gib: Annotated[
        float | None,
        typer.Option(min=0.1, help="Memory of a GPU to plan for; default: this machine's device."),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Number of devices, one process each.")] = 1,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Student prompt length in tokens; skips measuring the data."),
    ] = None,
    teacher_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Teacher prompt length in tokens; goes with --prompt-tokens."),
    ] = None,
    completion_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Mean completion length for --seconds; default: sampling.max_tokens."
        ),
    ] = None,
    seconds: Annotated[
        bool, typer.Option("--seconds", help="Also time a step of one process on this machine.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="File for all numbers.")] = None,
) -> None:
    """Plan a run: memory of a step per device, and with --seconds its time on this machine.

    Reads the model's configuration, not its weights, and the data to measure prompts.
    """
    from rcsd.config import load_config  # noqa: PLC0415

    settings = load_config(file, overrides or [])
    quieten_libraries()
    from rcsd.io import write_json  # noqa: PLC0415
    from rcsd.recipes.plan import (  # noqa: PLC0415 (torch takes seconds)
        build_changes,
        build_lengths,
        build_plan,
        verdict,
    )

    prompts, source = _prompts(settings, prompt_tokens, teacher_tokens)
    lengths = build_lengths(settings, prompts, completion_tokens)
    made = build_plan(settings, lengths, _device(memory_gib, devices))
    say(_facts(made, source))
    console.print(_memory(made))
    timed: dict[str, float] = {}
    if seconds:
        from rcsd.recipes.plan_seconds import measure_seconds  # noqa: PLC0415

        timed = measure_seconds(made)
        console.print(_seconds(timed))
    changes = [] if made.fits else build_changes(made)
    if changes:
        console.print(_changes(changes))
    for sentence in verdict(made, changes):
        console.print(f"- {sentence}")
    if json is not None:
        write_json(json, made.record() | ({"seconds": timed} if timed else {}))
        say(f"\nNumbers: {json}")


def _device(memory_gib: float | None, devices: int) -> "Device":
    from rcsd.recipes.plan import Device, this_device  # noqa: PLC0415 (torch takes seconds)

    if memory_gib is None:
        return this_device(devices)
    return Device("cuda", memory_gib * GIB, devices)


def _prompts(
    settings: "Config", student: int | None, teacher: int | None
) -> tuple[list[tuple[int, int]], str]:
    """Prompt lengths, and where they come from."""
    from rcsd.recipes.plan import measure_prompts  # noqa: PLC0415 (torch takes seconds)

    if student is not None:
        return [(student, teacher or student)], "given"
    if teacher is not None:
        raise ConfigError("--teacher-tokens goes with --prompt-tokens")
    try:
        prompts = measure_prompts(settings)
    except (UserError, OSError) as error:
        raise ConfigError(
            f"prompts cannot be measured: {error}; pass --prompt-tokens and --teacher-tokens"
        ) from error
    return prompts, f"measured on {len(prompts)} examples"


def _facts(made: "Plan", source: str) -> str:
    model, work, device, lengths = made.model, made.work, made.device, made.lengths
    trained = "all" if model.is_full else f"{model.trained:,} in adapters"
    sharding = made.settings.processes.sharding
    return "\n".join(
        [
            f"{model.section.path}: {model.parameters:,} parameters, trained: {trained}",
            f"{device.num_devices} x {device.kind}, sharding: {sharding}, "
            f"engine: {made.settings.engine.type}",
            f"per process: {work.examples} examples x {work.completions} completions, "
            f"micro-batches of up to {work.max_tokens:,} tokens",
            f"prompts, {source}: student {lengths.student:.0f} tokens, longest "
            f"{lengths.longest_student}; teacher {lengths.teacher:.0f}, longest "
            f"{lengths.longest_teacher}; completions: longest {lengths.longest_completion}",
        ]
    )


def _memory(made: "Plan") -> Table:
    phases = {name: {**made.kept, **phase} for name, phase in made.phases.items()}
    names = dict.fromkeys(name for phase in phases.values() for name in phase)
    rows = []
    for name in names:
        cells = [phase.get(name, 0.0) for phase in phases.values()]
        if any(cells):
            rows.append([name, *[f"{value / GIB:.2f}" if value else "" for value in cells]])
    sums = [sum(phase.values()) for phase in phases.values()]
    rows.append(["sum", *[f"{value / GIB:.2f}" for value in sums]])
    return Table(("GiB per device", *phases), rows, "Memory at the longest lengths")


def _seconds(timed: "Mapping[str, float]") -> Table:
    rows = [[name, f"{value:.3g}"] for name, value in timed.items()]
    rows.append(["step", f"{sum(timed.values()):.3g}"])
    return Table(("phase", "seconds"), rows, "Time of a step at mean lengths, measured")


def _changes(changes: "Sequence[tuple[str, Plan]]") -> Table:
    rows = [
        [name, f"{other.peak_bytes / GIB:.1f}", "yes" if other.fits else "no"]
        for name, other in changes
    ]
    return Table(("change", "GiB per device", "fits"), rows, "Changes that save memory")
