r"""Extraction of the final answer of a text.

The first of these that there is counts, in what follows the last closed tag of thinking, or stands
in the last ``<answer>``:

1. the last ``\boxed{...}``; boxes side by side are one answer of mathematics, else unsure;
2. the ``answer`` of a JSON object at the end;
3. the last of what follows ``Answer:``, a heading ``Answer``, ``the answer is`` or ``####``, here
   or in eight other languages, where that gives an answer: "if your answer is 6" and "the answer
   is independent of x" give none;
4. the whole text, where it is one short line;
5. of a choice, the only option that a line stands for, if that is the first or the last line;
6. a last sentence that begins with therefore, thus, hence, so, or in conclusion, that says what is
   correct, or, of a number, that states one and no other.

What stands before the last sentence that takes it back ("Wait, ...") counts no more; if nothing
after it gives an answer, the earlier one is unsure. A box that is empty or cut off is no answer,
and a box within an expression (``-\boxed{5}``) is unsure. What follows a question that the model
asks itself after its answer is passed over. A unit or a power of ten right after the box of a
number belongs to it. A text that was cut off has none but what stands in it whole: one that touches
its end may go on.
"""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from rcsd.data.thinking import after_thinking
from rcsd.graders.answers.choices import BEYOND, choose
from rcsd.graders.answers.markup import box_spans, split_sentences, strip_markup
from rcsd.graders.answers.normalize import holds_phrase, normalize_quantity, normalize_words
from rcsd.graders.answers.numerals import read_quantities
from rcsd.graders.answers.units import read_unit

MAX_LINE, MAX_OPTION = 200, 1_000
"""Characters of a text that is an answer as a whole, and of a line that is an option."""

_BARE_BOX = re.compile(r"\\boxed\s+(-?[\d.]+|[A-Z](?![\w'])|\\[a-z]+\{[^\s$]+)")
_OPERATOR = re.compile(r"\s*(?:\^(?!\s*\{?\s*\\circ)|[+/]\s*[\w\\])")
_BETWEEN_BOXES = re.compile(  # ", ", " or ", "$, $x_2 = "
    r"(?:[\s$,;&~]|\\[()\[\]]|\\q?quad)*"
    r"(?P<word>(?:\\text\s*\{\s*)?(?:and|or|und|oder|y|o|et|ou|和|或)\b(?:\s*\})?)?"
    r"(?:[\s$,;&~]|\\[()\[\]])*(?:[a-zA-Z](?:_\{?\w+\}?)?\s*=\s*)?\\boxed\s*\{"
)
_IN_THE_BOX = re.compile(r"(?i)\b(?:in|inside|within|into|using|use|the|a|with|put)\s*[`$'\"]*$")
_GOOD = r"(?:final|correct|right|best|numerical|most appropriate)"
_MARKS = re.compile(
    r"(?im)"
    r"^[ \t]*####[ \t]*(?=\S)(?!(?:the )?(?:final )?answer)"
    r"|^[ \t>*_#-]*(?:my |the |so, |thus, )?(?:(?:final|correct|short) )?"
    r"(?:answer|antwort|respuesta|resposta|risposta|réponse|\u043e\u0442\u0432\u0435\u0442|答案|答え|回答"
    r"|정답|답)[ \t*_]*(?:[:\uff1a]|[=-](?=[ \t]))[ \t*_]*"
    r"|^[ \t>*_#]*(?:the )?(?:(?:final|correct) )?answer[ \t*_]*$"
    r"|^[ \t>*_#]*conclusion[ \t*_]*:[ \t*_]*(?=\(?[A-Z]\)?(?:[.,]|$))"
    rf"|\b(?:answer|{_GOOD}(?: and {_GOOD})* (?:answer|option|choice|statement|result|value|one))"
    r"(?: (?:to|for|of)\b[^\n.:;]{1,80}?| here| choice| option)?"
    r"(?: (?:is|are|was|equals|(?:would|will|should|must|has to) be|=)(?!\w)[ \t]*[:\uff1a]?"
    r"|[ \t]*[:\uff1a=])[ \t*_]*"
    r"|\b(?:respuesta|opción|alternativa|resposta|opção|risposta|opzione)"
    r"(?: (?:correcta|correta|corretta|giusta|final))* (?:es|é|è)(?: la| a)?(?!\w)[ \t:*_]*"
    r"|\bréponse(?: (?:correcte|finale))* est(?: la)?(?!\w)[ \t:*_]*"
    r"|\b(?:antwort|lösung)(?: ist| lautet)(?: also| daher)?(?!\w)[ \t:*_]*"
    r"|(?:答案|正确选项)(?:应该|应)?(?:是|为|選|选)[ \t]*[:\uff1a]?[ \t*_]*"
    r"|(?:答え|正解|答案)は[ \t*_]*|(?:정답|답)은[ \t*_]*"
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
_TAKEN_BACK = re.compile(  # at the start of a sentence, not "This is actually the speed"
    r"(?i)(?:^|(?<=[.!?\n)}*$]))\s{0,3}(?:(?:but|oh|ah|no|however),? )?"
    r"(?:wait|hmm+|hold on|actually(?=,|\s+(?:no|it|i|the answer|that)\b)|oops|on second thought"
    r"|correction|i (?:have )?made an? (?:mistake|error)|i was wrong|scratch that"
    r"|let me (?:reconsider|redo|recompute|recalculate|correct)|(?:i )?reconsider"
    r"|th(?:at|is) (?:is|was) (?:wrong|incorrect|not right|a mistake)|that (?:misses|forgets))\b"
)
_CHECKS = re.compile(r"(?i)\blet(?: me|'s) (?:double-?check|check|verify|see|think|re\w+)\b")
_CORRECTED = re.compile(r"(?i)\b(?:so|hence|thus|therefore)\b,? (?:it|the answer|this) is\b[:\s]*")
_NEXT_TURN = re.compile(r"(?m)^[ \t*#]*(?:Question|Q|Problem|User|Human)[ \t*]*\d*[ \t]*:")
_OPTION_LINE = re.compile(
    r"^[\s*_#>]*(?:(?i:option|choice)\s+)?(?:\(([A-Z])\)|([A-Z])(?:[).:](?=[\s*]|$)|(?=[\s*]*$)))"
)
_EQUATION = re.compile(
    r"(?i)^\W*(?:(?:so |then |thus )?(?:we (?:get|find|obtain|have)|this gives|giving)\b[:,]?\s*)?"
    r"((?![^=≈\\]*\s[a-z]{2,}\s)[^=≈]{1,60}(?:=|≈|\\approx)"
    r"(?!.*\b(?:where|with|use)\b).{1,80})$"
)
_STATES = re.compile(  # "The total is 72 clips"
    r"(?i)^\W*(?:so |this means )?(?:the|her|his|their|its|it|this|that|she|he|they|we|there)\b"
    r".{0,80}?\b(?:is|are|was|were|equals|equal to|has|have|gets?|gives?|makes?|costs?|weighs?"
    r"|earns?|needs?)\s+(?:about |approximately |exactly |only |roughly |a total of )?[$\\(]*\d"
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
    rest, finished = _answer_tag(rest, finished)
    turn = _NEXT_TURN.search(rest)
    extraction = _stated(rest[: turn.start()], True, kind, options) if turn else None
    extraction = extraction or _stated(rest, finished, kind, options)
    if extraction is None and finished:
        extraction = _unmarked(rest, kind, options)
    if extraction is not None:
        return extraction
    is_whole = finished and not _is_cut_while_checking(rest)
    if is_whole and _may_answer(_last_line(rest), kind, options):
        return Extraction(None, "no final answer is marked, but the last line may give one", True)
    return Extraction(None, "no final answer" if finished else "cut off before a final answer")


def extract_marked_answer(text: str) -> str | None:
    """Final answer in a closed box, in tags, or after a mark such as ``Answer:``; None: none."""
    text = after_thinking(text) or ""
    rest, _ = _answer_tag(text, True)
    if extraction := _boxed(rest, False, "text") or _marked(rest, True, "text"):
        return extraction.answer
    return None if rest == text else strip_markup(rest)


_TAG = re.compile(  # as DeepSeek, Hunyuan, Granite and GLM write them
    r"(?is)(?:<(?P<name>answer|final_answer|response|solution)>|<\|begin_of_(?:box|solution)\|>)"
    r"(?P<inside>(?:(?!<answer>|<\|begin_of).)*?)"
    r"(?:</(?P=name)>|<\|end_of_(?:box|solution)\|>|(?P<open>\Z))"
)


def _answer_tag(text: str, finished: bool) -> tuple[str, bool]:
    """The contents of the last pair of tags for an answer, and whether they are whole; or all."""
    text = re.sub(r"<\|(?:return|end)\|>\s*\Z", "", text)
    tag = next((tag for tag in reversed(list(_TAG.finditer(text))) if tag["inside"].strip()), None)
    if tag is None:
        return text, finished
    return tag["inside"].strip(), finished or tag["open"] is None


def _stated(text: str, finished: bool, kind: str, options: Sequence[str]) -> Extraction | None:
    """The answer that a box or a mark states, in what follows the last that is taken back."""
    back = [match.start() for match in _TAKEN_BACK.finditer(text)]
    if not back or not text[: back[-1]].strip():
        return _boxed_or_marked(text, finished, kind, options)
    before, after = text[: back[-1]], text[back[-1] :]
    if later := _boxed_or_marked(after, finished, kind, options):
        return later
    earlier = _boxed_or_marked(before, True, kind, options)
    if earlier is None:
        return None
    if finished and (corrected := _CORRECTED.search(after)):
        answer = strip_markup(split_sentences(after[corrected.end() :])[0])
        if answer is not None:
            return Extraction(answer, "in a correction")
    return earlier._replace(reason="an answer that is taken back", is_unsure=True)


def _boxed_or_marked(
    text: str, finished: bool, kind: str, options: Sequence[str]
) -> Extraction | None:
    boxed, marked = _boxed(text, finished, kind), _marked(text, finished, kind)
    if boxed is None:
        return _json_answer(text) or marked
    if kind == "choice" and boxed.answer and marked and marked.answer and not marked.is_unsure:
        # A formula in a box beside "The answer is (F)".
        return marked if choose(boxed.answer, options)[0] in (None, BEYOND) else boxed
    return boxed


def _unmarked(text: str, kind: str, options: Sequence[str]) -> Extraction | None:
    """The answer of a finished text that marks none."""
    if kind == "choice" and _single_line(text) is None:
        listed = _option_list(text.split("\n"))
        if line := _lone_option(text) if listed is None or listed.is_unsure else listed:
            return line
    # Of a number, "I do not know." states none.
    may_answer = kind != "number" or _may_answer(text, kind, options)
    single = _single_line(text) if may_answer else None
    if extraction := single or _conclusion(text):
        return extraction
    equation = _equation(text) if kind in ("number", "math") else None
    return equation or (_statement(text) if kind == "number" else None)


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


# Boxes


def _boxed(text: str, finished: bool, kind: str) -> Extraction | None:
    spans, cut = box_spans(text)
    spans = [(begin, end) for begin, end in spans if not _is_mention(text, begin, end)]
    if cut is not None and (spans or finished):
        content = strip_markup(text[cut:])
        if content is None or not finished:
            return Extraction(None, "cut off within the final box")
        return Extraction(content, "in a box that is not closed", True)
    if not spans:
        bare = _BARE_BOX.findall(text) if finished else []
        return Extraction(bare[-1], "in a box without braces") if bare else None
    begin, end = spans[-1]
    answer, before, after = text[begin:end].strip(), text[:begin], text[end + 1 :]
    if strip_markup(answer) is None:
        return Extraction(None, "the final box is empty")
    if several := _side_by_side(text, spans):
        return Extraction(several, "several boxes side by side", kind != "math")
    if kind in ("number", "math") and (
        re.search(r"[-\u2212]\\boxed\s*\{\s*$", before) or _OPERATOR.match(after)
    ):
        return Extraction(answer, "the box is a part of an expression", True)
    if kind == "number":
        answer += _unit_beside(answer, after)
    is_one = len({text[begin:end].strip() for begin, end in spans}) == 1
    return Extraction(answer, "boxed" if is_one else "the last of several boxes")


def _is_mention(text: str, begin: int, end: int) -> bool:
    r"""True for an empty box that is spoken of: "in \boxed{}"."""
    start = text.rindex("\\boxed", 0, begin)
    return strip_markup(text[begin:end]) is None and bool(_IN_THE_BOX.search(text[:start]))


def _side_by_side(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Contents of the last boxes that only commas and connectives part; empty: there is one."""
    place, word = len(spans) - 1, ""
    while place and (
        between := _BETWEEN_BOXES.fullmatch(text, spans[place - 1][1] + 1, spans[place][0])
    ):
        word = between["word"] or word
        place -= 1
    contents = dict.fromkeys(text[begin:end].strip() for begin, end in spans[place:])
    joint = r" \text{ or } " if re.search(r"or|oder|\bou?\b|或", word) else ", "
    return joint.join(contents) if len(contents) > 1 else ""


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


# Marks


_KEYS = {"answer", "final_answer", "final answer", "correct_answer", "choice", "option", "result"}


def _json_answer(text: str) -> Extraction | None:
    """The answer of a JSON object at the end of a text."""
    text = text.rstrip("` \t\n")
    begins = [match.end() - 1 for match in re.finditer(r"^[ \t]*\{", text, re.MULTILINE)]
    row = None
    for begin in begins[-20:] if text.endswith("}") else ():
        try:
            row = json.loads(text[begin:])
        except (ValueError, RecursionError):
            continue
    if not isinstance(row, dict):
        return None
    answers = [value for key, value in row.items() if key.lower() in _KEYS]
    if len(answers) != 1 or not isinstance(answers[0], str | int | float):
        return None
    return Extraction(str(answers[0]), "in JSON")


def _marked(text: str, finished: bool, kind: str) -> Extraction | None:
    """Text after the last mark that anything follows."""
    last: tuple[int, Extraction] | None = None
    for mark in reversed(list(_MARKS.finditer(text))):
        extraction = _after_mark(text, mark, finished, kind)
        line = text.count("\n", 0, mark.start())
        if extraction is not None and last is not None:
            if last[0] == line + 1 and extraction.answer != last[1].answer:
                reason = "several answers, one below the other"
                return last[1]._replace(reason=reason, is_unsure=True)
            break
        last = last or (extraction and (line, extraction))
    if last is not None and _is_cut_while_checking(text):
        return Extraction(None, "cut off while the answer is checked")
    return last[1] if last else None


def _after_mark(text: str, mark: re.Match[str], finished: bool, kind: str) -> Extraction | None:
    line_start = text.rfind("\n", 0, mark.start()) + 1
    if _NO_MARK_AFTER.search(text[max(line_start, mark.start() - 80) : mark.start()]):
        return None
    lines = text[mark.end() :].split("\n")
    places = [i for i, line in enumerate(lines) if strip_markup(line)]
    is_named = mark[0].rstrip("* \t").endswith(":")  # "Answer: Valid for a year"
    if not places or (not is_named and _NO_ANSWER.match(lines[places[0]])):
        return None
    place = places[0]
    if lines[place].rstrip("* \t").endswith(":"):  # "The answer is approximately:\n5"
        place = (*places, place)[1]
    if not finished and place == len(lines) - 1:
        return Extraction(None, "cut off before a final answer: within it")
    if kind == "choice" and (listed := _option_list(lines[place:])):
        return listed
    return Extraction(strip_markup(lines[place]), "after the last 'answer'")


def _is_cut_while_checking(text: str) -> bool:
    """True if a text says that it checks its answer, and ends within a sentence."""
    paragraph = text.rstrip().rsplit("\n\n", 1)[-1]
    return _CHECKS.search(paragraph) is not None and re.search(r"\w\s+\w+$", paragraph) is not None


_IS_TRUE = re.compile(
    r"(?i)[\s:).*-]*(?:true|correct|right|yes|\u2713|\u2714|\u2705)(?:\W*|\s*[-:,(].*)"
)
_IS_FALSE = re.compile(
    r"(?i)[\s:).*-]*(?:false|incorrect|wrong|no|not (?:true|correct)|\u2717|\u2718|\u274c)"
    r"(?:\W*|\s*[-:,(].*)"
)


def _option_list(lines: Sequence[str]) -> Extraction | None:
    """A list of options below a mark: the one that it calls true, or an echo of all."""
    options: list[tuple[str, str]] = []
    for line in filter(str.strip, lines):
        match = _OPTION_LINE.match(line)
        if match is None:
            break
        options.append((match[1] or match[2], line[match.end() :]))
    names = [name for name, _ in options]
    if len(names) < 2 or names != sorted(set(names)):
        return None
    true = [name for name, rest in options if _IS_TRUE.fullmatch(rest)]
    if all(_IS_TRUE.fullmatch(rest) or _IS_FALSE.fullmatch(rest) for _, rest in options):
        return Extraction(", ".join(true), "the one that is true", len(true) != 1)
    if len(names) > 2 and names[0] == "A":
        return Extraction(", ".join(names), "a list of the options", True)
    return None


# Texts without a mark


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
    last = _last_sentence(text)
    opening = _CONCLUDES.match(last)
    answer = strip_markup(last[opening.end() :]) if opening else None
    return None if answer is None else Extraction(answer, "in the last sentence")


def _equation(text: str) -> Extraction | None:
    """The last sentence, if it is nothing but an equation."""
    line = strip_markup(split_sentences(_last_line(text))[-1])
    match = _EQUATION.match(line) if line and len(line) <= MAX_LINE else None
    return Extraction(match[1], "in the last equation") if match else None


def _statement(text: str) -> Extraction | None:
    """The last sentence, if it says what something is, and holds one number."""
    line = strip_markup(_last_sentence(text))
    if line is None or len(line) > MAX_LINE or not _STATES.match(line):
        return None
    is_one = len(read_quantities(normalize_quantity(line))) == 1
    return Extraction(line, "in the last sentence") if is_one else None


def _last_sentence(text: str) -> str:
    return next((part for part in reversed(split_sentences(text)) if part.strip()), "")
