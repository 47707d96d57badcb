"""Checks decided: whether a text meets one (`rcsd.data.checks`)."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import regex

from rcsd.data.checks import validate_check
from rcsd.errors import RubricError
from rcsd.graders.answers.plain import (
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


def _met(check: Mapping[str, Any], text: str) -> bool:
    return _DECIDED[check["type"]](check, text)


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


_DECIDED: Mapping[str, Callable[[Mapping[str, Any], str], bool]] = {
    "contains": _contains,
    "matches": _matches,
    "before": _before,
    "number": _has_number,
    "expression": _has_expression,
    "boxed": _boxed,
    "unit": _unit,
    "final_number": _final_number,
    "any": lambda check, text: any(_met(c, text) for c in check["checks"]),
    "all": lambda check, text: all(_met(c, text) for c in check["checks"]),
    "not": lambda check, text: not _met(check["check"], text),
}
