"""Short free text: code recognises right answers alone, and leaves the rest to a judge."""

import re

from rcsd.judges.grading.folding import folded, holds_phrase, without_articles

MAX_EXTRA_WORDS = 6
"""Words that an answer may have beside the reference."""

_DOUBTS = re.compile(r"\b(?:not|no|never|neither|nor|or|isn t|except|instead|unlike|but|than)\b")


def text_verdict(answer: str, reference: str) -> tuple[bool | None, str]:
    """True and why where an answer says what the reference says; else None and why."""
    said, wanted = (without_articles(folded(text)) for text in (answer, reference))
    if not wanted:
        return None, "the reference has no words"
    if said == wanted:
        return True, "the reference's words"
    if not holds_phrase(said, wanted):
        return None, "other words than the reference's: only a judge can tell"
    if len(said.split()) - len(wanted.split()) > MAX_EXTRA_WORDS:
        return None, "holds the reference among many words: only a judge can tell"
    if _DOUBTS.search(said.replace(wanted, " ")):
        return None, "holds the reference beside a doubt: only a judge can tell"
    return True, "holds the reference's words"
