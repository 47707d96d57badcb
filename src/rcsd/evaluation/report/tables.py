"""Rows -> tables: for the terminal, and the cells that the page's tables show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from rcsd.evaluation.report.page import Arm, Estimate, ReportPage
from rcsd.evaluation.report.text import number, spaced
from rcsd.evaluation.statistics import Interval
from rcsd.redact import shown_text

NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pipeline or a study found.

    Args:
        summary: As it is written to the folder, in JSON.
        findings: Sentences for a reader.
        table: Arms and sets, for the terminal.
        report: The page.
    """

    summary: Mapping[str, Any]
    findings: Sequence[str]
    table: Table
    report: Path


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the arms table."""

    split: str
    metric: str


@dataclass(frozen=True, slots=True)
class ArmsTable:
    """Arms x (split, metric), in order of first appearance.

    Args:
        columns: Grouped by split.
        rows: Each arm with one interval a column, None where there is none.
        counts: Split -> how many questions, such as ``n = 200`` or ``n = 180 to 200``.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Arm, tuple[Interval | None, ...]], ...]
    counts: dict[str, str]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits, in order."""
        return tuple(dict.fromkeys(column.split for column in self.columns))

    def metrics(self, split: str) -> tuple[str, ...]:
        """The metrics of one split."""
        return tuple(column.metric for column in self.columns if column.split == split)


def arms_table(arms: Sequence[Arm], estimates: Sequence[Estimate]) -> ArmsTable:
    """Pivot of the estimates: declared arms that have any, then arms that only estimates name."""
    splits = dict.fromkeys(row.split for row in estimates)
    metrics = dict.fromkeys(row.metric for row in estimates)
    by_key = {(row.arm, row.split, row.metric): row.interval for row in estimates}
    columns = tuple(
        Column(split, metric)
        for split in splits
        for metric in metrics
        if any((arm, split, metric) in by_key for arm in {row.arm for row in estimates})
    )
    declared = {arm.name: arm for arm in arms}
    with_rows = {row.arm for row in estimates}
    names = [name for name in declared if name in with_rows]
    names += [name for name in dict.fromkeys(row.arm for row in estimates) if name not in declared]
    rows = tuple(
        (
            declared.get(name, Arm(name)),
            tuple(by_key.get((name, column.split, column.metric)) for column in columns),
        )
        for name in names
    )
    return ArmsTable(columns, rows, {split: _count_text(split, estimates) for split in splits})


def terminal_table(page: ReportPage) -> Table:
    """The arms table for a terminal: mean and interval of each arm, split and metric.

    Two metrics on two splits fit into 80 columns. Names are shown as they are: neither rich's
    markup nor control characters in them are obeyed.
    """
    pivot = arms_table(page.arms, page.estimates)
    note = Text(f"[low, high]: {shown_text(page.interval_note)}", style="dim")
    table = Table(box=SIMPLE_HEAD, caption=note, caption_justify="left")
    table.add_column("arm", no_wrap=True, vertical="top")
    for column in pivot.columns:
        words = (spaced(column.split), spaced(column.metric), pivot.counts[column.split])
        head = Text("\n".join(map(shown_text, words)), justify="right")
        table.add_column(head, justify="right", no_wrap=True)
    for arm, intervals in pivot.rows:
        style = "bold" if arm.highlight else ""
        name = Text(shown_text(arm.name), style=style)
        table.add_row(name, *(_terminal_cell(interval, style) for interval in intervals))
    return table


def _terminal_cell(interval: Interval | None, style: str) -> Text:
    if interval is None:
        return Text(NOTHING, style="dim")
    return Text.assemble((number(interval.mean), style), "\n", (range_text(interval), "dim"))


def range_text(interval: Interval, signed: bool = False) -> str:
    """``[0.79, 0.85]``."""
    return f"[{number(interval.low, signed)}, {number(interval.high, signed)}]"


def _count_text(split: str, estimates: Sequence[Estimate]) -> str:
    counts = [row.interval.n for row in estimates if row.split == split]
    low, high = min(counts), max(counts)
    return f"n = {low:,}" if low == high else f"n = {low:,} to {high:,}"
