r"""Where the final answer of a text stands.

What counts, the first that there is, in what follows the last closed tag of thinking:

1. the last ``\boxed{...}`` or ``\fbox{...}`` that is not empty: of several different ones the last;
2. the last of what follows ``Answer:``, ``Final answer``, ``the answer is`` or ``####``;
3. a last sentence that begins with therefore, thus, hence, so, or in conclusion, or that says what
   is correct;
4. the whole text, where it is one short line.

A text that was cut off has none but what stands in it whole: an answer that touches its end may
have been going on.
"""

import re
import string
from dataclasses import dataclass

from rcsd.judges.answers import boxed_contents

MAX_LINE = 200
"""Characters of a text that is an answer as a whole."""

_TAG = r"(?:think(?:ing)?|thoughts?|reasoning|reflection|seed:think)"
_OPENED = re.compile(rf"(?i)<{_TAG}>|\[THINK\]|<\|begin_of_thought\|>|◁think▷")
_CLOSED = re.compile(
    rf"(?i)</{_TAG}>|\[/THINK\]|<\|end_of_thought\|>|◁/think▷|<\|channel\|>final<\|message\|>"
)
_FBOX = re.compile(r"\\(?:fbox|framebox)(?=\s*\{)")
_BARE_BOX = re.compile(r"\\boxed\s+([^\s{}$]+)")
_OPEN_BOX = re.compile(r"\\boxed\s*\{(?!\s*\})([^\n]*)")
_VERB = r"(?:is|are|was|equals|would be|will be|should be|must be|has to be|=)"
_NOUN = r"(?:answer|option|choice|statement|result|value|letter)"
_GOOD = r"(?:final|correct|right|best|numerical|most appropriate)"
_MARKS = re.compile(
    r"(?im)"
    r"^[ \t]*####[ \t]*(?=\S)(?!(?:the )?(?:final )?answer)"
    r"|^[ \t>*_#-]*(?:my |the |so, |thus, )?(?:(?:final|correct|short) )?"
    r"(?:answer|antwort|respuesta|réponse|答案)[ \t*_]*(?:[:\uff1a]|[=-](?=[ \t]))[ \t*_]*"
    r"|^[ \t>*_#]*(?:the )?final answer[ \t*_]*$"
    rf"|\b(?:answer|{_GOOD}(?: and {_GOOD})* {_NOUN}|{_GOOD} one)"
    rf"(?: (?:to|for|of)\b[^\n.:;]{{1,80}}?| here| choice| option)?"
    rf" {_VERB}\b[ \t]*[:\uff1a]?[ \t*_]*"
    r"|\banswer[ \t]*(?:[:\uff1a]|=)[ \t*_]*"
)
_CONCLUDES = re.compile(
    r"(?i)^\W*(?:therefore|thus|hence|so|consequently|in conclusion|in summary|finally|overall)\b"
    r"[,:]?\s*"
    r"|(?=.*\b(?:is|are|would be) (?:the |therefore |thus )*(?:only )?(?:correct|right|best)\b)"
)
_SENTENCE_END = re.compile(  # not after the letter of "B. London"
    r"(?<=[.!?])(?<![\s*(][A-Z]\.)(?<!^[A-Z]\.)[*_\"')]*\s+(?=[^\W\d_a-z]|\\|\*)|\n\s*\n"
)


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was found.

    Args:
        answer: The final answer, markup around it removed; None: there is none.
        reason: Where it stands, or why there is none.
    """

    answer: str | None
    reason: str


def extraction(text: str, finished: bool = True) -> Extraction:
    """The final answer of a text.

    Args:
        text: A completion.
        finished: Whether the model ended by itself.
    """
    closed = list(_CLOSED.finditer(text))
    said = text[closed[-1].end() :] if closed else text
    if _OPENED.search(said):
        return Extraction(None, "the thinking never ends, so there is no final answer")
    if closed and not said.strip():
        return Extraction(None, "no final answer: nothing follows the thinking")
    found = _boxed(said, finished) or _marked(said, finished)
    if found is None and finished:
        found = _whole(said) or _concluded(said)
    if found is not None:
        return found
    return Extraction(None, "no final answer" if finished else "cut off before a final answer")


def _boxed(text: str, finished: bool) -> Extraction | None:
    text = _FBOX.sub(r"\\boxed", text)
    contents = [content for content in boxed_contents(text) if bare(content)]
    if contents:
        several = len(set(contents)) > 1
        return Extraction(contents[-1], "the last of several boxes" if several else "boxed")
    for pattern in (_BARE_BOX, _OPEN_BOX) if finished else ():
        found = [content for content in pattern.findall(text) if bare(content)]
        if found:
            return Extraction(bare(found[-1]), "in a box that is not closed")
    return None


def _marked(text: str, finished: bool) -> Extraction | None:
    """What follows the last mark that anything follows."""
    for mark in reversed(list(_MARKS.finditer(text))):
        rest = text[mark.end() :]
        lines = rest.split("\n")
        place = next((i for i, line in enumerate(lines) if bare(line)), None)
        if place is None:
            continue
        if not finished and place == len(lines) - 1:
            return Extraction(None, "cut off before a final answer: within it")
        return Extraction(bare(lines[place]), "after the last 'answer'")
    return None


def _whole(text: str) -> Extraction | None:
    line = bare(text)
    if (
        line is None
        or "\n" in line
        or "\\boxed" in line
        or len(line) > MAX_LINE
        or len(_sentences(line)) > 1
    ):
        return None
    return Extraction(line, "the whole text")


def _concluded(text: str) -> Extraction | None:
    last = [sentence for sentence in _sentences(text) if sentence.strip()][-1:]
    if not last or not (opening := _CONCLUDES.match(last[0])):
        return None
    answer = bare(last[0][opening.end() :])
    return None if answer is None else Extraction(answer, "in the last sentence")


def _sentences(text: str) -> list[str]:
    return _SENTENCE_END.split(text.strip())


_AROUND = string.whitespace + '\u00a0*_`"“”'


def bare(answer: str) -> str | None:
    """An answer without markup around it and without a full stop; None: nothing is left."""
    before = None
    while before != answer:
        before = answer
        answer = answer.strip(_AROUND)
        answer = re.sub(
            r"^(?:\$\$|\$(?!\d[\d,.]*$)|\\\[|\\\(|[:\uff1a>#]+)|(?:\$|\\\]|\\\))$", "", answer
        )
        answer = re.sub(r"[.!\u3002]$", "", answer)
    return answer or None
