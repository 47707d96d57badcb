"""Tables of ``rcsd eval`` and ``rcsd compare``, for a terminal and in Markdown."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rcsd.evaluation.compare import ArmsCompared
from rcsd.evaluation.compare.sets import SetsCompared
from rcsd.evaluation.compare.unscored import Bounds, Corrected
from rcsd.evaluation.report import NOTHING, number, p_value_text, range_text
from rcsd.evaluation.statistics import Interval
from rcsd.redact import shown_text

_NAME_WIDTH = 16
"""Columns of a terminal that names have at least, where they are as long; then they are folded."""
_WIDEST = 10_000
"""Columns of a terminal on which any table has room."""


@dataclass(frozen=True)
class Sheet:
    """A table of plain texts.

    Args:
        title: What it shows.
        columns: Their heads.
        rows: As many cells each.
        num_names: How many of the first columns are names; the others are numbers.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_names: int

    def table(self) -> Table:
        """For a terminal; foreign text is shown as it is, and nothing in it obeyed."""
        table = Table(box=SIMPLE_HEAD, title=Text(self.title), title_justify="left")
        for place, column in enumerate(self.columns):
            cells = [column, *(row[place] for row in self.rows)]
            widest = max(cell_len(line) for cell in cells for line in cell.split("\n"))
            is_name = place < self.num_names
            table.add_column(
                Text(shown_text(column)),
                justify="left" if is_name else "right",
                overflow="fold",
                min_width=min(widest, _NAME_WIDTH) if is_name else widest,
            )
        for row in self.rows:
            table.add_row(*(Text(shown_text(cell)) for cell in row))
        return table

    def markdown(self) -> str:
        """The same in Markdown."""
        rule = ["---" if n < self.num_names else "---:" for n in range(len(self.columns))]
        lines = [_markdown_row(row) for row in (self.columns, rule, *self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines])


def as_text(sheets: Sequence[Sheet], lines: Sequence[str], width: int) -> str:
    """Tables, then lines, as a terminal of that width shows them; wider where numbers need it."""
    tables, file = [sheet.table() for sheet in sheets], io.StringIO()
    wide = Console(width=_WIDEST)
    least = [Measurement.get(wide, wide.options, table).minimum for table in tables]
    for table in tables:
        Console(file=file, width=max(width, *least)).print(table)
    for line in lines:
        Console(file=file, width=width).print(Text(shown_text(line)))
    return file.getvalue()


def as_markdown(sheets: Sequence[Sheet], lines: Sequence[str], width: int) -> str:
    """Tables, then lines; the width is the reader's own matter."""
    parts = [sheet.markdown() for sheet in sheets]
    parts += ["\n".join(f"- {_markdown(line)}" for line in lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_markdown, cells))} |"


def _markdown(text: str) -> str:
    shown = " ".join(shown_text(text).split())
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def summary_sheets(summary: Mapping[str, Any]) -> list[Sheet]:
    """The estimates of one evaluation, a table for each set."""
    columns = ("metric", "by question", "n", "by template", "n", "left out")
    return [
        Sheet(
            f"{name}: means with 95% bootstrap intervals",
            columns,
            [
                (
                    metric,
                    *_estimate(found["by_question"]),
                    *_estimate(found.get("by_template")),
                    str(found["num_left_out"]),
                )
                for metric, found in answered["metrics"].items()
            ],
            num_names=1,
        )
        for name, answered in summary["sets"].items()
    ]


def _estimate(found: Mapping[str, Any] | None) -> tuple[str, str]:
    return (NOTHING, "") if found is None else (_interval(Interval(**found)), str(found["n"]))


def counts_of(summary: Mapping[str, Any]) -> list[str]:
    """Sentences on what the estimates leave out, on lengths, and on what guessing gives."""
    lines = [
        f"{name}, {kind}: {counts['num_completions']} completions, "
        f"{counts['num_unscored']} unscored, {counts['num_ungraded']} ungraded, "
        f"{counts['truncated_share']:.1%} cut off, "
        f"{counts['length_tokens_mean']:.1f} tokens on average"
        for name, answered in summary["sets"].items()
        for kind, counts in answered.items()
        if kind in ("greedy", "sampled")
    ]
    for name, answered in summary["sets"].items():
        lines += [
            f"{name}, {kind}: criteria without a verdict: {counted(reasons)}"
            for kind in ("greedy", "sampled")
            if (reasons := answered.get(kind, {}).get("unscored_reasons"))
        ]
        lines += [
            f"{name}, {metric}: between {low:.3f} and {high:.3f}, whatever is missing turns out"
            for metric, found in answered["metrics"].items()
            if "bounds" in found
            for low, high in [found["bounds"]]
        ]
        if placebos := answered["placebo_accuracies"]:
            lines.append(
                f"{name}: guessing is right in {placebos['chance']:.3f}, always "
                f"{placebos['majority_letter']} in {placebos['majority']:.3f}"
            )
    return lines


def counted(numbers: Mapping[str, int]) -> str:
    """Such as ``12 budget, 3 no_verdict``."""
    return ", ".join(f"{number} {name}" for name, number in numbers.items())


def source_lines(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences on what of benchmarks was not asked: rows that were not taken, or left out."""
    lines = []
    for name, of in tasks.items():
        num_excluded = sum(of["exclusions"].values())
        num_taken = of["num_problems"] + num_excluded
        if num_taken != of["num_published"]:
            lines.append(
                f"{name}: {num_taken} rows, and {of['num_published']} were published: this is no "
                "result on the benchmark."
            )
        if num_excluded:
            lines.append(
                f"{name}: {num_excluded} of {num_taken} rows cannot be asked or graded and are "
                f"left out: {counted(of['exclusions'])}. eval.json lists them."
            )
        if of["criteria_left_out"]:
            number = len(of["criteria_left_out"])
            lines.append(f"{name}: {number} criteria are left out; eval.json lists them.")
    return lines


def sheets_of(
    compared: SetsCompared, cluster_by: str | None, notes: Sequence[str]
) -> tuple[list[Sheet], list[str]]:
    """The tables of a comparison, and what is to be said beneath them."""
    rows: dict[str, tuple[list[_Row], list[_Row]]] = {}
    for row in compared.metrics:
        rows.setdefault(row.set, ([], []))[0].append((row.metric, row.compared))
    for row in compared.criteria:
        name = f"{row.criterion} (violation)" if row.violation else row.criterion
        rows.setdefault(row.set, ([], []))[1].append((name, row.compared))
    sheets = [
        sheet
        for name, (metrics, criteria) in rows.items()
        for sheet in (
            *_sheets(f"{name}: means", f"{name}: differences", "metric", metrics),
            *_sheets(
                f"{name}: share of criteria met",
                f"{name}: differences in criteria met",
                "criterion",
                criteria,
            ),
            *_corrected_sheets(compared, name),
        )
    ]
    lines = [
        *notes,
        *(
            bounds_line(f"{row.set}, {row.metric}", row.bounds)
            for row in compared.metrics
            if row.bounds is not None
        ),
        *(
            f"Set '{name}': {number} criteria have no title, so they are of no kind and left out."
            for name, number in compared.num_untitled.items()
        ),
        *(
            [
                "Freed of the judge's errors as if it erred as often on every arm and criterion; "
                "points before they are cut off at 0 and 1; intervals hold what is not known of "
                "its rates."
            ]
            if any(row.corrected is not None for row in compared.metrics)
            else []
        ),
        f"95% intervals, resampled by {cluster_by or 'question'}, and by training seed where an "
        "arm has several; p of a permutation test over the same units, training seeds as they are. "
        "Holm's correction is over all metrics of all sets; over all kinds of criteria.",
    ]
    return sheets, lines


def bounds_line(what: str, bounds: Bounds, unit: float = 1) -> str:
    """A sentence on what missing verdicts leave open, in shares or, by a unit of 100, points."""
    unscored = ", ".join(f"{of.arm}: {of.num_unscored}" for of in bounds.means if of.num_unscored)
    found = [
        *(
            (of.arm, number(unit * of.low), number(unit * of.high))
            for of in bounds.means
            if of.num_unscored
        ),
        *(
            (
                f"{of.left} - {of.right}",
                number(unit * of.low, signed=True),
                number(unit * of.high, signed=True),
            )
            for of in bounds.differences
        ),
    ]
    said = "; ".join(f"{name} between {low} and {high}" for name, low, high in found)
    return (
        f"{what}: completions without a verdict: {unscored}. Over all {bounds.num_questions} "
        f"questions, whatever the missing verdicts are: {said}."
    )


def _corrected_sheets(compared: SetsCompared, name: str) -> list[Sheet]:
    """Scores and criteria of a set, freed of the judge's errors; none where its rates are unknown.

    Without p-values: dividing by the same number, the tests stay as they are.
    """
    metrics = [(of.metric, of.corrected) for of in compared.metrics if of.set == name]
    kinds = [(of.criterion, of.corrected) for of in compared.criteria if of.set == name]
    rows = [(what, of) for what, of in (*metrics, *kinds) if of is not None]
    if not rows:
        return []
    arms = [arm for arm, _ in rows[0][1].means]
    means = [
        (what, *(_stacked(mean) for _, mean in of.means), str(of.num_compared)) for what, of in rows
    ]
    return [
        Sheet(f"{name}: freed of the judge's errors", ("", *arms, "compared"), means, num_names=1),
        *_corrected_differences(name, rows),
    ]


def _corrected_differences(name: str, rows: Sequence[tuple[str, Corrected]]) -> list[Sheet]:
    cells = [
        (what, f"{left} - {right}", _interval(difference, signed=True))
        for what, of in rows
        for left, right, difference in of.differences
    ]
    title = f"{name}: differences freed of the judge's errors"
    return [Sheet(title, ("", "arms", "difference"), cells, num_names=2)] if cells else []


_Row = tuple[str, ArmsCompared]


def _sheets(means: str, differences: str, what: str, rows: Sequence[_Row]) -> list[Sheet]:
    """Means of the arms, then their differences; those that there are."""
    arms = {mean.arm: mean.num_seeds for _, compared in rows for mean in compared.means}
    heads = [arm if seeds == 1 else f"{arm} ({seeds} seeds)" for arm, seeds in arms.items()]
    cells = []
    for name, compared in rows:
        shown = [_stacked(mean.interval) for mean in compared.means]
        counts = (str(compared.num_compared), str(compared.num_left_out))
        cells.append((name, *(shown or [NOTHING] * len(arms)), *counts))
    pairs = [
        (
            name,
            f"{row.left} - {row.right}",
            _interval(row.interval, signed=True),
            p_value_text(row.p_value),
            p_value_text(row.holm_p_value),
        )
        for name, compared in rows
        for row in compared.differences
    ]
    columns = (what, *heads, "compared", "left out")
    found = [Sheet(means, columns, cells, num_names=1)] if cells else []
    if pairs:
        heads = [what, "arms", "difference", "p", "p, Holm"]
        found.append(Sheet(differences, heads, pairs, num_names=2))
    return found


def _stacked(interval: Interval) -> str:
    """The range beneath the mean: arms are many, and terminals narrow."""
    return _interval(interval).replace(" [", "\n[")


def _interval(interval: Interval, signed: bool = False) -> str:
    return f"{number(interval.mean, signed)} {range_text(interval, signed)}"
