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
    json: Annotated[Path | None, typer.Option(help="JSON file to write every finding to.")] = None,
    min_criteria: Annotated[
        int, typer.Option(min=1, help="Number of criteria below which to warn.")
    ] = 2,
    max_criteria: Annotated[
        int, typer.Option(min=1, help="Number of criteria above which to warn.")
    ] = 20,
    fail_on: Annotated[
        Literal["error", "warning", "never"],
        typer.Option(help="Severity from which to exit with code 1."),
    ] = "error",
    every: Annotated[bool, typer.Option("--all", help="Show every finding.")] = False,
) -> None:
    """Check rubrics for likely mistakes. Exit code 1: errors."""
    from rcsd.cli.rubric_tables import every_finding, findings_by_rule  # noqa: PLC0415
    from rcsd.data.check import check_rubrics  # noqa: PLC0415
    from rcsd.data.lint_rules import Limits  # noqa: PLC0415
    from rcsd.io import check_writable, write_json  # noqa: PLC0415

    if json is not None:
        check_writable(json, [file])
    report = check_rubrics(file, Limits(min_criteria, max_criteria))
    if every:
        console.print(every_finding(report.findings))
    console.print(findings_by_rule(report))
    readable = report.rubrics["readable"]
    rate = "" if report.parse_rate is None else f" ({report.parse_rate:.1%})"
    console.print(
        f"{report.num_rows} rows; {report.rubrics['none']} without a rubric; of "
        f"{readable + report.rubrics['malformed']} rubrics {readable} can be read{rate}; "
        f"{report.num_criteria} criteria.",
        highlight=False,
    )
    if json is not None:
        write_json(json, report.json())
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
        typer.Option(help="JSONL file of id and text, whose order under both rubrics is compared."),
    ] = None,
    match: Annotated[
        Literal["checks", "text"] | None,
        typer.Option(
            help="Matching of criteria; default: checks where criteria can be read, else text."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least similarity of a match by text; default 0.55.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="A row without a rubric counts 0.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Random seed of the intervals.")] = 0,
    json: Annotated[Path | None, typer.Option(help="JSON file to write all rows to.")] = None,
) -> None:
    """Measure written rubrics against gold: criteria, points, and the order of answers."""
    from dataclasses import asdict  # noqa: PLC0415

    from rcsd.cli.rubric_tables import agreement_facts, agreement_table  # noqa: PLC0415
    from rcsd.data.load import read_rubrics  # noqa: PLC0415
    from rcsd.data.rows import read_jsonl  # noqa: PLC0415
    from rcsd.data.written import read_completions, written_rubrics  # noqa: PLC0415
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
        file = written_rubrics(examples, path, allow_missing)
        for number, what in ((file.num_malformed, "malformed"), (file.num_others, "not gold's")):
            if number:
                console.print(f"{path}: rows that are {what}: {number}")
        rubrics = read_rubrics(examples, file.rubrics)
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
        content = {
            "matcher": repr(matcher),
            "written": asdict(after),
            "before": earlier and asdict(earlier),
            "difference": difference and {n: of and asdict(of) for n, of in difference.items()},
        }
        write_json(json, content)
