"""Intervals, paired tests and pass@k: what turns rows of scores into a claim. No tensors here.

Legend of axes: n values, c clusters, r resamples; in names S training seeds, Q questions (of which
clusters may be made), C clusters, R resamples.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

MAX_DRAWS_AT_ONCE = 4_000_000
"""Resampled numbers held in memory at one time (32 MB of float64)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval.

    Args:
        mean: The estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: How many independent units stand behind it: clusters where they were given, else values.
    """

    mean: float
    low: float
    high: float
    n: int


def bootstrap_interval(
    values: ArrayLike,
    clusters: Sequence[Hashable] | NDArray[np.generic] | None = None,
    seed: int = 0,
    level: float = 0.95,
    num_resamples: int = 10_000,
) -> Interval:
    """Mean with a percentile bootstrap interval, resampled by cluster where clusters are given.

    With S_c the sum and n_c the number of the values of cluster c, the estimate is
    ``sum_c S_c / sum_c n_c`` and a resample draws as many clusters as there are, with replacement::

        low, high = quantiles (1 - level)/2 and (1 + level)/2 over r of  sum_c S_rc / sum_c n_rc

    Several completions of one question share its difficulty; taken as independent they would make
    the interval too narrow (Miller, "Adding Error Bars to Evals", arXiv 2411.00640).
    The percentile method (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter
    13) stays inside the range of the values and has no degenerate case, which BCa has.

    Args:
        values: One finite number a completion, 1-D, at least one.
        clusters: The question of each value, or None: every value is its own cluster.
        seed: Of the resampling; the same seed gives the same interval.
        level: Coverage, in (0, 1).
        num_resamples: At least 1.

    Returns:
        The mean and its interval. A single cluster, or clusters with all the same mean, cannot
        show any spread: low = high = mean (look at `Interval.n` before believing it).

    Raises:
        ValueError: No values, a value that is not finite (an unscored completion is for the caller
            to leave out and count), cluster ids of another length, level or num_resamples outside
            their domain.
    """
    _check_resampling(level, num_resamples)
    sums, counts = _cluster_sums(_finite(values, "values", num_axes=1), clusters)
    mean = float(sums.sum() / counts.sum())
    if np.ptp(sums / counts) == 0:
        mean = float(sums[0] / counts[0])  # free of the rounding of a longer sum
        return Interval(mean, mean, mean, len(sums))
    result = stats.bootstrap(
        (sums, counts),
        _ratio_of_sums,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=level,
        n_resamples=num_resamples,
        batch=max(1, MAX_DRAWS_AT_ONCE // len(sums)),
        rng=np.random.default_rng(seed),
    )
    bounds = result.confidence_interval
    return Interval(mean, float(bounds.low), float(bounds.high), len(sums))


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    seed: int = 0,
    clusters: Sequence[Hashable] | NDArray[np.generic] | None = None,
    level: float = 0.95,
    num_resamples: int = 10_000,
) -> Interval:
    """Interval of ``mean_i(a_i - b_i)``, where a_i and b_i answer the same question i.

    The pairing takes the difficulty of the questions out of the difference, so the interval is
    narrower than two separate ones suggest (Miller, arXiv 2411.00640).

    Args:
        a: One finite number a question.
        b: The same questions in the same order.
        seed: Of the resampling.
        clusters: As in `bootstrap_interval`.
        level: As in `bootstrap_interval`.
        num_resamples: As in `bootstrap_interval`.

    Returns:
        Positive: a is larger.

    Raises:
        ValueError: Different lengths, and all that `bootstrap_interval` refuses.
    """
    return bootstrap_interval(_differences(a, b), clusters, seed, level, num_resamples)


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
    _check_resampling(level, num_resamples)
    matrix_SQ = _finite(values_SQ, "values_SQ", num_axes=2)
    num_seeds = len(matrix_SQ)
    if num_seeds == 1:
        return bootstrap_interval(matrix_SQ[0], clusters, seed, level, num_resamples)
    by_seed = [_cluster_sums(row, clusters) for row in matrix_SQ]
    sums_SC, counts_C = np.stack([sums for sums, _ in by_seed]), by_seed[0][1]
    num_clusters = len(counts_C)
    mean = float(sums_SC.sum() / (num_seeds * counts_C.sum()))
    if np.ptp(sums_SC / counts_C) == 0:
        mean = float(sums_SC[0, 0] / counts_C[0])  # as in bootstrap_interval
        return Interval(mean, mean, mean, num_clusters)
    of_seeds, of_clusters = np.random.default_rng(seed).spawn(2)
    means_R = np.empty(num_resamples)
    batch = max(1, MAX_DRAWS_AT_ONCE // (num_clusters + num_seeds))
    for start in range(0, num_resamples, batch):
        size = min(batch, num_resamples - start)
        v_RS = of_seeds.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size)
        w_RC = of_clusters.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size)
        totals_R = (v_RS * (w_RC @ sums_SC.T)).sum(axis=1)
        means_R[start : start + size] = totals_R / (num_seeds * (w_RC @ counts_C))
    low, high = np.quantile(means_R, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), num_clusters)


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
    left_SQ, right_SQ = _finite(a_SQ, "a_SQ", num_axes=2), _finite(b_SQ, "b_SQ", num_axes=2)
    (num_a, width_a), (num_b, width_b) = left_SQ.shape, right_SQ.shape
    if width_a != width_b:
        raise ValueError(f"pairs need the same questions, got {width_a} and {width_b}")
    if num_a != num_b and 1 not in (num_a, num_b):
        raise ValueError(f"pairs need equal numbers of seeds, or one, got {num_a} and {num_b}")
    return crossed_interval(left_SQ - right_SQ, seed, clusters, level, num_resamples)


def permutation_p_value(
    a: ArrayLike,
    b: ArrayLike,
    seed: int = 0,
    clusters: Sequence[Hashable] | NDArray[np.generic] | None = None,
    num_resamples: int = 10_000,
) -> float:
    """Two-sided p-value of the sign-flip test that the paired differences are symmetric about 0.

    With d_c the summed differences of cluster c and s_rc independent signs::

        p = share of r with |sum_c s_rc d_c| >= |sum_c d_c|

    exact over all 2^c sign patterns where they are no more than `num_resamples`, else sampled and
    counted as (1 + hits) / (1 + num_resamples) on each side, so that it is never 0 (Phipson and
    Smyth, 2010, arXiv 1603.05766).

    Args:
        a: One finite number a question.
        b: The same questions in the same order.
        seed: Of the sampled signs.
        clusters: Values of one cluster keep a common sign; None: every pair is its own cluster.
        num_resamples: How many sign patterns are tried at most.

    Returns:
        In (0, 1]; 1 where no pair differs, or where there is only one cluster.

    Raises:
        ValueError: Different lengths, no pairs, a number that is not finite.
    """
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    sums, _ = _cluster_sums(_differences(a, b), clusters)
    if len(sums) == 1 or not sums.any():
        return 1.0  # every sign pattern is as extreme as the observed one
    result = stats.permutation_test(
        (sums,),
        np.sum,
        permutation_type="samples",  # of a single sample: flips the signs
        vectorized=True,
        alternative="two-sided",
        n_resamples=num_resamples,
        batch=max(1, MAX_DRAWS_AT_ONCE // len(sums)),
        rng=np.random.default_rng(seed),
    )
    return min(1.0, float(result.pvalue))


def holm(p_values: ArrayLike) -> FloatArray:
    """P-values corrected for being several: the chance of any false alarm stays at the level.

    With p_(1) <= ... <= p_(m), each is multiplied by the number of those that are not smaller, and
    stays no smaller than the one before::

        adjusted_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))

    It holds however the tests hang together, and is never weaker than Bonferroni's m p (Holm, "A
    simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6,
    1979). scipy has Benjamini and Hochberg's, which bounds the share of false alarms instead.

    Args:
        p_values: In [0, 1], of one family of tests, in any order; none give none.

    Returns:
        In [0, 1], in the same order.

    Raises:
        ValueError: Other than one axis, or a number outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"expected p-values between 0 and 1 along one axis, got {p_values}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(1, p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def pass_at_k(num_samples: ArrayLike, num_right: ArrayLike, k: int) -> FloatArray:
    """Chance that at least one of k samples is right, estimated without bias from n >= k samples.

    ``1 - C(n - c, k) / C(n, k) = 1 - prod_{j<k} (n - c - j) / (n - j)``, n samples of which c are
    right (Chen et al., "Evaluating Large Language Models Trained on Code", arXiv 2107.03374,
    equation 1). The naive ``1 - (1 - c/n)^k`` is too low.

    Args:
        num_samples: n, at least k; a number, or an array with one a question.
        num_right: c, 0 to n; broadcast against n.
        k: At least 1.

    Returns:
        In [0, 1], of the broadcast shape; the mean over questions is the caller's.

    Raises:
        ValueError: k below 1 or above n, c below 0 or above n, or a count that is not whole.
    """
    n, c = np.broadcast_arrays(np.asarray(num_samples), np.asarray(num_right))
    if not (np.issubdtype(n.dtype, np.integer) and np.issubdtype(c.dtype, np.integer)):
        raise ValueError("num_samples and num_right must be whole numbers")
    if k < 1 or np.any(k > n):
        raise ValueError(f"k must lie between 1 and the number of samples, got k = {k}")
    if np.any(c < 0) or np.any(c > n):
        raise ValueError("num_right must lie between 0 and num_samples")
    j = np.arange(k)
    none_right = np.clip((n - c)[..., None] - j, 0, None) / (n[..., None] - j)
    return np.asarray(1.0 - none_right.prod(axis=-1), dtype=np.float64)


def _ratio_of_sums(sums: FloatArray, counts: FloatArray, axis: int) -> FloatArray:
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def _differences(a: ArrayLike, b: ArrayLike) -> FloatArray:
    a_n, b_n = _finite(a, "a", num_axes=1), _finite(b, "b", num_axes=1)
    if len(a_n) != len(b_n):
        raise ValueError(f"pairs need equal lengths, got {len(a_n)} and {len(b_n)}")
    return a_n - b_n


def _check_resampling(level: float, num_resamples: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")


def _finite(values: ArrayLike, name: str, num_axes: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != num_axes:
        axes = {1: "one axis", 2: "two axes"}[num_axes]
        raise ValueError(f"{name} must have {axes}, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one number")
    if not np.isfinite(array).all():
        num_bad = int(np.count_nonzero(~np.isfinite(array)))
        raise ValueError(f"{num_bad} of {name} are not finite; leave unscored ones out and count")
    return array


def _cluster_sums(
    values: FloatArray, clusters: Sequence[Hashable] | NDArray[np.generic] | None
) -> tuple[FloatArray, FloatArray]:
    """Sum and number of the values of each cluster, clusters in order of first appearance."""
    if clusters is None:
        return values, np.ones_like(values)
    if len(clusters) != len(values):
        raise ValueError(f"expected {len(values)} cluster ids, got {len(clusters)}")
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(cluster, len(places)) for cluster in clusters])
    counts = np.bincount(index).astype(np.float64)
    sums = np.bincount(index, weights=values).astype(np.float64)
    return sums, counts
