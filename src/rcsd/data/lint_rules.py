"""Rules for rubrics, found without a model: one function each, over one rubric.

Thresholds were measured on the 250 development rows of RaR-Science: their gold rubrics (1,900
criteria) and 389 rubrics that two models wrote for them.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from rapidfuzz import utils

from rcsd.data.fields import shortened
from rcsd.data.polarity import read_polarity
from rcsd.data.words import content_words, text_similarity
from rcsd.types import Rubric

Severity = Literal["error", "warning"]

REPEAT_SIMILARITY = 0.8
"""Criteria of one rubric that are as alike say one thing. None of gold's 6,349 pairs is; of the
models' 9,302, some do that differ in a number or formula, and these are told apart."""

MIN_CRITERIA, MAX_CRITERIA = 2, 20
"""Two are the fewest that can rank answers in more than two grades. RaR's gold rubrics have 7 to 20
(arXiv 2507.17746); a longer list mostly repeats itself and crowds a teacher's prompt."""

Matches = Iterator[tuple[int | None, str]]
"""Index of the criterion, or None for the rubric, and the message."""

Rule = Callable[[Rubric], Matches]
"""Finds its defect in a rubric."""


def _wordless(rubric: Rubric) -> Matches:
    for index, criterion in enumerate(rubric.criteria):
        if not content_words(criterion.text):
            yield index, f"{criterion.text!r} holds no word"


def _repeated(rubric: Rubric) -> Matches:
    # Only criteria of one sign and the same figures can repeat each other.
    kinds = [(criterion.weight > 0, _figures(criterion.text)) for criterion in rubric.criteria]
    for (i, one), (j, other) in itertools.combinations(enumerate(rubric.criteria), 2):
        if kinds[i] == kinds[j] and content_words(one.text):
            similarity = text_similarity(one.text, other.text, REPEAT_SIMILARITY)
            if similarity >= REPEAT_SIMILARITY:
                yield (
                    j,
                    f"repeats rubric[{i}] (similarity {similarity:.2f}): {shortened(other.text)}",
                )


def _figures(text: str) -> list[str]:
    """Numbers, formulas and names of substances: what tells criteria apart that else read alike."""
    words = utils.default_process(text).split()
    return sorted(word for word in words if any(map(str.isdecimal, word)))


def _contradicted(rubric: Rubric) -> Matches:
    """Signs that contradict the words, and absences that may be a fault or a merit."""
    for index, criterion in enumerate(rubric.criteria):
        reading = read_polarity(criterion.text)
        if reading is None or reading.sign * criterion.weight > 0:
            continue
        effect = "earns" if criterion.weight > 0 else "costs"
        words = f"is worded as a {'merit' if reading.sign > 0 else 'mistake'} ({reading.rule})"
        if reading.sign == 0:
            words = "names an absence that may be a fault or a merit; say what an answer does"
        yield index, f"{effect} points, but {words}: {shortened(criterion.text)}"


def _size(rubric: Rubric) -> Matches:
    if not MIN_CRITERIA <= (size := len(rubric.criteria)) <= MAX_CRITERIA:
        yield None, f"criteria: {size}; expected {MIN_CRITERIA} to {MAX_CRITERIA}"


RULES: Mapping[str, tuple[Severity, Rule]] = {
    "wordless": ("error", _wordless),
    "repeated": ("warning", _repeated),
    "polarity": ("warning", _contradicted),
    "size": ("warning", _size),
}
"""Severity and function of every rule by name."""
