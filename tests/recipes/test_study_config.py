"""What a study is told: how arms are put together, and what is refused before anything runs."""

from typing import Any

import pytest

from rcsd import config
from rcsd.config.base import parse
from rcsd.errors import ConfigError
from rcsd.recipes.study_config import Study, merged

WORLD = {"type": "world", "num_examples": 3, "split": "new_numbers"}
GROUPS = {"method": {"type": "grpo", "rewards": [{"type": "answer"}]}, "completions_per_example": 2}
WRITER: dict[str, Any] = {
    "data": {"type": "world", "num_examples": 6, "seed": 1},
    "views": {"writes": "rubric", "student": "answer", "teacher": "rubric"},
    "method": {"type": "distill"},
    "optim": {"lr": 1e-3},
    "steps": 1,
}


def tree(**changes: Any) -> dict[str, Any]:
    """A study of two methods, and changes of its sections."""
    return {
        "model": {"path": "some/model", "training": {"type": "full"}},
        "run": {
            "data": {"type": "world", "num_examples": 6},
            "method": {"type": "distill"},
            "sampling": {"max_tokens": 8},
            "optim": {"lr": 1e-3, "warmup_steps": 2},
            "examples_per_step": 3,
        },
        "arms": {"rcsd": {"rubrics": ["gold", "shuffled"]}, "grpo": {"run": GROUPS}},
        "against": "rcsd",
        "evaluation": {"data": {"numbers": WORLD}, "max_tokens": 8, "num_points": 3},
        "budget": {"tokens": 100},
        "out": "runs/study",
    } | changes


def study(**changes: Any) -> Study:
    return parse(Study, tree(**changes), "study.yaml")


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        study(**changes)
    return str(error.value)


# By hand


def test_sections_are_merged_key_by_key_and_typed_ones_are_replaced() -> None:
    shared = {"optim": {"lr": 1, "warmup_steps": 2}, "method": {"type": "a", "x": 1}, "steps": 3}
    changes = {"optim": {"lr": 5}, "method": {"type": "b"}, "views": {"teacher": "answer"}}
    assert merged(shared, changes) == {
        "optim": {"lr": 5, "warmup_steps": 2},
        "method": {"type": "b"},
        "steps": 3,
        "views": {"teacher": "answer"},
    }
    # A type on either side is enough; what is below a merged section follows the same rule.
    assert merged({"a": {"type": "x", "b": 1}}, {"a": {"c": 2}}) == {"a": {"c": 2}}
    assert merged({"a": {"b": 1}}, {"a": {"type": "x"}}) == {"a": {"type": "x"}}


def test_an_arm_is_the_shared_run_with_its_changes_the_budget_and_the_evaluation() -> None:
    found = study()
    rcsd, grpo = found.stage("rcsd"), found.stage("grpo")
    assert (rcsd.method.type, grpo.method.type) == ("distill", "grpo")
    assert (rcsd.completions_per_example, grpo.completions_per_example) == (1, 2)
    assert rcsd.optim == grpo.optim == config.Optim(lr=1e-3, warmup_steps=2)
    assert rcsd.budget == grpo.budget == config.Budget(tokens=100)
    assert rcsd.evaluation is not None
    assert rcsd.evaluation == grpo.evaluation
    assert rcsd.evaluation.every_tokens == 34  # three times 34 is the first to reach 100


def test_a_preset_in_an_arm_fills_what_neither_the_arm_nor_the_shared_run_says() -> None:
    arms = {"rcsd": {}, "opsd": {"run": {"method": {"type": "distill", "preset": "opsd"}}}}
    stage = study(arms=arms).stage("opsd")
    assert stage.views.teacher == "solution"
    assert (stage.sampling.temperature, stage.sampling.max_tokens) == (1.1, 8)
    run = {**tree()["run"], "sampling": {"max_tokens": 8, "temperature": 0.7}}
    said = refusal(arms=arms, run=run)
    assert said.startswith("arms.opsd.run: ")
    assert "the preset opsd has sampling.temperature: 1.1" in said


# Errors


def arm(**changes: Any) -> dict[str, Any]:
    return {"arms": {"rcsd": {"rubrics": ["gold", "shuffled"]}, "other": changes}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"against": "sft"}, "against: no arm 'sft'; there are ['rcsd', 'rcsd, shuffled', 'grpo']"),
        ({"seeds": [1, 1]}, "a seed is listed twice"),
        ({"budget": {"tokens": 9, "seconds": 4}}, "budget.seconds: arms are compared at equal"),
        (arm(rubric=["gold"]), "arms.other.rubric: unknown key; did you mean 'rubrics'"),
        (arm(run={"optim": {"schedule": "cosine"}}), "arms.other.run.optim.schedule: cosine falls"),
        (arm(run={"optim": {"lrr": 1}}), "arms.other.run: optim.lrr: unknown key; did you mean 'l"),
        (arm(run={"budget": {"tokens": 1}}), "arms.other.run: all arms have the study's budget"),
        (arm(run={"data": {"type": "world", "num_examples": 7}}), "arms.other.run.data: "),
        (
            arm(run={"method": {"type": "sft", "view": "rubric"}}),
            "arms.other.run: answers in the view 'rubric' and the first arm in 'none'",
        ),
        (
            arm(run=GROUPS, rubrics=["shuffled"]),
            "arms.other.rubrics: nothing in this arm uses rubrics",
        ),
        (arm(rubrics=["learned"]), "arms.other: learned rubrics need the section writer"),
        (
            {"arms": {"rcsd": {}, "base": {}}},
            "arms.base: reserved for the model that all start from",
        ),
        ({"writer": {**WRITER, "views": {}}}, "set writer.views.writes: rubric"),
    ],
)
def test_a_study_that_cannot_be_run_names_the_arm_and_the_key(
    changes: dict[str, Any], said: str
) -> None:
    assert said in refusal(**changes)
