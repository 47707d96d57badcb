"""Benchmarks as panels: arms down the side, published figures as hollow marks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rcsd.evaluation.report.figures import TEXT_SIZE, TITLE_Y, WIDE, whisker
from rcsd.evaluation.report.scales import round_scale
from rcsd.evaluation.report.shapes import Figure, Key, Label, Line, Mark, Panel, Shape, arm_styles
from rcsd.evaluation.report.text import number, shortened, text_width
from rcsd.evaluation.statistics import Interval


@dataclass(frozen=True, slots=True)
class BenchmarkPanel:
    """What one panel shows, in points of 100.

    Args:
        title: The benchmark, or what is averaged.
        note: What is measured.
        intervals: Of the arms that have one.
        published: Figures of others, by the arm beside which they stand.
    """

    title: str
    note: str
    intervals: Mapping[str, Interval]
    published: Mapping[str, float]


def benchmark_figure(arms: Sequence[str], panels: Sequence[BenchmarkPanel]) -> Figure:
    """A panel for each benchmark on a scale of its own, so that single points can be seen."""
    styles = arm_styles(tuple(arms), frozenset())
    keys = (
        Key("ours, 95% interval", "marker m0 a1", "marker", "circle"),
        Key("published", "marker m1 a1", "marker", "circle"),
    )
    drawn = tuple(_panel(arms, panel, styles) for panel in panels)
    return Figure(drawn, keys if any(panel.published for panel in panels) else ())


def _panel(arms: Sequence[str], panel: BenchmarkPanel, styles: Mapping[str, str]) -> Panel:
    ends = [end for of in panel.intervals.values() for end in (of.low, of.mean, of.high)]
    label_width = min(0.46 * WIDE, max(text_width(arm, TEXT_SIZE) for arm in arms) + 16)
    numbers = [*ends, *panel.published.values()]
    scale = round_scale(numbers, label_width, WIDE - 46, from_zero=False)
    top, row_height = 32.0, 30.0
    bottom = top + row_height * len(arms)
    shapes: list[Shape] = [Label(0, TITLE_Y, panel.title, "title", note=panel.note)]
    shapes += [Line(x, top, x, bottom, "grid") for x, _ in scale.ticks()]
    shapes += [Label(x, bottom + 17, text, "tick middle") for x, text in scale.ticks()]
    said = []
    for index, arm in enumerate(arms):
        y = top + row_height * (index + 0.5)
        shapes.append(Label(0, y + 4, shortened(arm, label_width - 8, TEXT_SIZE), "name"))
        interval, published = panel.intervals.get(arm), panel.published.get(arm)
        if interval is not None:
            shapes += whisker(interval, scale, y, styles[arm], 0)
            shapes.append(Label(WIDE, y + 4, number(interval.mean), "value end"))
            ours = f"{number(interval.mean)}, {number(interval.low)} to {number(interval.high)}"
            said.append(f"{arm}: {ours}")
        if published is not None:
            # Beneath our own, so that neither hides the other.
            shapes.append(Mark(scale(published), y + 9, "circle", f"marker m1 {styles[arm]}"))
            said.append(f"{arm}, published: {number(published)}")
    return Panel(WIDE, bottom + 24, f"{panel.title}. " + "; ".join(said), tuple(shapes))
