"""A page as one HTML file that loads nothing, and its figures as SVG files of their own."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rcsd.errors import UserError
from rcsd.evaluation.report.figures import (
    criterion_figure,
    curve_figure,
    difference_axis,
    difference_panel,
    headroom_figure,
    page_styles,
    relation_figure,
    rubric_figure,
    score_figure,
)
from rcsd.evaluation.report.page import ReportPage
from rcsd.evaluation.report.shapes import Figure
from rcsd.evaluation.report.tables import arms_table, range_text
from rcsd.evaluation.report.text import MINUS, number, p_value_text, spaced, text_width
from rcsd.io import write_text
from rcsd.redact import shown_text

FIGURES: dict[str, Callable[[ReportPage], Figure]] = {
    "scores": score_figure,
    "rubrics": rubric_figure,
    "criteria": criterion_figure,
    "headroom": headroom_figure,
    "relations": relation_figure,
    "curves": curve_figure,
}
FOREST_WIDTH = 150.0
MARGIN = 20.0


def write_report(page: ReportPage, path: Path) -> None:
    """Write the page, whole or not at all; an older file of that name is replaced.

    Raises:
        DataError: The file cannot be written there.
    """
    write_text(path, report_html(page))


def report_html(page: ReportPage) -> str:
    """The page as HTML: no scripts, no loads, everything foreign escaped and made visible."""
    scale, axis = difference_axis(page.differences, FOREST_WIDTH)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            page=page,
            styles=page_styles(page),
            table=arms_table(page.arms, page.estimates),
            scores=score_figure(page) if page.estimates else None,
            rubrics=rubric_figure(page) if page.rubrics else None,
            criteria=criterion_figure(page) if page.criteria else None,
            headroom=headroom_figure(page) if page.headroom else None,
            relations=relation_figure(page) if page.relations else None,
            curves=curve_figure(page) if page.curves else None,
            difference_axis=axis,
            forest=[(row, difference_panel(row, scale, FOREST_WIDTH)) for row in page.differences],
        )
    )


def figure_svg(page: ReportPage, name: str) -> str:
    """One figure of the page as an SVG file of its own, light or dark as the reader prefers.

    Args:
        page: The rows.
        name: A key of `FIGURES`.

    Raises:
        UserError: No such figure, or the page has no rows for it.
    """
    rows = {
        "scores": page.estimates,
        "rubrics": page.rubrics,
        "criteria": page.criteria,
        "headroom": page.headroom,
        "relations": page.relations,
        "curves": page.curves,
    }
    if name not in FIGURES:
        raise UserError(f"no figure {name!r}; there are {', '.join(FIGURES)}")
    if not rows[name]:
        raise UserError(f"the page has no rows for the figure {name!r}")
    return svg_of(FIGURES[name](page))


def svg_of(figure: Figure) -> str:
    """A figure as an SVG file of its own, light or dark as the reader prefers."""
    keys, x = [], 0.0
    for key in figure.keys:
        keys.append((x, key))
        x += 24 + text_width(key.label, 13) + 16
    head = 34.0 if keys else 0.0
    num_columns = min(figure.num_columns, len(figure.panels))
    column_width = max(panel.width for panel in figure.panels) + 2 * MARGIN
    placed, y = [], head
    for start in range(0, len(figure.panels), num_columns):
        row = figure.panels[start : start + num_columns]
        placed += [(column * column_width, y, panel) for column, panel in enumerate(row)]
        y += max(panel.height for panel in row) + MARGIN
    width = num_columns * column_width - 2 * MARGIN
    return (
        _environment()
        .get_template("figure.svg.jinja")
        .render(keys=keys, placed=placed, width=max(width, x), height=y - MARGIN, margin=MARGIN)
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rcsd.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters |= {
        "number": number,
        "place": _place,
        "range_text": range_text,
        "p_value": p_value_text,
        "points": _points,
        "spaced": spaced,
        "verdict": _verdict,
    }
    return environment


def _visible(value: object) -> object:
    """Last door before the page: every text passes here, then through the escaping."""
    return shown_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _place(value: float) -> str:
    """Coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


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
