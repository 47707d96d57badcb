"""Bootstrap intervals, paired tests, Holm's adjustment and pass@k. Imports no torch.

Legend of axes: S training seeds, Q questions, C clusters of questions, R resamples, N units.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FloatArray = NDArray[np.float64]
Clusters = Sequence[Hashable] | NDArray[np.generic] | None

LEVEL, NUM_RESAMPLES = 0.95, 10_000
"""Coverage of intervals, and resamples behind each."""
MAX_DRAWS_AT_ONCE = 4_000_000
"""Resampled numbers held in memory at one time (32 MB of float64)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval, over n independent units."""

    mean: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        """``f"{interval:+.2f}"`` is ``+0.52 [+0.40, +0.63]``; zero has no sign."""
        if not spec:
            return str(self)
        texts = (f"{end:{spec}}" for end in (self.mean, self.low, self.high))
        mean, low, high = (
            (text if text.strip("+-0.%") else f"{0.0:{spec}}").replace("-", "\N{MINUS SIGN}")
            for text in texts
        )
        return f"{mean} [{low}, {high}]"

    def scaled(self, factor: float) -> "Interval":
        """In another unit, such as points of 100."""
        return Interval(factor * self.mean, factor * self.low, factor * self.high, self.n)


def resampling_weights(
    num_units: int, num_resamples: int, generator: np.random.Generator
) -> FloatArray:
    """Draws of each unit in each resample: R x N counts, each row multinomial and summing to N."""
    drawn_RN = generator.integers(num_units, size=(num_resamples, num_units))
    drawn_RN += np.arange(num_resamples)[:, None] * num_units  # a range of bins for each resample
    counts = np.bincount(drawn_RN.ravel(), minlength=num_resamples * num_units)
    return counts.reshape(num_resamples, num_units).astype(np.float64)


def percentile_interval(
    mean: float, resampled_R: ArrayLike, n: int, level: float = LEVEL
) -> Interval:
    """Interval between the quantiles (1 - level)/2 and (1 + level)/2 of resampled estimates."""
    low, high = np.quantile(np.asarray(resampled_R), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), n)


def bootstrap_interval(
    values: ArrayLike,
    clusters: Clusters = None,
    seed: int = 0,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Mean with a percentile bootstrap interval over clusters of questions, and training seeds.

    A resample draws as many clusters as there are, with replacement, cluster c w_rc times, and
    independently as many seeds as there are, seed s v_rs times::

        mean_r = sum_s sum_c v_rs w_rc S_sc / (num_seeds sum_c w_rc n_c)
        low, high = quantiles (1 - level)/2 and (1 + level)/2 of mean_r

    with S_sc the sum of seed s over the n_c questions of cluster c.

    Completions of one question share its difficulty; taken as independent they make the interval
    too narrow (Miller, "Adding Error Bars to Evals", arXiv 2411.00640). Seeds crossed with
    questions are the pigeonhole bootstrap (Owen, Annals of Applied Statistics 1(2), 2007, arXiv
    0712.1111). Few seeds that differ much give too narrow an interval.

    Args:
        values: Finite numbers, one for each question or completion, or S x Q.
        clusters: Cluster of each column; None: every column is its own.
        seed: Seed of the resampling.
        level: Coverage, in (0, 1).
        num_resamples: At least 1.

    Returns:
        Mean and interval; low = high = mean where clusters have equal means, or there is one.

    Raises:
        ValueError: No values, a value that is not finite, or cluster ids of another length.
    """
    if not 0 < level < 1 or num_resamples < 1:
        raise ValueError(f"level {level} is not in (0, 1), or num_resamples {num_resamples} < 1")
    matrix_SQ = _as_matrix(values, "values")
    sums_SC, counts_C = _cluster_sums(matrix_SQ, clusters)
    num_seeds, num_clusters = sums_SC.shape
    if np.ptp(sums_SC / counts_C) == 0:
        mean = float(sums_SC[0, 0] / counts_C[0])  # free of the rounding of a longer sum
        return Interval(mean, mean, mean, num_clusters)
    mean = float(sums_SC.sum() / (num_seeds * counts_C.sum()))
    generator = np.random.default_rng(seed)
    seed_weights = _seed_weights([matrix_SQ], num_resamples, generator)
    [means_R] = _resampled_means([matrix_SQ], clusters, seed_weights, generator)
    return percentile_interval(mean, means_R, num_clusters, level)


def paired_difference(
    a: ArrayLike, b: ArrayLike, seed: int = 0, clusters: Clusters = None
) -> Interval:
    """Interval of the mean of ``a - b`` on the same questions, resampled as `bootstrap_interval`.

    Both sides have the same questions in the same order; row s of a and b shares the training seed.
    A side of one row, such as the base, is paired with every row of the other side.

    Raises:
        ValueError: Other numbers of questions, or of seeds where both have several.
    """
    a_SQ, b_SQ = _pairs(a, b)
    return bootstrap_interval(a_SQ - b_SQ, clusters, seed)


def ratio_interval(a: ArrayLike, b: ArrayLike, seed: int = 0) -> Interval:
    """``mean(a) / mean(b)`` with a percentile interval, resampled as in `bootstrap_interval`.

    The interval of mean(b) must lie above 0. The few resamples (under 2.5%) whose mean(b) does not
    count as very large; no quantile depends on how large.

    Raises:
        ValueError: The interval of mean(b) does not lie above 0, or different lengths.
    """
    a_1Q, b_1Q = _pairs(a, b)
    generator = np.random.default_rng(seed)
    ones = _seed_weights([a_1Q, b_1Q], NUM_RESAMPLES, generator)
    a_R, b_R = _resampled_means([a_1Q, b_1Q], None, ones, generator)
    if (low := np.quantile(b_R, (1 - LEVEL) / 2)) <= 0:
        raise ValueError(f"the denominator may be 0: its interval begins at {low:.3g}")
    ratio = float(a_1Q.sum() / b_1Q.sum())
    if np.ptp(a_1Q * b_1Q.sum() - b_1Q * a_1Q.sum()) == 0:  # every resample has the same ratio
        return Interval(ratio, ratio, ratio, a_1Q.size)
    return percentile_interval(ratio, a_R / np.maximum(b_R, 1e-9 * b_1Q.mean()), a_1Q.size)


@dataclass(frozen=True)
class Stratum:
    """A benchmark that all arms answered: S x Q numbers of each arm, clusters of the questions."""

    values: Sequence[FloatArray]
    clusters: Clusters = None


@dataclass(frozen=True)
class JointMeans:
    """For each arm a mean and R resamples, drawn alike for all, over n clusters of questions."""

    means: tuple[float, ...]
    resampled: tuple[FloatArray, ...]
    n: int

    def interval(self, arm: int, minus: int | None = None) -> Interval:
        """Percentile interval of an arm's mean, or of its paired difference to another arm."""
        mean = self.means[arm] - (0 if minus is None else self.means[minus])
        resampled_R = self.resampled[arm] - (0 if minus is None else self.resampled[minus])
        return percentile_interval(mean, resampled_R, self.n)


def averages(strata: Sequence[Stratum], seed: int = 0) -> JointMeans:
    """For each arm the average of its means over benchmarks, all of the same weight.

    ``average_r = sum_b mean_rb / num_benchmarks`` with mean_rb as in `bootstrap_interval`.
    Questions are drawn in each benchmark independently; seeds once for all benchmarks, since one
    training run answers all of them. All arms share all draws, so differences are paired.

    Raises:
        ValueError: No benchmark, or an arm whose number of seeds differs among them.
    """
    values = [[_as_matrix(arm, "values") for arm in stratum.values] for stratum in strata]
    sizes = [[len(matrix) for matrix in matrices] for matrices in values]
    if not sizes or any(size != sizes[0] for size in sizes):
        raise ValueError(f"arms need as many seeds in every benchmark, got {sizes}")
    generator = np.random.default_rng(seed)
    seed_weights = _seed_weights(values[0], NUM_RESAMPLES, generator)
    generators = [generator, *generator.spawn(len(strata) - 1)]
    resampled = [
        _resampled_means(matrices, stratum.clusters, seed_weights, of_questions)
        for matrices, stratum, of_questions in zip(values, strata, generators, strict=True)
    ]
    means = [float(np.mean([of.mean() for of in arm])) for arm in zip(*values, strict=True)]
    averaged = [np.mean(of, axis=0) for of in zip(*resampled, strict=True)]
    n = sum(
        _cluster_sums(matrices[0], stratum.clusters)[1].size
        for matrices, stratum in zip(values, strata, strict=True)
    )
    return JointMeans(tuple(means), tuple(averaged), n)


def average_p_value(strata: Sequence[Stratum], left: int, right: int) -> float:
    """`permutation_p_value` of the difference of two arms' averages over benchmarks.

    A question of one of B benchmarks, of N_b questions, weighs 1 / (B N_b).
    """
    sums: list[FloatArray] = []
    for arm in (left, right):
        means = [(of.values[arm].mean(axis=0, keepdims=True), of.clusters) for of in strata]
        sums.append(np.concatenate([_cluster_sums(*of)[0][0] / of[0].size for of in means]))
    return permutation_p_value(sums[0] / len(strata), sums[1] / len(strata))


def permutation_p_value(
    a: ArrayLike,
    b: ArrayLike,
    seed: int = 0,
    clusters: Clusters = None,
    num_resamples: int = NUM_RESAMPLES,
) -> float:
    """Two-sided p-value of the sign-flip test that the paired differences are symmetric about 0.

    With d_c the summed differences of cluster c and s_rc independent signs::

        p = share of r with |sum_c s_rc d_c| >= |sum_c d_c|

    exact over all 2^c sign patterns where they are no more than `num_resamples`, else sampled and
    counted as (1 + hits) / (1 + num_resamples) on each side, so that it is never 0 (Phipson and
    Smyth, 2010, arXiv 1603.05766).

    Arguments as in `paired_difference`; all seeds of a question, and a cluster, share a sign.

    Returns:
        In (0, 1]; 1 where no pair differs, or where there is only one cluster.
    """
    a_SQ, b_SQ = _pairs(a, b)
    differences_1Q = a_SQ.mean(axis=0, keepdims=True) - b_SQ.mean(axis=0, keepdims=True)
    sums_C = _cluster_sums(differences_1Q, clusters)[0][0]
    if len(sums_C) == 1 or not sums_C.any():
        return 1.0  # every sign pattern is as extreme as the observed one
    result = stats.permutation_test(
        (sums_C,),
        np.sum,
        permutation_type="samples",  # of a single sample: flips the signs
        vectorized=True,
        alternative="two-sided",
        n_resamples=num_resamples,
        batch=max(1, MAX_DRAWS_AT_ONCE // len(sums_C)),
        rng=np.random.default_rng(seed),
    )
    return min(1.0, float(result.pvalue))


def holm(p_values: ArrayLike) -> FloatArray:
    """Holm step-down adjustment; controls the family-wise error rate under any dependence.

    With p_(1) <= ... <= p_(m)::

        adjusted_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6, 1979.
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
    right, numbers or arrays (Chen et al., arXiv 2107.03374, equation 1).
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


def _resampled_means(
    matrices: Sequence[FloatArray],
    clusters: Clusters,
    seed_weights: Sequence[FloatArray],
    generator: np.random.Generator,
) -> list[FloatArray]:
    """mean_r of `bootstrap_interval` for S x Q matrices that share the draws of questions."""
    sums = [_cluster_sums(matrix, clusters)[0] for matrix in matrices]
    counts_C = _cluster_sums(matrices[0], clusters)[1]
    num_resamples = len(seed_weights[0])
    means = [np.empty(num_resamples) for _ in matrices]
    batch_size = max(1, MAX_DRAWS_AT_ONCE // len(counts_C))
    for start in range(0, num_resamples, batch_size):
        part = slice(start, min(start + batch_size, num_resamples))
        weights_RC = resampling_weights(len(counts_C), part.stop - start, generator)
        for means_R, sums_SC, v_RS in zip(means, sums, seed_weights, strict=True):
            totals_R = (v_RS[part] * (weights_RC @ sums_SC.T)).sum(axis=1)
            means_R[part] = totals_R / (len(sums_SC) * (weights_RC @ counts_C))
    return means


def _seed_weights(
    matrices: Sequence[FloatArray], num_resamples: int, generator: np.random.Generator
) -> list[FloatArray]:
    """v_rs of `bootstrap_interval`; matrices with as many seeds, which are paired, share them."""
    of_seeds = generator.spawn(1)[0]
    by_size = {
        size: resampling_weights(size, num_resamples, of_seeds)
        for size in dict.fromkeys(map(len, matrices))
    }
    return [by_size[len(matrix)] for matrix in matrices]


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a_SQ, b_SQ = _as_matrix(a, "a"), _as_matrix(b, "b")
    (num_a, width_a), (num_b, width_b) = a_SQ.shape, b_SQ.shape
    if width_a != width_b:
        raise ValueError(f"pairs need equal lengths, got {width_a} and {width_b}")
    if num_a != num_b and 1 not in (num_a, num_b):
        raise ValueError(f"pairs need equal numbers of seeds, or one, got {num_a} and {num_b}")
    return a_SQ, b_SQ


def _as_matrix(values: ArrayLike, name: str) -> FloatArray:
    """The values as S x Q; one axis is one seed. Other than finite numbers is a ValueError."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(
            f"{name} must have one axis or two, and at least one number; got shape {array.shape}"
        )
    if num_bad := int(np.count_nonzero(~np.isfinite(array))):
        raise ValueError(f"{num_bad} of {name} are not finite; leave unscored ones out and count")
    return np.atleast_2d(array)


def _cluster_sums(matrix_SQ: FloatArray, clusters: Clusters) -> tuple[FloatArray, FloatArray]:
    """S x C sums and C sizes of clusters, in order of first appearance."""
    num_questions = matrix_SQ.shape[1]
    if clusters is None:
        return matrix_SQ, np.ones(num_questions)
    if len(clusters) != num_questions:
        raise ValueError(f"expected {num_questions} cluster ids, got {len(clusters)}")
    places: dict[Hashable, int] = {}
    index_Q = np.array([places.setdefault(cluster, len(places)) for cluster in clusters])
    counts_C = np.bincount(index_Q).astype(np.float64)
    sums_SC = np.stack([np.bincount(index_Q, weights=row) for row in matrix_SQ])
    return sums_SC.astype(np.float64), counts_C
