"""What a study shows, from points made up by hand: two sets' worth of arithmetic, no model."""

import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rcsd.recipes.standings import (
    Prediction,
    around_seconds,
    at_tokens,
    contents_of,
    prediction_of,
    solution_values,
    standings_of,
)
from tests.support.points import ends, point, rows, settings, trained

from rcsd.evaluation.statistics import holm
from rcsd.recipes.study import Point
from rcsd.recipes.study_config import Study
from rcsd.recipes.study_report import sentences
from rcsd.types import Criterion, Example, Rubric

NAN = math.nan
SCHEDULE = {
    "type": "schedule",
    "phases": [
        {"method": {"type": "distill"}, "steps": 1},
        {"method": {"type": "grpo", "rewards": [{"type": "answer"}]}},
    ],
}
GROUPS = {"method": {"type": "grpo", "rewards": [{"type": "answer"}]}, "completions_per_example": 2}


# Moments


def test_equal_tokens_are_the_first_evaluation_that_has_them() -> None:
    points = [point(40, 1, 0.1), point(100, 2, 0.2), point(130, 3, 0.3)]
    assert at_tokens(points, 100) is points[1]
    assert at_tokens(points, 99.5) is points[1]
    assert at_tokens(points, 101) is points[2]
    assert at_tokens(points, 1) is points[0]


@pytest.mark.parametrize(
    ("seconds", "before", "after", "share"),
    [
        (1.0, 0, 1, 0.25),  # before the first evaluation: on the way from the base
        (4.0, 0, 1, 1.0),
        (5.0, 1, 2, 0.5),
        (6.0, 1, 2, 1.0),
        (9.0, 2, 2, 1.0),  # after the last: the last
    ],
)
def test_equal_seconds_lie_between_the_evaluations_before_and_after(
    seconds: float, before: int, after: int, share: float
) -> None:
    points = [point(0, 0, 0.0), point(10, 4, 1.0), point(20, 6, 2.0)]
    found = around_seconds(points, seconds)
    assert found == (points[before], points[after], share)


def test_scores_in_equal_time_are_interpolated_from_the_base_question_by_question() -> None:
    study = settings({"rcsd": {}}, "rcsd", budget={"tokens": 100, "seconds": 3.0})
    seeds = [
        # 3 of 4 seconds on the way from the base: 0.75 of the gain.
        [point(100, 4, 1.0, 0.2), point(200, 9, 0.0, 0.0)],
        # Exactly on the second evaluation.
        [point(50, 1, 0.0, 0.0), point(150, 3, 0.6, 0.4)],
    ]
    [standing] = standings_of(study, trained(rows(0.2, 0.2), {"rcsd": seeds}), "seconds")
    means = {mean.arm: mean.interval.mean for mean in standing.compared.means}
    assert means["rcsd"] == pytest.approx(np.mean([[0.8, 0.2], [0.6, 0.4]]))
    assert means["base"] == pytest.approx(0.2)
    [difference] = standing.compared.differences
    assert difference.interval.mean == pytest.approx(0.5 - 0.2)
    # At equal tokens the same runs are elsewhere: at 100 and at 150 tokens.
    [standing] = standings_of(study, trained(rows(0.2, 0.2), {"rcsd": seeds}), "tokens")
    means = {mean.arm: mean.interval.mean for mean in standing.compared.means}
    assert means["rcsd"] == pytest.approx(np.mean([[1.0, 0.2], [0.6, 0.4]]))


@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=5),
    st.floats(0.05, 60),
    st.floats(-1, 1),
    st.floats(-1, 1),
)
def test_what_is_linear_in_time_is_interpolated_exactly(
    steps: list[float], seconds: float, start: float, slope: float
) -> None:
    times = [0.0, *np.cumsum(steps).tolist()]
    points = [point(time, time, start + slope * time) for time in times]
    before, after, share = around_seconds(points, seconds)
    assert 0 < share <= 1
    values = [one.rows["set"][0].score or 0.0 for one in (before, after)]
    expected = start + slope * min(seconds, times[-1])
    assert (1 - share) * values[0] + share * values[1] == pytest.approx(expected, abs=1e-9)


def test_an_evaluation_exactly_on_the_moment_needs_no_grade_before_it() -> None:
    study = settings({"rcsd": {}}, "rcsd", budget={"tokens": 100, "seconds": 4.0}, seeds=[0])
    runs = {"rcsd": [[point(50, 2, NAN, 0.1), point(100, 4, 0.9, 0.1)]]}
    [standing] = standings_of(study, trained(rows(0.5, 0.1), runs), "seconds")
    assert standing.compared.num_left_out == 0
    runs = {"rcsd": [[point(50, 2, NAN, 0.1), point(100, 5, 0.9, 0.1)]]}
    [standing] = standings_of(study, trained(rows(0.5, 0.1), runs), "seconds")
    assert (standing.compared.num_compared, standing.compared.num_left_out) == (1, 1)


# Differences


def pairs_of(study: Study) -> list[tuple[str, str]]:
    found = trained(rows(0.1, 0.2), {label: ends(0.3, 0.4) for label in study.labels})
    [standing] = standings_of(study, found, "tokens")
    return [(d.left, d.right) for d in standing.compared.differences]


ARMS = {
    "rcsd": {"rubrics": ["gold", "shuffled", "generic"]},
    "criterion": {"run": {"method": {"type": "criterion"}}, "rubrics": ["gold", "shuffled"]},
    "lonely": {"rubrics": ["shuffled"]},
}


def test_differences_are_to_the_base_to_one_arm_and_to_the_own_placebos() -> None:
    labels = ["rcsd", "rcsd, shuffled", "rcsd, generic", "criterion", "criterion, shuffled"]
    labels += ["lonely, shuffled"]
    assert pairs_of(settings(ARMS, "rcsd")) == [
        *((label, "base") for label in labels),
        *(("rcsd", label) for label in labels[1:]),
        ("criterion", "criterion, shuffled"),
    ]


@pytest.mark.parametrize("against", ["rcsd", "rcsd, shuffled", "criterion", "lonely, shuffled"])
def test_no_difference_stands_there_twice_whatever_all_is_compared_with(against: str) -> None:
    unordered = [frozenset(pair) for pair in pairs_of(settings(ARMS, against))]
    assert len(set(unordered)) == len(unordered)
    assert all(
        frozenset({against, label}) in unordered for label in ("base", "criterion, shuffled")
    )
    assert frozenset({"rcsd", "rcsd, generic"}) in unordered


def test_a_seed_is_paired_with_the_same_seed() -> None:
    study = settings({"rcsd": {"rubrics": ["gold", "shuffled"]}}, "rcsd")
    # Seeds differ by 0.5, arms by 0.1 within each: paired, the difference has no spread.
    runs = {
        "rcsd": [[point(100, 1, 0.2, 0.2)], [point(100, 1, 0.7, 0.7)]],
        "rcsd, shuffled": [[point(100, 1, 0.1, 0.1)], [point(100, 1, 0.6, 0.6)]],
    }
    [standing] = standings_of(study, trained(rows(0.0, 0.0), runs), "tokens")
    interval = standing.compared.differences[-1].interval
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.1, 0.1, 0.1))


def test_p_values_are_corrected_over_all_standings_of_a_moment() -> None:
    study = settings({"rcsd": {"rubrics": ["gold", "shuffled"]}}, "rcsd")
    rights = [True] * 6

    def of(*scores: float, rights: list[bool]) -> list[list[Point]]:
        return [[Point(100, 1, {"set": rows(*scores, rights=rights)})]] * 2

    runs = {
        "rcsd": of(0.9, 0.8, 0.7, 0.9, 0.8, 0.9, rights=rights),
        "rcsd, shuffled": of(0.5, 0.4, 0.6, 0.7, 0.1, 0.2, rights=[True, False] * 3),
    }
    base = rows(0.1, 0.2, 0.1, 0.2, 0.1, 0.2, rights=[False] * 6)
    standings = standings_of(study, trained(base, runs), "tokens")
    assert [(s.held_out, s.metric) for s in standings] == [("set", "score"), ("set", "accuracy")]
    family = [d for standing in standings for d in standing.compared.differences]
    assert len(family) == 6
    corrected = holm([d.p_value for d in family])
    assert [d.holm_p_value for d in family] == pytest.approx(corrected.tolist())
    assert family[0].p_value == pytest.approx(2 / 2**6)


@pytest.mark.slow
def test_the_largest_family_that_there_is_can_still_tell_a_difference() -> None:
    # 10,000 sign patterns give no p-value below 0.0002, which 251 tests correct to 0.0502.
    arms = {f"arm {n}": {} for n in range(70)}
    study = settings(arms, "arm 0", seeds=[0])
    scores = [0.8 + 0.001 * n for n in range(40)]
    runs = {label: [[point(100, 1, *scores)]] for label in arms}
    found = trained(rows(*[0.1] * 40), runs)
    both = replace(found, held_out={"set": found.held_out["set"], "other": found.held_out["set"]})
    for answers in (found.base, *(p.rows for of in runs.values() for p in of[0])):
        cast(dict[str, Any], answers)["other"] = answers["set"]
    family = [d for s in standings_of(study, both, "tokens") for d in s.compared.differences]
    assert len(family) == 2 * 139
    assert all((d.holm_p_value or 1.0) < 0.05 for d in family if d.right == "base")


def test_a_question_that_one_seed_of_one_arm_cannot_be_graded_on_is_left_out_of_all() -> None:
    study = settings({"rcsd": {"rubrics": ["gold", "shuffled"]}}, "rcsd")
    runs = {
        "rcsd": [[point(100, 1, 0.5, 1.0)], [point(100, 1, 0.5, NAN)]],
        "rcsd, shuffled": ends(0.1, 0.9),
    }
    found = standings_of(study, trained(rows(0.0, 0.0), runs), "tokens")
    [standing] = found
    means = {mean.arm: mean.interval.mean for mean in standing.compared.means}
    assert means == {"base": 0.0, "rcsd": 0.5, "rcsd, shuffled": 0.1}
    [said] = sentences(study, found, [])
    assert said.endswith(" Left out: 1 questions, where not every arm could be graded.")


def test_new_templates_are_resampled_as_a_whole_and_known_ones_by_question() -> None:
    study = settings({"rcsd": {}}, "rcsd")
    runs = {"rcsd": ends(0.9, 0.8, 0.1, 0.3)}
    base = rows(0.0, 0.0, 0.0, 0.0)
    [known] = standings_of(study, trained(base, runs), "tokens")
    [new] = standings_of(study, trained(base, runs, templates=["a", "a", "b", "b"]), "tokens")
    assert [s.compared.means[1].interval.n for s in (known, new)] == [4, 2]
    # Two families: no p-value can be below one half.
    assert new.compared.differences[0].p_value == 0.5


# Did headroom tell?


def predicting() -> tuple[Study, dict[str, Any]]:
    arms = {
        "one": {"rubrics": ["gold", "shuffled"]},
        "two": {"run": {"method": {"type": "criterion"}}},
        "then": {"run": {"method": SCHEDULE, "completions_per_example": 2, "steps": 5}},
        "grpo": {"run": GROUPS},
    }
    study = settings(arms, "one")
    given = {
        "base": rows(0.2, 0.4),
        "teachers": {"rubric": rows(0.8, 0.8), "shuffled": rows(0.2, 0.5)},
        "taught_by": {"one": "rubric", "one, shuffled": "shuffled", "two": "rubric"}
        | {"then": "rubric"},
    }
    return study, given


def test_headroom_and_gain_are_paired_differences_to_the_base_and_r_is_pearsons() -> None:
    study, given = predicting()
    runs = {
        "one": [[point(100, 1, 0.6, 0.6)], [point(60, 1, 0.0, 0.0), point(110, 1, 0.8, 0.8)]],
        "one, shuffled": ends(0.2, 0.6),
        "two": ends(0.7, 0.7),
        "then": ends(1.0, 1.0),
        "grpo": ends(1.0, 1.0),
    }
    found = prediction_of(study, trained(runs=runs, **given), "set")
    # Whoever is reinforced too learns what no teacher's headroom can tell.
    assert found.headroom == pytest.approx({"one": 0.5, "one, shuffled": 0.05, "two": 0.5})
    assert found.gain == pytest.approx({"one": 0.4, "one, shuffled": 0.1, "two": 0.4})
    assert found.r == pytest.approx(1.0)
    runs["two"] = ends(0.4, 0.4)
    found = prediction_of(study, trained(runs=runs, **given), "set")
    x, y = np.array([0.5, 0.05, 0.5]), np.array([0.4, 0.1, 0.1])
    dx, dy = x - x.mean(), y - y.mean()
    assert found.r == pytest.approx(dx @ dy / np.sqrt(dx @ dx * (dy @ dy)))


def test_no_correlation_is_told_of_two_arms_or_where_nothing_varies() -> None:
    study, given = predicting()
    same = {label: ends(0.6, 0.6) for label in study.labels}
    assert prediction_of(study, trained(runs=same, **given), "set").r is None
    two = {**given, "taught_by": {"one": "rubric", "one, shuffled": "shuffled"}}
    runs = {**same, "one, shuffled": ends(0.2, 0.2)}
    found = prediction_of(study, trained(runs=runs, **two), "set")
    assert (found.r, len(found.gain)) == (None, 2)


def test_headroom_counts_the_questions_that_are_graded_with_and_without_it() -> None:
    study, given = predicting()
    runs = {label: ends(0.6, NAN) for label in study.labels}
    given["teachers"]["rubric"] = rows(NAN, 0.9)
    found = prediction_of(study, trained(runs=runs, **given), "set")
    assert found.headroom == pytest.approx({"one": 0.5, "one, shuffled": 0.05, "two": 0.5})
    assert found.gain == pytest.approx(dict.fromkeys(found.headroom, 0.4))


@pytest.mark.parametrize("missing", [None, NAN])
def test_sets_without_scores_have_no_prediction(missing: float | None) -> None:
    study, given = predicting()
    given["base"] = rows(missing, missing)
    runs = {label: ends(0.6, 0.6) for label in study.labels}
    found = prediction_of(study, trained(runs=runs, **given), "set")
    assert found == Prediction("set", {}, {}, None)


@pytest.mark.parametrize("against", ["one", "one, shuffled", "two"])
def test_content_is_the_share_of_headroom_that_anothers_rubric_does_not_give(against: str) -> None:
    study, given = predicting()
    study = study.model_copy(update={"against": against})
    runs = {label: ends(0.6, 0.7) for label in study.labels} | {"one, shuffled": ends(0.2, 0.5)}
    given |= {"base": rows(0.2, 0.3)}
    found = trained(runs=runs, **given)
    [content] = contents_of(found, standings_of(study, found, "tokens"), "set")
    assert (content.held_out, content.arm) == ("set", "one")
    # Teachers: 0.8 and 0.8 with the rubric, 0.2 and 0.5 with another's, 0.2 and 0.3 without.
    assert content.sensitivity is not None
    assert content.sensitivity.mean == pytest.approx((0.6 + 0.3) / (0.6 + 0.5))
    assert content.gain.mean == pytest.approx(0.3)
    assert content.gain.low <= 0.3 <= content.gain.high
    given["teachers"]["rubric"] = rows(0.2, 0.3)  # no headroom, no share of it
    found = trained(runs=runs, **given)
    [content] = contents_of(found, standings_of(study, found, "tokens"), "set")
    assert content.sensitivity is None


def test_worked_solutions_are_graded_beside_the_arms() -> None:
    check = Criterion("Boxed.", 1.0, check={"type": "boxed"})
    step = Criterion("Adds.", 3.0, check={"type": "contains", "text": "1 + 1"})
    example = Example("q", "?", "2", "1 + 1 = 2\nAnswer: 2", Rubric((step, check)))
    score, accuracy = (solution_values([example], metric) for metric in ("score", "accuracy"))
    assert score is not None
    assert accuracy is not None
    assert (score.tolist(), accuracy.tolist()) == ([0.75], [1.0])
    assert solution_values([example, replace(example, solution=None)], "score") is None


def test_arms_that_differ_in_what_the_teacher_sees_alone_have_a_correlation_of_their_own() -> None:
    arms = {
        "rcsd": {"rubrics": ["gold", "generic", "shuffled"]},
        "entry": {"run": {"method": {"type": "distill", "clip": {"type": "entry"}}}},
    }
    study = settings(arms, "rcsd")
    runs = {"rcsd": ends(0.8), "rcsd, generic": ends(0.2), "rcsd, shuffled": ends(0.1)}
    runs |= {"entry": ends(0.0)}
    teachers = {"own": rows(0.8), "generic": rows(0.2), "shuffled": rows(0.1)}
    taught_by = dict(zip(runs, ("own", "generic", "shuffled", "own"), strict=True))
    found = prediction_of(study, trained(rows(0.0), runs, teachers, taught_by), "set")
    assert found.alike == ("rcsd", "rcsd, generic", "rcsd, shuffled")
    assert found.r_alike == pytest.approx(1.0)
    assert found.r is not None
    assert found.r < 0.9
    told = sentences(study, [], [found])
    assert "Over the 3 of them that differ in nothing but what the teacher sees: r = 1.00." in told
