"""Schedules: methods one after the other in one run."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.methods.test_grpo import GRPO, simple_rows
from tests.training.test_trainer import (
    FULL,
    LORA,
    check_resumes_exactly,
    settings,
    slow,
    trajectory,
)

from rcsd.data.prompts import PromptPair
from rcsd.training.batches import ShuffledBatches
from rcsd.training.trainer import run
from rcsd.types import Example


def phases(*, first_steps: int = 2) -> dict[str, Any]:
    """Distillation, then reward with groups of four, then a sum with the run's own sizes."""
    sums = {"type": "sum", "terms": [{"method": {"type": "distill"}}, {"method": GRPO}]}
    first = {"method": {"type": "distill"}, "steps": first_steps, "completions_per_example": 1}
    second = {"method": GRPO, "steps": 2, "examples_per_step": 2, "completions_per_example": 4}
    return {"type": "schedule", "phases": [first, second, {"method": sums}]}


def test_each_phase_has_its_method_its_examples_and_its_completions(tmp_path: Path) -> None:
    changes = {"data": simple_rows(tmp_path), "method": phases(), "completions_per_example": 2}
    folder = run(settings(tmp_path, "run", **changes))
    rows = folder.completions()
    by_step = [Counter(row["id"] for row in rows if row["step"] == n) for n in range(1, 6)]
    sizes = [(len(ids), set(ids.values())) for ids in by_step]
    assert sizes == [(4, {1})] * 2 + [(2, {4})] * 2 + [(4, {2})]
    # Eight examples: the first two phases take each of them once, the next step begins anew.
    assert set(by_step[0]) | set(by_step[1]) == {row["id"] for row in rows}
    assert not set(by_step[2]) & set(by_step[3])
    names = "loss/divergence_nats_mean", "loss/policy_mean"
    shown = [tuple(name in row for name in names) for row in folder.metrics()]
    assert shown == [(True, False)] * 2 + [(False, True)] * 2 + [(True, True)]
    assert ["reward" in row for row in rows] == [False] * 8 + [True] * 24


@pytest.mark.parametrize(("training", "teacher"), [(LORA, "ema"), slow(FULL, "frozen")])
def test_a_resumed_second_phase_is_unbroken(tmp_path: Path, training: Any, teacher: str) -> None:
    model = {"path": str(tmp_path / "model"), "training": training}
    changes = {"data": simple_rows(tmp_path), "model": model, "method": phases(first_steps=1)}
    changes |= {"completions_per_example": 2, "teacher": {"type": teacher}}
    check_resumes_exactly(tmp_path, **changes)


def test_a_phase_learns_what_a_run_of_its_method_learns(tmp_path: Path) -> None:
    changes, distill = {"data": simple_rows(tmp_path), "steps": 2}, {"type": "distill"}
    phases = [{"method": distill, "steps": 1}, {"method": {"type": "suppress"}}]
    method = {"type": "schedule", "phases": phases}
    rows = trajectory(run(settings(tmp_path, "both", method=method, **changes)))
    alone = trajectory(run(settings(tmp_path, "alone", method=distill, **changes)))
    assert rows[0] == alone[0]
    assert "suppress/chosen_share" in rows[1]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(1, 9), st.integers(0, 3))
def test_each_example_is_taken_once_an_epoch(per_step: list[int], num: int, seed: int) -> None:
    prompts = [PromptPair(Example(str(n), "?"), (n,), (n,)) for n in range(num)]
    stream = ShuffledBatches(prompts, per_step, seed)
    steps = [stream.take(step) for step in range(len(per_step))]
    assert [len(taken) for taken in steps] == per_step
    flat = [prompt.student_ids[0] for taken in steps for prompt in taken]
    for start in range(0, len(flat), num):
        epoch = flat[start : start + num]
        assert len(set(epoch)) == len(epoch)
    assert stream.used(len(per_step)) == sorted(set(flat))
    again = ShuffledBatches(prompts, per_step, seed)
    assert again.take(len(per_step) - 1) == steps[-1]
