"""Reader of ResearchQA rows (arXiv 2509.00496)."""

import datetime
from collections.abc import Mapping
from typing import Any

from rcsd.data.importers.dialogue import text_tags
from rcsd.data.importers.notes import Notes, Options
from rcsd.errors import DataError

FIELDS = frozenset({"id", "general_domain", "subdomain", "field", "query", "date", "rubric"})


def researchqa_row(row: Mapping[str, Any], options: Options, notes: Notes) -> dict[str, Any]:
    """Our row of ``{"id", "query", "rubric": [{"rubric_item": str, "type": [str]}]}``.

    An item is a question about the answer and has no weight in the data set, whose score is the
    mean over the items: each is worth one point. Its types become its title.

    Raises:
        DataError: Naming the field that is not as in ResearchQA.
    """
    del options  # one question and one rubric a row
    given = row.get("rubric")
    if not isinstance(given, list) or not given:
        raise DataError(f"expected a list of rubric items, got {given!r}", field="rubric")
    criteria = []
    for index, item in enumerate(given):
        text = item.get("rubric_item") if isinstance(item, Mapping) else None
        if not isinstance(text, str) or not any(map(str.isalnum, text)):
            reason = f"rubric[{index}].rubric_item: expected a text with words, got {text!r}"
            notes.dropped.append(reason)
            continue
        notes.rules.append("rubric item: one point, as the data set's mean over items")
        criteria.append({"criterion": text, "weight": 1.0, "title": _title(item.get("type"))})
    if row.get("query") is None:
        raise DataError("the question is missing", field="query")
    return {
        **({} if row.get("id") is None else {"id": row["id"]}),
        "question": row["query"],
        "rubric": criteria,
        "tags": {
            "rubric_source": "researchqa",
            **text_tags(row, "general_domain", "subdomain", "field"),
            **_date(row.get("date")),
        },
    }


def _title(types: object) -> str:
    if isinstance(types, str):
        return types
    if isinstance(types, list):
        return ", ".join(name for name in types if isinstance(name, str))
    return ""


def _date(given: object) -> dict[str, str]:
    if isinstance(given, datetime.date):  # a datetime is one too
        return {"date": given.isoformat()}
    return {"date": given} if isinstance(given, str) and given else {}
