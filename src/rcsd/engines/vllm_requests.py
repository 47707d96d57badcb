"""Parts of both vLLM engines: requests, checked responses, and the check after a weight sync."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from rcsd import config
from rcsd.engines.weight_sync import check_adapter
from rcsd.errors import ConfigError, RunError
from rcsd.models.logits import target_log_q
from rcsd.models.memory import batch_limit
from rcsd.models.packing import padded
from rcsd.models.policy import Policy
from rcsd.models.scorer import Precision, Scorer, evaluating
from rcsd.types import Completion, Decoding

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 2.0
"""Temperatures of vLLM, which silently raises one below and refuses one above."""

LOG_Q_MODE = "processed_logprobs"
"""vLLM's ``logprobs_mode``: at the temperature of sampling, over the tokens left by top k and p."""
PROBE_TEXT = "Is 12.5 K more than 7? Explain: café, Größe, 北京.\n"
PROBE = Decoding(max_tokens=8, temperature=MAX_TEMPERATURE)
"""Far from temperature 1, so that log-probabilities in another mode differ."""

Sampled = tuple[Sequence[int], Sequence[float]]
"""Token ids, and vLLM's log-probabilities of them."""


class VllmBase(ABC):
    """Samples from a copy of the policy's weights that vLLM holds.

    Each prompt draws by the seed and its own index; the draws differ from the local engine's. After
    a sync, log-probabilities of a few tokens are compared with the policy's: of an adapter once (if
    it is read wrongly, then from the start), of all weights each time (some may be left out).
    """

    def __init__(
        self,
        policy: Policy,
        section: config.VllmEngine | config.VllmServer,
        longest: int | None,
        precision: Precision,
        is_main: bool = True,
    ) -> None:
        check_adapter(policy)
        self.policy, self.batch_size = policy, batch_limit(section.batch_size)
        self._max_gap_nats, self._precision = section.max_gap_nats, precision
        self._is_main = is_main
        limits = [tokens for tokens in (longest, policy.max_positions) if tokens is not None]
        self._max_tokens = min(limits, default=None)
        self._version: int | None = None
        self._num_loads = 0
        # How errors name the engine, or the server and its model.
        self._name = "engine vllm"

    def sync(self, version: int | None) -> None:
        """Push the policy's present weights; all processes call it, at the same place.

        Raises RunError if vLLM cannot load them, or samples from something else afterwards.
        """
        self._push(version)
        self._version, self._num_loads = version, self._num_loads + 1
        if self._is_main and (self._num_loads == 1 or not self.policy.has_adapters):
            self._check_weights()

    def sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int = 0
    ) -> list[Completion]:
        """One completion for each prompt; see `rcsd.engines.base.Engine`.

        Raises:
            ConfigError: If vLLM would draw in another way.
            FloatingPointError: If the policy's probabilities are not numbers.
            RunError: If vLLM refuses a prompt, answers with something else, or lost its weights.
        """
        if self._num_loads == 0:
            self.sync(None)
        version = self._version
        seeds = [request_seed(seed, first + index) for index in range(len(prompts))]
        return [
            checked_completion(
                prompt, ids, log_q if has_log_q(decoding) else [], decoding, self.policy, version
            )
            for prompt, (ids, log_q) in zip(
                prompts, self._generate(prompts, decoding, seeds), strict=True
            )
        ]

    @abstractmethod
    def _push(self, version: int | None) -> None:
        """Replace vLLM's weights by the policy's."""

    @abstractmethod
    def _generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seeds: Sequence[int]
    ) -> list[Sampled]:
        """Sample by the weights pushed last."""

    def _check_weights(self) -> None:
        """Raise RunError if vLLM computes something else than the policy."""
        prompt = self.policy.tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"]
        [(ids, log_q)] = self._generate([prompt], PROBE, [0])
        checked_completion(prompt, ids, log_q, PROBE, self.policy, None)
        expected = policy_log_q(self.policy, prompt, ids, MAX_TEMPERATURE, self._precision)
        gap = sum(abs(a - b) for a, b in zip(log_q, expected, strict=True)) / len(expected)
        if not gap <= self._max_gap_nats:
            raise RunError(
                f"{self._name}: log-probabilities of engine and trainer differ by {gap:.3g} nats "
                f"per token on a few tokens, above engine.max_gap_nats: {self._max_gap_nats:.3g}; "
                "it has other weights, another tokenizer or another precision than model.path, or "
                f"is a server that was started without --logprobs-mode {LOG_Q_MODE}"
            )


def request_seed(seed: int, index: int) -> int:
    """Seed of one request, of 63 bits, by its index among all with the seed.

    So the sharding of prompts among engines, processes or batches changes no draw.
    """
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)


def sampling_fields(decoding: Decoding, seed: int, end_ids: Sequence[int]) -> dict[str, Any]:
    """Fields of a request, all set: servers take missing ones from the model's generation config.

    Raises ConfigError if vLLM would draw in another way.
    """
    temperature = decoding.temperature
    if temperature is not None and not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
        raise ConfigError(
            f"temperature: {temperature}: vLLM samples from {MIN_TEMPERATURE} to "
            f"{MAX_TEMPERATURE}; take another, or engine local"
        )
    return {
        "max_tokens": decoding.max_tokens,
        "temperature": 0.0 if temperature is None else temperature,
        "top_p": decoding.top_p,
        "top_k": decoding.top_k or 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": seed,
        "logprobs": 0,  # that of the sampled token alone
        # The policy's end tokens and no others.
        "ignore_eos": True,
        "stop_token_ids": list(end_ids),
    }


def has_log_q(decoding: Decoding) -> bool:
    """True if vLLM's log-probabilities, over the tokens left, are over the whole vocabulary."""
    is_cut = decoding.top_k is not None or decoding.top_p < 1
    return decoding.regex is None and (decoding.temperature is None or not is_cut)


def checked_completion(
    prompt: Sequence[int],
    token_ids: Sequence[int],
    log_q: Sequence[float],
    decoding: Decoding,
    policy: Policy,
    version: int | None,
) -> Completion:
    """A completion from vLLM's tokens; RunError if they cannot have been sampled so.

    Without log-probabilities where vLLM returns others than `rcsd.types.Completion.log_q`;
    FloatingPointError if one is not a number.
    """
    bad = [token for token in token_ids if not 0 <= token < policy.vocab_size]
    if bad:
        raise RunError(
            f"vLLM answered with the token {bad[0]}, and the vocabulary has {policy.vocab_size}: "
            "it serves another model"
        )
    if not all(math.isfinite(value) for value in log_q):
        raise FloatingPointError("next-token probabilities are not numbers")
    ends = [place for place, token in enumerate(token_ids) if token in policy.end_ids]
    if ends[:1] not in ([], [len(token_ids) - 1]):
        raise RunError("vLLM went on after an end token of the policy")
    if not ends and len(token_ids) != decoding.max_tokens:
        raise RunError(
            f"vLLM ended a completion after {len(token_ids)} tokens without an end token, where "
            f"{decoding.max_tokens} were requested; start it with a larger --max-model-len"
        )
    if log_q and len(log_q) != len(token_ids):
        raise RunError(f"vLLM returned {len(log_q)} log-probabilities of {len(token_ids)} tokens")
    text = policy.text(prompt, token_ids)
    return Completion(tuple(token_ids), text, bool(ends), version, tuple(log_q))


def policy_log_q(
    policy: Policy,
    prompt: Sequence[int],
    token_ids: Sequence[int],
    temperature: float,
    precision: Precision = nullcontext,
) -> list[float]:
    """The trainer's log-probabilities of tokens after a prompt, by the present weights, in nats."""
    rows = padded([prompt], [token_ids], policy.pad_id, policy.device)
    with precision(), evaluating(policy.model):
        return target_log_q(Scorer(policy.model)(rows), rows.target_T, temperature).tolist()
