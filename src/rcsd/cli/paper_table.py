"""``rcsd paper-table``: the paper's benchmarks and their average, in a terminal or drawn."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rcsd.cli.compare import (
    Against,
    ArmWords,
    ClusterBy,
    Format,
    Out,
    Seed,
    arm_tables,
    bounds_line,
    chosen_arm,
    open_arms,
    print_tables,
)
from rcsd.cli.eval import source_lines
from rcsd.cli.table import Table
from rcsd.cli.terminal import say
from rcsd.evaluation.text import NOTHING, interval_text

if TYPE_CHECKING:
    from rcsd.recipes.paper_table import PaperTable

POINTS = 100
"""Unit of the table: points of 100, as in the paper."""


def paper_table(
    arms: ArmWords,
    format: Format = "text",
    against: Against = None,
    cluster_by: ClusterBy = None,
    seed: Seed = 0,
    out: Out = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it into this SVG file too.")] = None,
) -> None:
    """Print the table of arXiv 2606.19327 for your evaluations, with intervals.

    A set is a benchmark by its name: gpqa-diamond, scibench, piqa (accuracy), rar-science,
    researchqa, rubrichub-science (score); medmcqa and pubmedqa stand apart. Samples count before
    greedy answers where every arm has as many. The average gives each science benchmark that all
    arms have the same weight; its interval resamples questions within each benchmark, and training
    seeds once for all. The paper's averages stand beside arms named base, sft, grpo, grpo-rubrics,
    opsd, rcsd, random and generic, and are marked as published.

    The json format has arms, benchmarks, average, published and notes; numbers are shares in
    [0, 1].
    """
    from rcsd.io import write_text  # noqa: PLC0415
    from rcsd.recipes.paper_table import benchmark_sets, build_paper_table  # noqa: PLC0415

    records = open_arms(arms, out, figure)
    base = chosen_arm(list(records), against)
    sets, notes = benchmark_sets(records)
    tasks = {
        name: task
        for seeds in records.values()
        for one in seeds
        for name, task in one.about.get("tasks", {}).items()
    }
    notes = [*source_lines(tasks), *notes]
    table = build_paper_table(list(records), sets, base, cluster_by, seed)
    if figure is not None:
        write_text(figure, _svg(table))
        say(f"Figure: {figure}")
    plain = table.json() | {"notes": [*notes, *table.notes]}
    print_tables(format, _tables(table), [*notes, *_lines(table, cluster_by)], plain, out)


def _tables(table: "PaperTable") -> list[Table]:
    """Benchmarks and their average; differences; the published averages beside ours."""
    from rcsd.recipes.published import SCIENCE  # noqa: PLC0415

    rows = [(f"{row.set}, {row.metric}", row.compared) for row in table.rows]
    if table.average is not None:  # below the science benchmarks
        place = sum(row.set in SCIENCE for row in table.rows)
        rows.insert(place, (f"average of {len(table.benchmarks)}", table.average))
    titles = "Points of 100, 95% intervals", "Paired differences, points of 100"
    return [*arm_tables(titles, "benchmark", rows, POINTS, ".1f"), _published_table(table)]


def _published_table(table: "PaperTable") -> Table:
    """The paper's averages, and ours for the arms of the same name."""
    from rcsd.recipes.published import PUBLISHED, SOURCE, published_row  # noqa: PLC0415

    base = PUBLISHED[0].average
    means = () if table.average is None else table.average.means
    cells = []
    for row in PUBLISHED:
        ours = [of for of in means if published_row(of.arm) is row]
        cells.append(
            (
                row.method + (" (placebo)" if row.is_placebo else ""),
                f"{POINTS * row.average:.1f}",
                f"{POINTS * (row.average - base):+.1f}",
                ", ".join(of.arm for of in ours) or NOTHING,
                " ".join(interval_text(of.interval.scaled(POINTS), ".1f") for of in ours)
                or NOTHING,
            )
        )
    heads = ("method", "published", "minus base", "our arm", "ours")
    return Table(heads, cells, f"Published averages ({SOURCE}) beside ours")


def _lines(table: "PaperTable", cluster_by: str | None) -> Iterator[str]:
    yield from table.notes
    for row in table.rows:
        if row.bounds is not None:
            yield bounds_line(f"{row.set}, {row.metric}", row.bounds, POINTS, ".1f")
    yield (
        f"95% intervals, resampled by {cluster_by or 'question'} within each benchmark, and by "
        "training seed, drawn once for all benchmarks, where an arm has several. p of permutation "
        "tests; Holm's adjustment is over all benchmarks, without their average."
    )
    yield (
        "Published figures have no interval: their difference to ours may be chance, another judge "
        "or another prompt. Only averages are published here, no figures of single benchmarks."
    )


def _svg(table: "PaperTable") -> str:
    """The table as SVG: the average first, then a panel for each benchmark."""
    from rcsd.evaluation.plots import figure_svg  # noqa: PLC0415
    from rcsd.evaluation.report import Arm, Estimate, ReportPage  # noqa: PLC0415
    from rcsd.evaluation.statistics import Interval  # noqa: PLC0415
    from rcsd.recipes.published import published_row  # noqa: PLC0415

    panels = {f"{row.set}, {row.metric}": row.compared.means for row in table.rows}
    estimates = []
    if table.average is not None:
        title = f"average of {len(table.benchmarks)} benchmarks; published: of 6"
        panels = {title: table.average.means, **panels}
        published = {a: POINTS * row.average for a in table.arms if (row := published_row(a))}
        estimates += [
            Estimate(arm, "published", title, Interval(points, points, points, 1))
            for arm, points in published.items()
        ]
    ours = [
        Estimate(of.arm, "ours, 95% interval", title, of.interval.scaled(POINTS))
        for title, means in panels.items()
        for of in means
    ]
    arms = tuple(Arm(arm) for arm in table.arms)
    return figure_svg(ReportPage("Benchmarks", arms=arms, estimates=(*ours, *estimates)), "scores")
