"""The few shapes that a figure is drawn from; ``templates/svg.jinja`` writes them.

Why hand-made SVG and not plotly: plotly's Python package ships only its full JavaScript (4.8 MB)
and no partial bundle, too heavy for a phone; and its figures need scripts, where these print,
follow the reader's dark mode and can be read with scripts turned off. A page is about 60 kB.

Coordinates are user units, y downwards. Colours are CSS classes: ``a0`` to ``a7`` are arms.
"""

from dataclasses import dataclass

NUM_ARM_COLOURS = 8

MARKERS: dict[str, str] = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "diamond": "M0 -5L5 0L0 5L-5 0z",
    "square": "M-3.5 -3.5H3.5V3.5H-3.5z",
    "triangle": "M0 -4.5L4.5 3.5H-4.5z",
}
"""Outlines around (0, 0). Shape tells splits apart, colour arms, so neither alone carries both."""


@dataclass(frozen=True, slots=True)
class Line:
    """A straight stroke."""

    x1: float
    y1: float
    x2: float
    y2: float
    css: str
    tag: str = "line"


@dataclass(frozen=True, slots=True)
class Label:
    """A line of text on the baseline y; `note` follows it in a quieter tone."""

    x: float
    y: float
    text: str
    css: str
    note: str = ""
    tag: str = "text"


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    css: str
    tag: str = "rect"


@dataclass(frozen=True, slots=True)
class Mark:
    """A marker centred at (x, y)."""

    x: float
    y: float
    marker: str
    css: str
    tag: str = "mark"

    @property
    def outline(self) -> str:
        """Path of the marker around (0, 0)."""
        return MARKERS[self.marker]


@dataclass(frozen=True, slots=True)
class Trace:
    """An open line through points; each run of points is drawn without a gap."""

    runs: tuple[tuple[tuple[float, float], ...], ...]
    css: str
    tag: str = "trace"


Shape = Line | Label | Bar | Mark | Trace


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture with its own axes.

    Args:
        width: In user units.
        height: In user units.
        description: What it shows, for those who cannot see it.
        shapes: Drawn in order.
    """

    width: float
    height: float
    description: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a legend: ``marker`` (a split), ``stroke`` (a line) or ``swatch`` (a bar)."""

    label: str
    css: str
    kind: str = "swatch"
    marker: str = ""

    @property
    def outline(self) -> str:
        """Path of the marker around (0, 0)."""
        return MARKERS[self.marker]


@dataclass(frozen=True, slots=True)
class Figure:
    """Panels that share a legend; `num_columns` of them stand side by side where they fit."""

    panels: tuple[Panel, ...]
    keys: tuple[Key, ...] = ()
    num_columns: int = 2


def arm_styles(names: tuple[str, ...], highlighted: frozenset[str]) -> dict[str, str]:
    """Colour class of each arm: ``a0``, the accent, for highlighted ones; the others in order.

    Where no arm is highlighted, the first one takes the accent.
    """
    accented = highlighted or frozenset(names[:1])
    others = [name for name in names if name not in accented]
    styles = {name: f"a{1 + i % (NUM_ARM_COLOURS - 1)}" for i, name in enumerate(others)}
    return {name: styles.get(name, "a0") for name in names}
