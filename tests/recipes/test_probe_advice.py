"""What the probe advises: each rule, and what it says."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcsd.evaluation.statistics import Interval
from rcsd.recipes.probe.advice import (
    CHANCE,
    MAX_CUT_SHARE,
    MAX_LEAKING_SHARE,
    MIN_COSINE,
    MIN_SENSITIVITY,
    MIN_TEACHER_MASS,
    SOLVED,
    advice_on,
)
from rcsd.recipes.probe.contexts import TEACHER
from rcsd.recipes.probe.gains import (
    MIN_QUESTIONS,
    ContextHeadroom,
    Counts,
    Gain,
    Headroom,
    Sensitivity,
)
from rcsd.recipes.probe.leakage import Leakage
from rcsd.recipes.probe.ranking import Ranking
from rcsd.recipes.probe.results import ClipEffect, Measured, TopKMass

COUNTS = Counts(64, 0, 0, 0, 0)


def interval(mean: float, half: float = 0.05, n: int = 64) -> Interval:
    return Interval(mean, mean - half, mean + half, n)


def context(name: str, gain: Interval, without: float = 0.1) -> ContextHeadroom:
    shown = interval(without + gain.mean)
    found = Gain(interval(without), shown, gain)
    return ContextHeadroom(name, "rubric", COUNTS, found, None, ())


def sensitivity(placebo: str, gap: float, share: float) -> Sensitivity:
    return Sensitivity(placebo, interval(gap), interval(share), "")


def measured(
    contexts: Sequence[ContextHeadroom],
    sensitivities: Sequence[Sensitivity] = (),
    num_cut: int = 0,
) -> Measured:
    """All is well but for what is given."""
    student = replace(COUNTS, num_cut=num_cut)
    headroom = Headroom("score", student, interval(0.1), None, tuple(contexts))
    return Measured(
        headroom,
        sensitivities,
        [Ranking(TEACHER, 99, interval(0.8), interval(0.8))],
        [TopKMass(20, 0.99, 0.9)],
        20,
        [ClipEffect("token", 2.0, False, 0.1, 0.99, 0.9)],
        Leakage(64, 0, 0.0),
    )


GOOD = context(TEACHER, interval(0.6))
NONE = context(TEACHER, interval(0.02))
READS = [sensitivity("shuffled", 0.5, 0.8), sensitivity("generic", 0.5, 0.8)]


def test_headroom_that_hangs_on_the_content_says_train_with_its_numbers() -> None:
    found = advice_on(measured([GOOD], READS))
    assert (found.verdict, found.warnings) == ("train", ())
    assert "headroom 0.60 [0.55, 0.65] over 64 questions" in found.reasons[0]
    assert "0.80 [0.75, 0.85] is lost with shuffled rubrics" in found.reasons[1]


def test_headroom_of_a_view_without_rubrics_needs_no_sensitivity() -> None:
    assert advice_on(measured([GOOD])).verdict == "train"


def test_without_headroom_the_best_other_view_is_named() -> None:
    others = [
        context("answer", interval(0.2)),
        context("solution", interval(0.4)),
        context("rubric+answer", interval(0.9, half=1.0)),  # its interval reaches 0
    ]
    found = advice_on(measured([NONE, *others], READS))
    assert found.verdict == "use another context"
    assert "set views.teacher=solution" in found.reasons[-1]


def test_a_placebo_is_no_other_context() -> None:
    assert advice_on(measured([NONE, context("generic", interval(0.5))])).verdict == "don't"


def test_without_any_headroom_do_not() -> None:
    found = advice_on(measured([NONE, context("answer", interval(0.0))], READS))
    assert found.verdict == "don't"
    assert "none is shown" in found.reasons[1]
    assert "sft" in found.reasons[2]
    worse = advice_on(measured([context(TEACHER, interval(-0.3))]))
    assert "makes answers worse" in worse.reasons[1]


def test_a_model_that_answers_well_already_has_little_to_gain() -> None:
    found = advice_on(measured([context(TEACHER, interval(0.0), without=SOLVED)]))
    assert found.verdict == "don't"
    assert "so well already" in found.reasons[-1]


def test_a_model_that_does_not_read_its_rubrics_is_told_to_mend_them() -> None:
    low = [sensitivity("shuffled", 0.2, MIN_SENSITIVITY - 0.06)]
    found = advice_on(measured([GOOD], low))
    assert found.verdict == "fix the rubrics"
    assert "only 0.44 [0.39, 0.49] is lost" in found.reasons[1]
    unsure = [sensitivity("shuffled", 0.2, MIN_SENSITIVITY - 0.04)]
    assert advice_on(measured([GOOD], unsure)).verdict == "train"


@pytest.mark.parametrize(
    ("placebo", "verdict"),
    [
        ("generic", "fix the rubrics"),
        ("shuffled", "fix the rubrics"),
        ("random", "fix the rubrics"),
        ("reduced", "train"),  # a part of the rubric may do as well as the whole
        ("noisy", "train"),
    ],
)
def test_an_empty_placebo_that_helps_as_much_as_gold_condemns_the_rubrics(
    placebo: str, verdict: str
) -> None:
    found = advice_on(measured([GOOD], [*READS, sensitivity(placebo, 0.04, 0.7)]))
    assert found.verdict == verdict


def test_an_undefined_share_alone_condemns_nothing() -> None:
    undefined = [Sensitivity("shuffled", interval(0.3), None, "may be 0")]
    found = advice_on(measured([GOOD], undefined))
    assert found.verdict == "train"
    assert len(found.reasons) == 1


@pytest.mark.parametrize("num", [1, MIN_QUESTIONS - 1])
def test_few_questions_support_no_verdict(num: int) -> None:
    found = advice_on(measured([context(TEACHER, interval(0.9, n=num))], READS))
    assert found.verdict == "cannot tell"
    assert f"view: {num}; a verdict needs {MIN_QUESTIONS}" in found.reasons[0]


def test_without_grades_nothing_can_be_told() -> None:
    given = measured([GOOD])
    ungraded = replace(given, headroom=replace(given.headroom, metric=None), rankings=[])
    found = advice_on(ungraded)
    assert found.verdict == "cannot tell"
    assert any("cannot be told" in warning for warning in found.warnings)


def test_everything_else_is_a_warning_and_leaves_the_verdict() -> None:
    given = measured([GOOD], READS, num_cut=int(64 * MAX_CUT_SHARE) + 1)
    lead = Ranking("shuffled", 99, interval(0.5), interval(0.5), interval(0.0))
    found = advice_on(
        replace(
            given,
            rankings=[Ranking(TEACHER, 99, interval(CHANCE), interval(0.8)), lead],
            top_k_mass=[TopKMass(5, 0.1, 0.1), TopKMass(20, MIN_TEACHER_MASS - 0.01, 0.5)],
            clips=[
                ClipEffect("token", 2.0, False, 0.1, 0.0, 0.9),
                ClipEffect("entry", 0.05, True, 0.1, MIN_COSINE - 0.01, 0.9),
            ],
            leakage=Leakage(100, 6, MAX_LEAKING_SHARE + 0.01),
        )
    )
    assert found.verdict == "train"
    words = ("than chance", "sees shuffled rubrics", "6 of 100", "cut off", "k = 20", "'entry'")
    assert len(found.warnings) == len(words)
    for word, warning in zip(words, found.warnings, strict=True):
        assert word in warning


@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(-1, 1), st.floats(0, 1))
def test_train_is_advised_only_where_headroom_and_content_are_shown(
    gain: float, half: float, gap: float, share: float
) -> None:
    own = context(TEACHER, interval(gain, half))
    content = Sensitivity("shuffled", interval(gap), interval(share), "")
    found = advice_on(measured([own], [content]))
    shown = gain - half > 0 and gap - 0.05 > 0 and share + 0.05 >= MIN_SENSITIVITY
    assert (found.verdict == "train") == shown
    assert found.reasons
