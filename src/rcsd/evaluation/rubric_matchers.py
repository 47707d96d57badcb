"""Which written criteria demand what gold's demand: by their checks, or by their words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from scipy import optimize

from rcsd.data.load import has_rubric_reader
from rcsd.data.words import text_similarity
from rcsd.errors import ConfigError
from rcsd.types import Criterion, Example, Rubric

Pairs = list[tuple[int, int]]
"""Matched criteria: index in gold and index in what was written; each index once at most."""


@runtime_checkable
class Matcher(Protocol):
    """Says which criteria of a written rubric demand what a gold criterion demands."""

    def matches(self, example: Example, gold: Rubric, written: Rubric) -> Pairs:
        """One-to-one pairs of indices, in order of the gold index."""
        ...


@dataclass(frozen=True)
class ExactMatcher:
    """Equal checks and the same sign of the points: exact where criteria carry checks.

    Written criteria get theirs from `rcsd.data.load.read_rubrics`, where a source can read them.
    Where two criteria share a check, those of the same title are paired first.
    """

    def matches(self, example: Example, gold: Rubric, written: Rubric) -> Pairs:
        """The pairs; a criterion without a check has no match."""

        def similarity(one: Criterion, other: Criterion) -> float:
            if one.check is None or one.check != other.check:
                return 0.0
            return 1.0 + 0.001 * (one.title == other.title)

        return _assigned(gold, written, similarity)


@dataclass(frozen=True)
class TextMatcher:
    """Similar words and the same sign of the points.

    Pairs maximise the summed `rcsd.data.words.text_similarity`; none lies below the threshold.

    Measured on RaR-Science (the development split; gold against 197 rubrics that an 8B model was
    trained to write): the similarity of the best one-to-one pairs tells a row's own rubric from
    another row's with an area under the curve of 0.91. At 0.55 it pairs 58% of them within a row
    and 0.8% across rows; at 0.50, 76% and 3.9%; at 0.60, 40% and 0.5%. Within a row 12% of the
    pairs left over reach 0.55 too: criteria of one question share its words. So it is a screen,
    blind to numbers and negations; exact is only the rubric world.

    Args:
        threshold: Least similarity of a match, in (0, 1].
    """

    threshold: float = 0.55

    def __post_init__(self) -> None:
        """Refuse a threshold that matches everything or nothing."""
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold {self.threshold:g}: expected a number in (0, 1]")

    def matches(self, example: Example, gold: Rubric, written: Rubric) -> Pairs:
        """The pairs."""

        def similarity(one: Criterion, other: Criterion) -> float:
            value = text_similarity(one.text, other.text)
            return value if value >= self.threshold else 0.0

        return _assigned(gold, written, similarity)


def _assigned(
    gold: Rubric, written: Rubric, similarity: Callable[[Criterion, Criterion], float]
) -> Pairs:
    """The one-to-one pairs of the greatest summed similarity; 0 and unlike signs never pair.

    Criteria are taken in an order of their own, so that the order in which they are written decides
    nothing, not even between equals.
    """
    rows, columns = _canonical(gold), _canonical(written)
    similarity_GW = np.zeros((len(rows), len(columns)))
    for row, g in enumerate(rows):
        for column, w in enumerate(columns):
            one, other = gold.criteria[g], written.criteria[w]
            if one.weight * other.weight > 0:
                similarity_GW[row, column] = similarity(one, other)
    chosen = zip(*optimize.linear_sum_assignment(similarity_GW, maximize=True), strict=True)
    return sorted((rows[r], columns[c]) for r, c in chosen if similarity_GW[r, c] > 0)


def _canonical(rubric: Rubric) -> list[int]:
    criteria = rubric.criteria
    return sorted(
        range(len(criteria)),
        key=lambda i: (-abs(criteria[i].weight), criteria[i].text, criteria[i].title),
    )


def build_matcher(
    gold: Sequence[Example], name: Literal["checks", "text"] | None, threshold: float | None
) -> Matcher:
    """Matcher of a name; None matches by checks where the source can read criteria, else by text.

    Raises:
        ConfigError: If a threshold is given that the matcher does not take.
    """
    if name is None:
        name = "checks" if gold and all(map(has_rubric_reader, gold)) else "text"
    if name == "text":
        return TextMatcher() if threshold is None else TextMatcher(threshold)
    if threshold is not None:
        raise ConfigError("--threshold is for matches by text; here criteria match by their checks")
    return ExactMatcher()
