"""Importer of RaR rows (Rubrics as Rewards, arXiv 2507.17746); makes the polarity explicit."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcsd.data.rows import example_from_row, json_rows
from rcsd.errors import DataError
from rcsd.types import Example

WEIGHTS: Mapping[str, float] = {"Essential": 1.0, "Important": 0.7, "Optional": 0.3, "Pitfall": 0.9}
"""Points of each category, as in the paper's explicit aggregation."""

_CATEGORY = re.compile(rf"({'|'.join(WEIGHTS)})(?: Criteria)?:\s*(\S.*)", re.DOTALL)

# How a pitfall is phrased, and the sign that this gives; the first rule that matches decides. RaR
# writes pitfalls both as what a good answer avoids and as what a bad answer does.
_PITFALLS: tuple[tuple[str, int, re.Pattern[str]], ...] = (
    (
        "violation: it fails, flags, omits ...",
        -1,
        re.compile(
            r"(?i)^(?:(?:the )?(?:answer|response)s? (?:that )?)?(?:merely |wrongly |incorrectly )?"
            r"(?:fail|flag|omit|ignor|neglect|overlook|confus|mistak|misinterpret|misappl|state)\w*\b"
        ),
    ),
    (
        "violation: it does not mention that ...",
        -1,
        re.compile(
            r"(?i)^(?:the \w+ )?(?:does|do) not (?:(?:mention|state|note|indicate|acknowledge) that"
            r"|(?:address|discuss|explain|consider|clarify|specify|provide|account for)\b)"
        ),
    ),
    (
        "avoidance: it avoids, does not, warns against ...",
        +1,
        re.compile(
            r"(?i)\b(?:avoid|refrain)(?:s|ing)?\b|\b(?:should|must|may|can) ?not\b"
            r"|\b(?:does|do) not\b(?! mention\b)"
            r"|\b(?:warn|caution|alert|guard)(?:s|ing)?(?: \w+)? against\b"
        ),
    ),
    (
        "demand: it ensures, advises ...",
        +1,
        re.compile(r"(?i)^(?:ensure|advise|require|verif)\w*\b"),
    ),
)


@dataclass(frozen=True)
class ImportReport:
    """What an importer did.

    Args:
        num_rows: Rows in the file.
        counts: How many criteria each rule decided, by the rule's name.
        dropped_rows: Line and reason of each row that became no example.
        dropped_criteria: Line and reason of each criterion that was left out of its rubric.
    """

    num_rows: int
    counts: Mapping[str, int]
    dropped_rows: tuple[tuple[int, str], ...]
    dropped_criteria: tuple[tuple[int, str], ...]


def import_rar(path: str | Path) -> tuple[list[Example], ImportReport]:
    """Examples with the gold rubrics of a RaR file, and what was decided on the way.

    Two layouts are read. Criteria as texts, ``{"rubrics": {"GT": ["Essential Criteria: ..."]}}``,
    get the points of `WEIGHTS`. Criteria as objects, ``{"rubric": [{"title", "description",
    "weight"}]}``, keep theirs. The category's name is cut from the text, which else stays as it is.
    A pitfall's sign follows from its phrasing: what a good answer avoids is worth positive points,
    what a bad answer does costs them; a pitfall that no rule understands is left out and listed.
    Other fields of a row are not read.

    Raises:
        DataError: If the file cannot be read, is not JSONL, or yields no example.
    """
    examples: dict[str, Example] = {}
    counts: Counter[str] = Counter()
    dropped_rows: list[tuple[int, str]] = []
    dropped_criteria: list[tuple[int, str]] = []
    num_rows = 0
    for line, row in json_rows(path):
        num_rows += 1
        rules: list[str] = []
        reasons: list[str] = []
        try:
            example = _example(row, line, rules, reasons)
            if example.id in examples:
                raise DataError(f"{example.id!r} is the id of an earlier row", field="id")
        except DataError as error:
            dropped_rows.append((line, str(error)))
            continue
        examples[example.id] = example
        counts.update(rules)
        dropped_criteria += [(line, reason) for reason in reasons]
    report = ImportReport(num_rows, dict(counts), tuple(dropped_rows), tuple(dropped_criteria))
    if not examples:
        raise DataError(f"no row became an example; the first: {dropped_rows[0][1]}", path)
    return list(examples.values()), report


def _example(row: Mapping[str, Any], line: int, rules: list[str], reasons: list[str]) -> Example:
    criteria = []
    for index, given in enumerate(_gold(row)):
        try:
            criterion, rule = _criterion(given)
        except ValueError as error:
            reasons.append(f"rubric[{index}]: {error}")
        else:
            criteria.append(criterion)
            rules.append(rule)
    kept = {name: row.get(name) for name in ("question", "reference_answer")}
    given_id = {} if row.get("id") is None else {"id": row["id"]}
    return example_from_row({**given_id, **kept, "rubric": criteria}, line=line)


def _gold(row: Mapping[str, Any]) -> list[Any]:
    rubrics = row.get("rubrics")
    gold = rubrics.get("GT") if isinstance(rubrics, Mapping) else row.get("rubric")
    if not isinstance(gold, list) or not gold:
        raise DataError(
            "no gold rubric: expected rubrics.GT or rubric to be a list", field="rubric"
        )
    return gold


def _criterion(given: object) -> tuple[dict[str, Any], str]:
    """A criterion's row, and the name of the rule that decided its points."""
    title, points = "", None
    text = given
    if isinstance(given, Mapping):
        title, text, points = (
            given.get("title") or "",
            given.get("description"),
            given.get("weight"),
        )
        if isinstance(points, bool) or not isinstance(points, int | float) or points == 0:
            raise ValueError(f"expected a weight that is a number and not 0, got {points!r}")
    match = _CATEGORY.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is not None:
        category, text = match.groups()
    elif points is not None and isinstance(text, str) and text.strip():
        category = "Pitfall" if points < 0 else "no category"
    else:
        raise ValueError(f"expected '{', '.join(WEIGHTS)} Criteria: ...', got {given!r}")
    size = WEIGHTS[category] if points is None else abs(points)
    sign, rule = _polarity(text) if category == "Pitfall" else (1, category)
    return {"criterion": text, "weight": sign * size, "title": title or category}, rule


def _polarity(pitfall: str) -> tuple[int, str]:
    for rule, sign, pattern in _PITFALLS:
        if pattern.search(pitfall):
            return sign, f"Pitfall, {rule}"
    raise ValueError(f"unclear whether it names a mistake or its avoidance: {pitfall!r}")
