"""Numbers that an answer gives without claiming them: bounds, denials, factors of variables."""

import re

from rcsd.judges.grading.numerals import Value

_BOUND = re.compile(
    r"(?i)[<>≤≥≠]|\\(?:l|g|n)(?:e|eq|t|eqslant)(?![a-zA-Z])|n['\u2019]t\b|\b(?:not|cannot|never|neither"
    r"|anything but|(?:less|more|greater|fewer|smaller|larger|higher|lower) than|at (?:least|most)"
    r"|no (?:less|more)|below|above|under|over|exceed(?:s|ing)?|up to|unlikely|wrong|incorrect)\b"
)
_REFUSED = re.compile(
    r"(?i)^[^.,;]{0,20}\b(?:is|are|seems?) (?:\w+ ){0,2}?(?:not|wrong|incorrect|false)\b"
)
_SURE_UNIT = re.compile(
    r"\d(?:[mckn]m|k[gJNWV]|eV|M(?:J|Pa|eV)|kPa|Pa|GHz|MHz|kHz|Hz|m[sLlVA]|min)$"
)
_MAYBE_VARIABLE = re.compile(r"(?:\d[a-zA-Z]{1,3}|\d\s*(?:kT|k_B T|[tRk]))$")
_VARIABLE = re.compile(
    r"\s*(?:[-+*/]\s*\d*)?(?:[b-zB-Z](?![\w'\u2019])|[a-zA-Z]_\w|mgh?\b|kT\b)(?!\s*[=≈])"
    r"|[a-zA-Z](?![\w'\u2019])"
)


def doubt_about(text: str, begin: int, value: Value, is_bare: bool) -> str:
    """Why a number may be no claim: it is a bound, denied, or a factor of a variable; or empty.

    Args:
        text: An answer that `rcsd.judges.grading.numerals.ready` made.
        begin: Where the side of an equation begins in it that the number stands on.
        value: The number.
        is_bare: Whether no unit is asked for, so that what reads like one may be a variable.
    """
    if bound := _BOUND.search(text, begin, value.start):
        return f"no single value is claimed: {bound[0]!r} stands before it"
    if _REFUSED.match(text[value.end :]):
        return "the number is denied"
    written = text[value.start : value.end]
    if is_bare and _MAYBE_VARIABLE.search(written) and not _SURE_UNIT.search(written):
        return f"{written!r} may hold a variable, or a unit"
    if value.unit.is_none and _VARIABLE.match(text[value.end :]):
        return "an expression with a variable"
    return ""
