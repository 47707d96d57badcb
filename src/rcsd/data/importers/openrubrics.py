"""Reader of OpenRubrics rows (arXiv 2510.07743)."""

import re
from collections.abc import Mapping
from typing import Any

from rcsd.data.importers.dialogue import question_of, text_tags
from rcsd.data.importers.notes import Notes, Options
from rcsd.errors import DataError

FIELDS = frozenset({"id", "instruction", "rubric", "source"})

_ITEM = re.compile(r"^[ \t]*(\d+)[.)][ \t]+", re.MULTILINE)
_KIND = re.compile(r"\[(Hard Rule|Principle)s?\]", re.IGNORECASE)


def openrubrics_row(row: Mapping[str, Any], options: Options, notes: Notes) -> dict[str, Any]:
    """Our row of ``{"instruction": str, "rubric": str}``, the rubric as a numbered list.

    Its items end with their kind: ``1. The response names five artefacts. [Hard Rule]``.

    The data set has no weights: each criterion is worth one point, and its kind becomes its title.

    Raises:
        DataError: If the rubric is not a numbered list; nothing is made of other texts.
    """
    text = row.get("rubric")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"expected a text that is not empty, got {text!r}", field="rubric")
    if row.get("instruction") is None:
        raise DataError("the question is missing", field="instruction")
    return {
        **({} if row.get("id") is None else {"id": row["id"]}),
        "question": question_of(row["instruction"], "instruction", options, notes),
        "rubric": _criteria(text, notes),
        "tags": {"rubric_source": "openrubrics", **text_tags(row, "source")},
    }


def _criteria(text: str, notes: Notes) -> list[dict[str, Any]]:
    starts = list(_ITEM.finditer(text))
    if not starts or text[: starts[0].start()].strip():
        raise DataError(f"expected a numbered list, got {text[:60]!r}", field="rubric")
    numbers = [int(start[1]) for start in starts]
    if numbers != list(range(1, len(numbers) + 1)):
        raise DataError(f"expected the numbers 1, 2, ... in order, got {numbers}", field="rubric")
    criteria = []
    for index, start in enumerate(starts):
        end = starts[index + 1].start() if index + 1 < len(starts) else len(text)
        item = text[start.end() : end].strip()
        kinds = _KIND.findall(item)
        if len(kinds) != 1:
            reason = f"rubric[{index}]: expected one of [Hard Rule], [Principle], got {item!r}"
            notes.dropped.append(reason)
            continue
        kind = kinds[0].title()
        notes.rules.append(f"{kind}: one point, the data set has no weights")
        words = _KIND.sub("", item).strip()
        criteria.append({"criterion": words, "weight": 1.0, "title": kind})
    return criteria
