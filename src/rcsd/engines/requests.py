"""What vLLM is asked for and what it answers, in process and over HTTP alike."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rcsd.errors import ConfigError, RunError
from rcsd.models.policy import Policy
from rcsd.types import Completion, Decoding

# What vLLM takes. It silently raises a temperature below, and refuses one above.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 2.0


def request_seed(seed: int, index: int) -> int:
    """Seed of one request, of 63 bits, by its index among all that are asked with the seed.

    So how prompts are shared out among engines, processes or batches changes no draw.
    """
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)


def sampling_fields(decoding: Decoding, seed: int, end_ids: Sequence[int]) -> dict[str, Any]:
    """Fields of a request, all of them said: servers fill gaps from the model's own habits.

    Raises:
        ConfigError: If vLLM would draw in another way.
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


def tells_log_q(decoding: Decoding, mode: str) -> bool:
    """Whether vLLM's log-probabilities are those of `rcsd.types.Completion.log_q`.

    Args:
        decoding: How was sampled.
        mode: vLLM's ``logprobs_mode``: ``raw_logprobs`` are at temperature 1 before any cut,
            ``processed_logprobs`` at that of sampling, over what top k and top p leave.
    """
    if decoding.regex is not None:  # both are over what the grammar allows
        return False
    if mode == "processed_logprobs":
        return decoding.temperature is None or (decoding.top_k is None and decoding.top_p == 1)
    return decoding.temperature in (None, 1.0)


def completion_of(
    token_ids: Sequence[int],
    log_q: Sequence[float],
    decoding: Decoding,
    policy: Policy,
    version: int | None,
) -> Completion:
    """What was sampled, once it is known to be what was asked for.

    Args:
        token_ids: As vLLM gave them.
        log_q: Likewise; empty where it tells others than ours.
        decoding: What it was asked for.
        policy: Whose tokens they are.
        version: Of the weights.

    Raises:
        FloatingPointError: If a log-probability is not a number.
        RunError: If the tokens cannot have been sampled so.
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
    finished = bool(ends)
    if ends[:1] not in ([], [len(token_ids) - 1]):
        raise RunError("vLLM went on after an end token of the policy")
    if not finished and len(token_ids) != decoding.max_tokens:
        raise RunError(
            f"vLLM ended a completion after {len(token_ids)} tokens without an end token, where "
            f"{decoding.max_tokens} were asked for; start it with a larger --max-model-len"
        )
    if log_q and len(log_q) != len(token_ids):
        raise RunError(f"vLLM told {len(log_q)} log-probabilities of {len(token_ids)} tokens")
    text = policy.tokenizer.decode(list(token_ids), skip_special_tokens=True)
    return Completion(tuple(token_ids), text, finished, version, tuple(log_q))


def top_k_of(
    said: Mapping[int, float], actual: int, k: int
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The k likeliest tokens at one position, the likeliest first, and their log-probabilities.

    vLLM says the actual token's too: k + 1 in all where it is not among the k. Where it is as
    likely as the last of them it may be left out all the same, and goes.

    Args:
        said: Log-probabilities by token.
        actual: The token that stands there.
        k: How many were asked for.

    Raises:
        RunError: If vLLM said something else.
    """
    if actual not in said or not k <= len(said) <= k + 1:
        raise RunError(
            f"vLLM was asked for the {k} likeliest tokens of a prompt's position and the actual "
            f"one, and said {len(said)}"
        )
    kept = said if len(said) == k else {i: value for i, value in said.items() if i != actual}
    ordered = sorted(kept.items(), key=lambda item: (-item[1], item[0]))
    ids, log_p = zip(*ordered, strict=True)
    if not all(math.isfinite(value) for value in log_p):
        raise FloatingPointError("the teacher's log-probabilities are not numbers")
    return ids, log_p
