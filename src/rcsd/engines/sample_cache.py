"""One cache of sampled text, keyed by the digest of the request; safe among processes.

A folder of JSON lines. Each process appends to a file of its own, so a kill loses no more than the
row that it cuts off, and folders of several machines are merged by copying their files together.
"""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from rcsd.errors import DataError
from rcsd.io import append_rows, digest, rows_from
from rcsd.types import Decoding

Sample = TypeVar("Sample")


def request_key(weights_sha256: str, prompt: Sequence[int], decoding: Decoding, seed: int) -> str:
    """Digest of a request: weights, prompt (with templates and example), decoding, seed.

    Greedy decoding uses no seed.
    """
    draws = None if decoding.temperature is None else seed
    request = [weights_sha256, list(prompt), asdict(decoding), draws]
    return digest(json.dumps(request, sort_keys=True))


class SampleCache(Generic[Sample]):
    """Samples by key, on disk.

    ``decode`` builds a sample from a row, and may raise ValueError, KeyError or TypeError.
    """

    def __init__(self, folder: Path, decode: Callable[[Mapping[str, Any]], Sample]) -> None:
        self._folder, self._decode = folder, decode
        self._samples: dict[str, Sample] = {}
        self._num_bytes_read: dict[Path, int] = {}
        self._file = folder / f"{secrets.token_hex(8)}.jsonl"

    def __contains__(self, key: str) -> bool:
        return key in self._samples

    def __getitem__(self, key: str) -> Sample:
        return self._samples[key]

    def read(self) -> None:
        """Read the rows that any process has appended since the last call.

        Raises DataError if a row is broken.
        """
        for path in sorted(self._folder.glob("*.jsonl")):
            rows, end = rows_from(path, self._num_bytes_read.get(path, 0))
            self._num_bytes_read[path] = end
            try:
                for row in rows:
                    self._samples.setdefault(row.pop("key"), self._decode(row))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"the cache is broken ({error}); delete the file", path) from error

    def put(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Append rows, by key, to this process's file, before it returns."""
        append_rows(self._file, [{"key": key, **row} for key, row in rows.items()])
        self._samples |= {key: self._decode(row) for key, row in rows.items()}
