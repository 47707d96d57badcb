"""``rcsd plan``: what a step needs, in tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from rcsd.cli.terminal import console, quieten_libraries
from rcsd.cli.training import Overrides, RunFile
from rcsd.errors import ConfigError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rcsd.config import Config
    from rcsd.recipes.plan import Plan
    from rcsd.recipes.plan.workload import Lengths

GIB, GB = 2**30, 1e9
Tokens = Annotated[int | None, typer.Option(min=1, help="Of a student's prompt, unmeasured.")]
TeacherTokens = Annotated[int | None, typer.Option(min=1, help="Of a teacher's prompt.")]
MeanTokens = Annotated[int | None, typer.Option(min=1, help="Of a completion, in the mean.")]


def plan(  # noqa: PLR0913 (each is an option)
    file: RunFile,
    overrides: Overrides = None,
    device: Annotated[str, typer.Option(help="h100, h200, a100, mi300x; or here.")] = "h100",
    devices_per_node: Annotated[int, typer.Option(min=1, help="Of each machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    prompt_tokens: Tokens = None,
    teacher_tokens: TeacherTokens = None,
    completion_tokens: MeanTokens = None,
    json: Annotated[Path | None, typer.Option(help="Write all numbers to this file.")] = None,
) -> None:
    """Before renting machines: memory, seconds and bytes of a step, and what limits it.

    Nothing is loaded but the model's configuration, and the run's data to see how long prompts are.
    """
    from rcsd.config import load_config  # noqa: PLC0415

    settings = load_config(file, overrides or [])
    quieten_libraries()
    from rcsd.io import write_json  # noqa: PLC0415
    from rcsd.recipes.plan import plan_of, setup_of  # noqa: PLC0415 (torch takes seconds)
    from rcsd.recipes.plan.hardware import Cluster, accelerator  # noqa: PLC0415
    from rcsd.recipes.plan.machine import machine  # noqa: PLC0415
    from rcsd.recipes.plan.shapes import shape_of_run  # noqa: PLC0415
    from rcsd.recipes.plan.workload import bytes_of  # noqa: PLC0415

    listed = None if device == "here" else accelerator(device)
    shape = shape_of_run(settings.model)
    lengths = _lengths(settings, prompt_tokens, teacher_tokens, completion_tokens)
    drawn = settings.examples_per_step * settings.completions_per_example
    rows = min(settings.engine.batch_size, drawn)
    hardware = listed or machine(shape, bytes_of(settings), rows)
    cluster = Cluster(hardware, devices_per_node, nodes)
    found = plan_of(setup_of(settings, shape, lengths, cluster))
    print_plan(found)
    if json is not None:
        write_json(json, found.record())
        console.print(f"\nNumbers: {escape(str(json))}", highlight=False, soft_wrap=True)


def _lengths(
    settings: "Config", prompt: int | None, teacher: int | None, completion: int | None
) -> "Lengths":
    from rcsd.recipes.plan.prompts import prompt_lengths  # noqa: PLC0415 (torch takes seconds)
    from rcsd.recipes.plan.workload import lengths_of  # noqa: PLC0415

    prompts = None
    if prompt is None:
        try:
            prompts = prompt_lengths(settings)
        except (UserError, OSError) as error:
            raise ConfigError(
                f"prompts cannot be measured, so give --prompt-tokens: {error}"
            ) from error
    return lengths_of(settings, prompts, prompt, teacher, completion)


def print_plan(found: "Plan") -> None:
    """Everything, the verdict last."""
    from rcsd.recipes.plan.advice import sentences  # noqa: PLC0415 (torch takes seconds)

    console.print(_facts(found), highlight=False, soft_wrap=True)
    for table in (_memory(found), _seconds(found), _traffic(found), _changes(found)):
        if table.row_count:
            console.print(table)
    for sentence in sentences(found):
        console.print(f"- {escape(sentence)}", highlight=False)


def _facts(found: "Plan") -> str:
    setup = found.setup
    shape, work, cluster = setup.shape, setup.work, setup.cluster
    hardware, part = cluster.hardware, work.part()
    trained = "all" if shape.is_full else f"{shape.trained:,} in adapters"
    lines = [
        f"{shape.name}: {shape.parameters:,} parameters, trained: {trained}; "
        f"{cluster.nodes} x {cluster.devices_per_node} {hardware.name}, weights "
        f"{'sharded' if setup.is_sharded else 'not sharded'}, engine {setup.settings.engine.type}",
        f"each process: {work.examples} examples x {work.completions} completions in "
        f"{work.num_parts} parts of up to {part.examples} x {part.completions}",
        *work.lengths.sources,
    ]
    if hardware.attention_flops is not None:
        lines.append(
            f"measured: products {hardware.fp32_flops / GB:.0f} and attention "
            f"{hardware.attention_flops / GB:.0f} GFLOP/s; streams {hardware.bandwidth / GB:.1f} "
            f"and weights for few rows {hardware.weights_rate / GB:.1f} GB/s; an operation "
            f"{1e6 * hardware.operation_seconds:.1f} microseconds"
        )
    return "\n".join(map(escape, lines))


def _table(title: str, *columns: str) -> Table:
    """Without frames, so that it can be pasted into a document."""
    return Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _memory(found: "Plan") -> Table:
    memory = found.memory
    names = list(dict.fromkeys([*memory.kept, *(n for p in memory.phases.values() for n in p)]))
    shown = [name for name in names if any(_in(found, phase, name) for phase in memory.phases)]
    table = _table("Memory at the longest lengths", "GiB a device", *memory.phases)
    for name in shown:
        cells = [_in(found, phase, name) for phase in memory.phases]
        table.add_row(name, *[f"{value / GIB:.2f}" if value else "" for value in cells])
    table.add_section()
    sums = [sum(_in(found, phase, name) for name in shown) for phase in memory.phases]
    table.add_row("sum", *[f"{value / GIB:.2f}" for value in sums])
    return table


def _in(found: "Plan", phase: str, name: str) -> float:
    memory = found.memory
    return memory.kept.get(name, 0.0) + memory.phases[phase].get(name, 0.0)


def _seconds(found: "Plan") -> Table:
    times = found.times
    columns = ("phase", "seconds", "what limits it", "each cause alone, seconds")
    table = _table("Time of a step at mean lengths", *columns)
    for name, phase in times.phases.items():
        causes = ", ".join(
            f"{cause} {_number(value)}" for cause, value in phase.causes.items() if value
        )
        table.add_row(name, _number(phase.seconds), phase.limit, causes)
    table.add_section()
    table.add_row("step", _number(times.step), found.limit, "")
    return table


def _told(causes: "Mapping[str, float]") -> "Iterator[tuple[str, float]]":
    return ((name, value) for name, value in causes.items() if value)


def _traffic(found: "Plan") -> Table:
    traffic = found.times.traffic
    table = _table("What a device sends to others in a step", "", "GB", "seconds, alone")
    for name, sent in traffic.sent.items():
        table.add_row(name, _number(sent / GB), _number(traffic.seconds(name)))
    return table


def _changes(found: "Plan") -> Table:
    columns = ("change", "GiB a device", "fits", "seconds a step")
    table = _table("What else could be done", *columns)
    for change in found.changes:
        fits = "yes" if change.fits else "no"
        table.add_row(change.name, f"{change.peak / GIB:.1f}", fits, _number(change.step))
    return table
