"""Base of the models that rows are read with, their field types, and their errors as sentences."""

import difflib
import re
import textwrap
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, model_validator

_HALF_PAIR = re.compile("[\ud800-\udfff]")


class UnknownFieldError(ValueError):
    """A field that a row does not have, and the fields that it may have."""

    def __init__(self, name: str, allowed: list[str]) -> None:
        close = difflib.get_close_matches(name, allowed, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        super().__init__(f"unknown field; {hint}allowed are {', '.join(allowed)}")
        self.name = name


class RowModel(BaseModel):
    """A JSON object with a fixed set of fields; nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, value: Any) -> Any:
        allowed = list(cls.model_fields)
        if not isinstance(value, Mapping):
            raise ValueError(
                f"expected an object with {', '.join(allowed)}, got {shortened(value)}"
            )
        for name in value:
            if name not in allowed:
                raise UnknownFieldError(str(name), allowed)
        return dict(value)


def shortened(value: object) -> str:
    """Value as Python writes it, in one line of at most 80 characters."""
    try:
        return textwrap.shorten(repr(value), 80, placeholder=" ...")
    except (ValueError, RecursionError):  # an integer of too many digits, a structure too deep
        return f"a {type(value).__name__} too large to show"


def check_text(value: object) -> str:
    """Validate a text.

    Raises:
        ValueError: If it is no text, is empty, or holds half of a surrogate pair.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a text that is not empty, got {shortened(value)}")
    return check_encodable(value)


def check_encodable(text: str) -> str:
    """Validate that UTF-8 can hold a text.

    Raises:
        ValueError: If it holds half of a surrogate pair.
    """
    if _HALF_PAIR.search(text):
        raise ValueError("holds half of a surrogate pair, which no UTF-8 can hold")
    return text


Text = Annotated[str, PlainValidator(check_text)]
"""Text that is not empty."""


MAX_FIELD_CHARACTERS = 200
"""Longest field in an error; only structures without end have a longer one."""


def explain(error: ValidationError) -> tuple[str, str]:
    """Field of the first error, such as ``rubric[2].weight``, and what is wrong there."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    place = list(first["loc"])
    if isinstance(cause, UnknownFieldError):
        place.append(cause.name)
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return field.removeprefix(".")[:MAX_FIELD_CHARACTERS], _sentence(first, cause)


_EXPECTED = {
    "list_type": "a list",
    "dict_type": "an object of texts",
    "string_type": "a text",
    "float_type": "a number",
    "union_tag_not_found": "an object with a type",
    "model_attributes_type": "an object with a type",
}


def _sentence(error: Any, cause: object) -> str:
    kind, value = error["type"], error["input"]
    if cause is not None:
        return str(cause)
    if kind == "missing":
        return f"the {error['loc'][-1]} is missing"
    if kind == "union_tag_invalid":
        return f"check type {error['ctx']['tag']!r}: allowed are {error['ctx']['expected_tags']}"
    if kind == "literal_error":
        return f"{shortened(value)}: allowed are {error['ctx']['expected']}"
    expected = _EXPECTED.get(kind)
    if expected is None:
        return f"{error['msg'][0].lower()}{error['msg'][1:]}, got {shortened(value)}"
    return f"expected {expected}, got {shortened(value)}"
