"""Bytes of a step's passes, counted without weights.

Axes: H hidden, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import GenerationConfig

from rcsd import config
from rcsd.errors import ModelError
from rcsd.models.adapters import adapted
from rcsd.models.loading import build_unloaded, load_hf_config
from rcsd.models.logits import Predictions
from rcsd.models.memory import TensorBytes
from rcsd.models.packed_attention import PACKED
from rcsd.models.packing import packed, padded
from rcsd.models.policy import Policy, checkpoint_activations, freeze_towers
from rcsd.models.scorer import Scorer, causal_lm, evaluating
from rcsd.models.self_test import use_scoring_mode
from rcsd.types import Rollout


@dataclass(frozen=True)
class PlannedModel:
    """Sizes of a model that is not loaded, in numbers of weights.

    ``parameters`` leaves adapters out and counts a tied head once; ``adapters`` is 0 for full
    fine-tuning; ``embeddings`` are those of embeddings and head.
    """

    section: config.Model
    hf_config: Any
    parameters: int
    adapters: int
    embeddings: int

    @classmethod
    def from_config(cls, section: config.Model) -> "PlannedModel":
        """The sizes of a run's model, by its folder or its hub id.

        Raises ModelError if its configuration is missing, or it has no linear output head.
        """
        hf_config = load_hf_config(section)
        model = _meta_model(hf_config, section)
        head = causal_lm(model).get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise ModelError(f"rcsd plan: {section.path} has no linear output head")
        is_tied = head.weight is causal_lm(model).get_input_embeddings().weight
        sizes = {name: p.numel() for name, p in model.named_parameters()}
        adapters = sum(num for name, num in sizes.items() if "lora_" in name)
        embeddings = head.weight.numel() * (1 if is_tied else 2)
        return cls(section, hf_config, sum(sizes.values()) - adapters, adapters, embeddings)

    @property
    def text(self) -> Any:
        """Configuration of the decoder: ``vocab_size``, ``hidden_size``, ``num_hidden_layers``."""
        return self.hf_config.get_text_config()

    @property
    def key(self) -> int:
        """Width of a layer's keys."""
        heads = self.text.num_attention_heads
        width = getattr(self.text, "head_dim", None) or self.text.hidden_size // heads
        return (getattr(self.text, "num_key_value_heads", None) or heads) * width

    @property
    def is_full(self) -> bool:
        """True if every weight is trained."""
        return self.adapters == 0

    @property
    def trained(self) -> int:
        """Trained weights."""
        return self.adapters or self.parameters

    @property
    def all_weights(self) -> int:
        """Weights with the adapters."""
        return self.parameters + self.adapters

    @property
    def number(self) -> int:
        """Bytes of a weight; trained ones are float32."""
        return 4 if self.is_full else getattr(torch, self.section.dtype).itemsize


class PassBytes(NamedTuple):
    """Bytes of the passes over one micro-batch, and its number of completion tokens.

    ``teacher`` is the peak without gradient, ``held`` what the student's forward pass leaves for
    its backward pass, ``backward`` the peak of that.
    """

    teacher: float
    held: float
    backward: float
    positions: int


def casts_weights(settings: config.Config) -> bool:
    """True if autocast copies weights to bfloat16; FSDP2 gathers them in bfloat16 instead."""
    is_float32 = settings.model.dtype == "float32"
    is_sharded = settings.processes.sharding == "fsdp"
    return settings.precision == "bf16" and is_float32 and not is_sharded


def pass_bytes(
    settings: config.Config, model: PlannedModel, microbatch: Sequence[Rollout]
) -> PassBytes:
    """Count the bytes of a micro-batch's passes with the model's own code, on fake tensors.

    Fake tensors have shapes, types and a device, but no memory. The device is a CPU, where packed
    attention holds a mask, so a GPU needs slightly less.

    Raises:
        ModelError: If the model's code needs the values of its tensors.
    """
    section, is_autocast = settings.model, casts_weights(settings)
    if settings.precision == "bf16" and not is_autocast:
        section = section.model_copy(update={"dtype": "bfloat16"})
    meta = _meta_model(model.hf_config, section)
    packs = section.packing and section.attention in (None, "sdpa")
    if packs:
        causal_lm(meta).set_attn_implementation(PACKED)
    completions = [rollout.completion.token_ids for rollout in microbatch]

    def predicted(prompts: list[tuple[int, ...]]) -> Predictions:
        rows = packed(prompts, completions) if packs else padded(prompts, completions, 0)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
            return scorer(rows)

    try:
        with FakeTensorMode():
            _make_fake(meta)
            trained = frozenset(n for n, p in meta.named_parameters() if p.requires_grad)
            policy = Policy(meta, None, (), 0, 0, GenerationConfig(), packs, trained)
            scorer = Scorer(policy.model, "plain")
            for parameter in policy.trainable.values():
                parameter.grad = torch.zeros_like(parameter)
            with TensorBytes() as teacher, evaluating(meta):
                predicted([rollout.teacher_ids for rollout in microbatch])
            if section.activation_checkpointing:
                checkpoint_activations(policy, has_values=False)
            with TensorBytes() as student:
                predictions: Any = predicted([r.student_ids for r in microbatch])
                hidden_TH = predictions.hidden_TH
                student.peak = held = student.now
                hidden_TH.backward(torch.ones_like(hidden_TH))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(f"rcsd plan: {section.path}: cannot be counted: {error}") from error
    return PassBytes(teacher.peak, held, student.peak, sum(map(len, completions)))


def _meta_model(hf_config: Any, section: config.Model) -> Any:
    """The model with the adapters of a run, on PyTorch's device without memory."""
    with torch.device("meta"):
        model = build_unloaded(hf_config, section)
    if section.training.type == "lora":
        model = adapted(model, section.training)
    else:
        freeze_towers(model)
    use_scoring_mode(model)
    return model


def _make_fake(model: nn.Module) -> None:
    """Replace meta tensors by fake ones that claim to be on a CPU; tied ones stay tied."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, value in store.items():
                if value is None:
                    continue
                if id(value) not in made:
                    fake: Tensor = torch.empty(value.shape, dtype=value.dtype)
                    if isinstance(value, nn.Parameter):
                        fake = nn.Parameter(fake, requires_grad=value.requires_grad)
                    made[id(value)] = fake
                store[name] = made[id(value)]  # pyright: ignore[reportArgumentType]
