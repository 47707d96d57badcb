"""What the probe advises: each rule, and what it says."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcsd.evaluation.statistics import Interval
from rcsd.recipes.probe_numbers import (
    MIN_QUESTIONS,
    TEACHER,
    ContextHeadroom,
    Counts,
    Gain,
    Headroom,
    Leakage,
    Ranking,
    Sensitivity,
)
from rcsd.recipes.probe_verdict import (
    CHANCE,
    MAX_CUT_SHARE,
    MAX_LEAKING_SHARE,
    MIN_SENSITIVITY,
    SOLVED,
    Measured,
    advise,
)

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
        Leakage(64, 0, 0.0),
    )


GOOD = context(TEACHER, interval(0.6))
NONE = context(TEACHER, interval(0.02))
READS = [sensitivity("shuffled", 0.5, 0.8), sensitivity("generic", 0.5, 0.8)]


def test_headroom_that_hangs_on_the_content_says_train_with_its_numbers() -> None:
    found = advise(measured([GOOD], READS))
    assert (found.verdict, found.warnings) == ("train", ())
    assert "Headroom 0.60 [0.55, 0.65] over 64 questions" in found.reasons[0]
    assert "0.80 [0.75, 0.85] of the headroom is lost with shuffled" in found.reasons[1]


def test_headroom_of_a_view_without_rubrics_needs_no_sensitivity() -> None:
    assert advise(measured([GOOD])).verdict == "train"


def test_without_headroom_the_best_other_view_is_named() -> None:
    others = [
        context("answer", interval(0.2)),
        context("solution", interval(0.4)),
        context("rubric+answer", interval(0.9, half=1.0)),  # its interval reaches 0
    ]
    found = advise(measured([NONE, *others], READS))
    assert found.verdict == "use another context"
    assert "set views.teacher=solution" in found.reasons[-1]


def test_a_placebo_is_no_other_context() -> None:
    assert advise(measured([NONE, context("generic", interval(0.5))])).verdict == "don't"


def test_without_any_headroom_do_not() -> None:
    found = advise(measured([NONE, context("answer", interval(0.0))], READS))
    assert found.verdict == "don't"
    assert "its interval has 0" in found.reasons[1]
    assert "sft" in found.reasons[2]
    worse = advise(measured([context(TEACHER, interval(-0.3))]))
    assert "makes answers worse" in worse.reasons[1]


def test_a_model_that_answers_well_already_has_little_to_gain() -> None:
    found = advise(measured([context(TEACHER, interval(0.0), without=SOLVED)]))
    assert found.verdict == "don't"
    assert "already answers well" in found.reasons[-1]


def test_a_model_that_does_not_read_its_rubrics_is_told_to_mend_them() -> None:
    low = [sensitivity("shuffled", 0.2, MIN_SENSITIVITY - 0.06)]
    found = advise(measured([GOOD], low))
    assert found.verdict == "fix the rubrics"
    assert "Only 0.44 [0.39, 0.49] of the headroom is lost" in found.reasons[1]
    unsure = [sensitivity("shuffled", 0.2, MIN_SENSITIVITY - 0.04)]
    assert advise(measured([GOOD], unsure)).verdict == "train"


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
    found = advise(measured([GOOD], [*READS, sensitivity(placebo, 0.04, 0.7)]))
    assert found.verdict == verdict


def test_an_undefined_share_alone_condemns_nothing() -> None:
    undefined = [Sensitivity("shuffled", interval(0.3), None, "may be 0")]
    found = advise(measured([GOOD], undefined))
    assert found.verdict == "train"
    assert len(found.reasons) == 1


@pytest.mark.parametrize("num", [1, MIN_QUESTIONS - 1])
def test_few_questions_support_no_verdict(num: int) -> None:
    found = advise(measured([context(TEACHER, interval(0.9, n=num))], READS))
    assert found.verdict == "cannot tell"
    assert f"view: {num}; a verdict needs {MIN_QUESTIONS}" in found.reasons[0]


def test_without_grades_nothing_can_be_told() -> None:
    given = measured([GOOD])
    ungraded = replace(given, headroom=replace(given.headroom, metric=None), rankings=[])
    found = advise(ungraded)
    assert found.verdict == "cannot tell"
    assert any("no ranking is measured" in warning for warning in found.warnings)


def test_everything_else_is_a_warning_and_leaves_the_verdict() -> None:
    given = measured([GOOD], READS, num_cut=int(64 * MAX_CUT_SHARE) + 1)
    lead = Ranking("shuffled", 99, interval(0.5), interval(0.5), interval(0.0))
    found = advise(
        replace(
            given,
            rankings=[Ranking(TEACHER, 99, interval(CHANCE), interval(0.8)), lead],
            leakage=Leakage(100, 6, MAX_LEAKING_SHARE + 0.01),
        )
    )
    assert found.verdict == "train"
    words = ("than chance", "with shuffled rubrics", "6 of 100", "cut off")
    assert len(found.warnings) == len(words)
    for word, warning in zip(words, found.warnings, strict=True):
        assert word in warning


@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(-1, 1), st.floats(0, 1))
def test_train_is_advised_only_where_headroom_and_content_are_shown(
    gain: float, half: float, gap: float, share: float
) -> None:
    own = context(TEACHER, interval(gain, half))
    content = Sensitivity("shuffled", interval(gap), interval(share), "")
    found = advise(measured([own], [content]))
    shown = gain - half > 0 and gap - 0.05 > 0 and share + 0.05 >= MIN_SENSITIVITY
    assert (found.verdict == "train") == shown
    assert found.reasons
