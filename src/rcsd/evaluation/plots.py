"""Figures of a report: rows -> panels, which `rcsd.evaluation.svg` draws. Imports no torch."""

import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rcsd.evaluation.report import CriterionShares, Curve, Estimate, ReportPage
from rcsd.evaluation.statistics import Interval
from rcsd.evaluation.svg import (
    DASHES,
    HEX,
    TEXT_SIZE,
    TICK_SIZE,
    Key,
    Panel,
    Panels,
    Pen,
    marker,
    text_width,
    tick_text,
)
from rcsd.evaluation.text import number, spaced

WIDE, NARROW = 350.0, 300.0
"""Widths of a panel: its text stays readable on a phone of 390 pixels."""
Colours = Mapping[str, str]
"""Name of an arm -> name of its colour in the theme."""


def figures(page: ReportPage) -> dict[str, Panels]:
    """Every figure that the page has rows for, by the name of its section."""
    colours = arm_colours(page)
    strong = {arm.name for arm in page.arms if arm.highlight}
    headroom = [Estimate(view, "", "score", interval) for view, interval in page.headroom.items()]
    built = {
        "scores": _estimate_figure(page.estimates, colours, strong),
        "differences": _difference_figure(page.differences),
        "rubrics": _estimate_figure(page.rubrics, colours, strong),
        "criteria": _criterion_figure(page.criteria, colours),
        "headroom": _estimate_figure(headroom, {}, set()),
        "curves": _curve_figure(page.curves, colours),
    }
    return {name: figure for name, figure in built.items() if figure.panels}


def arm_colours(page: ReportPage) -> dict[str, str]:
    """Colour of each arm: ``a0``, the accent, for the first highlighted one, or else the first."""
    names = page.arm_names()
    accented = [*(arm.name for arm in page.arms if arm.highlight), *names][:1]
    others = [name for name in names if name not in accented]
    return dict.fromkeys(names, "a0") | {name: f"a{1 + i % 7}" for i, name in enumerate(others)}


# Dots and whiskers


def _estimate_figure(rows: Sequence[Estimate], colours: Colours, strong: set[str]) -> Panels:
    """Arms down the side, a panel for each metric, a marker for each split."""
    splits = tuple(dict.fromkeys(row.split for row in rows))
    named = dict.fromkeys(row.arm for row in rows)
    arms = [arm for arm in colours if arm in named] or [*named]
    panels = []
    for metric in dict.fromkeys(row.metric for row in rows):
        cells = {(row.arm, row.split): row.interval for row in rows if row.metric == metric}
        ends = [end for i in cells.values() for end in (i.low, i.mean, i.high)]
        is_share = min(ends) >= 0 and 0.5 < max(ends) <= 1
        ticks = [0, 0.25, 0.5, 0.75, 1] if is_share else round_ticks(ends, 4)
        panels.append(_dot_panel(spaced(metric), cells, ticks, (arms, splits), colours, strong))
    keys = tuple(Key(spaced(split), "quiet", place) for place, split in enumerate(splits))
    return Panels(tuple(panels), keys if len(keys) > 1 else ())


def _difference_figure(rows: Sequence[Estimate]) -> Panels:
    """A panel for each split and metric, on one scale; intervals that hold 0 are grey."""
    ends = [end for row in rows for end in (row.interval.low, row.interval.high)]
    ticks = round_ticks(ends, 6, has_zero=True)
    panels = []
    for key in dict.fromkeys((row.split, row.metric) for row in rows):
        of_key = {row.arm: row.interval for row in rows if (row.split, row.metric) == key}
        cells = {(arm, key[0]): interval for arm, interval in of_key.items()}
        colours = {arm: "a1" if i.low <= 0 <= i.high else "a0" for arm, i in of_key.items()}
        panels.append(_dot_panel(spaced(key[1]), cells, ticks, ([*colours], key[:1]), colours))
    return Panels(tuple(panels))


def _dot_panel(
    title: str,
    cells: Mapping[tuple[str, str], Interval],
    ticks: Sequence[float],
    names: tuple[Sequence[str], Sequence[str]],
    colours: Colours,
    strong: Collection[str] | None = None,
) -> Panel:
    """Whiskers from low to high, markers at means, means as text at the right edge.

    ``cells`` have an interval by row and split, ``names`` are the rows and the splits; ``strong``
    rows are bold; None: the intervals are differences.
    """
    rows, splits = names
    is_difference = strong is None
    used = [split for split in splits if any(key[1] == split for key in cells)]
    row_height = 24.0 if is_difference else 13.0 + 17.0 * len(used)
    left = min(0.46 * WIDE, max(text_width(row, TEXT_SIZE) for row in rows) + 16)

    def draw(pen: Pen) -> None:
        pen.x_axis(ticks, has_grid=True)
        if is_difference:
            pen.ax.axvline(0, color=HEX["faint"], lw=1)
        for index, row in enumerate(rows):
            middle, colour = row_height * (index + 0.5), colours.get(row, "a0")
            if index:
                top = [middle - row_height / 2] * 2
                line = {"transform": pen.pixels, "color": HEX["rule"], "lw": 0.75}
                pen.ax.add_line(Line2D([0, WIDE], top, **line))
            for y, line in _spread(wrapped(row, left - 8, max_lines=2), middle, 13):
                pen.text(0, y, line, weight="bold" if row in (strong or ()) else "normal")
            for y, split in _spread(used, middle, 17):
                if (interval := cells.get((row, split))) is not None:
                    pen.ax.plot([interval.low, interval.high], [y, y], color=HEX[colour], lw=2)
                    pen.ax.plot(interval.mean, y, **marker(splits.index(split), colour))
                    pen.text(WIDE, y, number(interval.mean, is_difference), size=12, ha="right")

    numbers = "; ".join(
        f"{row} {spaced(split)}: {format(interval, '+.2f' if is_difference else '.2f')}"
        for (row, split), interval in cells.items()
    )
    note, height = spaced(splits[0]) if is_difference else "", row_height * len(rows)
    return Panel(title, note, f"{title}. {numbers}", WIDE, height, (left, 46, 24), draw)


def _spread(items: Sequence[str], middle: float, pitch: float) -> list[tuple[float, str]]:
    """Items with their heights, evenly around a middle."""
    top = middle - pitch * (len(items) - 1) / 2
    return [(top + pitch * place, item) for place, item in enumerate(items)]


# Bars


def _criterion_figure(rows: Sequence[CriterionShares], colours: Colours) -> Panels:
    """Bars of the share met: demands in one panel; violations, lower is better, in another."""
    demands, violations = ([r for r in rows if r.violation == of] for of in (False, True))
    groups = ("met", "higher is better", demands), ("violated", "lower is better", violations)
    panels = tuple(_bar_panel(*group, colours) for group in groups if group[2])
    arms = [arm for arm in colours if any(arm in row.shares for row in rows)]
    return Panels(panels, tuple(Key(arm, colours[arm], 2) for arm in arms))


def _bar_panel(
    title: str, direction: str, rows: Sequence[CriterionShares], colours: Colours
) -> Panel:
    """The name of each criterion kind, and below it a bar for each arm on the scale 0 to 1."""
    names: list[tuple[float, str]] = []
    counts: list[tuple[float, int]] = []
    bars: list[tuple[float, float, str]] = []
    y = 8.0
    for row in rows:
        counts.append((y, row.num_verdicts))
        for line in wrapped(row.kind, WIDE - 66, max_lines=3):
            names.append((y, line))
            y += 16
        for arm in (arm for arm in colours if arm in row.shares):
            bars.append((y, row.shares[arm], colours[arm]))
            y += 13
        y += 12

    def draw(pen: Pen) -> None:
        pen.ax.set(xlim=(0, 1), xticks=[])
        for middle, name in names:
            pen.text(0, middle, name)
        for middle, count in counts:
            pen.small(WIDE, middle, f"n = {count:,}", ha="right")
        for middle, share, colour in bars:
            pen.ax.barh(middle, [1, share], height=8, color=[HEX["track"], HEX[colour]])
            pen.small(WIDE, middle, number(share), ha="right")

    numbers = "; ".join(
        f"{row.kind}, {arm}: {number(share)}" for row in rows for arm, share in row.shares.items()
    )
    description = f"Share {title}, {direction}. {numbers}"
    return Panel(title, f"share of answers, {direction}", description, WIDE, y, (0, 46, 0), draw)


# Lines


def _curve_figure(rows: Sequence[Curve], colours: Colours) -> Panels:
    """A small panel for each metric, a line for each arm."""
    panels = tuple(
        _curve_panel([row for row in rows if (row.metric, row.unit) == key], colours)
        for key in dict.fromkeys((row.metric, row.unit) for row in rows)
    )
    arms = [arm for arm in colours if any(row.arm == arm for row in rows)]
    keys = tuple(Key(arm, colours[arm]) for arm in arms)
    return Panels(panels, keys if len(keys) > 1 else (), num_columns=3)


def _curve_panel(curves: Sequence[Curve], colours: Colours) -> Panel:
    """Lines of one metric over the steps; what is not finite breaks the line and is counted.

    The last finite value of a line gets a dot, and those that stand alone between gaps.
    """
    lines = [
        (colours[curve.arm], np.array(curve.steps, dtype=float), np.array(curve.values))
        for curve in curves
    ]
    x, y = (np.concatenate([line[axis] for line in lines]) for axis in (1, 2))
    x, y, num_missing = x[np.isfinite(y)], y[np.isfinite(y)], np.count_nonzero(~np.isfinite(y))
    x_ticks, y_ticks = round_ticks(x, 4), round_ticks(y, 4)
    left = max(text_width(tick_text(tick), TICK_SIZE) for tick in y_ticks) + 10
    title, unit = spaced(curves[0].metric), curves[0].unit
    height = 142.0

    def draw(pen: Pen) -> None:
        pen.x_axis(x_ticks)
        if len(set(x)) > 1:
            pen.ax.set_xlim(x.min(), x.max())
        pen.y_axis(y_ticks)
        for colour, steps, values in lines:
            pen.ax.plot(steps, values, color=HEX[colour], lw=1.75, ls=DASHES.get(colour, "-"))
            finite = np.pad(np.isfinite(values), 1)
            alone = finite[1:-1] & ~finite[:-2] & ~finite[2:]
            dots = np.union1d(np.flatnonzero(alone), np.flatnonzero(finite[1:-1])[-1:])
            style = {"ms": 6, "mfc": HEX[colour], "mec": HEX["surface"], "mew": 1.25}
            pen.ax.plot(steps[dots], values[dots], "o", **style)
        missing = f" · {num_missing} not finite, left out" if num_missing else ""
        pen.small(left, height + 32, f"step{missing}")

    ends = [(curve.arm, [v for v in curve.values if math.isfinite(v)]) for curve in curves]
    numbers = "; ".join(f"{arm} from {number(v[0])} to {number(v[-1])}" for arm, v in ends if v)
    description = f"{title} ({unit}) by step: {numbers}"
    return Panel(title, unit, description, NARROW, height, (left, 6, 40), draw)


# Scales and labels


def round_ticks(values: Iterable[float], num_ticks: int, has_zero: bool = False) -> list[float]:
    """Round numbers around the values, with 0 where it must be or is near; of none, 0 to 1."""
    finite = list(values) or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if has_zero or 0 < low <= high / 2:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
    ticks = MaxNLocator(num_ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in ticks]


def wrapped(text: str, width: float, max_lines: int) -> list[str]:
    """Text broken into lines of a width, with an ellipsis where more lines would be needed."""
    num_letters = max(8, int(width * len(text) / max(1.0, text_width(text, TEXT_SIZE))))
    return textwrap.wrap(text, num_letters, max_lines=max_lines, placeholder="…") or [""]
