"""Requests to vLLM and its responses, in process and over HTTP, and a check of its numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from rcsd.errors import ConfigError, RunError
from rcsd.http import Reply, ResponseModel
from rcsd.models.logits import target_log_q
from rcsd.models.packing import padded
from rcsd.models.policy import Policy
from rcsd.models.scorer import Scorer, evaluating
from rcsd.types import Completion, Decoding

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 2.0
"""Temperatures of vLLM, which silently raises one below and refuses one above."""


def request_seed(seed: int, index: int) -> int:
    """Seed of one request, of 63 bits, by its index among all with the seed.

    So the sharding of prompts among engines, processes or batches changes no draw.
    """
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)


def sampling_fields(decoding: Decoding, seed: int, end_ids: Sequence[int]) -> dict[str, Any]:
    """Fields of a request, all set: servers take missing ones from the model's generation config.

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


def has_log_q(decoding: Decoding, mode: str) -> bool:
    """True if vLLM's log-probabilities are those of `rcsd.types.Completion.log_q`.

    Args:
        decoding: Sampling parameters.
        mode: vLLM's ``logprobs_mode``: ``raw_logprobs`` are at temperature 1 before any cut,
            ``processed_logprobs`` at that of sampling, over the tokens left by top k and top p.
    """
    if decoding.regex is not None:  # both are over what the grammar allows
        return False
    if mode == "processed_logprobs":
        return decoding.temperature is None or (decoding.top_k is None and decoding.top_p == 1)
    return decoding.temperature in (None, 1.0)


def checked_completion(
    token_ids: Sequence[int],
    log_q: Sequence[float],
    decoding: Decoding,
    policy: Policy,
    version: int | None,
) -> Completion:
    """A completion from vLLM's tokens, after a check that they answer the request.

    Args:
        token_ids: Sampled tokens.
        log_q: Their log-probabilities; empty if vLLM returns others than ours.
        decoding: Sampling parameters of the request.
        policy: Tokenizer and end tokens.
        version: Weight version.

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
            f"{decoding.max_tokens} were requested; start it with a larger --max-model-len"
        )
    if log_q and len(log_q) != len(token_ids):
        raise RunError(f"vLLM returned {len(log_q)} log-probabilities of {len(token_ids)} tokens")
    text = policy.tokenizer.decode(list(token_ids), skip_special_tokens=True)
    return Completion(tuple(token_ids), text, finished, version, tuple(log_q))


def top_k_tokens(
    logprobs: Mapping[int, float], actual: int, k: int
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The k likeliest tokens at one position, the likeliest first, and their log-probabilities.

    vLLM returns the actual token's too: k + 1 in all if it is not among the k. An actual token as
    likely as the last of them may be dropped.

    Args:
        logprobs: Log-probabilities by token.
        actual: The token at the position.
        k: Number of tokens requested.

    Raises:
        RunError: If vLLM returned other tokens.
    """
    if actual not in logprobs or not k <= len(logprobs) <= k + 1:
        raise RunError(
            f"vLLM returned {len(logprobs)} tokens at a prompt's position, not the {k} likeliest "
            "and the actual one"
        )
    if len(logprobs) > k:
        logprobs = {i: value for i, value in logprobs.items() if i != actual}
    ordered = sorted(logprobs.items(), key=lambda item: (-item[1], item[0]))
    ids, log_p = zip(*ordered, strict=True)
    if not all(math.isfinite(value) for value in log_p):
        raise FloatingPointError("the teacher's log-probabilities are not numbers")
    return ids, log_p


PROBE_TEXT = "Is 12.5 K more than 7? Explain: café, Größe, 北京.\n"
"""A text that tokenizers split in different ways."""

PROBE_GREEDY, PROBE_WARM = Decoding(max_tokens=8), Decoding(max_tokens=8, temperature=2.0)
"""The likeliest tokens; and others at a temperature far from 1, which log-probabilities show."""


def policy_log_q(
    policy: Policy,
    prompt: Sequence[int],
    token_ids: Sequence[int],
    temperature: float,
    precision: Callable[[], AbstractContextManager[object]],
) -> list[float]:
    """The trainer's log-probabilities of tokens after a prompt, by the present weights, in nats."""
    rows = padded([prompt], [token_ids], policy.pad_id, policy.device)
    with precision(), evaluating(policy.model):
        return target_log_q(Scorer(policy.model)(rows), rows.target_T, temperature).tolist()


def mean_gap(engine: Sequence[float], trainer: Sequence[float]) -> float:
    """Mean absolute difference, in nats."""
    return sum(abs(a - b) for a, b in zip(engine, trainer, strict=True)) / len(trainer)


def check_gap(gap: float, bound: float, what: str) -> None:
    """Raise if an engine computes something else.

    Raises:
        RunError: If the gap is above the bound, or no number.
    """
    if not gap <= bound:
        raise RunError(
            f"{what}: log-probabilities of engine and trainer differ by {gap:.3g} nats per token "
            f"on a few tokens, above engine.max_gap_nats: {bound:.3g}; it has other weights, "
            "another tokenizer or another precision than model.path"
        )


class Card(ResponseModel):
    """A model or an adapter that a server lists."""

    id: str
    parent: str | None = None
    max_model_len: int | None = None


class Models(ResponseModel):
    """All of them."""

    data: list[Card]


class Tokens(ResponseModel):
    """A text's token ids."""

    tokens: list[int]


class WeightInfo(ResponseModel):
    """The version of the weights, which a server that starts again has forgotten."""

    weight_version: str | None


class TokenLogProbs(ResponseModel):
    """Log-probabilities of the sampled tokens."""

    token_logprobs: list[float]


class TokenLogProb(ResponseModel):
    """Log-probability of one token."""

    logprob: float


class Choice(ResponseModel):
    """One completion."""

    token_ids: list[int]
    logprobs: TokenLogProbs | None = None
    prompt_logprobs: list[dict[int, TokenLogProb] | None] | None = None


class Choices(ResponseModel):
    """The completions of a request."""

    model: str
    choices: list[Choice]


def only_choice(reply: Reply, model: str) -> Choice:
    """The completion of a request for one.

    Raises:
        RunError: If the request was refused, or another model or number of completions answered.
    """
    choices = reply.read(Choices)
    if choices.model != model:
        raise RunError(f"{reply.source}: model {choices.model} answered a request to {model}")
    if len(choices.choices) != 1:
        raise RunError(f"{reply.source}: {len(choices.choices)} completions in place of one")
    return choices.choices[0]
