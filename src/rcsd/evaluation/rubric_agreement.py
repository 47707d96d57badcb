"""Agreement of written rubrics with gold: their criteria, and the order they give to answers."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize

from rcsd.data.load import has_rubric_reader
from rcsd.data.words import text_similarity
from rcsd.errors import DataError
from rcsd.evaluation.statistics import Interval, bootstrap_interval
from rcsd.graders.base import require_rubric
from rcsd.graders.code import CodeJudge
from rcsd.types import Criterion, Example, Rubric

THRESHOLD = 0.55
"""Least similarity of a match by text."""


def criterion_pairs(gold: Rubric, written: Rubric, by_checks: bool) -> list[tuple[int, int]]:
    """Pairs of a gold and a written criterion that demand the same: their indices, gold's first.

    Pairs are one-to-one, agree in the sign of their points, and maximise the summed similarity.

    By checks: equal ones match, exact where criteria carry checks. Written criteria get theirs from
    `rcsd.data.load.read_rubrics`, where a source can read them; a criterion without a check has no
    match. Where two criteria share a check, those of the same title are paired first.

    By text: `rcsd.data.words.text_similarity`, none below the threshold. On RaR-Science (gold
    against 197 rubrics that an 8B model wrote) 0.55 pairs 58% of the best one-to-one pairs within a
    row and 0.8% across rows; 0.50, 76% and 3.9%; 0.60, 40% and 0.5%. Within a row 12% of the pairs
    left over reach 0.55 too. So it is a screen, blind to numbers and negations.
    """

    def canonical(rubric: Rubric) -> list[int]:
        """An order in which the order of writing decides nothing, not even between equals."""
        keys = [(-abs(c.weight), c.text, c.title) for c in rubric.criteria]
        return sorted(range(len(keys)), key=keys.__getitem__)

    rows, columns = canonical(gold), canonical(written)
    similarities = [
        _similarity(gold.criteria[g], written.criteria[w], by_checks) for g in rows for w in columns
    ]
    similarity_GW = np.reshape(similarities, (len(rows), len(columns)))
    chosen = zip(*optimize.linear_sum_assignment(similarity_GW, maximize=True), strict=True)
    return sorted((rows[r], columns[c]) for r, c in chosen if similarity_GW[r, c] > 0)


def _similarity(one: Criterion, other: Criterion, by_checks: bool) -> float:
    if one.weight * other.weight <= 0:
        return 0.0
    if by_checks:
        is_equal = one.check is not None and one.check == other.check
        return is_equal * (1.0 + 0.001 * (one.title == other.title))
    value = text_similarity(one.text, other.text)
    return value if value >= THRESHOLD else 0.0


@dataclass(frozen=True, slots=True)
class RowAgreement:
    """One row of gold.

    Precision is the share of the written points that a gold criterion matches, recall the share of
    gold's points that are matched, F1 their harmonic mean; all 0 without a written rubric.
    ``verdict_agreement`` is `order_agreement`; None: nothing to order. Of ``num_written`` criteria
    ``num_pairs`` match, and ``num_unscored`` have no check and order nothing.
    """

    id: str
    precision: float
    recall: float
    f1: float
    num_pairs: int
    verdict_agreement: float | None
    num_written: int
    num_unscored: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Written rubrics against gold: means over the rows, as `RowAgreement`, with 95% intervals.

    ``verdict_agreement`` is over the rows whose completions gold orders; None if there are none.
    ``num_unordered`` rows with two completions or more are not in it: a rubric has no criterion
    with a check, or gold orders no two of them.
    """

    precision: Interval
    recall: Interval
    f1: Interval
    verdict_agreement: Interval | None
    num_rows: int
    num_written: int
    num_pairs: int
    num_unscored: int
    num_unordered: int
    rows: tuple[RowAgreement, ...]


def measure_agreement(
    gold: Sequence[Example],
    written: Mapping[str, Rubric],
    completions: Mapping[str, Sequence[str]],
    seed: int = 0,
    clusters: Mapping[str, Hashable] | None = None,
) -> Agreement:
    """Measure written rubrics against gold.

    ``precision = sum of matched |w_written| / sum |w_written|``, ``recall = sum of matched |w_gold|
    / sum |w_gold|``. Matches are one-to-one, so saying a thing twice costs precision.

    Args:
        gold: Examples with gold rubrics.
        written: The written rubric of each id.
        completions: Answers by id, that both rubrics order by the criteria with a check.
        seed: Seed of the resampling.
        clusters: What each id belongs to where rows are not independent, resampled as a whole.

    Raises:
        DataError: If gold is empty, an example has no gold rubric, or a written one is missing.
    """
    missing = [example.id for example in gold if example.id not in written]
    if not gold:
        raise DataError("there is no gold row to measure against")
    if missing:
        listed = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise DataError(
            f"no written rubric for {len(missing)} of {len(gold)} gold ids: {listed}",
            field="rubric",
        )
    rows = measure_rows(gold, written, completions)
    ordered = [row for row in rows if row.verdict_agreement is not None]

    def interval(name: str, of: Sequence[RowAgreement]) -> Interval:
        units = None if clusters is None else [clusters[row.id] for row in of]
        return bootstrap_interval([getattr(row, name) for row in of], units, seed)

    num_answered = sum(len(completions.get(row.id, ())) > 1 for row in rows)
    return Agreement(
        precision=interval("precision", rows),
        recall=interval("recall", rows),
        f1=interval("f1", rows),
        verdict_agreement=interval("verdict_agreement", ordered) if ordered else None,
        num_rows=len(rows),
        num_written=sum(row.num_written for row in rows),
        num_pairs=sum(row.num_pairs for row in rows),
        num_unscored=sum(row.num_unscored for row in rows),
        num_unordered=num_answered - len(ordered),
        rows=rows,
    )


def measure_rows(
    gold: Sequence[Example], written: Mapping[str, Rubric], completions: Mapping[str, Sequence[str]]
) -> tuple[RowAgreement, ...]:
    """Agreement of each gold row; without a written rubric it is 0, and 1/2 in the order.

    Criteria match by checks where the source of every row can read criteria, else by text.
    """
    rows, by_checks = [], all(map(has_rubric_reader, gold))
    for example in gold:
        rubric, texts = require_rubric(example), completions.get(example.id, ())
        gold_points, _ = _points(example, rubric, texts)
        if (candidate := written.get(example.id)) is None:
            # No rubric puts no two answers into an order: every pair is a tie.
            order = order_agreement(gold_points, [0.0] * len(texts)) if gold_points else None
            rows.append(RowAgreement(example.id, 0.0, 0.0, 0.0, 0, order, 0, 0))
            continue
        points, num_unscored = _points(example, candidate, texts)
        order = order_agreement(gold_points, points) if gold_points and points else None
        pairs = tuple(
            (abs(rubric.criteria[g].weight), abs(candidate.criteria[w].weight))
            for g, w in criterion_pairs(rubric, candidate, by_checks)
        )
        recall, precision = (  # exactly 1 where all are matched
            math.fsum(pair[side] for pair in pairs) / math.fsum(abs(c.weight) for c in of.criteria)
            for side, of in enumerate((rubric, candidate))
        )
        f1 = 2 * precision * recall / (precision + recall) if pairs else 0.0
        counts = len(candidate.criteria), num_unscored
        rows.append(RowAgreement(example.id, precision, recall, f1, len(pairs), order, *counts))
    return tuple(rows)


def _points(example: Example, rubric: Rubric, texts: Sequence[str]) -> tuple[list[float], int]:
    """Points of each text over the criteria with a check, if any, and how many others there are.

    Not clipped as `rubric_score`, which is 0 for answers that a rubric does tell apart.
    """
    if not texts:
        return [], 0
    num_unscored = sum(criterion.check is None for criterion in rubric.criteria)
    if num_unscored == len(rubric.criteria):
        return [], num_unscored
    graded_by, weights = replace(example, rubric=rubric), [c.weight for c in rubric.criteria]
    verdicts = [CodeJudge().verdicts(graded_by, text) for text in texts]
    # Rounded: sums of the same points in another order are equal points.
    points = [
        round(math.fsum(w for w, met in zip(weights, of, strict=True) if met), 9) for of in verdicts
    ]
    return points, num_unscored


def order_agreement(gold: Sequence[float], written: Sequence[float]) -> float | None:
    """Share of the pairs that gold orders strictly and what was written orders alike; ties 1/2.

    ``mean over i, j with g_i > g_j of  [w_i > w_j] + [w_i = w_j] / 2``, of the points of the same
    completions. 1/2 is what a coin reaches, and a rubric that tells no answers apart.

    Returns:
        In [0, 1], or None if gold orders no two of them.
    """
    g, w = np.asarray(gold, dtype=np.float64), np.asarray(written, dtype=np.float64)
    better = g[:, None] > g
    if not better.any():
        return None
    credit = (w[:, None] > w) + 0.5 * (w[:, None] == w)
    return float(credit[better].mean())
