"""``rcsd data``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.panel import Panel

from rcsd.cli.table import Table
from rcsd.cli.terminal import console, labelled, say, styled
from rcsd.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rcsd.data.check import Report
    from rcsd.data.importers import ImportReport
    from rcsd.types import Example

app = typer.Typer(help="Import, make, check and show data.", no_args_is_help=True)

Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]


@app.command("import")
def import_(  # noqa: PLR0913 (each is an option of the command)
    source: Annotated[str, typer.Argument(help="File, folder, or hub id owner/name.")],
    out: Annotated[Path, typer.Option(help="JSONL file to write.")],
    format: Annotated[
        Literal["rar", "rubrichub", "healthbench", "researchqa", "openrubrics", "jsonl"],
        typer.Option(help="Format of the source."),
    ],
    turns: Annotated[
        Literal["single", "joined"],
        typer.Option(help="Prompts of several turns: single refuses, joined joins them."),
    ] = "single",
    split: Annotated[str, typer.Option(help="Split of a data set.")] = "train",
    config: Annotated[str | None, typer.Option(help="Configuration of a data set.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    files: Annotated[str | None, typer.Option(help="Pattern, such as 'RuRL/*.parquet'.")] = None,
    force: Force = False,
) -> None:
    """Turn the rows of another data set into ours; nothing is left out without being listed."""
    from dataclasses import asdict  # noqa: PLC0415

    from rcsd.data.importers import Options, import_rows  # noqa: PLC0415
    from rcsd.data.rows import write_jsonl  # noqa: PLC0415
    from rcsd.data.sources import Hub  # noqa: PLC0415
    from rcsd.io import write_json  # noqa: PLC0415

    _check_new(out, force, [Path(source)])
    listing = out.with_name(out.name + ".import.json")
    _check_new(listing, force, [Path(source)])
    options = Options(turns)
    hub = Hub(split, config, revision, files)
    examples, report = import_rows(source, format, options, hub)
    write_jsonl(examples, out)
    write_json(listing, asdict(report))
    console.print(_import_table(report))
    for name, path in (("Rows", out), ("Report, row by row", listing)):
        say(f"{name}: {path}")


def _check_new(path: Path, force: bool, read: Sequence[Path] = ()) -> None:
    """Refuse a path that cannot be written to, or an existing file that would be lost."""
    from rcsd.io import check_new, check_writable  # noqa: PLC0415

    check_writable(path, read)
    if not force:
        check_new(path, "choose another name, or overwrite it with --force")


def _import_table(report: "ImportReport") -> Table:
    rows = [("rows read", str(report.num_rows)), ("examples", str(report.num_examples))]
    for kind, counts in (
        ("rule", report.counts),
        ("criterion left out", report.omissions),
        ("row refused", report.refusals),
        ("field not read, rows with it", report.unread_fields),
    ):
        ordered = sorted(counts.items(), key=lambda item: -item[1])
        rows += [(f"{kind}: {name}", str(count)) for name, count in ordered]
    return Table(("what", "number"), rows, f"{report.source} as {report.format}")


@app.command()
def world(
    out: Annotated[Path, typer.Option(help="JSONL file to write.")],
    num: Annotated[int, typer.Option(help="Number of problems.", min=1)] = 1000,
    split: Annotated[
        Literal["train", "new_numbers", "new_templates"],
        typer.Option(help="Split of the world."),
    ] = "train",
    seed: Annotated[int, typer.Option(help="Random seed of the problems.")] = 0,
    force: Force = False,
) -> None:
    """Write problems of the rubric world, with gold rubrics whose criteria carry checks."""
    from rcsd.config import WorldData  # noqa: PLC0415
    from rcsd.data.load import load_examples  # noqa: PLC0415
    from rcsd.data.rows import write_jsonl  # noqa: PLC0415

    _check_new(out, force)
    section = WorldData(split=split, num_examples=num, seed=seed)
    write_jsonl(load_examples(section)[0], out)
    say(f"Rows: {out}")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSONL file of rows.")],
    against: Annotated[list[Path] | None, typer.Option(help="Test file; may be repeated.")] = None,
    near: Annotated[float, typer.Option(help="Jaccard similarity of near-duplicates.")] = 0.8,
    json: Annotated[Path | None, typer.Option(help="JSON file to write all findings to.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
    num: Annotated[int, typer.Option(help="Number of findings to show.", min=0)] = 40,
) -> None:
    """Check rows: schema, duplicates, leaks, empty fields. Exit code 1: errors."""
    from rcsd.data.check import check_file  # noqa: PLC0415
    from rcsd.io import check_writable, write_json  # noqa: PLC0415

    if json is not None:
        check_writable(json, [file, *(against or [])])
    if not 0 < near <= 1:
        raise ConfigError(f"--near {near:g}: expected a number above 0, up to 1")
    report = check_file(file, against or [], near)
    _print_report(report, num)
    if json is not None:
        write_json(json, report.json())
        say(f"All findings: {json}")
    if report.fails("warning" if strict else "error"):
        raise typer.Exit(1)


def _print_report(report: "Report", num: int) -> None:
    from rcsd.cli.rubrics import every_finding  # noqa: PLC0415

    has = ", ".join(f"{count} with {name}" for name, count in report.num_with.items())
    console.print(f"{report.num_rows} rows, {report.num_examples} well-formed ({has})")
    if report.findings:
        console.print(every_finding(report.findings[:num]))
    if len(report.findings) > num:
        left = len(report.findings) - num
        console.print(f"{left} more findings; --json FILE or --num shows them")
    console.print(f"{report.count('error')} errors, {report.count('warning')} warnings")


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="JSONL file of rows.")],
    id: Annotated[str | None, typer.Option(help="Id of the row to show.")] = None,
    num: Annotated[int, typer.Option(help="Number of rows to show.", min=1)] = 3,
) -> None:
    """Show rows: question, reference answer, solution, rubric with signed points, tags."""
    from rcsd.data.rows import read_jsonl  # noqa: PLC0415

    examples = read_jsonl(file)
    if id is not None:
        examples = [example for example in examples if example.id == id]
        if not examples:
            raise DataError(f"no row has the id {id!r}", file, field="id")
    for example in examples[:num]:
        _print_example(example)


def _print_example(example: "Example") -> None:
    console.print(Panel(example.question, title=styled(example.id, ""), title_align="left"))
    texts = {"Reference answer": example.reference_answer, "Solution": example.solution}
    for name, text in texts.items():
        if text is not None:
            console.print(labelled(name, text), soft_wrap=True)
    if example.rubric is not None:
        rows = []
        for criterion in example.rubric.criteria:
            points = styled(f"{criterion.weight:+g}", "green" if criterion.weight > 0 else "red")
            check = f" [{criterion.check['type']}]" if criterion.check else ""
            rows.append((points, criterion.text + check, criterion.title))
        console.print(Table(("points", "criterion", "title"), rows, num_names=3))
    if example.tags:
        tags = ", ".join(f"{name}={value}" for name, value in example.tags.items())
        console.print(labelled("Tags", tags), soft_wrap=True)
    console.print()
