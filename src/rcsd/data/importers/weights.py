"""Points of criteria from what files hold: numbers, percentages, booleans, words, nothing."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rcsd.data.fields import is_absent, shortened
from rcsd.data.importers.notes import Notes
from rcsd.data.rubric import MAX_WEIGHT
from rcsd.errors import DataError

WEIGHT_WORDS: Mapping[str, float] = {
    **dict.fromkeys(("essential", "critical", "required", "mandatory", "must", "must have"), 1.0),
    **dict.fromkeys(("important", "major", "should", "should have"), 0.7),
    **dict.fromkeys(("optional", "minor", "could", "nice to have"), 0.3),
    **{"high": 1.0, "medium": 0.7, "low": 0.3},
}
"""Points of words, on the scale of RaR's explicit aggregation (arXiv 2507.17746)."""

_NUMBER = re.compile(
    r"([+-]?\d+(?:\.\d+)?|[+-]?\d+,\d{1,2}|[+-]?\.\d+)\s*(%|points?|pts?\.?)?", re.IGNORECASE
)


def read_weights(
    values: Sequence[Any], words: Mapping[str, float], field: str, notes: Notes
) -> list[float]:
    """Points of the criteria of one rubric; a criterion without any is worth 1.

    Raises DataError if points are of several kinds, or a value means no points.
    """
    table = {_plain(word): points for word, points in words.items()}
    read = [_read(value, table, f"{field}[{n}].weight") for n, value in enumerate(values)]
    kinds = {kind for kind, _ in read if kind != "missing"}
    if len(kinds) > 1:
        raise DataError(
            f"points of several kinds in one rubric: {', '.join(sorted(kinds))}; write all as "
            "numbers",
            field=field,
        )
    for kind, _ in read:
        if kind != "a number":
            notes.rules.append("no points: 1" if kind == "missing" else f"points from {kind}")
    return [points for _, points in read]


def is_missing(value: Any) -> bool:
    """True of null, NaN, a blank text, and an empty list or object."""
    return is_absent(value) or (isinstance(value, list | dict) and not value)


def _plain(word: str) -> str:
    return re.sub(r"[\s_-]+", " ", word).strip().lower()


def _read(value: Any, words: Mapping[str, float], field: str) -> tuple[str, float]:
    kind, points = "a number", math.nan
    if is_missing(value):
        return "missing", 1.0
    if isinstance(value, bool):
        kind, points = "true or false", float(value)
    elif isinstance(value, int | float):
        points = value
    elif isinstance(value, str) and (match := _NUMBER.fullmatch(value.strip())):
        points = float(match[1].replace(",", "."))
        kind = "a percentage" if match[2] == "%" else kind
    elif isinstance(value, str) and _plain(value) in words:
        points = words[_plain(value)]
        kind = "a word" if words.keys() <= WEIGHT_WORDS.keys() else kind
    if not abs(points) <= MAX_WEIGHT:
        allowed = f"a number of at most {MAX_WEIGHT:g} in size"
        if isinstance(value, str):
            allowed = (
                f"a number, or one of {', '.join(words)} (weights: in a mapping file adds words)"
            )
        raise DataError(f"expected {allowed}, got {shortened(value)}", field=field)
    return kind, points
