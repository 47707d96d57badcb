"""Intervals, paired tests and pass@k: what turns rows of scores into a claim. No tensors here."""

from rcsd.evaluation.statistics.counting import holm, pass_at_k
from rcsd.evaluation.statistics.crossed import crossed_interval, paired_crossed_difference
from rcsd.evaluation.statistics.joint import (
    ErrorRates,
    JointMeans,
    Stratum,
    averages,
    without_judge_errors,
)
from rcsd.evaluation.statistics.resampling import (
    FloatArray,
    Interval,
    bootstrap_interval,
    paired_difference,
    permutation_p_value,
    ratio_interval,
)

__all__ = [
    "ErrorRates",
    "FloatArray",
    "Interval",
    "JointMeans",
    "Stratum",
    "averages",
    "bootstrap_interval",
    "crossed_interval",
    "holm",
    "paired_crossed_difference",
    "paired_difference",
    "pass_at_k",
    "permutation_p_value",
    "ratio_interval",
    "without_judge_errors",
]
