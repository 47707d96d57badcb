"""``rcsd rubrics``: check, score, write."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcsd.cli.data import print_report
from rcsd.cli.options import Force, Json, Rows, Strict
from rcsd.cli.terminal import Table, bars, console, say
from rcsd.config import JsonlData
from rcsd.config.base import override, parse
from rcsd.evaluation.text import interval_text
from rcsd.io import cache_folder, check_new, check_writable, make_folder, write_json

if TYPE_CHECKING:
    from rcsd.evaluation.statistics import Interval
    from rcsd.recipes.write_rubrics import WritingReport

app = typer.Typer(help="Write, check and measure rubrics.", no_args_is_help=True)


@app.command()
def check(file: Rows, json: Json = None, strict: Strict = False) -> None:
    """Check rubrics for likely mistakes. Exit code 1: errors."""
    from rcsd.data.check import check_rubrics

    if json is not None:
        check_writable(json, [file])
    print_report(check_rubrics(file), json, strict)


_MEASURES = {
    "precision": "criteria: precision, by points",
    "recall": "criteria: recall, by points",
    "f1": "criteria: F1",
    "verdict_agreement": "answers: order as gold's",
}


@app.command()
def score(
    written: Annotated[Path, typer.Argument(help="JSONL file of written rubrics.")],
    gold: Annotated[Path, typer.Option(help="JSONL file of gold rubrics, by the same ids.")],
    completions: Annotated[
        list[Path] | None, typer.Option(help="JSONL file of id and text, to be ordered by rubrics.")
    ] = None,
    json: Json = None,
) -> None:
    """Measure written rubrics against gold: criteria, points, and the order of answers."""
    from dataclasses import asdict

    from rcsd.data.load import read_rubrics
    from rcsd.data.rows import read_jsonl
    from rcsd.data.written import read_completions, written_rubrics
    from rcsd.evaluation.rubric_agreement import measure_agreement

    if json is not None:
        check_writable(json, [gold, written, *(completions or [])])
    examples = read_jsonl(gold)
    texts = read_completions(completions or [], examples)
    file = written_rubrics(examples, written)
    if file.num_others:
        console.print(f"{written}: rows that are not gold's: {file.num_others}")
    rubrics = read_rubrics(examples, file.rubrics)
    agreement = measure_agreement(examples, rubrics, texts)
    rows = []
    for name, words in _MEASURES.items():
        interval: Interval | None = getattr(agreement, name)
        rows.append((words, interval_text(interval), "" if interval is None else str(interval.n)))
    console.print(Table(("measure", "against gold", "rows"), rows))
    facts = [
        f"{agreement.num_pairs} of {agreement.num_written} written criteria match one of gold's"
    ]
    if agreement.verdict_agreement is not None:
        facts.append(
            f"{agreement.num_unscored} written criteria have no verdict, and order nothing"
        )
        facts.append(f"{agreement.num_unordered} rows with answers could not be ordered")
    console.print(f"{'; '.join(facts)}.")
    if json is not None:
        write_json(json, asdict(agreement))


@app.command()
def write(
    model: Annotated[str, typer.Option(help="Run folder, model folder, hub id or builtin:NAME.")],
    data: Annotated[Path, typer.Option(help="JSONL file of questions.")],
    out: Annotated[Path, typer.Option(help="JSONL file of the same rows with written rubrics.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings, such as writing.view=answer.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of written rubrics; default: among the caches.")
    ] = None,
    force: Force = False,
) -> None:
    """Write a rubric for every row; a job that was stopped continues.

    Every rubric is valid: the decoding is held to a grammar. The writer sees what a run trained it
    with, else the question alone. Several processes share the work by parts of the file and one
    --cache; then this command on the complete file writes nothing anew. FILE.written.json is beside
    the file of --out. The keys are those of the sections writing, model and engine.
    """
    from rcsd.data.load import require_fields
    from rcsd.data.rows import read_jsonl
    from rcsd.data.views import view_fields
    from rcsd.recipes import write_rubrics as recipe
    from rcsd.recipes.pipeline_config import WriterSettings

    if not force:
        check_new(out, "choose another name, or overwrite it with --force")
    rows = read_jsonl(data)
    tree = {"model": {"path": model}, "writing": recipe.trained_to_write(model)}
    override(tree, overrides or [])
    settings = parse(WriterSettings, tree, "options")
    require_fields(JsonlData(path=data), rows, view_fields(settings.writing.view))
    make_folder(out)
    check_writable(out, [data])
    with bars() as progress:
        written, report = recipe.write_with(
            settings,
            rows,
            cache or cache_folder() / "rubrics",
            lambda done, total: progress("write rubrics", done, total, ""),
        )
    _print_counts(report)
    recipe.write_rows_and_report(written, report, out)
    say(f"Rubrics: {out}, by {report.writer}")


def _print_counts(report: "WritingReport") -> None:
    counts = {
        "rows": report.num_rows,
        "with a rubric": report.num_written,
        "of these found in the cache": report.num_cached,
        "cut off at the token limit, whole criteria kept": report.num_cut,
        "drawn more than once": report.num_redrawn,
        "held to one short criterion": report.num_held_short,
        "left out, since the prompt does not fit": len(report.dropped),
    }
    for what, count in counts.items():
        console.print(f"{count:>8} {what}")
