"""Base of the models that rows are read with, their field types, and their errors as sentences."""

import difflib
import math
import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, model_validator
from pydantic_core import PydanticCustomError


class RowModel(BaseModel):
    """A JSON object with a fixed set of fields; nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.keys() <= cls.model_fields.keys():
            return value
        names = list(cls.model_fields)
        allowed = ", ".join(names)
        if not isinstance(value, Mapping):
            raise ValueError(f"expected an object with {allowed}, got {shortened(value)}")
        for name in map(str, value):
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean '{close[0]}'? " if close else ""
                context = {"name": name, "error": f"unknown field; {hint}allowed are {allowed}"}
                raise PydanticCustomError("value_error", "{error}", context)
        return dict(value)


_MAX_SHOWN = 60
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = _MAX_SHOWN


def shortened(value: object) -> str:
    """Value as Python writes it, in one line of at most 60 characters; never a blob."""
    try:
        text = " ".join(_SHOWN.repr(value).split())
    except (ValueError, RecursionError):  # an integer of too many digits, a structure too deep
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 4]} ..."


def without_nan(value: Any) -> Any:
    """Value with null for every NaN, as tables hold them where there is nothing."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {name: without_nan(inner) for name, inner in value.items()}
    return [without_nan(inner) for inner in value] if isinstance(value, list) else value


def check_encodable(text: str) -> str:
    """Validate that UTF-8 can hold a text; it cannot hold half of a surrogate pair."""
    if re.search("[\ud800-\udfff]", text):
        raise ValueError("holds half of a surrogate pair, which no UTF-8 can hold")
    return text


def _check_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a text that is not empty, got {shortened(value)}")
    return check_encodable(value)


Text = Annotated[str, PlainValidator(_check_text)]
"""Text that is not empty."""

OptionalText = Annotated[
    str | None,
    PlainValidator(lambda value: None if is_absent(value) else _check_text(value)),
]
"""Text, or nothing: null, NaN and blank text are None."""


def is_absent(value: object) -> bool:
    """True of null, NaN and blank text."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (isinstance(value, float) and math.isnan(value))


MAX_FIELD_CHARACTERS = 200
"""Longest field in an error; only structures without end have a longer one."""

_SENTENCES = {
    "value_error": "{error}",
    "missing": "the {name} is missing",
    "union_tag_invalid": "check type {tag!r}: allowed are {expected_tags}",
    "literal_error": "{value}: allowed are {expected}",
    "list_type": "expected a list, got {value}",
    "dict_type": "expected an object of texts, got {value}",
    "string_type": "expected a text, got {value}",
    "float_type": "expected a number, got {value}",
    "union_tag_not_found": "expected an object with a type, got {value}",
    "model_attributes_type": "expected an object with a type, got {value}",
}
"""Sentence of each kind of pydantic's errors; of others their own message."""


def explain(error: ValidationError) -> tuple[str, str]:
    """Field of the first error, such as ``rubric[2].weight``, and what is wrong there."""
    first = error.errors(include_url=False)[0]
    context, place, message = first.get("ctx", {}), list(first["loc"]), first["msg"]
    place += [context["name"]] if "name" in context else []
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    sentence = _SENTENCES.get(first["type"], "{message}, got {value}").format(
        value=shortened(first["input"]),
        message=message[0].lower() + message[1:],
        **({"name": place[-1] if place else ""} | context),
    )
    return field.removeprefix(".")[:MAX_FIELD_CHARACTERS], sentence


def reason_name(reason: str) -> str:
    """Reason without what differs from row to row, for counting."""
    match = re.match(r"(?:field '([^']*)'|(rubric\[\d+\](?:\.\w+)?)): ", reason)
    place, rest = (match[1] or match[2], reason[match.end() :]) if match else ("", reason)
    rest = re.split(r", got |; |: | at column | \(", rest, maxsplit=1)[0]
    rest = re.sub(r"'[^']*'|\"[^\"]*\"|(?<!\w)-?\d+(?:\.\d+)?", "…", rest)
    place = re.sub(r"\[\d+\]", "[]", place)
    return f"{place}: {rest}" if place else rest


MAX_LISTED = 20
"""Problems of a file that one error lists."""


def problem_list(problems: Sequence[tuple[int | str, str]]) -> str:
    """Lines of the first problems by their places, and the number of each kind."""
    if len(problems) < 2:
        return ""
    lines = [f"  line {place}: {reason}" for place, reason in problems[:MAX_LISTED]]
    counts = Counter(reason_name(reason) for _, reason in problems).most_common(MAX_LISTED)
    kinds = "; ".join(f"{count} x {name}" for name, count in counts)
    return "\n".join([f"; {len(problems)} rows are malformed:", *lines, f"  in all: {kinds}"])
