"""Models whose log-probabilities would be wrong are refused before they are used."""

from typing import Any

import pytest
import torch
from tests.models.test_zoo import tiny
from tests.support.tiny import tiny_model, tiny_tokenizer
from transformers import BertConfig, BertLMHeadModel, OPTConfig, OPTForCausalLM

from rcsd.config import FullFineTuning, Lora
from rcsd.errors import ModelError
from rcsd.models.policy import Policy, build_policy, checkpoint_activations
from rcsd.models.scorer import evaluating
from rcsd.models.self_test import check_model

IDS = torch.tensor([[5, 3, 4, 1]])


def policy(model: Any, **options: Any) -> Policy:
    return build_policy(model, tiny_tokenizer(), **{"training": FullFineTuning(), **options})


def test_weights_that_are_not_numbers_are_refused() -> None:
    model = tiny_model()
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match="not finite: its weights are damaged"):
        policy(model)


def test_a_model_that_sees_later_tokens_is_refused() -> None:
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    section = BertConfig(vocab_size=400, intermediate_size=64, initializer_range=0.3, **shape)
    with pytest.raises(ModelError, match=r"depend on later tokens.*is_decoder"):
        policy(BertLMHeadModel(section).eval())


def test_a_model_that_sees_padding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    forward = model.forward

    def leaking(input_ids: torch.Tensor, **options: Any) -> Any:
        output = forward(input_ids=input_ids, **options)
        output.logits = output.logits + len(input_ids) * torch.arange(output.logits.shape[-1])
        return output

    monkeypatch.setattr(model, "forward", leaking)
    with pytest.raises(ModelError, match="depend on padding"):
        check_model(model)


def test_noise_that_stays_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(model.lm_head, "forward", lambda x: torch.rand(*x.shape[:2], 400))
    with pytest.raises(ModelError, match="two passes over the same tokens differ"):
        check_model(model)


def opt() -> Any:
    """Layers with dropout of their own, called as a function."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
    }
    section = OPTConfig(vocab_size=400, num_attention_heads=2, dropout=0.5, init_std=0.3, **shape)
    return OPTForCausalLM(section).eval()


def test_dropout_of_adapters_stays_and_the_models_own_does_not() -> None:
    model = policy(opt(), training=Lora(rank=4, alpha=8, dropout=0.5)).model
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # adapters begin as if they were not there
            parameter.data.normal_()
    assert not torch.equal(model(IDS).logits, model(IDS).logits)
    with model.disable_adapter():
        assert torch.equal(model(IDS).logits, model(IDS).logits)
    with evaluating(model):
        assert torch.equal(model(IDS).logits, model(IDS).logits)
    assert not torch.equal(model(IDS).logits, model(IDS).logits)


def test_layers_that_compute_anew_with_dropout_of_their_own_are_refused() -> None:
    with pytest.raises(ModelError, match=r"model.activation_checkpointing.*differ"):
        checkpoint_activations(policy(opt()))


def test_rows_stay_within_the_length_at_which_factors_of_positions_change() -> None:
    assert policy(tiny("phi3")).max_positions == 32
    assert policy(tiny("llama")).max_positions == 256
