"""Commands that train or prepare a run: train, probe, plan, export, models, and the recipes."""

import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rcsd.cli.judge import judging_lines
from rcsd.cli.options import JudgeFile, Overrides, Quick, Resume, RunFile
from rcsd.cli.terminal import Table, bars, console, errors, labelled, quieten_libraries, say, styled
from rcsd.config import Config, Model, config_of_run, load_config, load_judging
from rcsd.config.base import load
from rcsd.errors import ConfigError
from rcsd.evaluation.text import interval_text, spaced, stacked
from rcsd.io import check_new, write_json
from rcsd.types import Progress

if TYPE_CHECKING:
    from rcsd.recipes.arms import Outcome
    from rcsd.recipes.plan import Plan
    from rcsd.recipes.probe import Probe
    from rcsd.runs import RunFolder

_RAY = (
    "Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local, which starts one here. Its machines "
    "need this package, and see the files at the same paths."
)


def train(
    file: RunFile,
    overrides: Overrides = None,
    resume: Resume = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes, one per device.")] = None,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help=_RAY)] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Ray workers; default: one per GPU, else per machine.")
    ] = None,
) -> None:
    """Train a policy; the run folder holds its record, metrics, checkpoints, model and report."""
    settings = load_config(file, overrides or [])
    if ray is not None:
        if processes is not None:
            raise ConfigError("--processes is for this machine: on a cluster take --workers")
        from rcsd.training.ray import train_on

        train_and_report(settings, resume, functools.partial(train_on, ray, workers))
        return
    if workers is not None:
        raise ConfigError("--workers is for --ray ADDRESS; on this machine take --processes")
    if processes is None:
        train_and_report(settings, resume)
        return
    from rcsd.training.launch import launch

    arguments = [str(file), *(overrides or []), *(["--resume"] if resume else [])]
    if code := launch(processes, ["train", *arguments]):
        sys.exit(code)


def train_and_report(
    settings: Config, resume: bool, run: "Callable[..., RunFolder] | None" = None
) -> None:
    """Train by `rcsd.training.trainer.run`, or elsewhere by ``run``, and write the report."""
    from rcsd.evaluation.run_report import write_run_report
    from rcsd.runs import RunFolder
    from rcsd.training.launch import is_main
    from rcsd.training.trainer import run as run_here

    run = run or run_here
    if not is_main():
        quieten_libraries()
        run(settings, resume, on_warning=lambda text: None)
        return
    is_new = True
    with bars() as progress:

        def on_step(num_steps: int, metrics: Mapping[str, float]) -> None:
            nonlocal is_new
            if is_new:
                say(_trained_text(RunFolder(settings.out).read_record()["trained"]))
                is_new = False
            losses = [f"{value:.4f}" for name, value in metrics.items() if name.startswith("loss/")]
            progress("train", num_steps, settings.steps, f"loss {losses[0]}" if losses else "")

        def on_warning(text: str) -> None:
            errors.print(labelled("warning", text, "bold yellow"))

        progress("train", 0, settings.steps, "")
        try:
            folder = run(settings, resume, on_step, on_warning)
        except SystemExit:  # a signal
            if (settings.out / "run.json").is_file():
                say(f"Stopped; all steps taken are saved in {settings.out}. Go on with --resume.")
            raise
    report = write_run_report(folder)
    if dropped := folder.read_record()["dropped"]:
        say(f"Left out: {len(dropped)} examples; see {folder.record}")
    say(f"Model: {folder.model}\nReport: {report}")


def _trained_text(trained: Mapping[str, Any]) -> str:
    names = {**trained["layers"], **trained["target_parameters"]}
    adapters = ", ".join(f"{count} {name}" for name, count in names.items())
    return (
        f"Trained: {trained['parameters']:,} of {trained['all_parameters']:,} parameters "
        f"({trained['share']:.2%})" + (f", adapters of {adapters}" if names else "")
    )


def export(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a LoRA run, or an adapter.")],
    out: Annotated[Path, typer.Option(help="Folder of the merged model; must not exist.")],
) -> None:
    """Merge an adapter into its base: a plain model folder.

    Of a run that has not ended, the newest checkpoint is taken.
    """
    from rcsd.models.save import export_merged, export_run
    from rcsd.runs import RunFolder
    from rcsd.training.record import model_card

    folder = RunFolder(run_folder)
    quieten_libraries()
    if (run_folder / "adapter_config.json").is_file():
        export_merged(Model(path=str(run_folder)), None, out)
        say(f"Model: {out}")
        return
    folder.check_resumable()
    settings = config_of_run(folder)
    step = export_run(folder, out, lambda step: model_card(settings, step))
    say(f"Model: {out}")
    if step is not None:
        say(f"The run has not ended: this is its checkpoint of step {step}.")
    if kwargs := settings.chat_template_kwargs:
        say(f"It was trained on prompts of its chat template with {json.dumps(kwargs)}.")


def models(
    fetch: Annotated[str | None, typer.Option(help="Name of a model to fetch.")] = None,
) -> None:
    """List the models that are available by name, or fetch one."""
    from rcsd.models.hub import ENTRIES, fetch_model

    if fetch is not None:
        quieten_libraries()
        say(f"Model: {fetch_model(fetch)}")
        return
    rows = []
    for entry in ENTRIES.values():
        folder = str(entry.folder) if entry.is_here else f"no: rcsd models --fetch {entry.name}"
        rows.append((f"builtin:{entry.name}", entry.description, folder))
    console.print(Table(("model.path", "description", "on this machine"), rows, num_names=3))


# Recipes


def quickstart(
    out: Annotated[
        Path | None, typer.Option(help="Run folder; new, or of a quickstart to go on with.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of everything.")] = 0,
    model: Annotated[str, typer.Option(help="Name of a model: micro or smollm2.")] = "micro",
    quick: Quick = False,
) -> None:
    """Train on the rubric world, with a placebo arm, and write a report."""
    from rcsd.recipes.quickstart import run

    with _bars() as progress:
        outcome = run(out, seed, model, quick, progress)
    _print_outcome(outcome)


def pipeline(
    file: Annotated[Path, typer.Argument(help="YAML file of the pipeline.")],
    overrides: Overrides = None,
) -> None:
    """Train a rubric writer, write rubrics, train reasoners with them, evaluate, report.

    Finished steps are skipped.
    """
    from rcsd.recipes.pipeline_config import Pipeline

    settings = load(Pipeline, file, overrides or [])
    from rcsd.recipes.pipeline_report import run_and_report

    with _bars() as progress:
        outcome = run_and_report(settings, file.stem, settings.model.path, {}, progress)
    _print_outcome(outcome)


def study(
    file: Annotated[Path, typer.Argument(help="YAML file of the study.")],
    overrides: Overrides = None,
) -> None:
    """Train every method with every kind of rubrics and seed on one budget, and compare them.

    Finished steps are skipped, so a study that was cut off continues.
    """
    from rcsd.recipes.study_config import Study

    settings = load(Study, file, overrides or [])
    from rcsd.recipes.study import run_and_report

    with _bars() as progress:
        outcome = run_and_report(settings, file.stem, progress)
    _print_outcome(outcome)


@contextmanager
def _bars() -> Iterator[Progress]:
    """Progress bars of a recipe; after a signal, a line on how to go on."""
    with bars() as progress:
        try:
            yield progress
        except SystemExit:
            say("Stopped; what is done is kept. The same command goes on.")
            raise


def _print_outcome(outcome: "Outcome") -> None:
    from rcsd.evaluation.report import pivot

    page = outcome.page
    table = pivot(page.estimates, page.arm_names())
    heads = [
        f"{spaced(split)}\n{spaced(metric)}\n{table.counts[split]}"
        for split, metrics in table.columns.items()
        for metric in metrics
    ]
    rows = [
        [name, *(stacked(row and row.interval, ".2f") for row in cells)]
        for name, cells in table.rows.items()
    ]
    console.print(Table(("arm", *heads), rows, f"Means, [low, high]: {page.interval_note}"))
    for sentence in page.lead:
        console.print(f"- {sentence}")
    say(f"\nReport: {outcome.report}")


# Before training


def probe(
    file: RunFile,
    overrides: Overrides = None,
    num_examples: Annotated[int, typer.Option(min=1, help="Number of questions.")] = 64,
    num_samples: Annotated[
        int, typer.Option(min=1, help="Number of completions sampled per question.")
    ] = 4,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for probe.json; default: the run's folder with -probe."),
    ] = None,
    judge: JudgeFile = None,
) -> None:
    """Measure before training how much a run can learn from its rubrics."""
    settings = load_config(file, overrides or [])
    section = None if judge is None else load_judging(judge).judge
    from rcsd.recipes.probe import probe as measure

    path = (out or settings.out.with_name(f"{settings.out.name}-probe")) / "probe.json"
    check_new(path.parent)
    quieten_libraries()
    with bars() as progress:
        measured = measure(settings, num_examples, num_samples, progress, section)
    about = {"config": settings.model_dump(mode="json")}
    about |= {} if section is None else {"judge": section.model_dump(mode="json")}
    write_json(path, {**about, **asdict(measured)})
    for table in _probe_tables(measured):
        console.print(table)
    console.print(
        f"{measured.num_questions} of {measured.num_available} examples; {len(measured.skipped)} "
        f"drawn ones do not fit. {measured.num_completions} completions."
    )
    if measured.metric is None:
        console.print("No answer can be graded, so headroom is missing.")
    for line in judging_lines(measured.judging):
        console.print(line)
    for name, why in measured.impossible.items():
        console.print(f"No context {name}: {why}")
    advice = measured.advice
    colour = {"train": "green", "cannot tell": "yellow"}.get(advice.verdict, "red")
    console.print(styled(f"\n{advice.verdict}", f"bold {colour}"))
    for reason in advice.reasons:
        console.print(f"- {reason}")
    for warning in advice.warnings:
        console.print(labelled("- warning", warning, "yellow"))
    say(f"\nNumbers: {path}")


def _probe_tables(measured: "Probe") -> Iterator[Table]:
    rows = [
        [
            of.context,
            interval_text(of.mean),
            interval_text(of.gain, "+.3f"),
            interval_text(measured.divergences.get(of.context)),
            *map(str, (of.num_answers, of.num_cut, of.num_ungraded)),
        ]
        for of in measured.contexts
    ]
    columns = ("context", measured.metric or "score", "gain", "KL(q || p), nats per token")
    title = "Headroom of greedy answers, and divergence on the student's samples"
    yield Table((*columns, "answers", "cut", "ungraded"), rows, title)
    if measured.sensitivities:
        rows = [
            [of.placebo, interval_text(of.gap, "+.3f"), interval_text(of.share), of.undefined]
            for of in measured.sensitivities
        ]
        title = "Content sensitivity: loss with a placebo in place of the rubric"
        columns = ("placebo", "own rubric - placebo", "share of the headroom", "")
        yield Table(columns, rows, title)


def plan(
    file: RunFile,
    overrides: Overrides = None,
    memory_gib: Annotated[
        float | None,
        typer.Option(min=0.1, help="Memory of a GPU to plan for; default: this machine's device."),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Number of devices, one process each.")] = 1,
    prompt_tokens: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Tokens of student and teacher prompts; skips measuring the data."),
    ] = None,
) -> None:
    """Plan a run: memory of a step per device.

    Reads the model's configuration, not its weights, and the data to measure prompts.
    """
    settings = load_config(file, overrides or [])
    quieten_libraries()
    from rcsd.recipes import plan as planning

    prompts = prompt_tokens or planning.measure_prompts(settings)
    lengths = planning.build_lengths(settings, *prompts)
    device = planning.this_device(devices)
    if memory_gib is not None:
        device = planning.Device("cuda", memory_gib * planning.GIB, devices)
    made = planning.build_plan(settings, lengths, device)
    say(_plan_facts(made, "measured" if prompt_tokens is None else "given"))
    console.print(_memory_table(made))
    for sentence in made.verdict():
        console.print(f"- {sentence}")


def _plan_facts(made: "Plan", source: str) -> str:
    model, work, device, lengths = made.model, made.work, made.device, made.lengths
    trained = "all" if model.is_full else f"{model.trained:,} in adapters"
    return "\n".join(
        [
            f"{model.section.path}: {model.parameters:,} parameters, trained: {trained}",
            f"{device.num_devices} x {device.kind}, sharding: {made.settings.processes.sharding}, "
            f"engine: {made.settings.engine.type}",
            f"per process: {work.examples} examples x {work.completions} completions, "
            f"micro-batches of up to {work.max_tokens:,} tokens",
            f"longest prompts, {source}: student {lengths.student} tokens, teacher "
            f"{lengths.teacher}; completions {lengths.completion}",
        ]
    )


def _memory_table(made: "Plan") -> Table:
    from rcsd.recipes.plan import GIB

    phases = {name: {**made.held_bytes, **phase} for name, phase in made.phases.items()}
    rows = []
    for name in dict.fromkeys(name for phase in phases.values() for name in phase):
        cells = [phase.get(name, 0.0) for phase in phases.values()]
        if any(cells):
            rows.append([name, *[f"{value / GIB:.2f}" if value else "" for value in cells]])
    rows.append(["sum", *[f"{sum(phase.values()) / GIB:.2f}" for phase in phases.values()]])
    return Table(("GiB per device", *phases), rows, "Memory at the longest lengths")
