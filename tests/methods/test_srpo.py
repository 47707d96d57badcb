"""SRPO: the right completions are reinforced, the wrong ones distilled, each as by itself."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.methods.test_grpo import GRPO, VERDICTS, student_of
from tests.methods.test_on_policy import collected, distill, found, moved, near
from tests.support.tiny import tiny_model

from rcsd import config
from rcsd.graders.rewards import AnswerReward, Reward, RubricReward
from rcsd.graders.scripted import ScriptedJudge
from rcsd.methods.distill import TeacherTargets
from rcsd.methods.grpo import Grpo, GrpoSignal
from rcsd.methods.on_policy import MonitorPositions, StudentForward
from rcsd.methods.rollouts import RolloutWorker
from rcsd.methods.srpo import Srpo
from rcsd.models.logits import LogitPredictions
from rcsd.models.teacher import LiveTeacher, Teacher

PLAIN = GRPO | {"normalise_by_deviation": False}


def srpo(
    student: RolloutWorker,
    teacher: Teacher | None = None,
    rewards: Sequence[Reward] | None = None,
    **section: Any,
) -> Srpo:
    made = config.Srpo.model_validate({"reward": PLAIN} | section)
    rewards = rewards or [RubricReward(ScriptedJudge(VERDICTS))]
    reward = Grpo(made.reward, student, teacher or LiveTeacher(), rewards)
    own = made.distill.model_dump(exclude={"type"})
    return Srpo(made, reward, distill(student, teacher, **own))


def test_right_completions_are_reinforced_and_wrong_ones_distilled() -> None:
    student = student_of(["both", "no", "odd", "yes"], num=4, lengths=[2, 3, 1, 4])
    _, batch = collected(student, srpo(student), questions="a")
    signals = [rollout.signals[0] for rollout in batch.rollouts]
    assert [signal.weight > 0 for signal in signals] == [True, False, False, False]
    mean = (1 + 0 + 0.75) / 3  # without the unscored one
    assert signals[0].advantages == pytest.approx((1 - mean,) * 2)
    assert [signal.advantages for signal in signals[1:]] == [(0,) * 3, (0,), (0,) * 4]
    rewards = [rollout.reward for rollout in batch.rollouts]
    assert rewards == pytest.approx([1.0, 0.0, math.nan, 0.75], nan_ok=True)
    assert batch.metrics["srpo/right_share"] == 0.25
    assert batch.metrics["reward/unscored_share"] == 0.25


def test_what_is_right_is_measured_by_the_weighted_sum_of_all_rewards() -> None:
    both = [True, True]
    texts = {"Answer: 360 J": both, "Answer: 3 J": both, "Answer: 4 J": [True, False]}
    rewards = [RubricReward(ScriptedJudge(texts)), AnswerReward()]
    kinds = [{"type": "rubric", "weight": 0.2}, {"type": "answer", "weight": 0.1}]
    section = {"reward": PLAIN | {"rewards": kinds}}
    shares = []
    for share in (1.0, 2 / 3, 0.5):
        student = student_of(list(texts), num=3)
        ours = srpo(student, None, rewards, right_share=share, **section)
        _, batch = collected(student, ours, questions="a")
        shares.append([r.signals[0].weight > 0 for r in batch.rollouts])
    # 0.3, 0.2 and 0.15, of at most 0.3
    assert shares == [[True, False, False], [True, True, False], [True, True, True]]
    assert batch.metrics["reward/rubric_mean"] == pytest.approx((1 + 1 + 0.75) / 3)
    assert batch.metrics["reward/answer_mean"] == pytest.approx(1 / 3)
    assert batch.metrics["reward/score_mean"] == pytest.approx((0.3 + 0.2 + 0.15) / 3)


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_the_loss_is_the_one_of_the_formula(beta: float) -> None:
    lengths = [2, 5, 3, 4]
    student = student_of(["both", "no", "yes", "no"], num=4, lengths=lengths)
    teacher = moved(student)
    section = {"support": {"type": "teacher_top_k", "k": 5}, "temperature": 0.8}
    ours = srpo(student, teacher, distill=section, entropy_weight=beta)
    method, batch = collected(student, ours, questions="a")
    loss, shown, gradient = found(method, batch)

    frozen, model = tiny_model(), student.policy.model
    model.zero_grad()
    total = torch.zeros(())
    sure = 0.0
    for n, rollout in enumerate(batch.rollouts):
        ids = list(rollout.completion.token_ids)
        with torch.no_grad():
            p_TV = frozen(torch.tensor([[8, *ids]])).logits[0, :-1]
        q_TV = model(torch.tensor([[5, 6, 7, *ids]])).logits[0, 2:-1]
        log_p, chosen = (p_TV / 0.8).log_softmax(-1).topk(5)
        log_p = log_p - log_p.logsumexp(-1, keepdim=True)
        log_q = (q_TV / 0.8).gather(-1, chosen).log_softmax(-1)
        sure_T = torch.exp(beta * (log_p.exp() * log_p).sum(-1))
        sure += sure_T.sum().item()
        if n == 0:
            advantage = 1 - (1 + 0 + 0.75 + 0) / 4
            log_y = q_TV.log_softmax(-1)[range(len(ids)), ids]
            total = total - (advantage * (log_y - log_y.detach()).exp()).sum()
        else:
            total = total + (sure_T * (log_p.exp() * (log_p - log_q)).sum(-1)).sum()
    total = total / sum(lengths)
    total.backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert loss == pytest.approx(total.item(), rel=1e-4)
    assert shown["srpo/sureness_mean"] == pytest.approx(sure / sum(lengths), rel=1e-4)
    near(gradient, expected)


def test_where_all_is_wrong_and_entropy_counts_nothing_it_is_distillation() -> None:
    student = student_of(["no", "yes", "odd", "no"], num=2, lengths=[2, 5, 3, 4])
    teacher = moved(student)
    # The KL term is GRPO's, and GRPO has nothing here.
    for reward in (PLAIN, GRPO | {"kl_weight": 5.0, "reduction": "sequence"}):
        ours = srpo(student, teacher, entropy_weight=0.0, reward=reward)
        loss, shown, gradient = found(*collected(student, ours))
        alone, others, expected = found(*collected(student, distill(student, teacher)))
        assert loss == pytest.approx(alone, rel=1e-6)
        for name, value in others.items():
            assert shown[name] == pytest.approx(value, rel=1e-6)
        near(gradient, expected)


@pytest.mark.parametrize("updates", [1, 2])
def test_where_all_is_right_it_is_grpo(updates: int) -> None:
    student = student_of(["both", "yes", "yes", "both"], num=2, lengths=[2, 5, 3, 4])
    reward = GRPO | {"kl_weight": 0.1, "reduction": "sequence", "updates_per_batch": updates}
    ours = srpo(student, moved(student), reward=reward, right_share=0.5)
    method, batch = collected(student, ours)
    assert batch.num_updates == updates
    loss, _, gradient = found(method, batch)
    alone, _, expected = found(*collected(student, ours.reward))
    assert loss == pytest.approx(alone, rel=1e-5, abs=1e-7)
    near(gradient, expected)


def test_tokens_without_probability_make_no_nan() -> None:
    student = student_of(["no", "both"], num=2, lengths=[1, 1])
    ours = srpo(student, distill={"support": {"type": "full"}})
    ids = torch.tensor([0, 1])
    unseen = torch.full((2, student.policy.vocab_size - 3), -math.inf)
    own = torch.tensor([[1.0, 2.0, -math.inf], [0.5, -1.0, 0.0]])
    logits = torch.cat([own, unseen], dim=1).requires_grad_()
    log_p = torch.tensor([[0.4, 0.6, 0.0], [1.0, 0.0, 0.0]]).log()
    teacher = LogitPredictions(torch.cat([log_p, unseen], dim=1))
    targets, positions = TeacherTargets(teacher, teacher), MonitorPositions(ids, 2, 1.0)
    signals = [GrpoSignal((0.0,), 0.0), GrpoSignal((0.5,), 1.0)]
    forward = StudentForward(LogitPredictions(logits), ids.flip(0), positions)
    loss_T, shown = ours.terms(signals, targets, forward)
    loss_T.sum().backward()
    assert loss_T.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    entropy = -(0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    assert shown["srpo/sureness_mean"].tolist() == pytest.approx([math.exp(-entropy), 1.0])
