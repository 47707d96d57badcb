"""Scoring: completion-only logits, adapters, errors."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny import tiny_folder, tiny_model, tiny_tokenizer
from transformers import GenerationConfig

from rcsd import config
from rcsd.engines.hf import HfEngine
from rcsd.engines.local import LocalEngine
from rcsd.errors import ModelError, RunError
from rcsd.models.logits import HeadPredictions, target_log_q
from rcsd.models.packing import packed, padded
from rcsd.models.policy import build_policy, load_policy
from rcsd.models.save import export_merged, save_model
from rcsd.models.scorer import Scorer
from rcsd.models.teacher import AdaptersOffTeacher, ShadowTeacher, build_teacher
from rcsd.types import Decoding

FULL, LORA = config.FullFineTuning(), config.Lora(rank=4, alpha=8)
PROMPTS, COMPLETIONS = [[5, 6, 7], [8]], [[9, 10], [11, 12, 13, 1]]
ROWS = padded(PROMPTS, COMPLETIONS, pad_id=0)


@pytest.mark.parametrize("training", [FULL, LORA])
def test_picked_logits_equal_the_whole_model_s(
    training: config.Lora | config.FullFineTuning,
) -> None:
    policy = build_policy(tiny_model(), tiny_tokenizer(), training)
    fast, slow = Scorer(policy.model), Scorer(policy.model, head="whole")
    assert fast.head == "plain"
    torch.testing.assert_close(fast(ROWS).logits(), slow(ROWS).logits())


def test_a_head_that_is_not_plain_is_noticed_and_scored_by_the_whole_model() -> None:
    model = tiny_model()
    model.lm_head.register_forward_hook(lambda module, inputs, logits: logits)
    assert Scorer(build_policy(model, tiny_tokenizer(), FULL).model).head == "plain"
    forward = model.forward

    def capped(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = 3 * torch.tanh(output.logits / 3)
        return output

    model.forward = capped
    scorer = Scorer(build_policy(model, tiny_tokenizer(), FULL).model)
    assert scorer.head == "whole"
    assert scorer(ROWS).logits().abs().max() < 3


@pytest.mark.parametrize("training", [FULL, LORA])
def test_under_mixed_precision_the_head_computes_in_it_too(
    training: config.Lora | config.FullFineTuning,
) -> None:
    policy = build_policy(tiny_model(), tiny_tokenizer(), training)
    scorer = Scorer(policy.model)
    whole = scorer(ROWS)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = scorer(ROWS)
    assert isinstance(mixed, HeadPredictions)
    assert mixed.hidden_TH.dtype == mixed.weight_VH.dtype == torch.bfloat16
    assert mixed.logits().dtype == torch.float32
    losses = [target_log_q(of, ROWS.target_T, 1.0).sum() for of in (whole, mixed)]
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0)
    gradients = [torch.autograd.grad(loss, list(policy.trainable.values())) for loss in losses]
    for exact, near in zip(*gradients, strict=True):
        assert (near - exact).norm() <= 0.1 * exact.norm()


def test_scores_do_not_depend_on_padding_or_on_the_other_rows() -> None:
    policy = build_policy(tiny_model(), tiny_tokenizer(), FULL)
    scorer = Scorer(policy.model)
    alone = scorer(padded([[8]], [[11, 12, 13, 1]], pad_id=3))
    torch.testing.assert_close(scorer(ROWS)[2:].logits(), alone.logits())


def test_sampled_tokens_have_the_probabilities_that_scoring_gives_them() -> None:
    policy = build_policy(tiny_model(), tiny_tokenizer(), FULL)
    engine = HfEngine(policy, batch_size=4)
    prompts = [[5, 6, 7], [8], [9, 10, 11, 12]]
    greedy = engine.sample(prompts, Decoding(max_tokens=6), seed=0)
    ids = [completion.token_ids for completion in greedy]
    rows = packed(prompts, ids)
    assert Scorer(policy.model)(rows).logits().argmax(-1).tolist() == rows.target_T.tolist()


@pytest.mark.parametrize("training", [FULL, LORA])
def test_the_models_own_penalties_do_not_touch_the_samples_and_are_saved(
    training: config.Lora | config.FullFineTuning, tmp_path: Path
) -> None:
    plain = HfEngine(build_policy(tiny_model(), tiny_tokenizer(), training), batch_size=2)
    model = tiny_model()
    model.generation_config.repetition_penalty = 5.0
    penal = build_policy(model, tiny_tokenizer(), training)
    decoding, prompts = Decoding(max_tokens=8), [[5, 6, 7], [8]]
    sampled = HfEngine(penal, batch_size=2).sample(prompts, decoding, seed=0)
    assert sampled == plain.sample(prompts, decoding, seed=0)
    save_model(penal, tmp_path, "card")
    if training is FULL:
        assert GenerationConfig.from_pretrained(tmp_path).repetition_penalty == 5.0


def test_a_turn_ends_with_the_templates_token_even_where_the_end_token_is_another() -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.eos_token = "<|system|>"
    policy = build_policy(tiny_model(), tokenizer, FULL)
    assert policy.turn_end_id == tokenizer.convert_tokens_to_ids("<|end|>")
    assert tokenizer.eos_token_id in policy.end_ids


@pytest.mark.parametrize("training", [FULL, LORA])
def test_the_frozen_teacher_keeps_the_initial_weights_while_the_student_moves(
    training: config.Lora | config.FullFineTuning,
) -> None:
    policy = build_policy(tiny_model(), tiny_tokenizer(), training)
    scorer, teacher = Scorer(policy.model), build_teacher(config.FrozenTeacher(), policy)
    assert isinstance(teacher, AdaptersOffTeacher if policy.has_adapters else ShadowTeacher)
    initial = scorer(ROWS).logits().detach()
    for parameter in policy.trainable.values():
        parameter.data += 0.1
    teacher.update()
    moved = scorer(ROWS).logits().detach()
    with teacher.weights():
        torch.testing.assert_close(scorer(ROWS).logits(), initial, rtol=0, atol=0)
    assert torch.equal(scorer(ROWS).logits(), moved)
    assert not torch.allclose(moved, initial)


def test_the_moving_average_follows_by_its_decay() -> None:
    policy = build_policy(tiny_model(), tiny_tokenizer(), FULL)
    teacher = ShadowTeacher(policy, decay=0.75)
    name, parameter = next(iter(policy.trainable.items()))
    initial = parameter.data.clone()
    parameter.data += 1.0
    teacher.update()
    torch.testing.assert_close(teacher.state_dict()[name], initial + 0.25)


def test_a_merged_adapter_scores_like_the_adapted_model(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path / "base")
    policy = load_policy(config.Model(path=base, training=LORA))
    for name, parameter in policy.trainable.items():
        torch.manual_seed(len(name))
        parameter.data.normal_(std=0.1)
    save_model(policy, tmp_path / "adapter", "card")
    section = config.Model(path=base, training=LORA)
    export_merged(section, tmp_path / "adapter", tmp_path / "merged")
    with pytest.raises(RunError, match="exists"):
        export_merged(section, tmp_path / "adapter", tmp_path / "merged")
    merged = load_policy(config.Model(path=str(tmp_path / "merged"), training=FULL))
    policy.model.eval()
    both = [Scorer(one.model)(ROWS).logits() for one in (merged, policy)]
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-4)


def test_models_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot load '.*nowhere'"):
        load_policy(config.Model(path=str(tmp_path / "nowhere")))
    with pytest.raises(ModelError, match="no such model; there are micro"):
        load_policy(config.Model(path="builtin:nano"))
    folder = tiny_folder(tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        load_policy(config.Model(path=folder))


def test_a_misspelt_variable_of_the_chat_template_is_named(tmp_path: Path) -> None:
    folder, kwargs = tiny_folder(tmp_path / "model"), {"thinking": True}
    with pytest.raises(ModelError, match=r"kwargs\.thinking: .* no such variable; it uses: none"):
        load_policy(config.Model(path=folder, chat_template_kwargs=kwargs))


def test_every_end_token_of_the_generation_config_ends_a_completion() -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    model.generation_config.eos_token_id = [1, 7]
    policy = build_policy(model, tokenizer, FULL)
    assert (policy.end_ids, policy.turn_end_id) == ((1, 7), 1)
    prompt = tokenizer("A question.", add_special_tokens=False)["input_ids"]
    for name, engine in (("local", LocalEngine(policy, 1)), ("hf", HfEngine(policy, 1))):
        prompts = [[*prompt, n] for n in range(8, 40)]
        done = engine.sample(prompts, Decoding(max_tokens=64, temperature=2.0), seed=0)
        lasts = {c.token_ids[-1] for c in done if c.finished}
        assert lasts == {1, 7}, name
        assert all(not {1, 7} & {*c.token_ids[:-1]} for c in done)
        assert all(len(c.token_ids) == 64 for c in done if not c.finished)


def test_an_end_token_that_ends_every_channel_is_refused() -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|channel|>"]})
    with pytest.raises(ModelError, match="stop before their answer"):
        build_policy(tiny_model(), tokenizer, FULL)


def test_a_template_whose_tokens_the_model_does_not_embed_is_refused() -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<new>"]})
    tokenizer.chat_template = "<new>" + tokenizer.chat_template
    with pytest.raises(ModelError, match=r"'<new>' has the id \d+, and the model's embedding"):
        build_policy(tiny_model(), tokenizer, FULL)
