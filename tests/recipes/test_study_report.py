"""Report of a study, from answers made up by hand: arithmetic and sentences; no model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tests.recipes.test_study_config import study

from rcsd.evaluation.compare import ArmDifference, ArmMean, ArmsCompared, MetricCompared
from rcsd.evaluation.statistics import Interval
from rcsd.graders.grade import Graded
from rcsd.recipes.arms import SetRows
from rcsd.recipes.study import StudyResult, compare, describe
from rcsd.recipes.study_config import BASE, Study
from rcsd.types import Example

NAN = math.nan
GROUPS = {"method": {"type": "grpo", "rewards": [{"type": "answer"}]}, "completions_per_example": 2}


def settings(arms: Mapping[str, Any], against: str, **more: Any) -> Study:
    return study(arms=arms, against=against, seeds=[0, 1], **more)


def rows(*scores: float | None, templates: str = "abcd") -> list[Graded]:
    """Graded completions of questions q0, q1, ... of templates; NaN: a verdict is missing."""
    return [
        Graded(f"q{n}", "", "", 1, True, (), score, None, {"template": template})
        for n, (score, template) in enumerate(zip(scores, templates, strict=False))
    ]


def run(*seeds: Sequence[float | None]) -> list[SetRows]:
    """Ends of a run of each seed."""
    return [{"set": rows(*scores)} for scores in seeds]


def result(
    base: list[Graded], runs: Mapping[str, Sequence[SetRows]], new: bool = False
) -> StudyResult:
    """A finished study of one set, perhaps of new templates."""
    answers, held_out = {BASE: {"set": base}}, {"set": [Example(row.id, "?") for row in base]}
    return StudyResult(answers, {}, runs, {}, held_out, frozenset({"set"} if new else ()))


# Differences


def pairs_of(planned: Study) -> list[tuple[str, str]]:
    found = result(rows(0.1, 0.2), {label: run([0.3, 0.4], [0.3, 0.4]) for label in planned.labels})
    [one] = compare(planned, found)
    return [(d.left, d.right) for d in one.compared.differences]


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


def test_a_question_that_one_seed_of_one_arm_cannot_be_graded_on_is_left_out_of_all() -> None:
    planned = settings({"rcsd": {"rubrics": ["gold", "shuffled"]}}, "rcsd")
    runs = {"rcsd": run([0.5, 1.0], [0.5, NAN]), "rcsd, shuffled": run([0.1, 0.9], [0.1, 0.9])}
    [one] = compare(planned, result(rows(0.0, 0.0), runs))
    means = {mean.arm: mean.interval.mean for mean in one.compared.means}
    assert means == {"base": 0.0, "rcsd": 0.5, "rcsd, shuffled": 0.1}
    [sentence] = describe(planned, [one])
    assert sentence.endswith(" Left out: 1 questions, where not every arm could be graded.")


def test_new_templates_are_resampled_as_a_whole_and_known_ones_by_question() -> None:
    planned = settings({"rcsd": {}}, "rcsd")
    runs = {"rcsd": run([0.9, 0.8, 0.1, 0.3], [0.9, 0.8, 0.1, 0.3])}
    base = rows(0.0, 0.0, 0.0, 0.0, templates="aabb")
    [known] = compare(planned, result(base, runs))
    [new] = compare(planned, result(base, runs, new=True))
    assert [s.compared.means[1].interval.n for s in (known, new)] == [4, 2]
    # Two families: no p-value can be below one half.
    assert new.compared.differences[0].p_value == 0.5


# Sentences


def comparison() -> MetricCompared:
    means = {"base": 0.1, "rcsd": 0.5, "low": 0.2, "near": 0.45, "high": 0.7}
    differences = [
        ArmDifference("rcsd", "base", Interval(0.4, 0.3, 0.5, 9), 0.001, 0.004),
        ArmDifference("low", "base", Interval(0.1, 0.01, 0.2, 9), 0.02, 0.03),
        ArmDifference("rcsd", "low", Interval(0.3, 0.01, 0.5, 9), 0.02, 0.06),
        ArmDifference("rcsd", "near", Interval(0.05, -0.1, 0.2, 9), 0.4, 0.8),
        ArmDifference("rcsd", "high", Interval(-0.2, -0.3, -0.1, 9), 0.002, 0.01),
    ]
    of = tuple(ArmMean(arm, 2, Interval(m, m - 0.05, m + 0.05, 9)) for arm, m in means.items())
    compared = ArmsCompared(of, tuple(differences), 9, 0)
    return MetricCompared("new_numbers", "score", compared)


def test_sentences_name_who_scores_less_who_more_and_who_cannot_be_told_apart() -> None:
    arms = {"rcsd": {}, "low": {}, "near": {}, "high": {}}
    planned = settings(arms, "rcsd", budget={"tokens": 48000})
    assert describe(planned, []) == ["No held-out question was graded in all arms."]
    assert describe(planned, [comparison()]) == [
        "After 48,000 tokens, on new numbers, rcsd scores 0.50 [0.45, 0.55]. More than: base "
        "0.10*; low 0.20. Less than: high 0.70*. Not clearly other than: near 0.45."
    ]
