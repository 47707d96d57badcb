"""A vLLM server over HTTP."""

import contextlib
import copy
import math
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, TypeVar

from rcsd import config
from rcsd.engines.base import TopK
from rcsd.engines.vllm_requests import (
    PROBE_GREEDY,
    PROBE_TEXT,
    PROBE_WARM,
    Card,
    Choice,
    Models,
    Tokens,
    check_gap,
    checked_completion,
    has_log_q,
    mean_gap,
    only_choice,
    policy_log_q,
    request_seed,
    sampling_fields,
    top_k_tokens,
)
from rcsd.engines.weight_sync import AdapterSync, FullSync, SharedFolder, WeightSync
from rcsd.errors import RunError
from rcsd.http import FIRST_PAUSE, Reply, Server, ServerSettings
from rcsd.models.memory import batch_limit
from rcsd.models.policy import Policy
from rcsd.types import Completion, Decoding

# A server that forgets its weights while they are sampled from, time and again, is not mended here.
MAX_RESTARTS = 3

T = TypeVar("T")
Output = TypeVar("Output")


class VllmServer:
    """Samples from a server that holds a copy of the policy.

    One request a prompt, as token ids, so that the server's own queue fills its batches; each draws
    by a seed of its own. Weights go through a folder that both machines see: adapters alone for
    LoRA, each version under its own name; all weights for full fine-tuning.

    With several processes, the main one pushes weights; the others must not sample from a version
    before its `sync` has returned there.

    Args:
        policy: What is sampled from.
        section: The server.
        longest: Tokens of the longest prompt with its completion; None: what the model takes.
        precision: Context in which the policy runs, as it does in training.
        is_main: Whether this process pushes the weights.
        first_pause: Seconds before a request is tried again.

    Raises:
        ConfigError: If the key's variable is not set.
        RunError: If the server stays away, or serves something else than the policy's base.
    """

    def __init__(
        self,
        policy: Policy,
        section: config.VllmServer,
        longest: int | None = None,
        precision: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
        is_main: bool = True,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self.batch_size = batch_limit(section.batch_size)
        self._section, self._is_main = section, is_main
        # Another thread may sample: a fast tokenizer does not take two at a time.
        self.policy = replace(policy, tokenizer=copy.deepcopy(policy.tokenizer))
        self._precision, self._server = precision, Server(_address(section), first_pause)
        # No other process's cached keys and values, of adapters that had these names before.
        self._salt = secrets.token_hex(16)
        self._base = self._checked_base(longest)
        self._mode = self._told_mode()
        folder = SharedFolder(section.shared_folder, is_main)
        self._weights: WeightSync
        if policy.has_adapters:
            self._weights = AdapterSync(self._server, policy, folder)
            with policy.model.disable_adapter():
                self._refuse_disagreement(self._base)
        else:
            self._weights = FullSync(self._server, policy, folder, self._base)
        self._version: int | None = None
        self._num_loads = 0

    def sync(self, version: int) -> None:
        """Take up the policy's present weights; all processes call it, at the same place.

        Raises:
            RunError: If the server cannot, or samples from something else afterwards.
        """
        self._sync(version)

    def _sync(self, version: int | None) -> None:
        if self._is_main:
            self._weights.push(version)
        self._version, self._num_loads = version, self._num_loads + 1
        # An adapter that is read wrongly is so from the start; of all weights some may be left out.
        if self._is_main and (self._num_loads == 1 or not self.policy.has_adapters):
            self._refuse_disagreement(self._weights.model_name(version))

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        seed: int,
        first: int = 0,
    ) -> list[Completion]:
        """One completion for each prompt, in the same order; the same for the same seed.

        Where the server has lost its weights meanwhile, all are sampled anew.

        Raises:
            ConfigError: If vLLM would draw in another way than is asked for.
            FloatingPointError: If the policy's probabilities are not numbers.
            RunError: If the server stays away, or answers with something else.
        """
        if self._num_loads == 0:
            self._sync(None)
        version, tells = self._version, has_log_q(decoding, self._mode)
        # A fast tokenizer does not take two threads at a time.
        decodes = threading.Lock()

        def one(index: int) -> Completion:
            request = request_seed(seed, first + index)
            ids, log_q = self._sampled(prompts[index], decoding, request, version)
            with decodes:
                reported = log_q if tells else []
                return checked_completion(ids, reported, decoding, self.policy, version)

        for _ in range(MAX_RESTARTS):
            if not self._weights.has(version):
                self._weights.repush(version)
            completions = self._at_once(one, range(len(prompts)))
            if self._weights.has(version):
                return completions
        raise RunError(f"{self._server.url} has lost its weights {MAX_RESTARTS} times in a row")

    def top_k(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], k: int
    ) -> list[list[TopK]]:
        """Top-k log-probabilities of the base weights (`rcsd.engines.base.TopKScorer`)."""

        def one(pair: tuple[Sequence[int], Sequence[int]]) -> list[TopK]:
            places = self._prompt_log_p(*pair, k)
            return [
                top_k_tokens(entry, token, k) for entry, token in zip(places, pair[1], strict=True)
            ]

        return self._at_once(one, list(zip(prompts, completions, strict=True)))

    def _prompt_log_p(
        self, prompt: Sequence[int], completion: Sequence[int], k: int
    ) -> list[dict[int, float]]:
        """Log-probabilities of the k most likely tokens and of the prompt's token, per position."""
        body = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": k}
        reply = self._completion(self._base, [*prompt, *completion], body)
        places = only_choice(reply, self._base).prompt_logprobs or []
        positions = [
            {token: entry.logprob for token, entry in place.items()}
            for place in places[len(prompt) :]
            if place is not None
        ]
        if len(places) != len(prompt) + len(completion) or len(positions) != len(completion):
            raise RunError(f"{reply.source}: prompt_logprobs of other tokens than were sent")
        return positions

    def _at_once(self, fn: Callable[[T], Output], items: Sequence[T]) -> list[Output]:
        executor = ThreadPoolExecutor(self.batch_size.value, "rcsd-request")
        try:
            return list(executor.map(fn, items))
        finally:  # after a failure what has not begun need not
            executor.shutdown(cancel_futures=True)

    def _sampled(
        self, prompt: Sequence[int], decoding: Decoding, seed: int, version: int | None
    ) -> tuple[list[int], list[float]]:
        """Tokens and what the server says of them, by a version that it may have lost."""
        model = self._weights.model_name(version)
        for _ in range(MAX_RESTARTS):
            reply = self._request_completion(model, prompt, decoding, seed)
            if reply.status != 404:
                return _read_choice(only_choice(reply, model), reply)
            self._weights.repush(version)
        raise RunError(f"{self._server.url} has lost {model} {MAX_RESTARTS} times in a row")

    def _request_completion(
        self, model: str, prompt: Sequence[int], decoding: Decoding, seed: int
    ) -> Reply:
        body = sampling_fields(decoding, seed, self.policy.end_ids)
        if decoding.regex is not None:
            body["structured_outputs"] = {"regex": decoding.regex}
        return self._completion(model, prompt, body)

    def _completion(self, model: str, ids: Sequence[int], body: Mapping[str, Any]) -> Reply:
        common = {"model": model, "prompt": list(ids), "return_token_ids": True}
        common["cache_salt"] = self._salt
        return self._server.request("/v1/completions", {**common, **body})

    def _checked_base(self, longest: int | None) -> str:
        """Name of the base model, whose tokenizer is the policy's, and which has room."""
        cards = self._server.request("/v1/models").read(Models).data
        bases = [card for card in cards if card.parent is None]
        name = self._section.model
        [card] = [card for card in bases if name in (None, card.id)][:1] or [Card(id="")]
        if not card.id:
            raise RunError(
                f"engine.model: {self._server.url} serves {', '.join(c.id for c in bases) or None}"
                f", not {name}"
            )
        room = card.max_model_len
        limits = [tokens for tokens in (longest, self.policy.max_positions) if tokens is not None]
        if room is not None and limits and room < min(limits):
            raise RunError(
                f"{self._server.url} takes {room} tokens of prompt and completion, and the run has "
                f"up to {min(limits)}; start it with --max-model-len {min(limits)}, or lower "
                "sampling.max_prompt_tokens or max_tokens"
            )
        body = {"model": card.id, "prompt": PROBE_TEXT, "add_special_tokens": False}
        reply = self._server.request("/tokenize", body)
        if reply.read(Tokens).tokens != self._tried():
            raise RunError(
                f"{self._server.url}: {card.id} has another tokenizer than model.path; start the "
                "server with the run's model"
            )
        return card.id

    def _tried(self) -> list[int]:
        return self.policy.tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"]

    def _refuse_disagreement(self, model: str) -> None:
        """See that the server computes what the policy does at present.

        Raises:
            RunError: If it computes something else.
        """
        prompt = self._tried()
        reply = self._request_completion(model, prompt, PROBE_GREEDY, 0)
        ids, log_q = _read_choice(only_choice(reply, model), reply)
        completion = checked_completion(ids, log_q, PROBE_GREEDY, self.policy, None)
        log_p = policy_log_q(self.policy, prompt, completion.token_ids, 1.0, self._precision)
        what = f"{self._server.url}, {model}"
        check_gap(mean_gap(completion.log_q, log_p), self._section.max_gap_nats, what)

    def _told_mode(self) -> str:
        """The server's ``logprobs_mode``: whether what it says is at the temperature of sampling.

        Those of a prompt are at temperature 1 in any case.
        """
        prompt = self._tried()
        reply = self._request_completion(self._base, prompt, PROBE_WARM, 0)
        ids, log_q = _read_choice(only_choice(reply, self._base), reply)
        places = self._prompt_log_p(prompt, ids, 1)
        at_one = [place.get(token, math.nan) for place, token in zip(places, ids, strict=True)]
        is_raw = mean_gap(log_q, at_one) < self._section.max_gap_nats
        return "raw_logprobs" if is_raw else "processed_logprobs"


def _address(section: config.VllmServer) -> ServerSettings:
    return ServerSettings(
        url=section.url,
        connections=section.batch_size,
        setting="engine",
        kind="a vLLM server",
        api_key_variable=section.api_key_variable,
        patience_seconds=section.patience_seconds,
        connect_timeout_seconds=section.connect_timeout_seconds,
        read_timeout_seconds=section.read_timeout_seconds,
    )


def _read_choice(choice: Choice, reply: Reply) -> tuple[list[int], list[float]]:
    if choice.logprobs is None:
        raise RunError(f"{reply.source}: log-probabilities were asked for, and none were told")
    if len(choice.logprobs.token_logprobs) != len(choice.token_ids):
        raise RunError(f"{reply.source}: log-probabilities of other tokens than were sampled")
    return choice.token_ids, choice.logprobs.token_logprobs
