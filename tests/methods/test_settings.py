"""Configurations of methods: what is refused in words, and what reads back from its record."""

from typing import Any

import pytest
from tests.config.test_presets import tree
from tests.methods.test_grpo import GRPO
from tests.training.test_trainer import Tree

from rcsd import config
from rcsd.errors import ConfigError

DISTILL, SUPPRESS, CRITERION = {"type": "distill"}, {"type": "suppress"}, {"type": "criterion"}
SRPO, ANSWERS = {"type": "srpo", "reward": GRPO}, {"type": "grpo", "rewards": [{"type": "answer"}]}
DIVERGENCE = {"divergence": {"type": "sampled_token"}}
SAMPLED = DISTILL | DIVERGENCE
TWICE, HELD, EMA = {"updates_per_batch": 2}, {"kl_weight": 0.1}, {"teacher": {"type": "ema"}}
WRITER = {"views": {"writes": "rubric", "student": "answer", "teacher": "rubric+answer"}}
MASKED = WRITER | {"sampling": {"grammar": {"type": "rubric"}}}
AHEAD, TOP_K, TOP_P = {"overlap": True}, {"sampling": {"top_k": 9}}, {"sampling": {"top_p": 0.9}}
STALE = {"engine": {"type": "vllm", "stale": {"type": "weight"}}}
ANALYSIS, SINGLE = {"views": {"analysis": True}}, {"completions_per_example": 1}


def sum_of(*terms: Tree) -> Tree:
    return {"type": "sum", "terms": [{"method": term} for term in terms]}


def schedule(*phases: tuple[Tree, int | None]) -> Tree:
    steps = [{"method": method} | ({"steps": num} if num else {}) for method, num in phases]
    return {"type": "schedule", "phases": steps}


def parsed(method: Tree, **changes: Any) -> config.Config:
    """A run's configuration; no model or data is read."""
    settings = {"method": method, "steps": 3, "completions_per_example": 4}
    return config.parse_config(tree(**settings | changes))


@pytest.mark.parametrize(
    ("method", "changes", "said"),
    [
        (GRPO, SINGLE, "2 or more"),
        (GRPO, ANALYSIS, "leave views.analysis"),
        (GRPO, EMA, "leave views.analysis and teacher out"),
        ({"type": "grpo", "rewards": ANSWERS["rewards"] * 2}, {}, "stands there twice"),
        (CRITERION, {"views": {"teacher": "solution"}}, "by the rubric that the teacher is shown"),
        (CRITERION | {"distill": {"preset": "opsd"}}, {}, "by the rubric that the teacher is"),
        (CRITERION, WRITER, "criterion judges answers"),
        (CRITERION, ANALYSIS, "leave views.analysis out"),
        (SRPO, SINGLE, "srpo compares the completions"),
        (SRPO, WRITER, "srpo rewards answers"),
        ({"type": "srpo", "reward": GRPO | HELD}, EMA, "kl_weight holds"),
        ({"type": "srpo", "reward": GRPO, "distill": DIVERGENCE}, {}, "srpo picks tokens by what"),
        ({"type": "srpo", "reward": GRPO | HELD}, TOP_P, "kl_weight needs the student's own"),
        (sum_of(DISTILL, GRPO | HELD), TOP_K, "kl_weight needs the student's own samples"),
        (DISTILL, STALE | TOP_K, "engine.stale: weight needs probabilities of all tokens"),
        (DISTILL, STALE | MASKED, "engine.stale: weight needs probabilities of all tokens"),
        (CRITERION | {"distill": SAMPLED}, {}, "criterion picks tokens by what was sampled"),
        (sum_of(DISTILL, {"type": "srpo"}), {}, "does not match any of the expected tags"),
        (sum_of(SAMPLED, GRPO | TWICE), {}, "sampled_token needs fresh samples"),
        (sum_of(SUPPRESS, GRPO | TWICE), {}, "suppress needs fresh samples"),
        (sum_of(DISTILL, GRPO | HELD), EMA, "kl_weight holds"),
        (sum_of(DISTILL, GRPO), WRITER, "grpo rewards answers"),
        (sum_of(DISTILL, SUPPRESS), MASKED, "suppress needs samples of the student itself"),
        (sum_of(DISTILL, GRPO), SINGLE, "^config: Value error, grpo compares the completions"),
        (schedule((DISTILL, None), (DISTILL, None)), {}, "every phase but the last needs its"),
        (schedule((DISTILL, 1), (DISTILL, 1)), {}, "leave its steps out"),
        (schedule((DISTILL, 3), (DISTILL, None)), {}, "take 3 steps of 3, so the last one never"),
        (schedule(({"type": "schedule"}, 1), (DISTILL, None)), {}, "does not match any"),
        (schedule((DISTILL, 1), (GRPO, None)), SINGLE, "grpo compares the completions"),
        (schedule((SUPPRESS, 1), (GRPO, None)), EMA, "schedule has no teacher's view"),
        (SAMPLED, TOP_K, "leave sampling.top_p and top_k out"),
        (SAMPLED, {"sampling": {"temperature": 1.2}}, "method 1, sampling.temperature 1.2"),
        (SAMPLED | {"temperature": 2}, {}, "method 2, sampling.temperature 1;"),
        (SAMPLED, AHEAD, "overlap: sampled_token needs fresh samples"),
        (SUPPRESS, AHEAD, "overlap: suppress needs fresh samples"),
        (GRPO, AHEAD, "overlap: grpo needs fresh samples"),
        (SRPO, AHEAD, "overlap: srpo needs fresh samples"),
        (sum_of(DISTILL, GRPO), AHEAD, "overlap: grpo needs fresh samples"),
        (schedule((DISTILL, 1), (SUPPRESS, None)), AHEAD, "overlap: suppress needs fresh samples"),
        ({"type": "sft"}, AHEAD | SINGLE, "overlap: sft learns from no samples"),
        (DISTILL, AHEAD | {"engine": {"type": "hf"}}, "overlap: engine hf draws from the process"),
    ],
)
def test_settings_that_make_no_sense_are_refused(method: Tree, changes: Tree, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parsed(method, **changes)


@pytest.mark.parametrize(
    ("method", "has_view", "uses_rubrics"),
    [
        (GRPO, False, True),
        (ANSWERS, False, False),
        (CRITERION, True, True),
        (SRPO, True, True),
        (sum_of(SAMPLED, SUPPRESS), True, True),
        (sum_of(DISTILL, GRPO | HELD), True, True),
        (schedule((DISTILL, 2), (GRPO, None)), True, True),
        (schedule((SUPPRESS, 1), (GRPO, None)), False, True),
    ],
)
def test_a_configuration_reads_back(method: Tree, has_view: bool, uses_rubrics: bool) -> None:
    found = parsed(method)
    assert config.parse_config(found.model_dump(mode="json")) == found
    assert (found.has_teacher_view, found.uses_rubrics) == (has_view, uses_rubrics)
    assert found.teacher.type == "frozen"
