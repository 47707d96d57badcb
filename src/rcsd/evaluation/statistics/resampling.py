"""Bootstrap intervals and paired tests, resampled by value or by cluster of values.

Legend of axes: n values, c clusters, r resamples.
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

    def __format__(self, spec: str) -> str:
        """Mean and interval as text: ``f"{interval:+.2f}"`` is ``+0.52 [+0.40, +0.63]``.

        The format applies to each number; the minus sign is typographic, and zero has none.
        """
        if not spec:
            return str(self)
        sign, digits = ("+", spec[1:]) if spec.startswith("+") else ("", spec)
        mean, low, high = (
            f"{end:{sign}z{digits}}".replace("-", "\N{MINUS SIGN}")
            for end in (self.mean, self.low, self.high)
        )
        return f"{mean} [{low}, {high}]"


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
    check_resampling(level, num_resamples)
    sums, counts = cluster_sums(finite(values, "values", num_axes=1), clusters)
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


def ratio_interval(
    a: ArrayLike,
    b: ArrayLike,
    seed: int = 0,
    clusters: Sequence[Hashable] | NDArray[np.generic] | None = None,
    level: float = 0.95,
    num_resamples: int = 10_000,
) -> Interval:
    """``mean(a) / mean(b)`` with a percentile bootstrap interval, resampled by pairs or clusters.

    A ratio means nothing where its denominator could be 0, so the interval of mean(b) must lie
    above it. The few resamples whose mean(b) still is not above 0, fewer than (1 - level)/2 of all,
    count as very large, with the sign of mean(a): no quantile hangs on how large.

    Args:
        a: One finite number a question.
        b: The same questions in the same order.
        seed: Of the resampling.
        clusters: As in `bootstrap_interval`.
        level: As in `bootstrap_interval`.
        num_resamples: As in `bootstrap_interval`.

    Raises:
        ValueError: The interval of mean(b) does not lie above 0, different lengths, and all that
            `bootstrap_interval` refuses.
    """
    a_n, b_n = _pairs(a, b)
    below = bootstrap_interval(b_n, clusters, seed, level, num_resamples)
    if below.low <= 0:
        raise ValueError(f"the denominator may be 0: its interval begins at {below.low:.3g}")
    (a_n, _), (b_n, _) = cluster_sums(a_n, clusters), cluster_sums(b_n, clusters)
    ratio = float(a_n.sum() / b_n.sum())
    if np.ptp(a_n * b_n.sum() - b_n * a_n.sum()) == 0:  # every resample has the same ratio
        return Interval(ratio, ratio, ratio, len(a_n))
    smallest = 1e-9 * b_n.sum()

    def ratio_above_zero(a_rn: FloatArray, b_rn: FloatArray, axis: int) -> FloatArray:
        return a_rn.sum(axis=axis) / np.maximum(b_rn.sum(axis=axis), smallest)

    result = stats.bootstrap(
        (a_n, b_n),
        ratio_above_zero,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=level,
        n_resamples=num_resamples,
        batch=max(1, MAX_DRAWS_AT_ONCE // len(a_n)),
        rng=np.random.default_rng(seed),
    )
    bounds = result.confidence_interval
    return Interval(ratio, float(bounds.low), float(bounds.high), len(a_n))


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
    sums, _ = cluster_sums(_differences(a, b), clusters)
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


def _ratio_of_sums(sums: FloatArray, counts: FloatArray, axis: int) -> FloatArray:
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def _differences(a: ArrayLike, b: ArrayLike) -> FloatArray:
    a_n, b_n = _pairs(a, b)
    return a_n - b_n


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a_n, b_n = finite(a, "a", num_axes=1), finite(b, "b", num_axes=1)
    if len(a_n) != len(b_n):
        raise ValueError(f"pairs need equal lengths, got {len(a_n)} and {len(b_n)}")
    return a_n, b_n


def check_resampling(level: float, num_resamples: int) -> None:
    """Refuse a coverage outside (0, 1), or no resamples, with a ValueError."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")


def finite(values: ArrayLike, name: str, num_axes: int) -> FloatArray:
    """The values as an array; other than finite numbers on so many axes is a ValueError."""
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


def cluster_sums(
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
