"""Faults of files: full, read-only, cut off, broken or changed under a run, and said in words.

What was written before is kept, and the same command goes on afterwards.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.tiny import tiny_folder

from rcsd import cli, config
from rcsd.config.base import load
from rcsd.data.load import load_examples, pinned
from rcsd.data.rows import write_jsonl
from rcsd.data.world.problems import examples
from rcsd.errors import ConfigError, DataError, UserError
from rcsd.io import append_rows, drop_cut_row, read_json, read_rows, write_rows
from rcsd.recipes.pipeline import Artifacts
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_steps import write
from rcsd.recipes.write_rubrics import rubric_cache

SRC = Path(__file__).parents[2] / "src"


def in_a_process(
    code: str, folder: Path, words: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """What a process of its own prints, where limits and users do not outlive it."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=False,
    )


FULL = """
    import json, resource
    from pathlib import Path
    from rcsd.errors import DataError
    from rcsd.io import append_rows, write_json, write_rows, write_text

    row = {"text": "x" * 300}
    append_rows(Path("rows.jsonl"), [row] * 3)
    write_json(Path("whole.json"), {"a": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    for call in (
        lambda: append_rows(Path("rows.jsonl"), [row, row]),
        lambda: write_rows(Path("rows.jsonl"), [row] * 5),
        lambda: write_json(Path("whole.json"), {"a": "x" * 2000}),
        lambda: write_text(Path("page.html"), "x" * 2000),
    ):
        try:
            call()
            print("written")
        except DataError as error:
            print(error)
"""


def test_what_does_not_fit_is_not_written_in_part_and_the_error_says_what_to_do(
    tmp_path: Path,
) -> None:
    done = in_a_process(FULL, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for line, name in zip(
        lines, ("rows.jsonl", "rows.jsonl", "whole.json", "page.html"), strict=True
    ):
        assert line.startswith(f"{name}: cannot be written: ")
        assert "free some space, and run the same command again" in line
    assert len(read_rows(tmp_path / "rows.jsonl")) == 3
    assert (tmp_path / "rows.jsonl").read_bytes().endswith(b"}\n")
    assert read_json(tmp_path / "whole.json") == {"a": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "whole.json"]
    append_rows(tmp_path / "rows.jsonl", [{"text": "after"}])
    assert read_rows(tmp_path / "rows.jsonl")[3] == {"text": "after"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a mebibyte, where this process may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("needs leave to mount")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def command(monkeypatch: pytest.MonkeyPatch, capsys: Any, *words: object) -> tuple[int, str]:
    """Exit code and standard error of ``rcsd WORDS``."""
    monkeypatch.setattr(sys, "argv", ["rcsd", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 0
    return code, capsys.readouterr().err


def test_rows_on_a_full_disk_are_whole_and_go_on_once_there_is_room(small_disk: Path) -> None:
    ballast, path = small_disk / "ballast", small_disk / "rows.jsonl"
    append_rows(path, [{"text": "first"}])
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(DataError, match=r"rows\.jsonl: .*No space left on device; free some space"):
        append_rows(path, [{"text": "x" * 3000}] * 3)
    with pytest.raises(DataError, match=r"No space left on device; free some space"):
        write_rows(path, [{"text": "other"}])
    assert read_rows(path) == [{"text": "first"}]
    ballast.unlink()
    append_rows(path, [{"text": "x" * 3000}] * 3)
    assert len(read_rows(path)) == 4


OUT_OF_ROOM = """
    import resource, sys
    from rcsd import cli

    resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))
    cli.main()
"""


@pytest.mark.slow
def test_rubrics_that_a_full_disk_stopped_are_kept_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_folder(tmp_path / "tiny")
    questions = [dataclasses.replace(row, rubric=None) for row in examples("train", 4, 0)]
    write_jsonl(questions, tmp_path / "questions.jsonl")
    words = ["rubrics", "write", "--model", model, "--data", "questions.jsonl"]
    words += ["--out", "written.jsonl", "--cache", "cache", "--batch-size", "1"]
    words += ["--max-tokens", "80", "--max-criteria", "1", "--max-characters", "10"]
    stopped = in_a_process(OUT_OF_ROOM, tmp_path, words)
    assert stopped.returncode == 2, stopped.stderr
    assert "free some space, and run the same command again" in stopped.stderr
    (rows,) = (tmp_path / "cache").rglob("*.jsonl")
    kept = read_rows(rows)
    assert 0 < len(kept) < 4
    assert rows.read_bytes().endswith(b"}\n")
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, capsys, *words)[0] == 0
    assert read_rows(rows)[: len(kept)] == kept
    assert len(read_rows(tmp_path / "written.jsonl")) == len(read_rows(rows)) == 4


READ_ONLY = """
    import os
    from pathlib import Path
    from rcsd.errors import DataError
    from rcsd.io import append_rows, write_json, write_rows, write_text

    if os.geteuid() == 0:  # may write everywhere; paths are relative, so nobody finds them too
        os.seteuid(65534)
    for call in (
        lambda: append_rows(Path("closed/rows.jsonl"), [{}]),
        lambda: append_rows(Path("closed/new/rows.jsonl"), [{}]),
        lambda: write_rows(Path("closed/rows.jsonl"), [{}]),
        lambda: write_json(Path("closed/a.json"), {}),
        lambda: write_text(Path("closed/new/a.html"), ""),
    ):
        try:
            call()
            print("written")
        except DataError as error:
            print(error)
"""


def test_a_folder_that_is_read_only_is_named_with_what_to_do(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    tmp_path.chmod(0o755)
    done = in_a_process(READ_ONLY, tmp_path)
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done.stderr
    assert all("cannot be written: Permission denied; write to another folder" in x for x in lines)
    assert list(closed.iterdir()) == []


def test_an_error_of_the_machine_ends_a_command_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()

    def full() -> None:
        (tmp_path / "file" / "inside").mkdir(parents=True)

    monkeypatch.setattr("rcsd.cli.app", full)
    code, err = command(monkeypatch, capsys)
    assert code == 2
    assert "Traceback" not in err
    assert "Not a directory; write to another folder" in err.replace("\n", " ")


# What is broken


BROKEN = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff",
    b"\0" * 100,
    b'{"config": 1}',
    b'{"config": {}}',
    b"[" * 9999,
]


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:12]))
def test_a_broken_record_of_a_run_is_named_by_every_command(
    content: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("run")
    (run / "model").mkdir(parents=True)
    (run / "run.json").write_bytes(content)
    write_jsonl(examples("train", 1, 0), "rows.jsonl")
    for words in (
        ["eval", "run"],
        ["export", "run", "--out", "out"],
        ["rubrics", "write", "--model", "run", "--data", "rows.jsonl", "--out", "out.jsonl"],
    ):
        code, err = command(monkeypatch, capsys, *words)
        assert code == 2, err
        assert "run/run.json" in err.replace("\n", "")
        assert "Traceback" not in err


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda part: (
        st.lists(part, max_size=2) | st.dictionaries(st.text(max_size=3), part, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("key", "rubric", "num_attempts", "cut", "held_short"), JSON)
    )
    | JSON
)
def test_a_broken_row_of_the_rubric_cache_is_read_or_named(tmp_path: Path, row: Any) -> None:
    path = tmp_path / "1-of-1.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"1-of-1\.jsonl.*delete"):
        rubric_cache(tmp_path).read()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.binary(max_size=3))
def test_rows_that_were_cut_or_overwritten_anywhere_are_read_or_named(
    tmp_path: Path, place: int, garbage: bytes
) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"key": f"{number}", "text": "ä\u2028"} for number in range(4)]
    write_rows(path, rows)
    whole = path.read_bytes()
    place %= len(whole)
    path.write_bytes(whole[:place])
    assert read_rows(path) == rows[: whole[:place].count(b"\n")]
    drop_cut_row(path)
    append_rows(path, rows[whole[:place].count(b"\n") :])
    assert read_rows(path) == rows
    path.write_bytes(whole[:place] + garbage + whole[place + len(garbage) :])
    try:
        read_rows(path)
    except DataError as error:
        assert error.line is not None  # noqa: PT017


def test_a_broken_json_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for content in BROKEN[:6]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.json: the file is broken .* bring back a copy"):
            read_json(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_json(tmp_path / "none.json")


# What changes under a run


def pipeline(tmp_path: Path) -> Pipeline:
    write_jsonl(examples("train", 3, 0), tmp_path / "train.jsonl")
    write_jsonl(examples("new_numbers", 2, 0), tmp_path / "test.jsonl")
    tree = {
        "model": {"path": tiny_folder(tmp_path / "tiny")},
        "reasoner": {
            "data": {"type": "jsonl", "path": str(tmp_path / "train.jsonl")},
            "method": {"type": "distill"},
            "optim": {"lr": 1e-3},
            "steps": 1,
        },
        "arms": ["gold"],
        "evaluation": {"data": {"own": {"type": "jsonl", "path": str(tmp_path / "test.jsonl")}}},
        "out": str(tmp_path / "out"),
    }
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(tree))
    return load(Pipeline, tmp_path / "pipeline.yaml", [])


def test_data_that_changes_between_the_stages_of_a_pipeline_is_refused(tmp_path: Path) -> None:
    artifacts = Artifacts(pipeline(tmp_path))
    settings = artifacts.settings
    artifacts.add_reasoner("gold", settings.reasoner, "gold")
    (step,) = artifacts.steps
    files = {"own": (settings.evaluation.data["own"], tmp_path / "written.jsonl")}
    for name in ("train.jsonl", "test.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"question": "another"}\n')
    with pytest.raises(DataError, match=r"train\.jsonl: the file was changed: its sha256 is"):
        step.call(lambda *_: None, *step.arguments)
    engine, cache = settings.reasoner.engine, tmp_path / "cache"
    with pytest.raises(DataError, match=r"test\.jsonl: the file was changed: its sha256 is"):
        write(lambda *_: None, files, settings.model, settings.writing, engine, cache)
    assert not artifacts.folders["gold"].path.exists()


def test_a_data_file_may_be_held_to_a_checksum(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(examples("train", 2, 0), path)
    held = pinned({"a": [], "b": config.JsonlData(path=path)})["b"]
    assert load_examples(held) == load_examples(config.JsonlData(path=path))
    shown = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
    assert held.sha256 == shown.split()[0]
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError, match="bring back the former one"):
        load_examples(held)
    assert pinned(held) == held
    with pytest.raises(UserError, match="there is no such file"):
        pinned(config.JsonlData(path=tmp_path / "none.jsonl"))
    with pytest.raises(ConfigError, match=r"data\.jsonl\.sha256|sha256"):
        config.parse_config({"data": {"type": "jsonl", "path": "x", "sha256": "0"}})
