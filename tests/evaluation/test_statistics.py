"""Bootstrap intervals, tests, averages and pass@k: by hand, laws, errors."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcsd.evaluation.statistics import (
    Interval,
    Stratum,
    average_p_value,
    averages,
    bootstrap_interval,
    holm,
    paired_difference,
    pass_at_k,
    permutation_p_value,
    ratio_interval,
)


def drawn(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).random(shape)


# By hand


def test_interval_of_two_values_spans_them():
    # Resampled means of (0, 1) are 0, 1/2, 1 with chances 1/4, 1/2, 1/4.
    assert bootstrap_interval([0, 1]) == Interval(0.5, 0.0, 1.0, 2)
    assert bootstrap_interval([0, 1], level=0.4) == Interval(0.5, 0.5, 0.5, 2)


def test_clusters_are_resampled_whole():
    # Two questions with four equal answers each hold two pieces of information, not eight.
    values, questions = [0, 0, 0, 0, 1, 1, 1, 1], list("aaaabbbb")
    assert bootstrap_interval(values, questions) == Interval(0.5, 0.0, 1.0, 2)
    assert bootstrap_interval(values).low > 0
    # Clusters (1, 1, 1) and (0): resampled means 1, 3/4, 0.
    assert bootstrap_interval([1, 0, 1, 1], ["a", "b", "a", "a"]) == Interval(0.75, 0.0, 1.0, 2)


def test_paired_difference_is_a_minus_b():
    assert paired_difference([3, 5, 9], [1, 3, 7]) == Interval(2.0, 2.0, 2.0, 3)
    for a, b in (([1, 1, 0, 1], [0, 1, 0, 0]), ([[1, 0, 1], [1, 1, 1]], [[0, 0, 1], [1, 0, 0]])):
        assert paired_difference(a, b, seed=3) == bootstrap_interval(np.subtract(a, b), seed=3)


def test_a_ratio_of_means_is_resampled_by_pairs():
    # Pairs (1, 1) and (0, 1): resampled ratios are 0, 1/2, 1 with chances 1/4, 1/2, 1/4.
    assert ratio_interval([1, 0], [1, 1]) == Interval(0.5, 0.0, 1.0, 2)
    # The same share of every pair: no resample can differ.
    assert ratio_interval([1, 2, 3], [2, 4, 6]) == Interval(0.5, 0.5, 0.5, 3)
    assert ratio_interval([3], [2]) == Interval(1.5, 1.5, 1.5, 1)
    assert ratio_interval([1, 0], [3, 1]).mean == 0.25  # not the mean of the ratios


def test_sign_flip_test_counts_the_patterns():
    # Differences (1, 2, 3): |sum| >= 6 for two of the eight sign patterns.
    assert permutation_p_value([1, 2, 3], [0, 0, 0]) == pytest.approx(2 / 8)
    # Differences (1, 2, -1): sums +-1+-2+-1 reach |2| for +2 (3 ways: 4, 2, 2) and mirrored.
    assert permutation_p_value([1, 2, 0], [0, 0, 1]) == pytest.approx(6 / 8)


def test_clusters_and_seeds_of_a_question_are_flipped_whole_and_no_p_value_is_zero():
    assert permutation_p_value([1, 1, 1, 1], [0] * 4) == pytest.approx(2 / 16)
    assert permutation_p_value([1, 1, 1, 1], [0] * 4, clusters=list("aabb")) == pytest.approx(2 / 4)
    assert permutation_p_value([[1, 1], [1, 1]], [[0, 0]]) == pytest.approx(2 / 4)
    p = permutation_p_value(np.ones(60), np.zeros(60), num_resamples=999)
    assert p == pytest.approx(2 / 1000)
    assert permutation_p_value([0.3, 0.7], [0.3, 0.7]) == 1.0


def test_a_resample_takes_a_pair_as_often_as_its_seed_and_its_question_were_drawn():
    # Only seed 0 is right, on question 0 alone: with v draws of that seed and w of that question
    # the mean is vw/4; v and w are 0, 1, 2 with chances 1/4, 1/2, 1/4. So P(0) = 7/16,
    # P(1/4) = 4/16, P(1/2) = 4/16, P(1) = 1/16.
    matrix = [[1, 0], [0, 0]]
    assert bootstrap_interval(matrix, level=0.9) == Interval(0.25, 0.0, 1.0, 2)
    assert bootstrap_interval(matrix, level=0.8) == Interval(0.25, 0.0, 0.5, 2)
    assert bootstrap_interval(matrix, level=0.1) == Interval(0.25, 0.25, 0.25, 2)


def test_a_model_without_a_training_seed_is_paired_with_every_seed():
    trained, base = np.array([[1, 0.5], [0.75, 1]]), np.array([[0.25, 0.5]])
    found = paired_difference(trained, base)
    assert found == bootstrap_interval([[0.75, 0.0], [0.5, 0.5]])
    assert paired_difference(base, trained).mean == -found.mean


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.6 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.6.
    assert holm([0.03, 0.6, 0.01, 0.02]) == pytest.approx([0.06, 0.6, 0.04, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize(
    ("interval", "spec", "text"),
    [
        (Interval(0.52, 0.4, 0.63, 9), ".2f", "0.52 [0.40, 0.63]"),
        (Interval(-0.5, -1, 0.25, 9), "+.1f", "\N{MINUS SIGN}0.5 [\N{MINUS SIGN}1.0, +0.2]"),
        (Interval(0, -0.0001, 0, 9), ".2f", "0.00 [0.00, 0.00]"),
    ],
)
def test_an_interval_has_one_text(interval: Interval, spec: str, text: str):
    assert f"{interval:{spec}}" == text
    assert f"{interval.scaled(100).scaled(0.01):{spec}}" == text


def test_benchmarks_weigh_the_same_and_their_variances_add_up_over_n_squared():
    a, b = drawn(0, 1, 300), drawn(1, 1, 500) < 0.3
    joint = averages([Stratum([a, a * 0]), Stratum([b.astype(float)] * 2)])
    expected = math.sqrt(a.var() / 300 + b.var() / 500) / 2
    assert joint.means[0] == pytest.approx((a.mean() + b.mean()) / 2)
    assert joint.interval(0, minus=1).mean == pytest.approx(a.mean() / 2)
    assert joint.resampled[0].std() == pytest.approx(expected, rel=0.03)
    assert joint.interval(0).n == 800


def test_the_sign_flips_of_an_average_weigh_benchmarks_alike():
    # Differences 1 and (1, 1), weights 1/2 and 1/4 each: 2 of 8 patterns reach 1; with -1 in the
    # first one |0| is always reached. Clustered, the second has one sign.
    one, two = np.ones((1, 1)), np.ones((1, 2))
    assert average_p_value([Stratum([one, one * 0]), Stratum([two, two * 0])], 0, 1) == 2 / 8
    assert average_p_value([Stratum([one, one * 2]), Stratum([two, two * 0])], 0, 1) == 1
    clustered = [Stratum([one, one * 0]), Stratum([two, two * 0], ["t", "t"])]
    assert average_p_value(clustered, 0, 1) == 2 / 4


def test_a_training_run_is_drawn_for_all_benchmarks_at_once():
    # Seeds differ and questions do not: the average has one of the three means (0, 1/2, 1), never
    # that of a seed drawn for one benchmark and not for the other.
    values = np.array([[0.0] * 4, [1.0] * 4])
    joint = averages([Stratum([values]), Stratum([values])])
    assert (joint.interval(0).low, joint.interval(0).high) == (0, 1)
    assert joint.resampled[0].std() == pytest.approx(math.sqrt(1 / 8), rel=0.02)


# Laws


@pytest.mark.parametrize(("n", "c", "k"), [(6, 0, 3), (6, 1, 3), (6, 4, 2), (6, 6, 6), (5, 3, 3)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n: int, c: int, k: int):
    subsets = list(itertools.combinations(range(n), k))
    share = sum(any(i < c for i in subset) for subset in subsets) / len(subsets)
    assert pass_at_k(n, c, k) == pytest.approx(share)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_exact_p_value_equals_enumeration(differences: list[int]):
    observed = abs(sum(differences))
    flips = itertools.product((-1, 1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(f, differences, strict=True))) for f in flips]
    expected = sum(value >= observed for value in sums) / len(sums)
    assert permutation_p_value(differences, [0] * len(differences)) == pytest.approx(expected)


MATRICES = st.integers(1, 5).flatmap(
    lambda width: st.lists(
        st.lists(st.floats(0, 1), min_size=width, max_size=width), min_size=1, max_size=4
    )
)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(MATRICES, st.integers(0, 5))
def test_interval_stays_inside_the_range_of_the_values(matrix: list[list[float]], seed: int):
    interval = bootstrap_interval(matrix, seed=seed)
    flat = [value for row in matrix for value in row]
    assert min(flat) - 1e-12 <= interval.low <= interval.high <= max(flat) + 1e-12
    assert interval.mean == pytest.approx(float(np.mean(matrix)))
    assert interval.n == len(matrix[0])
    joint = averages([Stratum([np.array(matrix)])], seed).interval(0)
    assert [joint.low, joint.high] == pytest.approx([interval.low, interval.high])


def test_a_small_memory_budget_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    values = drawn(0, 3, 40)
    unlimited = bootstrap_interval(values), permutation_p_value(values[0], values[1])
    monkeypatch.setattr("rcsd.evaluation.statistics.MAX_DRAWS_AT_ONCE", 1000)
    assert (bootstrap_interval(values), permutation_p_value(values[0], values[1])) == unlimited


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([]), "at least one"),
        (lambda: bootstrap_interval([1.0, 2.0], ["a"]), "expected 2 cluster ids"),
        (lambda: paired_difference([1.0, 2.0], [1.0]), "equal lengths"),
        (lambda: bootstrap_interval([[1.0, math.nan]]), "1 of values are not finite"),
        (lambda: paired_difference([[1.0]] * 3, [[1.0]] * 2), "numbers of seeds"),
        (lambda: holm([0.5, 1.5]), "between 0 and 1"),
        (
            lambda: averages([Stratum([drawn(0, 2, 3)]), Stratum([drawn(0, 1, 3)])]),
            "as many seeds in every benchmark",
        ),
        (lambda: pass_at_k(4, 1, 5), "k must lie"),
        (lambda: ratio_interval([1, 1], [1, -1]), "the denominator may be 0"),
    ],
)
def test_nonsense_is_refused(call: Any, message: str):
    with pytest.raises(ValueError, match=message):
        call()
