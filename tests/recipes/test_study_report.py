"""Report of a study, from answers made up by hand: arithmetic and sentences; no model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.recipes.test_study_config import study

from rcsd.evaluation.compare import ArmDifference, ArmMean, ArmsCompared
from rcsd.evaluation.statistics import Interval
from rcsd.graders.grade import Graded
from rcsd.recipes.arms import ArmComparison, SetRows
from rcsd.recipes.study import (
    StudyResult,
    compare,
    describe,
    solution_rows,
)
from rcsd.recipes.study_config import BASE, Study
from rcsd.types import Criterion, Example, Rubric

NAN = math.nan
GROUPS = {"method": {"type": "grpo", "rewards": [{"type": "answer"}]}, "completions_per_example": 2}


def settings(arms: Mapping[str, Any], against: str, **more: Any) -> Study:
    return study(arms=arms, against=against, seeds=[0, 1], **more)


def rows(*scores: float | None) -> list[Graded]:
    """Graded completions of questions q0, q1, ...; NaN: a verdict is missing."""
    return [Graded(f"q{n}", "", "", 1, True, (), s, None) for n, s in enumerate(scores)]


def run(*seeds: Sequence[float | None]) -> list[SetRows]:
    """Ends of a run of each seed."""
    return [{"set": rows(*scores)} for scores in seeds]


def result(
    base: list[Graded],
    runs: Mapping[str, Sequence[SetRows]],
    teachers: Mapping[str, list[Graded]] | None = None,
    taught_by: Mapping[str, str] | None = None,
    templates: Sequence[str] = (),
) -> StudyResult:
    """A finished study of one set, whose questions are of these templates."""
    tags = templates or [f"t{n}" for n in range(len(base))]
    examples = [Example(f"q{n}", "?", tags={"template": tag}) for n, tag in enumerate(tags)]
    return StudyResult(
        {BASE: {"set": base}} | {name: {"set": of} for name, of in (teachers or {}).items()},
        taught_by or {},
        runs,
        {},
        {"set": examples},
        frozenset({"set"} if templates else ()),
    )


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
    runs = {
        "rcsd": run([0.5, 1.0], [0.5, NAN]),
        "rcsd, shuffled": run([0.1, 0.9], [0.1, 0.9]),
    }
    [one] = compare(planned, result(rows(0.0, 0.0), runs))
    means = {mean.arm: mean.interval.mean for mean in one.compared.means}
    assert means == {"base": 0.0, "rcsd": 0.5, "rcsd, shuffled": 0.1}
    [sentence] = describe(planned, [one])
    assert sentence.endswith(" Left out: 1 questions, where not every arm could be graded.")


def test_new_templates_are_resampled_as_a_whole_and_known_ones_by_question() -> None:
    planned = settings({"rcsd": {}}, "rcsd")
    runs = {"rcsd": run([0.9, 0.8, 0.1, 0.3], [0.9, 0.8, 0.1, 0.3])}
    base = rows(0.0, 0.0, 0.0, 0.0)
    [known] = compare(planned, result(base, runs))
    [new] = compare(planned, result(base, runs, templates=["a", "a", "b", "b"]))
    assert [s.compared.means[1].interval.n for s in (known, new)] == [4, 2]
    # Two families: no p-value can be below one half.
    assert new.compared.differences[0].p_value == 0.5


def test_worked_solutions_are_graded_beside_the_arms() -> None:
    check = Criterion("Boxed.", 1.0, check={"type": "boxed"})
    step = Criterion("Adds.", 3.0, check={"type": "contains", "text": "1 + 1"})
    example = Example("q", "?", "2", "1 + 1 = 2\nAnswer: 2", Rubric((step, check)))
    rows = solution_rows({"all": [example], "some": [example, replace(example, solution=None)]})
    assert [(row.score, row.right) for row in rows["all"]] == [(0.75, True)]
    assert "some" not in rows


# Sentences


def comparison() -> ArmComparison:
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
    return ArmComparison("new_numbers", "score", compared)


def test_sentences_name_who_scores_less_who_more_and_who_cannot_be_told_apart() -> None:
    arms = {"rcsd": {}, "low": {}, "near": {}, "high": {}}
    planned = settings(arms, "rcsd", budget={"tokens": 48000})
    assert describe(planned, [comparison()]) == [
        "After 48,000 tokens, on new numbers, rcsd scores 0.50 [0.45, 0.55]. More than: base "
        "0.10*; low 0.20. Less than: high 0.70*. Not clearly other than: near 0.45.",
    ]
