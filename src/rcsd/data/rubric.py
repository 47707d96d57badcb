"""Rubrics as rows: parsed and validated, and written back."""

import json
import re
from collections.abc import Mapping
from typing import Any

from rcsd.errors import RubricError
from rcsd.types import Criterion, Rubric

MAX_WEIGHT = 1e6
"""Points of a criterion, at most."""

CRITERION_KEYS = ("criterion", "weight", "title", "check")


def parse_rubric(value: object) -> Rubric:
    """Rubric from rows ``[{"criterion": str, "weight": number, "title"?: str, "check"?: {...}}]``.

    Raises:
        RubricError: Naming the criterion by its index and the field that is wrong.
    """
    if not isinstance(value, list):
        raise RubricError(f"expected a list of criteria, got {type(value).__name__}")
    return Rubric(tuple(_parse_criterion(row, index) for index, row in enumerate(value)))


def _parse_criterion(row: object, index: int) -> Criterion:
    if not isinstance(row, Mapping):
        raise RubricError(
            f"[{index}]: expected an object with {', '.join(CRITERION_KEYS)}, "
            f"got {type(row).__name__}"
        )
    unknown = sorted(set(row) - set(CRITERION_KEYS))
    if unknown:
        raise RubricError(
            f"[{index}].{unknown[0]}: unknown key; allowed are {', '.join(CRITERION_KEYS)}"
        )
    text, weight = row.get("criterion"), row.get("weight")
    if not isinstance(text, str) or not text.strip():
        raise RubricError(f"[{index}].criterion: expected a text that is not empty, got {text!r}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not is_sized(weight):
        raise RubricError(
            f"[{index}].weight: expected a number, got {weight!r}; at most {MAX_WEIGHT:g} in size"
        )
    if weight == 0:
        raise RubricError(f"[{index}].weight: 0 says nothing; give points, or drop the criterion")
    title, check = row.get("title", ""), row.get("check")
    if not isinstance(title, str):
        raise RubricError(f"[{index}].title: expected a text, got {title!r}")
    if check is not None and not isinstance(check, Mapping):
        raise RubricError(f"[{index}].check: expected an object such as {{'type': 'boxed'}}")
    if re.search("[\ud800-\udfff]", text + title):
        raise RubricError(f"[{index}]: holds half of a surrogate pair, which no UTF-8 can hold")
    return Criterion(text, weight, title, check)


def is_sized(weight: float) -> bool:
    """Whether points are a number that can be added to others: not NaN, and within bounds."""
    return abs(weight) <= MAX_WEIGHT


def rubric_rows(rubric: Rubric) -> list[dict[str, Any]]:
    """Rows that `parse_rubric` reads back to an equal rubric; empty fields are left out."""
    return [
        {"criterion": c.text, "weight": c.weight}
        | ({"title": c.title} if c.title else {})
        | ({"check": dict(c.check)} if c.check is not None else {})
        for c in rubric.criteria
    ]


def rubric_json(rubric: Rubric) -> str:
    """The form in which a model writes a rubric: one line of JSON, criteria and weights alone.

    Whole weights are written without a point: 1.0 as 1.
    """
    rows = [
        {"criterion": c.text, "weight": int(c.weight) if c.weight == int(c.weight) else c.weight}
        for c in rubric.criteria
    ]
    return json.dumps(rows, ensure_ascii=False)


def whole_criteria(text: str, finished: bool) -> Rubric | None:
    """The rubric that a model wrote as `rubric_json` does; of one that was cut off, what is whole.

    Args:
        text: What it wrote.
        finished: Whether it ended by itself. Else criteria up to the first that is not whole count.

    Returns:
        None if it is no rubric, or no whole criterion has a positive weight.
    """
    if not finished:
        position, criteria = 1, []
        while match := _WHOLE.match(text, position):
            criteria.append(match[1])
            position = match.end()
        text = f"[{', '.join(criteria)}]"
    try:
        return parse_rubric(json.loads(text))
    except (ValueError, RecursionError, RubricError):
        return None


_WHOLE = re.compile(r'(\{"criterion": "(?:[^"\\]|\\.)*", "weight": -?[0-9.]+\})(?:, |\]|,?\Z)')
