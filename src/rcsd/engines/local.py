"""An own decode loop over the model's decoder: the engine that runs by default.

Unlike in `rcsd.engines.hf`, a prompt that is asked for several times is run once, rows that have
ended leave the batch and waiting prompts take their room, no cache is copied for every token, and
no vocabulary is sorted.

Axes: B rows in flight, U different prompts, L columns of a padded row, T positions of a completion,
V vocabulary, E end tokens.
"""

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from rcsd.engines.constrained import RegexMask
from rcsd.engines.in_process import InProcessEngine
from rcsd.engines.kv_cache import RoomyCache
from rcsd.engines.sampler import drawn, uniforms
from rcsd.errors import ModelError
from rcsd.models.logits import gathered
from rcsd.models.packing import last_columns, pad_rows, positions
from rcsd.models.policy import Policy
from rcsd.models.scorer import Precision, causal_lm, evaluating, has_plain_head
from rcsd.types import Completion, Decoding

# Rows that have ended leave once they are this share of the batch, and prompts enter once this
# share of it is free: both copy the cache.
MOVING_SHARE = 0.25
# The host asks who has ended every so many tokens: on an accelerator asking is waiting.
TOKENS_PER_CHECK = {"cpu": 1, "cuda": 8}
OF_ROWS = ("ids_BT", "log_q_BT", "uniform_BT", "length_B", "num_B", "has_ended_B")


class LocalEngine(InProcessEngine):
    """Samples token by token from a cache.

    A prompt's random numbers hang on the seed and on its index among the prompts alone, so what is
    sampled does not depend on ``batch_size``, but for the rounding of the model's own sums. Raises
    ModelError if the model's decoder cannot go on from a cache.
    """

    def __init__(self, policy: Policy, batch_size: int, precision: Precision = nullcontext) -> None:
        super().__init__(policy, batch_size, precision)
        self._decoder = _Decoder(policy)

    def _sample(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, seed: int, first: int
    ) -> list[Completion]:
        # Prompts of like length stand together, and equal ones share a prefill.
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), tuple(prompts[i])))
        waiting, sampled = deque(order), dict[int, Completion]()
        rows: _Rows | None = None
        with self.precision(), evaluating(self.policy.model):
            while waiting or rows is not None:
                room = self.batch_size.value - (0 if rows is None else len(rows.indices))
                if waiting and (rows is None or rows.admits(room)):
                    entering = [waiting.popleft() for _ in range(min(room, len(waiting)))]
                    fresh = self._prefilled(
                        {index: prompts[index] for index in entering}, decoding, seed, first
                    )
                    rows = fresh if rows is None else rows.joined(fresh)
                elif rows is not None:
                    rows.step(self._decoder)
                if rows is not None and (leaving := rows.leaving()):
                    indices = [rows.indices[row] for row in leaving]
                    answered = [prompts[index] for index in indices]
                    completions = self._completions(
                        answered, rows.ids_BT[leaving], rows.log_q_BT[leaving]
                    )
                    sampled |= zip(indices, completions, strict=True)
                    rows = rows.without(leaving)
        return [sampled[index] for index in range(len(prompts))]

    def _prefilled(
        self, prompts: Mapping[int, Sequence[int]], decoding: Decoding, seed: int, first: int
    ) -> "_Rows":
        """Rows of prompts by their index, with their first token; equal prompts are run once."""
        policy, device = self.policy, self.policy.device
        ids = [tuple(prompt) for prompt in prompts.values()]
        place = {prompt: place for place, prompt in enumerate(dict.fromkeys(ids))}
        ids_UL, mask_UL = pad_rows(list(place), policy.pad_id, "left", device)
        cache = RoomyCache(causal_lm(policy.model).config)
        mask = None if mask_UL.all() else mask_UL
        logits_BV = self._decoder(ids_UL, positions(mask_UL), mask, cache)
        if len(place) < len(ids):
            place_B = torch.tensor([place[prompt] for prompt in ids], device=device)
            cache.select(place_B)
            logits_BV = logits_BV[place_B]
        # Greedy decoding draws nothing.
        num_drawn = 0 if decoding.temperature is None else decoding.max_tokens
        rows = _Rows(
            decoding,
            list(prompts),
            cache,
            ids_UL.shape[1],
            self._mask(decoding, len(ids)),
            end_E=torch.tensor(policy.end_ids, device=device),
            ids_BT=torch.full((len(ids), decoding.max_tokens), policy.pad_id, device=device),
            log_q_BT=logits_BV.new_zeros(len(ids), decoding.max_tokens),
            uniform_BT=uniforms(seed, [first + index for index in prompts], num_drawn).to(device),
            length_B=torch.tensor([len(prompt) for prompt in ids], device=device),
            num_B=torch.zeros(len(ids), dtype=torch.long, device=device),
            has_ended_B=torch.zeros(len(ids), dtype=torch.bool, device=device),
        )
        rows.draw(logits_BV)
        return rows


class _Decoder:
    """Logits of the next token, by the head on the last position alone.

    Tried on construction, on three tokens: a padded row that is read from a cache must give what
    the row read at once gives. The signature says nothing: decorators hide it, and a model may take
    an argument and not heed it.
    """

    def __init__(self, policy: Policy) -> None:
        causal = causal_lm(policy.model)
        # As `Scorer`: a head that is not plain is left to the model.
        self._head = causal.get_output_embeddings() if has_plain_head(policy.model) else None
        self._model = causal if self._head is None else causal.base_model
        # transformers renames the cache's argument in 5.24; code from a hub may not know how to
        # leave out logits that nobody needs.
        options = [{}] if self._head is not None else [{"logits_to_keep": 1}, {}]
        choices = itertools.product(("cache", "past_key_values"), options)
        with evaluating(policy.model):
            if not any(self._goes_on_from_a_cache(policy, *choice) for choice in choices):
                raise ModelError(
                    f"{type(self._model).__name__} cannot go on from a cache in a padded batch, so "
                    "the local engine cannot run it token by token; in a run set engine: {type: hf}"
                )

    def _goes_on_from_a_cache(
        self, policy: Policy, cache_name: str, options: dict[str, int]
    ) -> bool:
        """Compare a padded row whose last token goes on from a cache with the row read at once."""
        self._cache_name, self._options = cache_name, options
        ids_BL = torch.tensor([[policy.pad_id, 0, 1, 2]], device=policy.device)
        mask_BL = torch.tensor([[0, 1, 1, 1]], device=policy.device)
        settings, position_BL = causal_lm(policy.model).config, positions(mask_BL)
        try:
            slow_BV = self(ids_BL[:, 1:], position_BL[:, 1:], None, RoomyCache(settings))
            cache = RoomyCache(settings)
            self(ids_BL[:, :-1], position_BL[:, :-1], mask_BL[:, :-1], cache)
            if cache.get_seq_length() == 0:  # an argument of this name is ignored
                return False
            fast_BV = self(ids_BL[:, -1:], position_BL[:, -1:], mask_BL, cache)
        except (TypeError, ValueError, AttributeError, RuntimeError):  # as the model likes
            return False
        tolerance = torch.finfo(policy.model.dtype).eps ** 0.5
        # What is not a number is told when it is sampled from.
        return not (fast_BV - slow_BV).norm() > tolerance * slow_BV.norm()

    def __call__(
        self,
        ids_BL: Int[Tensor, "B L"],
        position_BL: Int[Tensor, "B L"],
        mask_BC: Int[Tensor, "B C"] | None,
        cache: RoomyCache,
    ) -> Float[Tensor, "B V"]:
        """In float32 or wider; the cache grows by what was read."""
        output = self._model(
            input_ids=ids_BL,
            position_ids=position_BL,
            attention_mask=mask_BC,
            use_cache=True,
            **{self._cache_name: cache},
            **self._options,
        )
        if self._head is None:
            logits_BV = output.logits[:, -1]
        else:
            hidden_BH = output.last_hidden_state[:, -1]
            logits_BV = self._head(hidden_BH.to(self._head.weight.dtype))
        return logits_BV if logits_BV.dtype == torch.float64 else logits_BV.float()


@dataclass
class _Rows:
    """Completions in flight: rows of a batch, all of which end in the cache's last column."""

    decoding: Decoding
    indices: list[int]  # of the prompt that each row answers
    cache: RoomyCache
    num_columns: int  # of the cache
    mask: RegexMask | None
    end_E: Int[Tensor, " E"]
    ids_BT: Int[Tensor, "B T"]  # room for the drawn tokens
    log_q_BT: Float[Tensor, "B T"]  # their log-probabilities, as in `rcsd.types.Completion`
    uniform_BT: Float64[Tensor, "B num_drawn"]  # no columns in greedy decoding
    length_B: Int[Tensor, " B"]  # tokens that were read: the position of the next one
    num_B: Int[Tensor, " B"]  # tokens that were drawn
    has_ended_B: Bool[Tensor, " B"]

    def __post_init__(self) -> None:
        self.is_number = torch.ones((), dtype=torch.bool, device=self.ids_BT.device)
        self._recount()

    def step(self, decoder: _Decoder) -> None:
        """Read the last token of each row, and draw the next."""
        last_B1 = self.ids_BT.gather(1, self.num_B[:, None] - 1)
        position_B1 = self.length_B[:, None]
        self.length_B, self.num_columns = self.length_B + 1, self.num_columns + 1
        mask_BC = last_columns(self.length_B, self.num_columns) if self._is_padded else None
        self.draw(decoder(last_B1, position_B1, mask_BC, self.cache))

    def draw(self, logits_BV: Float[Tensor, "B V"]) -> None:
        """Draw a token for each row; those that have ended draw on, and it is cut off later."""
        place_B1, decoding, whole_BV = self.num_B[:, None], self.decoding, logits_BV
        if self.mask is not None:
            logits_BV = self.mask(self.ids_BT.gather(1, (place_B1 - 1).clamp(min=0)), logits_BV)
        self.is_number &= logits_BV.amax(-1).isfinite().all()
        if decoding.temperature is None:
            id_B = logits_BV.argmax(-1)
        else:
            uniform_B = self.uniform_BT.gather(1, place_B1)[:, 0]
            id_B = drawn(logits_BV, uniform_B, decoding.temperature, decoding.top_k, decoding.top_p)
        log_q_B = gathered(whole_BV / (decoding.temperature or 1.0), id_B)
        self.ids_BT.scatter_(1, place_B1, id_B[:, None])
        self.log_q_BT.scatter_(1, place_B1, log_q_B[:, None])
        self.has_ended_B = self.has_ended_B | (id_B[:, None] == self.end_E).any(-1)
        self.num_B, self._num_left = self.num_B + 1, self._num_left - 1

    def admits(self, num: int) -> bool:
        """True if the cache takes rows and enough are free to be worth a copy."""
        return self.cache.takes_rows and num >= MOVING_SHARE * (len(self.indices) + num)

    def joined(self, other: "_Rows") -> "_Rows":
        """These rows, then the other's."""
        self.indices += other.indices
        for name in OF_ROWS:
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        self.is_number &= other.is_number
        # What the longest row does not use is dropped.
        self.num_columns = int(self.length_B.max())
        self.cache.join(other.cache, self.num_columns)
        if self.mask is not None and other.mask is not None:
            self.mask.join(other.mask)
        self._recount()
        return self

    def leaving(self) -> list[int]:
        """Rows that are complete, once it pays to let them go.

        Raises FloatingPointError if a probability was not a number.
        """
        # A grammar waits for every token anyway, and must not be fed what is not a number.
        is_due = self._num_left % TOKENS_PER_CHECK.get(self.ids_BT.device.type, 1) == 0
        if not is_due and self.mask is None:
            return []
        if not self.is_number:
            raise FloatingPointError("next-token probabilities are not numbers")
        is_complete_B = self.has_ended_B | (self.num_B == self.ids_BT.shape[1])
        complete = is_complete_B.nonzero()[:, 0].tolist()
        pays = len(complete) >= MOVING_SHARE * len(self.indices)
        return complete if pays or self._num_left == 0 else []

    def without(self, leaving: Sequence[int]) -> "_Rows | None":
        """The other rows, or None where there are none."""
        staying = sorted(set(range(len(self.indices))) - set(leaving))
        if not staying:
            return None
        self.indices = [self.indices[row] for row in staying]
        row_B = torch.tensor(staying, device=self.ids_BT.device)
        for name in OF_ROWS:
            setattr(self, name, getattr(self, name)[row_B])
        self.cache.select(row_B)
        if self.mask is not None:
            self.mask.keep(staying)
        self._recount()
        return self

    def _recount(self) -> None:
        """Update what the host keeps between changes of the rows."""
        self._is_padded = int(self.length_B.min()) < self.num_columns
        self._num_left = self.ids_BT.shape[1] - int(self.num_B.max())
