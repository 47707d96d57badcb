"""``rcsd rubrics``: check, score, train, write."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcsd.cli.data import COLOURS, place
from rcsd.cli.options import Force, Json, Overrides, Resume, Rows, RunFile, Strict
from rcsd.cli.run import train_and_report
from rcsd.cli.terminal import Table, bars, console, say, styled
from rcsd.config import parse_config
from rcsd.config.base import override, parse, read_tree
from rcsd.errors import ConfigError, RunError
from rcsd.evaluation.text import interval_text
from rcsd.io import cache_folder, check_writable, make_folder, write_json

if TYPE_CHECKING:
    from rcsd.data.check import Report
    from rcsd.evaluation.rubric_agreement import Agreement
    from rcsd.evaluation.statistics import Interval
    from rcsd.recipes.write_rubrics import WritingReport

app = typer.Typer(help="Write, check and measure rubrics.", no_args_is_help=True)


@app.command()
def check(file: Rows, json: Json = None, strict: Strict = False) -> None:
    """Check rubrics for likely mistakes. Exit code 1: errors."""
    from rcsd.data.check import check_rubrics

    if json is not None:
        check_writable(json, [file])
    report = check_rubrics(file)
    console.print(_findings_by_rule(report))
    console.print(
        f"{report.num_rows} rows, {report.num_examples} well-formed, "
        f"{report.num_with['rubric']} with a rubric; {report.num_criteria} criteria."
    )
    if json is not None:
        write_json(json, report.json())
    if report.fails("warning" if strict else "error"):
        raise typer.Exit(1)


def _findings_by_rule(report: "Report") -> Table:
    """Number of findings of each rule for rubrics, with the first finding as an example."""
    from rcsd.data.lint_rules import RULES

    rows = []
    for name, rule in RULES.items():
        findings = report.by_rule().get(name, [])
        severity = styled(rule.severity, COLOURS[rule.severity] if findings else "dim")
        num_rows = len({finding.line for finding in findings} - {None})
        example = f"{place(findings[0])}: {findings[0].message}" if findings else ""
        rows.append((name, severity, str(len(findings)), str(num_rows), example))
    return Table(("rule", "severity", "findings", "rows", "for example"), rows, num_names=5)


@app.command()
def score(
    written: Annotated[Path, typer.Argument(help="JSONL file of written rubrics.")],
    gold: Annotated[Path, typer.Option(help="JSONL file of gold rubrics, by the same ids.")],
    before: Annotated[
        Path | None, typer.Option(help="Rubrics to compare with, row by row.")
    ] = None,
    completions: Annotated[
        list[Path] | None,
        typer.Option(help="JSONL file of id and text, whose order under both rubrics is compared."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="A row without a rubric counts 0.")
    ] = False,
    json: Json = None,
) -> None:
    """Measure written rubrics against gold: criteria, points, and the order of answers."""
    from dataclasses import asdict

    from rcsd.data.load import read_rubrics
    from rcsd.data.rows import read_jsonl
    from rcsd.data.written import read_completions, written_rubrics
    from rcsd.evaluation.rubric_agreement import compare_agreements, measure_agreement
    from rcsd.evaluation.rubric_matchers import build_matcher
    from rcsd.graders.code import CodeJudge

    files = {"before": before, "after": written}
    paths = {name: path for name, path in files.items() if path is not None}
    if json is not None:
        check_writable(json, [gold, *paths.values(), *(completions or [])])
    examples = read_jsonl(gold)
    matcher, judge = build_matcher(examples), CodeJudge()
    texts = read_completions(completions or [], examples)
    measured: dict[str, Agreement] = {}
    for name, path in paths.items():
        file = written_rubrics(examples, path, allow_missing)
        for number, what in ((file.num_malformed, "malformed"), (file.num_others, "not gold's")):
            if number:
                console.print(f"{path}: rows that are {what}: {number}")
        rubrics = read_rubrics(examples, file.rubrics)
        measured[name] = measure_agreement(examples, rubrics, matcher, texts, judge, allow_missing)
    after, earlier = measured["after"], measured.get("before")
    difference = None if earlier is None else compare_agreements(after, earlier)
    console.print(_agreement_table(after, earlier, difference))
    for name, part in measured.items():
        console.print(_agreement_facts(part, "" if earlier is None else f"{name}: "))
    if json is not None:
        content = {
            "matcher": repr(matcher),
            "written": asdict(after),
            "before": earlier and asdict(earlier),
            "difference": difference and {n: of and asdict(of) for n, of in difference.items()},
        }
        write_json(json, content)


_MEASURES = {
    "precision": "criteria: precision, by points",
    "recall": "criteria: recall, by points",
    "f1": "criteria: F1",
    "weight_correlation": "points: rank correlation",
    "verdict_agreement": "answers: order as gold's",
}


def _agreement_table(
    after: "Agreement",
    before: "Agreement | None",
    difference: "Mapping[str, Interval | None] | None",
) -> Table:
    """Each measure with its interval; with the one before and the paired difference."""
    columns = ("measure", "against gold", "rows")
    if before is not None:
        columns = ("measure", "before", "after", "difference, paired", "rows")
    rows = []
    for name, words in _MEASURES.items():
        interval = getattr(after, name)
        cells = [interval_text(interval)]
        if before is not None:
            change = interval_text((difference or {}).get(name), "+.3f")
            cells = [interval_text(getattr(before, name)), *cells, change]
        rows.append((words, *cells, "" if interval is None else str(interval.n)))
    return Table(columns, rows)


def _agreement_facts(of: "Agreement", start: str) -> str:
    """Counts of matched, missing and unscored criteria, for the line below the table."""
    facts = [
        f"{of.num_rows - len(of.missing)} of {of.num_rows} gold rows have a rubric",
        f"{of.num_pairs} of {of.num_written} written criteria match one of gold's",
    ]
    if of.verdict_agreement is not None:
        facts.append(f"{of.num_unscored} written criteria have no verdict, and order nothing")
        facts.append(f"{of.num_unordered} rows with answers could not be ordered")
    return f"{start}{'; '.join(facts)}."


@app.command()
def train(file: RunFile, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train a rubric writer (stage 1): as 'rcsd train', with views.writes=rubric set."""
    tree = read_tree(file, overrides or [])
    views = tree.get("views") or {}
    if isinstance(views, dict):
        if views.get("writes") == "answer":
            raise ConfigError(
                f"{file}: views.writes: answer is for 'rcsd train'; leave it out, or set rubric"
            )
        tree["views"] = views | {"writes": "rubric"}
    train_and_report(parse_config(tree, str(file)), resume)


@app.command()
def write(
    model: Annotated[str, typer.Option(help="Run folder, model folder, hub id or builtin:NAME.")],
    data: Annotated[Path, typer.Option(help="JSONL file of questions.")],
    out: Annotated[Path, typer.Option(help="JSONL file of the same rows with written rubrics.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=value, such as writing.view=answer or engine.type=vllm."),
    ] = None,
    shard: Annotated[
        str, typer.Option(help="This process's share of the rows, such as 2/4.")
    ] = "1/1",
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of written rubrics; default: rubrics in the folder of caches."),
    ] = None,
    force: Force = False,
) -> None:
    """Write a rubric for every row; a job that was stopped continues.

    Every rubric is valid: the decoding is held to a grammar. The writer sees what a run trained it
    with, else the question alone. Several processes share the work by --shard and a common --cache
    (of machines without one, copy the files together); the last one writes the file of --out, and
    beside it FILE.written.json. The keys are those of the sections writing, model and engine.
    """
    from rcsd.data.rows import read_jsonl
    from rcsd.recipes import write_rubrics as recipe
    from rcsd.recipes.pipeline_config import WriterSettings

    if out.exists() and not force:
        raise RunError(f"{out} exists; choose another name, or overwrite it with --force")
    part, rows = recipe.parse_shard(shard), read_jsonl(data)
    tree = {"model": {"path": model}, "writing": recipe.trained_to_write(model)}
    override(tree, overrides or [])
    settings = parse(WriterSettings, tree, "options")
    make_folder(out)
    check_writable(out, [data])
    with bars() as progress:
        written, report = recipe.write_with(
            settings,
            rows,
            cache or cache_folder() / "rubrics",
            part,
            lambda done, total: progress("write rubrics", done, total, ""),
        )
    _print_counts(report)
    if report.num_missing:
        console.print("The last shard to finish, or this command without --shard, writes the file.")
        return
    recipe.write_rows_and_report(written, report, out)
    say(f"Rubrics: {out}")


def _print_counts(report: "WritingReport") -> None:
    counts = {
        "rows": report.num_rows,
        "with a rubric": report.num_written,
        "of these found in the cache": report.num_cached,
        "cut off at the token limit, whole criteria kept": report.num_cut,
        "drawn more than once": report.num_redrawn,
        "held to one short criterion": report.num_held_short,
        "left out, since the prompt does not fit": len(report.dropped),
        "still to be written by other shards": report.num_missing,
    }
    for what, count in counts.items():
        console.print(f"{count:>8} {what}")
