"""Rubrics as rows: parsed and validated, written back, and as a language that a model writes."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainValidator, TypeAdapter, ValidationError

from rcsd.data.checks import parse_check
from rcsd.data.fields import RowModel, Text, check_encodable, explain, shortened
from rcsd.data.thinking import OPENED, after_thinking
from rcsd.errors import RubricError
from rcsd.types import Criterion, Rubric

MAX_WEIGHT = 1e6
"""Largest size of a criterion's points."""


def _check_weight(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= MAX_WEIGHT:
        raise ValueError(
            f"expected a number, got {shortened(value)}; at most {MAX_WEIGHT:g} in size"
        )
    if value == 0:
        raise ValueError("0 says nothing; give points, or drop the criterion")
    return value


def _check_check(value: Any) -> Mapping[str, Any] | None:
    value = _without_nulls(value)
    try:
        return None if value is None or not parse_check(value) else value
    except RubricError as error:
        raise ValueError(str(error)) from error


def _without_nulls(value: Any) -> Any:
    """Check without the fields that tables fill with null, since other rows' checks have them."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


# Tables fill a column that other rows have with null.
_Title = Annotated[
    str,
    AfterValidator(check_encodable),
    BeforeValidator(lambda title: "" if title is None else title),
]


class CriterionRow(RowModel):
    """A criterion ``{"criterion": str, "weight": number, "title"?: str, "check"?: {...}}``."""

    criterion: Text
    weight: Annotated[float, PlainValidator(_check_weight)]
    title: _Title = ""
    check: Annotated[Mapping[str, Any] | None, PlainValidator(_check_check)] = None


_CRITERIA = TypeAdapter(list[CriterionRow])


def parse_rubric(value: object) -> Rubric:
    """Rubric from a list of rows, each as in `CriterionRow`.

    Raises RubricError naming the criterion by its index and the field that is wrong.
    """
    if not isinstance(value, list):
        raise RubricError(f"expected a list of criteria, got {type(value).__name__}")
    try:
        return build_rubric(_CRITERIA.validate_python(value))
    except ValidationError as error:
        raise RubricError(": ".join(explain(error))) from error


def build_rubric(rows: list[CriterionRow]) -> Rubric:
    """Rubric of validated rows; RubricError if no criterion has positive points."""
    return Rubric(tuple(Criterion(r.criterion, r.weight, r.title, r.check) for r in rows))


def rubric_rows(rubric: Rubric) -> list[dict[str, Any]]:
    """Rows that `parse_rubric` reads back to an equal rubric; empty fields are left out."""
    return [
        {"criterion": c.text, "weight": c.weight}
        | ({"title": c.title} if c.title else {})
        | ({"check": dict(c.check)} if c.check is not None else {})
        for c in rubric.criteria
    ]


def rubric_json(rubric: Rubric) -> str:
    """Rubric as a model writes it: one line of JSON, criteria and weights alone, 1.0 as 1."""
    rows = [
        {"criterion": c.text, "weight": int(c.weight) if c.weight == int(c.weight) else c.weight}
        for c in rubric.criteria
    ]
    return json.dumps(rows, ensure_ascii=False)


_COMPLETE = re.compile(r'(\{"criterion": "(?:[^"\\]|\\.)*", "weight": -?[0-9.]+\})(?:, |\]|,?\Z)')


def parse_completion(text: str, finished: bool) -> Rubric | None:
    """Rubric that a model wrote in the form of `rubric_json`; None if it is no rubric.

    Of a completion that was cut off (not ``finished``) the criteria before the cut count.
    """
    # A grammar holds from the first token on, also where the prompt opened a block of thinking.
    rest = after_thinking(text)
    text = text.removeprefix(OPENED) if rest is None else rest
    if not finished:
        position, criteria = 1, []
        while match := _COMPLETE.match(text, position):
            criteria.append(match[1])
            position = match.end()
        text = f"[{', '.join(criteria)}]"
    try:
        return parse_rubric(json.loads(text))
    except (ValueError, RecursionError, RubricError):
        return None


# A text begins with what str.strip leaves, and with none of three that cannot be seen.
_FIRST = r'[^"\\\x00-\x20\x7f-\xa0\u1680\u2000-\u200b\u2028-\u202f\u205f\u3000\ue000\ufeff]'
_CHARACTER = r'[^"\\\x00-\x1f\x7f-\x9f\u2028\u2029]|\\["\\/]'
_POINTS = r"(?:[1-9][0-9]?(?:\.[0-9]{1,2})?|100|0\.(?:[1-9][0-9]?|0[1-9]))"


def rubric_regex(max_criteria: int, max_characters: int) -> str:
    r"""Regular expression of every rubric in the form of `rubric_json`.

    ``[{"criterion": "...", "weight": 3}, ...]`` on one line, with at least one positive weight;
    sizes of weights are 0.01 to 100 with two decimals at most. Texts have up to ``max_characters``;
    escapes are ``\"``, ``\\`` and ``\/``, each counted as one. llguidance takes up to 80 criteria.
    """
    if max_criteria < 1 or max_characters < 1:
        raise ValueError("a rubric needs room for one criterion of one character")
    text = f'(?:{_FIRST}|\\\\["\\\\/])(?:{_CHARACTER}){{0,{max_characters - 1}}}'

    def criterion(sign: str) -> str:
        return rf'\{{"criterion": "{text}", "weight": {sign}{_POINTS}\}}'

    positive, negative, either = criterion(""), criterion("-"), criterion("-?")
    # From the last place to the first: a positive criterion and then any, or a negative one first.
    places = positive
    for room in range(1, max_criteria):
        places = f"(?:{positive}(?:, {either}){{0,{room}}}|{negative}, {places})"
    return rf"\[{places}\]"
