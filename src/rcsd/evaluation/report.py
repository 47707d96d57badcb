"""A report: its rows, its tables, its numbers as text, and one HTML file that loads nothing.

Imports no torch, and the plotting library only when a page is written.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rcsd.evaluation.statistics import Interval
from rcsd.io import write_text
from rcsd.redact import shown_text
from rcsd.types import Criterion

MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"

# Rows. Every section of a page is optional; an empty one is left out.


@dataclass(frozen=True, slots=True)
class Arm:
    """One contender of a comparison; `highlight` marks what the report is about."""

    name: str
    description: str = ""
    highlight: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric of an arm on a split; underscores in names are printed as spaces."""

    arm: str
    split: str
    metric: str
    interval: Interval


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference; a label ``rcsd - base`` means that positive is better for rcsd.

    Its p-value is corrected for the number of comparisons, or None.
    """

    label: str
    split: str
    metric: str
    interval: Interval
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of one panel.

    Args:
        arm: Name of the arm that was trained.
        metric: Names the panel.
        unit: Such as ``nats per token``, or empty.
        steps: The x axis, ascending.
        values: As many; those that are not finite are left out, counted, and break the line.
        x: Quantity on the x axis.
    """

    arm: str
    metric: str
    unit: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    x: str = "step"

    def __post_init__(self) -> None:
        """Refuse a line whose axes differ in length."""
        if len(self.steps) != len(self.values):
            raise ValueError(
                f"curve {self.metric!r} of {self.arm!r} has {len(self.steps)} steps "
                f"and {len(self.values)} values"
            )


@dataclass(frozen=True, slots=True)
class Relation:
    """Two finite numbers of each arm against each other: name, x, y; with a note on them."""

    title: str
    x_label: str
    y_label: str
    points: tuple[tuple[str, float, float], ...]
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what has no place on the axes."""
        for arm, *place in self.points:
            if not all(map(math.isfinite, place)):
                raise ValueError(f"{arm!r} in {self.title!r} has no place: {place}")


@dataclass(frozen=True, slots=True)
class CriterionShares:
    """Share of answers in [0, 1] that meet one kind of criterion, by arm.

    A violation has a negative weight, so lower is better. `num_verdicts` stand behind each share.
    """

    kind: str
    shares: Mapping[str, float]
    violation: bool = False
    num_verdicts: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a share (NaN among it: leave the arm out instead)."""
        for arm, share in self.shares.items():
            if not 0 <= share <= 1:
                raise ValueError(
                    f"share of {self.kind!r} in {arm!r} must be in [0, 1], not {share}"
                )


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """One arm's answer, printed literally; a verdict, score or final answer of None is unscored."""

    arm: str
    text: str
    verdicts: tuple[bool | None, ...] = ()
    score: float | None = None
    answer_right: bool | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A question with its rubric and the arms' answers, side by side."""

    question: str
    answers: tuple[SampleAnswer, ...]
    criteria: tuple[Criterion, ...] = ()
    reference_answer: str | None = None

    def __post_init__(self) -> None:
        """Refuse verdicts that cannot be matched with the criteria."""
        for answer in self.answers:
            if answer.verdicts and len(answer.verdicts) != len(self.criteria):
                raise ValueError(
                    f"{answer.arm!r} has {len(answer.verdicts)} verdicts "
                    f"on {len(self.criteria)} criteria"
                )


@dataclass(frozen=True, slots=True)
class ReportPage:
    """Everything that one report shows.

    Args:
        title: The headline.
        subtitle: One line, such as model, seed and seconds.
        lead: Findings in plain sentences, most important first.
        arms: In the order of tables and legends; arms that only rows name come after them.
        estimates: Arms x splits x metrics, each triple once.
        differences: Paired differences, each triple once.
        rubrics: Written rubrics against gold: writers x sets x metrics, each triple once.
        headroom: View -> score before any training, such as under the teacher's view.
        curves: Training metrics.
        relations: Two numbers of each arm, one panel each.
        criteria: Share met by criterion kind.
        samples: Answers side by side.
        facts: The run: resolved config values, versions, seeds, seconds, dropped counts.
        interval_note: The kind of the intervals, for captions.
    """

    title: str
    subtitle: str = ""
    lead: tuple[str, ...] = ()
    arms: tuple[Arm, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    differences: tuple[Difference, ...] = ()
    rubrics: tuple[Estimate, ...] = ()
    headroom: Mapping[str, Interval] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    relations: tuple[Relation, ...] = ()
    criteria: tuple[CriterionShares, ...] = ()
    samples: tuple[Sample, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    interval_note: str = "95% bootstrap intervals, resampled by question"

    def __post_init__(self) -> None:
        """Refuse rows that would silently hide one another, or that cannot be drawn."""
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arm names must be unique, got {names}")
        intervals = dict(self.headroom)
        for rows in (self.estimates, self.rubrics, self.differences):
            keys = [row_key(row) for row in rows]
            repeated = {key for key in keys if keys.count(key) > 1}
            if repeated:
                raise ValueError(f"rows given twice: {sorted(repeated)}")
            intervals |= {", ".join(row_key(row)): row.interval for row in rows}
        for name, interval in intervals.items():
            if not all(map(math.isfinite, (interval.low, interval.mean, interval.high))):
                raise ValueError(f"the interval of {name!r} is not finite: {interval}")

    def arm_names(self) -> tuple[str, ...]:
        """Names of all arms: the declared ones, then those that only rows name."""
        return tuple(dict.fromkeys((*(arm.name for arm in self.arms), *self._named_in_rows())))

    def _named_in_rows(self) -> Iterator[str]:
        yield from (row.arm for row in (*self.estimates, *self.rubrics))
        yield from (curve.arm for curve in self.curves)
        yield from (arm for row in self.criteria for arm in row.shares)
        yield from (answer.arm for sample in self.samples for answer in sample.answers)


def row_key(row: Estimate | Difference) -> tuple[str, str, str]:
    """Arm or label, split and metric of a row."""
    return (row.arm if isinstance(row, Estimate) else row.label, row.split, row.metric)


# Tables


@dataclass(frozen=True, slots=True)
class Pivot:
    """Arms (or pairs of arms) x (split, metric), in order of first appearance.

    Args:
        columns: Split -> its metrics.
        rows: Name -> one row a column, None where there is none.
        counts: Split -> number of questions, such as ``n = 200`` or ``n = 180 to 200``.
    """

    columns: dict[str, list[str]]
    rows: dict[str, list[Estimate | Difference | None]]
    counts: dict[str, str]


def pivot(rows: Sequence[Estimate | Difference], order: Sequence[str] = ()) -> Pivot:
    """Table of estimates or differences; names in `order` come first, in that order."""
    cells = {row_key(row): row for row in rows}
    metrics = dict.fromkeys(row.metric for row in rows)
    pairs = {(row.split, row.metric) for row in rows}
    columns = {
        split: [metric for metric in metrics if (split, metric) in pairs]
        for split in dict.fromkeys(row.split for row in rows)
    }
    named = dict.fromkeys(name for name, _, _ in cells)
    names = dict.fromkeys([*(name for name in order if name in named), *named])
    return Pivot(
        columns,
        {
            name: [cells.get((name, split, m)) for split, ms in columns.items() for m in ms]
            for name in names
        },
        {split: _count_text([r.interval.n for r in rows if r.split == split]) for split in columns},
    )


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of plain texts: the first column holds names, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def estimates_table(page: ReportPage) -> TextTable:
    """Mean and interval of each arm, split and metric; a cell has two lines."""
    table = pivot(page.estimates, page.arm_names())
    heads = [
        f"{spaced(split)}\n{spaced(metric)}\n{table.counts[split]}"
        for split, metrics in table.columns.items()
        for metric in metrics
    ]
    rows = [
        (name, *("\n".join(_interval_lines(row)) if row else NOTHING for row in cells))
        for name, cells in table.rows.items()
    ]
    return TextTable(f"Means, [low, high]: {page.interval_note}", ("arm", *heads), tuple(rows))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of a pipeline or a study: summary, sentences, table of arms, path of the page."""

    summary: Mapping[str, Any]
    findings: Sequence[str]
    table: TextTable
    report: Path


# Numbers as text


def spaced(name: str) -> str:
    """A key as words: ``new_numbers`` -> ``new numbers``."""
    return name.replace("_", " ")


def number(value: float, signed: bool = False) -> str:
    """About three significant digits, two decimals at least below 10, with a true minus sign."""
    size = abs(value)
    if 0 < size < 0.0005:
        mantissa, exponent = f"{size:.2e}".split("e")
        digits = f"{float(mantissa):g}e{int(exponent)}".replace("-", MINUS)
    else:
        decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size == 0 or size >= 0.005 else 3
        digits = f"{size:,.{decimals}f}"
    return (MINUS if value < 0 else "+" if signed and value > 0 else "") + digits


def p_value_text(p_value: float | None) -> str:
    """``0.034``, ``< 0.001``, or a dash where there is none."""
    if p_value is None:
        return NOTHING
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _interval_lines(row: Estimate | Difference) -> list[str]:
    """Mean, and low and high in brackets; a difference has its sign."""
    return format(row.interval, "+.2f" if isinstance(row, Difference) else ".2f").split(" ", 1)


def _count_text(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"n = {low:,}" if low == high else f"n = {low:,} to {high:,}"


def _points(weight: float) -> str:
    """``+3``, ``-2``: the sign says whether meeting the criterion is good."""
    return f"{weight:+g}".replace("-", MINUS)


def _verdict(is_met: bool | None, weight: float) -> tuple[str, str, str]:
    """Class, mark and words of a verdict: the mark says whether that is good."""
    if is_met is None:
        return "unscored", "?", "unscored"
    if weight < 0:
        return ("bad", "✗", "violated") if is_met else ("good", "✓", "avoided")
    return ("good", "✓", "met") if is_met else ("bad", "✗", "not met")


# The page


def write_report(page: ReportPage, path: Path) -> None:
    """Write the page, all of it or nothing; an older file of that name is replaced.

    Raises:
        DataError: The file cannot be written there.
    """
    write_text(path, report_html(page))


def report_html(page: ReportPage) -> str:
    """The page as HTML: no scripts, no loads, everything foreign escaped and made visible."""
    from rcsd.evaluation import plots, svg  # noqa: PLC0415 (a reader of rows needs no matplotlib)

    environment = Environment(
        loader=PackageLoader("rcsd.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters |= {
        "number": number,
        "p_value": p_value_text,
        "points": _points,
        "spaced": spaced,
        "verdict": _verdict,
        "interval_lines": _interval_lines,
        "panel_svg": svg.panel_svg,
        "key_svg": svg.key_svg,
    }
    names = page.arm_names()
    return environment.get_template("report.html.jinja").render(
        page=page,
        theme=Markup(svg.THEME),
        colours=plots.arm_colours(page),
        arms={arm.name: arm for arm in page.arms},
        figures=plots.figures(page),
        tables={
            "scores": pivot(page.estimates, names),
            "differences": pivot(page.differences),
        },
    )


def _visible(value: object) -> object:
    """Redact and make visible every text before it is escaped."""
    return shown_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value
