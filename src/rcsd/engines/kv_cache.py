"""Keys and values in buffers with room to spare, whose rows come and go.

Axes: B rows, h heads, C columns (positions of the batch), d width of a head; in a buffer C is more
than the columns in use.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

# Columns to spare in a new buffer: this many, or this share of those in use if that is more.
SPARE, SPARE_SHARE = 64, 0.25


class RoomyLayer(DynamicLayer):
    """transformers' layer of a cache, but a new column is written in place.

    `DynamicLayer` makes a new tensor of all columns for every token. Here ``keys`` and ``values``
    are views of buffers with columns to spare, which are made anew when full.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._num_columns = 0
        self._buffers: tuple[Tensor, ...] = ()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of all columns, the new ones last."""
        before, num = self._num_columns, key_states.shape[-2]
        if before == 0:
            # Prompts are not copied: most often their rows are repeated before anything is added.
            self.lazy_initialization(key_states, value_states)
            return self._use((key_states, value_states), num)
        if before + num > self._buffers[0].shape[-2]:
            self._buffers = tuple(_with_room(each) for each in self._used())
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer.narrow(-2, before, num).copy_(states)
        return self._use(self._buffers, before + num)

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Row i becomes what row ``beam_idx[i]`` was; rows may be left out or repeated."""
        rows = (each.index_select(0, beam_idx) for each in self._used())
        self._use(tuple(_with_room(each) for each in rows), self._num_columns)

    def join(self, other: "RoomyLayer", num_columns: int) -> None:
        """Add another layer's rows after the own ones, both to end in the same column.

        The last ``num_columns`` stay of both; what one lacks is zero.
        """
        buffers = []
        for first, last in zip(self._used(), other._used(), strict=True):
            buffer = _buffer(first, len(first) + len(last), num_columns)
            rooms = buffer.narrow(2, 0, num_columns).split([len(first), len(last)])
            for room, used in zip(rooms, (first, last), strict=True):
                num = min(num_columns, used.shape[2])
                # What is masked is multiplied by 0, which of a NaN in fresh memory makes a NaN.
                room.narrow(2, 0, num_columns - num).zero_()
                room.narrow(2, num_columns - num, num).copy_(
                    used.narrow(2, used.shape[2] - num, num)
                )
            buffers.append(buffer)
        self._use(tuple(buffers), num_columns)

    def _used(self) -> list[Tensor]:
        return [buffer.narrow(-2, 0, self._num_columns) for buffer in self._buffers]

    def _use(self, buffers: tuple[Tensor, ...], num_columns: int) -> tuple[Tensor, Tensor]:
        self._buffers, self._num_columns = buffers, num_columns
        keys, values = self._used()
        self.keys, self.values = keys, values
        return keys, values


class RoomyCache(DynamicCache):
    """The cache that a model's configuration asks for, with roomy layers where it wants plain ones.

    Layers of other kinds (sliding windows, recurrent states) stay transformers' own.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config=config)
        self.layers = [
            RoomyLayer() if type(layer) is DynamicLayer else layer for layer in self.layers
        ]

    @property
    def takes_rows(self) -> bool:
        """True if rows can be added: other layers count the columns of all rows as one."""
        return all(isinstance(layer, RoomyLayer) for layer in self.layers)

    def select(self, row_B: Int[Tensor, " B"]) -> None:
        """Row i becomes what row ``row_B[i]`` was; rows may be left out or repeated."""
        for layer in self.layers:
            layer.reorder_cache(cast("torch.LongTensor", row_B))

    def join(self, other: "RoomyCache", num_columns: int) -> None:
        """Add another cache's rows where `takes_rows`; see `RoomyLayer.join`."""
        for layer, last in zip(self.layers, other.layers, strict=True):
            cast("RoomyLayer", layer).join(cast("RoomyLayer", last), num_columns)


def _with_room(used_BhCd: Float[Tensor, "B h C d"]) -> Float[Tensor, "B h room d"]:
    """A buffer that begins with these columns."""
    buffer = _buffer(used_BhCd, len(used_BhCd), used_BhCd.shape[2])
    buffer.narrow(2, 0, used_BhCd.shape[2]).copy_(used_BhCd)
    return buffer


def _buffer(like_BhCd: Float[Tensor, "B h C d"], num_rows: int, num_columns: int) -> Tensor:
    """Fresh memory for so many columns in use, and some to spare."""
    _, heads, _, width = like_BhCd.shape
    spare = max(SPARE, int(SPARE_SHARE * num_columns))
    return like_BhCd.new_empty(num_rows, heads, num_columns + spare, width)
