"""SRPO: the right completions are reinforced, the wrong ones distilled, each as by itself."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.methods.test_grpo import (
    GRPO,
    SEVERAL,
    VERDICTS,
    WRITER,
    asked,
    reads_back,
    simple_rows,
    student_of,
    tree_of,
)
from tests.methods.test_on_policy import distill, found, moved, near
from tests.support.scripted_judge import ScriptedJudge
from tests.support.tiny import tiny_model
from tests.training.test_trainer import settings

from rcsd import config
from rcsd.errors import ConfigError
from rcsd.graders.rewards import AnswerReward, Reward, RubricReward
from rcsd.methods.base import Batch
from rcsd.methods.distill import TeacherTargets
from rcsd.methods.grpo import Grpo, GrpoSignal
from rcsd.methods.on_policy import MonitorPositions, OnPolicy, StudentForward
from rcsd.methods.rollouts import RolloutWorker
from rcsd.methods.srpo import Srpo
from rcsd.models.logits import LogitPredictions
from rcsd.models.teacher import LiveTeacher, Teacher
from rcsd.training.trainer import run

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


def collected(student: RolloutWorker, objective: Any, *questions: str) -> tuple[OnPolicy, Batch]:
    method = OnPolicy(student, [(1.0, objective)])
    return method, method.collect(asked(*questions), 0)


# By hand


def test_right_completions_are_reinforced_and_wrong_ones_distilled() -> None:
    student = student_of(["both", "no", "odd", "yes"], num=4, lengths=[2, 3, 1, 4])
    _, batch = collected(student, srpo(student), "a")
    signals = [rollout.signals[0] for rollout in batch.rollouts]
    assert [signal.weight > 0 for signal in signals] == [True, False, False, False]
    mean = (1 + 0 + 0.75) / 3  # without the unscored one
    assert signals[0].advantages == pytest.approx((1 - mean,) * 2)
    assert [signal.advantages for signal in signals[1:]] == [(0,) * 3, (0,), (0,) * 4]
    rewards = [rollout.reward for rollout in batch.rollouts]
    assert rewards == pytest.approx([1.0, 0.0, math.nan, 0.75], nan_ok=True)
    assert batch.metrics["srpo/right_share"] == 0.25
    assert batch.metrics["reward/unscored_share"] == 0.25


def test_a_group_that_is_all_right_has_no_gradient_and_one_all_wrong_is_distilled() -> None:
    right, wrong = student_of(["both"] * 4, num=2), student_of(["no", "odd"] * 2, num=2)
    method, batch = collected(right, srpo(right), "a", "b")
    loss, _, gradient = found(method, batch)
    assert loss == 0
    assert not gradient.any()
    method, batch = collected(wrong, srpo(wrong), "a", "b")
    assert batch.metrics["srpo/right_share"] == 0
    assert found(method, batch)[2].any()


def test_what_is_right_is_measured_by_the_weighted_sum_of_all_rewards() -> None:
    texts = {
        "Answer: 360 J": [True, True],
        "Answer: 3 J": [True, True],
        "Answer: 4 J": [True, False],
    }
    rewards = [RubricReward(ScriptedJudge(texts)), AnswerReward()]
    kinds = [{"type": "rubric", "weight": 0.2}, {"type": "answer", "weight": 0.1}]
    section = {"reward": PLAIN | {"rewards": kinds}}
    shares = []
    for share in (1.0, 2 / 3, 0.5):
        student = student_of(list(texts), num=3)
        ours = srpo(student, None, rewards, right_share=share, **section)
        _, batch = collected(student, ours, "a")
        shares.append([r.signals[0].weight > 0 for r in batch.rollouts])
    # 0.3, 0.2 and 0.15, of at most 0.3
    assert shares == [[True, False, False], [True, True, False], [True, True, True]]


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_the_loss_is_the_one_of_the_formula(beta: float) -> None:
    lengths = [2, 5, 3, 4]
    student = student_of(["both", "no", "yes", "no"], num=4, lengths=lengths)
    teacher = moved(student)
    section = {"support": {"type": "teacher_top_k", "k": 5}, "temperature": 0.8}
    method, batch = collected(
        student, srpo(student, teacher, distill=section, entropy_weight=beta), "a"
    )
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


# Laws


def test_where_all_is_wrong_and_entropy_counts_nothing_it_is_distillation() -> None:
    student = student_of(["no", "yes", "odd", "no"], num=2, lengths=[2, 5, 3, 4])
    teacher = moved(student)
    # The KL term is GRPO's, and GRPO has nothing here.
    for reward in (PLAIN, GRPO | {"kl_weight": 5.0, "reduction": "sequence"}):
        ours = srpo(student, teacher, entropy_weight=0.0, reward=reward)
        loss, shown, gradient = found(*collected(student, ours, "a", "b"))
        alone, others, expected = found(*collected(student, distill(student, teacher), "a", "b"))
        assert loss == pytest.approx(alone, rel=1e-6)
        for name, value in others.items():
            assert shown[name] == pytest.approx(value, rel=1e-6)
        near(gradient, expected)


@pytest.mark.parametrize("updates", [1, 2])
def test_where_all_is_right_it_is_grpo(updates: int) -> None:
    student = student_of(["both", "yes", "yes", "both"], num=2, lengths=[2, 5, 3, 4])
    reward = GRPO | {"kl_weight": 0.1, "reduction": "sequence", "updates_per_batch": updates}
    ours = srpo(student, moved(student), reward=reward, right_share=0.5)
    method, batch = collected(student, ours, "a", "b")
    assert batch.num_updates == updates
    loss, _, gradient = found(method, batch)
    alone, _, expected = found(*collected(student, ours.reward, "a", "b"))
    assert loss == pytest.approx(alone, rel=1e-5, abs=1e-7)
    near(gradient, expected)


# Gradients


def test_tokens_without_probability_make_no_nan() -> None:
    student = student_of(["no", "both"], num=2, lengths=[1, 1])
    ours = srpo(student, distill={"support": {"type": "full"}})
    unseen = torch.full((2, student.policy.vocab_size - 3), -math.inf)
    own = torch.tensor([[1.0, 2.0, -math.inf], [0.5, -1.0, 0.0]])
    logits = torch.cat([own, unseen], dim=1).requires_grad_()
    log_p = torch.tensor([[0.4, 0.6, 0.0], [1.0, 0.0, 0.0]]).log()
    teacher = LogitPredictions(torch.cat([log_p, unseen], dim=1))
    targets, positions = (
        TeacherTargets(teacher, teacher),
        MonitorPositions(torch.tensor([0, 1]), 2, 1.0),
    )
    signals = [GrpoSignal((0.0,), 0.0), GrpoSignal((0.5,), 1.0)]
    forward = StudentForward(LogitPredictions(logits), torch.tensor([1, 0]), positions)
    loss_T, shown = ours.terms(signals, targets, forward)
    loss_T.sum().backward()
    assert loss_T.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    entropy = -(0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    assert shown["srpo/sureness_mean"].tolist() == pytest.approx([math.exp(-entropy), 1.0])


# Runs


def test_a_run_routes_and_shows_it(tmp_path: Path) -> None:
    method = {"type": "srpo", "reward": GRPO, "right_share": 0.5}
    changes = {"data": simple_rows(tmp_path), "method": method, "steps": 2}
    folder = run(settings(tmp_path, "run", **changes, **SEVERAL))
    for row in folder.metrics():
        rewards = [r["reward"] for r in folder.completions() if r["step"] == row["step"]]
        right = [reward >= 0.5 for reward in rewards]
        assert row["srpo/right_share"] == pytest.approx(sum(right) / len(right))
        assert 0 < row["srpo/sureness_mean"] <= 1
        assert row["optim/grad_norm"] > 0


# What makes no sense


def of(**method: Any) -> dict[str, Any]:
    return tree_of({"type": "srpo", "reward": GRPO} | method)


SAMPLED = {"divergence": {"type": "sampled_token"}}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (of() | {"completions_per_example": 1}, "srpo compares the completions"),
        (of() | {"views": WRITER}, "srpo rewards answers"),
        (tree_of({"type": "srpo"}), "method.reward: Field required"),
        (of(right_share=0), "method.right_share: .*greater than 0"),
        (of(entropy_weight=-1), "method.entropy_weight: .*greater than or equal to 0"),
        (of(reward=GRPO | {"rewards": []}), "method.reward.rewards: "),
        (of(reward=GRPO | {"clip_lo": 0.1}), "method.reward.clip_lo: unknown key"),
        (of(reward=GRPO | {"kl_weight": 0.1}) | {"teacher": {"type": "ema"}}, "kl_weight holds"),
        (of(reward=GRPO | {"updates_per_batch": 2}, distill=SAMPLED), "needs fresh samples"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tree: dict[str, Any], said: str) -> None:
    parsed = reads_back(of())
    assert parsed.has_teacher_view
    assert parsed.uses_rubrics
    with pytest.raises(ConfigError, match=said):
        config.parse_config(tree)
