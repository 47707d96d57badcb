"""JSON on disk: whole or not there, and never cut in the wrong place."""

from pathlib import Path

import pytest

from rcsd.files import append_rows, read_rows, write_json, write_rows


def test_rows_come_back_even_with_every_kind_of_line_separator_inside(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    rows = [{"text": "a\nb\u2028c\x85d"}, {"text": ""}]
    append_rows(path, rows[:1])
    append_rows(path, rows[1:])
    assert read_rows(path) == rows


def test_a_last_line_that_was_cut_off_is_not_a_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"a": 1}, {"a": 2}])
    path.write_text(path.read_text()[:-3])
    assert read_rows(path) == [{"a": 1}]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_rows(path)


def test_a_file_that_cannot_be_written_whole_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(ValueError, match="Out of range"):
        write_rows(path, [{"a": float("nan")}])
    assert path.read_text() == '{\n  "a": 1\n}'
