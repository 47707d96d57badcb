"""``rcsd compare`` and ``rcsd paper-table``."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rcsd.cli.eval import source_lines
from rcsd.cli.table import Table, as_text
from rcsd.cli.terminal import console, say, write_out
from rcsd.errors import ConfigError
from rcsd.evaluation.text import NOTHING, interval_text, p_value_text, stacked

if TYPE_CHECKING:
    from rcsd.evaluation.bounds import Bounds
    from rcsd.evaluation.compare import ArmsCompared, SetsCompared
    from rcsd.evaluation.record import EvalRecord
    from rcsd.recipes.paper_table import PaperTable

ArmWords = Annotated[
    list[str],
    typer.Argument(help="[NAME=]FOLDER[,FOLDER...] of 'rcsd eval'; several folders are seeds."),
]
Format = Annotated[Literal["text", "json"], typer.Option(help="Format of the output.")]
Against = Annotated[
    str | None, typer.Option(help="Arm to compare the others with; default: the first.")
]
ClusterBy = Annotated[
    str | None, typer.Option(help="Tag to resample by, such as template; default: by question.")
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed of the resampling.")]
Out = Annotated[Path | None, typer.Option(help="File to write to instead of the terminal.")]


def compare(  # noqa: PLR0913 (each is an option)
    arms: ArmWords,
    format: Format = "text",
    against: Against = None,
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help="Compare every two arms.")] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric, such as score or pass@4; default: all but pass@k."),
    ] = None,
    cluster_by: ClusterBy = None,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Compare arms on the same questions: means, paired differences, adjusted p-values.

    Several folders of one NAME are training seeds of one arm. Intervals resample questions, and
    seeds where an arm has several. P-values are of permutation tests over questions, adjusted by
    Holm over all metrics and sets, and over all kinds of criteria. A question with a completion
    that could not be graded in any arm is left out of all, and counted; bounds are then given over
    all questions and all values of the missing verdicts.

    In JSON the mean of a difference is left - right; low and high are a 95% interval, n counts the
    units that are resampled.
    """
    from rcsd.evaluation.arms import common_sets  # noqa: PLC0415
    from rcsd.evaluation.compare import compare_sets  # noqa: PLC0415

    records = _open_arms(arms, out)
    pairs = _pairs(list(records), against, all_pairs)
    sets, notes = common_sets(records)
    compared = compare_sets(sets, pairs, metric or (), cluster_by, seed)
    about = {
        arm: {
            "folders": [str(one.path) for one in seeds],
            "models": [one.model.path for one in seeds],
            "training_seeds": [one.model.training_seed for one in seeds],
        }
        for arm, seeds in records.items()
    }
    plain = {"arms": about, "pairs": pairs, "cluster_by": cluster_by, **compared.json()}
    lines = [*notes, *_lines(compared, cluster_by)]
    _print_tables(format, list(_tables(compared)), lines, plain | {"notes": notes}, out)


def _open_arms(words: Sequence[str], out: Path | None) -> "dict[str, list[EvalRecord]]":
    """The evaluations of each arm; the output file is checked before they are read."""
    from rcsd.evaluation.arms import parse_arms, read_arms  # noqa: PLC0415
    from rcsd.io import check_writable  # noqa: PLC0415

    folders = parse_arms(words)
    if out is not None:
        check_writable(out)
    return read_arms(folders)


def _chosen_arm(names: Sequence[str], against: str | None) -> str:
    """The arm that the others are compared with."""
    if against is not None and against not in names:
        raise ConfigError(f"--against {against}: no such arm; there are {', '.join(names)}")
    return names[0] if against is None else against


def _pairs(names: list[str], against: str | None, all_pairs: bool) -> list[tuple[str, str]]:
    """Pairs that are compared, the first minus the second."""
    if all_pairs:
        if against is not None:
            raise ConfigError("--all-pairs compares every two arms: leave --against out")
        return [(b, a) for place, a in enumerate(names) for b in names[place + 1 :]]
    first = _chosen_arm(names, against)
    return [(name, first) for name in names if name != first]


def _print_tables(
    format: str,
    tables: Sequence[Table],
    lines: Sequence[str],
    plain: Mapping[str, Any],
    out: Path | None,
) -> None:
    """Print, or write to a file, tables and lines, or the plain values as JSON."""
    from rcsd.io import write_text  # noqa: PLC0415

    text = json.dumps(plain, indent=2) + "\n"
    if format == "text":
        text = as_text(tables, lines, console.width)
    if out is None:
        write_out(text)
        return
    write_text(out, text)
    say(f"Written: {out}")


def _tables(compared: "SetsCompared") -> Iterator[Table]:
    for name in dict.fromkeys(row.set for row in compared.metrics):
        metrics = [(row.metric, row.compared) for row in compared.metrics if row.set == name]
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
        differences += [
            (
                name,
                f"{of.left} - {of.right}",
                interval_text(of.interval.scaled(scale), f"+{digits}"),
                p_value_text(of.p_value),
                p_value_text(of.holm_p_value),
            )
            for of in compared.differences
        ]
    if means:
        yield Table((what, *heads, "compared", "left out"), means, titles[0])
    if differences:
        columns = (what, "arms", "difference", "p", "p, Holm")
        yield Table(columns, differences, titles[1], num_names=2)


def _lines(compared: "SetsCompared", cluster_by: str | None) -> Iterator[str]:
    for row in compared.metrics:
        if row.bounds is not None:
            yield _bounds_line(f"{row.set}, {row.metric}", row.bounds)
    for name, number in compared.num_untitled.items():
        yield f"Set '{name}': {number} criteria have no title and are left out."
    yield (
        f"95% intervals, resampled by {cluster_by or 'question'}, and by training seed where an "
        "arm has several; p of a permutation test over the same units, training seeds as they are. "
        "Holm's adjustment is over all metrics of all sets; over all kinds of criteria."
    )


def _bounds_line(what: str, bounds: "Bounds", unit: float = 1, digits: str = ".3f") -> str:
    """A sentence on what missing verdicts leave open, in shares or, by a unit of 100, points."""
    unscored = ", ".join(f"{of.arm}: {of.num_unscored}" for of in bounds.means if of.num_unscored)
    ranges = [
        f"{of.arm} between {unit * of.low:{digits}} and {unit * of.high:{digits}}"
        for of in bounds.means
        if of.num_unscored
    ] + [
        f"{of.left} - {of.right} between {unit * of.low:+{digits}} and {unit * of.high:+{digits}}"
        for of in bounds.differences
    ]
    return (
        f"{what}: completions without a value: {unscored}. Over all {bounds.num_questions} "
        f"questions and all values of the missing verdicts: {'; '.join(ranges)}."
    )


# The paper's table

POINTS = 100
"""Unit of the paper's table: points of 100."""


def paper_table(
    arms: ArmWords,
    format: Format = "text",
    against: Against = None,
    cluster_by: ClusterBy = None,
    seed: Seed = 0,
    out: Out = None,
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
    from rcsd.recipes.paper_table import benchmark_sets, build_paper_table  # noqa: PLC0415

    records = _open_arms(arms, out)
    base = _chosen_arm(list(records), against)
    sets, notes = benchmark_sets(records)
    tasks = {
        name: task
        for seeds in records.values()
        for one in seeds
        for name, task in one.about.get("tasks", {}).items()
    }
    notes = [*source_lines(tasks), *notes]
    table = build_paper_table(list(records), sets, base, cluster_by, seed)
    plain = table.json() | {"notes": [*notes, *table.notes]}
    _print_tables(
        format, _paper_tables(table), [*notes, *_paper_lines(table, cluster_by)], plain, out
    )


def _paper_tables(table: "PaperTable") -> list[Table]:
    """Benchmarks and their average; differences; the published averages beside ours."""
    from rcsd.recipes.paper_table import SCIENCE  # noqa: PLC0415

    rows = [(f"{row.set}, {row.metric}", row.compared) for row in table.rows]
    if table.average is not None:  # below the science benchmarks
        place = sum(row.set in SCIENCE for row in table.rows)
        rows.insert(place, (f"average of {len(table.benchmarks)}", table.average))
    titles = "Points of 100, 95% intervals", "Paired differences, points of 100"
    return [*_arm_tables(titles, "benchmark", rows, POINTS, ".1f"), _published_table(table)]


def _published_table(table: "PaperTable") -> Table:
    """The paper's averages, and ours for the arms of the same name."""
    from rcsd.recipes.paper_table import PUBLISHED, SOURCE, published_row  # noqa: PLC0415

    base = PUBLISHED[0].average
    means = () if table.average is None else table.average.means
    cells = []
    for row in PUBLISHED:
        ours = [of for of in means if published_row(of.arm) is row]
        cells.append(
            (
                row.method,
                f"{POINTS * row.average:.1f}",
                f"{POINTS * (row.average - base):+.1f}",
                ", ".join(of.arm for of in ours) or NOTHING,
                " ".join(interval_text(of.interval.scaled(POINTS), ".1f") for of in ours)
                or NOTHING,
            )
        )
    heads = ("method", "published", "minus base", "our arm", "ours")
    return Table(heads, cells, f"Published averages ({SOURCE}) beside ours")


def _paper_lines(table: "PaperTable", cluster_by: str | None) -> Iterator[str]:
    yield from table.notes
    for row in table.rows:
        if row.bounds is not None:
            yield _bounds_line(f"{row.set}, {row.metric}", row.bounds, POINTS, ".1f")
    yield (
        f"95% intervals, resampled by {cluster_by or 'question'} within each benchmark, and by "
        "training seed, drawn once for all benchmarks, where an arm has several. p of permutation "
        "tests; Holm's adjustment is over all benchmarks, without their average."
    )
    yield (
        "Published figures have no interval: their difference to ours may be chance, another judge "
        "or another prompt. Only averages are published here, no figures of single benchmarks."
    )
