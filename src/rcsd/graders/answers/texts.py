"""Short free text: code recognises right answers alone, and leaves the rest to a judge."""

import re
import unicodedata

from rcsd.graders.answers.folding import folded, without_articles

_OPENING = re.compile(
    r"^(?:(?:it|this|that|answer|final answer|correct answer) (?:is|would be)|it s|called|namely"
    r"|i think(?: it is)?)\s+(?:called\s+)?"
)
"""What may stand before a reference's words and changes nothing; all else may."""

_SYMBOL = re.compile(r"\w*[A-Z]\w*[A-Z]\w*")  # CO, which is not Co


def text_verdict(answer: str, reference: str) -> tuple[bool | None, str]:
    """True and why where an answer says what the reference says; else None and why."""
    said, wanted = (without_articles(folded(text)) for text in (answer, reference))
    if not wanted:
        return None, "the reference has no words"
    if "?" in answer and "?" not in reference:
        return None, "asks, where the reference says"
    if wanted in (said, _OPENING.sub("", said)):
        cases = {unicodedata.normalize("NFKC", text.strip()) for text in (answer, reference)}
        if len(wanted) <= 3 and len(cases) > 1 and any(map(_SYMBOL.fullmatch, cases)):
            return None, "in other capitals, which tell symbols apart"
        return True, "the reference's words"
    return None, "other words than the reference's, or more: only a judge can tell"
