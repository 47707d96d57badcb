"""The cache of samples: nothing is lost by a kill, nothing is found for another request."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rcsd.engines.sample_cache import SampleCache, request_key
from rcsd.errors import DataError
from rcsd.types import Decoding


def text(row: Mapping[str, Any]) -> str:
    if not isinstance(row["text"], str):
        raise ValueError("no text")
    return row["text"]


def test_processes_see_each_others_rows_once_they_read(tmp_path: Path) -> None:
    one, other = SampleCache(tmp_path, text), SampleCache(tmp_path, text)
    one.put({"a": {"text": "first"}})
    assert one["a"] == "first"
    assert "a" not in other
    other.put({"b": {"text": "second"}})
    for cache in (one, other):
        cache.read()
        assert (cache["a"], cache["b"]) == ("first", "second")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_row_that_a_kill_cut_off_is_no_row(tmp_path: Path) -> None:
    SampleCache(tmp_path, text).put({"a": {"text": "x"}, "b": {"text": "y"}})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    cache = SampleCache(tmp_path, text)
    cache.read()
    assert ("a" in cache, "b" in cache) == (True, False)
    cache.put({"b": {"text": "z"}})
    again = SampleCache(tmp_path, text)
    again.read()
    assert (again["a"], again["b"]) == ("x", "z")


@pytest.mark.parametrize("row", ['{"text": "x"}', '{"key": "a"}', '{"key": "a", "text": 1}'])
def test_a_broken_row_names_its_file(tmp_path: Path, row: str) -> None:
    (tmp_path / "some.jsonl").write_text(row + "\n")
    with pytest.raises(DataError, match=r"some\.jsonl.*delete the file"):
        SampleCache(tmp_path, text).read()


def test_a_key_depends_on_the_whole_request_and_on_the_seed_if_it_is_drawn() -> None:
    greedy = Decoding(max_tokens=8)
    warm = replace(greedy, temperature=1.0)
    requests = [
        ("w", (1, 2), greedy, 0),
        ("v", (1, 2), greedy, 0),
        ("w", (12,), greedy, 0),
        ("w", (1, 2), replace(greedy, max_tokens=9), 0),
        ("w", (1, 2), warm, 0),
        ("w", (1, 2), warm, 1),
    ]
    assert len({request_key(*request) for request in requests}) == len(requests)
    assert request_key("w", (1, 2), greedy, 5) == request_key(*requests[0])
