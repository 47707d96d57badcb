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

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import regex
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from rcsd.data.fields import RowModel, Text, explain
from rcsd.errors import RubricError


def _compile(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


_Pattern = Annotated[Text, AfterValidator(_compile)]


class _Base(RowModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class TextCheck(_Base):
    """Holds a text, whitespace and letter case aside; or an expression, however it is written."""

    type: Literal["contains", "expression"]
    text: Text


class Matches(_Base):
    """Holds a match of a regular expression."""

    type: Literal["matches"]
    pattern: _Pattern


class Before(_Base):
    """Holds a text, and no match of a pattern before it."""

    type: Literal["before"]
    first: Text
    then: _Pattern


class NumberCheck(_Base):
    """Holds a number, or has it as the final answer: ``|a - value| <= tolerance |value|``."""

    type: Literal["number", "final_number"]
    value: float
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 1e-6


class Boxed(_Base):
    r"""Holds a ``\boxed{...}`` that is not empty."""

    type: Literal["boxed"]


class Unit(_Base):
    """Has a final answer with a unit, compared as written."""

    type: Literal["unit"]
    unit: Text


class Combined(_Base):
    """Meets one of several checks, or all of them."""

    type: Literal["any", "all"]
    checks: Annotated[Sequence["Check"], Field(min_length=1)]


class Not(_Base):
    """Does not meet a check."""

    type: Literal["not"]
    check: "Check"


Check = Annotated[
    TextCheck | Matches | Before | NumberCheck | Boxed | Unit | Combined | Not,
    Field(discriminator="type"),
]

_ADAPTER: TypeAdapter[Check] = TypeAdapter(Check)


def parse_check(check: object) -> Check:
    """The check that a row holds.

    Raises RubricError if it is malformed; names the place and what is allowed.
    """
    try:
        return _ADAPTER.validate_python(dict(check) if isinstance(check, Mapping) else check)
    except ValidationError as error:
        raise RubricError(": ".join(filter(None, explain(error)))) from error
