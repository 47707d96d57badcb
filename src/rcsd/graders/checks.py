"""Verdicts of checks: whether a text meets one (`rcsd.data.checks`)."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import regex

from rcsd.data import checks
from rcsd.data.checks import parse_check
from rcsd.errors import RubricError
from rcsd.graders.answers.extraction import extract_marked_answer
from rcsd.graders.answers.markup import boxed_contents, split_sentences
from rcsd.graders.answers.normalize import normalize_math
from rcsd.graders.answers.numerals import read_numerals

MAX_PATTERN_SECONDS = 2.0
"""A pattern that searches one text for longer is an error: it backtracks without end."""


def met(check: Mapping[str, Any], text: str) -> bool:
    """True if a text meets a check.

    Raises RubricError if the check is malformed or cannot be carried out: never a verdict then.
    """
    parsed = parse_check(check)
    try:
        return _is_met(parsed, text)
    except RubricError:
        raise
    except Exception as error:
        raise RubricError(f"check {dict(check)!r}: {type(error).__name__}: {error}") from error


def _is_met(check: checks.Check, text: str) -> bool:
    return _DECIDE[check.type](check, text)


@functools.lru_cache(maxsize=512)
def _loose_pattern(text: str) -> re.Pattern[str]:
    """The text with any whitespace and letter case."""
    characters = (re.escape(c) for c in text if not c.isspace())
    return re.compile(r"\s*".join(characters), re.IGNORECASE)


def _holds_match(pattern: str, text: str) -> bool:
    try:
        return regex.search(pattern, text, timeout=MAX_PATTERN_SECONDS) is not None
    except TimeoutError as error:
        raise RubricError(
            f"the pattern {pattern!r} took more than {MAX_PATTERN_SECONDS} s on a text of "
            f"{len(text)} characters; write it without nested repetitions"
        ) from error


def _before(check: checks.Before, text: str) -> bool:
    first = _loose_pattern(check.first).search(text)
    return first is not None and not _holds_match(check.then, text[: first.start()])


def _is_close(value: float, check: checks.NumberCheck) -> bool:
    return abs(value - check.value) <= check.tolerance * abs(check.value)


@functools.lru_cache(maxsize=1024)
def _expression_pattern(expression: str) -> re.Pattern[str]:
    """The expression with any whitespace, not inside a longer number, word or power."""
    tokens = re.findall(r"\d+(?:\.\d+)?|[^\W\d]+|\S", normalize_math(expression))
    body = r"\s*".join(map(re.escape, tokens))
    before = r"(?<![\w^])(?<!\d[.,])(?<!\^-)" if tokens[0][0].isalnum() else ""
    after = ""
    if tokens[-1][-1].isdigit():
        after = r"(?!\d|[.,]\d|[eE][+-]?\d|\^)"
    elif tokens[-1][-1].isalpha():
        after = r"(?![\w^])"
    return re.compile(before + body + after)


def _final_number(text: str) -> tuple[float, str] | None:
    """The number of the final answer, on the right side of an equation, and what follows it."""
    answer = split_sentences(extract_marked_answer(text) or "")[0]
    side = re.split(r"[=≈]", normalize_math(answer))[-1].strip()
    side = re.sub(r"^-\s+", "-", side)
    numerals = read_numerals(side)
    return (numerals[0].number, side[numerals[0].end :]) if numerals else None


# "5 m" does not stand in "5 m/s", "5 m^2", "5 m s" or "5 m per s".
_UNIT_GOES_ON = (
    r"(?![\w*/^]|\s*[*/^]|\s+per\b|\s+(?:[kmcnµ]?(?:[smgKNJAVWLhCF]|Pa|Hz|mol))(?![A-Za-z]))"
)


@functools.lru_cache(maxsize=512)
def _unit_pattern(unit: str) -> re.Pattern[str]:
    """The unit as written, letter case included; ``kg*m/s`` and ``kg m/s`` are the same."""
    parts = re.split(r"[\s*]+", normalize_math(unit).strip())
    return re.compile(r"\s*" + r"[\s*]+".join(map(re.escape, parts)) + _UNIT_GOES_ON)


_DECIDE: Mapping[str, Callable[[Any, str], bool]] = {
    "contains": lambda check, text: _loose_pattern(check.text).search(text) is not None,
    "matches": lambda check, text: _holds_match(check.pattern, text),
    "before": _before,
    "number": lambda check, text: any(
        _is_close(one.number, check) for one in read_numerals(normalize_math(text))
    ),
    "expression": lambda check, text: (
        _expression_pattern(check.text).search(normalize_math(text)) is not None
    ),
    "boxed": lambda _, text: any(boxed_contents(text)),
    "unit": lambda check, text: (
        (final := _final_number(text)) is not None
        and _unit_pattern(check.unit).match(final[1]) is not None
    ),
    "final_number": lambda check, text: (
        (final := _final_number(text)) is not None and _is_close(final[0], check)
    ),
    "any": lambda check, text: any(_is_met(one, text) for one in check.checks),
    "all": lambda check, text: all(_is_met(one, text) for one in check.checks),
    "not": lambda check, text: not _is_met(check.check, text),
}
