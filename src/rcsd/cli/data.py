"""``rcsd data``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcsd.cli.options import Force, Json, Rows, Strict
from rcsd.cli.terminal import Table, console, labelled, say, styled
from rcsd.config import Model
from rcsd.config.data import Format, Pitfalls, Split, WorldData
from rcsd.errors import DataError
from rcsd.io import check_new, check_writable, write_json

if TYPE_CHECKING:
    from rcsd.data.check import Report
    from rcsd.data.importers import ImportReport
    from rcsd.types import Example

app = typer.Typer(help="Import, make, check and show data.", no_args_is_help=True)

_COLOURS = {"error": "red", "warning": "yellow"}
_MAX_FINDINGS = 40
"""Findings that a check prints; ``--json`` writes all."""


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(help="File, folder, or hub id owner/name.")],
    out: Annotated[Path, typer.Option(help="JSONL file to write.")],
    format: Annotated[
        Format, typer.Option(help="Format of the rows; jsonl: recognised by their columns.")
    ] = "jsonl",
    question: Annotated[str | None, typer.Option(help="Column of the question or chat.")] = None,
    system: Annotated[str | None, typer.Option(help="Column of the system prompt.")] = None,
    rubric: Annotated[
        str | None, typer.Option(help="Column of the criteria, such as reward_model.rubric.")
    ] = None,
    criterion: Annotated[str | None, typer.Option(help="Name of a criterion's text.")] = None,
    weight: Annotated[str | None, typer.Option(help="Name of a criterion's points.")] = None,
    answer: Annotated[str | None, typer.Option(help="Column of the reference answer.")] = None,
    solution: Annotated[str | None, typer.Option(help="Column of the worked solution.")] = None,
    id: Annotated[str | None, typer.Option(help="Column of the row's name.")] = None,
    tags: Annotated[str | None, typer.Option(help="Columns of tags, with commas.")] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="YAML file with the names of columns, as these options.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a data set or folder; default: train.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of a data set.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    files: Annotated[str | None, typer.Option(help="Pattern, such as 'RuRL/*.parquet'.")] = None,
    pitfalls: Annotated[
        Pitfalls,
        typer.Option(
            help="Sign of RaR's pitfalls: of the data unless the words clearly speak of "
            "avoidance, of the phrasing alone, or drop them."
        ),
    ] = "data",
    force: Force = False,
) -> None:
    """Turn the rows of another data set into ours; nothing is left out without being listed.

    Exit code 1: rows repeat an id, and were left out.
    """
    from rcsd.data.fields import MAX_LISTED
    from rcsd.data.importers import stream_rows
    from rcsd.data.importers.columns import Columns, read_mapping
    from rcsd.data.rows import write_jsonl
    from rcsd.data.sources import Hub, refuse_unused

    _check_new(out, force, [Path(source)])
    listing = out.with_name(f"{out.name}.import.json")
    _check_new(listing, force, [Path(source)])
    hub = Hub(split, config, revision, files)
    refuse_unused(source, hub)
    columns = Columns(
        question=question,
        system=system,
        rubric=rubric,
        criterion=criterion,
        weight=weight,
        answer=answer,
        solution=solution,
        id=id,
        tags=tuple(name.strip() for name in tags.split(",")) if tags else (),
    )
    columns = columns if mapping is None else columns.over(read_mapping(mapping))
    reports: list[ImportReport] = []

    def examples() -> "Iterator[Example]":
        reports.append((yield from stream_rows(source, format, hub, columns, pitfalls)))
        # Shown before the file has its name.
        console.print(_columns_table(reports[0], columns.model_dump(exclude_defaults=True)))

    write_jsonl(examples(), out)
    [report] = reports
    write_json(listing, asdict(report))
    console.print(_import_table(report))
    if report.dropped_rows:
        first_rows = [(str(place), reason) for place, reason in report.dropped_rows[:MAX_LISTED]]
        title = f"refused rows, {len(first_rows)} of {len(report.dropped_rows)}"
        console.print(Table(("line", "reason"), first_rows, title, num_names=2))
    say(f"Rows: {out}\nReport, row by row: {listing}")
    if report.num_repeated_ids:
        say(f"Ids stand there twice: {report.num_repeated_ids} rows were left out; see the report.")
        raise typer.Exit(1)


def _check_new(path: Path, force: bool, read: Sequence[Path] = ()) -> None:
    """Refuse a path that cannot be written to, or an existing file that would be lost."""
    check_writable(path, read)
    if not force:
        check_new(path, "choose another name, or overwrite it with --force")


def _columns_table(report: "ImportReport", given: Mapping[str, object]) -> Table:
    """Columns that a source is read by, and who named each."""
    named = "guessed by its name" if report.format == "jsonl" else f"format {report.format}"
    rows = [
        (
            part,
            ", ".join(path) if isinstance(path, tuple) else str(path),
            "given" if part in given else named,
        )
        for part, path in report.columns.items()
    ]
    return Table(("part", "column", "by"), rows, f"{report.source} is read by")


def _import_table(report: "ImportReport") -> Table:
    rows = [("rows read", str(report.num_rows)), ("examples", str(report.num_examples))]
    if report.format == "rar":
        rows.append(("signs of pitfalls by (--pitfalls)", report.pitfalls))
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
    split: Annotated[Split, typer.Option(help="Split of the world.")] = "train",
    seed: Annotated[int, typer.Option(help="Random seed of the problems.")] = 0,
    force: Force = False,
) -> None:
    """Write problems of the rubric world, with gold rubrics whose criteria carry checks."""
    from rcsd.data.load import load_examples
    from rcsd.data.rows import write_jsonl

    _check_new(out, force)
    section = WorldData(split=split, num_examples=num, seed=seed)
    write_jsonl(load_examples(section)[0], out)
    say(f"Rows: {out}")


@app.command()
def check(
    file: Rows,
    against: Annotated[list[Path] | None, typer.Option(help="Test file; may be repeated.")] = None,
    json: Json = None,
    strict: Strict = False,
    model: Annotated[
        str | None, typer.Option(help="Model whose control tokens no text may hold.")
    ] = None,
) -> None:
    """Check rows: schema, duplicates, leaks, what a run would refuse. Exit code 1: errors."""
    from rcsd.data.check import check_file, control_tokens
    from rcsd.data.json_files import import_hint

    if json is not None:
        check_writable(json, [file, *(against or [])])
    report = check_file(file, against or [])
    if model is not None:
        from rcsd.models.loading import Source
        from rcsd.models.policy import load_tokenizer

        section = Model(path=model)
        tokenizer = load_tokenizer(section, Source.from_config(section))
        token_findings = control_tokens(file, tokenizer)
        report = replace(report, findings=(*report.findings, *token_findings))
    if not report.num_examples:
        console.print(import_hint(file))
    print_report(report, json, strict)


def print_report(report: "Report", json: Path | None, strict: bool) -> None:
    """Print the first findings and how many there are, write all as JSON, and exit on errors."""
    has = ", ".join(f"{count} with {name}" for name, count in report.num_with.items())
    console.print(f"{report.num_rows} rows, {report.num_examples} well-formed ({has})")
    rows = [
        (
            "" if finding.line is None else str(finding.line),
            f"{finding.id or 'file'} {finding.field or ''}",
            styled(finding.severity, _COLOURS[finding.severity]),
            finding.rule,
            finding.message,
        )
        for finding in report.findings
    ]
    if rows:
        heads = ("line", "where", "severity", "rule", "message")
        console.print(Table(heads, rows[:_MAX_FINDINGS], num_names=5))
    if (num_left := len(rows) - _MAX_FINDINGS) > 0:
        console.print(f"{num_left} more findings; --json FILE writes them")
    console.print(f"{report.count('error')} errors, {report.count('warning')} warnings")
    if json is not None:
        write_json(json, asdict(report))
        say(f"All findings: {json}")
    if report.count("error") or (strict and report.findings):
        raise typer.Exit(1)


@app.command()
def show(
    file: Rows,
    id: Annotated[str | None, typer.Option(help="Id of the row to show.")] = None,
    num: Annotated[int, typer.Option(help="Number of rows to show.", min=1)] = 3,
) -> None:
    """Show rows: question, reference answer, solution, rubric with signed points, tags."""
    from rcsd.data.rows import read_jsonl

    examples = [example for example in read_jsonl(file) if id in (None, example.id)]
    if not examples:
        raise DataError(f"no row has the id {id!r}", file, field="id")
    for example in examples[:num]:
        tags = ", ".join(f"{name}={value}" for name, value in example.tags.items())
        turns = [(n, f"{t['role']}: {t['content']}") for n, t in enumerate(example.turns, start=1)]
        parts = {
            example.id: example.question,
            **{f"{example.id}, turn {n}": text for n, text in turns},
            "Reference answer": example.reference_answer,
            "Solution": example.solution,
            "Tags": tags or None,
        }
        for name, text in parts.items():
            if text is not None:
                console.print(labelled(name, text), soft_wrap=True)
        rows = [
            (f"{c.weight:+g}", c.text + (f" [{c.check['type']}]" if c.check else ""), c.title)
            for c in (example.rubric.criteria if example.rubric else ())
        ]
        if rows:
            console.print(Table(("points", "criterion", "title"), rows, num_names=3))
        console.print()
