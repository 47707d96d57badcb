"""Schedules: methods one after the other in one run."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.methods.test_grpo import GRPO, reads_back, simple_rows, tree_of
from tests.training.test_trainer import FULL, LORA, check_resumes_exactly, settings, trajectory

from rcsd import config
from rcsd.data.prompts import PromptPair
from rcsd.errors import ConfigError
from rcsd.training.batches import ShuffledBatches
from rcsd.training.trainer import run
from rcsd.types import Example


def phases(*, first_steps: int = 2) -> dict[str, Any]:
    """Distillation, then reward with groups of four, then a sum with the run's own sizes."""
    sums = {"type": "sum", "terms": [{"method": {"type": "distill"}}, {"method": GRPO}]}
    return {
        "type": "schedule",
        "phases": [
            {"method": {"type": "distill"}, "steps": first_steps, "completions_per_example": 1},
            {"method": GRPO, "steps": 2, "examples_per_step": 2, "completions_per_example": 4},
            {"method": sums},
        ],
    }


# By hand


def test_each_phase_has_its_method_its_examples_and_its_completions(tmp_path: Path) -> None:
    changes = {"data": simple_rows(tmp_path), "method": phases(), "completions_per_example": 2}
    folder = run(settings(tmp_path, "run", **changes))
    rows = folder.completions()
    by_step = [Counter(row["id"] for row in rows if row["step"] == n) for n in range(1, 6)]
    assert [(len(ids), set(ids.values())) for ids in by_step] == [
        (4, {1}),
        (4, {1}),
        (2, {4}),
        (2, {4}),
        (4, {2}),
    ]
    # Eight examples: the first two phases take each of them once, the next step begins anew.
    assert set(by_step[0]) | set(by_step[1]) == {row["id"] for row in rows}
    assert not set(by_step[2]) & set(by_step[3])
    shown = [
        ("loss/divergence_nats_mean" in row, "loss/policy_mean" in row) for row in folder.metrics()
    ]
    assert shown == [(True, False)] * 2 + [(False, True)] * 2 + [(True, True)]
    assert ["reward" in row for row in rows] == [False] * 8 + [True] * 24


@pytest.mark.parametrize(
    ("training", "teacher"), [(LORA, "ema"), pytest.param(FULL, "frozen", marks=pytest.mark.slow)]
)
def test_a_run_killed_in_its_second_phase_and_resumed_equals_an_unbroken_one(
    tmp_path: Path, training: dict[str, Any], teacher: str
) -> None:
    changes = {
        "model": {"path": str(tmp_path / "model"), "training": training},
        "data": simple_rows(tmp_path),
        "method": phases(first_steps=1),
        "completions_per_example": 2,
        "teacher": {"type": teacher},
    }
    check_resumes_exactly(tmp_path, **changes)


def test_a_phase_learns_what_a_run_of_its_method_learns(tmp_path: Path) -> None:
    changes = {"data": simple_rows(tmp_path), "steps": 2}
    method = {
        "type": "schedule",
        "phases": [{"method": {"type": "distill"}, "steps": 1}, {"method": {"type": "suppress"}}],
    }
    rows = trajectory(run(settings(tmp_path, "both", method=method, **changes)))
    alone = trajectory(run(settings(tmp_path, "alone", method={"type": "distill"}, **changes)))
    assert rows[0] == alone[0]
    assert "suppress/chosen_share" in rows[1]


# Laws


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(1, 9), st.integers(0, 3))
def test_each_example_is_taken_once_an_epoch_whatever_the_steps_sizes(
    per_step: list[int], num_examples: int, seed: int
) -> None:
    prompts = [PromptPair(Example(str(n), "?"), (n,), (n,)) for n in range(num_examples)]
    stream = ShuffledBatches(prompts, per_step, seed)
    steps = [stream.take(step) for step in range(len(per_step))]
    assert [len(taken) for taken in steps] == per_step
    flat = [prompt.student_ids[0] for taken in steps for prompt in taken]
    for start in range(0, len(flat), num_examples):
        epoch = flat[start : start + num_examples]
        assert len(set(epoch)) == len(epoch)
    assert stream.used(len(per_step)) == sorted(set(flat))
    again = ShuffledBatches(prompts, per_step, seed)
    assert again.take(len(per_step) - 1) == steps[-1]


# What makes no sense


def of(*phases: dict[str, Any], **more: Any) -> dict[str, Any]:
    defaults = {"completions_per_example": 1}
    return tree_of({"type": "schedule", "phases": list(phases)}, **(defaults | more))


DISTILL = {"method": {"type": "distill"}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([DISTILL], "at least 2 items"),
        ([DISTILL, DISTILL], "every phase but the last needs its steps"),
        ([DISTILL | {"steps": 1}, DISTILL | {"steps": 1}], "leave its steps out"),
        ([DISTILL | {"steps": 0}, DISTILL], r"method\.phases\.0\.steps: "),
        ([DISTILL | {"steps": 3}, DISTILL], "take 3 steps of 3, so the last one never begins"),
        ([DISTILL | {"steps": 2}] * 2 + [DISTILL], "take 4 steps of 3"),
        ([{"method": {"type": "sft"}, "steps": 1}, DISTILL], "does not match any"),
        ([{"method": {"type": "schedule"}, "steps": 1}, DISTILL], "does not match any"),
        ([DISTILL | {"steps": 1}, {"method": GRPO}], "grpo compares the completions"),
        ([DISTILL | {"steps": 1}, {"method": GRPO | {"clip_low": 2}}], r"1\.method\.clip_low: "),
    ],
)
def test_schedules_that_make_no_sense_are_refused(given: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.parse_config(of(*given))


def test_a_schedule_reads_back_from_its_record() -> None:
    group = {"method": GRPO, "completions_per_example": 4}
    assert reads_back(of(DISTILL | {"steps": 2}, group)).has_teacher_view
    suppressed = {"method": {"type": "suppress"}, "steps": 1}
    assert not config.parse_config(of(suppressed, group)).has_teacher_view
    with pytest.raises(ConfigError, match="schedule has no teacher's view"):
        config.parse_config(of(suppressed, group, teacher={"type": "ema"}))
