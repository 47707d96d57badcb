"""Training seeds crossed with questions: every seed answers every question.

Legend of axes: S seeds, Q questions, C clusters of questions, R resamples.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcsd.evaluation.statistics.resampling import (
    MAX_DRAWS_AT_ONCE,
    FloatArray,
    Interval,
    bootstrap_interval,
    check_resampling,
    cluster_sums,
    finite,
)


def crossed_interval(
    values_SQ: ArrayLike,
    seed: int = 0,
    clusters: Sequence[Hashable] | NDArray[np.generic] | None = None,
    level: float = 0.95,
    num_resamples: int = 10_000,
) -> Interval:
    """Mean over training seeds and questions, resampled over both: the pigeonhole bootstrap.

    Every seed answers every question, so the values of a row have the training run in common and
    those of a column the question. A resample draws seeds with replacement and, independently,
    clusters of questions with replacement, and takes every pair of the two as often as its row and
    its column were drawn, v_rs and w_rc times::

        mean_r = sum_s sum_c v_rs w_rc S_sc / (num_seeds sum_c w_rc n_c)

    with S_sc the sum of seed s over cluster c of n_c questions (Owen, "The pigeonhole bootstrap",
    Annals of Applied Statistics 1(2), 2007, arXiv 0712.1111). Resampled by questions alone, the
    interval would speak of these very training runs and not of the method.

    Conservative, and coarse: no bootstrap of crossed effects is exact; this one counts what neither
    seed nor question explains about three times, so it errs on the wide side where that dominates.
    But it sees only the seeds that there are: of 3 seeds there are 10 different draws, and their
    own variance comes out (num_seeds - 1) / num_seeds of what it is. Where seeds differ much, few
    of them give an interval that is too narrow.

    Args:
        values_SQ: One finite number for each seed and question, 2-D, at least one.
        seed: Of the resampling.
        clusters: Of each question (column), as in `bootstrap_interval`.
        level: As in `bootstrap_interval`.
        num_resamples: As in `bootstrap_interval`.

    Returns:
        `Interval.n` counts the clusters of questions. With one seed: `bootstrap_interval`'s.

    Raises:
        ValueError: As `bootstrap_interval`.
    """
    check_resampling(level, num_resamples)
    matrix_SQ = finite(values_SQ, "values_SQ", num_axes=2)
    if len(matrix_SQ) == 1:
        return bootstrap_interval(matrix_SQ[0], clusters, seed, level, num_resamples)
    by_seed = [cluster_sums(row, clusters) for row in matrix_SQ]
    sums_SC, counts_C = np.stack([sums for sums, _ in by_seed]), by_seed[0][1]
    num_clusters = len(counts_C)
    mean = float(sums_SC.sum() / (len(matrix_SQ) * counts_C.sum()))
    if np.ptp(sums_SC / counts_C) == 0:
        mean = float(sums_SC[0, 0] / counts_C[0])  # as in bootstrap_interval
        return Interval(mean, mean, mean, num_clusters)
    of_seeds, of_clusters = np.random.default_rng(seed).spawn(2)
    v_RS = seed_draws(len(matrix_SQ), of_seeds, num_resamples)
    means_R = resampled_means([matrix_SQ], [v_RS], of_clusters, clusters)[0]
    low, high = np.quantile(means_R, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), num_clusters)


def seed_draws(num_seeds: int, of_seeds: np.random.Generator, num_resamples: int) -> FloatArray:
    """v_rs of `crossed_interval`: how often each resample draws each seed."""
    chances_S = np.full(num_seeds, 1 / num_seeds)
    return of_seeds.multinomial(num_seeds, chances_S, num_resamples).astype(np.float64)


def resampled_means(
    matrices: Sequence[FloatArray],
    draws: Sequence[FloatArray],
    of_clusters: np.random.Generator,
    clusters: Sequence[Hashable] | NDArray[np.generic] | None = None,
) -> list[FloatArray]:
    """mean_r of `crossed_interval` for several matrices, all under the same draws of questions.

    Args:
        matrices: Each S x Q finite numbers, S its own, on the same questions.
        draws: Of each matrix R x S: how often each resample draws each of its seeds.
        of_clusters: Draws the questions.
        clusters: As in `crossed_interval`.

    Returns:
        R means for each matrix.
    """
    sums = [np.stack([cluster_sums(row, clusters)[0] for row in of]) for of in matrices]
    counts_C = cluster_sums(matrices[0][0], clusters)[1]
    num_clusters, num_resamples = len(counts_C), len(draws[0])
    chances_C = np.full(num_clusters, 1 / num_clusters)
    means = [np.empty(num_resamples) for _ in matrices]
    batch = max(1, MAX_DRAWS_AT_ONCE // (num_clusters + max(map(len, matrices))))
    for start in range(0, num_resamples, batch):
        part = slice(start, min(start + batch, num_resamples))
        w_RC = of_clusters.multinomial(num_clusters, chances_C, part.stop - start)
        for mean_R, sums_SC, v_RS in zip(means, sums, draws, strict=True):
            totals_R = (v_RS[part] * (w_RC @ sums_SC.T)).sum(axis=1)
            mean_R[part] = totals_R / (len(sums_SC) * (w_RC @ counts_C))
    return means


def paired_crossed_difference(
    a_SQ: ArrayLike,
    b_SQ: ArrayLike,
    seed: int = 0,
    clusters: Sequence[Hashable] | NDArray[np.generic] | None = None,
    level: float = 0.95,
    num_resamples: int = 10_000,
) -> Interval:
    """Interval of the mean of ``a_SQ - b_SQ``, resampled as in `crossed_interval`.

    Pairs have the question in common, and row s of a and of b the training seed, such as its order
    of examples. A side of one row is a model that no seed was trained with, such as the base: it is
    paired with every row of the other side, and adds no spread of seeds.

    Args:
        a_SQ: One finite number for each seed and question.
        b_SQ: The same questions in the same order; as many seeds, in the same order, unless a side
            has one.
        seed: Of the resampling.
        clusters: As in `crossed_interval`.
        level: As in `bootstrap_interval`.
        num_resamples: As in `bootstrap_interval`.

    Returns:
        Positive: a is larger. With one row each: `paired_difference`'s.

    Raises:
        ValueError: Other numbers of questions, or of seeds where both have several; and all that
            `crossed_interval` refuses.
    """
    left_SQ, right_SQ = finite(a_SQ, "a_SQ", num_axes=2), finite(b_SQ, "b_SQ", num_axes=2)
    (num_a, width_a), (num_b, width_b) = left_SQ.shape, right_SQ.shape
    if width_a != width_b:
        raise ValueError(f"pairs need the same questions, got {width_a} and {width_b}")
    if num_a != num_b and 1 not in (num_a, num_b):
        raise ValueError(f"pairs need equal numbers of seeds, or one, got {num_a} and {num_b}")
    return crossed_interval(left_SQ - right_SQ, seed, clusters, level, num_resamples)
