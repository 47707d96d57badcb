"""Distillation by criterion: at the tokens alone that the failed criteria move."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.methods.test_grpo import (
    WRITER,
    reads_back,
    student_of,
    tree_of,
)
from tests.methods.test_on_policy import distill, found, moved, near
from tests.support.scripted_judge import ScriptedJudge
from tests.support.tiny import tiny_model
from tests.training.test_trainer import settings

from rcsd import config
from rcsd.data.prompts import PromptPair, TeacherPrompts, build_prompts
from rcsd.errors import ConfigError, DataError
from rcsd.graders.code import CodeJudge
from rcsd.methods.base import Batch
from rcsd.methods.criterion import Criterion, refuse_undecidable
from rcsd.methods.on_policy import OnPolicy
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models.memory import microbatch_limit
from rcsd.models.teacher import Teacher
from rcsd.training.trainer import run
from rcsd.types import Criterion as Demand
from rcsd.types import Example, Rubric, ViewName

DEMANDS = (Demand("Says yes.", 3), Demand("Is polite.", 1), Demand("Is rude.", -2))
EXAMPLE = Example("a", "Why?", "360 J", "Since 4 * 90.", Rubric(DEMANDS))
VERDICTS: dict[str, list[bool | None]] = {
    "good": [True, True, False],
    "curt": [True, False, False],
    "rude": [True, True, True],
    "odd": [True, None, None],
    "bad": [False, False, False],
    "worst": [False, False, True],
}
KEPT: dict[str, tuple[Demand, ...]] = {
    "good": DEMANDS,
    "curt": (DEMANDS[0], DEMANDS[2]),
    "rude": DEMANDS[:2],
    "odd": DEMANDS,
    "bad": (),
    "worst": (),
}
LENGTHS = {"good": 4, "curt": 8, "rude": 3, "odd": 7, "bad": 5, "worst": 6}


def teachers_prompt(kept: Sequence[Demand], view: ViewName, less: ViewName) -> tuple[int, ...]:
    """The prompt of the teacher who sees these criteria, made as a run makes it."""
    example = replace(EXAMPLE, rubric=Rubric(tuple(kept)) if kept else None)
    views = config.Views(teacher=view if kept else less)
    return build_prompts([example], views, student_of(["good"], 1).policy.tokenizer, 1000)[0][
        0
    ].teacher_ids


def collected(
    texts: Sequence[str],
    min_nats: float,
    view: ViewName = "rubric",
    student: RolloutWorker | None = None,
    teacher: Teacher | None = None,
    **section: Any,
) -> tuple[OnPolicy, Batch]:
    """All completions are of one example."""
    student = student or student_of(texts, len(texts), [LENGTHS[text] for text in texts])
    made = config.Criterion(min_nats=min_nats)
    prompts = TeacherPrompts(config.Views(teacher=view), student.policy.tokenizer)
    judge = ScriptedJudge(VERDICTS)
    ours = Criterion(made, distill(student, teacher, **section), judge, prompts)
    method = OnPolicy(student, [(1.0, ours)])
    shown = teachers_prompt(DEMANDS, view, view)
    return method, method.collect([PromptPair(EXAMPLE, (5, 6, 7), shown)], 0)


def slow_log_p(
    prompt: Sequence[int], completion: Sequence[int], temperature: float
) -> torch.Tensor:
    """The frozen model's log-probabilities of a completion, with nothing batched or picked."""
    ids = torch.tensor([[*prompt, *completion]])
    with torch.no_grad():
        logits = tiny_model()(ids).logits[0] / temperature
    log_p = logits.log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
    return torch.stack([log_p[t, y] for t, y in zip(places, completion, strict=True)])


LESS: dict[ViewName, ViewName] = {
    "rubric": "none",
    "rubric+answer": "answer",
    "solution+rubric": "solution",
}


# By hand


@pytest.mark.parametrize("view", list(LESS))
@pytest.mark.parametrize("temperature", [1.0, 1.4])
def test_the_mask_is_where_the_failed_criteria_move_the_frozen_teacher(
    view: ViewName, temperature: float
) -> None:
    texts = list(VERDICTS)
    plain = student_of(texts, len(texts), [LENGTHS[text] for text in texts])
    student = replace(plain, decoding=replace(plain.decoding, temperature=temperature))
    teacher = moved(student)  # so the student's own weights would give another mask
    moves: list[list[float]] = []
    for text in texts:
        with_them = teachers_prompt(DEMANDS, view, view)
        without = teachers_prompt(KEPT[text], view, LESS[view])
        assert (without == with_them) == (text in ("good", "odd"))
        ids = range(10, 10 + LENGTHS[text])
        gap = slow_log_p(with_them, ids, temperature) - slow_log_p(without, ids, temperature)
        moves.append(gap.abs().tolist())
    ordered = sorted(move for row in moves for move in row if move > 0)
    # In the widest gap, for the two that failed everything share their first tokens' moves.
    middle = max(range(8, len(ordered) - 8), key=lambda n: ordered[n] - ordered[n - 1])
    min_nats = (ordered[middle - 1] + ordered[middle]) / 2
    assert ordered[middle] - ordered[middle - 1] > 1e-3
    _, batch = collected(texts, min_nats, view, student, teacher)
    masks = [rollout.signals[0] for rollout in batch.rollouts]
    assert masks == [tuple(float(move > min_nats) for move in row) for row in moves]
    chosen = sum(map(sum, masks))
    assert chosen == len(ordered) - middle
    expected = {
        "criterion/chosen_share": chosen / sum(LENGTHS.values()),
        "criterion/nothing_failed_share": 2 / 6,
        "criterion/all_failed_share": 2 / 6,
        "criterion/unscored_share": 2 / 18,
    }
    shown = {k: v for k, v in batch.metrics.items() if k.startswith("criterion/")}
    assert shown == pytest.approx(expected)


@pytest.mark.parametrize("min_nats", [0.0, 0.1])
def test_what_failed_nothing_has_no_gradient_at_all(min_nats: float) -> None:
    method, batch = collected(["good", "odd"], min_nats)
    loss, _, gradient = found(method, batch)
    assert loss == 0
    assert not gradient.any()
    assert batch.metrics["criterion/chosen_share"] == 0
    # Nor beside others, whose longer rows are scored in the same pass.
    _, batch = collected(list(VERDICTS), 0.0)
    taught = [any(rollout.signals[0]) for rollout in batch.rollouts]
    assert taught == [text not in ("good", "odd") for text in VERDICTS]


# Laws


def test_without_a_threshold_failures_are_distilled_as_they_would_be() -> None:
    texts = ["curt", "bad", "worst", "rude"]
    student = student_of(texts, 4, [LENGTHS[text] for text in texts])
    teacher = moved(student)
    method, batch = collected(texts, 0.0, student=student, teacher=teacher)
    assert batch.metrics["criterion/chosen_share"] == 1
    loss, shown, gradient = found(method, batch)
    ours = OnPolicy(student, [(1.0, distill(student, teacher))])
    alone, others, expected = found(ours, replace(batch, rollouts=unmarked(batch)))
    assert loss == pytest.approx(alone, rel=1e-6)
    assert shown == pytest.approx(others, rel=1e-6)
    near(gradient, expected)


def unmarked(batch: Batch) -> list[Any]:
    return [replace(r, signals=(None,)) for r in batch.rollouts]


@hypothesis.settings(max_examples=20)
@given(st.integers(1, 400), st.floats(0, 1))
def test_splitting_changes_neither_mask_nor_gradient(
    max_tokens_per_microbatch: int, nats: float
) -> None:
    texts = ["curt", "good", "bad"]
    whole_method, whole = collected(texts, nats)
    student = replace(
        student_of(texts, 3, [LENGTHS[text] for text in texts]),
        max_tokens_per_microbatch=microbatch_limit(max_tokens_per_microbatch),
    )
    method, split = collected(texts, nats, student=student)
    assert [r.signals for r in split.rollouts] == [r.signals for r in whole.rollouts]
    one, other = found(method, split, max_tokens_per_microbatch), found(whole_method, whole)
    assert one[0] == pytest.approx(other[0], rel=1e-4, abs=1e-7)
    torch.testing.assert_close(one[2], other[2], atol=2e-5, rtol=1e-4)


# What makes no sense


def test_data_of_which_no_criterion_can_be_decided_is_refused(tmp_path: Path) -> None:
    checked = Rubric((DEMANDS[0], Demand("Boxed.", 1, check={"type": "boxed"})))
    refuse_undecidable([EXAMPLE, replace(EXAMPLE, rubric=checked)], CodeJudge())
    with pytest.raises(DataError, match="no criterion has a check"):
        refuse_undecidable([EXAMPLE], CodeJudge())
    with pytest.raises(DataError, match="example 'a' has no rubric"):
        refuse_undecidable([replace(EXAMPLE, rubric=None)], CodeJudge())
    method = {"type": "criterion"}
    generic = {"placebo": "generic"}
    with pytest.raises(DataError, match="no criterion has a check"):
        run(settings(tmp_path, "run", method=method, rubrics=generic))
    assert not (tmp_path / "run").exists()


OPSD = {"type": "criterion", "distill": {"preset": "opsd"}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"views": {"teacher": "solution"}}, "by the rubric that the teacher is shown"),
        ({"views": {"teacher": "none"}}, "by the rubric that the teacher is shown"),
        ({"method": OPSD}, "by the rubric that the teacher is shown"),
        ({"views": WRITER}, "criterion judges answers"),
        ({"views": {"analysis": True}}, "leave views.analysis out"),
        ({"method": {"type": "criterion", "min_nats": -1}}, "method.min_nats: "),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], said: str) -> None:
    parsed = reads_back(tree_of({"type": "criterion"}))
    assert parsed.has_teacher_view
    assert parsed.uses_rubrics
    with pytest.raises(ConfigError, match=said):
        config.parse_config(tree_of({"type": "criterion"}) | changes)
