"""Criteria of any shape that files hold become criteria of ours; docs/data.md has the rules."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rcsd.data.fields import shortened
from rcsd.data.importers.columns import NOTHING, Columns, look_up, parse_cell
from rcsd.data.importers.notes import Notes
from rcsd.data.importers.printed import printed_criteria, with_points
from rcsd.data.importers.weights import WEIGHT_WORDS, read_weights
from rcsd.errors import DataError

_CHILDREN = ("sub_criteria", "subcriteria", "sub_tasks", "children", "sub_items", "subitems")
_LEVELS = ("levels", "options", "scale", "scores", "score_descriptions", "ratings")
_LEVEL_KEY = re.compile(r"(?:score|level|rating)?[_ ]?(\d+)(?:-(\d+))?(?:[_ ]?description)?", re.I)
_DESCRIPTIONS = ("description", "text", "criteria", "criterion", "label", "name", "title")
_SCORES = ("score", "value", "points", "level", "weight")


def rubric_items(value: Any, field: str = "rubric") -> list[Any]:
    """Items of a rubric: of a list, an object, a JSON text, or a list in a text.

    An object may wrap a list, be one criterion, name each criterion, or give each its points.

    Raises DataError if the rubric has another shape.
    """
    value = parse_cell(value)
    if isinstance(value, str) and re.match(r"""\s*(\[\s*[\[{"']|\{\s*["'])""", value):
        raise DataError("begins like JSON, and is none", field=field)
    if isinstance(value, str):
        return list(printed_criteria(value, field))
    if isinstance(value, Mapping):
        return _items_of_object(value, field)
    if not isinstance(value, list) or not value:
        raise DataError(f"expected a list of criteria, got {shortened(value)}", field=field)
    items = [parse_cell(item) for item in value]
    if all(isinstance(item, str) for item in items):
        return list(with_points(items))
    return [_pair(item) if isinstance(item, list | tuple) else item for item in items]


def _pair(item: Sequence[Any]) -> Any:
    """Criterion of a text and its points."""
    if len(item) == 2 and isinstance(item[0], str):
        return {"criterion": item[0], "weight": item[1]}
    return item


def _items_of_object(value: Mapping[str, Any], field: str) -> list[Any]:
    values = list(value.values())
    lists = [name for name, inner in value.items() if isinstance(parse_cell(inner), list) and inner]
    if len(lists) == 1 and not _levels(value) and not _children(value):
        return rubric_items(value[lists[0]], field)
    if values and len(lists) == len(values):  # criteria by the word of their points
        return [
            item | {"weight": name} if isinstance(item, dict) and not item.get("weight") else item
            for name in lists
            for item in rubric_items(value[name], field)
        ]
    if values and all(isinstance(inner, int | float) for inner in values):
        return [{"criterion": name, "weight": inner} for name, inner in value.items()]
    if values and all(isinstance(inner, Mapping) for inner in values):
        return [{"title": name, **inner} for name, inner in value.items()]
    if len(values) > 1 and all(isinstance(inner, str) for inner in values) and not _levels(value):
        return [{"title": name, "criterion": inner} for name, inner in value.items()]
    return [value]


def read_criteria(
    value: Any, columns: Columns, notes: Notes, field: str, weights: Any = None
) -> list[dict[str, Any]]:
    """Criteria of a rubric, with the rules that decided them in the notes.

    ``weights`` is the list of points beside a list of texts, or None.

    Raises:
        DataError: If the rubric, a criterion or its points have another shape.
    """
    items = rubric_items(value, field)
    if isinstance(value, str) and isinstance(parse_cell(value), list | dict):
        notes.rules.append("rubric: read from a JSON text")
    if isinstance(weights, list):
        if len(weights) != len(items):
            message = f"{len(weights)} points for {len(items)} criteria"
            raise DataError(message, field=field)
        items = [{**item, "weight": w} for item, w in zip(items, weights, strict=True)]
    return _read(items, columns, notes, field)


def _read(items: Sequence[Any], columns: Columns, notes: Notes, field: str) -> list[dict[str, Any]]:
    for index, item in enumerate(items):
        if not isinstance(item, Mapping):
            message = f"expected a text or an object, got {shortened(item)}"
            raise DataError(message, field=f"{field}[{index}]")
    raw = [_raw_weight(item, columns) for item in items]
    points = read_weights(raw, columns.weights or WEIGHT_WORDS, field, notes)
    criteria = []
    for index, (item, weight) in enumerate(zip(items, points, strict=True)):
        place = f"rubric[{index}]"
        if weight == 0:
            notes.dropped.append(f"{place}.weight: 0 points say nothing")
            continue
        try:
            criterion = _criterion(item, columns, notes, f"{field}[{index}]") | {"weight": weight}
        except ValueError as error:
            notes.dropped.append(f"{place}.{columns.criterion or 'criterion'}: {error}")
            continue
        if children := _children(item):
            criteria += _leaves(criterion, children, columns, notes, f"{field}[{index}]")
            continue
        notes.rules.append(f"points {'below 0: a mistake' if weight < 0 else 'above 0: a demand'}")
        criteria.append(criterion)
    return criteria


def _raw_weight(item: Mapping[str, Any], columns: Columns) -> Any:
    """Points of an item; those of a class named detrimental are below 0, whatever their sign."""
    raw = look_up(item, columns.weight)
    if raw is None and columns.weight != NOTHING:
        raw = item.get("weight")
    if "annotations" in item and "detrimental" in str(look_up(item, "annotations.weight_class")):
        return -abs(raw) if isinstance(raw, int | float) else raw  # PRBench
    return raw


def _criterion(
    item: Mapping[str, Any], columns: Columns, notes: Notes, field: str
) -> dict[str, Any]:
    """Criterion without its points; a ValueError if its text says nothing."""
    name = columns.criterion or "criterion"
    text, levels = look_up(item, f"{name}|criterion|criteria|title|name"), _levels(item, field)
    if levels and not isinstance(text, str):
        message = "numbers name texts: give criteria as a list, graded levels beside a criterion"
        raise DataError(message, field=field)
    if levels and isinstance(text, str):
        text = f"{text.strip()} Highest level: {max(levels)[1]}"
        notes.rules.append("graded levels: the highest is the demand")
    if not isinstance(text, str) or not any(map(str.isalnum, text)):
        raise ValueError(f"expected a text with words, got {shortened(text)}")
    title = look_up(item, columns.title) if columns.title else item.get("title")
    titles = [title] if isinstance(title, str) else title if isinstance(title, list) else []
    title = ", ".join(part for part in titles if isinstance(part, str))
    check = item.get("check")
    return {
        "criterion": text,
        **({"title": title} if title and title != text else {}),
        **({"check": check} if check is not None else {}),
    }


def _levels(item: Mapping[str, Any], field: str = "") -> list[tuple[float, str]]:
    """Scores and descriptions of a criterion's graded levels.

    Raises DataError if levels have no numbers: which of them is the highest is not known.
    """
    inner = next((item[name] for name in _LEVELS if item.get(name)), None)
    if isinstance(inner, list):
        pairs = [(_score(level), _description(level)) for level in inner]
    else:
        keyed = inner if isinstance(inner, Mapping) else item
        pairs = [(_read_level(key), text) for key, text in keyed.items() if isinstance(text, str)]
    levels = [(s, t) for s, t in pairs if s is not None and isinstance(t, str) and t.strip()]
    if isinstance(inner, list | Mapping) and not levels:
        raise DataError("graded levels have no numbers; give each its score", field=field)
    return levels


@functools.lru_cache(maxsize=10_000)
def _read_level(key: str) -> float | None:
    match = _LEVEL_KEY.fullmatch(str(key))
    return None if match is None else float(match[2] or match[1])


def _score(level: Any) -> float | None:
    names = _SCORES if isinstance(level, Mapping) else ()
    value = next((level[name] for name in names if name in level), None)
    return float(value) if isinstance(value, int | float) else None


def _description(level: Any) -> Any:
    if not isinstance(level, Mapping):
        return level
    return next((level[n] for n in _DESCRIPTIONS if isinstance(level.get(n), str)), None)


def _children(item: Mapping[str, Any]) -> list[Any]:
    inner = next((item[name] for name in _CHILDREN if item.get(name)), None)
    return inner if isinstance(inner, list) else []


def _leaves(
    parent: Mapping[str, Any], items: list[Any], columns: Columns, notes: Notes, field: str
) -> list[dict[str, Any]]:
    """Leaves of a tree; each has the share of its parent's points that it has of its siblings'."""
    leaves = _read(rubric_items(items, field), columns, notes, field)
    total = sum(leaf["weight"] for leaf in leaves if leaf["weight"] > 0)
    total = total or sum(abs(leaf["weight"]) for leaf in leaves)
    if parent["weight"] < 0 and any(leaf["weight"] < 0 for leaf in leaves):
        raise DataError("points below 0 stand under points below 0", field=field)
    notes.rules.append("tree: its leaves are the criteria")
    return [
        leaf
        | {
            "criterion": f"{parent['criterion'].rstrip(' .:')}: {leaf['criterion']}",
            "weight": round(parent["weight"] * leaf["weight"] / total, 6),
        }
        for leaf in leaves
    ]
