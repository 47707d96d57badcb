"""A model's numbers, from its configuration alone: its layers are made without any weights.

Axes: H hidden width, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from rcsd import config
from rcsd.errors import ModelError
from rcsd.models.hub import model_folder
from rcsd.models.policy import adapted, causal_lm


@dataclass(frozen=True)
class Shape:
    """What memory and time depend on. Sums are over all layers.

    Args:
        name: Of the model.
        parameters: Weights without adapters; a head that is the embedding counts once.
        trained: Weights that are trained.
        num_trained: Tensors that they make.
        body: Weights of the decoder's linear layers, without the head.
        adapters: Weights of adapters; 0 without.
        head: Weights of the output head, V H.
        is_tied: Whether the head is the embedding.
        vocabulary: V.
        hidden: H.
        layers: Decoder layers.
        heads: Attention heads of a layer.
        query: Width of a layer's queries: heads times their width.
        key: Width of its keys, or of its values.
        intermediate: Width of its feed-forward part.
        norms: Widths of what is normalised.
        num_norms: How many norms there are.
        inputs: Input widths of those linear layers that are trained or have adapters.
        outputs: Their output widths.
        num_adapted: Linear layers with adapters.
        rank: Of the adapters; 0 without.
    """

    name: str
    parameters: int
    trained: int
    num_trained: int
    body: int
    adapters: int
    head: int
    is_tied: bool
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    query: int
    key: int
    intermediate: int
    norms: int
    num_norms: int
    inputs: int
    outputs: int
    num_adapted: int
    rank: int

    @property
    def is_full(self) -> bool:
        """Whether every weight is trained."""
        return self.rank == 0

    @property
    def all_weights(self) -> int:
        """With the adapters."""
        return self.parameters + self.adapters

    @property
    def embeddings(self) -> int:
        """Weights of embeddings and head."""
        return self.head if self.is_tied else 2 * self.head

    @property
    def layer_weights(self) -> float:
        """Weights of one layer, its adapters included."""
        return (self.all_weights - self.embeddings) / self.layers


def shape_of_run(section: config.Model) -> Shape:
    """The shape of a run's model, by its folder or its hub id; no weights are loaded.

    Raises:
        ModelError: If its configuration cannot be had, or `shape_of` refuses it.
    """
    path = model_folder(section.path)
    try:
        found = AutoConfig.from_pretrained(
            path, revision=section.revision, trust_remote_code=section.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"model.path: no configuration of {path!r}: {error}") from error
    return shape_of(found, section.training, section.path)


def shape_of(
    found: PretrainedConfig, training: config.Lora | config.FullFineTuning, name: str = "model"
) -> Shape:
    """Count what a configuration makes, on PyTorch's device without memory.

    Args:
        found: Of transformers.
        training: What is trained.
        name: For messages.

    Raises:
        ModelError: If the model is no decoder of linear layers, norms and embeddings: a mixture of
            experts computes with few of its weights, and no formula here says which.
    """
    text = found.get_text_config()
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(found)
    _refuse_unknown(model, name)
    head: nn.Linear = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    norms = [m for m in model.modules() if _is_norm(m)]
    parameters = sum(p.numel() for p in model.parameters())
    num_tensors = len(list(model.parameters()))
    is_tied = head.weight is model.get_input_embeddings().weight
    body = sum(layer.weight.numel() for layer in linear)
    adapters: list[nn.Linear] = []
    if training.type == "lora":
        policy = adapted(model, training)
        adapters = [m for n, m in policy.named_modules() if _is_adapter(n, m)]
        linear = [m.base_layer for m in policy.modules() if hasattr(m, "lora_A")]
        model = causal_lm(policy)
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    keys = (getattr(text, "num_key_value_heads", None) or heads) * width
    own = sum(layer.weight.numel() for layer in adapters)
    return Shape(
        name=name,
        parameters=parameters,
        trained=own if adapters else parameters,
        num_trained=len(adapters) or num_tensors,
        body=body,
        adapters=own,
        head=head.weight.numel(),
        is_tied=is_tied,
        vocabulary=text.vocab_size,
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        heads=heads,
        query=heads * width,
        key=keys,
        intermediate=text.intermediate_size,
        norms=sum(_norm_width(n.weight.numel(), text, heads * width, keys) for n in norms),
        num_norms=len(norms),
        inputs=sum(layer.in_features for layer in linear),
        outputs=sum(layer.out_features for layer in linear),
        num_adapted=len(adapters) // 2,
        rank=training.rank if training.type == "lora" else 0,
    )


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__ and isinstance(
        getattr(module, "weight", None), nn.Parameter
    )


def _is_adapter(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and (".lora_A." in name or ".lora_B." in name)


def _norm_width(numel: int, text: Any, query: int, key: int) -> int:
    """What a norm's weight is applied to: norms of heads go over all queries or keys."""
    return numel if numel == text.hidden_size else (query + key) // 2


def _refuse_unknown(model: Any, name: str) -> None:
    if not isinstance(model.get_output_embeddings(), nn.Linear):
        raise ModelError(f"rcsd plan: {name} has no linear output head")
    known = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Embedding) or _is_norm(module)
        for parameter in module.parameters(recurse=False)
    }
    unknown = [(n, p.numel()) for n, p in model.named_parameters() if id(p) not in known]
    text = model.config.get_text_config()
    experts = next((k for k in ("num_experts", "num_local_experts") if hasattr(text, k)), None)
    if unknown or experts is not None:
        why = (
            f"a mixture of experts ({experts}: {getattr(text, experts)})"
            if experts is not None
            else f"weights that are no linear layer, norm or embedding ({unknown[0][0]})"
        )
        raise ModelError(
            f"rcsd plan: {name} has {why}, whose operations it cannot count; it plans dense "
            "decoders such as Llama, Qwen3, Gemma and SmolLM2"
        )
