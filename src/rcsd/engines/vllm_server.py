"""A vLLM server over HTTP."""

import copy
import secrets
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from rcsd import config
from rcsd.engines.vllm_requests import Sampled, VllmBase, sampling_fields
from rcsd.engines.weight_sync import Models, WeightSync
from rcsd.errors import RunError
from rcsd.http import Reply, ResponseModel, Server, ServerSettings
from rcsd.models.policy import Policy
from rcsd.models.scorer import Precision
from rcsd.types import Decoding


class TokenLogProbs(ResponseModel):
    """Log-probabilities of the sampled tokens."""

    token_logprobs: list[float]


class Choice(ResponseModel):
    """One completion."""

    token_ids: list[int]
    logprobs: TokenLogProbs | None = None


class Choices(ResponseModel):
    """The completions of a request."""

    model: str
    choices: list[Choice]


class VllmServer(VllmBase):
    """Samples from a server that holds a copy of the policy.

    One request a prompt, as token ids, so that the server's own queue fills its batches. With
    several processes, the main one pushes weights (`WeightSync`); the others must not sample from a
    version before its `sync` has returned there. A server that has lost its weights, as one that
    was started again, ends the run; a resumed run pushes them again.

    Raises:
        ConfigError: If the key's variable is not set.
        RunError: If the server stays away, or serves something else than the policy's base.
    """

    def __init__(
        self,
        policy: Policy,
        section: config.VllmServer,
        longest: int | None = None,
        precision: Precision = nullcontext,
        is_main: bool = True,
    ) -> None:
        # Another thread may sample: a fast tokenizer does not take two at a time.
        policy = replace(policy, tokenizer=copy.deepcopy(policy.tokenizer))
        super().__init__(policy, section, longest, precision, is_main)
        settings = ServerSettings.from_section(
            section, connections=section.batch_size, setting="engine", kind="a vLLM server"
        )
        self._server = Server(settings)
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

    def give_up_unanswered(self) -> None:
        """End all requests, if the server does not answer."""
        self._server.give_up_unanswered()

    def _push(self, version: int | None) -> None:
        if self._is_main:
            self._weights.push(version)
        self._model = self._weights.model_name(version)
        self._name = f"{self._server.url}, {self._model}"

    def _generate(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seeds: Sequence[int]
    ) -> list[Sampled]:
        model, version = self._model, self._version

        def build_body(index: int) -> dict[str, Any]:
            body = sampling_fields(decoding, seeds[index], self.policy.end_ids)
            if decoding.regex is not None:
                body["structured_outputs"] = {"regex": decoding.regex}
            body |= {"model": model, "prompt": list(prompts[index]), "return_token_ids": True}
            return body | {"cache_salt": self._salt}

        bodies = [build_body(index) for index in range(len(prompts))]
        replies = self._server.request_all("/v1/completions", bodies)
        sampled = [_read(reply, model) for reply in replies]
        if self._num_loads > 0:
            self._weights.check(version)
        return sampled

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


def _read(reply: Reply, model: str) -> Sampled:
    """The one completion of a request, by the model that was asked."""
    if reply.status == 404:
        raise RunError(
            f"{reply.source}: the server does not have {model} (404: {reply.text[:300]}); if it "
            "was started again, go on with --resume, which pushes the weights again"
        )
    answer = reply.read(Choices)
    if answer.model != model:
        raise RunError(f"{reply.source}: model {answer.model} answered a request to {model}")
    if len(answer.choices) != 1:
        raise RunError(f"{reply.source}: {len(answer.choices)} completions in place of one")
    [choice] = answer.choices
    if choice.logprobs is None:
        raise RunError(f"{reply.source}: log-probabilities were requested, and none returned")
    return choice.token_ids, choice.logprobs.token_logprobs
