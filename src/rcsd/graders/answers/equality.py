"""Equality of mathematical answers.

Two expressions are equal if they agree to 1e-9 of the larger at fixed values of their variables,
or, of a decimal, to its last digit, if that is the sixth or later. Equal at positive values alone,
in other names of variables, or rounded to three to five digits, is ungraded.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import sympy

from rcsd.graders.answers.expressions import (
    TEXT,
    Bracketed,
    Equation,
    Ratio,
    Region,
    Several,
    Term,
    UnreadableError,
    Words,
    clean,
    exact,
    free_symbols,
    read,
    squeeze,
    to_region,
    to_sympy,
)
from rcsd.graders.answers.markup import find_expression
from rcsd.graders.answers.units import Unit, convert, parse_unit

Verdict = tuple[bool | None, str]


def compare(reference: str, answer: str) -> Verdict:
    """Verdict on two texts, and why; None: it cannot be told."""
    expected_text, actual_text = clean(reference), clean(find_expression(answer))
    if squeeze(expected_text) == squeeze(actual_text):
        return True, "written as the reference"
    decimal = _decimal_comma(expected_text, actual_text)
    if decimal:
        return None, decimal
    try:
        expected = read(expected_text)
    except UnreadableError as error:
        return None, f"the reference cannot be read as mathematics: {error}"
    try:
        actual = read(actual_text)
    except UnreadableError as error:
        return None, f"the answer cannot be read as mathematics: {error}"
    verdict, reason = compare_values(expected, actual)
    if verdict and any(map(_ORDERED.search, (expected_text, actual_text))):
        return None, "equal if the order of factors does not matter"
    return verdict, reason


_ORDERED = re.compile(r"[A-Z]\s*\^\s*\{\s*-\s*1\s*\}\s*[A-Z]")  # inverse matrices


_COMMA_OR_POINT = (r"\d+,\d+", r"\d+(?:\.\d+)?")


def _decimal_comma(*texts: str) -> str:
    """Doubt about a comma that may be a decimal point; empty: there is none."""
    comma, plain = ([t for t in texts if re.fullmatch(p, t)] for p in _COMMA_OR_POINT)
    is_same = len(comma) == len(plain) == 1 and float(comma[0].replace(",", ".")) == float(plain[0])
    return f"{comma[0]!r} may be a list, or a number with a decimal comma" if is_same else ""


def compare_values(expected: Any, actual: Any) -> Verdict:
    """Verdict on two values, and why; None: it cannot be told."""
    for kind, compare_kind in (
        (Equation, _compare_equations),
        (Words, _compare_words),
        (Region, _compare_regions),
        (Several, _compare_lists),
    ):
        if isinstance(expected, kind) or isinstance(actual, kind):
            return compare_kind(expected, actual)
    if isinstance(expected, Ratio) or isinstance(actual, Ratio):
        return _compare_ratios(expected, actual)
    if isinstance(expected, Bracketed) and isinstance(actual, Bracketed):
        if expected.brackets != actual.brackets or len(expected.items) != len(actual.items):
            return False, "other brackets, or another number of values"
        return _all(map(compare_values, expected.items, actual.items))
    if isinstance(expected, Term) and isinstance(actual, Term):
        return _compare_terms(expected, actual)
    term = expected if isinstance(expected, Term) else actual
    if hasattr(term.value, "shape"):
        return None, "one is a matrix, the other a tuple"
    return False, "a single value is no tuple or interval"


def _compare_ratios(expected: Any, actual: Any) -> Verdict:
    if not (isinstance(expected, Ratio) and isinstance(actual, Ratio)):
        return None, "one is a ratio or a time"
    if len(expected.parts) == len(actual.parts) == 2:
        (a, b), (c, d) = expected.parts, actual.parts
        if (a, b) != (c, d) and a * d == b * c != 0:
            return None, "the same ratio in other numbers, or another time"
    is_same = expected.parts == actual.parts
    return is_same, "equal" if is_same else "another ratio or time"


def _compare_sides(value: Any, other: Any, is_reference: bool) -> Verdict:
    """Verdict on a value of the reference, or of the answer, and the other side's."""
    return compare_values(value, other) if is_reference else compare_values(other, value)


def _all(verdicts: Iterator[Verdict]) -> Verdict:
    """Right if all are; wrong if one is."""
    doubt: Verdict | None = None
    for verdict, reason in verdicts:
        if verdict is False:
            return False, reason
        doubt = doubt or ((None, reason) if verdict is None else None)
    return doubt or (True, "equal")


_NO_VALUE = {"none", "undefined", "dne", "no solution", "no solutions", "no real solution",
             "no real solutions", "does not exist", "diverges", "empty set"}  # fmt: skip
_SAME = [{"yes", "true", "correct"}, {"no", "false", "incorrect"}, _NO_VALUE]


def _compare_words(expected: Any, actual: Any) -> Verdict:
    if not (isinstance(expected, Words) and isinstance(actual, Words)):
        words, other = (expected, actual) if isinstance(expected, Words) else (actual, expected)
        if isinstance(other, Term) and str(other.value) == words.text:
            return True, "the reference's letter"
        if words.text.lower() in _NO_VALUE:
            is_empty = isinstance(other, Term) and other.value == sympy.EmptySet
            return is_empty, f"{words.text!r} is no value"
        return None, "one is in words"
    one, two = (" ".join(words.text.lower().split()) for words in (expected, actual))
    if one == two:
        return True, "the reference's words"
    is_single = " " not in one + two
    if is_single and one[:4] != two[:4] and not any({one, two} <= same for same in _SAME):
        return False, "another word"
    return None, "other words: only a judge can tell"


def _compare_equations(expected: Any, actual: Any) -> Verdict:
    if not (isinstance(expected, Equation) and isinstance(actual, Equation)):
        is_reference = isinstance(expected, Equation)
        equation, other = (expected, actual) if is_reference else (actual, expected)
        is_several = [isinstance(value, Several) for value in (equation.right, other)]
        if is_several == [False, True] and len(other.items) > 1:
            return False, "another number of values"
        verdict, reason = _compare_sides(equation.right, other, is_reference)
        if equation.is_rounded and not verdict:  # "25\\pi \\approx 78.54"
            return _compare_sides(read(equation.left), other, is_reference)
        if verdict and re.search(r"[+\-\d]", re.sub(r"_\{?\w+\}?|\([^()]*\)", "", equation.left)):
            try:
                left = Term(to_sympy(equation.left))
                if isinstance(other, Term) and _compare_terms(left, other)[0]:
                    return True, "equal"
            except UnreadableError:
                pass
            return None, "only one is an equation"
        return verdict, reason
    if squeeze(expected.left) == squeeze(actual.left):
        return compare_values(expected.right, actual.right)
    calls = [_CALL.fullmatch(equation.left) for equation in (expected, actual)]
    if calls[0] and calls[1] and calls[0][1] == calls[1][1] and isinstance(actual.right, Term):
        names = sympy.Symbol(calls[1][2]), sympy.Symbol(calls[0][2])  # f(t) = t is f(x) = x
        renamed = actual.right._replace(value=actual.right.value.subs(*names))
        return compare_values(expected.right, renamed)
    if isinstance(expected.right, Term) and isinstance(actual.right, Term):
        return _compare_curves(expected, actual)
    verdict, _ = compare_values(expected.right, actual.right)
    return (None if verdict else False), "the left sides differ"


_CALL = re.compile(r"([a-zA-Z]\w*)\s*\(\s*([a-zA-Z])\s*\)")


def _compare_curves(expected: Equation, actual: Equation) -> Verdict:
    """Equations are the same if one is a multiple of the other."""
    try:
        one, two = (
            exact(to_sympy(equation.left)) - exact(equation.right.value)
            for equation in (expected, actual)
        )
    except (UnreadableError, TypeError):
        return None, "the left sides differ"
    if free_symbols(one) != free_symbols(two):
        is_same = compare_values(expected.right, actual.right)[0]
        return (None if is_same else False), "the left sides differ"
    ratio = sympy.cancel(one / two)
    if ratio.is_number and ratio.is_finite and ratio != 0:
        return True, "the same equation"
    return False, "another equation"


def _compare_regions(expected: Any, actual: Any) -> Verdict:
    for term, region in ((expected, actual), (actual, expected)):
        if isinstance(term, Term) and isinstance(region, Region):
            ends = getattr(region.values, "boundary", ())
            is_bound = any(_equal(exact(term.value), end)[0] for end in ends)
            return (None if is_bound else False), "one is a number, the other a range"
    try:
        one, two = to_region(expected), to_region(actual)
    except UnreadableError as error:
        return None, str(error)
    if one.values != two.values:
        is_same = one.values.is_subset(two.values) and two.values.is_subset(one.values)
        return (True, "the same range") if is_same else (False, "another range")
    if one.variable and two.variable and one.variable != two.variable:
        return None, "the same range of another variable"
    return True, "the same range"


def _compare_lists(expected: Any, actual: Any) -> Verdict:
    if not (isinstance(expected, Several) and isinstance(actual, Several)):
        is_reference = isinstance(expected, Several)
        several, other = (expected, actual) if is_reference else (actual, expected)
        if isinstance(other, Bracketed) and not _is_nested(several):
            ordered = Bracketed(several.items, other.brackets)
            verdict, reason = _compare_sides(ordered, other, is_reference)
            if verdict and several.is_set:
                return None, "one is a set, the other a tuple or an interval"
            return verdict, reason
        if len(several.items) == 1:
            return _compare_sides(several.items[0], other, is_reference)
        holds = any(compare_values(other, item)[0] is not False for item in several.items)
        if several.is_choice and not is_reference and holds:
            return None, "it offers several values"
        return False, "another number of values"
    if expected.has_dots or actual.has_dots:
        return _compare_sequences(expected, actual)
    if len(expected.items) != len(actual.items):
        return False, "another number of values"
    return _match(expected.items, actual.items)


def _is_nested(several: Several) -> bool:
    return any(isinstance(item, Bracketed | Several) for item in several.items)


def _compare_sequences(expected: Several, actual: Several) -> Verdict:
    if expected.has_dots != actual.has_dots:
        return None, "one goes on"
    last = compare_values(expected.items[-1], actual.items[-1])
    if len(expected.items) == len(actual.items):
        return _all(map(compare_values, expected.items, actual.items))
    return (False, "another last value") if last[0] is False else (None, "sequences with dots")


def _match(expected: Sequence[Any], actual: Sequence[Any]) -> Verdict:
    """Right if each value has a partner of its own."""
    left, doubt = list(actual), ""
    for item in expected:
        verdicts = [compare_values(item, other) for other in left]
        place = next((i for i, verdict in enumerate(verdicts) if verdict[0]), None)
        if place is None:
            place = next((i for i, verdict in enumerate(verdicts) if verdict[0] is None), None)
            if place is None:
                return False, "a value of the reference is missing"
            doubt = doubt or verdicts[place][1]
        left.pop(place)
    return (None, doubt) if doubt else (True, "equal")


def _compare_terms(expected: Term, actual: Term) -> Verdict:
    verdict, reason = _equal(exact(expected.value), exact(actual.value))
    units = expected.unit, actual.unit
    if units[0] == units[1] or not any(units):
        return verdict, reason
    if units.count("%") == 1:
        shares = [
            exact(term.value) / (100 if term.unit == "%" else 1) for term in (expected, actual)
        ]
        if "" in units and _equal(*shares)[0]:
            return True, "equal"
        return (None if verdict else verdict), "one is a per cent"
    if sorted(units) == ["", "\u00b0"] and any(t.value.has(sympy.pi) for t in (expected, actual)):
        radians = [
            exact(term.value) * (sympy.pi / 180 if term.unit else 1) for term in (expected, actual)
        ]
        return _equal(*radians)
    if any(unit.startswith("base") for unit in units):
        if all(units):
            values = {int(str(t.value), int(t.unit.split()[1])) for t in (expected, actual)}
            return len(values) == 1, "numbers in two bases"
        return (None if verdict else False), "another base"
    if not all(units):
        if verdict and any(unit in _VARIABLES for unit in units):
            return None, "it may hold a variable, or a unit"
        return verdict, reason
    return _compare_units(expected, actual, verdict)


_VARIABLES = frozenset("mghsLJNWVAKCFT")


def _compare_units(expected: Term, actual: Term, verdict: bool | None) -> Verdict:
    if "".join(_bare(expected.unit)) == "".join(_bare(actual.unit)):
        return verdict, "the units are the same"
    ours, theirs = (parse_unit(term.unit) for term in (actual, expected))
    if not (ours.readings and theirs.readings):
        return (None if verdict else False), "the words or units beside the expressions differ"
    if not free_symbols(actual.value) and not free_symbols(expected.value):
        return _compare_converted(actual, expected, ours, theirs)
    return (None if verdict else False), "the units differ"


def _compare_converted(actual: Term, expected: Term, ours: Unit, theirs: Unit) -> Verdict:
    numbers = convert(float(actual.value) * ours.factor, ours, theirs)
    target = float(expected.value) * theirs.factor
    if any(abs(number - target) <= 1e-9 * abs(target) for number in numbers):
        return True, "equal in another unit"
    return False, "the units differ"


def _bare(unit: str) -> list[str]:
    return re.findall(r"[^\W_]+|[/^-]", TEXT.sub(r" \1 ", unit).lower())


# Equality of expressions


POINTS = (
    (1.37, 0.61, 2.23, 0.87, 1.71, 0.43, 2.59, 1.13),
    (0.53, 1.91, 0.77, 2.41, 1.19, 2.07, 0.31, 1.57),
    (-1.23, -0.71, 0.59, -1.83, 2.11, -1.03, -0.37, 2.29),
    (-0.67, 1.49, -1.97, -0.83, 0.41, -1.79, 1.31, -0.97),
)
"""Values of variables, in order of their names: two positive points and two others."""
_PRECISION, _TOLERANCE = 30, 1e-9
_MIN_DIGITS = 3, 6
"""Digits from which a rounded number is ungraded, and from which it is equal."""


def _equal(one: Any, two: Any) -> Verdict:
    """Verdict on the equality of two expressions or matrices, and why."""
    shapes = [getattr(value, "shape", None) for value in (one, two)]
    if shapes[0] != shapes[1]:
        return False, "not of one shape"
    if shapes[0] is not None:
        return _all(map(_equal, map(exact, one), map(exact, two)))
    if one == two:
        return True, "equal"
    if not (isinstance(one, sympy.Expr) and isinstance(two, sympy.Expr)):
        return False, "not of one kind"
    mine, theirs = (sorted(free_symbols(value), key=str) for value in (one, two))
    verdict, reason = _equal_at_points(one, two, sorted({*mine, *theirs}, key=str))
    if verdict is False:
        digits = _rounding_digits(one, two)
        if digits >= _MIN_DIGITS[1]:
            return True, "equal but for rounding"
        rounded = f"equal if rounded to {digits} digits" if digits >= _MIN_DIGITS[0] else ""
        doubt = rounded or _find_other_names(one, two) or _find_other_log(one, two)
        return (None, doubt) if doubt else (verdict, reason)
    return verdict, reason


def _equal_at_points(one: Any, two: Any, names: Sequence[Any]) -> Verdict:
    near: list[bool | None] = []
    for point in POINTS if names else POINTS[:1]:
        values = dict(zip(names, itertools.cycle(map(sympy.Rational, map(str, point)))))
        near.append(_is_near(one.subs(values), two.subs(values)))
    positive, others = near[:2], near[2:]
    if False in positive:
        return False, "not equal"
    if None in positive:
        return None, "it cannot be worked out"
    if False in others:
        return None, "equal for positive values only"
    return True, "equal"


def _is_near(one: Any, two: Any) -> bool | None:
    """True if two numbers agree; None: they cannot be worked out."""
    a, b = one.evalf(_PRECISION), two.evalf(_PRECISION)
    if not (a.is_number and b.is_number) or any(
        value.has(sympy.nan, sympy.zoo, sympy.oo) for value in (a, b)
    ):
        return True if a == b else None
    rest = one - two
    rest = rest.func(*rest.args) if rest.args else rest  # the parser evaluates no powers
    if rest.is_Rational:
        return rest == 0
    difference, scale = abs(a - b).evalf(_PRECISION), max(abs(a), abs(b))
    if not difference.is_Float and not difference.is_Integer:
        return None
    return bool(difference <= _TOLERANCE * scale)


_CONSTANT = re.compile(r"(?:[A-Zck]|alpha|beta)\w*(?:\{.*\})?")


def _find_other_names(one: Any, two: Any) -> str:
    """Doubt that two expressions differ in the names of some variables alone."""
    mine, theirs = (
        sorted(free_symbols(one) - free_symbols(two), key=str),
        sorted(free_symbols(two) - free_symbols(one), key=str),
    )
    constant = {sympy.Symbol("C"), sympy.Symbol("c")}
    for value, extra, other in ((one, mine, two), (two, theirs, one)):
        if len(extra) == 1 and set(extra) <= constant:
            left = value.subs({extra[0]: 0})
            rest = other.subs(dict.fromkeys(constant & free_symbols(other), 0))
            if (
                value.coeff(extra[0]) == 1
                and _equal_at_points(left, rest, sorted(free_symbols(left), key=str))[0]
            ):
                return "equal but for a constant of integration"
    if len(mine) != len(theirs) or not 1 <= len(mine) <= 3:
        return ""
    if one.is_Symbol or two.is_Symbol:
        return ""
    if not all(_CONSTANT.fullmatch(symbol.name) for symbol in mine + theirs) or any(
        a.name.lower() == b.name.lower() for a in mine for b in theirs
    ):
        return ""
    for order in itertools.permutations(theirs):
        renamed = one.subs(dict(zip(mine, order, strict=True)), simultaneous=True)
        if _equal_at_points(renamed, two, sorted(free_symbols(two), key=str))[0]:
            return "equal in other names of variables"
    return ""


def _find_other_log(one: Any, two: Any) -> str:
    natural = [
        value.xreplace({log: log.func(log.args[0]) for log in value.atoms(sympy.log)})
        for value in (one, two)
    ]
    names = sorted(free_symbols(one) | free_symbols(two), key=str)
    is_log = any(value.has(sympy.log) for value in (one, two))
    return (
        "log may be natural"
        if is_log and _equal_at_points(natural[0], natural[1], names)[0]
        else ""
    )


def _rounding_digits(one: Any, two: Any) -> int:
    """Significant digits of a decimal that is the other number, rounded; 0: neither is."""
    for value, other in ((one, two), (two, one)):
        if not getattr(value, "is_Rational", False) or value.is_Integer or free_symbols(other):
            continue
        places = next((n for n in range(1, 20) if (value * 10**n).is_Integer), 0)
        if places and abs(value - other).evalf(_PRECISION) <= sympy.Rational(1, 2 * 10**places):
            return len(str(abs(value * 10**places)))
    return 0
