"""Packed rows: prompts that are read once give what each sequence by itself would give."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.methods.test_grpo import asked, student_of
from tests.methods.test_on_policy import distill, found, moved
from tests.support.tiny import tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rcsd import config
from rcsd.methods.on_policy import OnPolicy
from rcsd.models.packed_attention import PACKED, Branch, packed_attention
from rcsd.models.packing import packed, padded
from rcsd.models.policy import Policy, build_policy, load_policy
from rcsd.models.save import save_model
from rcsd.models.scorer import Scorer

FULL, LORA = config.FullFineTuning(), config.Lora(rank=4, alpha=8)
PROMPTS = [[5, 6, 7, 8, 9], [3, 4], [5, 6, 7, 8, 9], [5, 6, 7, 8, 9]]
COMPLETIONS = [[10, 11, 12, 13, 14, 15], [16], [17, 18], [19, 20, 21, 22]]
SMALL: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48}
SMALL |= {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
SMALL |= {"initializer_range": 0.3, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
GPT2: dict[str, Any] = {"vocab_size": 64, "n_positions": 64, "n_embd": 32, "n_layer": 2}
GPT2 |= {"n_head": 4, "bos_token_id": 1, "eos_token_id": 1, "initializer_range": 0.3}
GPT2 |= {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}


def policy(model: Any, training: config.Lora | config.FullFineTuning = FULL) -> Policy:
    return build_policy(model, tiny_tokenizer(), training)


def both(
    policy: Policy, prompts: Sequence[list[int]] = PROMPTS, completions: Any = COMPLETIONS
) -> tuple[Tensor, Tensor]:
    """Logits of the completions, packed and padded."""
    scorer = Scorer(policy.model)
    rows = packed(prompts, completions), padded(prompts, completions, 0)
    fast, slow = (scorer(row).logits() for row in rows)
    return fast, slow


# By hand


@pytest.mark.parametrize(
    ("layout", "window", "seen"),
    [
        ((Branch((0, 2), ((2, 4), (4, 5))), Branch((5, 6), ())), None, "0 01 012 0123 014 5"),
        ((Branch((0, 3), ((3, 4), (4, 6))),), 2, "0 01 12 23 24 45"),
    ],
    ids=["completions see their prompt and themselves", "a window goes back into the prompt"],
)
def test_tokens_see_what_the_layout_says_and_no_other(
    layout: Any, window: int | None, seen: str
) -> None:
    # Keys are all alike, so a token sees the mean of the values that it may see.
    value = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]).view(1, 1, 6, 1)
    key, module = torch.zeros_like(value), torch.nn.Identity()
    mean, _ = packed_attention(module, key, key, value, None, layout, sliding_window=window)
    expected = [sum(2.0 ** int(n) for n in places) / len(places) for places in seen.split()]
    assert mean.flatten().tolist() == pytest.approx(expected)


# Fast equals slow


MODELS: list[Callable[[], Any]] = [
    tiny_model,
    lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=8)),
    lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=4)),
]


@pytest.mark.parametrize(
    ("model", "training"),
    # GPT-2 has learned positions.
    [*product(MODELS, (FULL, LORA)), (lambda: GPT2LMHeadModel(GPT2Config(**GPT2)), FULL)],
)
def test_packed_rows_give_the_logits_and_gradients_of_padded_ones(
    model: Callable[[], Any], training: config.Lora | config.FullFineTuning
) -> None:
    torch.manual_seed(0)
    ours = policy(model(), training)
    assert ours.packs
    for parameter in ours.trainable.values():
        parameter.data += 0.02 * torch.randn_like(parameter)
    fast, slow = both(ours)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)
    parameters = list(ours.trainable.values())
    gradients = [torch.autograd.grad(x.square().sum(), parameters) for x in (fast, slow)]
    scale = max(gradient.abs().max() for gradient in gradients[1])
    for a, b in zip(*gradients, strict=True):
        assert (a - b).abs().max() < 1e-5 * scale


@pytest.mark.gpu
def test_packed_rows_give_the_gradients_of_padded_ones_on_a_gpu_in_bfloat16() -> None:
    torch.manual_seed(0)
    shape: dict[str, Any] = SMALL | {"hidden_size": 256, "head_dim": 64}
    model: Any = Qwen3ForCausalLM(Qwen3Config(**shape))
    model = model.to("cuda", torch.bfloat16)
    ours = policy(model, LORA)
    assert ours.packs
    scorer = Scorer(ours.model)
    rows = packed(PROMPTS, COMPLETIONS, "cuda"), padded(PROMPTS, COMPLETIONS, 0, "cuda")
    parameters = list(ours.trainable.values())
    losses = [scorer(row).logits().logsumexp(-1).sum() for row in rows]
    fast, slow = (
        torch.cat([g.flatten().float() for g in torch.autograd.grad(loss, parameters)])
        for loss in losses
    )
    assert (fast - slow).norm() <= 0.05 * slow.norm()


def test_a_step_learns_the_same_from_packed_and_from_padded_rows() -> None:
    ours = student_of(["no"] * 4, num=2, lengths=[2, 8, 5, 1])
    teacher = moved(ours)
    learned = []
    for packs in (True, False):
        student = replace(ours, policy=replace(ours.policy, packs=packs))
        method = OnPolicy(student, [(1.0, distill(student, teacher))])
        batch = method.collect(asked("a", "b"), 0)
        assert batch.packs == packs
        learned.append(found(method, batch, max_tokens_per_microbatch=60))
    (loss, metrics, gradient), slow = learned
    assert loss == pytest.approx(slow[0], rel=1e-5)
    assert metrics == pytest.approx(slow[1], rel=1e-4, abs=1e-6)
    torch.testing.assert_close(gradient, slow[2], rtol=1e-3, atol=1e-5)


# Models that cannot


@pytest.mark.parametrize("kind", ["convolutions", "eager"])
def test_a_model_that_cannot_read_packed_rows_is_given_padded_ones(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "convolutions":  # they leak from one completion to the next
        layers = ["conv", "full_attention", "conv"]
        model: Any = Lfm2ForCausalLM(Lfm2Config(**SMALL, layer_types=layers))
    else:
        model = tiny_model()
        model.set_attn_implementation("eager")
    ours = policy(model)
    assert not ours.packs
    assert ours.model.config._attn_implementation != PACKED
    alone = Scorer(ours.model)(padded([[5, 6]], [[7, 8]], 0)).logits()
    assert alone.isfinite().all()


def test_packing_can_be_switched_off_and_leaves_no_trace_in_what_is_saved(tmp_path: Path) -> None:
    ours = policy(tiny_model())
    save_model(ours, tmp_path / "saved", "card")
    assert PACKED not in (tmp_path / "saved" / "config.json").read_text(encoding="utf-8")
    section = config.Model(path=str(tmp_path / "saved"), training=FULL, packing=False)
    assert not load_policy(section).packs
    assert load_policy(section.model_copy(update={"packing": True})).packs
