"""Corrections for many tests, and counts of right samples."""

import numpy as np
from numpy.typing import ArrayLike

from rcsd.evaluation.statistics.resampling import FloatArray


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
