"""Several arms resampled together: averages over benchmarks, scores freed of a judge's errors.

Legend of axes: S seeds of an arm, Q questions, R resamples.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from rcsd.evaluation.statistics.crossed import resampled_means, seed_draws
from rcsd.evaluation.statistics.resampling import (
    FloatArray,
    Interval,
    check_resampling,
    cluster_sums,
    finite,
)


@dataclass(frozen=True)
class JointMeans:
    """A mean of each arm with its resamples; resample r is the same draw for all arms.

    Args:
        means: The estimates.
        resampled: For each arm R means.
        n: Clusters of questions behind them.
        level: Coverage of the intervals, in (0, 1).
    """

    means: tuple[float, ...]
    resampled: tuple[FloatArray, ...]
    n: int
    level: float = 0.95

    def interval(self, arm: int) -> Interval:
        """Percentile interval of an arm's mean."""
        return self._interval(self.means[arm], self.resampled[arm])

    def difference(self, left: int, right: int) -> Interval:
        """Percentile interval of the paired difference of two arms."""
        mean = self.means[left] - self.means[right]
        return self._interval(mean, self.resampled[left] - self.resampled[right])

    def standard_error(self, arm: int, less: int | None = None) -> float:
        """Deviation of an arm's resampled means, or of its differences to another arm."""
        of_R = self.resampled[arm] - (0 if less is None else self.resampled[less])
        return float(of_R.std())

    def _interval(self, mean: float, of_R: FloatArray) -> Interval:
        low, high = np.quantile(of_R, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Interval(mean, float(low), float(high), self.n)


@dataclass(frozen=True)
class Stratum:
    """A benchmark that all arms answered.

    Args:
        values: For each arm S x Q finite numbers; S is the same in all benchmarks.
        clusters: Of each question, as in `rcsd.evaluation.statistics.bootstrap_interval`.
    """

    values: Sequence[FloatArray]
    clusters: Sequence[Hashable] | None = None


def averages(
    strata: Sequence[Stratum], seed: int = 0, level: float = 0.95, num_resamples: int = 10_000
) -> JointMeans:
    """For each arm the average of its means over benchmarks, each of which weighs the same.

    ::

        average_r = sum_b mean_rb / num_benchmarks,  mean_rb as in
        `rcsd.evaluation.statistics.crossed_interval`

    Questions are drawn in each benchmark on their own, since benchmarks share none: of arms with
    one seed the variance of the average is sum_b var_b / num_benchmarks^2. Seeds are drawn once for
    all benchmarks, since one training run answers all of them; and all arms share all draws, so
    that differences are paired. Of one benchmark: `crossed_interval`'s mean and distribution.

    Args:
        strata: The benchmarks, at least one.
        seed: Of the resampling.
        level: As in `rcsd.evaluation.statistics.bootstrap_interval`.
        num_resamples: As in `rcsd.evaluation.statistics.bootstrap_interval`.

    Raises:
        ValueError: If there is no benchmark, an arm's number of seeds differs among them, or a
            number is not finite.
    """
    check_resampling(level, num_resamples)
    kept = [[finite(values, "values", num_axes=2) for values in of.values] for of in strata]
    sizes = [[len(values) for values in of] for of in kept]
    if not sizes or any(of != sizes[0] for of in sizes):
        raise ValueError(f"arms need as many seeds in every benchmark, got {sizes}")
    of_seeds, *of_strata = np.random.default_rng(seed).spawn(1 + len(strata))
    draws = _draws(sizes[0], of_seeds, num_resamples)
    resampled = [
        resampled_means(values, draws, of_clusters, stratum.clusters)
        for values, of_clusters, stratum in zip(kept, of_strata, strata, strict=True)
    ]
    means = [float(np.mean([of[arm].mean() for of in kept])) for arm in range(len(sizes[0]))]
    n = sum(
        len(cluster_sums(values[0][0], stratum.clusters)[0])
        for values, stratum in zip(kept, strata, strict=True)
    )
    averaged = [np.mean(of, axis=0) for of in zip(*resampled, strict=True)]
    return JointMeans(tuple(means), tuple(averaged), n, level)


@dataclass(frozen=True)
class ErrorRates:
    """How often a judge is right, measured on verdicts that are known.

    Args:
        sensitivity: Share of criteria that are met which it says are met, in [0, 1].
        num_met: Verdicts behind that.
        specificity: Share of criteria that are not met which it says are not met, in [0, 1].
        num_unmet: Verdicts behind that.

    Raises:
        ValueError: If a share is none, nothing stands behind one, or the judge tells nothing.
    """

    sensitivity: float
    num_met: int
    specificity: float
    num_unmet: int

    def __post_init__(self) -> None:
        """Refuse rates that nothing can be corrected by."""
        for name in ("sensitivity", "specificity"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("num_met", "num_unmet"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.informedness <= 0:
            raise ValueError(
                f"sensitivity {self.sensitivity:g} and specificity {self.specificity:g} add up to "
                "no more than 1: such a judge says met as often of criteria that are not met, and "
                "nothing can be corrected by its rates"
            )

    @property
    def informedness(self) -> float:
        """Youden's J = sensitivity + specificity - 1: by what differences of arms shrink."""
        return self.sensitivity + self.specificity - 1

    def draws(self, generator: np.random.Generator, num: int) -> tuple[FloatArray, FloatArray]:
        """Sensitivities and specificities of the posterior: Beta, from Jeffreys' prior."""
        rates = ((self.sensitivity, self.num_met), (self.specificity, self.num_unmet))
        sensitivities, specificities = (
            generator.beta(share * n + 0.5, (1 - share) * n + 0.5, num) for share, n in rates
        )
        return sensitivities, specificities


def without_judge_errors(
    values: Sequence[FloatArray],
    offsets_Q: FloatArray,
    rates: ErrorRates,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    num_resamples: int = 10_000,
) -> JointMeans:
    """Means of what criteria earn, freed of a judge's errors: Rogan and Gladen's estimate.

    A judge of sensitivity Se and specificity Sp says of a criterion that is met with chance m that
    it is with chance (1 - Sp) + (Se + Sp - 1) m. So of observed points o_q = sum_i w_i met_i / W_q
    and all points a_q = sum_i w_i / W_q that the question's criteria could give or cost::

        corrected = (mean_q o_q - (1 - Sp) mean_q a_q) / (Se + Sp - 1)

    is free of bias (Rogan and Gladen, American Journal of Epidemiology 107(1), 1978). The
    difference of two arms on the same questions is the observed one over Se + Sp - 1. Resampled are
    questions, seeds and, at the same time, both rates (`ErrorRates.draws`), so that intervals hold
    what is not known of the judge too ("How to Correctly Report LLM-as-a-Judge Evaluations", arXiv
    2511.21140, asks for that of a single share).

    It stands on three assumptions: the judge errs as often on every arm, on every criterion, and
    here as where it was measured. Errors of one question may hang together; those of the verdicts
    that measured the rates are taken as independent. A mean may leave [0, 1]: cut off there it
    would be biased.

    Args:
        values: For each arm S x Q observed points, mean over the question's completions.
        offsets_Q: a_q; 1 where only the share met is asked for.
        rates: Of the judge.
        clusters: As in `rcsd.evaluation.statistics.bootstrap_interval`.
        seed: Of the resampling.
        num_resamples: At least 1.

    Raises:
        ValueError: If so few verdicts stand behind the rates that Se + Sp may be 1: their posterior
            has more than 2.5% there; and a number that is not finite.
    """
    check_resampling(0.95, num_resamples)
    kept = [finite(of, "values", num_axes=2) for of in values]
    offset_1Q = finite(offsets_Q, "offsets_Q", num_axes=1)[None]
    of_rates, of_seeds, of_clusters = np.random.default_rng(seed).spawn(3)
    sensitivity_R, specificity_R = rates.draws(of_rates, num_resamples)
    informedness_R = sensitivity_R + specificity_R - 1
    if np.quantile(informedness_R, 0.025) <= 0:
        raise ValueError(
            f"of {rates.num_met} and {rates.num_unmet} verdicts nobody can tell this judge from "
            "one that knows nothing: its sensitivity and specificity may add up to 1; measure it "
            "on more"
        )
    # The few draws that are left there count as very large, as in `ratio_interval`.
    informedness_R = np.maximum(informedness_R, 1e-9)
    draws = _draws([len(of) for of in (*kept, offset_1Q)], of_seeds, num_resamples)
    *observed, offset_R = resampled_means([*kept, offset_1Q], draws, of_clusters, clusters)
    resampled = [(of_R - (1 - specificity_R) * offset_R) / informedness_R for of_R in observed]
    offset = offset_1Q.mean()
    means = [
        float((of.mean() - (1 - rates.specificity) * offset) / rates.informedness) for of in kept
    ]
    n = len(cluster_sums(offset_1Q[0], clusters)[0])
    return JointMeans(tuple(means), tuple(resampled), n)


def _draws(
    sizes: Sequence[int], of_seeds: np.random.Generator, num_resamples: int
) -> list[FloatArray]:
    """Draws of the seeds of each arm; arms of as many seeds, which are paired, share them."""
    by_size = {size: seed_draws(size, of_seeds, num_resamples) for size in dict.fromkeys(sizes)}
    return [by_size[size] for size in sizes]
