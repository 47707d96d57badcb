"""Configuration of the policy."""

import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rcsd.config.base import Section


class Lora(Section):
    """Low-rank adapters on the linear layers (LoRA); the base weights stay frozen."""

    type: Literal["lora"] = "lora"
    rank: int = Field(default=64, ge=1)
    """Rank of the adapters. Source: RCSD (arXiv 2606.19327)."""
    alpha: int = Field(default=128, ge=1)
    """Scale: the adapters' outcome is multiplied by alpha / rank. Source: RCSD."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in the adapters; 0 keeps student and teacher comparable token by token."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers, as PEFT takes them; ``all-linear`` is all linear layers but the head."""


class FullFineTuning(Section):
    """Every weight is trained; a frozen teacher is then a copy of the model."""

    type: Literal["full"] = "full"


class Model(Section):
    """The policy: any causal language model with a chat template."""

    path: str
    """Local folder or hub id."""
    revision: str | None = None
    """Commit, tag or branch on the hub; None takes the default branch."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights."""
    chat_template: Path | None = None
    """Jinja file that replaces the tokenizer's chat template; None: the tokenizer's."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Values that the chat template takes, such as ``enable_thinking: false`` for Qwen3."""
    date: datetime.date | None = None
    """Day that the chat template prints as today, where it prints one; None: the day on which the
    run or the evaluation begins. It is recorded, and stays when that goes on."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    """Attention implementation of transformers; None: the model's own choice."""
    packing: bool = True
    """True if completions are scored in one row, where those of an example share its prompt's keys
    and values, by models with sdpa that pass a self-test on load. False pads: slower, the same
    numbers."""
    linear: Literal["auto", "onednn", "torch"] = "auto"
    """Library of float32 matrix products on a CPU, for the process: ``auto`` takes oneDNN on AMD's
    processors, where it needs half the time, and PyTorch's choice on others."""
    activation_checkpointing: bool = False
    """True if backward passes compute each layer's activations anew instead of keeping them: less
    memory, the same gradient, a second forward pass."""
    trust_remote_code: bool = False
    """True if code that comes with the model may run."""
    training: Annotated[Lora | FullFineTuning, Field(discriminator="type")] = Lora()
    """What is trained."""

    def dated(self, begun: datetime.date | None = None) -> "Model":
        """The same with a day: its own, that on which a run has begun, or today."""
        day = self.date or begun or datetime.date.today()  # noqa: DTZ011 (as transformers has it)
        return self.model_copy(update={"date": day})

    @model_validator(mode="after")
    def _can_take_small_steps(self) -> "Model":
        if self.dtype == "bfloat16" and self.training.type == "full":
            raise ValueError(
                "small updates of bfloat16 weights round to nothing; for full fine-tuning take "
                "dtype: float32 and precision: bf16"
            )
        return self
