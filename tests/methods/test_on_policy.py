"""Sums of objectives: one batch, one forward pass, the weighted sum of what each would learn."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.methods.test_grpo import (
    GRPO,
    MASKED,
    SEVERAL,
    VERDICTS,
    WRITER,
    asked,
    reads_back,
    simple_rows,
    student_of,
    tree_of,
)
from tests.support.scripted_judge import ScriptedJudge
from tests.support.tiny import tiny_model
from tests.training.test_trainer import settings
from torch import nn

from rcsd import config
from rcsd.data.prompts import TeacherPrompts
from rcsd.errors import ConfigError
from rcsd.graders.rewards import RubricReward
from rcsd.methods.base import Batch
from rcsd.methods.criterion import Criterion
from rcsd.methods.distill import Distill, overlap
from rcsd.methods.grpo import Grpo
from rcsd.methods.on_policy import Objective, OnPolicy
from rcsd.methods.rollouts import RolloutWorker
from rcsd.methods.suppress import Suppress
from rcsd.models.logits import Predictions
from rcsd.models.packing import Packed
from rcsd.models.teacher import LiveTeacher, ShadowTeacher, Teacher
from rcsd.training.trainer import run

TEXTS, LENGTHS = ["both", "no", "yes", "no"], [2, 8, 5, 1]


def student(**changes: Any) -> RolloutWorker:
    """Says four completions of unlike lengths, two for each question."""
    return replace(student_of(TEXTS, num=2, lengths=LENGTHS), **changes)


def distill(student: RolloutWorker, teacher: Teacher | None = None, **section: Any) -> Distill:
    made = config.Distill.model_validate(section)
    return Distill(made, student, teacher or LiveTeacher())


def grpo(student: RolloutWorker, teacher: Teacher | None = None, **section: Any) -> Grpo:
    made = config.Grpo.model_validate(GRPO | section)
    return Grpo(made, student, teacher or LiveTeacher(), [RubricReward(ScriptedJudge(VERDICTS))])


def moved(student: RolloutWorker, seed: int = 1) -> ShadowTeacher:
    """A teacher with the weights so far; the student's are other ones afterwards."""
    teacher = ShadowTeacher(student.policy, decay=None)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in student.policy.trainable.values():
            parameter.copy_(parameter + 0.05 * torch.randn_like(parameter))
    return teacher


def found(
    method: OnPolicy, batch: Batch, max_tokens_per_microbatch: int = 10_000
) -> tuple[float, dict[str, float], torch.Tensor]:
    """Loss, metrics and gradient of a whole step."""
    model = method.worker.policy.model
    model.zero_grad()
    total, sums = 0.0, dict[str, float]()
    for microbatch in batch.split(max_tokens_per_microbatch):
        loss, shares = method.loss(microbatch, batch.num_learned_tokens)
        loss.backward()
        total += loss.item()
        for name, share in shares.items():
            assert not share.requires_grad
            sums[name] = sums.get(name, 0.0) + share.item()
    return total, sums, torch.cat([p.grad.flatten() for p in model.parameters()])


def learned(
    student: RolloutWorker,
    objectives: Sequence[tuple[float, Objective]],
    max_tokens_per_microbatch: int = 10_000,
) -> tuple[float, dict[str, float], torch.Tensor]:
    method = OnPolicy(student, objectives)
    return found(method, method.collect(asked("a", "b"), 0), max_tokens_per_microbatch)


def near(gradient: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradient, expected, atol=2e-5, rtol=1e-4)


class Watched(nn.Module):
    """A scorer that notes of each pass whether it has a graph, and whether it is in training."""

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer
        self.passes: list[tuple[bool, bool]] = []

    def forward(self, rows: Packed) -> Predictions:
        self.passes.append((torch.is_grad_enabled(), self.scorer.training))
        return self.scorer(rows)


# By hand


def test_a_sum_is_the_weighted_sum_of_what_each_objective_learns() -> None:
    ours = student()
    teacher = moved(ours)
    one, other = distill(ours, teacher), grpo(ours, reduction="sequence")
    both = learned(ours, [(2.0, one), (0.5, other)])
    first, second = learned(ours, [(1.0, one)]), learned(ours, [(1.0, other)])
    assert both[0] == pytest.approx(2 * first[0] + 0.5 * second[0], rel=1e-5)
    near(both[2], 2 * first[2] + 0.5 * second[2])
    assert not torch.allclose(first[2], second[2], atol=1e-3)


def test_the_metrics_of_all_terms_are_shown() -> None:
    ours = student()
    terms = [(1.0, distill(ours)), (1.0, grpo(ours)), (1.0, Suppress(config.Suppress(), ours))]
    method = OnPolicy(ours, terms)
    batch = method.collect(asked("a", "b"), 0)
    assert [len(rollout.signals) for rollout in batch.rollouts] == [3] * 4
    assert {"reward/score_mean", "suppress/chosen_share", "completion/length_tokens_mean"} <= set(
        batch.metrics
    )
    shown = found(method, batch)[1]
    names = {"loss/divergence_nats_mean", "loss/policy_mean", "loss/suppress_mean"}
    assert names | {"student/entropy_nats_mean", "student/end_probability_mean"} <= set(shown)


def test_two_divergences_of_a_sum_do_not_hide_each_other() -> None:
    ours = student()
    judge = ScriptedJudge(VERDICTS)
    prompts = TeacherPrompts(config.Views(), ours.policy.tokenizer)
    reverse = distill(ours, divergence={"type": "reverse_kl"})
    by_criterion = Criterion(config.Criterion(), reverse, judge, prompts)
    shown = learned(ours, [(1.0, distill(ours)), (1.0, by_criterion)])[1]
    alone = learned(ours, [(1.0, by_criterion)])[1]
    name, other = "loss/divergence_nats_mean", "loss-criterion/divergence_nats_mean"
    assert shown[other] == pytest.approx(alone[name])
    assert shown[name] != pytest.approx(shown[other], rel=1e-3)


def test_divergence_is_from_the_teachers_weights_and_view_to_the_students() -> None:
    ours = student()
    teacher = moved(ours)
    section = {"support": {"type": "full"}, "temperature": 0.7}
    method = OnPolicy(ours, [(1.0, distill(ours, teacher, **section))])
    batch = method.collect(asked("a", "b"), 0)
    before = {name: p.detach().clone() for name, p in ours.policy.trainable.items()}
    loss, shown, _ = found(method, batch)
    for name, parameter in ours.policy.trainable.items():
        assert torch.equal(parameter, before[name])
    frozen = tiny_model()  # the same seed: the weights that the student had at first
    total = end = overlapping = 0.0
    with torch.no_grad():
        for rollout in batch.rollouts:
            ids = list(rollout.completion.token_ids)
            p, q = (
                model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
                for model, prompt in ((frozen, (8,)), (ours.policy.model, (5, 6, 7)))
            )
            log_p, log_q = (p / 0.7).log_softmax(-1), (q / 0.7).log_softmax(-1)
            total += (log_p.exp() * (log_p - log_q)).sum().item()
            end += log_p.exp()[:, ours.policy.turn_end_id].sum().item()
            for a, b in zip(p, q, strict=True):
                same = set(a.topk(20).indices.tolist()) & set(b.topk(20).indices.tolist())
                overlapping += len(same) / 20
    num = sum(LENGTHS)
    assert loss == pytest.approx(total / num, rel=1e-4)
    assert shown["teacher/end_probability_mean"] == pytest.approx(end / num, rel=1e-4)
    assert shown["teacher/top_k_overlap_share"] == pytest.approx(overlapping / num, rel=1e-4)


def test_overlap_is_the_share_of_the_teachers_tokens_among_the_students() -> None:
    logits = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
    likeliest = torch.tensor([[2, 1, 0], [0, 1, 2]])  # in any order
    assert overlap(likeliest, logits).tolist() == pytest.approx([1.0, 1 / 3])


def test_the_students_end_probability_and_entropy_are_at_the_temperature_of_sampling() -> None:
    plain = student()
    warm = replace(plain, decoding=replace(plain.decoding, temperature=1.5))
    method = OnPolicy(warm, [(1.0, Suppress(config.Suppress(), warm))])
    batch = method.collect(asked("a", "b"), 0)
    shown = found(method, batch)[1]
    end = entropy = 0.0
    with torch.no_grad():
        for rollout in batch.rollouts:
            ids = [5, 6, 7, *rollout.completion.token_ids]
            q = (warm.policy.model(torch.tensor([ids])).logits[0, 2:-1] / 1.5).softmax(-1)
            end += q[:, warm.policy.turn_end_id].sum().item()
            entropy -= (q * q.log()).sum().item()
    assert shown["student/end_probability_mean"] == pytest.approx(end / sum(LENGTHS), rel=1e-4)
    assert shown["student/entropy_nats_mean"] == pytest.approx(entropy / sum(LENGTHS), rel=1e-4)


def test_teachers_speak_first_and_the_student_is_run_once_a_part() -> None:
    plain = student()
    scorer = Watched(plain.scorer)
    ours = replace(plain, scorer=scorer)
    method = OnPolicy(ours, [(1.0, distill(ours)), (1.0, grpo(ours))])
    batch = method.collect(asked("a", "b"), 0)
    assert scorer.passes == []
    found(method, batch, max_tokens_per_microbatch=1)
    # Without graph and dropout the teacher, with both the student.
    assert scorer.passes == [(False, False), (True, True)] * 4


def test_without_a_teacher_completions_are_scored_in_the_students_view_alone() -> None:
    ours = student()
    terms = [(1.0, grpo(ours)), (1.0, Suppress(config.Suppress(), ours))]
    batch = OnPolicy(ours, terms).collect(asked("a", "b"), 0)
    assert {rollout.teacher_ids for rollout in batch.rollouts} == {(5, 6, 7)}
    batch = OnPolicy(ours, [*terms, (1.0, distill(ours))]).collect(asked("a", "b"), 0)
    assert {rollout.teacher_ids for rollout in batch.rollouts} == {(8,)}


# Fast equals slow


def moved_by_an_update(method: OnPolicy, batch: Batch) -> torch.Tensor:
    """The gradient of a second update of the same batch, after the student has moved."""
    found(method, batch)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in method.worker.policy.trainable.values():
            parameter += 0.05 * torch.randn_like(parameter)
    return found(method, batch)[2]


@pytest.mark.parametrize("build_teacher", [lambda s: LiveTeacher(), moved], ids=["live", "frozen"])
def test_targets_are_kept_over_the_updates_of_a_batch_unless_the_teacher_moves(
    build_teacher: Callable[[RolloutWorker], Teacher],
) -> None:
    gradients, num_passes = [], []
    for kept in (True, False):
        ours = student()
        scorer = Watched(ours.scorer)
        ours = replace(ours, scorer=scorer)
        teacher = build_teacher(ours)
        objective = distill(ours, teacher)
        objective.reuses_targets = objective.reuses_targets and kept
        method = OnPolicy(ours, [(1.0, objective), (1.0, grpo(ours, updates_per_batch=2))])
        batch = method.collect(asked("a", "b"), 0)
        scorer.passes.clear()
        gradients.append(moved_by_an_update(method, batch))
        num_passes.append(len(scorer.passes))
    assert num_passes == ([4, 4] if isinstance(teacher, LiveTeacher) else [3, 4])
    near(*gradients)


# Laws


@hypothesis.settings(max_examples=20)
@given(st.floats(0.1, 4), st.floats(0.1, 4), st.integers(1, 60))
def test_splitting_a_sum_changes_neither_loss_nor_gradient_nor_metrics(
    one: float, other: float, max_tokens_per_microbatch: int
) -> None:
    ours = student()
    section = {"reduction": "sequence", "updates_per_batch": 2, "kl_weight": 0.1}
    teacher = moved(ours)
    terms = [(one, distill(ours, teacher)), (other, grpo(ours, teacher, **section))]
    method = OnPolicy(ours, terms)
    batch = method.collect(asked("a", "b"), 0)
    whole, split = found(method, batch), found(method, batch, max_tokens_per_microbatch)
    assert split[0] == pytest.approx(whole[0], rel=1e-4, abs=1e-6)
    assert split[1] == pytest.approx(whole[1], rel=1e-4, abs=1e-6)
    near(split[2], whole[2])


# Runs


def test_a_run_of_a_sum_records_the_reward_whatever_stands_before_it(tmp_path: Path) -> None:
    terms = [{"method": {"type": "suppress"}}, {"method": GRPO, "weight": 0.5}]
    changes = {"data": simple_rows(tmp_path), "method": {"type": "sum", "terms": terms}}
    folder = run(settings(tmp_path, "run", steps=1, **changes, **SEVERAL))
    row = folder.metrics()[0]
    rewards = [row["reward"] for row in folder.completions()]
    assert sum(rewards) / len(rewards) == pytest.approx(row["reward/score_mean"])
    assert row["suppress/chosen_share"] == pytest.approx(0.2, abs=0.02)
    assert all(math.isfinite(value) for value in row.values())


# What makes no sense

SAMPLED = {"type": "distill", "divergence": {"type": "sampled_token"}}
DISTILL, SUPPRESS, TWICE = {"type": "distill"}, {"type": "suppress"}, {"updates_per_batch": 2}


def sum_of(*terms: dict[str, Any], **more: Any) -> dict[str, Any]:
    return tree_of({"type": "sum", "terms": [{"method": term} for term in terms]}, **more)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (sum_of(DISTILL), "at least 2 items"),
        (sum_of(DISTILL, DISTILL), "stands there twice"),
        (sum_of(DISTILL, {"type": "srpo"}), "does not match any of the expected tags"),
        (sum_of(SAMPLED, GRPO | TWICE), "sampled_token needs fresh samples"),
        (sum_of(SUPPRESS, GRPO | TWICE), "suppress needs fresh samples"),
        (sum_of({"type": "criterion", "distill": SAMPLED}, GRPO | TWICE), "sampled_token needs"),
        (sum_of(DISTILL, GRPO | {"kl_weight": 0.1}, teacher={"type": "ema"}), "kl_weight holds"),
        (sum_of(DISTILL, GRPO, views=WRITER), "grpo rewards answers"),
        (sum_of(DISTILL, SUPPRESS, **MASKED), "suppress needs samples of the student itself"),
        (
            sum_of(DISTILL, GRPO, completions_per_example=1),
            "^config: Value error, grpo compares the completions of an example: set "
            "completions_per_example to 2 or more$",
        ),
    ],
)
def test_sums_that_make_no_sense_are_refused(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.parse_config(tree)


def test_a_sum_reads_back_from_its_record() -> None:
    reads_back(sum_of(SAMPLED, SUPPRESS))
    held = reads_back(sum_of(DISTILL, GRPO | {"kl_weight": 0.1}))
    assert held.teacher.type == "frozen"
