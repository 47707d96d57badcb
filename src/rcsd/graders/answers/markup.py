"""Boxes, sentences, mathematics in a sentence, and what stands around an answer."""

import itertools
import re
import string

_SENTENCE_END = re.compile(  # not after the letter of "B. London"
    r"(?<=[.!?])(?<![\s*(][A-Z]\.)(?<!^[A-Z]\.)[*_\"')]*\s+(?=[^\W\d_a-z]|\\|\*)|\n\s*\n"
)


def boxed_contents(text: str) -> list[str]:
    r"""Contents of each closed ``\boxed{...}``, nested braces included, in order of the ends."""
    return [text[begin:end].strip() for begin, end in box_spans(text)[0]]


def box_spans(text: str) -> tuple[list[tuple[int, int]], int | None]:
    """Places of the contents of closed boxes, and the start of those of an open last one."""
    spans: list[tuple[int, int]] = []
    opened: list[int | None] = []  # where a box's contents begin; None: another brace
    for match in re.finditer(r"(\\boxed\s*\{)|[{}]", text):
        if match[0] != "}":
            opened.append(match.end() if match[1] else None)
        elif opened and (start := opened.pop()) is not None:
            spans.append((start, match.start()))
    return spans, next((start for start in opened if start is not None), None)


def split_sentences(text: str) -> list[str]:
    """Sentences and paragraphs of a text."""
    return _SENTENCE_END.split(text.strip())


_AROUND = string.whitespace + '\u00a0*_`"“”'
_OPENS = re.compile(r"[:\uff1a#]+|>+(?!\s*[\d.\\$-])")
_PAIRS = (("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)"))


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
        begin, end = _strip_delimiters(answer, begin, end)
        is_joy = (
            answer.endswith("!", begin, end)
            and not answer[max(begin, end - 2) : end - 1].isdecimal()
        )
        if is_joy or answer.endswith((".", "\u3002"), begin, end):
            end -= 1
    inside = answer[begin:end]
    if inside.count("**") == 1 and not re.search(r"\d\*\*-?[\d(]", inside):
        return strip_markup(inside.replace("**", ""))  # "approx. **5 m"
    return inside or None


def _strip_delimiters(answer: str, begin: int, end: int) -> tuple[int, int]:
    """Ends without delimiters of mathematics that hold all between them, or have no partner."""
    for opening, closing in _PAIRS:
        starts = answer.startswith(opening, begin, end)
        ends = answer.endswith(closing, begin + len(opening) * starts, end)
        if not (starts or ends):
            continue
        inner = begin + len(opening) * starts, end - len(closing) * ends
        is_alone = answer.find(opening, *inner) < 0 and answer.find(closing, *inner) < 0
        is_money = opening == "$" and not ends and answer[begin + 1 : begin + 2].isdecimal()
        if is_alone and not is_money:
            return inner
    return begin, end


_SPAN = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_JOINS = re.compile(r"\s*(?:,|;|,?\s*(?:and|or)|=)\s*(?:[a-zA-Z](?:_\w+)?\s*=\s*)?")
_LEADS = re.compile(
    r"(?i)(?:^|\b(?:is|are|be|gets?|have|has|find|obtain|gives?|that|equals?|as)|[:=])\s*$"
)
_ENDS = re.compile(
    r"(?<=[\w)}\]!])(?:[.;]\s+(?=[A-Z])|,?\s+(?:since|because|where|as|for|when|which)\b)"
)
_LEADING = re.compile(r"^(?:[A-Za-z][a-z']+,?\s+)+?(?:is|are|be|get|have|find|that|equals?)\s+")
_UNIT_BEHIND = re.compile(r"\s*(?:\\?%|[a-zA-Z\u00b0]{1,3}(?:\^?\d)?(?=\s*(?:[.,;]|$)))")


def find_expression(answer: str) -> str:
    """The mathematics of a sentence that states an answer: "The sum is $R$, since ..."."""
    spans = list(_SPAN.finditer(answer))
    if not spans:
        plain = _ENDS.split(answer, maxsplit=1)[0]
        shorter = _LEADING.sub("", plain)
        return shorter if re.search(r"\d|\\", shorter) else plain
    groups = [[spans[0]]]
    for before, span in itertools.pairwise(spans):
        if _JOINS.fullmatch(answer, before.end(), span.start()):
            groups[-1].append(span)
        else:
            groups.append([span])
    led = [group for group in groups if _LEADS.search(answer[: group[0].start()])]
    if led and not answer[: led[0][0].start()].strip():
        group = led[0]
    elif led or len(groups) == 1:
        group = (led or groups)[-1]
    else:
        return answer
    unit = _UNIT_BEHIND.match(answer, group[-1].end())
    return answer[group[0].start() : unit.end() if unit else group[-1].end()]
