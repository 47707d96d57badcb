"""Rubrics printed as text: numbered lists, bullets, one line, with points and kinds in brackets."""

import re
from typing import Any

from rcsd.errors import DataError

_HEADER = re.compile(
    r"\A\s*[#*_ ]*(?:[\w-]+ ){0,2}(?:rubrics?|criteria|checklist|requirements)[*_: ]*(?:\n|\Z)",
    re.IGNORECASE,
)
_MARK = re.compile(
    r"^([ \t]*)(?:\(?(\d+)[.):]|[-*•\u2013+](?: \[[ xX]?\])?)[ \t]+(?=\S)", re.MULTILINE
)
_INLINE = re.compile(r"(?:^|(?<=[\s\]]))\(?(\d+)[.)]\s+(?=\S)")
_KIND = re.compile(r"\[(Hard Rule|Principle)s?\]", re.IGNORECASE)
_POINTS = (
    r"[(\[]\s*(?:(weight|points?|importance|score)\s*[:=]?)?\s*([+-]?\d+(?:\.\d+)?%?)"
    r"(?:\s*/\s*\d+)?\s*(points?|pts?\.?)?\s*[)\]]"
)
_AFTER = re.compile(rf"\s*{_POINTS}\s*\.?\s*\Z", re.IGNORECASE)
_BEFORE = re.compile(rf"\A\s*{_POINTS}\s*", re.IGNORECASE)


def printed_criteria(text: str, field: str) -> list[dict[str, Any]]:
    """Criteria of a list in a text, as objects with ``criterion``, ``weight`` and ``title``.

    An item's deeper lines belong to it. A text of one line without a mark is one criterion. A bare
    number in brackets is the points only where every item has one: it may be a year.

    Raises DataError if the numbers are not 1, 2, ..., or several lines have no mark.
    """
    return with_points(_items(text, field))


def with_points(items: list[str]) -> list[dict[str, Any]]:
    """Criteria of texts, with the points and the kind that stand in brackets beside them."""
    points = [_AFTER.search(item) or _BEFORE.match(item) for item in items]
    all_have = all(points)
    return [
        _criterion(item, match if match and (all_have or match[1] or match[3]) else None)
        for item, match in zip(items, points, strict=True)
    ]


def _criterion(item: str, points: re.Match[str] | None) -> dict[str, Any]:
    if points is not None:
        item = item[: points.start()] + item[points.end() :]
    kinds = [kind.title() for kind in _KIND.findall(item)]
    text = _KIND.sub("", item).strip()
    weight = None if points is None else points[2]
    return {"criterion": text, "weight": weight, "title": kinds[0] if len(kinds) == 1 else ""}


def _items(text: str, field: str) -> list[str]:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("**", "")
    body = _HEADER.sub("", text).strip("\n")
    marks = list(_MARK.finditer(body))
    if marks:
        depth = min(len(mark[1].expandtabs()) for mark in marks)
        marks = [mark for mark in marks if len(mark[1].expandtabs()) == depth]
    if "\n" not in body.strip() and body.strip()[:1] in "(1":
        marks = list(_INLINE.finditer(body)) or marks
    lines = [line for line in body.splitlines() if line.strip()]
    if not marks and len(lines) == 1:
        return [lines[0].strip()]
    if not marks or body[: marks[0].start()].strip():
        raise DataError("expected a numbered list, bullets, or one line a criterion", field=field)
    _check_numbers([mark.groups()[-1] for mark in marks], field)
    ends = [*(mark.start() for mark in marks[1:]), len(body)]
    return [body[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]


def _check_numbers(numbers: list[str | None], field: str) -> None:
    counted = [int(number) for number in numbers if number]
    if counted and counted != list(range(1, len(numbers) + 1)):
        raise DataError(f"expected the numbers 1, 2, ... in order, got {counted}", field=field)
