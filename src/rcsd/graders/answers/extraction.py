r"""Extraction of the final answer of a text.

The first of these that there is counts, in what follows the last closed tag of thinking:

1. the last ``\boxed{...}`` that is not empty: of several different ones the last;
2. the last of what follows ``Answer:``, a heading ``Answer``, ``the answer is`` or ``####``, where
   that gives an answer: "if your answer is 6" and "the answer is independent of x" give none;
3. the whole text, where it is one short line;
4. of a choice, the only option that a line stands for, if that is the first or the last line;
5. a last sentence that begins with therefore, thus, hence, so, or in conclusion, or that says what
   is correct.

What follows a question that the model asks itself after its answer is passed over. A unit or a
power of ten right after the box of a number belongs to it. A box within an expression
(``-\boxed{5}``) is unsure, and so is a marked answer that is taken back later ("Wait, ..."). A text
that was cut off has none but what stands in it whole: one that touches its end may go on.
"""

import re
import string
from collections.abc import Sequence
from typing import NamedTuple

from rcsd.data.thinking import after_thinking
from rcsd.graders.answers.normalize import holds_phrase, normalize_quantity, normalize_words
from rcsd.graders.answers.numerals import read_quantities
from rcsd.graders.answers.units import read_unit

MAX_LINE, MAX_OPTION = 200, 1_000
"""Characters of a text that is an answer as a whole, and of a line that is an option."""

_WRAPPED = re.compile(  # tags around the answer, as Hunyuan and Granite write them
    r"(?is)<(answer|final_answer|response|solution)>((?:(?!<\1>).)*)</\1>\s*\Z"
)
_ANSWER_TAGS = re.compile(r"<\|(?:begin|end)_of_(?:box|solution)\|>|<\|(?:return|end)\|>\s*\Z")
_BARE_BOX = re.compile(r"\\boxed\s+([^\s{}$]+)")
_OPERATOR = re.compile(r"\s*(?:\^|[+/]\s*[\w\\])")
_GOOD = r"(?:final|correct|right|best|numerical|most appropriate)"
_MARKS = re.compile(
    r"(?im)"
    r"^[ \t]*####[ \t]*(?=\S)(?!(?:the )?(?:final )?answer)"
    r"|^[ \t>*_#-]*(?:my |the |so, |thus, )?(?:(?:final|correct|short) )?"
    r"(?:answer|antwort|respuesta|réponse|答案)[ \t*_]*(?:[:\uff1a]|[=-](?=[ \t]))[ \t*_]*"
    r"|^[ \t>*_#]*(?:the )?(?:(?:final|correct) )?answer[ \t*_]*$"
    rf"|\b(?:answer|{_GOOD}(?: and {_GOOD})* (?:answer|option|choice|statement|result|value|one))"
    r"(?: (?:to|for|of)\b[^\n.:;]{1,80}?| here| choice| option)?"
    r"(?: (?:is|are|was|equals|(?:would|will|should|must|has to) be|=)(?!\w)[ \t]*[:\uff1a]?"
    r"|[ \t]*[:\uff1a=])[ \t*_]*"
)
_CONCLUDES = re.compile(
    r"(?i)^\W*(?:therefore|thus|hence|so|consequently|in conclusion|finally|overall)\b[,:]?\s*"
    r"|(?=.*\b(?:is|are|would be) (?:the |therefore |thus )*(?:only )?(?:correct|right|best)\b)"
)
_NO_MARK_AFTER = re.compile(  # "if your answer is 6", "I first thought the answer is B"
    r"(?i)\b(?:if|whether|your|incorrect|wrong|unless|suppose"
    r"|(?:first|initially|originally)\b.*\b(?:thought|guess\w*|assumed|believed|said))\b"
    r"[^.!?\n]{0,40}$"
)
_NO_ANSWER = re.compile(  # "the answer is independent of 7", "this answer is helpful"
    r"(?i)^\W*(?:(?:also|indeed|clearly|very|now) )?(?:independent|checked|correct|right|wrong"
    r"|incorrect|helpful|useful|clear|obvious|found|obtained|verified|confirmed|consistent|rounded"
    r"|unique|reasonable|plausible|unchanged|valid|based)\b"
)
_TAKEN_BACK = re.compile(
    r"(?i)\b(?:wait|hmm+|actually|reconsider|on second thought|correction|i made (?:a|an) "
    r"(?:mistake|error)|i was wrong|scratch that)\b"
)
_NEXT_TURN = re.compile(r"(?m)^[ \t*#]*(?:Question|Q|Problem|User|Human)[ \t*]*\d*[ \t]*:")
_OPTION_LINE = re.compile(
    r"^[\s*_#>]*(?:(?i:option|choice)\s+)?(?:\(([A-Z])\)|([A-Z])(?:[).:](?=[\s*]|$)|(?=[\s*]*$)))"
)
_EQUATION = re.compile(
    r"(?i)^\W*(?:(?:so |then |thus )?(?:we (?:get|find|obtain|have)|this gives|giving)\b[:,]?\s*)?"
    r"((?![^=≈\\]*\s[a-z]{2,}\s)[^=≈]{1,60}(?:=|≈|\\approx)"
    r"(?!.*\b(?:where|with|use)\b).{1,80})$"
)
_SENTENCE_END = re.compile(  # not after the letter of "B. London"
    r"(?<=[.!?])(?<![\s*(][A-Z]\.)(?<!^[A-Z]\.)[*_\"')]*\s+(?=[^\W\d_a-z]|\\|\*)|\n\s*\n"
)


class Extraction(NamedTuple):
    """A final answer without markup around it, or None, and where it stands, or why there is none.

    It is unsure where something reads like an answer, but may not be the final one.
    """

    answer: str | None
    reason: str
    is_unsure: bool = False


def extract_final_answer(
    text: str, finished: bool = True, kind: str = "text", options: Sequence[str] = ()
) -> Extraction:
    """Final answer of a completion that ended by itself, or was cut off; see the module."""
    rest = after_thinking(text)
    if rest is None:
        return Extraction(None, "the thinking never ends, so there is no final answer")
    if rest != text and not rest.strip():
        return Extraction(None, "no final answer: nothing follows the thinking")
    rest = _unwrapped(rest)
    turn = _NEXT_TURN.search(rest)
    extraction = _boxed_or_marked(rest[: turn.start()], True, kind) if turn else None
    extraction = extraction or _boxed_or_marked(rest, finished, kind)
    if extraction is None and finished:
        lone = _lone_option(rest) if kind == "choice" else None
        # Of a number, "I do not know." states none.
        single = (
            None
            if kind == "number" and not _may_answer(rest, kind, options)
            else _single_line(rest)
        )
        equation = _equation(rest) if kind in ("number", "math") else None
        extraction = single or lone or _conclusion(rest) or equation
    if extraction is not None:
        return extraction
    if finished and _may_answer(_last_line(rest), kind, options):
        return Extraction(None, "no final answer is marked, but the last line may give one", True)
    return Extraction(None, "no final answer" if finished else "cut off before a final answer")


def extract_marked_answer(text: str) -> str | None:
    """Final answer in a closed box or after a mark such as ``Answer:``; None: there is none."""
    rest = _unwrapped(after_thinking(text) or "")
    extraction = _boxed(rest, False, "text") or _marked(rest, True)
    return None if extraction is None else extraction.answer


def _unwrapped(text: str) -> str:
    """A text without a model's tags around its answer; what stands before these goes too."""
    text = _ANSWER_TAGS.sub("", text)
    wrapped = _WRAPPED.search(text)
    return text if wrapped is None else wrapped[2].strip()


_HOLDS = {
    "choice": re.compile(r"(?<![\w'\u2019])(?:[B-HJ-Z]|A(?!\s+[a-z]))(?![\w'\u2019])"),
    # A number in words, or in another script, may be one; a line without either states none.
    "number": re.compile(
        r"(?i)\d|\\[a-z]|[^\x00-\x7f]|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven"
        r"|twelve|\w+teen|\w+ty|hundred|thousand|\w+illion|half|third|quarter|pi|infinit\w+|none)\b"
    ),
    "math": re.compile(r"\d|\$\s*\w|\\(?!boxed)[a-z]"),
}
"""What a line must hold to be an answer of a kind."""


def _may_answer(line: str, kind: str, options: Sequence[str]) -> bool:
    words, pattern = normalize_words(line), _HOLDS.get(kind)
    return (pattern is not None and pattern.search(line) is not None) or any(
        holds_phrase(words, normalize_words(option)) for option in options
    )


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.split("\n")) if strip_markup(line)), "")


def _boxed_or_marked(text: str, finished: bool, kind: str) -> Extraction | None:
    return _boxed(text, finished, kind) or _marked(text, finished)


def boxed_contents(text: str) -> list[str]:
    r"""Contents of each closed ``\boxed{...}``, nested braces included, in order of the ends."""
    contents: list[str] = []
    opened: list[int | None] = []  # where a box's contents begin; None: another brace
    for match in re.finditer(r"(\\boxed\s*\{)|[{}]", text):
        if match[0] != "}":
            opened.append(match.end() if match[1] else None)
        elif opened and (start := opened.pop()) is not None:
            contents.append(text[start : match.start()].strip())
    return contents


def _boxed(text: str, finished: bool, kind: str) -> Extraction | None:
    contents = [content for content in boxed_contents(text) if strip_markup(content)]
    if contents:
        answer = contents[-1]
        begin = text.rindex(answer)
        before, after = text[:begin], text[begin + len(answer) + 1 :]
        if kind in ("number", "math") and (
            re.search(r"[-\u2212]\\boxed\s*\{\s*$", before) or _OPERATOR.match(after)
        ):
            return Extraction(answer, "the box is a part of an expression", True)
        if kind == "number":
            answer += _unit_beside(answer, after)
        is_one = len(set(contents)) == 1
        return Extraction(answer, "boxed" if is_one else "the last of several boxes")
    bare = _BARE_BOX.findall(text) if finished else []
    return Extraction(bare[-1], "in a box without braces") if bare else None


def _unit_beside(boxed: str, rest: str) -> str:
    r"""The unit or the power of ten that follows the box of a bare number: ``\boxed{20} cm``."""
    plain = normalize_quantity(boxed)
    last = read_quantities(plain)[-1:]
    if not last or not last[0].unit.is_none or last[0].end != len(plain):
        return ""
    beside = re.sub(r"^[\s$]+|[\s$]+$", "", re.split(r"\n|[.,;](?!\d)|\\[\])]", rest)[0])
    beside = beside.replace("$", " ")
    if re.match(r"A\s+[a-z]{2}", beside):
        return ""
    is_factor = re.match(r"(?:\\times|\\cdot|\u00d7|\u00b7)\s*10", beside)
    return f" {beside}" if is_factor or read_unit(normalize_quantity(beside))[0] else ""


def _marked(text: str, finished: bool) -> Extraction | None:
    """Text after the last mark that anything follows."""
    for mark in reversed(list(_MARKS.finditer(text))):
        rest = text[mark.end() :]
        line_start = text.rfind("\n", 0, mark.start()) + 1
        if _NO_MARK_AFTER.search(text[max(line_start, mark.start() - 80) : mark.start()]):
            continue
        lines = rest.split("\n")
        places = [i for i, line in enumerate(lines) if strip_markup(line)]
        is_named = mark[0].rstrip("* \t").endswith(":")  # "Answer: Valid for a year"
        if not places or (not is_named and _NO_ANSWER.match(lines[places[0]])):
            continue
        place = places[0]
        if lines[place].rstrip("* \t").endswith(":"):  # "The answer is approximately:\n5"
            place = (*places, place)[1]
        if not finished and place == len(lines) - 1:
            return Extraction(None, "cut off before a final answer: within it")
        answer = strip_markup(lines[place])
        if _TAKEN_BACK.search(rest):
            return Extraction(answer, "an answer that is taken back", True)
        return Extraction(answer, "after the last 'answer'")
    return None


def _lone_option(text: str) -> Extraction | None:
    """The first or the last line, if no line stands for another option."""
    lines = [line for line in text.split("\n") if strip_markup(line)]
    options = [_OPTION_LINE.match(line) for line in lines]
    if len({option[1] or option[2] for option in options if option}) != 1:
        return None
    for place in (-1, 0):
        if options[place] and len(lines[place]) <= MAX_OPTION:
            return Extraction(strip_markup(lines[place]), "a line of its own")
    return None


def _single_line(text: str) -> Extraction | None:
    line = strip_markup(text)
    if line is None or "\n" in line or "\\boxed" in line or len(line) > MAX_LINE:
        return None
    return None if len(split_sentences(line)) > 1 else Extraction(line, "the whole text")


def _conclusion(text: str) -> Extraction | None:
    last = [sentence for sentence in split_sentences(text) if sentence.strip()][-1:]
    opening = _CONCLUDES.match(last[0]) if last else None
    answer = strip_markup(last[0][opening.end() :]) if opening else None
    return None if answer is None else Extraction(answer, "in the last sentence")


def _equation(text: str) -> Extraction | None:
    """The last sentence, if it is nothing but an equation."""
    line = strip_markup(split_sentences(_last_line(text))[-1])
    match = _EQUATION.match(line) if line and len(line) <= MAX_LINE else None
    return Extraction(match[1], "in the last equation") if match else None


def split_sentences(text: str) -> list[str]:
    """Sentences and paragraphs of a text."""
    return _SENTENCE_END.split(text.strip())


_AROUND = string.whitespace + '\u00a0*_`"“”'
_OPENS = re.compile(r"\$\$|\$(?!\d[\d,.]*$)|\\\[|\\\(|[:\uff1a#]+|>+(?!\s*[\d.\\$-])")
_CLOSES = ("$", r"\]", r"\)")


def strip_markup(answer: str) -> str | None:
    """Answer without markup around it and without a full stop; None: nothing is left."""
    # By its ends, and not a shorter text at each step: 100,000 "$" take no longer than so many "a".
    begin, end, before = 0, len(answer), (-1, -1)
    while before != (begin, end):
        before = begin, end
        while begin < end and answer[begin] in _AROUND:
            begin += 1
        while begin < end and answer[end - 1] in _AROUND:
            end -= 1
        if opening := _OPENS.match(answer, begin, end):
            begin = opening.end()
        closing = next((one for one in _CLOSES if answer.endswith(one, begin, end)), "")
        end -= len(closing)
        is_joy = (
            answer.endswith("!", begin, end)
            and not answer[max(begin, end - 2) : end - 1].isdecimal()
        )
        if is_joy or answer.endswith((".", "\u3002"), begin, end):
            end -= 1
    return answer[begin:end] or None
