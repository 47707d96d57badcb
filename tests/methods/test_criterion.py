"""Distillation by criterion: at the tokens alone that the failed criteria move."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.methods.test_grpo import student_of
from tests.methods.test_on_policy import distill, found, moved, near
from tests.support.scripted_judge import ScriptedJudge
from tests.support.tiny import tiny_model, tiny_tokenizer
from tests.training.test_trainer import settings

from rcsd import config
from rcsd.data.prompts import PromptPair, build_prompts
from rcsd.errors import DataError
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
# By completion: its verdicts, the criteria that it did not fail, its number of tokens.
CASES: dict[str, tuple[list[bool | None], tuple[Demand, ...], int]] = {
    "good": ([True, True, False], DEMANDS, 4),
    "curt": ([True, False, False], (DEMANDS[0], DEMANDS[2]), 8),
    "rude": ([True, True, True], DEMANDS[:2], 3),
    "odd": ([True, None, None], DEMANDS, 7),
    "bad": ([False, False, False], (), 5),
    "worst": ([False, False, True], (), 6),
}
VERDICTS = {text: verdicts for text, (verdicts, _, _) in CASES.items()}
LENGTHS = {text: num_tokens for text, (_, _, num_tokens) in CASES.items()}


def teachers_prompt(kept: Sequence[Demand], view: ViewName, less: ViewName) -> tuple[int, ...]:
    """The prompt of the teacher who sees these criteria, made as a run makes it."""
    example = replace(EXAMPLE, rubric=Rubric(tuple(kept)) if kept else None)
    views = config.Views(teacher=view if kept else less)
    prompts, _ = build_prompts([example], views, tiny_tokenizer(), 1000)
    return prompts[0].teacher_ids


def student(texts: Sequence[str]) -> RolloutWorker:
    return student_of(texts, len(texts), [LENGTHS[text] for text in texts])


def collected(
    texts: Sequence[str],
    min_nats: float,
    view: ViewName = "rubric",
    ours: RolloutWorker | None = None,
    teacher: Teacher | None = None,
) -> tuple[OnPolicy, Batch]:
    """All completions are of one example."""
    ours = ours or student(texts)
    views = config.Views(teacher=view)
    section, judge = config.Criterion(min_nats=min_nats), ScriptedJudge(VERDICTS)
    method = OnPolicy(ours, [(1.0, Criterion(section, distill(ours, teacher), judge, views))])
    shown = teachers_prompt(DEMANDS, view, view)
    return method, method.collect([PromptPair(EXAMPLE, (5, 6, 7), shown)], 0)


def slow_log_p(prompt: Sequence[int], sampled: Sequence[int], temperature: float) -> torch.Tensor:
    """The frozen model's log-probabilities of a completion, with nothing batched or picked."""
    ids = torch.tensor([[*prompt, *sampled]])
    with torch.no_grad():
        logits = tiny_model()(ids).logits[0] / temperature
    log_p = logits.log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(sampled) - 1)
    return torch.stack([log_p[t, y] for t, y in zip(places, sampled, strict=True)])


LESS: dict[ViewName, ViewName] = {
    "rubric": "none",
    "rubric+answer": "answer",
    "solution+rubric": "solution",
}


@pytest.mark.parametrize("view", list(LESS))
@pytest.mark.parametrize("temperature", [1.0, 1.4])
def test_the_mask_is_where_failures_move_the_teacher(view: ViewName, temperature: float) -> None:
    texts = list(VERDICTS)
    plain = student(texts)
    ours = replace(plain, decoding=replace(plain.decoding, temperature=temperature))
    teacher = moved(ours)  # so the student's own weights would give another mask
    moves: list[list[float]] = []
    for text in texts:
        with_them = teachers_prompt(DEMANDS, view, view)
        without = teachers_prompt(CASES[text][1], view, LESS[view])
        assert (without == with_them) == (text in ("good", "odd"))
        ids = range(10, 10 + LENGTHS[text])
        gap = slow_log_p(with_them, ids, temperature) - slow_log_p(without, ids, temperature)
        moves.append(gap.abs().tolist())
    ordered = sorted(move for row in moves for move in row if move > 0)
    # In the widest gap, for the two that failed everything share their first tokens' moves.
    middle = max(range(8, len(ordered) - 8), key=lambda n: ordered[n] - ordered[n - 1])
    min_nats = (ordered[middle - 1] + ordered[middle]) / 2
    assert ordered[middle] - ordered[middle - 1] > 1e-3
    _, batch = collected(texts, min_nats, view, ours, teacher)
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


def test_what_failed_nothing_is_not_taught_beside_longer_rows_of_the_same_pass() -> None:
    _, batch = collected(list(VERDICTS), 0.0)
    taught = [any(rollout.signals[0]) for rollout in batch.rollouts]
    assert taught == [text not in ("good", "odd") for text in VERDICTS]


def test_without_a_threshold_failures_are_distilled_as_they_would_be() -> None:
    ours = student(texts := ["curt", "bad", "worst", "rude"])
    teacher = moved(ours)
    method, batch = collected(texts, 0.0, ours=ours, teacher=teacher)
    assert batch.metrics["criterion/chosen_share"] == 1
    loss, shown, gradient = found(method, batch)
    unmarked = replace(batch, rollouts=[replace(r, signals=(None,)) for r in batch.rollouts])
    alone, others, expected = found(OnPolicy(ours, [(1.0, distill(ours, teacher))]), unmarked)
    assert loss == pytest.approx(alone, rel=1e-6)
    assert shown == pytest.approx(others, rel=1e-6)
    near(gradient, expected)


@hypothesis.settings(max_examples=20)
@given(st.integers(1, 400), st.floats(0, 1))
def test_splitting_changes_neither_mask_nor_gradient(max_tokens: int, nats: float) -> None:
    texts = ["curt", "good", "bad"]
    method, whole = collected(texts, nats)
    ours = replace(student(texts), max_tokens_per_microbatch=microbatch_limit(max_tokens))
    splitting, split = collected(texts, nats, ours=ours)
    assert [r.signals for r in split.rollouts] == [r.signals for r in whole.rollouts]
    one, other = found(splitting, split, max_tokens), found(method, whole)
    assert one[0] == pytest.approx(other[0], rel=1e-4, abs=1e-7)
    torch.testing.assert_close(one[2], other[2], atol=2e-5, rtol=1e-4)


def test_data_of_which_no_criterion_can_be_decided_is_refused(tmp_path: Path) -> None:
    checked = Rubric((DEMANDS[0], Demand("Boxed.", 1, check={"type": "boxed"})))
    refuse_undecidable([EXAMPLE, replace(EXAMPLE, rubric=checked)], CodeJudge())
    with pytest.raises(DataError, match="no criterion has a check"):
        refuse_undecidable([EXAMPLE], CodeJudge())
    with pytest.raises(DataError, match="example 'a' has no rubric"):
        refuse_undecidable([replace(EXAMPLE, rubric=None)], CodeJudge())
    changes = {"method": {"type": "criterion"}, "rubrics": {"placebo": "generic"}}
    with pytest.raises(DataError, match="no criterion has a check"):
        run(settings(tmp_path, "run", **changes))
    assert not (tmp_path / "run").exists()
