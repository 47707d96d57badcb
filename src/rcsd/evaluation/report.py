"""A report: its rows, its tables, its numbers as text, and one HTML file that loads nothing.

Imports no torch, and the plotting library only when a page is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rcsd.evaluation.statistics import Interval
from rcsd.evaluation.text import MINUS, count_text, number, p_value_text, spaced, stacked
from rcsd.io import write_text
from rcsd.redact import shown_text
from rcsd.types import Criterion

# Rows. Every section of a page is optional; an empty one is left out.


@dataclass(frozen=True, slots=True)
class Arm:
    """One contender of a comparison; `highlight` marks what the report is about."""

    name: str
    description: str = ""
    highlight: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric of an arm, or a paired difference of two arms, on a split (a held-out set).

    The arm of a difference is ``rcsd - base``: positive is better for rcsd. Its p-value is adjusted
    for the number of comparisons. Underscores of all names are printed as spaces.
    """

    arm: str
    split: str
    metric: str
    interval: Interval
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Line of a metric by ascending steps; values that are not finite break it and are counted."""

    arm: str
    metric: str
    unit: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CriterionShares:
    """Share of answers that meet a kind of criterion, by arm; of a violation, lower is better."""

    kind: str
    shares: Mapping[str, float]
    violation: bool
    num_verdicts: int


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """One arm's answer, printed literally; a verdict, score or final answer of None is unscored.

    Explanations are a judge's, one a verdict, or one for all; empty: none.
    """

    arm: str
    text: str
    verdicts: tuple[bool | None, ...] = ()
    score: float | None = None
    answer_right: bool | None = None
    explanations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """A question with its rubric and the arms' answers, side by side."""

    question: str
    answers: tuple[SampleAnswer, ...]
    criteria: tuple[Criterion, ...] = ()
    reference_answer: str | None = None


@dataclass(frozen=True, slots=True)
class ReportPage:
    """Everything that one report shows; rows of one arm, split and metric occur once.

    ``lead`` are findings in sentences, ``rubrics`` agreements of writers with gold, ``headroom``
    scores by view before training, ``facts`` the run's settings, versions and counts.
    """

    title: str
    subtitle: str = ""
    lead: tuple[str, ...] = ()
    arms: tuple[Arm, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    differences: tuple[Estimate, ...] = ()
    rubrics: tuple[Estimate, ...] = ()
    headroom: Mapping[str, Interval] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    criteria: tuple[CriterionShares, ...] = ()
    samples: tuple[Sample, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    interval_note: str = "95% bootstrap intervals, resampled by question"

    def __post_init__(self) -> None:
        """Refuse rows that would silently hide one another."""
        for rows in (self.estimates, self.rubrics, self.differences):
            keys = [(row.arm, row.split, row.metric) for row in rows]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise ValueError(f"rows occur twice: {twice}")

    def arm_names(self) -> tuple[str, ...]:
        """Names of all arms: the declared ones, then those that only rows name."""
        names = [arm.name for arm in self.arms]
        names += [row.arm for row in (*self.estimates, *self.rubrics, *self.curves)]
        names += [arm for row in self.criteria for arm in row.shares]
        names += [answer.arm for sample in self.samples for answer in sample.answers]
        return tuple(dict.fromkeys(names))


# Tables


@dataclass(frozen=True, slots=True)
class Pivot:
    """Arms (or pairs of arms) x (split, metric), in order of first appearance.

    `columns` are, by split, its metrics; `rows` have an estimate or None a column; `counts` are,
    by split, numbers of questions, such as ``n = 200`` or ``n = 180 to 200``.
    """

    columns: dict[str, list[str]]
    rows: dict[str, list[Estimate | None]]
    counts: dict[str, str]


def pivot(rows: Sequence[Estimate], order: Sequence[str] = ()) -> Pivot:
    """Table of estimates or differences; names in `order` come first."""
    cells = {(row.arm, row.split, row.metric): row for row in rows}
    metrics = dict.fromkeys(row.metric for row in rows)
    pairs = {(row.split, row.metric) for row in rows}
    columns = {
        split: [metric for metric in metrics if (split, metric) in pairs]
        for split in dict.fromkeys(row.split for row in rows)
    }
    named = dict.fromkeys(row.arm for row in rows)
    return Pivot(
        columns,
        {
            name: [cells.get((name, split, m)) for split, ms in columns.items() for m in ms]
            for name in dict.fromkeys([*(name for name in order if name in named), *named])
        },
        {split: count_text([r.interval.n for r in rows if r.split == split]) for split in columns},
    )


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


def write_report(page: ReportPage, path: Path) -> None:
    """Write the page, all of it or nothing; an older file of that name is replaced."""
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
        "stacked": stacked,
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
        tables={"scores": pivot(page.estimates, names), "differences": pivot(page.differences)},
    )


def _visible(value: object) -> object:
    """Redact and make visible every text before it is escaped."""
    return shown_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value
