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
"""

import difflib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import regex

from rcsd.errors import RubricError


def validate_check(check: object) -> None:
    """Refuse a malformed check.

    Raises:
        RubricError: Naming the check, its key, and what is allowed.
    """
    if not isinstance(check, Mapping):
        raise RubricError(f"expected a check such as {{'type': 'boxed'}}, got {check!r}")
    kind = check.get("type")
    if not isinstance(kind, str) or kind not in CHECK_TYPES:
        raise RubricError(f"check type {kind!r}: {_allowed(str(kind), CHECK_TYPES)}")
    keys = {**CHECK_TYPES[kind].required, **CHECK_TYPES[kind].optional}
    for key in check:
        if key != "type" and key not in keys:
            raise RubricError(f"check '{kind}': unknown key {key!r}; {_allowed(str(key), keys)}")
    for key, validate in keys.items():
        if key in check:
            _validate_key(kind, key, validate, check[key])
        elif key in CHECK_TYPES[kind].required:
            raise RubricError(f"check '{kind}': the key '{key}' is missing")


def _validate_key(kind: str, key: str, validate: Callable[[Any], None], value: object) -> None:
    try:
        validate(value)
    except RubricError as error:
        raise RubricError(f"check '{kind}': {key}: {error}") from error


def _allowed(name: str, names: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return hint + f"allowed are {', '.join(names) or 'none'}"


# What a key may hold


def _text(value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise RubricError(f"expected a text that is not empty, got {value!r}")


def _pattern(value: object) -> None:
    _text(value)
    try:
        regex.compile(str(value))
    except regex.error as error:
        raise RubricError(f"{value!r} is not a regular expression: {error}") from error


def _number(value: object) -> None:
    # NaN is within no bounds, and a whole number may be too large for a float.
    is_finite = isinstance(value, int | float) and abs(value) <= sys.float_info.max
    if isinstance(value, bool) or not is_finite:
        raise RubricError(f"expected a number, got {value!r}")


def _tolerance(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise RubricError(f"expected a number of at least 0 and below 1, got {value!r}")


def _checks(value: object) -> None:
    if not isinstance(value, list | tuple) or not value:
        raise RubricError(f"expected a list of checks that is not empty, got {value!r}")
    for index, check in enumerate(value):
        try:
            validate_check(check)
        except RubricError as error:
            raise RubricError(f"[{index}]: {error}") from error


@dataclass(frozen=True)
class CheckType:
    """Keys of one type of check.

    Args:
        required: Its keys, and what refuses a wrong value of each.
        optional: Keys that may be left out.
    """

    required: Mapping[str, Callable[[Any], None]] = field(default_factory=dict)
    optional: Mapping[str, Callable[[Any], None]] = field(default_factory=dict)


_TOLERATED = CheckType({"value": _number}, {"tolerance": _tolerance})
CHECK_TYPES: Mapping[str, CheckType] = {
    "contains": CheckType({"text": _text}),
    "matches": CheckType({"pattern": _pattern}),
    "before": CheckType({"first": _text, "then": _pattern}),
    "number": _TOLERATED,
    "expression": CheckType({"text": _text}),
    "boxed": CheckType(),
    "unit": CheckType({"unit": _text}),
    "final_number": _TOLERATED,
    "any": CheckType({"checks": _checks}),
    "all": CheckType({"checks": _checks}),
    "not": CheckType({"check": validate_check}),
}
