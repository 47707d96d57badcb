"""Arms compared on held-out sets: accuracies by every rule."""

from collections.abc import Sequence

from rcsd.evaluation.compare import describe_ungraded
from rcsd.graders.grade import Graded, grade_text
from rcsd.recipes.arms import compare_on_sets, describe_rules, differences, estimates
from rcsd.types import Example

EXAMPLES = [Example(f"q{n}", "How far?", "4 m") for n in range(4)]


def answered(*texts: str) -> dict[str, Sequence[Graded]]:
    return {"own": [grade_text(e, text) for e, text in zip(EXAMPLES, texts, strict=True)]}


def test_a_report_has_accuracies_with_ungraded_answers_as_wrong_and_by_number_and_unit():
    arms = {
        "bare": [answered("4", "4", "4", "4 or 5")],
        "named": [answered("4 m", "4 kg", "4 kg", "4 m")],
    }
    compared = compare_on_sets({"own": EXAMPLES}, frozenset(), arms, [("named", "bare")])
    means = {(of.arm, of.metric): of.interval.mean for of in estimates(compared)}
    assert means == {
        ("bare", "accuracy"): 1.0,
        ("named", "accuracy"): 1 / 3,
        ("bare", "accuracy (ungraded as wrong)"): 3 / 4,
        ("named", "accuracy (ungraded as wrong)"): 2 / 4,
    }
    assert [of.metric for of in differences(compared)] == ["accuracy"]
    [moved] = [line for row in compared for line in describe_ungraded(row)]
    [rules] = describe_rules(compared)  # the difference is another, its sign is not
    assert "moves named - bare from \N{MINUS SIGN}0.250" in moved
    assert "bare has more of them, 1, and named 0." in moved
    assert "a number without its unit passes, a wrong unit fails" in rules
    assert "By the number alone: bare 1.00, named 1.00" in rules
    # That "4 or 5" names no unit is certain: by this rule it is wrong, not ungraded.
    assert "with the unit required: bare 0.00, named 0.50" in rules


def test_where_no_unit_is_asked_for_and_nothing_is_ungraded_there_is_one_accuracy():
    examples = [Example("q", "How many?", "4")]
    arms = {"a": [{"own": [grade_text(examples[0], "4")]}]}
    compared = compare_on_sets({"own": examples}, frozenset(), arms, [])
    assert [of.metric for of in estimates(compared)] == ["accuracy"]
    assert describe_rules(compared) == []
