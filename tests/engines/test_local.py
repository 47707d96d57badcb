"""The own decode loop: it says what transformers says, whatever the batch, and who leaves it."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.support.tiny import tiny_model, tiny_shape, tiny_tokenizer
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

from rcsd import config
from rcsd.data.rubric import rubric_regex
from rcsd.engines import local
from rcsd.engines.build import chosen_engine
from rcsd.engines.hf import HfEngine
from rcsd.engines.local import LocalEngine
from rcsd.engines.sampler import drawn, uniforms
from rcsd.engines.vllm_requests import policy_log_q
from rcsd.errors import ModelError
from rcsd.models.policy import Policy, build_policy
from rcsd.models.scorer import has_plain_head
from rcsd.types import Decoding

FULL, LORA = config.FullFineTuning(), config.Lora(rank=4, alpha=8)
PADDED = [[5], [6, 7, 8, 9, 10, 11], [12, 13], [5, 6, 7], [200, 201, 202, 203], [5, 6, 7]]
EQUAL = [[5, 6, 7], [8, 9, 10], [5, 6, 7], [11, 12, 13], [5, 6, 7], [8, 9, 10]]


def tiny_policy(many_ends: bool = False, training: Any = FULL) -> Policy:
    """Of random weights; many end tokens make rows end at different times."""
    policy = build_policy(tiny_model(), tiny_tokenizer(), training)
    for name, parameter in policy.trainable.items():
        if training is LORA:
            torch.manual_seed(len(name))
            parameter.data.normal_(std=0.3)
    ends = tuple(range(1, policy.vocab_size, 15)) if many_ends else policy.end_ids
    return dataclasses.replace(policy, end_ids=ends)


def with_ends_at_different_times(policy: Policy, prompts: list[list[int]]) -> Policy:
    """What is said greedily of the n-th prompt ends after about 5 n tokens."""
    said = HfEngine(policy, 1).sample(prompts[:4], Decoding(20), seed=0)
    ends = {completion.token_ids[5 * n + 2] for n, completion in enumerate(said)}
    return dataclasses.replace(policy, end_ids=tuple(ends))


def forward_calls(policy: Policy, act: Callable[[], object]) -> list[tuple[int, int]]:
    """Rows and columns of each call of the decoder while something is done."""
    shapes: list[tuple[int, int]] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        shapes.append(tuple(kwargs["input_ids"].shape))

    hook = policy.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    act()
    hook.remove()
    return shapes


# What transformers says


@pytest.mark.parametrize("training", [FULL, LORA])
@pytest.mark.parametrize("prompts", [PADDED, EQUAL])
@pytest.mark.parametrize("batch_size", [4, 32])
@pytest.mark.parametrize("many_ends", [False, True])
def test_greedy_completions_are_those_of_transformers_token_for_token(
    training: Any, prompts: list[list[int]], batch_size: int, many_ends: bool
) -> None:
    policy, decoding = tiny_policy(training=training), Decoding(30)
    policy = with_ends_at_different_times(policy, prompts) if many_ends else policy
    expected = HfEngine(policy, batch_size).sample(prompts, decoding, seed=0)
    assert LocalEngine(policy, batch_size).sample(prompts, decoding, seed=0) == expected
    assert (len({len(completion.token_ids) for completion in expected}) > 1) == many_ends


@pytest.mark.parametrize("batch_size", [2, 6])
def test_greedy_completions_within_a_grammar_are_those_of_transformers(batch_size: int) -> None:
    policy, decoding = tiny_policy(), Decoding(90, regex=rubric_regex(2, 12))
    expected = HfEngine(policy, batch_size).sample(PADDED, decoding, seed=0)
    assert len({len(completion.token_ids) for completion in expected}) > 2
    engine = LocalEngine(policy, batch_size)
    assert engine.sample(PADDED, decoding, seed=0) == expected
    free = Decoding(20)
    assert engine.sample(PADDED, free, 0) == HfEngine(policy, 6).sample(PADDED, free, 0)
    assert engine.sample(PADDED, decoding, seed=0) == expected


@pytest.mark.parametrize(
    ("kind", "section"), [(MistralForCausalLM, MistralConfig), (Gemma2ForCausalLM, Gemma2Config)]
)
@pytest.mark.parametrize("batch_size", [2, 6])
def test_models_with_sliding_windows_say_what_they_say_with_transformers(
    kind: type, section: type, batch_size: int
) -> None:
    torch.manual_seed(0)
    shape = tiny_shape() | {"sliding_window": 4, "tie_word_embeddings": False, "head_dim": 16}
    policy = build_policy(kind(section(**shape)).eval(), tiny_tokenizer(), FULL)
    decoding = Decoding(25)
    policy = with_ends_at_different_times(policy, PADDED)
    assert has_plain_head(policy.model) == (kind is MistralForCausalLM)
    expected = HfEngine(policy, batch_size).sample(PADDED, decoding, seed=0)
    assert len({len(completion.token_ids) for completion in expected}) > 1
    assert LocalEngine(policy, batch_size).sample(PADDED, decoding, seed=0) == expected


def test_bfloat16_is_used_where_training_uses_it() -> None:
    policy, decoding = tiny_policy(many_ends=True), Decoding(20)

    def half() -> contextlib.AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16)

    expected = HfEngine(policy, 6, half).sample(EQUAL, decoding, seed=0)
    assert LocalEngine(policy, 6, half).sample(EQUAL, decoding, seed=0) == expected
    assert all(parameter.dtype == torch.float32 for parameter in policy.model.parameters())


# The distribution


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, 1.0), (2.0, None, 1.0), (1.0, 4, 1.0), (1.5, None, 0.8), (2.0, 12, 0.7)],
)
def test_samples_are_drawn_from_the_models_probabilities(
    temperature: float, top_k: int | None, top_p: float
) -> None:
    policy, num = tiny_policy(), 500
    with torch.no_grad():
        logits_V = policy.model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1]
    numbers = uniforms(1, range(num), 1)[:, 0]
    expected = drawn(logits_V.expand(num, -1), numbers, temperature, top_k, top_p)
    decoding = Decoding(1, temperature, top_p, top_k)
    sampled = LocalEngine(policy, num).sample([[5, 6, 7]] * num, decoding, seed=1)
    assert [completion.token_ids[0] for completion in sampled] == expected.tolist()


@pytest.mark.parametrize(
    ("warped", "grammar"),
    [({}, None), ({"top_k": 20, "top_p": 0.95}, None), ({"top_p": 0.9}, rubric_regex(2, 12))],
)
def test_what_is_sampled_depends_neither_on_the_batch_nor_on_the_other_prompts(
    warped: dict[str, Any], grammar: str | None
) -> None:
    policy, prompts = tiny_policy(many_ends=grammar is None), PADDED * 2
    decoding, before = Decoding(60, 1.2, **warped, regex=grammar), torch.get_rng_state()
    together = LocalEngine(policy, 64).sample(prompts, decoding, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert together != LocalEngine(policy, 64).sample(prompts, decoding, seed=1)
    assert together[3] != together[5], "equal prompts draw different numbers"
    assert len({len(completion.token_ids) for completion in together}) > 3
    for batch_size in (1, 5):
        assert LocalEngine(policy, batch_size).sample(prompts, decoding, seed=0) == together
    others = [prompts[0], *[[40, 41, 42, 43, 44, 45, 46, 47]] * 10, prompts[-1]]
    beside = LocalEngine(policy, 64).sample(others, decoding, seed=0)
    assert (beside[0], beside[-1]) == (together[0], together[-1])


@pytest.mark.parametrize("kind", [LocalEngine, HfEngine])
@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(20),
        Decoding(20, 0.7),
        Decoding(20, 1.5, top_k=4),
        Decoding(20, 1.2, top_p=0.8),
        Decoding(90, 1.2, regex=rubric_regex(2, 12)),
    ],
)
def test_log_probabilities_are_over_the_whole_vocabulary_at_the_temperature(
    kind: Any, decoding: Decoding
) -> None:
    policy = tiny_policy(many_ends=decoding.regex is None)
    for prompt, said in zip(PADDED, kind(policy, 4).sample(PADDED, decoding, 0), strict=True):
        own = policy_log_q(policy, prompt, said.token_ids, decoding.temperature or 1.0)
        assert said.log_q == pytest.approx(own, abs=1e-4)


# Who comes and goes


def test_equal_prompts_are_read_once() -> None:
    policy = tiny_policy()
    engine = LocalEngine(policy, 6)
    shapes = forward_calls(policy, lambda: engine.sample(EQUAL, Decoding(3, 1.0), seed=0))
    assert shapes == [(3, 3), (6, 1), (6, 1)]


@pytest.mark.parametrize(("share", "tokens_per_check"), [(0.01, 1), (1.0, 1), (0.25, 7)])
def test_rows_that_leave_or_enter_early_or_late_do_not_disturb_the_others(
    monkeypatch: pytest.MonkeyPatch, share: float, tokens_per_check: int
) -> None:
    policy, decoding = tiny_policy(many_ends=True), Decoding(40, 1.0)
    expected = LocalEngine(policy, 1).sample(PADDED + EQUAL, decoding, seed=0)
    monkeypatch.setattr(local, "MOVING_SHARE", share)
    monkeypatch.setitem(local.TOKENS_PER_CHECK, "cpu", tokens_per_check)
    assert LocalEngine(policy, 4).sample(PADDED + EQUAL, decoding, seed=0) == expected


def test_rows_that_have_ended_leave_and_waiting_prompts_take_their_room() -> None:
    policy, decoding = tiny_policy(many_ends=True), Decoding(60, 1.0)
    prompts = [[n] for n in range(30, 54)]
    engine = LocalEngine(policy, 8)
    completions = engine.sample(prompts, decoding, seed=0)
    shapes = forward_calls(policy, lambda: engine.sample(prompts, decoding, seed=0))
    num_read = sum(rows for rows, _ in shapes)
    num_kept = sum(len(completion.token_ids) for completion in completions)
    assert num_kept <= num_read < 1.4 * num_kept


# Errors and settings


@pytest.mark.parametrize("kind", [LocalEngine, HfEngine])
@pytest.mark.parametrize("temperature", [None, 1.0])
@pytest.mark.parametrize("grammar", [None, rubric_regex(2, 12)])
def test_weights_that_are_not_numbers_are_an_error(
    monkeypatch: pytest.MonkeyPatch, temperature: float | None, grammar: str | None, kind: Any
) -> None:
    monkeypatch.setitem(local.TOKENS_PER_CHECK, "cpu", 8)
    policy, decoding = tiny_policy(), Decoding(20, temperature, top_k=5, regex=grammar)
    policy.model.lm_head.weight.data.fill_(math.nan)
    with pytest.raises(FloatingPointError):
        kind(policy, 8).sample(PADDED, decoding, seed=0)


@pytest.mark.parametrize("ignored", [("cache", "past_key_values"), ("attention_mask",)])
def test_a_model_that_cannot_go_on_from_a_cache_is_refused_with_what_to_do(
    ignored: tuple[str, ...],
) -> None:
    policy = tiny_policy()
    decoder, nothing = policy.model.base_model, dict.fromkeys(ignored)
    forward = decoder.forward
    decoder.forward = lambda *args, **kwargs: forward(*args, **kwargs | nothing)
    with pytest.raises(ModelError, match=r"set engine: \{type: hf\}"):
        LocalEngine(policy, 8)
    assert isinstance(chosen_engine(None, policy, 8, 100), HfEngine)
    assert isinstance(chosen_engine(None, tiny_policy(), 8, 100), LocalEngine)
