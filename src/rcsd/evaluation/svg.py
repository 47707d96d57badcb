"""Panels -> SVG, drawn by matplotlib in colours that follow the reader's light or dark theme.

Units are pixels; y counts downwards from the top of a panel's axes.
"""

import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Affine2D, Bbox, Transform

from rcsd.evaluation.text import MINUS
from rcsd.redact import shown_text

TEXT_SIZE, TICK_SIZE = 12.5, 11.0
THEME = (resources.files("rcsd.evaluation") / "templates" / "theme.css").read_text("utf-8")
"""The colours as CSS variables, light or dark as the reader prefers."""
HEX = dict(re.findall(r"--([\w-]+): (#\w{6})", THEME[: THEME.index("@media")]))
"""Name of a colour -> its light value, which stands for it until the drawing is cleaned."""
_VARIABLES = {light: f"var(--{name})" for name, light in HEX.items()}
# Lines differ by dashes as well as colours, for eyes and printers without them.
DASHES = {"a1": (1, (1, 2)), "a2": (0, (5, 2, 1, 2)), "a3": (0, (4, 2)), "a5": (0, (4, 2))}
# Marker of each split, with its size; every second one is hollow.
_MARKERS = (("o", 7.5), ("D", 6.0), ("s", 6.5), ("^", 7.5))


@dataclass(frozen=True, slots=True)
class Pen:
    """Axes of a panel, and a transform from pixels right of its edge and below its axes' top."""

    ax: Axes
    pixels: Transform

    def x_axis(self, ticks: Sequence[float], has_grid: bool = False) -> None:
        """Set ticks, with the first and last as the ends of the axis."""
        self.ax.set_xlim(ticks[0], ticks[-1])
        self.ax.set_xticks(ticks, [tick_text(tick) for tick in ticks])
        self.ax.grid(has_grid, axis="x")

    def y_axis(self, ticks: Sequence[float]) -> None:
        """Set ticks with a grid; y is in units of the data from here on."""
        self.ax.set_ylim(ticks[0], ticks[-1])
        self.ax.set_yticks(ticks, [tick_text(tick) for tick in ticks])
        self.ax.grid(axis="y")

    def text(self, x: float, y: float, text: str, colour: str = "ink", **style: Any) -> None:
        """Write a line whose middle is at a height y."""
        style = {"size": TEXT_SIZE, "color": HEX[colour], "transform": self.pixels} | style
        self.ax.text(x, y + 0.35 * style["size"], shown_text(text), **style)

    def small(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write a quiet line of the size of ticks."""
        self.text(x, y, text, "quiet", size=TICK_SIZE, **style)


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes, of a height, with margins left of, right of and below them.

    ``note`` stands below the title; ``description`` has the numbers in words. ``draw`` gets axes
    whose y is in pixels from their upper end, unless it sets a scale.
    """

    title: str
    note: str
    description: str
    width: float
    height: float
    margins: tuple[float, float, float]
    draw: Callable[[Pen], None]


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a legend: a line's colour and dashes, or a marker."""

    label: str
    colour: str
    marker: int | None = None


@dataclass(frozen=True, slots=True)
class Panels:
    """Panels that share a legend; `num_columns` of them stand side by side where they fit."""

    panels: tuple[Panel, ...]
    keys: tuple[Key, ...] = ()
    num_columns: int = 2


def panel_svg(panel: Panel, ident: str) -> Markup:
    """A panel for a page, in which `ident` is unique; title and numbers in words are part of it."""
    top = 48.0 if panel.note else 32.0
    left, right, below = panel.margins

    def draw(figure: Figure) -> None:
        box = Bbox.from_bounds(left, below, panel.width - left - right, panel.height)
        ax = figure.add_axes(box.transformed(figure.transFigure.inverted()).bounds)
        ax.set(ylim=(panel.height, 0), yticks=[], frame_on=False, axisbelow=True)
        ax.tick_params(length=0, pad=6, labelsize=TICK_SIZE, labelcolor=HEX["quiet"])
        pen = Pen(ax, Affine2D().scale(1, -1).translate(0, panel.height + below))
        pen.text(0, 11 - top, panel.title, size=13.5, weight="bold")
        pen.text(0, 28 - top, panel.note, "quiet", size=12)
        panel.draw(pen)
        for artist in ax.findobj(lambda artist: isinstance(artist, Line2D | Patch)):
            artist.set_clip_on(False)

    root = _svg((panel.width, top + panel.height + below), draw, ident)
    labels = f"{ident}-title {ident}-desc"
    root.attrib |= {"role": "img", "aria-labelledby": labels, "class": "panel"}
    for place, (tag, text) in enumerate((("title", panel.title), ("desc", panel.description))):
        words = ElementTree.Element(tag, {"id": f"{ident}-{tag}"})
        words.text = shown_text(text)
        root.insert(place, words)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def key_svg(key: Key, ident: str) -> Markup:
    """The sign of a legend's entry for a page, in which `ident` is unique."""

    def draw(figure: Figure) -> None:
        ends, look = [8.0], marker(key.marker or 0, key.colour)
        if key.marker is None:
            line = DASHES.get(key.colour, "-")
            ends, look = [0.0, 18.0], {"color": HEX[key.colour], "lw": 2.25, "ls": line}
        figure.add_artist(Line2D(ends, [8] * len(ends), transform=Affine2D(), **look))

    root = _svg((18, 16), draw, ident)
    root.set("aria-hidden", "true")
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _svg(
    size: tuple[float, float], draw: Callable[[Figure], object], name: str
) -> ElementTree.Element:
    """Draw with a pixel a point; the name makes ids unique in a page, and the same each time."""
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.sans-serif": ["DejaVu Sans"],
        "text.parse_math": False,
        "grid.color": HEX["grid"],
        "grid.linewidth": 1,
        "lines.solid_capstyle": "round",
        "lines.dash_capstyle": "round",
    }
    file = io.StringIO()
    with style.context(["default", settings]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser has its own
        figure = Figure((size[0] / 72, size[1] / 72), dpi=72, facecolor="none")
        draw(figure)
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", facecolor="none", metadata=metadata)
    root = _cleaned(ElementTree.fromstring(file.getvalue()))
    assert root is not None
    width, height = (f"{part:g}" for part in size)
    root.attrib = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return root


def _cleaned(element: ElementTree.Element) -> ElementTree.Element | None:
    """The drawing alone: theme colours, the page's face, no metadata, no empty groups."""
    tag = element.tag.rpartition("}")[2]
    inner = [part for part in map(_cleaned, element) if part is not None]
    empty = (tag in ("g", "defs") and not inner) or (tag == "path" and not element.get("d"))
    if empty or tag in ("metadata", "style"):
        return None
    if tag == "g" and len(inner) == 1 and not element.attrib.keys() - {"id"}:
        return inner[0]
    cleaned = ElementTree.Element(tag)
    cleaned.text = element.text if tag == "text" else None
    cleaned.extend(inner)
    for name, value in element.attrib.items():
        if name == "style":
            value = re.sub(r"font-family:[^;]*(; |$)", "", value)
            value = re.sub("#[0-9a-f]{6}", lambda match: _VARIABLES[match[0]], value)
        elif name != "id":
            value = re.sub(r"(\.\d\d)\d+", r"\1", value).replace("\n", "")
        if not (value.startswith("rotate(-0") or (name == "id" and tag == "g")):
            cleaned.set(name.rpartition("}")[2], value)
    return cleaned


def tick_text(value: float) -> str:
    """``0.25``, ``1,500``: as many digits as a tick needs, with a true minus sign."""
    return f"{value:,.10g}".replace("-", MINUS)


def text_width(text: str, size: float) -> float:
    """Estimated width in a sans-serif face of that size; wide East Asian letters count more."""
    return size * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.56 for c in text)


def marker(place: int, colour: str) -> dict[str, Any]:
    """Style of the marker of a split: shape tells splits apart, colour arms."""
    shape, size = _MARKERS[place % len(_MARKERS)]
    fill = HEX["surface" if place % 2 else colour]
    return {"marker": shape, "ls": "none", "ms": size, "mfc": fill, "mec": HEX[colour], "mew": 1.75}
