"""Sampling within a regular language, by llguidance (https://github.com/guidance-ai/llguidance)."""

import copy
from collections.abc import Sequence
from typing import Any

import llguidance.hf
import numpy as np
import torch
from jaxtyping import Float, Int
from llguidance import LLMatcher
from torch import Tensor
from transformers import LogitsProcessor

from rcsd.errors import ModelError


class RegexMask(LogitsProcessor):
    """Masks the tokens after which a text could no longer match a regular expression.

    The probabilities of the tokens that are left are renormalised at each step: a sample is drawn
    from the model's own distribution at each position, restricted to what is allowed there. Where
    the text can go on in one way alone, it goes on in the tokens that the tokenizer would take.
    Control tokens other than the end are never allowed; end tokens where the text matches as a
    whole. For one batch; each row's state is its own. Raises ModelError if the tokenizer is not a
    fast one, or the language is too large.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, end_ids: Sequence[int], regex: str) -> None:
        try:
            self._tokenizer = llguidance.hf.from_tokenizer(
                tokenizer, n_vocab=vocab_size, eos_token=list(end_ids)
            )
        except ValueError as error:
            raise ModelError(
                f"sampling.grammar: the tokenizer cannot be masked: {error}"
            ) from error
        self._grammar = LLMatcher.grammar_from_regex(regex)
        self._start(1)

    def _start(self, batch_size: int) -> None:
        self._matchers = [LLMatcher(self._tokenizer, self._grammar) for _ in range(batch_size)]
        self._sees_prompts = True
        self._refuse_errors()

    def fresh(self, batch_size: int) -> "RegexMask":
        """The same language for other rows, which have seen prompts alone."""
        other = copy.copy(self)
        other._start(batch_size)
        return other

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order."""
        self._matchers = [self._matchers[row] for row in rows]

    def join(self, other: "RegexMask") -> None:
        """Go on with another mask's rows after the own ones; both have been called."""
        self._matchers += other._matchers

    def __call__(
        self, input_ids: Int[Tensor, "B L"], scores: Float[Tensor, "B V"]
    ) -> Float[Tensor, "B V"]:
        """Scores with what is not allowed at minus infinity."""
        if not self._sees_prompts:
            for matcher, token in zip(self._matchers, input_ids[:, -1].tolist(), strict=True):
                # Stopped: the text is complete, and only end tokens and padding follow.
                if not matcher.is_stopped() and not matcher.consume_token(token):
                    raise ModelError(f"token {token} was drawn, which the grammar refuses")
        self._sees_prompts = False
        masks = [np.frombuffer(matcher.compute_bitmask(), np.uint8) for matcher in self._matchers]
        self._refuse_errors()
        allowed = np.unpackbits(np.stack(masks), axis=1, bitorder="little")[:, : scores.shape[1]]
        allowed_BV = torch.from_numpy(allowed).to(scores.device, torch.bool)
        return scores.masked_fill(~allowed_BV, -torch.inf)

    def _refuse_errors(self) -> None:
        """A matcher in error allows the end token anywhere: texts would end where they may not."""
        for matcher in self._matchers:
            if matcher.is_error():
                # The message repeats the whole expression, which can be very long.
                raise ModelError(
                    "the grammar cannot be followed; lower its max_criteria or max_characters "
                    f"(llguidance: {matcher.get_error()[:80]}...)"
                )
