r"""Checks: conditions on an answer that code can decide, as rows hold them.

=============  ====================================  ==============================================
type           keys                                  met if the text
=============  ====================================  ==============================================
contains       text                                  holds it, whitespace and letter case aside
matches        pattern                               holds a match of the regular expression
before         first, then (a pattern)               holds ``first`` and no match of ``then`` before
number         value, tolerance? (relative, 1e-6)    holds a standalone number of that value
expression     text, such as ``4 * 180``             holds it, however the operators are written
boxed                                                holds a ``\boxed{...}`` that is not empty
unit           unit                                  has a final answer: a number with this unit
final_number   value, tolerance?                     has a final answer with that number
any, all       checks                                meets one of them, meets all of them
not            check                                 does not meet it
=============  ====================================  ==============================================

A final answer is one that is marked: in a box, or after ``Answer:`` or the like.
"""

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, get_args

import regex
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from rcsd.errors import RubricError


def _compile(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


_EXAMPLE = "a check such as {'type': 'boxed'}"

# Descriptions end the sentence "expected ..." of an error.
_Text = Annotated[
    str, StringConstraints(pattern=r"\S"), Field(description="a text that is not empty")
]
_Pattern = Annotated[_Text, AfterValidator(_compile), Field(description="a regular expression")]
_Value = Annotated[float, Field(description="a number")]
_Tolerance = Annotated[float, Field(ge=0, lt=1, description="a number of at least 0 and below 1")]


class _Base(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TextCheck(_Base):
    """Holds a text, whitespace and letter case aside; or an expression, however it is written."""

    type: Literal["contains", "expression"]
    text: _Text


class Matches(_Base):
    """Holds a match of a regular expression."""

    type: Literal["matches"]
    pattern: _Pattern


class Before(_Base):
    """Holds a text, and no match of a pattern before it."""

    type: Literal["before"]
    first: _Text
    then: _Pattern


class NumberCheck(_Base):
    """Holds a number, or has it as the final answer: ``|a - value| <= tolerance |value|``."""

    type: Literal["number", "final_number"]
    value: _Value
    tolerance: _Tolerance = 1e-6


class Boxed(_Base):
    r"""Holds a ``\boxed{...}`` that is not empty."""

    type: Literal["boxed"]


class Unit(_Base):
    """Has a final answer with a unit, compared as written."""

    type: Literal["unit"]
    unit: _Text


class Combined(_Base):
    """Meets one of several checks, or all of them."""

    type: Literal["any", "all"]
    checks: Annotated[
        Sequence["Check"], Field(min_length=1, description="a list of checks that is not empty")
    ]


class Not(_Base):
    """Does not meet a check."""

    type: Literal["not"]
    check: "Check"


Check = Annotated[
    TextCheck | Matches | Before | NumberCheck | Boxed | Unit | Combined | Not,
    Field(discriminator="type", description=_EXAMPLE),
]

CHECK_TYPES: Mapping[str, type[_Base]] = {
    name: model
    for model in get_args(get_args(Check)[0])
    for name in get_args(model.model_fields["type"].annotation)
}
"""The model of each type of check."""

for _model in (Combined, Not):
    _model.model_rebuild()
_ADAPTER: TypeAdapter[Check] = TypeAdapter(Check)


def parse_check(check: object) -> Check:
    """The check that a row holds.

    Raises:
        RubricError: If it is malformed; names the check, its key, and what is allowed.
    """
    try:
        return _ADAPTER.validate_python(dict(check) if isinstance(check, Mapping) else check)
    except ValidationError as error:
        raise RubricError(_describe(error.errors(include_url=False))) from error


def _describe(errors: Sequence[ErrorDetails]) -> str:
    """An error of pydantic, as ``check 'all': checks: [1]: check 'unit': the key ...``."""
    # A misspelt key also leaves one missing.
    error = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    kind, loc, value = error["type"], error["loc"], error["input"]
    is_about_key = kind in ("extra_forbidden", "missing", "invalid_key")
    place, expected = list[str](), _EXAMPLE
    fields: Mapping[str, FieldInfo] = {}
    for part in loc[:-1] if is_about_key else loc:
        if isinstance(part, int):
            place.append(f"[{part}]")
        elif fields:  # behind a type stands a key, and behind that a type again
            place.append(part)
            expected, fields = fields[part].description, {}
        else:
            place.append(f"check '{part}'")
            fields = CHECK_TYPES[part].model_fields
    if kind == "missing":
        message = f"the key '{loc[-1]}' is missing"
    elif is_about_key:
        message = f"unknown key {loc[-1]!r}; {_allowed(str(loc[-1]), [*fields][1:])}"
    elif kind.startswith("union_tag") and isinstance(value, Mapping):
        name = value.get("type")
        message = f"check type {reprlib.repr(name)}: {_allowed(str(name), CHECK_TYPES)}"
    elif kind == "value_error":
        message = str(error.get("ctx", {}).get("error"))
    else:
        message = f"expected {expected}, got {reprlib.repr(value)}"
    return ": ".join([*place, message])


def _allowed(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return hint + f"allowed are {', '.join(names) or 'none'}"
