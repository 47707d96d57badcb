"""Arms resampled together: averages over benchmarks, and a judge's errors taken out."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcsd.evaluation.statistics import (
    ErrorRates,
    Stratum,
    averages,
    bootstrap_interval,
    crossed_interval,
    paired_crossed_difference,
    without_judge_errors,
)

RATES = ErrorRates(0.9, 1000, 0.8, 1000)


def drawn(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).random(shape)


# By hand


def test_each_benchmark_weighs_the_same_however_many_questions_it_has():
    small, large = np.array([[1.0, 1.0]]), np.zeros((1, 98))
    found = averages([Stratum([small, small * 0]), Stratum([large, large])])
    assert found.means == (0.5, 0.0)
    assert found.interval(0).mean == 0.5
    assert found.difference(0, 1).mean == 0.5
    assert found.interval(0).n == 100


def test_the_variance_of_an_average_is_the_sum_of_variances_over_n_squared():
    a, b = drawn(0, 1, 300), drawn(1, 1, 500) < 0.3
    found = averages([Stratum([a]), Stratum([b.astype(float)])])
    expected = math.sqrt(a.var() / 300 + b.var() / 500) / 2
    assert found.standard_error(0) == pytest.approx(expected, rel=0.03)
    assert found.interval(0).high == pytest.approx(found.means[0] + 1.96 * expected, abs=2e-3)


def test_a_training_run_is_drawn_for_all_benchmarks_at_once():
    # Seeds differ and questions do not: the average has two of the three means (0, 1/2, 1), never
    # those of a seed that is drawn for one benchmark and not for the other.
    values = np.array([[0.0] * 4, [1.0] * 4])
    found = averages([Stratum([values]), Stratum([values])])
    assert found.interval(0).low == 0
    assert found.interval(0).high == 1
    assert found.standard_error(0) == pytest.approx(math.sqrt(1 / 8), rel=0.02)


def test_of_a_noisy_judge_the_share_met_is_rogans_and_gladens():
    # 0.55 said to be met = 0.2 + 0.7 m.
    said = np.array([[1.0] * 55 + [0.0] * 45])
    found = without_judge_errors([said, said * 0], np.ones(100), RATES)
    assert found.means == pytest.approx((0.5, -0.2 / 0.7))
    assert found.difference(0, 1).mean == pytest.approx(0.55 / 0.7)


def test_points_that_can_be_lost_shift_by_what_all_points_add_up_to():
    # Weights 2 and -1 over 2 positive points: all verdicts "met" by chance give a_q = 1/2.
    truth, rates = np.array([[1.0, -0.5]]), (0.9, 0.8)
    expected = np.array([[0.9 - 0.2 / 2, 0.2 - 0.9 / 2]])  # the first met alone; the second alone
    corrected = without_judge_errors([expected], np.full(2, 0.5), ErrorRates(*sum_of(rates)))
    assert corrected.means[0] == pytest.approx(truth.mean())


def sum_of(rates: tuple[float, float]) -> tuple[float, int, float, int]:
    return rates[0], 1000, rates[1], 1000


def test_a_perfect_judge_leaves_the_interval_as_it_is():
    values = (drawn(3, 1, 400) < 0.4).astype(float)
    perfect = ErrorRates(1.0, 10**9, 1.0, 10**9)
    found = without_judge_errors([values], np.ones(400), perfect).interval(0)
    plain = bootstrap_interval(values[0])
    assert (found.mean, found.n) == (pytest.approx(plain.mean), 400)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=6e-3)


def test_the_fewer_verdicts_measured_a_judge_the_wider_the_interval():
    arms = [(drawn(n, 1, 200) < share).astype(float) for n, share in ((4, 0.4), (5, 0.7))]
    widths = []
    for num in (30, 300, 30_000):
        rates = ErrorRates(0.9, num, 0.8, num)
        found = without_judge_errors(arms, np.ones(200), rates).difference(1, 0)
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)


# Laws

MATRICES = st.integers(1, 3).flatmap(
    lambda width: st.lists(
        st.lists(st.floats(0, 1), min_size=width, max_size=width), min_size=2, max_size=3
    )
)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(MATRICES)
def test_the_average_over_one_benchmark_is_its_mean(matrix: list[list[float]]):
    of = np.array(matrix)
    found, crossed = averages([Stratum([of])]).interval(0), crossed_interval(of)
    assert (found.mean, found.n) == (pytest.approx(crossed.mean), crossed.n)
    assert of.min() - 1e-9 <= found.low <= found.high <= of.max() + 1e-9


def test_with_many_questions_it_has_the_interval_of_one_benchmark_too():
    of, base = drawn(6, 3, 400), drawn(7, 1, 400)
    found = averages([Stratum([of, base])])
    for joint, alone in (
        (found.interval(0), crossed_interval(of)),
        (found.difference(0, 1), paired_crossed_difference(of, base)),
    ):
        assert (joint.low, joint.high) == pytest.approx((alone.low, alone.high), abs=3e-3)


def one_study(rng: np.random.Generator, rates: tuple[float, float], num: int) -> tuple[Any, Any]:
    """Two arms, 60 questions of four criteria each, shares 0.35 and 0.75 met, judged with errors;
    and rates as they are measured on so many verdicts."""
    sensitivity, specificity = rates
    arms = []
    difficulty = rng.normal(0, 0.15, 60)
    for share in (0.35, 0.75):
        met = rng.random((4, 60)) < np.clip(share + difficulty, 0, 1)
        said = np.where(met, rng.random((4, 60)) < sensitivity, rng.random((4, 60)) > specificity)
        arms.append(said.mean(axis=0)[None].astype(float))
    measured = (rng.binomial(num, rate) / num for rate in rates)
    return arms, [of for rate in measured for of in (rate, num)]


def test_intervals_that_know_the_judges_errors_hold_the_truth_and_plain_ones_do_not():
    rng, rates, truth = np.random.default_rng(0), (0.85, 0.75), 0.4
    num_studies, hits, plain_hits = 300, 0, 0
    for seed in range(num_studies):
        arms, measured = one_study(rng, rates, num=150)
        found = without_judge_errors(
            arms, np.ones(60), ErrorRates(*measured), seed=seed, num_resamples=500
        ).difference(1, 0)
        plain = averages([Stratum(arms)], seed, num_resamples=500).difference(1, 0)
        hits += found.low <= truth <= found.high
        plain_hits += plain.low <= truth <= plain.high
    # Of 300 studies at 95%: 285, give or take 4.
    assert 0.92 <= hits / num_studies <= 0.98
    assert plain_hits / num_studies < 0.1  # it holds 0.6 times the difference


# Errors


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((0.6, 10, 0.4, 10), "no more than 1"),
        ((1.2, 10, 0.4, 10), "sensitivity must be"),
        ((0.9, 10, -0.1, 10), "specificity must be"),
        ((0.9, 0, 0.9, 10), "num_met must be at least 1"),
    ],
)
def test_rates_that_correct_nothing_are_refused(rates: Any, message: str):
    with pytest.raises(ValueError, match=message):
        ErrorRates(*rates)


def test_a_judge_who_may_be_a_coin_is_refused():
    with pytest.raises(ValueError, match="of 5 and 5 verdicts nobody can tell"):
        without_judge_errors([np.ones((1, 3))], np.ones(3), ErrorRates(0.6, 5, 0.6, 5))


def test_arms_need_the_same_seeds_in_every_benchmark():
    with pytest.raises(ValueError, match="as many seeds in every benchmark"):
        averages([Stratum([drawn(0, 2, 3)]), Stratum([drawn(0, 1, 3)])])
