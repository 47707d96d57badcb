"""Final answers: where they stand in a text, and whether a numeric one is right."""

import functools
import re
from dataclasses import dataclass

_PLAIN = (
    (re.compile(r"\\(?:text|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"\1 / \2"),
    (re.compile(r"\\times|\\cdot|[\u00d7\u00b7\u22c5\u2217]"), " * "),
    (re.compile(r"\\div|\u00f7"), " / "),
    (re.compile(r"[\u2212\u2013]"), "-"),  # minus sign, en dash
    (re.compile("²"), "^2"),
    (re.compile("³"), "^3"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,;:! ]|\\[()\[\]]|[$~\u00a0]"), " "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"(?<=[\w)])\*\*(?=[\w(])"), "^"),
    (re.compile(r"\*\*"), ""),  # bold
    (re.compile(r"[^\S\n]+"), " "),
    (re.compile(r" ?\n[ \n]*"), "\n"),
    (re.compile(r"(?<=\d) ?[xX] ?(?=\d)"), " * "),
    (re.compile(r" ?\^ ?(?:\{ ?([^{}]*)\})?"), r"^\1"),
)
_THOUSANDS = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\d,])")


@functools.lru_cache(maxsize=512)
def plain_text(text: str) -> str:
    r"""The text with one spelling of arithmetic: ``* / - ^``, no LaTeX, no thousands commas.

    ``3\,\text{min} \times 1{,}000`` becomes ``3 min * 1000`` up to whitespace.
    """
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    return _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)


@dataclass(frozen=True, slots=True)
class Numeral:
    """A number as written in a text.

    Args:
        value: Its value, the sign included.
        start: Where it begins in the plain text, at its sign if it has one.
        end: Where it ends.
    """

    value: float
    start: int
    end: int


# Not part of a name (V1, H2O), a decimal or an exponent (m^2, s^-1).
_NUMERAL = re.compile(
    r"(?<![\w.^])(?<!\^-)"
    r"(?:10\^(?P<power>[+-]?\d{1,3})"
    r"|(?P<digits>\d+(?:\.\d+)?|\.\d+)"
    r"(?:[eE](?P<exponent>[+-]?\d{1,3})(?!\w)| ?\* ?10\^(?P<factor>[+-]?\d{1,3}))?)"
)
# A minus is a sign where no operand stands before it; "12 - 4" and "12-4" hold 12 and 4.
_SIGN = re.compile(r"(?:[=(\[{:,;] ?- ?|(?:^|[^\w)\]}])-)$")


def numerals(plain: str) -> list[Numeral]:
    """Every standalone number of a plain text (see `plain_text`), in order."""
    found = []
    for match in _NUMERAL.finditer(plain):
        exponent = match["power"] or match["exponent"] or match["factor"] or "0"
        value = float(f"{match['digits'] or '1'}e{exponent}")
        start = max(0, match.start() - 8)
        if _SIGN.search(plain[start : match.start()]):
            value, start = -value, plain.rindex("-", start, match.start())
        else:
            start = match.start()
        found.append(Numeral(value, start, match.end()))
    return found


def boxed_contents(text: str) -> list[str]:
    r"""What stands in each closed ``\boxed{...}``, nested braces included, in order of the ends."""
    contents: list[str] = []
    opened: list[int | None] = []  # where a box's contents begin; None: another brace
    for match in re.finditer(r"(\\boxed\s*\{)|[{}]", text):
        if match[0] != "}":
            opened.append(match.end() if match[1] else None)
        elif opened and (start := opened.pop()) is not None:
            contents.append(text[start : match.start()].strip())
    return contents


_ANSWER_LINE = re.compile(r"(?im)^[ \t*#_>]*(?:final +)?answer[ *_]*:[\s*_]*(\S.*)$")
_ANSWER_IS = re.compile(r"(?i)\banswer is\b[\s:*_]*")
_SENTENCE_END = re.compile(r"\n|[.!](?=\s+[^\W\d_a-z]|\s+\\)")


def final_answer(text: str) -> str | None:
    r"""The answer that a text ends in, or None.

    The contents of the last ``\boxed{...}`` that is not empty; else what follows the last
    ``Answer:`` at the start of a line; else the sentence's rest after the last ``answer is``.
    Markup around it and the full stop are removed.
    """
    for content in reversed(boxed_contents(text)):
        if content:
            return content
    lines = _ANSWER_LINE.findall(text)
    if lines:
        return _bare(lines[-1])
    openings = list(_ANSWER_IS.finditer(text))
    return _bare(_SENTENCE_END.split(text[openings[-1].end() :])[0]) if openings else None


def _bare(answer: str) -> str | None:
    answer = answer.strip().strip("*_").strip()
    answer = re.sub(r"[.!]$", "", answer).strip().strip("*_$").strip()
    return answer or None


def quantity(answer: str) -> tuple[float, str] | None:
    """The number of an answer such as ``E = 720 J``, and the plain text that follows it.

    Of an equation the right side counts. None: there is no number.
    """
    side = re.split(r"[=≈]", plain_text(answer))[-1].strip()
    side = re.sub(r"^-\s+", "-", side)
    found = numerals(side)
    return (found[0].value, side[found[0].end :]) if found else None


# "5 m" does not stand in "5 m/s", "5 m^2", "5 m s" or "5 m per s".
_UNIT_GOES_ON = (
    r"(?![\w*/^]|\s*[*/^]|\s+per\b|\s+(?:[kmcnµ]?(?:[smgKNJAVWLhCF]|Pa|Hz|mol))(?![A-Za-z]))"
)


@functools.lru_cache(maxsize=512)
def _unit_pattern(unit: str) -> re.Pattern[str]:
    parts = re.split(r"[\s*]+", plain_text(unit).strip())
    return re.compile(r"\s*" + r"[\s*]+".join(map(re.escape, parts)) + _UNIT_GOES_ON)


def starts_with_unit(text: str, unit: str) -> bool:
    """Whether a plain text begins with the unit as a whole: ``m`` not where ``m/s`` stands.

    Letter case counts; ``kg*m/s`` and ``kg m/s`` are the same.
    """
    return _unit_pattern(unit).match(text) is not None


# A word, or symbols of up to three letters: "years", "mol/L", "kg m^2 s^-1"; not "years ago".
_SYMBOL = r"[A-Za-zµμΩ°]{1,3}(?:\^-?\d)?"
_UNIT = re.compile(rf"%|°?[A-Za-zΩ]+|{_SYMBOL}(?:\s*[*/]\s*{_SYMBOL}|\s+{_SYMBOL})*")


def _numeric(reference: str) -> tuple[float, str] | None:
    """Value and unit of a reference that is a number with or without a unit, else None."""
    plain = re.sub(r"^-\s+", "-", plain_text(reference).strip())
    found = numerals(plain)
    if not found or plain[: found[0].start].strip() not in ("", "+"):
        return None
    unit = plain[found[0].end :].strip()
    return (found[0].value, unit) if not unit or _UNIT.fullmatch(unit) else None


def _folded(text: str) -> str:
    return re.sub(r"\s+", "", plain_text(text)).rstrip(".").casefold()


def can_be_wrong(reference: str) -> bool:
    """Whether code can tell a wrong answer from a right one: where the reference is a number.

    Of other references `answer_verdict` recognises the right answers alone, so an accuracy over
    them would be 1 for every model.
    """
    return answer_verdict("", reference) is not None


def answer_verdict(text: str, reference: str, tolerance: float = 0.01) -> bool | None:
    """Whether the final answer of a text is right.

    A numeric reference, ``r`` with or without a unit: right if ``|a - r| <= tolerance |r|`` for the
    final answer's number ``a``, and if the unit that it states, if any, is the reference's. Units
    are compared as written, not converted; where the reference has none, any is taken. Any other
    reference: right if equal up to whitespace and letter case, else ungraded.

    Args:
        text: A completion.
        reference: Such as ``360 J``, ``0.5 mol/L``, ``-3`` or ``1e-3 m``.
        tolerance: Relative, at least 0.

    Returns:
        True or False, or None: only a real grader can tell. Without a final answer, False where the
        reference is numeric.
    """
    answer, expected = final_answer(text), _numeric(reference)
    if expected is None:
        return True if answer is not None and _folded(answer) == _folded(reference) else None
    given = quantity(answer) if answer is not None else None
    if given is None:
        return False
    (value, rest), (wanted, unit) = given, expected
    if abs(value - wanted) > tolerance * abs(wanted) or re.search(r"\bor\b", rest):
        return False
    return not re.search(r"[\w%°/^*]", rest) or not unit or starts_with_unit(rest, unit)
