r"""Numbers compared in a unit that converts.

- The tolerance ``t`` is relative and symmetric: ``|a - r| <= t max(|a|, |r|)``. A reference of 0
  has no scale: below 1e-9 an answer is ungraded, for it may be 0 but for rounding.
- A bare number is in the requested unit. Where that holds a factor (``$10^{-8}$ m``, or ``%``), the
  number may be counted in it, 5.3, or be absolute, 5.3e-8: both are right. A requested unit that
  cannot be read is compared as written; without one, any unit is taken.
- Of several values all must be right; if only some are, the answer is ungraded.
- Ungraded is what claims no single number: a range, a bound, a denial, a question, a number beside
  others ("5 out of 7"), a part of one ("half of 5"), an expression with variables (``5x``), a
  number before words that may be a unit which cannot be read, a difference of temperatures.

Number and unit have a verdict each, which `combine` makes one of by a rule.
"""

import itertools
import math
import re
from typing import NamedTuple

from rcsd.graders.answers import mathematics
from rcsd.graders.answers.normalize import MAX_CHARACTERS, normalize_quantity, normalize_units
from rcsd.graders.answers.numerals import Quantity, read_multiple, read_quantities
from rcsd.graders.answers.units import Unit, convert, is_dimensionless, is_temperature, parse_unit
from rcsd.types import DEFAULT_UNITS, UnitRule, UnitVerdict


class Comparison(NamedTuple):
    """Verdict by `rcsd.types.DEFAULT_UNITS`, None: ungraded; why; and its two parts.

    The number is right if it converts to the reference; in a unit that is absent, of another
    dimension or unreadable, if it is the reference's number in the requested unit as it is written.
    A unit is right if it converts; None: unreadable, or there is no number.
    """

    verdict: bool | None
    reason: str
    number_right: bool | None = None
    unit_verdict: UnitVerdict | None = None


def combine(number: bool | None, unit: UnitVerdict | None, rule: UnitRule) -> bool | None:
    """Verdict of a number and its unit, by a rule."""
    if rule == "ignore" or number is False or unit in ("right", "none asked"):
        return number
    if unit == "wrong" or (unit == "absent" and rule == "require"):
        return False
    return number if unit == "absent" else None


_ROUNDING = 1e-9
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3})+(?![\d.,])")


class Expected(NamedTuple):
    """The right answer: a number in the requested unit, and the relative error that is allowed."""

    number: float
    unit: Unit
    tolerance: float

    def is_near(self, value: float, target: float) -> bool | None:
        """True if a value is the target; None: it may be zero but for rounding."""
        if target == 0:
            return True if value == 0 else None if abs(value) < _ROUNDING else False
        return math.isclose(value, target, rel_tol=max(self.tolerance, _ROUNDING))

    def __str__(self) -> str:
        factor = "" if self.unit.factor == 1 else f" x {self.unit.factor:g}"
        return f"{self.number:g}{factor}{self.unit.written and ' ' + self.unit.written}"


def compare_numbers(answer: str, reference: str, unit: str, tolerance: float) -> Comparison:
    """Verdicts on an answer that should be the number of a reference, with or without a unit.

    An empty unit is the reference's; the tolerance is relative.
    """
    expected = _read_reference(reference, unit, tolerance)
    if isinstance(expected, str):
        return Comparison(None, expected)
    if len(answer) > MAX_CHARACTERS:
        return Comparison(None, f"it is longer than {MAX_CHARACTERS} characters")
    text = _cut_to_claim(normalize_quantity(answer))
    claimed = _claimed_quantities(text)
    doubts = (_find_doubt(text, value, expected.unit) for value in claimed)
    if doubt := _find_several(answer, text) or next(filter(None, doubts), ""):
        return Comparison(None, doubt)
    if claimed and (lost := _find_unclaimed(text, claimed)):
        return Comparison(None, lost)
    if not claimed or _is_formula(text, claimed[0]):
        value = _evaluate(answer)
        return Comparison(None, value) if isinstance(value, str) else _compare(value, "", expected)
    parts = [_compare(value, _text_after(text, value), expected) for value in claimed]
    for value in claimed:
        if doubt := _find_unit_doubt(text, value, expected.unit):
            # Not in the unit as written, it may be converted.
            is_right = True if all(part.number_right for part in parts) else None
            return Comparison(None, doubt, is_right)
    merged = _merge(parts)
    if merged.verdict is False and _GROUPED.search(answer):
        joined = _GROUPED.sub(lambda match: match[0].replace(".", ""), answer)
        if compare_numbers(joined, reference, unit, tolerance).verdict:
            how = "ambiguous: a point may part thousands"
            return Comparison(None, how, unit_verdict=merged.unit_verdict)
    return merged


def _merge(parts: list[Comparison]) -> Comparison:
    """Comparison of an answer with several values: its verdicts are those that all agree in."""
    verdicts, numbers = {part.verdict for part in parts}, {part.number_right for part in parts}
    units: set[UnitVerdict | None] = {part.unit_verdict for part in parts}
    how = "ambiguous: gives several values, of which only some are right"
    if len(verdicts) == 1:
        how = parts[0].reason
    elif verdicts == {True, None}:
        how = next(part.reason for part in parts if part.verdict is None)
    return Comparison(
        verdicts.pop() if len(verdicts) == 1 else None,
        how,
        numbers.pop() if len(numbers) == 1 else None,
        units.pop() if len(units) == 1 else None,
    )


def _read_reference(reference: str, unit: str, tolerance: float) -> Expected | str:
    """The right answer, or why it cannot be told."""
    text = normalize_quantity(reference)
    quantities = read_quantities(text)
    factor, length = read_multiple(unit)  # "million dollars"
    requested = parse_unit(unit[length:]) if unit.strip() else None
    if requested:
        requested = requested._replace(factor=requested.factor * factor)
    if len(quantities) != 1 or _is_formula(text, quantities[0]):
        value = _evaluate(reference)
        if isinstance(value, str):
            return f"the reference {reference.strip()[:60]!r} is no number"
        return Expected(value.number, requested or value.unit, tolerance)
    number, stated = quantities[0].number, quantities[0].unit
    if requested and requested.readings and not stated.is_none:
        converted = convert(number, stated, requested)
        number = converted[0] / requested.factor if converted else number
    return Expected(number, requested or stated, tolerance)


# Claims: the part of an answer that states its value.

_CONDITION = re.compile(r"(?i)^\s*(?:at|when|if|for|with|given|after|assuming)\b[^,]*,\s*")
_CLAUSE = re.compile(
    r"(?i)[,;]?\s+\(?(?:at(?! (?:most|least)|\s*\^)|when|where|for|with|if|since|because|using"
    r"|assuming|based|which|given|after|before|rounded|relative|compared|corresponding|correct to"
    r"|so|as|toward|towards|above|below|from (?=the)|to (?:\w+ )?(?:significant|decimal)"
    r"|\(?the(?! (?:\w+ )?power| [a-z]\b))\b"
)
_SENTENCE = re.compile(r"[.!](?=\s+[^\W\d_]{2,})|\n")
_SIDES = re.compile(
    r"(?i)[=≈]|\b(?:is|are|was|equals?|becomes?|will be|would be|approximately|about|roughly)\b"
)
_PARTS = re.compile(r"\bor\b|\band\b|;|,(?=\s)")


_SO = re.compile(r"(?i),?\s+(?:so|thus|hence|therefore|i\.e\.|meaning(?: that)?)\b,?\s+")


def _cut_to_claim(text: str) -> str:
    """Text without conditions before its claim, and without what is said after its number.

    Of a sentence that draws a conclusion it is the conclusion: "3 of 5 m each, so it has 15 m".
    """
    parts = _SO.split(text)
    is_sentence = len(parts) > 1 and re.match(r"\W*[^\W\d]+\s+\w", text) is not None
    if is_sentence and read_quantities(parts[0]) and read_quantities(parts[-1]):
        text = parts[-1]
    text = _CONDITION.sub("", text, count=1) if _SIDES.search(text) else text
    quantities = read_quantities(text)
    if not quantities:
        return text
    first = quantities[0].end
    beside = re.sub(r"(?<![\d/*^])(?<![/*^] )\([^()]*\)|\[[^\[\]]*\]", " ", text[first - 1 :])
    text = text[:first] + beside[1:]
    if sentence := _SENTENCE.search(text, first):
        text = text[: sentence.start()]
    clause = _CLAUSE.search(text, first)
    return text[: clause.start()] if clause else text


def _side_start(text: str, end: int) -> int:
    """Start of the side of an equation, or of the statement, at a position of the text."""
    return max((match.end() for match in _SIDES.finditer(text, 0, end)), default=0)


def _claimed_quantities(text: str) -> list[Quantity]:
    """The values that an answer offers: of each part joined by "or" the last side's."""
    quantities = read_quantities(text)
    cuts = [0, *(match.start() for match in _PARTS.finditer(text)), len(text)]
    claims: list[tuple[Quantity, bool]] = []  # whether the value follows "=" or "is"
    for begin, end in itertools.pairwise(cuts):
        inside = [quantity for quantity in quantities if begin <= quantity.start < end]
        sides = [match.end() for match in _SIDES.finditer(text, begin, end)]
        stated = [q for side in reversed(sides) for q in inside if q.start >= side]
        if inside:
            claims.append((stated[0], True) if stated else (inside[0], False))
    first = next((place for place, (_, is_stated) in enumerate(claims) if is_stated), 0)
    return [quantity for quantity, _ in claims[first:]]


def _find_unclaimed(text: str, claimed: list[Quantity]) -> str:
    """Doubt on a sentence of several numbers, none of which it states; empty: there is none."""
    first = claimed[0]
    words = re.findall(r"(?<![\\\w])[^\W\d_]{2,}", text[: first.start])
    is_stated = _SIDES.search(text[: first.start]) is not None
    if is_stated or len(words) < 2 or len(read_quantities(text)) < 2:
        return ""
    return "a sentence of several numbers"


def _text_after(text: str, value: Quantity) -> str:
    """Text directly after a value: perhaps a unit that could not be read."""
    return re.split(r"[,;.]|\bor\b|\band\b", text[value.end :])[0].strip()


def _find_several(answer: str, text: str) -> str:
    """Why an answer is several cases, or a range such as "3-4 m"; empty: it is neither."""
    if re.search(r"(?i)\b(?:else|otherwise)\b", answer):
        return "gives several cases"
    for low, high in itertools.pairwise(read_quantities(text)):
        between = text[low.end : high.start].strip()
        is_pair = between == "and" and re.search(r"(?i)\bbetween\b", text[: low.start])
        if is_pair or between in ("-", "to", "~", "..."):
            return "ambiguous: gives a range"
    return ""


# Doubts: numbers that an answer gives without claiming them.

_DOUBT = re.compile(  # a bound, a denial, a part or a multiple, a rate, or one case of several
    r"(?i)[<>≤≥≠±?!]|\\pm|\\(?:l|g|n)(?:e|eq|t|eqslant)(?![a-zA-Z])|n['\u2019]t\b|\b(?:not|cannot|never"
    r"|neither|unlikely|wrong|incorrect|false|too|(?:less|more|greater|fewer|smaller|larger|higher"
    r"|lower) than|or (?:more|less)|at (?:least|most)|below|above|under|over|exceed\w*|up to|max\w*"
    r"|min(?:imum)|half(?!-li[fv])|thirds?|quarters?|twice|double|triple|negative|opposite|inverse|reciprocal"
    r"|square|cube|multiples?|choose|mod|remainder|each|every|anything but)\b"
    r"|\bto the\b(?! (?:\w{2,}$|left|right))"
)
_GOES_ON = re.compile(r"_|(?:(?!\b(?:or|and)\b)[^,;=≈\n\d])*\d")  # another number
_OTHER_UNIT = re.compile(r"(?i)\s*(?!(?:in|on|is|to|approx\w*|exactly|total|or|and)\b)[a-z]{2}")
_MAYBE_VARIABLE = re.compile(r"(?:\d[a-zA-Z]{1,3}|\d\s*(?:kT|k_B T|[tRk]))$")
_VARIABLE = re.compile(
    r"\s*(?:[-+*/]\s*\d*)?(?:[b-zB-Z](?![\w'\u2019])|[a-zA-Z]_\w|mgh?\b|kT\b)(?!\s*[=≈])"
    r"|[a-zA-Z](?![\w'\u2019])"
)


def _find_doubt(text: str, value: Quantity, requested: Unit) -> str:
    """Why a number may be no claim; empty: it is one.

    What stands beside a number does not matter where it is part of a formula: that is evaluated.
    """
    written, rest = text[value.start : value.end], text[value.end :]
    before = text[_side_start(text, value.start) : value.start]
    if doubt := _DOUBT.search(before) or _DOUBT.search(re.split("[,;]", rest)[0]):
        return f"no single value is claimed: {doubt[0]!r} stands beside it"
    if _is_formula(text, value):
        return ""
    if value.unit.is_none and re.match(r"\s*[^\W\d_a-zA-Z\u03c0]", rest):
        return f"{rest.strip()[:20]!r} may be a unit or a multiple in another language"
    if _GOES_ON.match(rest):
        return f"no single value is claimed: {rest.strip()[:40]!r} follows it"
    is_variable = value.unit.is_none and _VARIABLE.match(rest)
    if is_variable or re.search(r"\\(?!sqrt|pi)[a-zA-Z]", written):
        return "an expression with a variable"
    if requested.is_none and _MAYBE_VARIABLE.search(written):
        return f"{written!r} may hold a variable, or a unit"
    return ""


def _find_unit_doubt(text: str, value: Quantity, requested: Unit) -> str:
    """Why the unit of a number may be unreadable; empty: it is not."""
    rest, can_convert = text[value.end :], not requested.is_none and requested.readings
    if not (value.unit.is_none and can_convert and _OTHER_UNIT.match(rest)):
        return ""
    return "" if _is_formula(text, value) else f"{rest.strip()[:40]!r} may be an unreadable unit"


# Formulas: expressions that sympy evaluates.

_FORMULA = re.compile(
    r"\\(?!pm)[a-zA-Z]+|[\^!√]|[*/+]\s*[\d(\\a-zA-Z]|^\s*-?\s*\(|[a-z]\($|^\.\d|^\(|[\w)]\s*[*/]\s*$"
    r"|(?:±|\\pm)\s*[a-zA-Z]"
    r"|\b(?:ln|log|sqrt|exp|sin|cos|tan|arc[a-z]+|roots?|plus|squared|cubed|factorial|dozen)(?![a-z])"
    r"|\b(?:times|minus|divided by|over)\s+(?:[\d(\\]|[a-z]\b)|^\s*:\s*\d|\bpowers?\b",
    re.MULTILINE,
)
_DIGITS = r"\d+(?:\.\d+)?"
_TRAILING_UNIT = re.compile(
    r"(?:\s|~|\\[,;:! ])*(\\(?:text|mathrm|rm|operatorname)\s*\{[^{}]*\}.*)$", re.DOTALL
)


def _is_formula(text: str, value: Quantity) -> bool:
    """True if a number is part of an expression that is not read as a quantity."""
    begin = _side_start(text, value.start)
    around = text[begin : value.start] + "\n" + text[value.end :].split(",")[0]
    return _FORMULA.search(around) is not None


def _evaluate(answer: str) -> Quantity | str:
    """Value of an expression, or why it has none."""
    side = re.split(r"=|≈|\\approx|\\simeq|\\sim", re.sub(r"\\?\$", " ", answer))[-1]
    side = re.sub(r"(?<![\\a-zA-Z])(?=(?:ln|sqrt|exp|sin|cos|tan)\b)", r"\\", side)
    side = re.sub(r"√\s*|\\sqrt\s+(?=\d)|\\sqrt\s*(?=\()", r"\\sqrt ", side)
    side = re.sub(rf"\\sqrt\s+\(?({_DIGITS})\)?", r"\\sqrt{\1}", side)
    side = re.sub(r"(?<=\d)\s+times\s+(?=\d)", r" \\times ", side)
    side = re.sub(rf"({_DIGITS})\s*(?:\^\s*\{{?\s*\\circ\s*\}}?|°)", r"(\1 \\pi / 180)", side)
    if re.search(r"\\(?:sin|cos|tan)", side) and not re.search(r"\\pi|π|\brad", side):
        return f"{answer.strip()[:60]!r}: degrees or radians?"
    if re.search(r"\blog\b|\d\s*:\s*\d", side):
        return f"{answer.strip()[:60]!r} has several readings"
    unit = ""
    if match := _TRAILING_UNIT.search(side):
        side, unit = side[: match.start()], match[1]
    if not re.search(r"\d|\\pi|π|\be\b", side):
        return f"holds no number: {answer.strip()[:60]!r}"
    number, reason = mathematics.evaluate(side)
    return reason if number is None else Quantity(number, 0, len(answer), parse_unit(unit))


# Comparison


def _compare(value: Quantity, after: str, expected: Expected) -> Comparison:
    """Verdicts on one value; a unit that cannot be read may stand in the text after it."""
    unit, requested = value.unit, expected.unit
    stated = f"{value.number:g} {unit.written}".strip()
    target, is_near = expected.number * requested.factor, expected.is_near
    share = 0.01 if requested.is_percent else 1.0
    near = [is_near(value.number * unit.factor, t) for t in (expected.number, target * share)]
    if unit.is_none or not requested.readings:
        unit_verdict, how = _compare_as_written(unit.written or after, requested)
        return _conclude(near, unit_verdict, stated, expected, how if any(near) else "")
    if requested.is_none:
        near = [is_near(value.number, target)]
        if is_dimensionless(unit):
            plain = [is_near(n, target) for n in convert(value.number, unit, Unit())]
            if near[0] and unit.is_percent and not any(plain):
                how = f"ambiguous: the reference {expected} may be a share or per cent"
                return Comparison(None, how, None, "none asked")
            near += plain
        return _conclude(near, "none asked", stated, expected)
    converted = convert(value.number * unit.factor, unit, requested)
    if not converted:
        how = f"wrong unit: {stated}, requested is {expected}"
        return _conclude(near, "wrong", stated, expected, how)
    near = [is_near(number, target) for number in converted]
    if not any(near) and is_temperature(requested) and is_near(value.number, target):
        below_zero = True if requested.written == "K" and target < 0 else None
        how = f"{stated} is {expected} as a difference of temperatures"
        return Comparison(below_zero, how, below_zero, "right")
    return _conclude(near, "right", stated, expected)


def _compare_as_written(unit: str, requested: Unit) -> tuple[UnitVerdict | None, str]:
    """Verdict on a unit that does not convert, and why where the requested one is unreadable."""
    if requested.is_none:
        return "none asked", ""
    written = "".join(normalize_units(unit).split())
    if requested.readings or not written:
        return "absent", ""
    is_same = written.startswith("".join(requested.written.split()))
    how = f"the unit {requested.written!r} cannot be read, and is compared as written"
    return ("right", how) if is_same else (None, f"ambiguous: {how}")


def _conclude(
    near: list[bool | None],
    unit: UnitVerdict | None,
    stated: str,
    expected: Expected,
    how: str = "",
) -> Comparison:
    """Comparison of a number that is near the right one in one of several readings, or in none."""
    number = True if any(near) else None if None in near else False
    reasons = {
        True: f"{stated} is {expected} within {expected.tolerance:g}",
        False: f"{stated} is not {expected} within {expected.tolerance:g}",
        None: f"ambiguous: {stated} may be 0 but for rounding",
    }
    return Comparison(combine(number, unit, DEFAULT_UNITS), how or reasons[number], number, unit)
