"""Sums of objectives: one batch, one forward pass, the weighted sum of what each would learn."""

from dataclasses import replace
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.methods.test_grpo import GRPO, VERDICTS, asked, student_of
from tests.support.scripted_judge import ScriptedJudge
from tests.support.tiny import tiny_model
from torch import nn

from rcsd import config
from rcsd.graders.rewards import RubricReward
from rcsd.methods.base import Batch
from rcsd.methods.criterion import Criterion
from rcsd.methods.distill import Distill
from rcsd.methods.grpo import Grpo
from rcsd.methods.on_policy import Objective, OnPolicy
from rcsd.methods.rollouts import RolloutWorker
from rcsd.methods.suppress import Suppress
from rcsd.models.logits import Predictions
from rcsd.models.packing import Packed
from rcsd.models.teacher import LiveTeacher, ShadowTeacher, Teacher

SHOWN = [f"{which}/end_probability_mean" for which in ("student", "teacher")]
SHOWN += ["student/entropy_nats_mean", "teacher/top_k_overlap_share"]
TEXTS, LENGTHS = ["both", "no", "yes", "no"], [2, 8, 5, 1]


def student(**changes: Any) -> RolloutWorker:
    """Says four completions of unlike lengths, two for each question."""
    return replace(student_of(TEXTS, num=2, lengths=LENGTHS), **changes)


def distill(student: RolloutWorker, teacher: Teacher | None = None, **section: Any) -> Distill:
    return Distill(config.Distill.model_validate(section), student, teacher or LiveTeacher())


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


def collected(
    student: RolloutWorker, *terms: Objective | tuple[float, Objective], questions: str = "ab"
) -> tuple[OnPolicy, Batch]:
    """A method of these objectives, of weight 1 unless told, and its step of the questions."""
    method = OnPolicy(student, [term if isinstance(term, tuple) else (1.0, term) for term in terms])
    return method, method.collect(asked(*questions), 0)


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


def test_a_sum_is_the_weighted_sum_of_what_each_objective_learns() -> None:
    ours = student()
    teacher = moved(ours)
    one, other = distill(ours, teacher), grpo(ours, reduction="sequence")
    both = found(*collected(ours, (2.0, one), (0.5, other)))
    first, second = (found(*collected(ours, term)) for term in (one, other))
    assert both[0] == pytest.approx(2 * first[0] + 0.5 * second[0], rel=1e-5)
    near(both[2], 2 * first[2] + 0.5 * second[2])
    assert not torch.allclose(first[2], second[2], atol=1e-3)


def test_the_metrics_of_all_terms_are_shown() -> None:
    ours = student()
    terms = [distill(ours), grpo(ours), Suppress(config.Suppress(), ours)]
    method, batch = collected(ours, *terms)
    assert [len(rollout.signals) for rollout in batch.rollouts] == [3] * 4
    assert [rollout.reward for rollout in batch.rollouts] == [1.0, 0.0, 0.75, 0.0]
    names = {"reward/score_mean", "suppress/chosen_share", "completion/length_tokens_mean"}
    assert names <= set(batch.metrics)
    names = {"loss/divergence_nats_mean", "loss/policy_mean", "loss/suppress_mean"}
    names |= {"student/entropy_nats_mean", "student/end_probability_mean"}
    assert names <= set(found(method, batch)[1])
    # Without a teacher, completions are scored in the student's view alone.
    assert {rollout.teacher_ids for rollout in batch.rollouts} == {(8,)}
    alone = collected(ours, *terms[1:])[1]
    assert {rollout.teacher_ids for rollout in alone.rollouts} == {(5, 6, 7)}


def test_two_divergences_of_a_sum_do_not_hide_each_other() -> None:
    ours = student()
    reverse = distill(ours, divergence={"type": "reverse_kl"})
    by_criterion = Criterion(config.Criterion(), reverse, ScriptedJudge(VERDICTS), config.Views())
    shown = found(*collected(ours, distill(ours), by_criterion))[1]
    alone = found(*collected(ours, by_criterion))[1]
    name, other = "loss/divergence_nats_mean", "loss-criterion/divergence_nats_mean"
    assert shown[other] == pytest.approx(alone[name])
    assert shown[name] != pytest.approx(shown[other], rel=1e-3)


def test_divergence_is_from_the_teachers_weights_and_view_to_the_students() -> None:
    plain = student()
    ours = replace(plain, decoding=replace(plain.decoding, temperature=1.5))
    teacher = moved(ours)
    section = {"support": {"type": "full"}, "temperature": 0.7}
    method, batch = collected(ours, distill(ours, teacher, **section))
    before = {name: p.detach().clone() for name, p in ours.policy.trainable.items()}
    loss, shown, _ = found(method, batch)
    for name, parameter in ours.policy.trainable.items():
        assert torch.equal(parameter, before[name])
    frozen = tiny_model()  # the same seed: the weights that the student had at first
    end = ours.policy.turn_end_id
    sums = dict.fromkeys(("loss", *SHOWN), 0.0)
    with torch.no_grad():
        for rollout in batch.rollouts:
            ids = list(rollout.completion.token_ids)
            p, q = (
                model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
                for model, prompt in ((frozen, (8,)), (ours.policy.model, (5, 6, 7)))
            )
            log_p, log_q = (p / 0.7).log_softmax(-1), (q / 0.7).log_softmax(-1)
            sums["loss"] += (log_p.exp() * (log_p - log_q)).sum().item()
            sums["teacher/end_probability_mean"] += log_p.exp()[:, end].sum().item()
            # The student's own are at the temperature of sampling.
            q_1 = (q / 1.5).softmax(-1)
            sums["student/end_probability_mean"] += q_1[:, end].sum().item()
            sums["student/entropy_nats_mean"] -= (q_1 * q_1.log()).sum().item()
            for a, b in zip(p, q, strict=True):
                same = set(a.topk(20).indices.tolist()) & set(b.topk(20).indices.tolist())
                sums["teacher/top_k_overlap_share"] += len(same) / 20
    means = {name: total / sum(LENGTHS) for name, total in sums.items()}
    assert {"loss": loss} | {name: shown[name] for name in SHOWN} == pytest.approx(means, rel=1e-4)


def test_teachers_speak_first_and_the_student_is_run_once_a_part() -> None:
    plain = student()
    scorer = Watched(plain.scorer)
    ours = replace(plain, scorer=scorer)
    method, batch = collected(ours, distill(ours), grpo(ours))
    assert scorer.passes == []
    found(method, batch, max_tokens_per_microbatch=1)
    # Without graph and dropout the teacher, with both the student.
    assert scorer.passes == [(False, False), (True, True)] * 4


@pytest.mark.parametrize("build_teacher", [lambda s: LiveTeacher(), moved], ids=["live", "frozen"])
def test_targets_are_kept_over_updates_unless_the_teacher_moves(build_teacher: Any) -> None:
    gradients, num_passes = [], []
    for kept in (True, False):
        ours = student()
        scorer = Watched(ours.scorer)
        ours = replace(ours, scorer=scorer)
        teacher = build_teacher(ours)
        objective = distill(ours, teacher)
        objective.reuses_targets = objective.reuses_targets and kept
        method, batch = collected(ours, objective, grpo(ours, updates_per_batch=2))
        scorer.passes.clear()
        found(method, batch)
        moved(ours, seed=2)  # the first update
        gradients.append(found(method, batch)[2])
        num_passes.append(len(scorer.passes))
    assert num_passes == ([4, 4] if isinstance(teacher, LiveTeacher) else [3, 4])
    near(*gradients)


@hypothesis.settings(max_examples=20)
@given(st.floats(0.1, 4), st.floats(0.1, 4), st.integers(1, 60))
def test_splitting_a_sum_changes_nothing(
    one: float, other: float, max_tokens_per_microbatch: int
) -> None:
    ours = student()
    section = {"reduction": "sequence", "updates_per_batch": 2, "kl_weight": 0.1}
    teacher = moved(ours)
    terms = (one, distill(ours, teacher)), (other, grpo(ours, teacher, **section))
    method, batch = collected(ours, *terms)
    whole, split = found(method, batch), found(method, batch, max_tokens_per_microbatch)
    assert split[0] == pytest.approx(whole[0], rel=1e-4, abs=1e-6)
    assert split[1] == pytest.approx(whole[1], rel=1e-4, abs=1e-6)
    near(split[2], whole[2])
