"""Policy gradients: by hand, gradients, and against TRL's on the same tensors."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcsd.methods import policy_gradient as pg
from rcsd.methods.policy_gradient import Reduction

NAN = math.nan


def tensor(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_advantages_by_hand() -> None:
    reward_NG = tensor([1.0, 0.0, 0.0, 1.0], [0.2, 0.4, 0.6, 0.8])
    plain_NG, deviation_N = pg.group_advantages(reward_NG, by_deviation=False)
    torch.testing.assert_close(plain_NG, tensor([0.5, -0.5, -0.5, 0.5], [-0.3, -0.1, 0.1, 0.3]))
    # sqrt(4 * 0.25 / 3) and sqrt((0.09 + 0.01 + 0.01 + 0.09) / 3)
    torch.testing.assert_close(deviation_N, tensor(0.5773502692, 0.2581988897))
    # What is unscored is left out of its group.
    plain_NG, deviation_N = pg.group_advantages(tensor([1.0, NAN, 0.0, 0.5]), False)
    torch.testing.assert_close(plain_NG, tensor([0.5, 0.0, -0.5, 0.0]))
    torch.testing.assert_close(deviation_N, tensor(0.5))
    scaled_NG, _ = pg.group_advantages(reward_NG, by_deviation=True)
    torch.testing.assert_close(scaled_NG[0, 0], torch.tensor(0.5 / 0.5774502692).double())


@pytest.mark.parametrize("by_deviation", [False, True])
@pytest.mark.parametrize("group", [[0.1] * 3, [NAN] * 3, [0.7, NAN, NAN], [NAN, 0.1, 0.1]])
def test_a_group_without_spread_has_no_advantages(group: list[float], by_deviation: bool) -> None:
    advantage_NG, deviation_N = pg.group_advantages(tensor(group), by_deviation)
    assert advantage_NG.tolist() == [[0.0] * 3]
    assert deviation_N.tolist() == [0.0]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.booleans(), st.floats(-2, 2))
def test_advantages_sum_to_zero_and_a_shift_of_all_rewards_changes_nothing(
    rewards: list[float], by_deviation: bool, shift: float
) -> None:
    reward_NG = tensor(rewards)
    advantage_NG, _ = pg.group_advantages(reward_NG, by_deviation)
    assert abs(advantage_NG.sum().item()) < 1e-9
    shifted_NG, _ = pg.group_advantages(reward_NG + shift, by_deviation)
    torch.testing.assert_close(shifted_NG, advantage_NG, atol=1e-9, rtol=1e-9)


def test_the_clipped_surrogate_and_its_gradient_by_hand() -> None:
    # Ratios 1.5, 1.5, 0.5, 0.5 and 1.1, clipped to [0.8, 1.3].
    log_q_T = tensor(0.75, 0.75, 0.25, 0.25, 0.55).log().requires_grad_()
    sampled_T = torch.full_like(log_q_T, math.log(0.5))
    advantage_T = tensor(2.0, -2.0, 2.0, -2.0, 2.0)
    loss_T, clipped_T = pg.clipped_surrogate(log_q_T, sampled_T, advantage_T, 0.2, 0.3)
    torch.testing.assert_close(loss_T, tensor(-2.6, 3.0, -1.0, 1.6, -2.2))
    assert clipped_T.tolist() == [True, False, False, True, False]
    (gradient_T,) = torch.autograd.grad(loss_T.sum(), log_q_T)
    torch.testing.assert_close(gradient_T, tensor(0.0, 3.0, -1.0, 0.0, -2.2))


def test_where_nothing_has_moved_the_surrogate_has_the_plain_gradient() -> None:
    log_q_T = tensor(-0.1, -2.0, -0.7).requires_grad_()
    advantage_T = tensor(1.5, -0.5, 0.0)
    loss_T, _ = pg.clipped_surrogate(log_q_T, log_q_T.detach(), advantage_T, 0.2, 0.2)
    plain_T = pg.policy_gradient_terms(log_q_T, advantage_T)
    for terms_T in (loss_T, plain_T):
        (gradient_T,) = torch.autograd.grad(terms_T.sum(), log_q_T)
        torch.testing.assert_close(gradient_T, tensor(-1.5, 0.5, 0.0))


def test_the_estimated_kl_by_hand_and_in_expectation() -> None:
    log_p_T, log_q_T = tensor(0.4, 0.6).log(), tensor(0.8, 0.2).log()
    # 0.5 - 1 + log 2, and 3 - 1 - log 3
    terms_T = pg.frozen_kl_terms(log_p_T, log_q_T)
    torch.testing.assert_close(terms_T, tensor(0.1931471806, 0.9013877113))
    kl = (log_q_T.exp() * (log_q_T - log_p_T)).sum()
    torch.testing.assert_close((log_q_T.exp() * terms_T).sum(), kl)
    assert pg.frozen_kl_terms(log_q_T, log_q_T).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("by_ratio", [True, False])
def test_the_ratio_makes_the_estimates_gradient_the_kls(by_ratio: bool) -> None:
    log_p_V = tensor(0.2, 0.3, 0.5).log()
    logits_V = tensor(0.4, -0.3, 0.1).requires_grad_()
    log_q_V = logits_V.log_softmax(-1)
    terms_V = pg.frozen_kl_terms(log_p_V, log_q_V, log_q_V if by_ratio else None)
    # Its mean over y ~ q, where sampling itself has no gradient.
    (found_V,) = torch.autograd.grad((log_q_V.detach().exp() * terms_V).sum(), logits_V)
    log_q_V = logits_V.log_softmax(-1)
    reverse = (log_q_V.exp() * (log_q_V - log_p_V)).sum()
    forward = (log_p_V.exp() * (log_p_V - log_q_V)).sum()
    (expected_V,) = torch.autograd.grad(reverse if by_ratio else forward, logits_V)
    torch.testing.assert_close(found_V, expected_V)


def test_gradients_are_those_of_the_formulas() -> None:
    log_q_T = tensor(-0.3, -1.2, -2.5).requires_grad_()
    other_T, advantage_T = tensor(-0.4, -1.0, -2.0), tensor(1.0, -2.0, 0.5)

    def surrogate(x: torch.Tensor) -> torch.Tensor:
        return pg.clipped_surrogate(x, other_T, advantage_T, 0.3, 0.3)[0]

    assert torch.autograd.gradcheck(surrogate, log_q_T)
    assert torch.autograd.gradcheck(lambda x: pg.frozen_kl_terms(other_T, x), log_q_T)
    assert torch.autograd.gradcheck(lambda x: pg.frozen_kl_terms(other_T, x, other_T), log_q_T)
    assert torch.autograd.gradcheck(lambda x: pg.policy_gradient_terms(x, advantage_T), log_q_T)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("token", (1 + 2 + 3 + 4 + 5 + 6) / 6),
        ("sequence", ((1 + 2) / 2 + (3 + 4 + 5) / 3 + 6) / 3),
        ("constant", (1 + 2 + 3 + 4 + 5 + 6) / (3 * 10)),
    ],
)
def test_weights_make_the_reduction_by_hand(reduction: Reduction, expected: float) -> None:
    losses = [[1.0, 2.0], [3.0, 4.0, 5.0], [6.0]]
    weights = pg.reduction_weights([2, 3, 1], reduction, max_tokens=10)
    total = sum(w * sum(row) for w, row in zip(weights, losses, strict=True))
    assert total / 6 == pytest.approx(expected)


def test_the_least_likely_tokens_by_hand() -> None:
    log_q_T = tensor(-0.1, -3.0, -0.5, -2.0, -0.2, -3.0, -0.1, -0.1, -0.1, -0.1)
    assert pg.least_likely(log_q_T, 0.2).nonzero()[:, 0].tolist() == [1, 5]
    assert pg.least_likely(log_q_T, 0.1).nonzero()[:, 0].tolist() == [1]
    assert pg.least_likely(log_q_T, 1.0).all()
    assert not pg.least_likely(log_q_T[:2], 0.2).any()
