"""Arms against each other: by hand, laws, and what is refused."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rcsd.errors import DataError
from rcsd.evaluation.bounds import question_values
from rcsd.evaluation.compare import (
    ArmDifference,
    ArmsCompared,
    GradedSet,
    MetricCompared,
    compare_arms,
    compare_sets,
    criterion_verdicts,
    describe_ungraded,
    metric_names,
)
from rcsd.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    paired_difference,
    permutation_p_value,
)
from rcsd.graders.grade import Graded
from rcsd.types import Criterion, Example, Rubric


def row(
    id: str,
    score: float | None = None,
    right: bool | None = None,
    verdicts: Sequence[bool | None] = (),
    **tags: str,
) -> Graded:
    return Graded(id, f"{id}?", "text", 4, True, tuple(verdicts), score, right, tags)


def scored(*scores: float | None) -> list[Graded]:
    """A row for each score, of the questions q0, q1, ...; the first two are of one template."""
    return [row(f"q{n}", s, template="ab"[n > 1]) for n, s in enumerate(scores)]


def example(id: str, *criteria: Criterion, answer: str | None = "4") -> Example:
    return Example(id, f"{id}?", answer, None, Rubric(criteria) if criteria else None)


def describe(metric: MetricCompared) -> list[str]:
    return list(describe_ungraded(metric))


SAYS, SHOWS = Criterion("Says 4.", 2, "value"), Criterion("Shows it.", 1, "working")
GUESSES, BARE = Criterion("Guesses.", -1, "guess"), Criterion("Is short.", 1)

# By hand


def test_a_question_has_the_mean_of_its_completions():
    rows = [row("a", 0.5, True), row("a", 1.0, False), row("b", 0.0, True), row("b", 0.0, True)]
    assert question_values(rows, "score_avg@2") == {"a": 0.75, "b": 0.0}
    assert question_values(rows, "accuracy_avg@2") == {"a": 0.5, "b": 1.0}
    assert question_values(scored(0.25, 1), "score") == {"q0": 0.25, "q1": 1.0}


@pytest.mark.parametrize("metric", ["accuracy_avg@2", "pass@2"])
def test_a_question_with_an_ungraded_completion_has_no_value(metric: str):
    rows = [row("a", right=True), row("a"), row("b", right=False), row("b", right=False)]
    values = question_values(rows, metric)
    assert math.isnan(values["a"])
    assert values["b"] == 0


def test_arms_of_one_seed_are_compared_question_by_question():
    base, trained = scored(0, 0.5, 0.25, 0, 1), scored(1, 0.5, 0.75, 0.5, 1)
    found = compare_arms({"base": [base], "new": [trained]}, "score", [("new", "base")], seed=3)
    a, b = [1, 0.5, 0.75, 0.5, 1], [0, 0.5, 0.25, 0, 1]
    assert [mean.arm for mean in found.means] == ["base", "new"]
    assert [mean.interval for mean in found.means] == [
        bootstrap_interval(b, seed=3),
        bootstrap_interval(a, seed=3),
    ]
    [difference] = found.differences
    assert (difference.left, difference.right) == ("new", "base")
    assert difference.interval == paired_difference(a, b, seed=3)
    assert difference.interval.mean == 0.4
    # Differences 1, 0, 1/2, 1/2, 0: of 8 patterns of signs of the three, 2 are as extreme.
    assert difference.p_value == permutation_p_value(a, b, seed=3) == pytest.approx(2 / 8)
    assert (found.num_compared, found.num_left_out) == (5, 0)


def test_seeds_of_an_arm_are_resampled_and_the_base_stands_beside_each():
    arms = {"base": [scored(0, 0)], "new": [scored(0.5, 1), scored(1, 1)]}
    found = compare_arms(arms, "score", [("new", "base")])
    assert [mean.num_seeds for mean in found.means] == [1, 2]
    assert found.means[1].interval == bootstrap_interval([[0.5, 1], [1, 1]])
    [difference] = found.differences
    assert difference.interval == bootstrap_interval([[0.5, 1], [1, 1]])
    assert difference.p_value == 2 / 4  # two questions, however many seeds


def test_a_question_that_one_arm_cannot_be_graded_on_is_left_out_of_all():
    arms = {"a": [scored(0, 1, math.nan), scored(0, 1, 1)], "b": [scored(None, 1, 1)]}
    found = compare_arms(arms, "score", [("a", "b")])
    assert (found.num_compared, found.num_left_out) == (1, 2)
    assert [mean.interval.mean for mean in found.means] == [1, 1]
    none = compare_arms({"a": [scored(None, 1)], "b": [scored(1, None)]}, "score", [("a", "b")])
    assert (none.means, none.differences, none.num_left_out) == ((), (), 2)


def test_questions_are_resampled_by_their_tag():
    arms = {"a": [scored(0, 0, 1, 1)], "b": [scored(1, 1, 1, 1)]}
    found = compare_arms(arms, "score", [("b", "a")], cluster_by="template")
    assert found.means[0].interval == Interval(0.5, 0.0, 1.0, 2)
    assert found.differences[0].interval == Interval(0.5, 0.0, 1.0, 2)
    assert found.differences[0].p_value == 1.0  # one family differs: its sign tells nothing


def test_verdicts_are_sorted_into_kinds_of_criteria():
    examples = [example("a", SAYS, GUESSES, BARE), example("b"), example("c", SHOWS, SAYS)]
    arms = {
        "x": [[row("a", verdicts=(True, False, True)), row("b"), row("c", verdicts=(None, False))]],
        "y": [[row("a", verdicts=(True, True, True)), row("b"), row("c", verdicts=(True, True))]],
    }
    found = criterion_verdicts(arms, examples)
    assert list(found) == [(False, ""), (False, "value"), (False, "working"), (True, "guess")]
    value = found[False, "value"]
    assert value.places == [0, 2]
    assert value.values["x"].tolist() == [[1, 0]]
    assert value.values["y"].tolist() == [[1, 1]]
    assert np.isnan(found[False, "working"].values["x"]).all()
    samples = [row("a", verdicts=(met,)) for met in (True, False, True, True)]
    found = criterion_verdicts({"x": [samples]}, [example("a", SAYS)])
    assert found[False, "value"].values["x"].tolist() == [[0.75]]


def test_a_set_has_the_metrics_that_its_examples_allow():
    both, answer, rubric = example("a", SAYS), example("a"), example("a", SAYS, answer=None)
    assert metric_names([both], True, 0) == ["score", "accuracy"]
    assert metric_names([both], True, 5) == [
        *("score", "accuracy", "score_avg@5", "accuracy_avg@5"),
        *("pass@1", "pass@2", "pass@4"),
    ]
    assert metric_names([answer], False, 1) == ["accuracy_avg@1", "pass@1"]
    assert metric_names([rubric], True, 2) == ["score", "score_avg@2"]


def answered(name: str = "own", num_samples: int = 0, **arms: Any) -> GradedSet:
    """Rows of (score, right, verdicts) by arm, one seed each, of criteria SAYS and BARE."""
    rows = {
        arm: [[row(f"q{n}", *values) for n, values in enumerate(of)]] for arm, of in arms.items()
    }
    questions = len(next(iter(arms.values())))
    sampled = {
        arm: [[one for one in seed for _ in range(num_samples)] for seed in seeds]
        for arm, seeds in rows.items()
    }
    examples = [example(f"q{n}", SAYS, BARE) for n in range(questions)]
    return GradedSet(name, examples, rows, sampled if num_samples else {})


GOOD, BAD = (1.0, True, (True, True)), (0.0, False, (False, False))


def test_all_metrics_of_all_sets_are_one_family_and_all_criteria_another():
    sets = [answered("one", a=[BAD] * 4, b=[GOOD] * 4), answered("two", a=[BAD] * 5, b=[GOOD] * 5)]
    found = compare_sets(sets, [("b", "a")])
    keys = [(of.set, of.metric) for of in found.metrics]
    assert keys == [("one", "score"), ("one", "accuracy"), ("two", "score"), ("two", "accuracy")]
    # p = 2/16, 2/16, 2/32, 2/32: times 2, 1 (raised to what came before) and times 4, 3.
    differences = [of.compared.differences[0] for of in found.metrics]
    assert [of.p_value for of in differences] == [2 / 16, 2 / 16, 2 / 32, 2 / 32]
    assert [of.holm_p_value for of in differences] == [0.25, 0.25, 0.25, 0.25]
    criteria = [of.compared.differences[0] for of in found.criteria]
    assert [(of.p_value, of.holm_p_value) for of in criteria] == [
        (2 / 16, 2 / 16),
        (2 / 32, 4 / 32),
    ]
    assert found.num_untitled == {"one": 4, "two": 5}


def test_pass_at_k_is_compared_only_where_it_is_asked_for():
    sets = [answered(num_samples=2, a=[BAD, GOOD], b=[GOOD, GOOD])]
    names = ["score", "accuracy", "score_avg@2", "accuracy_avg@2"]
    assert [of.metric for of in compare_sets(sets, []).metrics] == names
    [found] = compare_sets(sets, [("b", "a")], ["pass@2"]).metrics
    assert found.compared.differences[0].interval.mean == 0.5
    with pytest.raises(DataError, match="'f1'; there are score, accuracy"):
        compare_sets(sets, [], ["f1"])


# Rules


def right(*verdicts: bool | None) -> list[tuple[float, bool | None, tuple[bool, bool]]]:
    return [(1.0, verdict, (True, True)) for verdict in verdicts]


def test_a_difference_by_answers_left_out_is_told_and_whose_they_are():
    hedges = [True] * 4 + [None] * 6
    sets = [answered(a=right(*[True] * 4, *[False] * 6), b=right(*hedges))]
    [metric] = [of for of in compare_sets(sets, [("b", "a")]).metrics if of.metric == "accuracy"]
    assert [of.mean for of in (d.interval for d in metric.compared.differences)] == [0]
    assert describe(metric) == []  # 0.4 of either arm, and 1 of either
    sets = [answered(a=right(*[True] * 4, *[False] * 6), b=right(*[True] * 8, *[None] * 2))]
    [metric] = [of for of in compare_sets(sets, [("b", "a")]).metrics if of.metric == "accuracy"]
    by_rule = metric.by_rule["ungraded as wrong"]
    assert [of.interval.mean for of in by_rule.means] == [0.4, 0.8]
    assert list(metric.rows()) == ["accuracy", "accuracy (ungraded as wrong)"]
    [sentence] = describe(metric)
    assert sentence.startswith(
        "own, accuracy: leaving ungraded answers out moves b - a from +0.400"
    )
    assert "where they are wrong, to +0.500" in sentence
    assert sentence.endswith("; b has more of them, 2, and a 0.")


@pytest.mark.parametrize(
    ("graded", "as_wrong", "is_told"),
    [
        ((0.10, 0.05, 0.15), (0.10, 0.05, 0.15), False),
        ((0.10, 0.05, 0.15), (0.109, 0.05, 0.15), False),
        ((0.10, 0.05, 0.15), (0.111, 0.05, 0.15), True),
        ((0.004, -0.1, 0.1), (-0.004, -0.1, 0.1), True),
        ((0.05, 0.001, 0.1), (0.05, -0.001, 0.1), True),
        ((-0.05, -0.1, 0.001), (-0.05, -0.1, -0.001), True),
    ],
)
def test_a_difference_is_moved_by_its_sign_its_interval_or_a_hundredth(
    graded: tuple[float, float, float], as_wrong: tuple[float, float, float], is_told: bool
):
    compared, counted = (
        ArmsCompared((), (ArmDifference("a", "b", Interval(*of, 9), 1.0),), 9, 0)
        for of in (graded, as_wrong)
    )
    row = MetricCompared("own", "accuracy", compared, (), {"ungraded as wrong": counted})
    assert bool(describe(row)) is is_told


def test_other_rules_are_in_no_family_of_p_values():
    found = compare_sets([answered(a=[BAD] * 4, b=[GOOD] * 4)], [("b", "a")])
    accuracy = found.metrics[1]
    [difference] = accuracy.by_rule["ungraded as wrong"].differences
    assert difference.holm_p_value is None
    assert list(accuracy.rows()) == ["accuracy"]  # nothing is ungraded
    [row] = [row for row in found.json()["metrics"] if row["metric"] == "accuracy"]
    assert row["by_rule"]["ungraded as wrong"]["means"][0]["mean"] == 0.0


# Errors


def test_other_questions_and_tags_that_a_question_lacks_are_refused():
    for other in (scored(1), [*reversed(scored(1, 1))]):
        with pytest.raises(ValueError, match="'b' has other questions, or another order"):
            compare_arms({"a": [scored(1, 1)], "b": [other]}, "score")
    with pytest.raises(DataError, match=r"tags\.topic.*example 'q0'.*it has template"):
        compare_arms({"a": [scored(1)]}, "score", cluster_by="topic")


def test_arms_with_several_seeds_each_need_as_many():
    arms = {"a": [scored(1)] * 2, "b": [scored(1)] * 3, "c": [scored(1)]}
    one = GradedSet("own", [example("q0")], arms, {})
    with pytest.raises(DataError, match="'b' has 3 seeds and 'a' 2"):
        compare_sets([one], [("b", "a")])
    assert compare_sets([one], [("b", "c"), ("a", "c")]).metrics
