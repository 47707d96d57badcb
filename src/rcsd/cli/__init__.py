"""The command line: parse, load, call. The only folder that prints."""

import functools
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from rcsd.cli import compare, data, eval, judge, paper_table, planning, probing, writer
from rcsd.cli.clusters import Ray, Restarts, WorkerResources, Workers, parse_ray_options
from rcsd.cli.grading import grade_file
from rcsd.cli.table import Table
from rcsd.cli.terminal import bars, console, errors, labelled, quieten_libraries, say
from rcsd.cli.training import Overrides, Resume, RunFile, train_and_report
from rcsd.errors import ConfigError, OtherRankError, UserError
from rcsd.io import FAULTS, reason
from rcsd.redact import guard_libraries

if TYPE_CHECKING:
    from rcsd.evaluation.report import Outcome

app = typer.Typer(
    help="Post-train a language model from rubrics, without a reward model or a judge in the loop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
)
app.add_typer(data.app, name="data")
app.add_typer(writer.app, name="rubrics")
app.add_typer(judge.app, name="judge")
app.command("eval")(eval.evaluate)
app.command("rejudge")(eval.rejudge)
app.command("tasks")(eval.tasks)
app.command("grade")(grade_file)
app.command("compare")(compare.compare)
app.command("paper-table")(paper_table.paper_table)
app.command("plan")(planning.plan)
app.command("probe")(probing.probe)


@app.command()
def quickstart(
    out: Annotated[Path | None, typer.Option(help="Run folder; must not exist.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn.")] = 0,
    model: Annotated[str, typer.Option(help="micro or smollm2; see 'rcsd models'.")] = "micro",
    quick: Annotated[bool, typer.Option("--quick", help="A minute, for a first look.")] = False,
) -> None:
    """Train on the rubric world, with a placebo arm, and write a report."""
    from rcsd.recipes.quickstart import run  # noqa: PLC0415 (torch takes seconds)

    quieten_libraries()
    with bars() as shown:
        outcome = run(out, seed, model, quick, shown)
    _show(outcome)


@app.command()
def pipeline(
    file: Annotated[Path, typer.Argument(help="YAML file of the pipeline.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as writer.steps=20")
    ] = None,
) -> None:
    """Train a rubric writer, write rubrics, train reasoners with them, evaluate, report.

    Steps whose product is in the folder already are not done again.
    """
    from rcsd.recipes.pipeline_config import load_pipeline  # noqa: PLC0415

    settings = load_pipeline(file, overrides or [])
    from rcsd.recipes.pipeline_report import run_and_report  # noqa: PLC0415 (torch takes seconds)

    quieten_libraries()
    with bars() as shown:
        outcome = run_and_report(settings, file.stem, settings.model.path, {}, shown)
    _show(outcome)


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="YAML file of the study.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as budget.tokens=20000")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes, for a first look.")] = False,
) -> None:
    """Train every method with every kind of rubrics and seed on one budget, and compare them.

    What is in the folder already is not done again, so a study that was cut off goes on.
    """
    from rcsd.recipes.study_config import load_study  # noqa: PLC0415

    settings = load_study(file, overrides or [])
    from rcsd.recipes.study import quick as quickened  # noqa: PLC0415
    from rcsd.recipes.study_report import run_and_report  # noqa: PLC0415 (torch takes seconds)

    quieten_libraries()
    with bars() as shown:
        outcome = run_and_report(quickened(settings) if quick else settings, file.stem, shown)
    _show(outcome)


def _show(outcome: "Outcome") -> None:
    table = outcome.table
    console.print(Table(table.columns, table.rows, table.title))
    for sentence in outcome.findings:
        console.print(f"- {sentence}")
    say(f"\nReport: {outcome.report}")


@app.command()
def train(  # noqa: PLR0913 (a command line)
    file: RunFile,
    overrides: Overrides = None,
    resume: Resume = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Number of processes of this machine, one per device.")
    ] = None,
    ray: Ray = None,
    workers: Workers = None,
    worker_resources: WorkerResources = None,
    restarts: Restarts = 3,
) -> None:
    """Train a policy; the run folder holds its record, metrics, checkpoints, model and report."""
    from rcsd.config import load_config  # noqa: PLC0415

    options = parse_ray_options(ray, workers, worker_resources, restarts)
    settings = load_config(file, overrides or [])
    if options is not None:
        if processes is not None:
            raise ConfigError("--processes is for this machine: on a cluster take --workers")
        from rcsd.training.ray import train_on  # noqa: PLC0415 (torch takes seconds)

        train_and_report(settings, resume, functools.partial(train_on, options))
        return
    if processes is None:
        train_and_report(settings, resume)
        return
    from rcsd.training.launch import launch  # noqa: PLC0415 (torch takes seconds)

    arguments = [str(file), *(overrides or []), *(["--resume"] if resume else [])]
    if code := launch(processes, ["train", *arguments]):
        sys.exit(code)


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a finished LoRA run.")],
    out: Annotated[Path, typer.Option(help="Folder of the merged model; must not exist.")],
) -> None:
    """Merge a run's adapter into its base: a plain model folder."""
    from rcsd.models.save import export_merged, model_of_run  # noqa: PLC0415 (torch takes seconds)
    from rcsd.runs import RunFolder  # noqa: PLC0415

    folder = RunFolder(run_folder)
    folder.check_resumable()
    quieten_libraries()
    export_merged(model_of_run(folder), folder.model, out)
    say(f"Model: {out}")


@app.command()
def models(
    fetch: Annotated[str | None, typer.Option(help="Bring a model here, such as smollm2.")] = None,
) -> None:
    """List the models that can be had by name, or fetch one."""
    from rcsd.models.hub import ENTRIES, fetch_model  # noqa: PLC0415

    if fetch is not None:
        quieten_libraries()
        say(f"Model: {fetch_model(fetch)}")
        return
    rows = []
    for entry in ENTRIES.values():
        folder = str(entry.folder) if entry.is_here else f"no: rcsd models --fetch {entry.name}"
        rows.append((f"builtin:{entry.name}", entry.description, folder))
    console.print(Table(("model.path", "description", "on this machine"), rows, num_names=3))


def main() -> None:
    """Run the command line; an error that the user can mend ends with exit code 2."""
    guard_libraries()
    try:
        app()
    except OtherRankError:
        sys.exit(2)  # the process that failed says why
    except UserError as error:
        _end(str(error))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FAULTS:
            _end(f"{error.filename or 'the disk'}: {reason(error)}")
        # As Python would, but a message may quote data.
        errors.print(traceback.format_exc(), soft_wrap=True)
        sys.exit(1)


def _end(message: str) -> NoReturn:
    errors.print(labelled("error", message, "bold red"), soft_wrap=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
