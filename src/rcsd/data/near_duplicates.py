"""Near-duplicates among many texts, in time linear in their number.

Two texts are alike by the Jaccard similarity of their shingles, the runs of three words. A pair at
the threshold shares one of the rarest shingles of each ("prefix filter", Bayardo et al., Scaling Up
All Pairs Similarity Search, 2007), and where that stands bounds what else it can share ("positional
filter", Xiao et al., Efficient Similarity Joins for Near Duplicate Detection, 2008). Both are
exact. Only for a text all of whose rare shingles are in hundreds of others the search is cut short.
"""

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

NEAR = 0.8
"""Jaccard similarity of shingles from which two texts are near-duplicates."""

_SHINGLE_WORDS = 3
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MAX_TEXTS = 500
"""Texts that are remembered by a shingle, the first that hold it."""
_MAX_STEPS = 10_000
"""Texts by shingle, and shingles of these texts, that are looked at for one text."""
_FEW = 50
"""Texts of one shingle that are all compared to find the nearest; of more, any near one will do."""


class Match(NamedTuple):
    """Number of a near-duplicate, from 0, and the Jaccard similarity."""

    number: int
    similarity: float


def near_duplicates(
    texts: Sequence[str], others: Sequence[str] | None = None
) -> Iterator[Match | None]:
    """Nearest of the other texts for each text, or None if none is near.

    Args:
        texts: Texts to search for.
        others: Texts to search among; None: for each text those before it.
    """
    if not texts:
        return
    index = _Index()
    first = len(others or ())
    for number, text in enumerate(_ranked_shingles([*(others or ()), *texts])):
        if number >= first:
            yield index.nearest(text)
        if others is None or number < first:
            index.add(text)


class _Text(NamedTuple):
    """Shingles of a text, the rarest first, and the numbers that bound the search for it."""

    shingles: Any
    is_alone: bool
    """True if no other text can be near."""

    def prefix(self) -> list[int]:
        size = len(self.shingles)
        return self.shingles[: size - _share(size) + 1].tolist()


def _share(size: int) -> int:
    """Fewest shingles that a text of that many shares with a near one."""
    return math.ceil(NEAR * size - 1e-9)


class _Index:
    """Texts by the rarest of their shingles."""

    def __init__(self) -> None:
        self._texts: list[Any] = []
        self._places: dict[int, list[tuple[int, int]]] = {}

    def add(self, text: _Text) -> None:
        number = len(self._texts)
        self._texts.append(text.shingles)
        for place, shingle in enumerate(() if text.is_alone else text.prefix()):
            places = self._places.setdefault(shingle, [])
            if len(places) < _MAX_TEXTS:
                places.append((number, place))

    def nearest(self, text: _Text) -> Match | None:
        best: Match | None = None
        if text.is_alone:
            return best
        shingles, steps = set(text.shingles.tolist()), 0
        for number, bound, is_one_of_few in self._candidates(text):
            steps += 1
            if best is not None and not is_one_of_few:
                break
            if bound >= NEAR and (best is None or bound > best.similarity):
                other = self._texts[number].tolist()
                steps += len(other)
                shared = len(shingles.intersection(other))
                similarity = shared / (len(shingles) + len(other) - shared)
                if similarity >= NEAR and (best is None or similarity > best.similarity):
                    best = Match(number, similarity)
            if steps > _MAX_STEPS:
                break
        return best

    def _candidates(self, text: _Text) -> Iterator[tuple[int, float, bool]]:
        """Texts that share a shingle, the highest similarity they can have, and if they are few."""
        size, seen, steps = len(text.shingles), set(), 0
        for place, shingle in enumerate(text.prefix()):
            places = self._places.get(shingle, ())
            is_one_of_few = len(places) <= _FEW
            steps += len(places)
            if steps > _MAX_STEPS:
                return
            for number, other_place in places:
                if number not in seen:
                    seen.add(number)
                    other_size = len(self._texts[number])
                    shared = min(size - place, other_size - other_place)
                    yield number, shared / (size + other_size - shared), is_one_of_few


def _ranked_shingles(texts: Iterable[str]) -> Iterator[_Text]:
    """Texts in order; a shingle is its rank by the number of texts that hold it."""
    pairs = _shingles_by_row(texts)
    shingles = pairs & 0xFFFFFFFF
    counts = np.bincount(shingles)
    ranks = np.empty(len(counts), np.int32)
    ranks[np.argsort(counts, kind="stable")] = np.arange(len(counts), dtype=np.int32)
    num_single = int((counts == 1).sum())
    pairs &= ~0xFFFFFFFF
    pairs |= ranks[shingles]
    del shingles, counts, ranks
    pairs.sort()
    ends = np.cumsum(np.bincount(pairs >> 32))
    pairs = (pairs & 0xFFFFFFFF).astype(np.int32)
    start = 0
    for end in ends.tolist():
        size = end - start
        last_of_prefix = pairs[start + size - _share(size)]
        yield _Text(pairs[start:end], bool(last_of_prefix < num_single))
        start = end


def _shingles_by_row(texts: Iterable[str]) -> Any:
    """Row and number of each distinct shingle, ``row << 32 | number``, in ascending order.

    A shingle is three words in a row, in small letters; a shorter text is one shingle.
    """
    vocabulary: dict[str, int] = {}
    words, sizes = array("I"), array("I")
    for text in texts:
        tokens = re.findall(r"\w+(?:\.\d+)?", text.casefold())
        words.extend([vocabulary.setdefault(word, len(vocabulary) + 1) for word in tokens])
        words.extend([0] * (_SHINGLE_WORDS - len(tokens)))
        sizes.append(max(len(tokens), _SHINGLE_WORDS))
    del vocabulary
    ids = np.array(words)
    rows = np.repeat(np.arange(len(sizes), dtype=np.int32), np.array(sizes))
    hashes = (ids[:-2] * _MULTIPLIER + ids[1:-1]) * _MULTIPLIER + ids[2:]
    is_within = rows[:-2] == rows[2:]
    rows, hashes = rows[:-2][is_within], hashes[is_within]
    del words, ids, is_within
    order = np.argsort(hashes)
    hashes = hashes[order]
    is_new = np.append(False, hashes[1:] != hashes[:-1])
    pairs = rows[order].astype(np.int64)
    del hashes, order, rows
    pairs <<= 32
    pairs |= np.cumsum(is_new, dtype=np.int32)
    pairs.sort()
    return pairs[np.append(True, pairs[1:] != pairs[:-1])]
