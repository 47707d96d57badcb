"""``rcsd rubrics``: check, score, train, write."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rcsd.cli.run import Overrides, Resume, RunFile, train_and_report
from rcsd.cli.table import Table
from rcsd.cli.terminal import bars, console, quieten_libraries, say, styled
from rcsd.evaluation.text import interval_text

if TYPE_CHECKING:
    from rcsd.data.check import Finding, Report
    from rcsd.evaluation.rubric_agreement import Agreement
    from rcsd.evaluation.statistics import Interval
    from rcsd.recipes.write_rubrics import WritingReport

app = typer.Typer(help="Write, check and measure rubrics.", no_args_is_help=True)
_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


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
    from rcsd.data.check import check_rubrics  # noqa: PLC0415
    from rcsd.data.lint_rules import Limits  # noqa: PLC0415
    from rcsd.io import check_writable, write_json  # noqa: PLC0415

    if json is not None:
        check_writable(json, [file])
    report = check_rubrics(file, Limits(min_criteria, max_criteria))
    if every:
        console.print(every_finding(report.findings))
    console.print(_findings_by_rule(report))
    console.print(
        f"{report.num_rows} rows, {report.num_examples} well-formed, "
        f"{report.num_with['rubric']} with a rubric; {report.num_criteria} criteria.",
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
    console.print(_agreement_table(after, earlier, difference))
    for name, part in (("before", earlier), ("after", after)):
        if part is not None:
            start = "" if earlier is None else f"{name}: "
            console.print(start + _agreement_facts(part))
    if json is not None:
        content = {
            "matcher": repr(matcher),
            "written": asdict(after),
            "before": earlier and asdict(earlier),
            "difference": difference and {n: of and asdict(of) for n, of in difference.items()},
        }
        write_json(json, content)


@app.command()
def train(file: RunFile, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train a rubric writer (stage 1): as 'rcsd train', with views.writes=rubric set."""
    from rcsd.config import parse_config  # noqa: PLC0415
    from rcsd.config.base import read_tree  # noqa: PLC0415
    from rcsd.errors import ConfigError  # noqa: PLC0415

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
def write(  # noqa: PLR0913 (a command line)
    model: Annotated[str, typer.Option(help="Run folder, model folder, hub id or builtin:NAME.")],
    data: Annotated[Path, typer.Option(help="JSONL file of questions.")],
    out: Annotated[Path, typer.Option(help="JSONL file of the same rows with written rubrics.")],
    view: Annotated[
        Literal["none", "answer"] | None,
        typer.Option(
            help="Text that the writer sees beside the question; default: the view that a run "
            "trained it with, else none."
        ),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(help="Folder of other templates; default: the run's, else the packaged ones."),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Temperature; default: greedy.")] = None,
    top_p: Annotated[float, typer.Option(help="Nucleus; 1 is all.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="Longest rubric, in tokens.")] = 1024,
    max_prompt_tokens: Annotated[
        int, typer.Option(help="Longest prompt, in tokens; longer ones are left out.")
    ] = 4096,
    max_criteria: Annotated[int, typer.Option(help="Most criteria of a rubric.")] = 12,
    max_characters: Annotated[int, typer.Option(help="Longest criterion, in characters.")] = 300,
    seed: Annotated[int, typer.Option(help="Random seed of sampling.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of rows sampled together.")] = 32,
    engine: Annotated[
        Literal["local", "hf", "vllm"] | None,
        typer.Option(help="Engine; default: local, or hf for models that it cannot run."),
    ] = None,
    shard: Annotated[
        str, typer.Option(help="This process's share of the rows, such as 2/4.")
    ] = "1/1",
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder of written rubrics; default: $RCSD_CACHE/rubrics, else "
            "~/.cache/rcsd/rubrics."
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="Type of the weights; ignored for a run."),
    ] = "float32",
    revision: Annotated[str | None, typer.Option(help="Revision of a hub id.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --out.")] = False,
) -> None:
    """Write a rubric for every row; a job that was stopped continues.

    Every rubric is valid: the decoding is held to a grammar. Several processes share the work by
    --shard and a common --cache (of machines without one, copy the files together); the last one
    writes the file of --out, and beside it FILE.written.json.
    """
    from rcsd.config import Model, engine_by_type  # noqa: PLC0415
    from rcsd.config.base import parse  # noqa: PLC0415
    from rcsd.data.rows import read_jsonl  # noqa: PLC0415
    from rcsd.engines.build import chosen_engine  # noqa: PLC0415 (torch takes seconds)
    from rcsd.io import cache_folder, check_new, check_writable, make_folder  # noqa: PLC0415
    from rcsd.models.save import load_trained  # noqa: PLC0415
    from rcsd.recipes import write_rubrics as recipe  # noqa: PLC0415
    from rcsd.recipes.pipeline_config import Writing  # noqa: PLC0415

    if not force:
        check_new(out, "choose another name, or overwrite it with --force")
    part, rows = recipe.parse_shard(shard), read_jsonl(data)
    chosen = {"view": view, "templates": templates}
    options = {
        **recipe.trained_to_write(model),
        **{name: value for name, value in chosen.items() if value is not None},
        "temperature": temperature,
        "top_p": top_p,
        "max_tokens": max_tokens,
        "max_prompt_tokens": max_prompt_tokens,
        "grammar": {"max_criteria": max_criteria, "max_characters": max_characters},
        "seed": seed,
    }
    writing = parse(Writing, options, "options")
    make_folder(out)
    check_writable(out, [data])
    quieten_libraries()
    with bars() as progress:
        policy, name = load_trained(
            parse(Model, {"path": model, "dtype": dtype, "revision": revision}, "options")
        )
        longest = max_prompt_tokens + max_tokens
        section = None if engine is None else engine_by_type(engine, batch_size)
        written, report = recipe.write_rubrics(
            rows,
            writing,
            policy,
            chosen_engine(section, policy, batch_size, longest),
            cache or cache_folder() / "rubrics",
            name,
            part,
            batch_size,
            lambda done, total: progress("write rubrics", done, total, ""),
        )
    _print_counts(report)
    if report.num_missing:
        console.print("The last shard to finish, or this command without --shard, writes the file.")
        return
    recipe.write_rows_and_report(written, report, out)
    say(f"Rubrics: {out}")


# Tables


def _findings_by_rule(report: "Report") -> Table:
    """Number of findings of each rule for rubrics, with the first finding as an example."""
    from rcsd.data.lint_rules import RULES  # noqa: PLC0415

    rows = []
    for name, rule in RULES.items():
        findings = report.by_rule().get(name, [])
        severity = styled(rule.severity, _COLOURS[rule.severity] if findings else "dim")
        num_rows = len({finding.line for finding in findings} - {None})
        example = f"{_place(findings[0])}: {findings[0].message}" if findings else ""
        rows.append((name, severity, str(len(findings)), str(num_rows), example))
    return Table(("rule", "severity", "findings", "rows", "for example"), rows, num_names=5)


def every_finding(findings: "Sequence[Finding]") -> Table:
    """One line a finding."""
    rows = [
        (
            "" if finding.line is None else str(finding.line),
            _place(finding),
            styled(finding.severity, _COLOURS[finding.severity]),
            finding.rule,
            finding.message,
        )
        for finding in findings
    ]
    return Table(("line", "where", "severity", "rule", "message"), rows, num_names=5)


def _place(finding: "Finding") -> str:
    """Id and field, such as ``'train-0' rubric[2]``, or the file."""
    id = "the file" if finding.id is None else repr(finding.id)
    return f"{id} {finding.field or ''}".strip()


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


def _agreement_facts(of: "Agreement") -> str:
    """Counts of matched, missing and unscored criteria, for the line below the table."""
    facts = [
        f"{of.num_rows - len(of.missing)} of {of.num_rows} gold rows have a rubric",
        f"{of.num_pairs} of {of.num_written} written criteria match one of gold's",
    ]
    if of.verdict_agreement is not None:
        facts.append(f"{of.num_unscored} written criteria have no verdict, and order nothing")
        facts.append(f"{of.num_unordered} rows with answers could not be ordered")
    return "; ".join(facts) + "."


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
