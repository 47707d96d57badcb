"""Numbers that an answer gives without claiming them.

Bounds, denials, questions, factors of variables, and numbers beside others: "5 out of 7".
"""

import re

from rcsd.graders.answers.numerals import Value
from rcsd.graders.answers.units import Unit

_BOUND = re.compile(
    r"(?i)[<>≤≥≠]|\\(?:l|g|n)(?:e|eq|t|eqslant)(?![a-zA-Z])|n['\u2019]t\b|\b(?:not|cannot|never|neither"
    r"|anything but|(?:less|more|greater|fewer|smaller|larger|higher|lower) than|at (?:least|most)"
    r"|no (?:less|more)|below|above|under|over|exceed(?:s|ing)?|up to|unlikely|wrong|incorrect)\b"
)
_REFUSED = re.compile(
    r"(?i)^[^.,;]{0,20}\b(?:is|are|seems?) (?:\w+ ){0,2}?(?:not|wrong|incorrect|false|too)\b"
)
_PART_OF = re.compile(
    r"(?i)\b(?:half|thirds?|quarters?|twice|double|triple|thrice|negative|opposite|inverse|reciprocal"
    r"|square|cube|multiples?)\s+(?:(?:of|the)\s+)*$|\bto the\s+$"
)
_GOES_ON = re.compile(
    r"(?i)_|\s*(?:[<>≤≥]|(?:or|and) (?:more|less|fewer|greater|higher|lower|above|below|over"
    r"|an? \w+)\b"
    r"|(?:at (?:most|least)|max(?:imum)?|min(?:imum)|choose|mod(?:ulo)?|remainder|each|every"
    r"|(?:less|more) than)\b|to the (?:(?:\w+ )?power|\w\b))"
)
_BESIDE = re.compile(r"(?i)(?:(?!\b(?:or|and)\b)[^,;=≈\n\d])*\d")
_OTHER_UNIT = re.compile(
    r"(?i)\s*(?!(?:in|on|is|to|approx\w*|exactly|rounded|total|overall|or|and)\b)[a-z]{2}"
)
_SURE_UNIT = re.compile(
    r"\d(?:[mckn]m|k[gJNWV]|eV|M(?:J|Pa|eV)|kPa|Pa|GHz|MHz|kHz|Hz|m[sLlVA]|min)$"
)
_MAYBE_VARIABLE = re.compile(r"(?:\d[a-zA-Z]{1,3}|\d\s*(?:kT|k_B T|[tRk]))$")
_VARIABLE = re.compile(
    r"\s*(?:[-+*/]\s*\d*)?(?:[b-zB-Z](?![\w'\u2019])|[a-zA-Z]_\w|mgh?\b|kT\b)(?!\s*[=≈])"
    r"|[a-zA-Z](?![\w'\u2019])"
)


def doubt_about(text: str, begin: int, value: Value, asked: Unit, in_formula: bool) -> str:
    """Why a number may be no claim; empty: it is one.

    Args:
        text: An answer that `rcsd.graders.answers.numerals.ready` made.
        begin: Where the side of an equation begins in it that the number stands on.
        value: The number.
        asked: The unit that is asked for; if none is, what reads like one may be a variable.
        in_formula: Whether it is part of an expression, which is worked out: no matter what it is
            beside.
    """
    if bound := _BOUND.search(text, begin, value.start):
        return f"no single value is claimed: {bound[0]!r} stands before it"
    rest = text[value.end :]
    if _REFUSED.match(rest):
        return "the number is denied"
    if "?" in rest:
        return "the number is asked, not said"
    return "" if in_formula else _doubt_beside(text, begin, value, asked)


def _doubt_beside(text: str, begin: int, value: Value, asked: Unit) -> str:
    """As `doubt_about`, by what stands beside the number."""
    rest = text[value.end :]
    if part := _PART_OF.search(text, begin, value.start):
        return f"a part or a multiple of the number: {part[0].strip()!r} stands before it"
    if _GOES_ON.match(rest) or _BESIDE.match(rest):
        return f"no single value is claimed: {rest.strip()[:40]!r} follows it"
    written = text[value.start : value.end]
    if re.search(r"\\(?!sqrt|pi)[a-zA-Z]", written):
        return "an expression with a variable"
    if asked.is_none and _MAYBE_VARIABLE.search(written) and not _SURE_UNIT.search(written):
        return f"{written!r} may hold a variable, or a unit"
    if value.unit.is_none and _VARIABLE.match(rest):
        return "an expression with a variable"
    if value.unit.is_none and not asked.is_none and asked.readings and _OTHER_UNIT.match(rest):
        return f"{rest.strip()[:40]!r} may be a unit that cannot be read"
    return ""
