"""JSON on disk: whole or not there, and never cut in the wrong place."""

import subprocess
import sys
from pathlib import Path

import pytest

from rcsd.errors import DataError, RunError
from rcsd.io import (
    append_rows,
    check_writable,
    new_folder,
    one_owner,
    read_rows,
    write_json,
    write_rows,
)


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2: the row is broken .* delete that line"):
        read_rows(path)


def test_a_file_that_cannot_be_written_whole_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(ValueError, match="Out of range"):
        write_rows(path, [{"a": float("nan")}])
    assert path.read_text() == '{\n  "a": 1\n}'
    assert list(tmp_path.iterdir()) == [path]


def test_all_writing_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr("os.fsync", waited.append)
    write_json(tmp_path / "a.json", {})
    write_rows(tmp_path / "b.jsonl", iter([{"a": 1}]))
    append_rows(tmp_path / "b.jsonl", [{"a": 2}])
    assert len(waited) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "it is a folder"),
        ("..", "it is a folder"),
        ("file/x.json", "file/x.json: cannot be written: there is no such folder"),
        ("x" * 300, "cannot be written: File name too long"),
    ],
)
def test_a_path_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for write in (check_writable, lambda path: write_json(path, {})):
        with pytest.raises(DataError, match=message):
            write(Path(name))
    for write_all in (write_rows, append_rows) if not name.startswith("none") else ():
        with pytest.raises(DataError, match="cannot be written"):  # they make a folder
            write_all(Path(name), [{"a": 1}])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_is_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    check_writable(path, [path])
    path.touch()
    check_writable(path, [tmp_path / "none.jsonl"])
    with pytest.raises(DataError, match="is read too"):
        check_writable(tmp_path / "." / "rows.jsonl", [tmp_path / "none.jsonl", path])


def test_a_new_folder_is_whole_or_not_there_and_replaces_none_unless_it_may(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with pytest.raises(FileNotFoundError), new_folder(path) as unfinished:
        (unfinished / "none" / "a").touch()
    assert list(tmp_path.iterdir()) == []
    for name, replace in (("a", False), ("b", True)):
        with new_folder(path, replace) as unfinished:
            (unfinished / name).touch()
        assert [file.name for file in path.iterdir()] == [name]
    with pytest.raises(RunError, match="new exists; choose another name"), new_folder(path):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    with one_owner(tmp_path / "run"):
        script = (
            "import sys, pathlib, rcsd.io as io\nwith io.one_owner(pathlib.Path(sys.argv[1])): pass"
        )
        command = [sys.executable, "-c", script, str(tmp_path / "run")]
        second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 1
    assert "another process writes there" in second.stderr
    with one_owner(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []
