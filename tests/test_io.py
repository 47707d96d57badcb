"""JSON on disk: whole or not there, and never cut in the wrong place."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from rcsd.distributed import Ranks
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
from rcsd.models.checkpoint import Checkpoints, State


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


def fill(path: Path, replace: bool = True, error: Exception | None = None) -> None:
    with new_folder(path, replace) as unfinished:
        (unfinished / "a").touch()
        if error is not None:
            raise error


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),  # of tokenizers
    ],
)
def test_a_folder_that_does_not_fit_is_told_in_words_and_leaves_nothing(
    tmp_path: Path, error: Exception
) -> None:
    said = "new: cannot be written: No space left on device; free some space, and run the same"
    for replace in (False, True):
        with pytest.raises(DataError, match=said):
            fill(tmp_path / "new", replace, error)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("umask", "modes"), [(0o022, (0o755, 0o644)), (0o027, (0o750, 0o640))])
def test_a_new_folder_has_the_permissions_of_the_umask(
    tmp_path: Path, umask: int, modes: tuple[int, int]
) -> None:
    before = os.umask(umask)
    try:
        with new_folder(tmp_path / "new") as unfinished:
            (unfinished / "inner").mkdir(mode=0o700)
            for path in (unfinished / "a", unfinished / "inner" / "b"):
                path.touch(mode=0o600)  # as safetensors does
    finally:
        os.umask(before)
    for path in (tmp_path / "new", *(tmp_path / "new").rglob("*")):
        assert path.stat().st_mode & 0o777 == modes[path.is_file()]


def own(path: Path) -> None:
    with one_owner(path):
        pass


def save(path: Path, step: int = 2) -> None:
    Checkpoints(path.parent, 1, Ranks()).save(step, State())


def unfinished_name(path: Path, process: int) -> str:
    return f"{path.name}.{platform.node()}-{process}.unfinished"


@pytest.mark.parametrize(
    ("name", "write"),
    [
        (".x.unfinished", fill),
        (".x.former", fill),
        (".x.lock", own),
        ("removed", save),
        ("", lambda path: write_json(path, {})),
    ],
)
@pytest.mark.parametrize("is_folder", [True, False])
def test_a_link_at_the_name_of_something_unfinished_is_refused_and_not_followed(
    tmp_path: Path, name: str, write: Callable[[Path], None], is_folder: bool
) -> None:
    target, folder = tmp_path / "target", tmp_path / "folder"
    folder.mkdir()
    save(folder / "x", 3)
    before = {path.name for path in folder.iterdir()}
    if is_folder:
        target.mkdir()
        (target / "precious").touch()
    else:
        target.write_text("precious")
    link = folder / (name or unfinished_name(folder / "x", os.getpid()))
    link.symlink_to(target)
    with pytest.raises((DataError, RunError), match=r"is a symbolic link, .* delete it"):
        write(folder / "x")
    assert (target / "precious").is_file() or target.read_text() == "precious"
    assert {path.name for path in folder.iterdir()} == {*before, link.name}
    link.unlink()
    write(folder / "x")


@pytest.mark.parametrize("target", ["target", "nowhere"])
def test_a_link_at_the_final_name_is_refused_or_replaced_and_never_followed(
    tmp_path: Path, target: str
) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "precious").touch()
    (tmp_path / "x").symlink_to(tmp_path / target)
    with pytest.raises(RunError, match="x exists"):
        fill(tmp_path / "x", replace=False)
    fill(tmp_path / "x")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a"]
    assert (tmp_path / "target" / "precious").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"x", "target"}
    (tmp_path / "file").write_text("precious")
    (tmp_path / "y").symlink_to(tmp_path / "file")
    write_json(tmp_path / "y", {})
    assert (tmp_path / "file").read_text() == "precious"
    assert not (tmp_path / "y").is_symlink()


KILLED = """
import os, signal, sys, pathlib, rcsd.io as io
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
io.write_json(pathlib.Path(sys.argv[1]), {})
"""


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "[x].json"
    command = [sys.executable, "-c", KILLED, str(path)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    living = tmp_path / unfinished_name(path, os.getppid())
    living.touch()
    assert len(list(tmp_path.iterdir())) == 2
    write_json(path, {})
    assert {file.name for file in tmp_path.iterdir()} == {path.name, living.name}
    (tmp_path / ".new.unfinished" / "half").mkdir(parents=True)
    fill(tmp_path / "new")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a"]
    assert not (tmp_path / ".new.unfinished").exists()


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
