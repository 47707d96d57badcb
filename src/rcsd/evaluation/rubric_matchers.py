"""Pairs of written and gold criteria with the same demand: by their checks, or their words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize

from rcsd.data.load import has_rubric_reader
from rcsd.data.words import text_similarity
from rcsd.errors import ConfigError
from rcsd.types import Criterion, Example, Rubric

Pairs = list[tuple[int, int]]
"""Matched criteria: index in gold and index in what was written; each index once at most."""
THRESHOLD = 0.55
"""Least similarity of a match by text."""


@dataclass(frozen=True)
class Matcher:
    """Pairs criteria of a written rubric with the gold criteria that demand the same.

    Pairs are one-to-one, agree in the sign of their points, and maximise the summed similarity.

    By checks: equal ones match, exact where criteria carry checks. Written criteria get theirs from
    `rcsd.data.load.read_rubrics`, where a source can read them; a criterion without a check has no
    match. Where two criteria share a check, those of the same title are paired first.

    By text: `rcsd.data.words.text_similarity`, none below the threshold. Measured on RaR-Science
    (the development split; gold against 197 rubrics that an 8B model was trained to write): the
    similarity of the best one-to-one pairs tells a row's own rubric from another row's with an area
    under the curve of 0.91. At 0.55 it pairs 58% of them within a row and 0.8% across rows; at
    0.50, 76% and 3.9%; at 0.60, 40% and 0.5%. Within a row 12% of the pairs left over reach 0.55
    too: criteria of one question share its words. So it is a screen, blind to numbers and
    negations; exact is only the rubric world.

    Args:
        threshold: Least similarity of a match by text, in (0, 1]; None: criteria match by checks.
    """

    threshold: float | None

    def matches(self, gold: Rubric, written: Rubric) -> Pairs:
        """Pairs of indices, in order of the gold index.

        Criteria are taken in an order of their own, so that the order in which they are written
        decides nothing, not even between equals.
        """
        rows, columns = _canonical(gold), _canonical(written)
        similarity_GW = np.array(
            [
                [self._similarity(gold.criteria[g], written.criteria[w]) for w in columns]
                for g in rows
            ]
        )
        chosen = zip(*optimize.linear_sum_assignment(similarity_GW, maximize=True), strict=True)
        return sorted((rows[r], columns[c]) for r, c in chosen if similarity_GW[r, c] > 0)

    def _similarity(self, one: Criterion, other: Criterion) -> float:
        if one.weight * other.weight <= 0:
            return 0.0
        if self.threshold is None:
            is_equal = one.check is not None and one.check == other.check
            return is_equal * (1.0 + 0.001 * (one.title == other.title))
        value = text_similarity(one.text, other.text)
        return value if value >= self.threshold else 0.0


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
        ConfigError: If the matcher takes no threshold, or another.
    """
    if name is None:
        name = "checks" if gold and all(map(has_rubric_reader, gold)) else "text"
    if name == "checks" and threshold is not None:
        raise ConfigError("--threshold is for matches by text; here criteria match by their checks")
    if name == "text" and threshold is None:
        threshold = THRESHOLD
    if threshold is not None and not 0 < threshold <= 1:
        raise ConfigError(f"threshold {threshold:g}: expected a number in (0, 1]")
    return Matcher(threshold)
