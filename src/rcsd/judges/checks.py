r"""Checks: how code decides whether an answer meets a criterion. Data, so rows can hold them.

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
import functools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import regex

from rcsd.errors import RubricError
from rcsd.judges.answers import (
    boxed_contents,
    final_answer,
    numerals,
    plain_text,
    quantity,
    starts_with_unit,
)

MAX_PATTERN_SECONDS = 2.0
"""A pattern that searches one text for longer is an error: it backtracks without end."""

DEFAULT_TOLERANCE = 1e-6


def met(check: Mapping[str, Any], text: str) -> bool:
    """Whether a text meets a check.

    Raises:
        RubricError: If the check is malformed or cannot be carried out: never a verdict then.
    """
    validate_check(check)
    try:
        return _met(check, text)
    except RubricError:
        raise
    except Exception as error:
        raise RubricError(f"check {dict(check)!r}: {type(error).__name__}: {error}") from error


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


# Deciding


def _met(check: Mapping[str, Any], text: str) -> bool:
    return CHECK_TYPES[check["type"]].met(check, text)


@functools.lru_cache(maxsize=512)
def _loose_pattern(text: str) -> re.Pattern[str]:
    characters = (re.escape(c) for c in text if not c.isspace())
    return re.compile(r"\s*".join(characters), re.IGNORECASE)


def _contains(check: Mapping[str, Any], text: str) -> bool:
    return _loose_pattern(check["text"]).search(text) is not None


def _found(pattern: str, text: str) -> bool:
    try:
        return regex.search(pattern, text, timeout=MAX_PATTERN_SECONDS) is not None
    except TimeoutError as error:
        raise RubricError(
            f"the pattern {pattern!r} took more than {MAX_PATTERN_SECONDS} s on a text of "
            f"{len(text)} characters; write it without nested repetitions"
        ) from error


def _matches(check: Mapping[str, Any], text: str) -> bool:
    return _found(check["pattern"], text)


def _before(check: Mapping[str, Any], text: str) -> bool:
    first = _loose_pattern(check["first"]).search(text)
    return first is not None and not _found(check["then"], text[: first.start()])


def _close(value: float, check: Mapping[str, Any]) -> bool:
    tolerance = check.get("tolerance", DEFAULT_TOLERANCE)
    return abs(value - check["value"]) <= tolerance * abs(check["value"])


def _has_number(check: Mapping[str, Any], text: str) -> bool:
    return any(_close(numeral.value, check) for numeral in numerals(plain_text(text)))


@functools.lru_cache(maxsize=1024)
def _expression_pattern(expression: str) -> re.Pattern[str]:
    """The expression with any whitespace, not inside a longer number, word or power."""
    tokens = re.findall(r"\d+(?:\.\d+)?|[^\W\d]+|\S", plain_text(expression))
    body = r"\s*".join(map(re.escape, tokens))
    before = r"(?<![\w^])(?<!\d[.,])(?<!\^-)" if tokens[0][0].isalnum() else ""
    after = ""
    if tokens[-1][-1].isdigit():
        after = r"(?!\d|[.,]\d|[eE][+-]?\d|\^)"
    elif tokens[-1][-1].isalpha():
        after = r"(?![\w^])"
    return re.compile(before + body + after)


def _has_expression(check: Mapping[str, Any], text: str) -> bool:
    return _expression_pattern(check["text"]).search(plain_text(text)) is not None


def _boxed(_: Mapping[str, Any], text: str) -> bool:
    return any(boxed_contents(text))


def _final_quantity(text: str) -> tuple[float, str] | None:
    answer = final_answer(text)
    return None if answer is None else quantity(answer)


def _unit(check: Mapping[str, Any], text: str) -> bool:
    found = _final_quantity(text)
    return found is not None and starts_with_unit(found[1], check["unit"])


def _final_number(check: Mapping[str, Any], text: str) -> bool:
    found = _final_quantity(text)
    return found is not None and _close(found[0], check)


@dataclass(frozen=True)
class CheckType:
    """One type of check.

    Args:
        met: Decides on a text, for a check that is valid.
        required: Its keys, and what refuses a wrong value of each.
        optional: Keys that may be left out.
    """

    met: Callable[[Mapping[str, Any], str], bool]
    required: Mapping[str, Callable[[Any], None]] = field(default_factory=dict)
    optional: Mapping[str, Callable[[Any], None]] = field(default_factory=dict)


CHECK_TYPES: Mapping[str, CheckType] = {
    "contains": CheckType(_contains, {"text": _text}),
    "matches": CheckType(_matches, {"pattern": _pattern}),
    "before": CheckType(_before, {"first": _text, "then": _pattern}),
    "number": CheckType(_has_number, {"value": _number}, {"tolerance": _tolerance}),
    "expression": CheckType(_has_expression, {"text": _text}),
    "boxed": CheckType(_boxed),
    "unit": CheckType(_unit, {"unit": _text}),
    "final_number": CheckType(_final_number, {"value": _number}, {"tolerance": _tolerance}),
    "any": CheckType(
        lambda check, text: any(_met(c, text) for c in check["checks"]), {"checks": _checks}
    ),
    "all": CheckType(
        lambda check, text: all(_met(c, text) for c in check["checks"]), {"checks": _checks}
    ),
    "not": CheckType(lambda check, text: not _met(check["check"], text), {"check": validate_check}),
}
