"""Rules for rubrics, found without a model: one function each, over one rubric and its file.

Thresholds were measured on the 250 development rows of RaR-Science: their gold rubrics (1,900
criteria) and 389 rubrics that two models wrote for them.
"""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz import utils

from rcsd.data.words import PHRASING, content_words, normal_form, runs, stems, text_similarity
from rcsd.types import Example, Rubric

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""Worst first."""

REPEAT_SIMILARITY = 0.8
"""Criteria of one rubric that are as alike say one thing. None of gold's 6,349 pairs is; of the
models' 9,302, some do that differ in a number or formula, and these are told apart."""

COMMON_CRITERION_SHARE = 0.05
"""A criterion in the rubrics of this share of the questions, or of 3, could be asked of any."""

COMMON_WORD_SHARE = 0.02
"""A word in the rubrics of this share of the questions, or of 3, belongs to none of them. At 2% the
rule finds 43 of gold's criteria, such as "Provides a clear and succinct explanation without
unnecessary verbosity."; at 5%, 16."""

MIN_ANSWER_CHARACTERS = 3
"""Shorter answers, such as "A", stand in texts by chance; a number of two digits seldom does."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on the number of criteria of a rubric.

    Args:
        min_criteria: Two are the fewest that can rank answers in more than two grades.
        max_criteria: RaR's gold rubrics have 7 to 20 criteria (arXiv 2507.17746); a longer list
            mostly repeats itself and crowds a teacher's prompt.
    """

    min_criteria: int = 2
    max_criteria: int = 20


@dataclass(frozen=True)
class Context:
    """Input of a rule beside the rubric: the limits, and words that the file's rubrics share.

    Args:
        limits: Bounds of the user.
        common_criteria: Number of questions by criterion (`normal_form`), where many share it.
        common_words: Stems of words that criteria of many questions share.
    """

    limits: Limits
    common_criteria: Mapping[str, int]
    common_words: frozenset[str]


Matches = Iterator[tuple[int | None, str]]
"""Index of the criterion, or None for the rubric, and the message."""


@dataclass(frozen=True)
class Rule:
    """A rule for rubrics.

    Args:
        severity: Severity of its findings.
        description: One line.
        find: Applied to each example with its rubric; None for rules about rows and the file.
    """

    severity: Severity
    description: str
    find: Callable[[Example, Rubric, Context], Matches] | None


# The rules


def _wordless(example: Example, rubric: Rubric, context: Context) -> Matches:
    for index, criterion in enumerate(rubric.criteria):
        if not content_words(criterion.text):
            yield index, f"{criterion.text!r} holds no word"


def _repeated(example: Example, rubric: Rubric, context: Context) -> Matches:
    for i, j, similarity in _alike(rubric):
        if rubric.criteria[i].weight * rubric.criteria[j].weight > 0:
            text = _short(rubric.criteria[j].text)
            yield j, f"repeats rubric[{i}] (similarity {similarity:.2f}): {text}"


def _mirrored(example: Example, rubric: Rubric, context: Context) -> Matches:
    for i, j, similarity in _alike(rubric):
        if rubric.criteria[i].weight * rubric.criteria[j].weight < 0:
            text = _short(rubric.criteria[j].text)
            yield j, f"reads as rubric[{i}] (similarity {similarity:.2f}), other sign: {text}"


def _alike(rubric: Rubric) -> Iterator[tuple[int, int, float]]:
    """Indices and similarity of criteria with like words and the same figures."""
    for (i, one), (j, other) in itertools.combinations(enumerate(rubric.criteria), 2):
        if content_words(one.text) and _figures(one.text) == _figures(other.text):
            similarity = text_similarity(one.text, other.text)
            if similarity >= REPEAT_SIMILARITY:
                yield i, j, similarity


def _figures(text: str) -> Counter[str]:
    """Numbers, formulas and names of substances: what tells criteria apart that else read alike."""
    return Counter(word for word in utils.default_process(text).split() if re.search(r"\d", word))


def _answer_given(example: Example, rubric: Rubric, context: Context) -> Matches:
    if example.reference_answer is None:
        return
    pattern = _answer_pattern(example.reference_answer, example.question)
    quotable = _runs(example.reference_answer) - _runs(example.question)
    for index, criterion in enumerate(rubric.criteria):
        if pattern is not None and pattern.search(_unwrapped(criterion.text)):
            yield index, f"holds the reference answer: {_short(criterion.text)}"
        elif quotable & _runs(criterion.text):
            yield index, f"quotes the reference answer: {_short(criterion.text)}"


def _answer_pattern(answer: str, question: str) -> re.Pattern[str] | None:
    """The whole answer, spacing and letter case aside; None if too short to mean anything."""
    tokens = re.findall(r"\w+|[^\w\s]", _unwrapped(answer).strip().rstrip("."))
    body = r"\s*".join(map(re.escape, tokens))
    pattern = re.compile(rf"(?<!\w)(?<!\d[.,]){body}(?!\w|[.,]\d)")
    if len(tokens) == 1 and re.fullmatch(r"\d\d", tokens[0]):
        return None if pattern.search(_unwrapped(question)) else pattern
    is_short = sum(map(len, tokens)) < MIN_ANSWER_CHARACTERS
    return None if is_short or all(token in PHRASING for token in tokens) else pattern


def _runs(text: str) -> set[tuple[str, ...]]:
    """Runs of words (`rcsd.data.words.runs`)."""
    return set(runs(re.findall(r"\w+", _unwrapped(text))))


_WRAPPERS = (
    (re.compile(r"\\(?:text|mathrm|mathbf|boxed)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\[,;:! ()\[\]]|\\left|\\right|\$|\*\*"), " "),
)


def _unwrapped(text: str) -> str:
    for pattern, replacement in _WRAPPERS:
        text = pattern.sub(replacement, text)
    return text.casefold()


def _general(example: Example, rubric: Rubric, context: Context) -> Matches:
    texts = (example.question, example.reference_answer, example.solution)
    question_stems = stems(" ".join(text for text in texts if text is not None))
    for index, criterion in enumerate(rubric.criteria):
        num_questions = context.common_criteria.get(normal_form(criterion.text))
        words = stems(criterion.text)
        if num_questions is not None:
            yield index, f"asked of {num_questions} questions: {_short(criterion.text)}"
        elif words and not words & question_stems and words <= context.common_words:
            yield index, f"says nothing of this question: {_short(criterion.text)}"


def _all_general(example: Example, rubric: Rubric, context: Context) -> Matches:
    general = {index for index, _ in _general(example, rubric, context)}
    if all(i in general for i, criterion in enumerate(rubric.criteria) if criterion.weight > 0):
        yield None, "every criterion with positive points could be asked of any question"


_HEAD = r"(?i)^\W*(?:the )?(?:(?:answer|response|solution|explanation|student)s? )?(?:that )?"
_AVOIDS = re.compile(
    _HEAD + r"(?:(?:must|should|may|can) ?not\b|(?:should |must )?(?:avoid|refrain)(?:s|ing)?\b"
    r"|(?:does|do) not (?:\w+ly )?(?:omit|confus|ignor|neglect|mis|assum|contradict|conflat)\w*)"
)
_FAILS = re.compile(
    _HEAD + r"(?:(?:wrongly|incorrectly|falsely|erroneously|mistakenly)\b"
    r"|(?:fail|omit|neglect|ignor|overlook|confus|conflat|mistak|misstat|misinterpret|misappl)\w*\b"
    r"|(?:does|do) not (?:mention|state|address|explain|discuss|provide|clarify|specify)\b)"
)


def _unclear_polarity(example: Example, rubric: Rubric, context: Context) -> Matches:
    for index, criterion in enumerate(rubric.criteria):
        if criterion.weight < 0 and _AVOIDS.search(criterion.text):
            yield index, f"costs points, but is worded as a merit: {_short(criterion.text)}"
        if criterion.weight > 0 and _FAILS.search(criterion.text):
            yield index, f"earns points, but is worded as a mistake: {_short(criterion.text)}"


def _all_positive(example: Example, rubric: Rubric, context: Context) -> Matches:
    if all(criterion.weight > 0 for criterion in rubric.criteria):
        yield None, "no criterion costs points: mistakes go unpunished"


def _equal_weights(example: Example, rubric: Rubric, context: Context) -> Matches:
    sizes = {abs(criterion.weight) for criterion in rubric.criteria}
    if len(rubric.criteria) > 1 and len(sizes) == 1:
        yield None, f"all {len(rubric.criteria)} criteria have {sizes.pop():g} points"


def _too_few(example: Example, rubric: Rubric, context: Context) -> Matches:
    size, least = len(rubric.criteria), context.limits.min_criteria
    if size < least:
        yield None, f"criteria: {size}; expected at least {least}"


def _too_many(example: Example, rubric: Rubric, context: Context) -> Matches:
    size, most = len(rubric.criteria), context.limits.max_criteria
    if size > most:
        yield None, f"criteria: {size}; expected at most {most}"


RULES: Mapping[str, Rule] = {
    "no rubric": Rule("error", "no row of the file has a rubric", None),
    "malformed row": Rule("error", "the row cannot be read", None),
    "wordless": Rule("error", "a criterion without a word", _wordless),
    "repeated": Rule("warning", "criteria of one rubric that repeat each other", _repeated),
    "polarity": Rule("warning", "points and wording pull apart", _unclear_polarity),
    "all general": Rule("warning", "nothing in it is about the question", _all_general),
    "too few": Rule("warning", "fewer criteria than --min-criteria", _too_few),
    "too many": Rule("warning", "more criteria than --max-criteria", _too_many),
    "answer given": Rule("info", "a criterion holds or quotes the reference answer", _answer_given),
    "general": Rule("info", "a criterion that could be asked of any question", _general),
    "mirrored": Rule("info", "one thing earns points, and its opposite costs some", _mirrored),
    "all positive": Rule("info", "no criterion costs points", _all_positive),
    "equal points": Rule("info", "every criterion has the same points", _equal_weights),
}
"""Every rule by name."""


def build_context(pairs: Sequence[tuple[Example, Rubric]], limits: Limits) -> Context:
    """Criteria and words that the rubrics of many questions share."""
    questions = {example.question for example, _ in pairs}
    askers: defaultdict[str, set[str]] = defaultdict(set)
    users: defaultdict[str, set[str]] = defaultdict(set)
    for example, rubric in pairs:
        for criterion in rubric.criteria:
            askers[normal_form(criterion.text)].add(example.question)
            for stem in stems(criterion.text):
                users[stem].add(example.question)
    many_criteria = max(3, COMMON_CRITERION_SHARE * len(questions))
    many_words = max(3, COMMON_WORD_SHARE * len(questions))
    return Context(
        limits,
        {text: len(asking) for text, asking in askers.items() if len(asking) >= many_criteria},
        frozenset(stem for stem, used in users.items() if len(used) >= many_words),
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:79] + "\u2026"
