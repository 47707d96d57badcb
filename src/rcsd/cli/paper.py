"""The paper's table of benchmarks: in a terminal, in Markdown, as JSON, and drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcsd.cli.arms import Against, ArmWords, ClusterBy, Format, Out, Seed
from rcsd.cli.terminal import console, say, write_out
from rcsd.errors import ConfigError

if TYPE_CHECKING:
    from rcsd.cli.comparing import Sheet
    from rcsd.evaluation.compare.sets import AnsweredSet
    from rcsd.evaluation.record import Evaluation
    from rcsd.evaluation.statistics import Interval
    from rcsd.recipes.paper_table import BenchmarkCompared, PaperTable

POINTS = 100
"""Of a share: the table is in points of 100, as the paper's is."""


def paper_table(
    arms: ArmWords,
    format: Format = "text",
    against: Against = None,
    cluster_by: ClusterBy = None,
    seed: Seed = 0,
    out: Out = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it into this SVG file too.")] = None,
) -> None:
    r"""The table of arXiv 2606.19327 on evaluations of one's own, with intervals.

    A set is a benchmark by its name: gpqa-diamond, scibench, piqa (accuracy), rar-science,
    researchqa, rubrichub-science (score); medmcqa and pubmedqa stand apart. Samples count before
    greedy answers where every arm has as many. The average gives each science benchmark that all
    arms have the same weight; its interval resamples questions within each benchmark, and training
    seeds once for all. The paper's averages stand beside arms named base, sft, grpo, grpo-rubrics,
    opsd, rcsd, random and generic, and are marked as published.

    The format json is one object, all numbers shares in [0, 1]:

    \b
    benchmarks: [{set, metric, compared: {means, differences, num_compared, num_left_out},
      bounds: {means, differences, num_questions} or null}]
    average: {benchmarks, means: [{arm, num_seeds, interval, standard_error}],
      differences: [{left, right, interval, standard_error}]} or null
    published: {source, benchmarks, averages, of_arms: ARM -> METHOD}; notes: a list of sentences
    """
    import json  # noqa: PLC0415

    from rcsd.cli.comparing import as_markdown, as_text  # noqa: PLC0415
    from rcsd.evaluation.arms import parse_arms, read_arms  # noqa: PLC0415
    from rcsd.io import check_writable, write_text  # noqa: PLC0415
    from rcsd.recipes.paper_table import paper_table as table_of  # noqa: PLC0415

    folders = parse_arms(arms)
    base = next(iter(folders)) if against is None else against
    if base not in folders:
        raise ConfigError(f"--against {base}: no such arm; there are {', '.join(folders)}")
    for path in (out, figure):
        if path is not None:
            check_writable(path)
    sets, notes = benchmarks_of(read_arms(folders))
    table = table_of(list(folders), sets, base, cluster_by, seed)
    if figure is not None:
        write_text(figure, drawing_of(table))
        say(f"Figure: {figure}")
    if format == "json":
        text = json.dumps(table.json() | {"notes": [*notes, *table.notes]}, indent=2) + "\n"
    else:
        write = as_markdown if format == "markdown" else as_text
        text = write(sheets_of(table), [*notes, *lines_of(table, cluster_by)], console.width)
    if out is None:
        write_out(text)
        return
    write_text(out, text)
    say(f"Table: {out}")


def benchmarks_of(
    arms: "Mapping[str, Sequence[Evaluation]]",
) -> "tuple[dict[str, AnsweredSet], list[str]]":
    """For each set what the arms answered that have it in all their folders; and notes.

    Raises:
        DataError: If the questions of a set differ among arms.
    """
    from rcsd.cli.comparing import source_lines  # noqa: PLC0415
    from rcsd.evaluation.arms import answered_sets  # noqa: PLC0415

    names = list(dict.fromkeys(name for read in arms.values() for one in read for name in one.sets))
    having = {
        name: tuple(arm for arm, read in arms.items() if all(name in one.sets for one in read))
        for name in names
    }
    sets, notes = {}, []
    for group in dict.fromkeys(of for of in having.values() if of):
        found, said = answered_sets({arm: arms[arm] for arm in group})
        sets |= {one.name: one for one in found if having[one.name] == group}
        notes += [note for note in said if note not in notes and "is not compared" not in note]
    tasks = {
        name: task
        for read in arms.values()
        for one in read
        for name, task in one.record.get("tasks", {}).items()
    }
    return sets, [*source_lines({name: tasks[name] for name in names if name in tasks}), *notes]


def sheets_of(table: "PaperTable") -> "list[Sheet]":
    """Benchmarks and their average; differences; the published averages beside ours."""
    from rcsd.cli.comparing import Sheet  # noqa: PLC0415
    from rcsd.evaluation.report import NOTHING  # noqa: PLC0415
    from rcsd.recipes.published import SCIENCE  # noqa: PLC0415

    cells, differences = [], []
    science = [row for row in table.rows if row.set in SCIENCE]
    for row in science:
        cells.append(_benchmark_cells(row, table.arms))
        differences += _difference_cells(row)
    if table.average is not None:
        name = f"average of {len(table.average.benchmarks)}"
        shown = [
            f"{_shown(of.interval)}\nSE {POINTS * of.standard_error:.2f}"
            for of in table.average.means
        ]
        cells.append((name, *shown, "", ""))
        differences += [
            (
                name,
                f"{of.left} - {of.right}",
                _shown(of.interval, signed=True, apart=" "),
                f"{POINTS * of.standard_error:.2f}",
                NOTHING,
            )
            for of in table.average.differences
        ]
    for row in (row for row in table.rows if row not in science):
        cells.append(_benchmark_cells(row, table.arms))
        differences += _difference_cells(row)
    heads = ("benchmark", *table.arms, "compared", "left out")
    sheets = [Sheet("Points of 100, 95% intervals", heads, cells, num_names=1)]
    if differences:
        heads = ("benchmark", "arms", "difference", "SE", "p, Holm")
        sheets.append(Sheet("Paired differences", heads, differences, num_names=2))
    return [*sheets, _published_sheet(table)]


def _benchmark_cells(row: "BenchmarkCompared", arms: "Sequence[str]") -> tuple[str, ...]:
    from rcsd.evaluation.report import NOTHING  # noqa: PLC0415

    means = {of.arm: of.interval for of in row.compared.means}
    shown = [_shown(means[arm]) if arm in means else NOTHING for arm in arms]
    counts = (str(row.compared.num_compared), str(row.compared.num_left_out))
    return (f"{row.set}, {row.metric}", *shown, *counts)


def _difference_cells(row: "BenchmarkCompared") -> list[tuple[str, ...]]:
    from rcsd.evaluation.report import NOTHING, p_value_text  # noqa: PLC0415

    return [
        (
            row.set,
            f"{of.left} - {of.right}",
            _shown(of.interval, signed=True, apart=" "),
            NOTHING,
            p_value_text(of.holm_p_value),
        )
        for of in row.compared.differences
    ]


def _published_sheet(table: "PaperTable") -> "Sheet":
    """The paper's averages, and ours of the arms that they name."""
    from rcsd.cli.comparing import Sheet  # noqa: PLC0415
    from rcsd.evaluation.report import NOTHING  # noqa: PLC0415
    from rcsd.recipes.published import PUBLISHED, SOURCE, published_of  # noqa: PLC0415

    base = PUBLISHED[0].average
    ours = {} if table.average is None else {of.arm: of for of in table.average.means}
    cells = [
        (
            row.method + (" (placebo)" if row.is_placebo else ""),
            f"{POINTS * row.average:.1f}",
            f"{POINTS * (row.average - base):+.1f}".replace("-", "\N{MINUS SIGN}"),
            ", ".join(found := [arm for arm in ours if published_of(arm) is row]) or NOTHING,
            " ".join(_shown(ours[arm].interval, apart=" ") for arm in found) or NOTHING,
        )
        for row in PUBLISHED
    ]
    heads = ("method", "published", "less base", "our arm", "ours")
    return Sheet(f"Published averages ({SOURCE}) beside ours", heads, cells, num_names=1)


def lines_of(table: "PaperTable", cluster_by: str | None) -> list[str]:
    """What is to be said beneath the tables."""
    from rcsd.cli.comparing import bounds_line  # noqa: PLC0415

    return [
        *table.notes,
        *(
            bounds_line(f"{row.set}, {row.metric}", row.bounds, POINTS)
            for row in table.rows
            if row.bounds is not None
        ),
        f"95% intervals, resampled by {cluster_by or 'question'} within each benchmark, and by "
        "training seed, drawn once for all benchmarks, where an arm has several. SE: standard "
        "error. p of permutation tests, corrected by Holm over all benchmarks.",
        "Published figures have no interval: what they differ by from ours may be chance, another "
        "judge or another way to ask. Only averages were found, no figures of single benchmarks.",
    ]


def drawing_of(table: "PaperTable") -> str:
    """The table as SVG: the average first, then a panel for each benchmark."""
    from rcsd.evaluation.plots import figure_svg  # noqa: PLC0415
    from rcsd.evaluation.report import Arm, Estimate, ReportPage  # noqa: PLC0415
    from rcsd.evaluation.statistics import Interval  # noqa: PLC0415
    from rcsd.recipes.published import published_of  # noqa: PLC0415

    ours, rows = "ours, 95% interval", []
    if table.average is not None:
        title = f"average of {len(table.average.benchmarks)} benchmarks; published: of 6"
        rows += [
            Estimate(of.arm, ours, title, _in_points(of.interval)) for of in table.average.means
        ]
        published = {arm: POINTS * row.average for arm in table.arms if (row := published_of(arm))}
        rows += [
            Estimate(arm, "published", title, Interval(points, points, points, 1))
            for arm, points in published.items()
        ]
    for row in table.rows:
        title = f"{row.set}, {row.metric}"
        rows += [
            Estimate(of.arm, ours, title, _in_points(of.interval)) for of in row.compared.means
        ]
    arms = tuple(Arm(arm) for arm in table.arms)
    return figure_svg(ReportPage("Benchmarks", arms=arms, estimates=tuple(rows)), "scores")


def _in_points(interval: "Interval") -> "Interval":
    from dataclasses import replace  # noqa: PLC0415

    low, mean, high = (POINTS * end for end in (interval.low, interval.mean, interval.high))
    return replace(interval, low=low, mean=mean, high=high)


def _shown(interval: "Interval", signed: bool = False, apart: str = "\n") -> str:
    """Such as ``70.6`` above ``[69.8, 71.4]``: one decimal, as the paper has."""
    sign = "+" if signed else ""
    mean, low, high = (
        f"{POINTS * end:{sign}.1f}".replace("-", "\N{MINUS SIGN}")
        for end in (interval.mean, interval.low, interval.high)
    )
    return f"{mean}{apart}[{low}, {high}]"
