"""Rows -> figures: pure functions, each from a page to the shapes of one section."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rcsd.evaluation.report.page import (
    CriterionShares,
    Curve,
    Difference,
    Estimate,
    Relation,
    ReportPage,
)
from rcsd.evaluation.report.scales import Scale, round_scale, share_scale, spanning_scale
from rcsd.evaluation.report.shapes import (
    MARKERS,
    Bar,
    Figure,
    Key,
    Label,
    Line,
    Mark,
    Panel,
    Shape,
    Trace,
    arm_styles,
)
from rcsd.evaluation.report.text import number, shortened, spaced, text_width, wrapped
from rcsd.evaluation.statistics import Interval

WIDE, NARROW = 370.0, 300.0
"""Widths of a panel, chosen so that 12.5-unit text stays readable on a phone of 390 points."""
TEXT_SIZE = 12.5
TITLE_Y = 16.0
MAX_POINTS = 300
"""Points of one line; a longer one is drawn as means over equal stretches."""


@dataclass(frozen=True, slots=True)
class DotRow:
    """A row of a dot-and-whisker panel: one interval a split, None where there is none."""

    label: str
    css: str
    intervals: tuple[Interval | None, ...]
    is_strong: bool = False


def page_styles(page: ReportPage) -> dict[str, str]:
    """Colour class of each arm of a page."""
    highlighted = frozenset(arm.name for arm in page.arms if arm.highlight)
    return arm_styles(page.arm_names(), highlighted)


def score_figure(page: ReportPage) -> Figure:
    """Dots and whiskers: arms down the side, a panel for each metric, a marker for each split."""
    return _estimate_figure(page, page.estimates)


def rubric_figure(page: ReportPage) -> Figure:
    """The same of written rubrics against gold: writers down the side."""
    return _estimate_figure(page, page.rubrics)


def _estimate_figure(page: ReportPage, estimates: Sequence[Estimate]) -> Figure:
    styles = page_styles(page)
    splits = tuple(dict.fromkeys(row.split for row in estimates))
    metrics = tuple(dict.fromkeys(row.metric for row in estimates))
    by_key = {(row.arm, row.split, row.metric): row.interval for row in estimates}
    named = {row.arm for row in estimates}
    highlighted = {arm.name for arm in page.arms if arm.highlight}
    arms = [arm for arm in page.arm_names() if arm in named]
    panels = []
    for metric in metrics:
        rows = [
            DotRow(
                arm,
                styles[arm],
                tuple(by_key.get((arm, split, metric)) for split in splits),
                is_strong=arm in highlighted,
            )
            for arm in arms
        ]
        panels.append(dot_panel(spaced(metric), rows, splits))
    keys = tuple(
        Key(spaced(split), f"marker m{index % len(MARKERS)}", "marker", _marker(index))
        for index, split in enumerate(splits)
    )
    return Figure(tuple(panels), keys if len(keys) > 1 else ())


def headroom_figure(page: ReportPage) -> Figure:
    """Dots and whiskers of the probe before training."""
    rows = [DotRow(row.label, "a0", (row.interval,)) for row in page.headroom]
    return Figure((dot_panel("score before training", rows, ("",)),), num_columns=1)


def dot_panel(title: str, rows: Sequence[DotRow], splits: Sequence[str]) -> Panel:
    """Panel of rows x splits intervals: a whisker from low to high, a marker at the mean."""
    bounds = [end for row in rows for i in row.intervals if i for end in (i.low, i.mean, i.high)]
    label_width = min(0.46 * WIDE, max(text_width(row.label, TEXT_SIZE) for row in rows) + 16)
    right = WIDE - 46
    scale = share_scale(bounds, label_width, right)
    pitch = 17.0 if len(splits) > 1 else 0.0
    row_height = pitch * (len(splits) - 1) + 30
    top, bottom = 32.0, 32.0 + row_height * len(rows)
    shapes: list[Shape] = [Label(0, TITLE_Y, title, "title")]
    shapes += [Line(x, top, x, bottom, "grid") for x, _ in scale.ticks()]
    shapes += [Label(x, bottom + 17, text, "tick middle") for x, text in scale.ticks()]
    said = []
    for index, row in enumerate(rows):
        middle = top + row_height * (index + 0.5)
        if index:
            shapes.append(Line(0, middle - row_height / 2, WIDE, middle - row_height / 2, "rule"))
        name = shortened(row.label, label_width - 8, TEXT_SIZE)
        shapes.append(Label(0, middle + 4, name, "name strong" if row.is_strong else "name"))
        for place, interval in enumerate(row.intervals):
            if interval is None:
                continue
            y = middle + pitch * (place - (len(row.intervals) - 1) / 2)
            shapes += whisker(interval, scale, y, row.css, place)
            shapes.append(Label(WIDE, y + 4, number(interval.mean), "value end"))
            said.append(f"{row.label} {spaced(splits[place])}: {_said(interval)}")
    return Panel(WIDE, bottom + 24, f"{title}. " + "; ".join(said), tuple(shapes))


def difference_axis(differences: Sequence[Difference], width: float) -> tuple[Scale, Panel]:
    """Common scale of all paired differences around 0, and its axis as the head of a column."""
    ends = [end for row in differences for end in (row.interval.low, row.interval.high)]
    scale = round_scale(ends, 14.0, width - 14.0, num_ticks=3)
    labels = [Label(x, 12, text, "tick middle") for x, text in scale.ticks()]
    return scale, Panel(width, 16, "axis", tuple(labels))


def difference_panel(row: Difference, scale: Scale, width: float) -> Panel:
    """One paired difference as a whisker beside the line of no difference."""
    height, y = 26.0, 13.0
    excludes_zero = row.interval.low > 0 or row.interval.high < 0
    shapes: list[Shape] = [Line(x, 0, x, height, "grid") for x, _ in scale.ticks()]
    shapes.append(Line(scale(0.0), 0, scale(0.0), height, "zero"))
    shapes += whisker(row.interval, scale, y, "a0" if excludes_zero else "a1", 0)
    return Panel(width, height, f"{row.label}: {_said(row.interval)}", tuple(shapes))


def curve_figure(page: ReportPage) -> Figure:
    """One small panel for each metric, a line for each arm."""
    styles = page_styles(page)
    metrics = tuple(dict.fromkeys((curve.metric, curve.unit) for curve in page.curves))
    panels = tuple(
        curve_panel([c for c in page.curves if (c.metric, c.unit) == metric], styles)
        for metric in metrics
    )
    arms = [arm for arm in styles if any(curve.arm == arm for curve in page.curves)]
    keys = tuple(Key(arm, f"stroke {styles[arm]}", "stroke") for arm in arms)
    return Figure(panels, keys if len(keys) > 1 else (), num_columns=3)


def curve_panel(curves: Sequence[Curve], styles: dict[str, str]) -> Panel:
    """Lines of one metric over the steps; what is not finite breaks the line and is counted."""
    thinned = [_thinned(curve) for curve in curves]
    finite = [point for points in thinned for point in points if math.isfinite(point[1])]
    values = [value for _, value in finite]
    from_zero = not values or min(values) <= max(values) / 2
    top, bottom = 30.0, 172.0
    y_scale = round_scale(values, bottom, top, num_ticks=4, from_zero=from_zero)
    left = max(text_width(text, 11) for _, text in y_scale.ticks()) + 8
    steps = [step for step, _ in finite]
    x_scale = spanning_scale(steps, left + 4, NARROW - 6, num_ticks=4)
    shapes: list[Shape] = [
        Label(0, TITLE_Y, spaced(curves[0].metric), "title", note=curves[0].unit)
    ]
    shapes += [Line(left, y, NARROW, y, "grid") for y, _ in y_scale.ticks()]
    shapes += [Label(left - 6, y + 4, text, "tick end") for y, text in y_scale.ticks()]
    shapes += [Label(x, bottom + 17, text, "tick middle") for x, text in x_scale.ticks()]
    said = []
    for curve, points in zip(curves, thinned, strict=True):
        runs = _finite_runs([(x_scale(x), y_scale(y)) for x, y in points])
        if not runs:
            continue
        shapes.append(Trace(runs, f"trace {styles[curve.arm]}"))
        shapes.append(Mark(*runs[-1][-1], "circle", f"last {styles[curve.arm]}"))
        numbers = [value for value in curve.values if math.isfinite(value)]
        said.append(f"{curve.arm} from {number(numbers[0])} to {number(numbers[-1])}")
    shapes.append(Label(left, bottom + 34, _curve_note(curves), "tick"))
    description = f"{spaced(curves[0].metric)} ({curves[0].unit}) by {curves[0].x}: " + "; ".join(
        said
    )
    return Panel(NARROW, bottom + 42, description, tuple(shapes))


def relation_figure(page: ReportPage) -> Figure:
    """A panel for each relation: a mark for each arm, with its name where there is room."""
    styles = page_styles(page)
    return Figure(tuple(relation_panel(relation, styles) for relation in page.relations))


def relation_panel(relation: Relation, styles: dict[str, str]) -> Panel:
    """Marks of the arms; their names, to the right or left, give way to those above them."""
    top, bottom, left = 34.0, 330.0, 44.0
    x_scale = round_scale([x for _, x, _ in relation.points], left, WIDE - 6, num_ticks=4)
    y_scale = round_scale([y for _, _, y in relation.points], bottom, top, num_ticks=4)
    shapes: list[Shape] = [Label(0, TITLE_Y, relation.title, "title", note=relation.note)]
    shapes += [Line(left, y, WIDE - 6, y, "grid") for y, _ in y_scale.ticks()]
    shapes += [Label(left - 6, y + 4, text, "tick end") for y, text in y_scale.ticks()]
    shapes += [Label(x, bottom + 17, text, "tick middle") for x, text in x_scale.ticks()]
    shapes.append(
        Label(left, bottom + 34, f"x: {relation.x_label} · y: {relation.y_label}", "tick")
    )
    taken: list[tuple[float, float, float]] = []
    for name, x, y in sorted(relation.points, key=lambda point: -point[2]):
        place = (x_scale(x), y_scale(y))
        shown = shortened(name, WIDE / 2 - 8, 11)
        width = text_width(shown, 11)
        on_left = place[0] + 8 + width > WIDE
        start = place[0] - 8 - width if on_left else place[0] + 8
        height = place[1] + 4
        while any(abs(height - h) < 12 and start < b and start + width > a for a, b, h in taken):
            height += 4
        taken.append((start, start + width, height))
        shapes.append(Mark(*place, "circle", f"marker m0 {styles.get(name, 'a1')}"))
        shapes.append(Label(start, height, shown, "tick"))
    said = "; ".join(f"{name}: {number(x)}, {number(y)}" for name, x, y in relation.points)
    return Panel(
        WIDE,
        max([bottom, *(h for _, _, h in taken)]) + 42,
        f"{relation.title}. {said}",
        tuple(shapes),
    )


def criterion_figure(page: ReportPage) -> Figure:
    """Bars of the share met: demands in one panel; violations, lower is better, in another."""
    styles = page_styles(page)
    groups = (
        ("met", "higher is better", [row for row in page.criteria if not row.violation]),
        ("violated", "lower is better", [row for row in page.criteria if row.violation]),
    )
    panels = tuple(criterion_panel(*group, styles) for group in groups if group[2])
    arms = [arm for arm in styles if any(arm in row.shares for row in page.criteria)]
    return Figure(panels, tuple(Key(arm, f"swatch {styles[arm]}") for arm in arms))


def criterion_panel(
    title: str, direction: str, rows: Sequence[CriterionShares], styles: dict[str, str]
) -> Panel:
    """For each criterion kind its name, and a bar for each arm on the scale 0 to 1."""
    thickness, pitch = 8.0, 13.0
    scale = Scale(0.0, 1.0, 0.0, WIDE - 46, 0.25)
    y = 30.0
    shapes: list[Shape] = [Label(0, TITLE_Y, title, "title", note=f"share of answers, {direction}")]
    said = []
    for row in rows:
        if row.num_verdicts is not None:
            shapes.append(Label(WIDE, y + 14, f"n = {row.num_verdicts:,}", "tick end"))
        for line in wrapped(row.kind, WIDE - 66, TEXT_SIZE, max_lines=3):
            shapes.append(Label(0, y + 14, line, "name"))
            y += 16
        y += 5
        for arm, css in styles.items():
            if arm not in row.shares:
                continue
            share = row.shares[arm]
            shapes.append(Bar(0, y, scale.end, thickness, "track"))
            shapes.append(Bar(0, y, scale(share), thickness, f"bar {css}"))
            shapes.append(Label(WIDE, y + 8, number(share), "value small end"))
            said.append(f"{row.kind}, {arm}: {number(share)}")
            y += pitch
        y += 7
    return Panel(WIDE, y, f"share {title} ({direction}). " + "; ".join(said), tuple(shapes))


def whisker(interval: Interval, scale: Scale, y: float, css: str, place: int) -> list[Shape]:
    """A line from low to high and the marker of that place at the mean."""
    low, mean, high = scale(interval.low), scale(interval.mean), scale(interval.high)
    return [
        Line(low, y, high, y, f"whisker {css}"),
        Mark(mean, y, _marker(place), f"marker m{place % len(MARKERS)} {css}"),
    ]


def _marker(place: int) -> str:
    return tuple(MARKERS)[place % len(MARKERS)]


def _said(interval: Interval) -> str:
    return f"{number(interval.mean)}, {number(interval.low)} to {number(interval.high)}"


def _thinned(curve: Curve) -> list[tuple[float, float]]:
    """The points, or means over equal stretches (of the finite values) where there are too many."""
    points = list(zip(curve.steps, curve.values, strict=True))
    size = _stretch(curve)
    return [_mean_point(points[start : start + size]) for start in range(0, len(points), size)]


def _stretch(curve: Curve) -> int:
    return math.ceil(len(curve.steps) / MAX_POINTS) or 1


def _mean_point(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    finite = [point for point in points if math.isfinite(point[1])]
    if not finite:
        return points[0][0], math.nan
    return sum(x for x, _ in finite) / len(finite), sum(y for _, y in finite) / len(finite)


def _finite_runs(
    points: Sequence[tuple[float, float]],
) -> tuple[tuple[tuple[float, float], ...], ...]:
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return tuple(tuple(run) for run in runs if run)


def _curve_note(curves: Sequence[Curve]) -> str:
    """Name of the x axis, and what the lines do not show."""
    notes = [curves[0].x]
    size = max(_stretch(curve) for curve in curves)
    if size > 1:
        notes.append(f"means over up to {size} points")
    num_missing = sum(not math.isfinite(value) for curve in curves for value in curve.values)
    if num_missing:
        notes.append(f"{num_missing} not finite, left out")
    return " · ".join(notes)
