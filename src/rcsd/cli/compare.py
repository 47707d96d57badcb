"""``rcsd compare`` and ``rcsd paper-table``."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rcsd.cli.eval import source_lines
from rcsd.cli.options import Json
from rcsd.cli.terminal import Table, console, say
from rcsd.errors import ConfigError
from rcsd.evaluation.text import NOTHING, interval_text, p_value_text, stacked
from rcsd.io import check_writable, write_json

if TYPE_CHECKING:
    from rcsd.evaluation.compare import ArmsCompared, MetricCompared, SetsCompared
    from rcsd.evaluation.record import EvalRecord
    from rcsd.recipes.paper_table import PaperTable

ArmWords = Annotated[
    list[str],
    typer.Argument(help="[NAME=]FOLDER[,FOLDER...] of 'rcsd eval'; several folders are seeds."),
]
Against = Annotated[str | None, typer.Option(help="Arm to compare with; default: the first.")]
ClusterBy = Annotated[str | None, typer.Option(help="Tag to resample by; default: by question.")]
Metric = Annotated[list[str] | None, typer.Option(help="Metric; default: all but pass@k.")]
POINTS = 100
"""Unit of the paper's table: points of 100."""


def compare(
    arms: ArmWords,
    against: Against = None,
    metric: Metric = None,
    cluster_by: ClusterBy = None,
    json: Json = None,
) -> None:
    """Compare arms on the same questions: means, paired differences, adjusted p-values.

    Several folders of one NAME are training seeds of one arm. Intervals resample questions, and
    seeds where an arm has several. P-values are of permutation tests over questions, adjusted by
    Holm over all metrics and sets, and over all kinds of criteria. A question with a completion
    that could not be graded in any arm is left out of all, and counted; bounds are then given over
    all questions and all values of the missing verdicts, and accuracies also with ungraded answers
    as wrong; differences that this moves are listed. Where units are asked for, an accuracy is also
    by the number alone, and with the unit required.

    In JSON the mean of a difference is left - right; low and high are a 95% interval, n counts the
    units that are resampled.
    """
    from rcsd.evaluation.arms import common_sets
    from rcsd.evaluation.compare import compare_sets

    records, base = _open_arms(arms, against, json)
    pairs = [(name, base) for name in records if name != base]
    sets, notes = common_sets(records)
    compared = compare_sets(sets, pairs, metric or (), cluster_by)
    folders = {arm: [str(one.path) for one in seeds] for arm, seeds in records.items()}
    plain = {"arms": folders, "pairs": pairs, "cluster_by": cluster_by, **compared.json()}
    lines = [*notes, *_lines(compared, cluster_by)]
    _show(_tables(compared), lines, plain | {"notes": notes}, json)


def paper_table(
    arms: ArmWords, against: Against = None, cluster_by: ClusterBy = None, json: Json = None
) -> None:
    """Print the table of arXiv 2606.19327 for your evaluations, with intervals.

    A set is a benchmark by its name: gpqa-diamond, scibench, piqa (accuracy), rar-science,
    researchqa, rubrichub-science (score); medmcqa and pubmedqa stand apart. Samples count before
    greedy answers where every arm has as many. The average gives each science benchmark that all
    arms have the same weight; its interval resamples questions within each benchmark, and training
    seeds once for all. The paper's averages stand beside arms named base, sft, grpo, grpo-rubrics,
    opsd, rcsd, random and generic, and are marked as published.

    In JSON numbers are shares in [0, 1].
    """
    from rcsd.evaluation.arms import common_sets
    from rcsd.recipes.paper_table import build_paper_table

    records, base = _open_arms(arms, against, json)
    sets, notes = common_sets(records)
    every = [one for seeds in records.values() for one in seeds]
    tasks = {name: task for one in every for name, task in one.about.get("tasks", {}).items()}
    notes = [*source_lines(tasks), *notes]
    table = build_paper_table(list(records), sets, base, cluster_by)
    plain = table.json() | {"notes": [*notes, *table.notes]}
    _show(_paper_tables(table), [*notes, *_paper_lines(table, cluster_by)], plain, json)


def _open_arms(
    words: Sequence[str], against: str | None, json: Path | None
) -> "tuple[dict[str, list[EvalRecord]], str]":
    """The evaluations of each arm, and the arm that the others are compared with."""
    from rcsd.evaluation.arms import parse_arms, read_arms

    folders = parse_arms(words)
    if against is not None and against not in folders:
        raise ConfigError(f"--against {against}: no such arm; there are {', '.join(folders)}")
    if json is not None:  # before the evaluations are read
        check_writable(json)
    return read_arms(folders), against or next(iter(folders))


def _show(
    tables: "Iterator[Table]", lines: Sequence[str], plain: Mapping[str, Any], json: Path | None
) -> None:
    for table in tables:
        console.print(table)
    for line in lines:
        console.print(line)
    if json is not None:
        write_json(json, plain)
        say(f"Numbers: {json}")


def _tables(compared: "SetsCompared") -> Iterator[Table]:
    for name in dict.fromkeys(row.set for row in compared.metrics):
        rows = [row.rows() for row in compared.metrics if row.set == name]
        metrics = [item for of_metric in rows for item in of_metric.items()]
        yield from _arm_tables((f"{name}: means", f"{name}: differences"), "metric", metrics)
        criteria = [
            (f"{row.criterion} (violation)" if row.violation else row.criterion, row.compared)
            for row in compared.criteria
            if row.set == name
        ]
        titles = f"{name}: share of criteria met", f"{name}: differences in criteria met"
        yield from _arm_tables(titles, "criterion", criteria)


def _arm_tables(
    titles: tuple[str, str],
    what: str,
    rows: "Sequence[tuple[str, ArmsCompared]]",
    scale: float = 1,
    digits: str = ".3f",
) -> Iterator[Table]:
    """Means of the arms, then their differences; empty tables are left out."""
    arms = {of.arm: of.num_seeds for _, compared in rows for of in compared.means}
    heads = [arm if seeds == 1 else f"{arm} ({seeds} seeds)" for arm, seeds in arms.items()]
    means, differences = [], []
    for name, compared in rows:
        by_arm = {of.arm: of.interval.scaled(scale) for of in compared.means}
        counts = (str(compared.num_compared), str(compared.num_left_out))
        means.append((name, *(stacked(by_arm.get(arm), digits) for arm in arms), *counts))
        for of in compared.differences:
            difference = interval_text(of.interval.scaled(scale), f"+{digits}")
            p_values = (p_value_text(of.p_value), p_value_text(of.holm_p_value))
            differences.append((name, f"{of.left} - {of.right}", difference, *p_values))
    if means:
        yield Table((what, *heads, "compared", "left out"), means, titles[0])
    if differences:
        columns = (what, "arms", "difference", "p", "p, Holm")
        yield Table(columns, differences, titles[1], num_names=2)


def _lines(compared: "SetsCompared", cluster_by: str | None) -> Iterator[str]:
    from rcsd.evaluation.compare import describe_ungraded

    yield from _bounds_lines(compared.metrics)
    yield from (line for row in compared.metrics for line in describe_ungraded(row))
    for name, number in compared.num_untitled.items():
        yield f"Set '{name}': {number} criteria have no title and are left out."
    yield (
        f"95% intervals, resampled by {cluster_by or 'question'}, and by training seed where an "
        "arm has several; p of a permutation test over the same units, training seeds as they are. "
        "Holm's adjustment is over all metrics of all sets; over all kinds of criteria."
    )


def _bounds_lines(
    rows: "Sequence[MetricCompared]", unit: float = 1, digits: str = ".3f"
) -> Iterator[str]:
    """Sentences on what missing verdicts leave open, in shares or, by a unit of 100, points."""
    for row in rows:
        ranges = [
            f"{of.arm} between {unit * of.low:{digits}} and {unit * of.high:{digits}} "
            f"(completions without a value: {of.num_unscored})"
            for of in row.bounds
            if of.num_unscored
        ]
        if ranges:
            listed = "; ".join(ranges)
            yield f"{row.set}, {row.metric}, over all values of the missing verdicts: {listed}."


def _paper_tables(table: "PaperTable") -> Iterator[Table]:
    from rcsd.recipes.paper_table import PUBLISHED, SCIENCE, SOURCE, published_row

    rows: list[tuple[str, ArmsCompared]] = []
    for is_science in (True, False):
        of_group = [row for row in table.benchmarks if (row.set in SCIENCE) == is_science]
        rows += [(f"{row.set}, {name}", of) for row in of_group for name, of in row.rows().items()]
        if is_science and table.average is not None:
            rows.append((f"average of {len(table.averaged)}", table.average))
    titles = "Points of 100, 95% intervals", "Paired differences, points of 100"
    yield from _arm_tables(titles, "benchmark", rows, POINTS, ".1f")
    base = PUBLISHED[0].average
    cells = []
    for row in PUBLISHED:
        means = () if table.average is None else table.average.means
        ours = [of for of in means if published_row(of.arm) is row]
        intervals = [interval_text(of.interval.scaled(POINTS), ".1f") for of in ours]
        cells.append(
            (
                row.method,
                f"{POINTS * row.average:.1f}",
                f"{POINTS * (row.average - base):+.1f}",
                ", ".join(of.arm for of in ours) or NOTHING,
                " ".join(intervals) or NOTHING,
            )
        )
    heads = ("method", "published", "minus base", "our arm", "ours")
    yield Table(heads, cells, f"Published averages ({SOURCE}) beside ours")


def _paper_lines(table: "PaperTable", cluster_by: str | None) -> Iterator[str]:
    from rcsd.evaluation.compare import describe_ungraded

    yield from table.notes
    yield from _bounds_lines(table.benchmarks, POINTS, ".1f")
    for row in table.benchmarks:
        yield from describe_ungraded(row, POINTS, ".1f")
    yield (
        f"95% intervals, resampled by {cluster_by or 'question'} within each benchmark, and by "
        "training seed, drawn once for all benchmarks, where an arm has several. p of permutation "
        "tests; Holm's adjustment is over all benchmarks, without their average."
    )
    yield (
        "Published figures have no interval: their difference to ours may be chance, another judge "
        "or another prompt. Only averages are published here, no figures of single benchmarks."
    )
