"""Engines that sample completions."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from rcsd.config.base import Section, checked_address


class LocalEngine(Section):
    """An own decode loop: equal prompts are read once, and rows that have ended make room."""

    type: Literal["local"] = "local"
    """Selects the own loop."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts in flight together, at most; changes memory and speed, not what is sampled."""


class HfEngine(Section):
    """transformers' generate: slow, exact, the yardstick."""

    type: Literal["hf"] = "hf"
    """Selects transformers."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts generated together."""


class RefuseStale(Section):
    """Completions that lag too far end the run."""

    type: Literal["refuse"] = "refuse"
    """Selects the refusal."""


class WeightStale(Section):
    """Tokens of completions that lag too far count ``min(q_now / q_engine, cap)`` each.

    Truncated importance weights, without gradient, of the policy before the step's first update
    over what the engine says it sampled by. Takes one product over the vocabulary for each token of
    such completions.
    """

    type: Literal["weight"]
    """Selects the weights."""
    cap: float = Field(default=3.0, gt=0)
    """Largest weight. Source: TRL's ``vllm_importance_sampling_clip_max``."""


Stale = Annotated[RefuseStale | WeightStale, Field(discriminator="type")]
"""What becomes of completions that lag too far."""


class _Vllm(Section):
    """Settings that both vLLM engines share."""

    max_gap_nats: float = Field(default=0.1, gt=0)
    """Mean absolute difference, in nats, of what engine and trainer say is a sampled token's
    log-probability: a larger one on a few tokens at the start refuses the engine, and in a step
    warns. Rounding to bfloat16 makes some 0.01 to 0.03."""
    max_lag_steps: int | None = Field(default=None, ge=0)
    """Steps by which the weights that sampled may lag behind those that learn; what lags further is
    ``stale``. None: 1 with overlap, otherwise 0."""
    stale: Stale = RefuseStale()
    """What becomes of completions that lag further: they end the run, or are weighted."""


class VllmEngine(_Vllm):
    """vLLM in the process that trains, beside the policy: each process has an engine of its own.

    Of a LoRA run adapters alone are handed over, each step's under a new name; of full fine-tuning
    all weights, by vLLM's own way to take up new ones.
    """

    type: Literal["vllm"]
    """Selects vLLM in process."""
    batch_size: int = Field(default=128, ge=1)
    """Prompts in flight together, at most; vLLM queues the others."""
    kv_cache_gib: float = Field(default=4.0, gt=0)
    """Memory for keys and values, in GiB, on the device that the policy is on."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """In what vLLM computes; None: the type of the policy's weights."""
    compiled: bool = True
    """True if vLLM compiles the model and captures graphs: tens of seconds at the start, then
    faster; False computes eagerly."""


class VllmServer(_Vllm):
    """A vLLM server over HTTP, on this machine or another; all processes of a run share it.

    Start it with ``--logprobs-mode processed_logprobs``. LoRA: with ``--enable-lora --max-lora-rank
    R`` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment. Full fine-tuning: with
    VLLM_SERVER_DEV_MODE=1 instead, in a network that you trust, and on a GPU: on processors vLLM
    0.32 keeps the old head of models with tied embeddings.
    """

    type: Literal["vllm_server"]
    """Selects the server."""
    url: str
    """Of the server, such as ``http://gpu7:8000``, without ``/v1``."""
    shared_folder: Path
    """Folder that this machine and the server's both see at the same path: new weights are written
    there, and its path names them on the server. One run at a time has it."""
    batch_size: int = Field(default=64, ge=1)
    """Requests in flight together, at most; one a prompt."""
    connect_timeout_seconds: float = Field(default=10.0, gt=0)
    """Longest wait for a connection."""
    read_timeout_seconds: float = Field(default=600.0, gt=0)
    """Longest silence while a request is answered, which is as long as the longest completion."""
    patience_seconds: float = Field(default=600.0, ge=0)
    """How long a request is tried again where the server is away or busy, with growing pauses; then
    the run ends, and can be resumed."""
    api_key_variable: str | None = None
    """Name of the environment variable that holds the key for ``Authorization: Bearer``; None sends
    none. The key itself is never written anywhere."""

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


def engine_by_type(kind: Literal["local", "hf", "vllm"], batch_size: int) -> AnyEngine:
    """An engine as it is but for its batches."""
    if kind == "vllm":
        return VllmEngine(type=kind, batch_size=batch_size)
    return HfEngine(batch_size=batch_size) if kind == "hf" else LocalEngine(batch_size=batch_size)


def max_lag_steps(engine: AnyEngine, overlap: bool) -> int:
    """Steps by which completions may lag and are learned from as they are."""
    limit = engine.max_lag_steps if isinstance(engine, VllmEngine | VllmServer) else None
    return int(overlap) if limit is None else limit


def warn_of_drift(engine: AnyEngine, metrics: Mapping[str, float]) -> None:
    """Warn where engine and trainer no longer say the same of what was sampled just now.

    Of completions that lag they differ for a better reason.

    Args:
        engine: What sampled.
        metrics: Of a step.
    """
    gap = metrics.get("engine/log_q_gap_nats_mean", 0.0)
    is_fresh = metrics.get("completion/lag_steps_max", 0.0) == 0
    if isinstance(engine, VllmEngine | VllmServer) and is_fresh and gap > engine.max_gap_nats:
        warnings.warn(
            f"engine and trainer differ by {gap:.3g} nats a sampled token, and engine.max_gap_nats "
            f"allows {engine.max_gap_nats:.3g}: completions come from another policy than the one "
            "that learns",
            RuntimeWarning,
            stacklevel=2,
        )
