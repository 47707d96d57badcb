r"""Mathematical answers read into values.

========================  ============================================================
written                   value
========================  ============================================================
``1, 2``, ``1 or 2``      `Several`: in any order; ``\pm`` gives two
``(1, 2)``, ``[1, 2)``    `Bracketed`: in this order, or an interval
``0 < x \le 2``, unions   `Region`: a set of real numbers
``y = 2x``                `Equation`
``\text{even}``           `Words`
``2:3``, ``12:30``        `Ratio`
all else                  `Term`: an expression of sympy by latex2sympy, and a unit
========================  ============================================================

Letters keep their case, and only a plain number has a unit in letters: ``m g h`` is a product.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy

from rcsd.graders.answers.normalize import Rules, apply_rules, unwrap_type


class Term(NamedTuple):
    """An expression, and the unit that is written behind it."""

    value: Any
    unit: str = ""


class Words(NamedTuple):
    """An answer that is no mathematics."""

    text: str


class Ratio(NamedTuple):
    """A ratio, or a time of day."""

    parts: tuple[int, ...]


class Several(NamedTuple):
    """Values in any order; is_choice: joined by "or"; is_set: in braces; has_dots: it goes on."""

    items: tuple[Any, ...]
    is_choice: bool = False
    is_set: bool = False
    has_dots: bool = False


class Bracketed(NamedTuple):
    """Values in brackets: a tuple, a point, or an interval."""

    items: tuple[Any, ...]
    brackets: str


class Region(NamedTuple):
    """A set of real numbers, of a variable or of none that is named."""

    variable: str
    values: Any


class Equation(NamedTuple):
    """Two sides, the left as it is written; is_rounded: the right is the left's decimal."""

    left: str
    right: Any
    is_rounded: bool = False


class UnreadableError(Exception):
    """No value can be read."""


# Reading

_SPELLINGS: Rules = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])\.?", ""),
        (r"(?<!\\)\\[,;:! ]|[~\u00a0]", " "),
        (r"\\(?:quad|qquad|displaystyle|limits|thinspace)(?![a-zA-Z])", " "),
        (r"\{,\}", ","),
        (r"(?<![\w.,])(\d{1,3})((?:,\d{3})+)(?![\d,])", lambda m: m[1] + m[2].replace(",", "")),
        (r"\\?\$|\\\(|\\\)|\\\[(?!\s*\d*(?:pt|em|ex)\])|\\\]", " "),
        (r"\u2212|\u2013", "-"),
        (r"\u00d7|\u2217|\\ast(?![a-zA-Z])", r"\\times "),
        (r"\u00b7|\u22c5", r"\\cdot "),
        (r"\u221e|\b(?:infinity|inf)\b", r"\\infty "),
        (r"\u03c0|(?<![\\a-zA-Z])pi(?![a-zA-Z])", r"\\pi "),
        (r"\u2264|\\(?:leq|leqslant|le)(?![a-zA-Z])|<=", " \u2264 "),
        (r"\u2265|\\(?:geq|geqslant|ge)(?![a-zA-Z])|>=", " \u2265 "),
        (r"\\lt(?![a-zA-Z])", " < "),
        (r"\\gt(?![a-zA-Z])", " > "),
        (r"\u2260|\\(?:neq|ne)(?![a-zA-Z])|!=|\\not\s*=", " \u2260 "),
        (r"\u222a|\\cup(?![a-zA-Z])", " \u222a "),
        (r"\u00b1|\\pm(?![a-zA-Z])|\+/-", " \u00b1 "),
        (r"\u2208|\\in(?![a-zA-Z])", " \u2208 "),
        (r"\\(?:approx|simeq)(?![a-zA-Z])", " \u2248 "),
        (r"\\(?:[lc]?dots[cb]?)(?![a-zA-Z])|\.\.\.", "\u2026"),
        (
            r"(?i)\\(?:text|mathrm|textrm|mbox)\s*\{[\s,]*or\s*\}|\\(?:lor|vee)(?![a-zA-Z])|\bor\b",
            "\u2228",
        ),
        (
            r"(?i)\\(?:text|mathrm|textrm|mbox)\s*\{[\s,]*and\s*\}|\\(?:land|wedge)(?![a-zA-Z])"
            r"|\band\b",
            "\u2227",
        ),
        (r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})|\u00b0|\\degree(?![a-zA-Z])", r"\\degree "),
        (r"\\mathbb\s*\{\s*R\s*\}|\\mathbb\s+R|\u211d|\\R(?![a-zA-Z])", r"(-\\infty,\\infty)"),
        (r"\\mathrm\s*\{\s*([A-Za-z])\s*\}(?=\s*[\^_(])", r"\1"),
        (r"(\d*)\.(\d*)\\overline\s*\{(\d+)\}", lambda m: _periodic(*m.groups())),
        (r"(?<![\w\\])(-?\d+(?:\.\d+)?)[eE]([+-]?\d+)(?!\w)", r"\1 \\times 10^{\2}"),
        (r"\*\*", "^"),
        (r"\\sqrt\s*\(((?:[^()]|\([^()]*\))*)\)", r"\\sqrt{\1}"),
        (r"\u221a\s*\(((?:[^()]|\([^()]*\))*)\)", r"\\sqrt{\1}"),
        (r"\u221a\s*(\w)", r"\\sqrt{\1}"),
        (r"(?<![\\a-zA-Z])sqrt\s*\(((?:[^()]|\([^()]*\))*)\)", r"\\sqrt{\1}"),
        (r"(?<![\\a-zA-Z])(?=(?:arc)?(?:sin|cos|tan|cot|sec|csc)\b|(?:ln|log|exp)\b)", r"\\"),
        (r"(?<![\w.^\\}])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\w.])", r"(\1+\\frac{\2}{\3})"),
        (r"\s+", " "),
    )
]


def _periodic(units: str, digits: str, period: str) -> str:
    nines = 10 ** len(digits) * (10 ** len(period) - 1)
    value = int((units or "0") + digits + period) - int((units or "0") + digits)
    return rf"\frac{{{value}}}{{{nines}}}"


def clean(text: str) -> str:
    """One spelling of operators, relations and connectives; nothing that only sets type."""
    text = apply_rules(_SPELLINGS, unwrap_type(text))
    if "matrix" not in text:  # lines: "x &= 2 \\ &= 3" goes on, "x &= 2 \\ y &= 5" are two
        text = re.sub(r"\\\\\s*&?\s*(?==)", " ", text)
        text = re.sub(r"\\\\(?:\[[^\]]*\])?", ", ", text).replace("&", " ")
    return text.strip(" .,;:\n")


_OPENS, _CLOSES = "([{", ")]}"


def _split(text: str, separators: str) -> list[str]:
    """Parts of a text between separators that stand in no brackets."""
    parts, depth, begin = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in _OPENS) - (character in _CLOSES)
        if character in separators and depth == 0:
            parts.append(text[begin:place])
            begin = place + 1
    return [part.strip() for part in [*parts, text[begin:]] if part.strip()]


def _is_one_group(text: str) -> bool:
    depth = 0
    for place, character in enumerate(text):
        depth += (character in _OPENS) - (character in _CLOSES)
        if depth == 0:
            return place == len(text) - 1
    return False


TEXT = re.compile(r"\\(?:text|mathrm|textrm|textbf|mbox|operatorname)\s*\{([^{}]*)\}")
_PROSE = re.compile(r"[A-Za-z]+(?:[ -]+[A-Za-z]+)*|\([A-Za-z]\)")
_PRODUCT = re.compile(r"(?:(?!(?i:yes|no|odd|one|two|six|ten|all|any|dne)\b)[a-zA-Z]{1,3}\s*)+")
_RELATION = re.compile(r"[<>\u2264\u2265\u2260]")
_RATIO = re.compile(r"\d+(?:\s*:\s*\d+)+")


def read(text: str) -> Any:
    """Value of a text that `clean` made.

    Raises UnreadableError.
    """
    text = text.strip()
    words = TEXT.sub(r"\1", text).strip()
    if not words:
        raise UnreadableError("it is empty")
    if _PROSE.fullmatch(words) and not _PRODUCT.fullmatch(text):
        return Words(words.strip("()"))
    if _RATIO.fullmatch(text):
        return Ratio(tuple(map(int, text.split(":"))))
    for separators, join in (("\u2228", _alternatives), ("\u2227,;", _listed)):
        if len(parts := _split(text, separators)) > 1:
            return join(parts)
    return _read_one(text)


def _alternatives(parts: list[str]) -> Any:
    items = [read(part) for part in parts]
    if all(isinstance(item, Region) for item in items):
        return _combine(items, "Union")
    return Several(tuple(_flat(items)), is_choice=True)


_INTEGERS = re.compile(r"\s*[a-zA-Z]\s*\u2208\s*\\mathbb\s*\{?\s*[ZN]\s*\}?\s*")  # "k in Z"


def _listed(parts: list[str]) -> Any:
    parts = [part for part in parts if not _INTEGERS.fullmatch(part)] or parts
    dots = [part for part in parts if part.strip() == "\u2026"]
    items = [read(part) for part in parts if part.strip() != "\u2026"]
    if len(items) == 1 and not dots:
        return items[0]
    if items and all(isinstance(item, Region) for item in items):
        return _combine(items, "Intersection")
    first = items[0] if items else None
    if isinstance(first, Equation) and not any(isinstance(item, Equation) for item in items[1:]):
        items = [Equation(first.left, item) for item in _flat([first.right, *items[1:]])]
    return Several(tuple(_flat(items)), has_dots=bool(dots))


def _flat(items: Sequence[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, Several) and not item.is_set:
            yield from item.items
        elif isinstance(item, Equation) and isinstance(item.right, Several):
            yield from (Equation(item.left, each) for each in item.right.items)
        else:
            yield item


def _combine(regions: Sequence[Region], how: str) -> Region:
    names = {region.variable for region in regions} - {""}
    if len(names) > 1:
        raise UnreadableError("it bounds several variables")
    sets = [region.values for region in regions]
    return Region(next(iter(names), ""), getattr(sympy, how)(*sets))


def _read_one(text: str) -> Any:
    """A value that is no list."""
    if len(parts := _split(text, "\u222a")) > 1:
        return _combine([to_region(read(part)) for part in parts], "Union")
    if len(parts := _split(text, "\u2208")) == 2:
        inside = read(parts[1])
        return Region(parts[0], to_region(inside).values) if _is_range(inside) else inside
    if _RELATION.search(text):
        return _read_relation(text)
    sides = _split(text, "\u2248")
    if len(sides) == 2 and "=" not in text:
        return Equation(sides[0], read(sides[1]), is_rounded=True)
    if len(parts := _split(sides[0] if "=" in sides[0] else text, "=\u2248")) > 1:
        return Equation(parts[-2] if len(parts) > 2 else parts[0], read(parts[-1]))
    if re.match(r"\\?\{.*\}$", text) and _is_one_group(re.sub(r"\\(?=[{}])", "", text)):
        inner = re.sub(r"^\\?\{|\\?\}$", "", text).strip()
        items = read(inner) if inner else Several(())
        items = items if isinstance(items, Several) else Several((items,))
        return items._replace(is_set=True, is_choice=False)
    if text[0] in "([" and text[-1] in ")]" and _is_one_group(text):
        inner = [read(part) for part in _split(text[1:-1], ",;")]
        if len(inner) == 1 and text[0] + text[-1] == "()":
            return inner[0]
        return Bracketed(tuple(inner), text[0] + text[-1])
    if "\u00b1" in text:
        signs = (("+", "-"), ("-", "+"))
        forms = [text.replace("\u00b1", a).replace(r"\mp", b) for a, b in signs]
        return Several(tuple(read(re.sub(r"^\s*\+", "", form)) for form in forms))
    return _read_term(text)


_WORDS_BEHIND = re.compile(
    r"^(?P<term>.*[\w})\]!|%])\s*(?P<unit>(?:\s*[/*]?\s*(?:\\cdot\s*)?\\(?:text|mathrm|textrm|mbox"
    r"|operatorname|rm)\s*\{[^{}]*\}(?:\s*\^\s*(?:\{[^{}]*\}|-?\d))?)+)$",
    re.DOTALL,
)
_LETTERS_BEHIND = re.compile(r"^(?P<term>.*[\d})])(?P<space>\s*)(?P<unit>[a-zA-Z]{1,3}(?:\^\d)?)$")
_DEGREES = re.compile(r"^(?P<term>.*\S)\s*\\degree\s*(?P<scale>[CFK]?)$")


def _read_term(text: str) -> Term:
    unit = ""
    if match := re.fullmatch(r"(\d+)_\s*\{?\s*(\d+)\s*\}?", text):
        return Term(sympy.Integer(match[1]), f"base {match[2]}")
    if match := _DEGREES.match(text):
        text, unit = match["term"], "\u00b0" + match["scale"]
    elif match := _WORDS_BEHIND.match(text):
        text, unit = match["term"], match["unit"].strip()
    elif (match := _LETTERS_BEHIND.match(text)) and _is_unit(match):
        text, unit = match["term"], match["unit"]
    is_percent = re.search(r"\\?%\s*$", text) is not None
    value = to_sympy(re.sub(r"\\?%\s*$", "", text))
    return Term(value, "%" if is_percent else unit)


_COMMON_UNITS = re.compile(
    r"[mckn\u00b5]?m|[km\u00b5]?g|[mn\u00b5]?s|min|h|[mc]?L|ml|[kM]?[JNW]|[mk]?[VA]|K|C|F|T|[kMG]?Pa"
    r"|atm|bar|m?mol|[kMG]?Hz|[kMG]?eV|rad|deg|ft|lb"
)


def _is_unit(match: re.Match[str]) -> bool:
    """True for a common unit behind a plain number: ``5 m``, ``5cm``; not ``5m``, ``2ab``."""
    is_plain = re.search(r"[a-zA-Z]", re.sub(r"\\[a-z]+", "", match["term"])) is None
    letters = match["unit"].split("^")[0]
    return (
        is_plain
        and _COMMON_UNITS.fullmatch(letters) is not None
        and bool(match["space"] or letters[1:])
    )


_UNREADABLE = re.compile(  # what goes on, residues, divisors, and words, which are no products
    r"\u2026|\\(?:[pb]?mod|equiv|mid|forall|exists)(?![a-zA-Z])|^[^|]*\|[^|]*$"
    r"|(?<![\\a-zA-Z_{])(?:(?![pbBvV]?matrix|cases|array)[a-zA-Z]{4,}|not|for|the|mod|all|any|but|are|was|is|if|of|at|to|by)"
    r"(?![a-zA-Z])|(?<![_^{(])\\(?:text|mathrm|mbox)\s*\{\s*[a-z]{3,}[^{}]*\}"
)


def to_sympy(text: str) -> Any:
    """Expression of sympy; ``i`` is the imaginary unit.

    Raises UnreadableError.
    """
    if unreadable := _UNREADABLE.search(text):
        raise UnreadableError(f"it holds {unreadable[0]!r}")
    # The current I is no imaginary unit.
    text = re.sub(r"\\[a-zA-Z]+|I(?!_)", lambda m: m[0] if m[0] != "I" else "Q_{I}", text)
    try:
        value = latex2sympy(
            text.replace(r"\degree", r"\cdot \frac{\pi}{180}"),
            is_real=None,
            normalization_config=NormalizationConfig(
                malformed_operators=True, nits=True, boxed="none"
            ),
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # the parser raises whatever it stumbles over
        raise UnreadableError(f"{text[:40]!r} cannot be read as mathematics") from error
    if isinstance(value, sympy.Basic):
        value = value.subs({sympy.Symbol("i"): sympy.I})
    return value


# Regions


def _is_range(value: Any) -> bool:
    return isinstance(value, Region | Bracketed) or (isinstance(value, Several) and value.is_set)


def to_region(value: Any) -> Region:
    """Real numbers of an interval, or of a finite set.

    Raises UnreadableError if a value is neither.
    """
    if isinstance(value, Region):
        return value
    if isinstance(value, Several) and all(isinstance(item, Term) for item in value.items):
        return Region("", sympy.FiniteSet(*(exact(item.value) for item in value.items)))
    if isinstance(value, Bracketed) and len(value.items) == 2:
        low, high = value.items
        if isinstance(low, Term) and isinstance(high, Term):
            is_open = [bracket in "()" for bracket in value.brackets]
            return Region("", _interval(low.value, high.value, *is_open))
    raise UnreadableError("it is no set of numbers")


def _interval(low: Any, high: Any, left_open: bool, right_open: bool) -> Any:
    low, high = exact(low), exact(high)
    if not all(getattr(end, "is_extended_real", False) for end in (low, high)):
        raise UnreadableError("an end of the interval is no real number")
    return sympy.Interval(low, high, left_open, right_open)


def _read_relation(text: str) -> Region:
    """Values of the one variable that a chain such as ``0 < x <= 2`` bounds."""
    signs = _RELATION.findall(text)
    sides = [side.strip() for side in _RELATION.split(text)]
    if len(signs) > 2 or (len(set(signs) & set("<\u2264")) and set(signs) & set(">\u2265")):
        raise UnreadableError("it is no single range")
    terms = [to_sympy(side) if side else sympy.Symbol("") for side in sides]
    names = [term for term in terms if isinstance(term, sympy.Symbol)]
    if len(names) != 1 or any(free_symbols(term) - {names[0]} for term in terms):
        raise UnreadableError("it bounds an expression")
    place = terms.index(names[0])
    region: Any = sympy.S.Reals
    for index, sign in enumerate(signs):
        at_left = place <= index  # the variable stands left of the sign
        other = exact(terms[index + 1] if at_left else terms[index])
        region = region.intersect(_half_line(sign, other, at_left))
    return Region(str(names[0]), region)


def _half_line(sign: str, end: Any, at_left: bool) -> Any:
    if sign == "\u2260":
        return sympy.S.Reals - sympy.FiniteSet(end)
    is_below = (sign in "<\u2264") == at_left
    is_open = sign in "<>"
    if is_below:
        return _interval(-sympy.oo, end, True, is_open)
    return _interval(end, sympy.oo, is_open, True)


def exact(value: Any) -> Any:
    """Expression whose decimals are fractions."""
    if not isinstance(value, sympy.Expr):
        return value
    return value.xreplace({n: sympy.Rational(str(n)) for n in value.atoms(sympy.Float)})


def free_symbols(value: Any) -> set[sympy.Symbol]:
    """Variables of a value; empty for what has none."""
    return set(getattr(value, "free_symbols", ()))


def squeeze(text: str) -> str:
    """Text without spaces, and without braces around one character of an index or a power."""
    return re.sub(r"(?<=[_^])\{(\w)\}", r"\1", "".join(text.split()))
