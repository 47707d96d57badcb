"""Predictions: each fast path gives what all logits at once give, and never holds them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from tests.methods.test_grpo import GRPO, VERDICTS, asked, student_of
from tests.methods.test_on_policy import distill, moved
from tests.support.scripted_judge import ScriptedJudge
from tests.support.tiny import tiny_model, tiny_tokenizer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rcsd import config
from rcsd.graders.rewards import RubricReward
from rcsd.methods.grpo import Grpo
from rcsd.methods.losses import forward_kl_terms, restrict, top_k_ids
from rcsd.methods.on_policy import Objective, OnPolicy
from rcsd.methods.rollouts import RolloutWorker
from rcsd.models import logits
from rcsd.models.logits import HeadPredictions, LogitPredictions, Predictions, target_log_q
from rcsd.models.policy import build_policy
from rcsd.models.scorer import Scorer

NUM, V, H, K = 23, 41, 7, 5


@pytest.fixture(autouse=True, params=[4 * V, 2**24])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once four positions at a time, the last chunk with fewer, and once in one chunk."""
    monkeypatch.setitem(logits.CHUNK_ENTRIES, "cpu", request.param)


def made(
    trained: bool, bias: bool = True
) -> tuple[HeadPredictions, LogitPredictions, list[Tensor]]:
    """The same predictions both ways, and what they have gradients for."""
    random = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hidden = random(NUM, H).requires_grad_()
    weight, shift = random(V, H).requires_grad_(trained), random(V).requires_grad_(trained)
    head = HeadPredictions(hidden, weight, shift if bias else None)
    leaves = [leaf for leaf in (hidden, weight, head.bias_V) if leaf is not None]
    return head, LogitPredictions(head.logits()), [leaf for leaf in leaves if leaf.requires_grad]


def teacher() -> HeadPredictions:
    random = partial(torch.randn, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return HeadPredictions(random(NUM, H), random(V, H))


def tail_divergence(logits: Tensor, other: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss that needs all of both."""
    ids = top_k_ids(other, K)
    log_p, log_q = (restrict(x.log_softmax(-1), ids, "tail") for x in (other, logits))
    terms = forward_kl_terms(log_p, log_q)
    return terms.sum(-1), {"largest": terms.amax(-1)}


def weighted(value: Tensor) -> Tensor:
    """Positions count differently, as the weights and masks of objectives make them."""
    return (value.flatten() * torch.linspace(-1, 2, value.numel(), dtype=value.dtype)).sum()


def same_gradients(
    of: Callable[[Predictions], Tensor], trained: bool, bias: bool = True
) -> tuple[Tensor, Tensor]:
    fast, slow, leaves = made(trained, bias)
    values = of(fast), of(slow)
    gradients = [
        torch.autograd.grad(weighted(value), leaves, retain_graph=True) for value in values
    ]
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs)
    return values


# Fast equals slow


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_logits_of_some_tokens_are_those_of_all(trained: bool, bias: bool) -> None:
    ids = torch.randint(V, (NUM, K), generator=torch.Generator().manual_seed(2))
    fast, slow = same_gradients(lambda p: p.logits_at(ids), trained, bias)
    assert fast.shape == slow.shape == (NUM, K)
    torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_losses_in_chunks_are_those_of_all_logits(trained: bool, bias: bool) -> None:
    fast, slow = same_gradients(lambda p: p.losses(tail_divergence, teacher())[0], trained, bias)
    assert fast.shape == slow.shape == (NUM,)
    torch.testing.assert_close(fast, slow)
    ours, theirs = (p.losses(tail_divergence, teacher())[1] for p in made(trained, bias)[:2])
    torch.testing.assert_close(ours, theirs)
    assert not ours["largest"].requires_grad


def test_readings_in_chunks_are_those_of_all_logits() -> None:
    fast, slow, _ = made(trained=True)
    rest = torch.arange(NUM)

    def reading(logits: Tensor, places: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return logits.logsumexp(-1) + places, other.topk(3).indices

    for ours, theirs in zip(
        fast.mapped(reading, rest, teacher()), slow.mapped(reading, rest, teacher()), strict=True
    ):
        assert not ours.requires_grad
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(fast.mapped(lambda x: x.argmax(-1)), slow.mapped(lambda x: x.argmax(-1)))


def test_some_positions_or_none_can_be_read() -> None:
    fast, slow, _ = made(trained=False)
    some = torch.tensor([3, 3, 20])
    torch.testing.assert_close(fast[some].logits(), slow[some].logits())
    none = torch.tensor([], dtype=torch.long)
    for of in (fast, slow):
        assert of[none].mapped(lambda x: x.logsumexp(-1)).shape == (0,)
        assert len(of[none]) == 0
        assert len(of) == NUM


# bfloat16


def of_bfloat16(num: int) -> tuple[HeadPredictions, HeadPredictions, Tensor]:
    """A trained head in bfloat16, the same numbers in float32, and targets."""
    random = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    leaves = [(random(num, H) + 2).bfloat16(), 3 * random(V, H).bfloat16(), random(V).bfloat16()]
    rounded, wide = (
        HeadPredictions(*[x.detach().to(dtype).requires_grad_() for x in leaves])
        for dtype in (torch.bfloat16, torch.float32)
    )
    return rounded, wide, torch.arange(num) % 2


@pytest.mark.parametrize("is_mixed", [False, True])
def test_losses_of_bfloat16_read_logits_that_are_not_rounded(is_mixed: bool) -> None:
    rounded, wide, target = of_bfloat16(NUM)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
        found = target_log_q(rounded, target, 1.0)
    expected = target_log_q(wide, target, 1.0)
    assert expected.abs().max() > 20
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_gradients_of_a_bfloat16_head_are_summed_over_chunks_in_float32() -> None:
    rounded, wide, target = of_bfloat16(2400)
    for predictions in (rounded, wide):
        target_log_q(predictions, target, 1.0).sum().backward()
    for name in ("weight_VH", "bias_V", "hidden_TH"):
        found, expected = (getattr(of, name).grad.float() for of in (rounded, wide))
        assert (found - expected).norm() < 5e-3 * expected.norm(), name


# Memory


class LargestTensor(TorchDispatchMode):
    """Notes the most entries of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.num_entries = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        outcome = func(*args, **(kwargs or {}))
        for tensor in outcome if isinstance(outcome, tuple | list) else [outcome]:
            if isinstance(tensor, Tensor):
                self.num_entries = max(self.num_entries, tensor.numel())
        return outcome


def largest(objective_of: Callable[[RolloutWorker], Objective], lengths: list[int]) -> int:
    """Entries of the largest tensor of a step with LoRA, beside the weights."""
    student = student_of(["no", "yes"], num=2, lengths=lengths)
    policy = build_policy(tiny_model(), tiny_tokenizer(), config.Lora(rank=2, alpha=4))
    decoding = replace(student.decoding, max_tokens=max(lengths))
    student = replace(student, policy=policy, scorer=Scorer(policy.model), decoding=decoding)
    method = OnPolicy(student, [(1.0, objective_of(student))])
    with LargestTensor() as watched:
        batch = method.collect(asked("a"), 0)
        assert batch.num_learned_tokens == sum(lengths)
        method.loss(batch.rollouts, batch.num_learned_tokens)[0].backward()
    return watched.num_entries


LOSSES: list[Callable[[RolloutWorker], Objective]] = [
    lambda student: distill(student),
    lambda student: distill(student, support={"type": "teacher_top_k", "k": 4, "outside": "tail"}),
    lambda student: distill(student, support={"type": "student_top_k", "k": 4}),
    lambda student: distill(student, support={"type": "full"}),
    lambda student: distill(student, divergence={"type": "sampled_token"}),
    lambda student: Grpo(
        config.Grpo.model_validate(GRPO),
        student,
        moved(student),
        [RubricReward(ScriptedJudge(VERDICTS))],
    ),
]


@pytest.mark.parametrize("objective_of", LOSSES)
def test_no_step_ever_holds_logits_of_all_tokens(
    objective_of: Callable[[RolloutWorker], Objective], monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = len(tiny_tokenizer())
    monkeypatch.setitem(logits.CHUNK_ENTRIES, "cpu", 16 * vocabulary)
    # The head's weights are 32 such rows themselves.
    assert largest(objective_of, [150, 200]) <= 40 * vocabulary


def test_the_watched_peak_would_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(logits.CHUNK_ENTRIES, "cpu", 2**24)
    assert largest(LOSSES[1], [150, 200]) >= 350 * len(tiny_tokenizer())
