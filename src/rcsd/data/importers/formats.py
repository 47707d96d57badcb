"""Readers of published formats: a row of a data set becomes a row of ours.

All but RaR are tables of paths (`rcsd.data.importers.layouts`). A row of another layout is a
DataError that names the field; a criterion that cannot be read is left out and noted.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeGuard

from rcsd.config.data import Format, Pitfalls
from rcsd.data.fields import shortened
from rcsd.data.importers.layouts import LAYOUTS, read_row
from rcsd.data.importers.notes import Notes, text_tags, text_with_words
from rcsd.data.polarity import pitfall_sign
from rcsd.errors import DataError

Reader = Callable[[Mapping[str, Any], Notes], dict[str, Any]]
"""Function from a row of a data set to a row of ours; it raises a DataError for what it refuses."""


def read_as(name: Format) -> Reader:
    """Reader of a format with a name, by its own columns."""
    if name == "rar":
        return rar_row
    layout = LAYOUTS[name]
    return partial(read_row, columns=layout.columns, layout=layout, origin=name)


def _row(source: Mapping[str, Any], origin: str, id: str = "id", **fields: Any) -> dict[str, Any]:
    """Row of ours; an id that is null or empty is left to the line number."""
    tags = {"rubric_source": origin, **fields.pop("tags", {})}
    there = {} if source.get(id) in (None, "") else {"id": source[id]}
    return {**there, **fields, "tags": tags}


def _criteria(
    items: object, field: str, notes: Notes, read: Callable[[Any], tuple[dict[str, Any], str]]
) -> list[dict[str, Any]]:
    """Criteria of a list, each with the name of the rule that decided its points."""
    if not isinstance(items, list) or not items:
        raise DataError(f"expected a list of criteria, got {shortened(items)}", field=field)
    criteria = []
    for index, item in enumerate(items):
        try:
            criterion, rule = read(item)
        except DataError as error:
            name = f".{error.field}" if error.field else ""
            notes.dropped.append(f"rubric[{index}]{name}: {error.message}")
        except ValueError as error:
            notes.dropped.append(f"rubric[{index}]: {error}")
        else:
            criteria.append(criterion)
            notes.rules.append(rule)
    return criteria


def _none_if_blank(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


# RaR (Rubrics as Rewards, arXiv 2507.17746)

WEIGHTS: Mapping[str, float] = {"Essential": 1.0, "Important": 0.7, "Optional": 0.3, "Pitfall": 0.9}
"""Points of each category, as in the paper's explicit aggregation."""

_CATEGORY = re.compile(rf"({'|'.join(WEIGHTS)})(?: Criteria| Criterion)?:\s*(\S.*)", re.DOTALL)


def rar_row(source: Mapping[str, Any], notes: Notes, pitfalls: Pitfalls = "data") -> dict[str, Any]:
    """Row of a RaR row, with its gold rubric.

    Criteria as texts, ``{"rubrics": {"GT": ["Essential Criteria: ..."]}}``, get the points of
    `WEIGHTS`. Criteria as objects, ``{"rubric": [{"title", "description", "weight"}]}``, keep
    theirs. The category's name is cut from a criterion. The sign of a pitfall, and of what has
    negative points, is decided by `rcsd.data.polarity.pitfall_sign`: what a good answer avoids is
    worth positive points, what a bad answer does costs them.
    """
    rubrics = source.get("rubrics")
    items = rubrics.get("GT") if isinstance(rubrics, Mapping) else source.get("rubric")
    if not isinstance(items, list):
        raise DataError(
            "no gold rubric: expected rubrics.GT or rubric to be a list", field="rubric"
        )
    return _row(
        source,
        "rar:GT",
        question=source.get("question"),
        reference_answer=_none_if_blank(source.get("reference_answer")),
        rubric=_criteria(items, "rubric", notes, partial(_rar, pitfalls=pitfalls)),
        tags=text_tags(source, "question_source"),
    )


def _rar(item: object, pitfalls: Pitfalls) -> tuple[dict[str, Any], str]:
    title, points, text = "", None, item
    if isinstance(item, Mapping):
        title, text, points = item.get("title") or "", item.get("description"), item.get("weight")
        if not _is_number(points) or points == 0:
            raise ValueError(f"expected a weight that is a number and not 0, got {points!r}")
    text = text_with_words(text)
    match = _CATEGORY.fullmatch(text.strip())
    if match is not None:
        category, text = match.groups()
    elif points is not None:
        category = "Pitfall" if points < 0 else "no category"
    else:
        raise ValueError(f"expected '{', '.join(WEIGHTS)} Criteria: ...', got {item!r}")
    weight, rule = WEIGHTS[category] if points is None else abs(points), category
    if category == "Pitfall" or (points is not None and points < 0):
        sign, reason = pitfall_sign(text, points, pitfalls)
        weight, rule = sign * weight, f"{category}, {reason}: {'earns' if sign > 0 else 'costs'}"
    return {"criterion": text, "weight": weight, "title": title or category}, rule
