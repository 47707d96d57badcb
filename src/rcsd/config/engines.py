"""Engines that sample completions."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from rcsd.config.base import Section, ServerSection, checked_address


class _Engine(Section):
    """Settings that all engines share."""

    max_gap_nats: float = Field(default=0.1, gt=0)
    """Largest mean absolute difference of engine and trainer in a sampled token's log-probability,
    in nats: more in a step warns, and at the start refuses vLLM. bfloat16 makes 0.01 to 0.03."""


class LocalEngine(_Engine):
    """An own decode loop: equal prompts are read once, and rows that have ended make room."""

    type: Literal["local"] = "local"
    batch_size: int = Field(default=32, ge=1)
    """Prompts in flight together, at most; changes memory and speed, not what is sampled."""


class HfEngine(_Engine):
    """transformers' generate: slow, exact, the yardstick."""

    type: Literal["hf"] = "hf"
    batch_size: int = Field(default=32, ge=1)
    """Prompts generated together."""


class RefuseStale(Section):
    """Completions that lag too far end the run."""

    type: Literal["refuse"] = "refuse"


class WeightStale(Section):
    """Tokens of completions that lag too far count ``min(q_now / q_engine, cap)`` each.

    q_now is the policy before the step's first update, q_engine what the engine sampled by.
    """

    type: Literal["weight"]
    cap: float = Field(default=3.0, gt=0)
    """Largest weight. Source: TRL's ``vllm_importance_sampling_clip_max``."""


Stale = Annotated[RefuseStale | WeightStale, Field(discriminator="type")]
"""What becomes of completions that lag too far."""


class _Vllm(_Engine):
    """Settings that both vLLM engines share."""

    max_lag_steps: int | None = Field(default=None, ge=0)
    """Steps by which the weights that sampled may lag behind those that learn; None: 1 if overlap,
    else 0."""
    stale: Stale = RefuseStale()
    """What becomes of completions that lag further."""


class VllmEngine(_Vllm):
    """vLLM in each process that trains, beside the policy."""

    type: Literal["vllm"]
    batch_size: int = Field(default=128, ge=1)
    """Prompts in flight together, at most; vLLM queues the others."""
    kv_cache_gib: float = Field(default=4.0, gt=0)
    """Memory for keys and values, in GiB, on the device that the policy is on."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Type that vLLM computes in; None: that of the policy's weights."""
    compiled: bool = True
    """True if vLLM compiles the model and captures graphs, for tens of seconds at the start."""


class VllmServer(_Vllm, ServerSection):
    """A vLLM server over HTTP, on this machine or another; all processes of a run share it.

    Start it with ``--logprobs-mode processed_logprobs``. LoRA: with ``--enable-lora --max-lora-rank
    R`` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment. Full fine-tuning: with
    VLLM_SERVER_DEV_MODE=1 instead, in a network that you trust, and on a GPU: on processors vLLM
    0.32 keeps the old head of models with tied embeddings.
    """

    type: Literal["vllm_server"]
    url: str
    """Address of the server, such as ``http://gpu7:8000``, without ``/v1``."""
    shared_folder: Path
    """Folder of new weights, at the same path on the server; for one run at a time."""
    batch_size: int = Field(default=64, ge=1)
    """Requests in flight together, at most; one a prompt."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        url = checked_address(url, "http://gpu7:8000")
        if url.endswith("/v1"):
            raise ValueError("leave /v1 out: adapters are loaded and weights told apart beside it")
        return url


AnyEngine = Annotated[
    LocalEngine | HfEngine | VllmEngine | VllmServer,
    Field(discriminator="type"),
    # So that `engine.batch_size=8` alone is the local engine's.
    BeforeValidator(lambda tree: {"type": "local"} | tree if isinstance(tree, dict) else tree),
]
