r"""Whether a final answer gives the number that is asked for, in its unit or one that converts.

- The error allowed is relative, as `math.isclose` counts it: ``|a - r| <= t max(|a|, |r|)``; ``t``
  is SciBench's 5% where the data say nothing.
- A reference of 0 has no scale. An answer is right if it is 0, and ungraded if it is below 1e-9:
  it may be 0 but for rounding, or a small quantity.
- A bare number is in the asked unit. Where that holds a factor (``$10^{-8}$ m``, or ``%``), the
  number may be counted in it, 5.3, or be absolute, 5.3e-8: both are right.
- An asked unit that cannot be read is compared as written; where none is asked, any is taken.
- Of several values all must be right; if only some are, or if a range holds the reference, the
  answer is ungraded: it does not commit itself. If none is, it is wrong.
- A bound ("less than 5", ``>= 5``), a denial ("not 5") and what may be an expression with variables
  (``5x``, ``2mg`` where no unit is asked) are ungraded: its first number is no answer.
- So is a number beside others ("5 out of 7", "5 m by 2 m"), or a part of one ("half of 5"), a
  question, and a number before words that may be a unit which cannot be read.
- Of "2 hours 30 minutes" the parts are added up.
- A temperature that is right only as a difference of temperatures is ungraded, unless it is below
  absolute zero.
"""

import itertools
import math
import re
from dataclasses import dataclass

from rcsd.graders.answers import mathematics
from rcsd.graders.answers.bounds import doubt_about
from rcsd.graders.answers.numerals import Value, ready, values
from rcsd.graders.answers.units import (
    Unit,
    converted,
    converted_difference,
    is_pure,
    is_temperature,
    spelt,
    unit_of,
)

TOLERANCE = 0.05
"""Relative, of SciBench's grader."""

_ROUNDING = 1e-9
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Expected:
    """What a right answer is.

    Args:
        number: Of the reference, in the unit.
        unit: In which it is asked for.
        tolerance: Relative.
    """

    number: float
    unit: Unit
    tolerance: float

    def is_near(self, value: float, target: float) -> bool | None:
        """Whether a value is the target; None: it may be zero but for rounding."""
        if target == 0:
            return True if value == 0 else None if abs(value) < _NOTHING else False
        return math.isclose(value, target, rel_tol=max(self.tolerance, _ROUNDING))

    def __str__(self) -> str:
        factor = "" if self.unit.factor == 1 else f" x {self.unit.factor:g}"
        return f"{self.number:g}{factor}{self.unit.written and ' ' + self.unit.written}"


def number_verdict(
    answer: str, reference: str, unit: str, tolerance: float | None
) -> tuple[bool | None, str]:
    """Whether an answer is the number of a reference, and why.

    Args:
        answer: The final answer.
        reference: A number, with or without a unit.
        unit: In which it is asked for; empty: the reference's own.
        tolerance: Relative; None: `TOLERANCE`.
    """
    expected = _expected(reference, unit, TOLERANCE if tolerance is None else tolerance)
    if isinstance(expected, str):
        return None, expected
    if len(answer) > mathematics.MAX_CHARACTERS:
        return None, f"it is longer than {mathematics.MAX_CHARACTERS} characters"
    if _CASES.search(answer):
        return None, "gives several cases"
    text = _claim(ready(answer))
    if bounds := _range(text):
        return _range_verdict(bounds, expected)
    alternatives = _alternatives(text)
    for value in alternatives:
        begin = max((m.end() for m in _SIDES.finditer(text, 0, value.start)), default=0)
        in_formula = _is_formula(text, value)
        if doubt := doubt_about(text, begin, value, expected.unit, in_formula):
            return None, doubt
    told = [(value, _after(text, value)) for value in alternatives]
    if not told or _is_formula(text, told[0][0]):
        worked = _worked_out(answer)
        if isinstance(worked, str):
            return None, worked
        told = [(worked, "")]
    return _verdict_on_all([_fits(value, after, expected) for value, after in told])


def _verdict_on_all(verdicts: list[tuple[bool | None, str]]) -> tuple[bool | None, str]:
    """The verdict on an answer that offers several values; the reason is one value's."""
    right = [verdict for verdict, _ in verdicts]
    if all(right) or not any(verdict is not False for verdict in right) or len(right) == 1:
        return verdicts[0]
    if all(verdict is not False for verdict in right):
        return next(verdict for verdict in verdicts if verdict[0] is None)
    return None, "ambiguous: gives several values, of which only some are right"


def _expected(reference: str, unit: str, tolerance: float) -> Expected | str:
    """What is asked for, or why it cannot be told."""
    text = ready(reference)
    found = values(text)
    asked = unit_of(unit)
    if len(found) != 1 or _is_formula(text, found[0]):
        worked = _worked_out(reference)
        if isinstance(worked, str):
            return f"the reference {reference.strip()[:60]!r} is no number"
        return Expected(worked.number, asked if unit.strip() else worked.unit, tolerance)
    value = found[0]
    if not unit.strip():
        return Expected(value.number, value.unit, tolerance)
    number = value.number
    if not value.unit.is_none and asked.readings:
        own = converted(number, value.unit, asked)
        number = own[0] / asked.factor if own else number
    return Expected(number, asked, tolerance)


# What of an answer is the claim


_CONDITION = re.compile(r"(?i)^\s*(?:at|when|if|for|with|given|after|assuming)\b[^,]*,\s*")
_CLAUSE = re.compile(
    r"(?i)[,;]?\s+\(?(?:at(?! (?:most|least)|\s*\^)|when|where|for|with|if|since|because|using"
    r"|assuming|based|which|given|after|before|rounded|relative|compared|corresponding|correct to"
    r"|so|as|toward|towards|above|below|from (?=the)|to (?:\w+ )?(?:significant|decimal)"
    r"|\(?the(?! (?:\w+ )?power| [a-z]\b))\b"
)
_SENTENCE = re.compile(r"[.!](?=\s+[^\W\d_]{2,})|\n")
_CASES = re.compile(r"(?i)\b(?:else|otherwise)\b")
_SIDES = re.compile(
    r"(?i)[=≈]|\b(?:is|are|was|equals?|becomes?|will be|would be|approximately|about|roughly)\b"
)


def _claim(text: str) -> str:
    """The answer without conditions before it, and without what is said after its number."""
    text = _CONDITION.sub("", text, count=1) if _SIDES.search(text) else text
    found = values(text)
    if not found:
        return text
    first = found[0].end
    beside = re.sub(r"(?<![\d/*^])(?<![/*^] )\([^()]*\)|\[[^\[\]]*\]", " ", text[first - 1 :])
    text = text[:first] + beside[1:]
    for pattern in (_SENTENCE, _CLAUSE):
        cut = pattern.search(text, first)
        if cut and (pattern is _SENTENCE or not _is_said_later(text, first, cut.start())):
            text = text[: cut.start()]
    return text


def _is_said_later(text: str, first: int, cut: int) -> bool:
    """Whether the claim comes after a clause: "300 K for the gas, and the volume is 5 L"."""
    later = re.search(r"(?i)\b(?:is|equals|are)\b(?!\s+the\b)", text[cut:])
    return later is not None and not _SIDES.search(text[:first])


def _alternatives(text: str) -> list[Value]:
    """The values that an answer offers: of each part joined by "or" the last side's."""
    whole = _added_up(values(text), text)
    exclaimed = len(whole) == 1 and whole[0].unit.is_none and text[whole[0].end :].strip() == "!"
    if exclaimed and whole[0].number in range(21):  # a factorial, or joy?
        value = whole[0]
        product = float(math.factorial(int(value.number)))
        value = Value(value.number, value.unit, value.start, len(text))
        return [value, Value(product, value.unit, value.start, len(text))]
    if re.match(r"^(?:\w+\s*[=≈]\s*)?(?:\\pm|±|\+/-)\s*", text) and len(whole) == 1:
        value = whole[0]
        return [value, Value(-value.number, value.unit, value.start, value.end)]
    parts, begin = [], 0
    for end in [*(m.start() for m in re.finditer(r"\bor\b|\band\b|;|,(?=\s)", text)), len(text)]:
        parts.append((begin, end))
        begin = end
    claims: list[tuple[Value, bool]] = []
    for begin, end in parts:
        inside = [value for value in whole if begin <= value.start < end]
        sides = [m.end() for m in _SIDES.finditer(text, begin, end)]
        for side in reversed(sides):
            last = [value for value in inside if value.start >= side]
            if last:
                claims.append((last[0], True))
                break
        else:
            if inside and (not claims or _is_only(text[begin:end], inside[0], begin)):
                claims.append((inside[0], False))
    named = next((place for place, (_, is_named) in enumerate(claims) if is_named), 0)
    return [value for value, _ in claims[named:]]


def _added_up(found: list[Value], text: str) -> list[Value]:
    """The values, with those added up that give one in two units: "5 ft 6 in"."""
    whole: list[Value] = []
    for value in found:
        last = whole[-1] if whole else None
        if last and text[last.end : value.start].strip() in ("", "and", ","):
            parts = [] if last.unit.is_none or value.unit.is_none else _converted(value, last.unit)
            if parts and 0 < abs(parts[0]) < 1 <= abs(last.number) and last.unit != value.unit:
                number = last.number + math.copysign(parts[0], last.number)
                whole[-1] = Value(number, last.unit, last.start, value.end)
                continue
        whole.append(value)
    return whole


def _converted(value: Value, unit: Unit) -> list[float]:
    return converted(value.number, value.unit, unit) if unit.readings else []


def _is_only(part: str, value: Value, begin: int) -> bool:
    """Whether a part says nothing but a value."""
    rest = part[: value.start - begin] + part[value.end - begin :]
    words = re.findall(r"[^\W\d_]{2,}", rest)
    return all(word in ("or", "and", "equivalently", "also", "ie") for word in words)


def _range(text: str) -> tuple[Value, Value] | None:
    found = values(text)
    if re.search(r"\d\s*-\s*\d*[a-z](?![\w])\s*$", text):
        return None  # "3 - x"
    for low, high in itertools.pairwise(found):
        between = text[low.end : high.start].strip()
        if between in ("-", "to", "~", "...") or (
            between == "and" and re.search(r"(?i)\bbetween\b", text[: low.start])
        ):
            return low, high
    return None


def _range_verdict(bounds: tuple[Value, Value], expected: Expected) -> tuple[bool | None, str]:
    low, high = bounds
    unit = high.unit
    low = low if not low.unit.is_none else Value(low.number, unit, low.start, low.end)
    near = [_fits(bound, "", expected)[0] for bound in (low, high)]
    numbers = [_in_asked(bound, expected.unit) for bound in (low, high)]
    target = expected.number * (1.0 if unit.is_none else expected.unit.factor)
    if any(verdict is not False for verdict in near) or min(numbers) <= target <= max(numbers):
        return None, f"ambiguous: gives a range that holds {expected}"
    return False, f"gives a range without {expected}"


def _in_asked(value: Value, asked: Unit) -> float:
    if value.unit.is_none or not asked.readings:
        return value.number
    return next(iter(converted(value.number, value.unit, asked)), math.nan)


def _after(text: str, value: Value) -> str:
    """What follows a value directly: a unit that could not be read, perhaps."""
    return re.split(r"[,;.]|\bor\b|\band\b", text[value.end :])[0].strip()


# What must be worked out


def _is_formula(text: str, first: Value) -> bool:
    """Whether the number is part of an expression that is not read here."""
    begin = max((m.end() for m in _SIDES.finditer(text, 0, first.start)), default=0)
    around = text[begin : first.start] + "\n" + text[first.end :].split(",")[0]
    return (
        re.search(
            r"\\(?!pm)[a-zA-Z]+|[\^!√]|[*/+]\s*[\d(\\a-zA-Z]|^\s*-?\s*\(|[a-z]\($|^\.\d|^\(|[\w)]\s*[*/]\s*$|(?:±|\\pm)\s*[a-zA-Z]"
            r"|\b(?:ln|log|sqrt|exp|sin|cos|tan|arc[a-z]+|roots?|plus|squared|cubed|factorial|dozen)(?![a-z])"
            r"|\b(?:times|minus|divided by|over)\s+(?:[\d(\\]|[a-z]\b)|^\s*:\s*\d|\bpowers?\b",
            around,
            re.M,
        )
        is not None
    )


_DIGITS = r"\d+(?:\.\d+)?"
_TRAILING_UNIT = re.compile(
    r"(?:\s|~|\\[,;:! ])*(\\(?:text|mathrm|rm|operatorname)\s*\{[^{}]*\}.*)$", re.DOTALL
)


def _worked_out(answer: str) -> Value | str:
    """The value of an expression, or why it has none."""
    side = re.split(r"=|≈|\\approx|\\simeq|\\sim", re.sub(r"\\?\$", " ", answer))[-1]
    side = re.sub(r"(?<![\\a-zA-Z])(?=(?:ln|sqrt|exp|sin|cos|tan)\b)", r"\\", side)
    side = re.sub(r"√\s*|\\sqrt\s+(?=\d)|\\sqrt\s*(?=\()", r"\\sqrt ", side)
    side = re.sub(r"\\sqrt\s+\(?(\d+(?:\.\d+)?)\)?", r"\\sqrt{\1}", side)
    side = re.sub(r"(?<=\d)\s+times\s+(?=\d)", r" \\times ", side)
    side = re.sub(rf"({_DIGITS})\s*(?:\^\s*\{{?\s*\\circ\s*\}}?|°)", r"(\1 \\pi / 180)", side)
    if re.search(r"\\(?:sin|cos|tan)", side) and not re.search(r"\\pi|π|\brad", side):
        return f"{answer.strip()[:60]!r}: degrees or radians?"
    if re.search(r"\blog\b|\d\s*:\s*\d", side):
        return f"{answer.strip()[:60]!r} has several readings"
    written = ""
    if match := _TRAILING_UNIT.search(side):
        side, written = side[: match.start()], match[1]
    if not re.search(r"\d|\\pi|π|\be\b", side):
        return f"holds no number: {answer.strip()[:60]!r}"
    number, reason = mathematics.value_of(side)
    if number is None:
        return reason
    return Value(number, unit_of(written), 0, len(answer))


# Comparing


def _fits(value: Value, after: str, expected: Expected) -> tuple[bool | None, str]:
    """Whether one value is the expected one, and why."""
    asked, unit = expected.unit, value.unit
    if unit.is_none:
        return _bare_fits(value, after, expected)
    if asked.is_none:
        return _unasked_fits(value, expected)
    said = f"{value.number:g} {unit.written}"
    if not asked.readings:
        same = "".join(unit.written.split()) == "".join(asked.written.split())
        return _as_written(value, same, expected)
    target = expected.number * asked.factor
    found = converted(value.number * unit.factor, unit, asked)
    if not found:
        return False, f"wrong unit: {said}, asked for {expected}"
    near = [expected.is_near(one, target) for one in found]
    if any(near):
        return True, f"{said} is {expected} within {expected.tolerance:g}"
    both = is_temperature(unit) and is_temperature(asked) and unit.written != asked.written
    if both and expected.is_near(converted_difference(value.number, unit, asked), target):
        if asked.written == "K" and target < 0:
            return True, f"{said} is {expected}, as a difference of temperatures"
        return None, f"ambiguous: {said} is {expected} only as a difference of temperatures"
    return _differs(said, near, expected)


def _differs(said: str, near: list[bool | None], expected: Expected) -> tuple[bool | None, str]:
    if None in near:
        return None, f"ambiguous: {said} may be 0 but for rounding"
    return False, f"{said} is not {expected} within {expected.tolerance:g}"


def _bare_fits(value: Value, after: str, expected: Expected) -> tuple[bool | None, str]:
    """A number without a unit: in the asked unit, or times its factor."""
    asked = expected.unit
    if not asked.readings and after:
        begins = "".join(spelt(after).split()).startswith("".join(asked.written.split()))
        return _as_written(value, begins, expected)
    share = 0.01 if asked.written in ("%", "percent") else 1.0
    targets = [expected.number, expected.number * asked.factor * share]
    near = [expected.is_near(value.number * value.unit.factor, target) for target in targets]
    if any(near):
        return True, f"{value.number:g} is {expected} within {expected.tolerance:g}"
    return _differs(f"{value.number:g}", near, expected)


def _as_written(value: Value, same: bool, expected: Expected) -> tuple[bool | None, str]:
    how = f"the unit {expected.unit.written!r} cannot be read, and is compared as written"
    target = expected.number
    near = [expected.is_near(value.number, t) for t in (target, target * expected.unit.factor)]
    if not any(near):
        return _differs(f"{value.number:g}", near, expected)
    return (True, how) if same else (None, f"ambiguous: {how}")


def _unasked_fits(value: Value, expected: Expected) -> tuple[bool | None, str]:
    """A number with a unit where none is asked for."""
    target = expected.number * expected.unit.factor
    said = f"{value.number:g} {value.unit.written}"
    near = [expected.is_near(value.number, target)]
    if not is_pure(value.unit):
        if near[0]:
            return True, f"{said} is {expected} within {expected.tolerance:g}; no unit is asked for"
        return _differs(said, near, expected)
    plain = converted(value.number, value.unit, Unit())
    if any(expected.is_near(one, target) for one in plain):
        return True, f"{said} is {expected} within {expected.tolerance:g}"
    if near[0] and value.unit.written in ("%", "percent"):
        return None, f"ambiguous: the reference {expected} may be a share or per cent"
    return (True, f"{said} is {expected}") if near[0] else _differs(said, near, expected)
