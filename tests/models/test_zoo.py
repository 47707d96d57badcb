"""Tiny random models of many architectures against plain passes of transformers, row by row."""

import re
from typing import Any

import pytest
import torch
import transformers
from tests.support.tiny import tiny_tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from rcsd.config import FullFineTuning
from rcsd.engines.build import chosen_engine
from rcsd.models.packing import Packed, Padded, packed, padded
from rcsd.models.policy import Policy, build_policy
from rcsd.models.scorer import Scorer
from rcsd.types import Decoding

LONG_ROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 32,
    "long_factor": [4.0] * 4, "short_factor": [1.0] * 4, "factor": 16.0,
}  # fmt: skip
FAST = {
    "bloom": "positions by a bias",
    "doge": "windows that live in the mask alone",
    "gemma2": "soft caps",
    "gpt2": "dropout by default, no rotary embedding",
    "granite": "scales",
    "lfm2": "convolutions",
    "llama": "the plain one",
    "mamba": "a state",
    "phi3": "factors of LongRoPE",
    "phimoe": "a window in the mask alone, router jitter",
    "qwen3_moe": "a mixture",
    "seed_oss": "dropout by default",
}
SLOW = re.findall(
    r"\S+",
    """
    apertus arcee bamba biogpt bitnet cohere cohere2 cwm deepseek_v2 deepseek_v3 deepseek_v4
    diffllama dots1 ernie4_5 ernie4_5_moe exaone4 falcon_h1 falcon_mamba flex_olmo gemma gemma3_text
    gemma3n_text glm glm4 glm4_moe gpt_neo gpt_neox gpt_oss gptj granitemoe granitemoehybrid helium
    hunyuan_v1_dense jamba jetmoe llama4_text mamba2 minimax mistral mixtral mpt nanochat nemotron
    olmo olmo2 olmo3 olmoe opt phi qwen2 qwen2_moe qwen3 qwen3_next recurrent_gemma smollm3 stablelm
    starcoder2 vaultgemma
    """,
)
HYBRIDS = [
    "bamba", "falcon_mamba", "granitemoehybrid", "jamba", "minimax", "qwen3_next",
    "recurrent_gemma",
]  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {
        **dict.fromkeys(("laurel_rank", "hidden_size_per_layer_input"), 8), "altup_num_inputs": 2,
        "vocab_size_per_layer_input": 300, "intermediate_size": [48, 48], "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention"],
        "activation_sparsity_pattern": [0.5, 0.0],
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "granite": {"attention_dropout": 0.1},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "mamba2": {"num_heads": 8, "n_groups": 1, "chunk_size": 8},
    "phi3": {"original_max_position_embeddings": 32, "rope_parameters": LONG_ROPE},
    "qwen2_moe": {"use_sliding_window": True, "max_window_layers": 0},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "recurrent_gemma": {"num_hidden_layers": 3},
}  # fmt: skip
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "lru_width", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "mamba_n_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "mamba_d_head"), 16),
    **dict.fromkeys(("sliding_window", "attention_window_size", "state_size", "mamba_d_state"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 256),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace", "n_shared_experts"), 1),
    **dict.fromkeys(("num_key_value_heads", "num_experts_per_tok", "linear_num_key_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("initializer_range", "init_std"), 0.2),
    "linear_num_value_heads": 4, "mamba_n_groups": 1, "mamba_chunk_size": 8, "time_step_rank": 4,
    "rotary_dim": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def tiny(name: str) -> Any:
    """A model of the architecture with random weights, in a few thousand parameters."""
    if name == "doge" and transformers.__version__.startswith("5.0."):
        pytest.skip("sees later tokens in that release, and is refused")
    kind = type(AutoConfig.for_model(name))
    default = kind()
    options = {key: value for key, value in SMALL.items() if hasattr(default, key)}
    if hasattr(default, "kv_lora_rank"):
        options["num_key_value_heads"] = 4
    torch.manual_seed(0)
    section = kind(**{**options, "vocab_size": len(tiny_tokenizer()), **SETTINGS.get(name, {})})
    section.pad_token_id = getattr(section, "pad_token_id", None)  # transformers 5.0 lacks some
    return AutoModelForCausalLM.from_config(section).eval()


def plain_log_p(
    model: Any, prompt: list[int], completion: list[int], temperature: float = 1.0
) -> Tensor:
    """Log-probabilities of one completion by one pass over its row alone."""
    ids_1L = torch.tensor([[*prompt, *completion]])
    logits_LV = model(input_ids=ids_1L, use_cache=False).logits[0].float()
    log_p_LV = (logits_LV / temperature).log_softmax(-1)
    before_T = torch.arange(len(prompt) - 1, len(prompt) + len(completion) - 1)
    return log_p_LV[before_T, ids_1L[0, len(prompt) :]]


def log_p(scorer: Scorer, rows: Packed | Padded) -> Tensor:
    """Log-probabilities as training computes them."""
    log_p_TV = scorer(rows).logits().log_softmax(-1)
    return log_p_TV.gather(1, rows.target_T[:, None])[:, 0]


def gradients(model: nn.Module, loss: Tensor) -> Tensor:
    """Gradient of all parameters, in one vector."""
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_scores_gradients_and_samples_are_those_of_plain_passes(name: str) -> None:
    transformers.logging.set_verbosity_error()
    model = tiny(name)
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randint(5, 200, (n,), generator=draw).tolist() for n in (9, 4))
    prompts = [first, first, second]
    completions = [torch.randint(5, 200, (n,), generator=draw).tolist() for n in (12, 5, 8)]

    slow = [plain_log_p(model, p, c) for p, c in zip(prompts, completions, strict=True)]
    slow_gradient = gradients(model, torch.cat(slow).sum())
    policy = build_policy(model, tiny_tokenizer(), FullFineTuning(type="full"))
    scorer = Scorer(policy.model)
    layouts: list[Packed | Padded] = [padded(prompts, completions, 0)]
    if policy.packs:
        layouts.append(packed(prompts, completions))
    for rows in layouts:
        fast = log_p(scorer, rows)
        torch.testing.assert_close(fast, torch.cat(slow), atol=2e-4, rtol=0)
        gradient = gradients(model, fast.sum())
        assert (gradient - slow_gradient).norm() <= 1e-3 * slow_gradient.norm()

    engine = chosen_engine(None, policy, batch_size=2, longest=32)
    # The longest is longer than the windows, and pads the shortest.
    prompts.append(torch.randint(5, 200, (24,), generator=draw).tolist())
    for temperature in (None, 1.5):
        sampled = engine.sample(prompts, Decoding(6, temperature), seed=0)
        for prompt, completion in zip(prompts, sampled, strict=True):
            ids = list(completion.token_ids)
            assert temperature or ids == greedy(policy, prompt, 6)
            with torch.no_grad():
                slow_log_q = plain_log_p(model, prompt, ids, temperature or 1.0)
            assert completion.log_q == pytest.approx(slow_log_q.tolist(), abs=2e-4)


@pytest.mark.parametrize("is_mixed", [False, True])
@pytest.mark.parametrize(
    "name", ["mamba", "lfm2", *(pytest.param(name, marks=pytest.mark.slow) for name in HYBRIDS)]
)
def test_states_and_hybrids_sample_and_score_alike_in_bfloat16(name: str, is_mixed: bool) -> None:
    transformers.logging.set_verbosity_error()
    model = tiny(name) if is_mixed else tiny(name).bfloat16()
    policy = build_policy(model, tiny_tokenizer(), FullFineTuning(type="full"))
    engine, prompts = chosen_engine(None, policy, batch_size=2, longest=32), [[5, 6], [7, 8, 9]]
    with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
        sampled = engine.sample(prompts, Decoding(6, 1.0), seed=0)
        rows = padded(prompts, [completion.token_ids for completion in sampled], 0)
        log_q = log_p(Scorer(policy.model), rows)
    engine_log_q = torch.tensor([value for each in sampled for value in each.log_q])
    assert (engine_log_q - log_q).abs().mean() < 0.05
    assert gradients(model, log_q.sum()).isfinite().all()


def greedy(policy: Policy, prompt: list[int], num_tokens: int) -> list[int]:
    """The likeliest continuation by plain passes over the whole row."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(num_tokens):
            logits_LV = policy.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            ids.append(int(logits_LV[-1].argmax()))
            if ids[-1] in policy.end_ids:
                break
    return ids[len(prompt) :]
