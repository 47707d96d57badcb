"""``rcsd eval``, ``rejudge``, ``tasks`` and ``grade``."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rcsd.cli.judge import judging_lines
from rcsd.cli.options import JudgeFile, Overrides
from rcsd.cli.terminal import Table, bars, console, say
from rcsd.config import load_judging
from rcsd.evaluation.text import UNIT_WORDS, interval_text


def evaluate(
    target: Annotated[str, typer.Argument(help="YAML file, run folder, or any model.")],
    overrides: Overrides = None,
    tasks: Annotated[str | None, typer.Option(help="Benchmarks, such as sciq,piqa.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Problems taken of each task.")] = None,
    judge: JudgeFile = None,
) -> None:
    """Grade a model's answers to held-out sets: a row per completion, and a summary.

    A run's folder is evaluated on its section evaluation, into its folder 'eval'; a model on
    --tasks, into evals/MODEL. OUT gets completions.jsonl, summary.json, eval.json (configuration,
    versions, fingerprints) and the questions in examples/. An interrupted evaluation resumes.
    """
    from rcsd.evaluation.targets import build_eval_config

    names = tuple(name.strip() for name in tasks.split(",")) if tasks else ()
    settings = build_eval_config(target, overrides or [], names, limit, judge)
    from rcsd.evaluation.run import run_eval

    with bars() as progress:
        summary = run_eval(settings, progress)
    _print_summary(summary, settings.out)


def rejudge(
    folder: Annotated[Path, typer.Argument(help="Folder of an evaluation.")],
    judge: Annotated[Path, typer.Option(help="YAML file with a section judge.")],
    out: Annotated[Path, typer.Option(help="Folder of the new evaluation; must not exist.")],
) -> None:
    """Judge the answers of an evaluation again: by another judge, or what stayed unscored.

    Replies in the judge's cache are not requested again.
    """
    from rcsd.evaluation import record

    _print_summary(record.rejudge(folder, load_judging(judge).judge, out), out)


def tasks() -> None:
    """List the benchmarks that 'rcsd eval --tasks' takes."""
    from rcsd.data.benchmarks import TASKS

    rows = [
        (one.name, str(one.num_rows[one.split]), one.grading, one.hub_id, one.licence)
        for one in TASKS.values()
    ]
    console.print(Table(("name", "rows", "grading", "hub", "licence"), rows))


def grade(
    file: Annotated[Path, typer.Argument(help="JSONL file of answers.")],
    out: Annotated[Path, typer.Option(help="JSONL file of the grades.")],
) -> None:
    """Grade final answers against references: one JSON row an answer.

    A row has the texts completion and reference, and a kind: choice, number, math or text. It may
    have options (of a choice), unit and tolerance (of a number; relative, 0.01 if left out), and
    finished (false if the completion was cut off).

    OUT gets the rows with extracted (the final answer), verdict (true, false, or null: ungraded)
    and reason; for a number also number_right, and unit_verdict (right, absent, wrong, none asked,
    or null: unreadable), of which the verdict accepts absent. Other keys stay as they are.
    """
    from rcsd.graders.grade import grade_file

    grades = grade_file(file, out)
    counts = Counter(of.verdict for of in grades)
    console.print(f"right {counts[True]}, wrong {counts[False]}, ungraded {counts[None]}")
    units = Counter(of.unit_verdict for of in grades if of.unit_verdict)
    if units.keys() - {"none asked"}:
        numbers = Counter(of.number_right for of in grades if of.unit_verdict)
        console.print(
            f"numbers right {numbers[True]}, wrong {numbers[False]}; units right {units['right']}, "
            f"absent {units['absent']}, wrong {units['wrong']}; an absent unit passes"
        )
    reasons = Counter(of.reason.partition(":")[0] for of in grades if of.verdict is None)
    for reason, count in reasons.most_common():
        say(f"  ungraded {count}: {reason}")
    say(f"Grades: {out}")


def _print_summary(summary: Mapping[str, Any], out: Path) -> None:
    from rcsd.evaluation.record import RECORD
    from rcsd.io import read_json

    for name, of_set in summary["sets"].items():
        console.print(_summary_table(name, of_set["metrics"]))
    record = read_json(out / RECORD)
    if step := record["model"].get("step"):
        say(f"The run has not ended: this is its checkpoint of step {step}.")
    for line in source_lines(record.get("tasks", {})):
        say(line)
    lines = [line for name, of in summary["sets"].items() for line in count_lines(name, of)]
    metrics = [of for of_set in summary["sets"].values() for of in of_set["metrics"].values()]
    if any(len(of.get("by_rule", ())) > 1 for of in metrics):
        lines.append(f"accuracy, by units: {summary['units']}: {UNIT_WORDS[summary['units']]}.")
    for line in (*lines, *judging_lines(record["judging"])):
        say(line)
    if any("criteria without a verdict" in line for line in lines):
        say(f"To judge these answers again: rcsd rejudge {out} --judge FILE --out FOLDER")
    say(f"Evaluation: {out}")


def _summary_table(name: str, metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    from rcsd.evaluation.statistics import Interval

    rows = []
    for metric, of_metric in metrics.items():
        for rule, of in {"": of_metric, **of_metric.get("by_rule", {})}.items():
            interval = Interval(**of["by_question"]) if of["by_question"] else None
            counts = str(interval.n) if interval else "", str(of["num_left_out"])
            label = f"{metric} ({rule})" if rule else metric
            rows.append((label, interval_text(interval), *counts))
    columns = ("metric", "mean", "n", "left out")
    return Table(columns, rows, f"{name}: means with 95% bootstrap intervals")


def count_lines(name: str, of_set: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on what a set's estimates leave out, on lengths, and on baselines."""
    for kind in ("greedy", "sampled"):
        if (counts := of_set.get(kind)) is None:
            continue
        yield (
            f"{name}, {kind}: {counts['num_completions']} completions, "
            f"{counts['num_unscored']} unscored, {counts['num_ungraded']} ungraded, "
            f"{counts['truncated_share']:.1%} truncated, "
            f"{counts['length_tokens_mean']:.1f} tokens on average"
        )
        if counts["unscored_reasons"]:
            reasons = _counted(counts["unscored_reasons"])
            yield f"{name}, {kind}: criteria without a verdict: {reasons}"
    for metric, of in of_set["metrics"].items():
        if "bounds" in of:
            low, high = of["bounds"]
            yield f"{name}, {metric}: between {low:.3f} and {high:.3f} over all missing verdicts"
    if baselines := of_set["baseline_accuracies"]:
        yield (
            f"{name}: guessing is right in {baselines['chance']:.3f}, always "
            f"{baselines['majority_letter']} in {baselines['majority']:.3f}"
        )


def source_lines(tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Sentences on rows of benchmarks that were not taken, or left out."""
    for name, of in tasks.items():
        num_excluded = sum(of["exclusions"].values())
        num_taken = of["num_problems"] + num_excluded
        if num_taken != of["num_published"]:
            yield (
                f"{name}: {num_taken} rows, and {of['num_published']} were published: this is no "
                "result on the benchmark."
            )
        if num_excluded:
            yield (
                f"{name}: {num_excluded} of {num_taken} rows cannot be asked or graded and are "
                f"left out: {_counted(of['exclusions'])}. eval.json lists them."
            )
        if number := len(of["criteria_left_out"]):
            yield f"{name}: {number} criteria are left out; eval.json lists them."


def _counted(numbers: Mapping[str, int]) -> str:
    """Such as ``12 budget, 3 no_verdict``."""
    return ", ".join(f"{number} {name}" for name, number in numbers.items())
