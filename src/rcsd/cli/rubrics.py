"""``rcsd rubrics``: the group, and its commands that check and measure."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rcsd.cli.terminal import console

if TYPE_CHECKING:
    from rcsd.evaluation.rubric_agreement import Agreement

app = typer.Typer(help="Write, check and measure rubrics.", no_args_is_help=True)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSONL file whose rows hold rubrics.")],
    json: Annotated[Path | None, typer.Option(help="Write every finding to this file.")] = None,
    min_criteria: Annotated[int, typer.Option(min=1, help="Fewer are a warning.")] = 2,
    max_criteria: Annotated[int, typer.Option(min=1, help="More are a warning.")] = 20,
    fail_on: Annotated[
        Literal["error", "warning", "never"], typer.Option(help="Exit with code 1 from here on.")
    ] = "error",
    every: Annotated[bool, typer.Option("--all", help="Show every finding.")] = False,
) -> None:
    """Look for what can be wrong with rubrics; exit code 1 if something is."""
    from rcsd.cli.rubric_tables import every_finding, findings_by_rule  # noqa: PLC0415
    from rcsd.data.lint import Limits, lint  # noqa: PLC0415
    from rcsd.data.reading import read_rows  # noqa: PLC0415
    from rcsd.io import check_writable, write_json  # noqa: PLC0415

    if json is not None:
        check_writable(json, [file])
    report = lint(read_rows(file), Limits(min_criteria, max_criteria))
    if every:
        console.print(every_finding(report.findings))
    console.print(findings_by_rule(report))
    rate = "" if report.parse_rate is None else f" ({report.parse_rate:.1%})"
    num_rubrics = report.num_readable + report.num_malformed
    console.print(
        f"{report.num_rows} rows; {report.num_without_rubric} without a rubric; of {num_rubrics} "
        f"rubrics {report.num_readable} can be read{rate}; {report.num_criteria} criteria.",
        highlight=False,
    )
    if json is not None:
        write_json(json, {"file": str(file), **report.json()})
    if report.fails(fail_on):
        raise typer.Exit(1)


@app.command()
def score(  # noqa: PLR0913 (each is an option)
    written: Annotated[Path, typer.Argument(help="JSONL file of written rubrics.")],
    gold: Annotated[Path, typer.Option(help="JSONL file of gold rubrics, by the same ids.")],
    before: Annotated[
        Path | None, typer.Option(help="Rubrics to compare with, row by row.")
    ] = None,
    completions: Annotated[
        list[Path] | None,
        typer.Option(help="JSONL rows of id and text, that both rubrics put into an order."),
    ] = None,
    match: Annotated[
        Literal["checks", "text"] | None,
        typer.Option(help="How criteria match; default: checks in the rubric world, else text."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least similarity of a match by text; default 0.55.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="A row without a rubric counts 0.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write all rows to this file.")] = None,
) -> None:
    """Measure written rubrics against gold: criteria, points, and the order of answers."""
    from dataclasses import asdict  # noqa: PLC0415

    from rcsd.cli.rubric_tables import agreement_facts, agreement_table  # noqa: PLC0415
    from rcsd.data.load import read_rubrics  # noqa: PLC0415
    from rcsd.data.reading import read_completions, written_rubrics  # noqa: PLC0415
    from rcsd.data.rows import read_jsonl  # noqa: PLC0415
    from rcsd.evaluation.rubric_agreement import compare_agreements, measure_agreement  # noqa: PLC0415
    from rcsd.evaluation.rubric_matchers import build_matcher  # noqa: PLC0415
    from rcsd.graders.code import CodeJudge  # noqa: PLC0415
    from rcsd.io import check_writable, write_json  # noqa: PLC0415

    if json is not None:
        read = [written, gold, *([] if before is None else [before]), *(completions or [])]
        check_writable(json, read)
    examples = read_jsonl(gold)
    matcher = build_matcher(examples, match, threshold)
    texts = read_completions(completions or [], examples)

    def measured(path: Path) -> "Agreement":
        found = written_rubrics(examples, path, allow_missing)
        for number, what in ((found.num_malformed, "malformed"), (found.num_others, "not gold's")):
            if number:
                console.print(f"{path}: rows that are {what}: {number}")
        rubrics = read_rubrics(examples, found.rubrics)
        return measure_agreement(
            examples, rubrics, matcher, texts, CodeJudge(), allow_missing, seed
        )

    after, earlier = measured(written), None if before is None else measured(before)
    difference = None if earlier is None else compare_agreements(after, earlier, seed)
    console.print(agreement_table(after, earlier, difference))
    for name, part in (("before", earlier), ("after", after)):
        if part is not None:
            start = "" if earlier is None else f"{name}: "
            console.print(start + agreement_facts(part))
    if json is not None:
        parts = {"written": after, "before": earlier, "difference": difference}
        found = {name: None if part is None else asdict(part) for name, part in parts.items()}
        write_json(json, {"matcher": repr(matcher), **found})
