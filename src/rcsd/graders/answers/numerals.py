r"""Values and units in free text: every way to write a number that answers use.

``1.2 \times 10^{-3}``, ``1.2e-3``, ``1.2·10⁻³``, ``\frac{1}{3}``, ``½``, ``2\sqrt{2}``, ``3\pi/4``,
``1,000``, ``1 000``, ``3,5`` and ``1.000,5`` (a comma before exactly three digits groups them),
``12 million``, ``five``. What stands after ``\pm`` is left out.
"""

import functools
import math
import re
from dataclasses import dataclass

from rcsd.graders.answers.folding import unwrapped
from rcsd.graders.answers.plain import numerals, plain_text
from rcsd.graders.answers.units import Unit, spelt, unit_at_start

MAX_CHARACTERS = 2_000
"""Of an answer that is read; what is longer holds no single number."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number in a text, with its unit.

    Args:
        number: As it was written: ``9.73`` of ``9.73%``.
        unit: What follows it.
        start: Where the number begins in the text that `ready` made.
        end: Where the unit ends.
    """

    number: float
    unit: Unit
    start: int
    end: int


_VULGAR = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5",
    "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}  # fmt: skip
_ONES = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {
    "zero": 0,
    **{word: number for number, word in enumerate(_ONES, 1)},
    **{word: 10 * number for number, word in enumerate(_TENS, 2)},
}
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6,
    "eighth": 8, "tenth": 10,
}  # fmt: skip
_D = r"\d+(?:\.\d+)?|\.\d+"
_MULTIPLES = {
    "hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12
}  # fmt: skip
_READY = (
    (re.compile(r"[" + "".join(_VULGAR) + r"]"), lambda m: f" {_VULGAR[m[0]]} "),
    # Uncertainties: "5.3 \pm 0.1", "5.3(2)"; a leading "\pm 5" stays, and is two values.
    (
        re.compile(rf"(?<=\d)\s*(?:\\pm|±|\+/-|\+-)\s*(?:{_D})(?:\s*%|[eE][+-]?\d+)?"),
        "",
    ),
    (re.compile(r"(\d\.\d+)\(\d{1,2}\)(?!\d)"), r"\1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=\d)(?:\\[,;:! ]|[\u2009\u202f\u00a0'\u2019])(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<![\d.,^])(\d{1,3})((?: \d{3})+)(?![\d,^])"), lambda m: m[0].replace(" ", "")),
    (
        re.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{3})+,\d+(?![\d.,])"),
        lambda m: m[0].replace(".", "").replace(",", "."),
    ),
    (re.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.,])"), lambda m: m[0].replace(".", "")),
    (
        re.compile(r"(?<![\w.,(\[])(?!\d{1,3},\d{3}(?!\d))(\d+),(\d+)(?![\d.,])"),
        r"\1.\2",
    ),
    (re.compile(r"(?<![\w.,])0,(\d+)(?![\d.,])"), r"0.\1"),
    (re.compile(r"\\(?:approx|simeq|sim|cong|equiv|thickapprox)(?![a-zA-Z])|≃|≅|≡"), " ≈ "),
    (re.compile(r"\\(?:to|rightarrow|Rightarrow|implies)(?![a-zA-Z])|[→⇒]"), " = "),
    (re.compile(r"\\l?dots(?![a-zA-Z])|…|(?<=\d)\.\.\."), ""),
    (  # one and a half
        re.compile(r"(?<![\w.^}])(\d+)\s*\\[dt]?frac\s*\{?(\d+)\}?\s*\{?(\d+)\}?"),
        lambda m: f"{m[1]} {m[2]}/{m[3]}",
    ),
    (
        re.compile(
            r"(?i)(^|[=≈:]|\b(?:is|about|approximately|roughly))\s*(?:minus|negative)\s+(?=[.\d])"
        ),
        r"\1 -",
    ),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt\s*(\d)"), r"\\sqrt{\1}"),
    (re.compile(rf"\\sqrt(?=\s*\{{(?!\s*(?:{_D})\s*\}}))"), r"\\root"),  # of more than a number
    (re.compile(r"(?i)(?<=\d)\s+and\s+(?:a|one)\s+half\b"), " 1/2"),
    (re.compile(r"\*\*(?=\s?[({+-]?\s?\d)"), "^"),
    (re.compile(r"(?<=\d) (?=[eE][+-]\d)"), ""),
)
_BRACKETED = re.compile(rf"(?<![\w)])\(\s*([+-]?(?:{_D})(?:\s*\*\s*10\^[+-]?\d+)?)\s*\)")


@functools.lru_cache(maxsize=4096)
def ready(text: str) -> str:
    """An answer with one spelling of numbers, operators and units, in which values are found."""
    text = unwrapped(text[:MAX_CHARACTERS])
    text = re.sub(r"\\\$", " dollar ", text)
    for pattern, replacement in _READY:
        text = pattern.sub(replacement, text)
    text = _BRACKETED.sub(r"\1", plain_text(spelt(text))).strip()
    text = re.sub(r"(?<=\d)\s+1\s*/\s*(?=[a-zA-Z(])", " / ", text)  # "5 1/s"
    return re.sub(r"^-\s+", "-", text)


_N = rf"(?:{_D})"
_ROOT = rf"\\sqrt\s*\{{?\s*({_N})\s*\}}?"
_SYMBOLIC = re.compile(
    rf"(?P<sign>(?:^|(?<=[=≈(:,;\s]))-\s?)?(?:"
    rf"(?P<mixed>\d+)\s+(?P<mover>\d+)\s?/\s?(?P<munder>\d+)(?![\d.])"
    rf"|(?P<rover>{_N})?\s*\*?\s*{_ROOT}(?:\s?/\s?(?P<runder>{_N}))?"
    rf"|(?P<pover>{_N})?\s*\*?\s*(?:\\pi(?![a-zA-Z])|π)(?:\s?/\s?(?P<punder>{_N}))?"
    rf"|(?P<over>{_N})\s?/\s?(?P<under>{_N})(?!\s?/)"
    r")(?!\s*[\^\d])(?!\s*\*\s*10)"
)
_COUNT_WORD = re.compile(
    rf"(?i)\b(?:(?P<tens>{'|'.join(_TENS)})[-* ](?P<ones>{'|'.join(_ONES[:9])})"
    rf"|(?:(?P<over>{'|'.join(_ONES)}|an?)[-* ])?(?P<part>{'|'.join(_PARTS)})s?"
    rf"|(?P<word>{'|'.join(_WORDS)}))\b(?!-)"
)
_MINUS = re.compile(r"(?i)\b(?:minus|negative)\s+$")


def _in_words(text: str) -> tuple[float, int, int] | None:
    """The one number that words give; None: there is none, or more than a word or two."""
    found = list(_COUNT_WORD.finditer(text))
    if len(found) != 1:
        return None
    match = found[0]
    part = {name: word and word.lower() for name, word in match.groupdict().items()}
    if part["tens"]:
        number = float(_WORDS[part["tens"]] + _WORDS[part["ones"]])
    elif part["part"]:
        number = _WORDS.get(part["over"] or "", 1) / _PARTS[part["part"]]
    else:
        number = float(_WORDS[part["word"]])
    minus = _MINUS.search(text[: match.start()])
    return (-number if minus else number), (minus or match).start(), match.end()


def values(text: str) -> list[Value]:
    """Every number of an answer that `ready` made, in order, with the unit that follows it."""
    found: list[tuple[float, int, int]] = []
    for match in _SYMBOLIC.finditer(text):
        if match.start() and (
            text[match.start() - 1].isalnum() or text[match.start() - 1] in "^_."
        ):
            continue
        number = _symbolic(match)
        if number is not None:
            found.append((number, match.start(), match.end()))
    taken = [(start, end) for _, start, end in found]
    for numeral in numerals(text):
        if not any(start < numeral.end and numeral.start < end for start, end in taken):
            found.append((numeral.value, numeral.start, numeral.end))
    if not found and (said := _in_words(text)):
        found.append(said)
    return [_with_unit(text, *place) for place in sorted(found, key=lambda place: place[1])]


def _symbolic(match: re.Match[str]) -> float | None:
    part = match.groupdict()
    try:
        if part["mixed"]:
            number = float(part["mixed"]) + float(part["mover"]) / float(part["munder"])
        elif part["under"]:
            number = float(part["over"]) / float(part["under"])
        elif "sqrt" in match[0]:
            root = math.sqrt(float(match[6]))
            number = float(part["rover"] or 1) * root / float(part["runder"] or 1)
        else:
            number = float(part["pover"] or 1) * math.pi / float(part["punder"] or 1)
    except (ZeroDivisionError, OverflowError):
        return None
    return -number if part["sign"] else number


def _with_unit(text: str, number: float, start: int, end: int) -> Value:
    rest = text[end:]
    multiple = re.match(rf"\s*({'|'.join(_MULTIPLES)})\b", rest)
    if multiple:
        number, end = number * _MULTIPLES[multiple[1]], end + multiple.end()
    opening = re.match(r"[\s*\\]*[\[(]?\s*", text[end:])
    skipped = opening.end() if opening else 0
    unit, after = unit_at_start(text[end + skipped :])
    if unit is None:
        before = re.search(r"(dollar|euro|€|\$)\s*-?$", text[:start])
        if before:
            name = "euro" if before[1] in ("euro", "€") else "dollar"
            return Value(number, Unit(name, 1.0, (((name, 1.0),),)), before.start(), end)
        return Value(number, Unit(), start, end)
    return Value(number, unit, start, len(text) - len(after))
