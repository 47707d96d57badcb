"""A vLLM server over HTTP."""

import copy
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

from rcsd import config
from rcsd.engines.vllm_requests import Sampled, VllmBase, sampling_fields
from rcsd.engines.weight_sync import Models, WeightSync
from rcsd.errors import RunError
from rcsd.http import FIRST_PAUSE, ResponseModel, Server, ServerSettings
from rcsd.models.policy import Policy
from rcsd.types import Decoding

Output = TypeVar("Output")


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


class VllmServer(VllmBase):
    """Samples from a server that holds a copy of the policy.

    One request a prompt, as token ids, so that the server's own queue fills its batches. Weights go
    through a folder that both machines see: adapters alone for LoRA, each version under its own
    name; all weights for full fine-tuning. With several processes, the main one pushes weights; the
    others must not sample from a version before its `sync` has returned there. A server that has
    lost its weights, as one that was started again, ends the run; a resumed run pushes them again.

    Raises:
        ConfigError: If the key's variable is not set.
        RunError: If the server stays away, or serves something else than the policy's base.
    """

    def __init__(
        self,
        policy: Policy,
        section: config.VllmServer,
        longest: int | None = None,
        precision: Callable[[], AbstractContextManager[object]] = nullcontext,
        is_main: bool = True,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        # Another thread may sample: a fast tokenizer does not take two at a time.
        own = replace(policy, tokenizer=copy.deepcopy(policy.tokenizer))
        super().__init__(own, section, longest, precision, is_main)
        settings = ServerSettings(
            url=section.url,
            connections=section.batch_size,
            setting="engine",
            kind="a vLLM server",
            api_key_variable=section.api_key_variable,
            patience_seconds=section.patience_seconds,
            connect_timeout_seconds=section.connect_timeout_seconds,
            read_timeout_seconds=section.read_timeout_seconds,
        )
        self._server = Server(settings, first_pause)
        # No other process's cached keys and values, of adapters that had these names before.
        self._salt = secrets.token_hex(16)
        # The name of the weights in requests: the base's, until others are pushed.
        self._base = self._model = self._checked_base()
        self._name = f"{self._server.url}, {self._base}"
        folder = section.shared_folder
        self._weights = WeightSync(self._server, policy, folder, self._base, is_main)
        if policy.has_adapters:
            with policy.model.disable_adapter():
                self._check_weights()

    def _push(self, version: int | None) -> None:
        if self._is_main:
            self._weights.push(version)
        self._model = self._weights.model_name(version)
        self._name = f"{self._server.url}, {self._model}"

    def _generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seeds: Sequence[int]
    ) -> list[Sampled]:
        model, version = self._model, self._version

        def sample_one(index: int) -> Sampled:
            body = sampling_fields(decoding, seeds[index], self.policy.end_ids)
            if decoding.regex is not None:
                body["structured_outputs"] = {"regex": decoding.regex}
            choice, source = self._complete(model, prompts[index], body)
            if choice.logprobs is None:
                raise RunError(f"{source}: log-probabilities were requested, and none returned")
            return choice.token_ids, choice.logprobs.token_logprobs

        sampled = self._in_threads(sample_one, len(prompts))
        if self._num_loads > 0:
            self._weights.check(version)
        return sampled

    def _prompt_log_p(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], k: int
    ) -> list[list[dict[int, float]]]:
        body = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": k}

        def score_one(index: int) -> list[dict[int, float]]:
            prompt, completion = prompts[index], completions[index]
            choice, source = self._complete(self._base, [*prompt, *completion], body)
            places = choice.prompt_logprobs or []
            positions = [
                {token: entry.logprob for token, entry in place.items()}
                for place in places[len(prompt) :]
                if place is not None
            ]
            if len(places) != len(prompt) + len(completion) or len(positions) != len(completion):
                raise RunError(f"{source}: prompt_logprobs of other tokens than were sent")
            return positions

        return self._in_threads(score_one, len(prompts))

    def _in_threads(self, fn: Callable[[int], Output], num: int) -> list[Output]:
        executor = ThreadPoolExecutor(self.batch_size.value, "rcsd-request")
        try:
            return list(executor.map(fn, range(num)))
        finally:  # after a failure what has not begun need not
            executor.shutdown(cancel_futures=True)

    def _complete(
        self, model: str, ids: Sequence[int], body: Mapping[str, Any]
    ) -> tuple[Choice, str]:
        """One completion, and its source for errors."""
        common = {"model": model, "prompt": list(ids), "return_token_ids": True}
        common["cache_salt"] = self._salt
        reply = self._server.request("/v1/completions", {**common, **body})
        if reply.status == 404:
            raise RunError(
                f"{reply.source}: the server does not have {model} (404: {reply.text[:300]}); if "
                "it was started again, go on with --resume, which pushes the weights again"
            )
        answer = reply.read(Choices)
        if answer.model != model:
            raise RunError(f"{reply.source}: model {answer.model} answered a request to {model}")
        if len(answer.choices) != 1:
            raise RunError(f"{reply.source}: {len(answer.choices)} completions in place of one")
        return answer.choices[0], reply.source

    def _checked_base(self) -> str:
        """Name of the first base model that the server lists, if it has room."""
        cards = self._server.request("/v1/models").read(Models).data
        base = next((card for card in cards if card.parent is None), None)
        if base is None:
            raise RunError(f"{self._server.url} serves no base model; start it with model.path")
        room, needed = base.max_model_len, self._max_tokens
        if room is not None and needed is not None and room < needed:
            raise RunError(
                f"{self._server.url} takes {room} tokens of prompt and completion, and the run has "
                f"up to {needed}; start it with --max-model-len {needed}, or lower "
                "sampling.max_prompt_tokens or max_tokens"
            )
        return base.id
