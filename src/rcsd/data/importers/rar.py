"""Importer of RaR rows (Rubrics as Rewards, arXiv 2507.17746); makes the polarity explicit."""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rcsd.config import RarData
from rcsd.data.importers.dialogue import text_tags
from rcsd.data.importers.notes import ImportReport, Notes, Options, collect
from rcsd.data.importers.polarity import polarity
from rcsd.data.importers.written import read_written
from rcsd.data.lines import json_rows
from rcsd.errors import DataError
from rcsd.types import Example

WEIGHTS: Mapping[str, float] = {"Essential": 1.0, "Important": 0.7, "Optional": 0.3, "Pitfall": 0.9}
"""Points of each category, as in the paper's explicit aggregation."""

FIELDS = frozenset({"id", "question", "reference_answer", "question_source", "rubric", "rubrics"})

# Models that were asked for RaR's categories write Negative for Pitfall.
_CATEGORY = re.compile(
    rf"({'|'.join(WEIGHTS)}|Negative)(?: Criteria| Criterion)?:\s*(\S.*)", re.DOTALL
)
_WEIGHT_AT_THE_END = re.compile(r"(.*\S)\s*\bWeight:? (-?\d+)\.?", re.DOTALL)


def load(section: RarData) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section (`rcsd.data.load`), and the report of the import."""
    examples, report = import_rar(section.path)
    return examples, asdict(report)


def import_rar(path: str | Path) -> tuple[list[Example], ImportReport]:
    """Examples with the gold rubrics of a RaR file, and what was decided on the way.

    See `rar_row` for the layouts that are read.

    Raises:
        DataError: If the file cannot be read, is not JSONL, or yields no example.
    """
    examples, report = collect(json_rows(path), rar_row, Options(), FIELDS, str(path))
    return examples, replace(report, format="rar")


def rar_row(row: Mapping[str, Any], options: Options, notes: Notes) -> dict[str, Any]:
    """Our row of a RaR row, with the rubric that ``options.rubric`` names.

    Criteria as texts, ``{"rubrics": {"GT": ["Essential Criteria: ..."]}}``, get the points of
    `WEIGHTS`. Criteria as objects, ``{"rubric": [{"title", "description", "weight"}]}``, keep
    theirs. A rubric that is one text was written by a model, and is parsed (`read_written`). The
    category's name is cut from a criterion, which else stays as it is. The sign of a pitfall, and
    of what has negative points, follows from its phrasing: what a good answer avoids is worth
    positive points, what a bad answer does costs them; what no rule understands is left out and
    listed.

    Raises:
        DataError: Naming the field that is not as in RaR.
    """
    given = _rubric(row, options.rubric)
    if isinstance(given, str):
        written = read_written(given)
        given = written.items
        notes.repairs += written.repairs
        notes.dropped += written.dropped
    if not isinstance(given, list) or not given:
        raise DataError("expected a list of criteria that is not empty", field="rubric")
    criteria = []
    for index, item in enumerate(given):
        try:
            criterion, rule = _criterion(item, index, notes)
        except ValueError as error:
            notes.dropped.append(f"rubric[{index}]: {error}")
        else:
            criteria.append(criterion)
            notes.rules.append(rule)
    return {
        **({} if row.get("id") is None else {"id": row["id"]}),
        "question": row.get("question"),
        "reference_answer": row.get("reference_answer"),
        "rubric": criteria,
        "tags": {"rubric_source": f"rar:{options.rubric}", **text_tags(row, "question_source")},
    }


def _rubric(row: Mapping[str, Any], name: str) -> object:
    """The rubric of that name: one of ``rubrics``, or for GT the field ``rubric``."""
    rubrics = row.get("rubrics")
    if isinstance(rubrics, Mapping):
        if rubrics.get(name) is not None:
            return rubrics[name]
        there = ", ".join(key for key, value in rubrics.items() if value is not None)
        kind = "gold rubric" if name == "GT" else f"rubric {name!r}"
        raise DataError(f"no {kind}; there are {there or 'none'}", field=f"rubrics.{name}")
    if name == "GT" and isinstance(row.get("rubric"), list):
        return row["rubric"]
    if name == "GT":
        raise DataError(
            "no gold rubric: expected rubrics.GT or rubric to be a list", field="rubric"
        )
    raise DataError(f"no rubric {name!r}: the row has no object of rubrics", field="rubrics")


def _criterion(given: object, index: int, notes: Notes) -> tuple[dict[str, Any], str]:
    """A criterion's row, and the name of the rule that decided its points."""
    title, points, text = "", None, given
    if isinstance(given, Mapping):
        title, text = given.get("title") or "", given.get("description")
        text, points = _points(text, given.get("weight"), index, notes)
        if isinstance(points, bool) or not isinstance(points, int | float) or points == 0:
            raise ValueError(f"expected a weight that is a number and not 0, got {points!r}")
    if not isinstance(text, str) or not any(map(str.isalnum, text)):
        raise ValueError(f"expected a text with words, got {text!r}")
    match = _CATEGORY.fullmatch(text.strip())
    if match is not None:
        category, text = match.groups()
    elif points is not None:
        category = "Pitfall" if points < 0 else "no category"
    else:
        raise ValueError(f"expected '{', '.join(WEIGHTS)} Criteria: ...', got {given!r}")
    category = "Pitfall" if category == "Negative" else category
    size = WEIGHTS[category] if points is None else abs(points)
    sign, rule = 1, category
    if category == "Pitfall" or (points is not None and points < 0):
        sign, phrasing = polarity(text)
        rule = f"{category}, {phrasing}"
    return {"criterion": text, "weight": sign * size, "title": title or category}, rule


def _points(text: object, points: object, index: int, notes: Notes) -> tuple[object, object]:
    """Text and points of a criterion; misplaced points are put right, and that is noted."""
    if isinstance(points, str):
        try:
            number = float(points)
        except ValueError:
            return text, points
        notes.repairs.append(("weight given as a text", f"rubric[{index}]: {points!r}"))
        return text, int(number) if number.is_integer() else number
    found = _WEIGHT_AT_THE_END.fullmatch(text) if isinstance(text, str) else None
    if points is None and found is not None:
        notes.repairs.append(
            ("weight taken from the end of the text", f"rubric[{index}]: {found[2]}")
        )
        return found[1], int(found[2])
    return text, points
