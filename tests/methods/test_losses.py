import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcsd.methods import losses as dv
from rcsd.methods.losses import Outside

Terms = Callable[[Tensor, Tensor], Tensor]
Pair = tuple[list[float], list[float]]

jsd, skewed_jsd = (partial(dv.jsd_terms, beta=beta) for beta in (0.5, 0.2))
DIVERGENCES: list[Terms] = [dv.forward_kl_terms, dv.reverse_kl_terms, jsd, skewed_jsd]
OUTSIDES: list[Outside] = ["renormalise", "tail"]
every_divergence = pytest.mark.parametrize("terms", DIVERGENCES)
every_outside = pytest.mark.parametrize("outside", OUTSIDES)
lawful = settings(derandomize=True, deadline=None, max_examples=60)

logit = st.floats(-8, 8, allow_nan=False, width=32)
logits_pair = st.integers(2, 7).flatmap(
    lambda size: st.tuples(*[st.lists(logit, min_size=size, max_size=size)] * 2)
)


def logs(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def normalised(logits: list[float]) -> Tensor:
    return torch.tensor([logits], dtype=torch.float64).log_softmax(-1)


def random_logits(T: int, V: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    teacher, student = 2 * torch.randn(2, T, V, generator=generator, dtype=torch.float64)
    return teacher.to(dtype).log_softmax(-1), student.to(dtype).requires_grad_()


def on(ids: Tensor, terms: Terms, log_p: Tensor, log_q: Tensor, outside: Any = "tail") -> Tensor:
    """Terms of the tokens of a support."""
    return terms(*(dv.restrict(log_x, ids, outside) for log_x in (log_p, log_q)))


def gradient_of(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value.sum(), logits, retain_graph=True)[0]


def assert_same(one: Tensor, other: Tensor, logits: Tensor) -> None:
    """Values and gradients."""
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(gradient_of(one, logits), gradient_of(other, logits))


def assert_finite(value: Tensor, logits: Tensor) -> None:
    """Value and gradient."""
    assert value.isfinite()
    assert gradient_of(value, logits).isfinite().all()


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        # 0.9 ln 1.8 and 0.1 ln 0.2
        (dv.forward_kl_terms, [0.5290080, -0.1609438]),
        # 0.5 ln (5/9) and 0.5 ln 5
        (dv.reverse_kl_terms, [-0.2938933, 0.8047190]),
        # m = (0.7, 0.3): 0.45 ln (9/7) + 0.25 ln (5/7) and 0.05 ln (1/3) + 0.25 ln (5/3)
        (jsd, [0.0289734, 0.0727758]),
        # m = (0.58, 0.42): 0.18 ln (0.9/0.58) + 0.4 ln (0.5/0.58)
        # and 0.02 ln (0.1/0.42) + 0.4 ln (0.5/0.42)
        (skewed_jsd, [0.0197185, 0.0410397]),
    ],
)
def test_terms_of_hand_numbers(terms: Terms, expected: list[float]) -> None:
    assert terms(logs(0.9, 0.1), logs(0.5, 0.5))[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_kl_is_infinite_exactly_where_the_first_has_mass_and_the_second_has_none() -> None:
    assert dv.forward_kl_terms(logs(0.5, 0.5), logs(1, 0))[0, 1] == math.inf
    assert dv.reverse_kl_terms(logs(1, 0), logs(0.5, 0.5))[0, 1] == math.inf
    finite = dv.forward_kl_terms(logs(1, 0), logs(0.5, 0.5))[0].tolist()
    assert finite == pytest.approx([math.log(2), 0.0])
    # Disjoint: the JSD stays at its bound.
    assert jsd(logs(1, 0), logs(0, 1)).sum().item() == pytest.approx(math.log(2))


def test_the_parts_of_a_loss_of_hand_numbers() -> None:
    log_p, ids = logs(0.1, 0.6, 0.1, 0.2), torch.tensor([[1, 3]])
    assert dv.top_k_ids(log_p, 2).tolist() == ids.tolist()  # the most probable first
    assert dv.restrict(log_p, ids, "renormalise").exp()[0].tolist() == pytest.approx([0.75, 0.25])
    assert dv.restrict(log_p, ids, "tail").exp()[0].tolist() == pytest.approx([0.6, 0.2, 0.2])
    clipped = dv.clip_tokens(torch.tensor([0.0, 0.2, 0.5, 2.0]), 0.5)
    assert torch.equal(clipped, torch.tensor([0.0, 0.2, 0.5, 0.5]))
    # p = 0.5, q = 0.25: the advantage is ln 2, so the loss is ln 2 ln 4.
    sampled = dv.sampled_token_terms(logs(0.5)[0], logs(0.25)[0])
    assert sampled.item() == pytest.approx(0.9609060)
    assert dv.entropy(logs(0.25, 0.25, 0.5, 0)).item() == pytest.approx(1.5 * math.log(2))
    assert dv.entropy(logs(1, 0)).item() == 0
    # Over the tokens of the whole step, not those at hand.
    assert dv.token_mean(torch.tensor([1.0, 2.0]), 8).item() == 0.375


@every_divergence
@lawful
@given(pair=logits_pair)
def test_divergences_are_not_negative_and_zero_iff_equal(terms: Terms, pair: Pair) -> None:
    log_p, log_q = map(normalised, pair)
    divergence = terms(log_p, log_q).sum()
    assert divergence >= -1e-12
    assert terms(log_p, log_p).sum() == pytest.approx(0, abs=1e-12)
    # Pinsker: KL >= |p - q|^2 / 2, and the JSD of weight beta >= beta (1 - beta) |p - q|^2 / 2.
    distance = (log_p.exp() - log_q.exp()).abs().sum()
    assert divergence >= 0.16 * distance**2 / 2 - 1e-12


@lawful
@given(pair=logits_pair)
def test_jsd_is_symmetric_at_one_half_bounded_and_positive_in_every_term(pair: Pair) -> None:
    log_p, log_q = map(normalised, pair)
    torch.testing.assert_close(jsd(log_p, log_q), jsd(log_q, log_p))
    assert jsd(log_p, log_q).sum() <= math.log(2) + 1e-12
    assert skewed_jsd(log_p, log_q).sum() <= 0.5004025  # -0.2 ln 0.2 - 0.8 ln 0.8
    assert jsd(log_p, log_q).min() >= -1e-12


@every_divergence
@lawful
@given(pair=logits_pair)
def test_tail_is_a_lower_bound_that_rises_to_the_divergence(terms: Terms, pair: Pair) -> None:
    log_p, log_q = map(normalised, pair)
    supports = [dv.top_k_ids(log_p, k) for k in range(1, log_p.shape[-1] + 1)]
    bounds = [on(ids, terms, log_p, log_q).sum().item() for ids in supports]
    assert all(low <= high + 1e-12 for low, high in pairwise(bounds))
    assert bounds[-1] == pytest.approx(terms(log_p, log_q).sum().item(), abs=1e-12)


@every_outside
@every_divergence
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_k_of_the_whole_vocabulary_equals_the_full_divergence_and_its_gradient(
    terms: Terms, outside: Outside, dtype: torch.dtype
) -> None:
    log_p, logits = random_logits(T=5, V=9, dtype=dtype)
    log_q = logits.log_softmax(-1)
    restricted = on(dv.top_k_ids(log_p, 9), terms, log_p, log_q, outside)
    assert_same(restricted.sum(-1), terms(log_p, log_q).sum(-1), logits)


def test_logits_of_the_support_are_enough_for_renormalise() -> None:
    _, logits = random_logits(T=5, V=9)
    ids = dv.top_k_ids(logits, 4)
    sparse = dv.renormalised_from_logits(logits.gather(-1, ids))
    torch.testing.assert_close(sparse, dv.restrict(logits.log_softmax(-1), ids, "renormalise"))


@every_divergence
@every_outside
@pytest.mark.parametrize("max_nats", [None, 0.05])
def test_gradients_pass_gradcheck(terms: Terms, outside: Outside, max_nats: float | None) -> None:
    log_p, logits = random_logits(T=3, V=6)
    ids = dv.top_k_ids(log_p, 3)

    def loss(z: Tensor) -> Tensor:
        each = on(ids, terms, log_p, z.log_softmax(-1), outside)
        return (each if max_nats is None else dv.clip_entries(each, max_nats)).sum(-1)

    assert torch.autograd.gradcheck(loss, logits)


def test_entry_clip_reverses_the_gradient_and_token_clip_keeps_its_direction() -> None:
    log_p, logits = logs(0.9, 0.1), torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    terms = dv.forward_kl_terms(log_p, logits.log_softmax(-1))

    def gradient(clipped: Tensor) -> list[float]:
        return gradient_of(clipped, logits)[0].tolist()

    assert gradient(terms) == pytest.approx([-0.40, +0.40])  # q - p
    assert gradient(dv.clip_entries(terms, 0.05)) == pytest.approx([+0.05, -0.05])
    # d = 0.3680642, so the length is scaled by 0.05 / d.
    token = gradient(dv.clip_tokens(terms.sum(-1), 0.05))
    assert token == pytest.approx([-0.0543383, +0.0543383], abs=1e-7)
    assert gradient(dv.clip_tokens(terms.sum(-1), 0.4)) == pytest.approx([-0.4, 0.4])


def test_expected_gradient_of_the_sampled_token_loss_is_that_of_reverse_kl() -> None:
    log_p, logits = random_logits(T=1, V=6)
    log_q = logits.log_softmax(-1)
    # Every token of the vocabulary, weighted by its probability of being sampled.
    expected = log_q[0].exp().detach() * dv.sampled_token_terms(log_p[0], log_q[0])
    exact = gradient_of(dv.reverse_kl_terms(log_p, log_q), logits)
    torch.testing.assert_close(gradient_of(expected, logits), exact)


@every_divergence
def test_entries_without_mass_in_teacher_and_student_change_nothing(terms: Terms) -> None:
    log_p, logits = random_logits(T=2, V=4)
    nothing = torch.full((2, 1), -math.inf, dtype=torch.float64)
    padded = torch.cat([logits, nothing], -1).log_softmax(-1)
    with_nothing = terms(torch.cat([log_p, nothing], -1), padded).sum()
    assert_same(with_nothing, terms(log_p, logits.log_softmax(-1)).sum(), logits)


@pytest.mark.parametrize(
    ("terms", "log_p", "logits"),
    [
        *(
            (terms, [math.log(0.5), math.log(0.5), absent, absent], [1.0, 0.0, 2.0, -math.inf])
            for terms in (dv.forward_kl_terms, jsd)
            for absent in (-math.inf, -200.0)  # none, and an underflow
        ),
        *(
            (terms, [math.log(0.2), math.log(0.3), math.log(0.5)], [1.0, 0.0, -math.inf])
            for terms in (dv.reverse_kl_terms, jsd)
        ),
    ],
)
def test_entries_without_mass_give_finite_values_and_gradients(
    terms: Terms, log_p: list[float], logits: list[float]
) -> None:
    student = torch.tensor([logits], requires_grad=True)
    assert_finite(terms(torch.tensor([log_p]), student.log_softmax(-1)).sum(), student)


@every_divergence
def test_tail_of_a_sum_that_rounds_to_one_or_more_has_a_finite_gradient(terms: Terms) -> None:
    ids = torch.tensor([[0, 1]])
    log_p = torch.tensor([[30.0, 29.0, 0.0, -1.0]]).log_softmax(-1)
    logits = torch.tensor([[29.0, 30.0, -1.0, 0.0]], requires_grad=True)
    for excess in (0.0, 1e-6):
        value = on(ids, terms, log_p + excess, logits.log_softmax(-1) + excess).sum()
        assert_finite(value, logits)
        assert gradient_of(value, logits).abs().max() < 1


@every_divergence
def test_tail_of_a_masked_rest_equals_the_full_divergence(terms: Terms) -> None:
    log_p, masked = logs(0.7, 0.3, 0), torch.tensor([[0.0, 0.0, -math.inf]], dtype=torch.float64)
    log_q = masked.requires_grad_().log_softmax(-1)
    tail = on(torch.tensor([[0, 1]]), terms, log_p, log_q).sum()
    assert_same(tail, terms(log_p, log_q).sum(), masked)


def test_exact_tail_keeps_its_gradient_where_one_minus_the_sum_is_lost() -> None:
    # The teacher puts 0.2 outside the support, the student about 1e-12: in float32 1 - sum is 0.
    log_p = torch.tensor([[0.5, 0.3, 0.2]]).log()
    logits = torch.tensor([[28.0, 27.0, 0.0]], requires_grad=True)
    log_q = logits.log_softmax(-1)
    gradient = gradient_of(on(torch.tensor([[0, 1]]), dv.forward_kl_terms, log_p, log_q), logits)
    torch.testing.assert_close(gradient, log_q.detach().exp() - log_p.exp())


def test_split_parts_add_up_to_the_gradient_of_the_whole_unlike_a_mean_of_means() -> None:
    log_p, logits = random_logits(T=7, V=5)

    def gradient(positions: slice, num_tokens: int) -> Tensor:
        log_q = logits[positions].log_softmax(-1)
        divergence = dv.forward_kl_terms(log_p[positions], log_q).sum(-1)
        return gradient_of(dv.token_mean(divergence, num_tokens), logits)

    one, other, whole = slice(0, 1), slice(1, 7), gradient(slice(0, 7), 7)
    torch.testing.assert_close(gradient(one, 7) + gradient(other, 7), whole)
    mean_of_means = (gradient(one, 1) + gradient(other, 6)) / 2
    assert not torch.allclose(mean_of_means, whole)


@pytest.mark.parametrize(
    ("loss", "arguments", "said"),
    [
        *(
            (dv.jsd_terms, (logs(0.5, 0.5), logs(0.5, 0.5), beta), "forward or the reverse KL")
            for beta in (0.0, 1.0, -0.1, 1.1, math.nan)
        ),
        (dv.restrict, (logs(0.5, 0.5), torch.tensor([[0]]), "renormalise"), "always zero"),
        (dv.token_mean, (torch.zeros(0), 0), "at least 1"),
    ],
)
def test_what_has_no_meaning_is_refused(loss: Any, arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        loss(*arguments)
