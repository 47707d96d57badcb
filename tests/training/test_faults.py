"""Faults of files: full, read-only, cut off, broken or changed under a run, and said in words.

What was written before is kept, and the same command goes on afterwards.
"""

import hashlib
import json
import math
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from tests.cli.test_cli import run_file
from tests.support.launched import before
from tests.support.tiny import quietly, tiny_folder

from rcsd import config
from rcsd.config.base import load, parse
from rcsd.data.load import load_examples, pinned
from rcsd.data.rows import write_jsonl
from rcsd.data.world.problems import examples
from rcsd.errors import ConfigError, DataError, UserError
from rcsd.evaluation.run import run_eval
from rcsd.io import append_rows, drop_cut_row, read_json, read_rows, write_json, write_rows
from rcsd.recipes.pipeline import Artifacts
from rcsd.recipes.pipeline_config import Pipeline
from rcsd.recipes.pipeline_steps import write

SRC = Path(__file__).parents[2] / "src"


CALLS = """
    import os, resource
    from pathlib import Path
    from rcsd.errors import DataError
    from rcsd.io import append_rows, write_json, write_rows, write_text

    SET_UP
    rows = [{"text": "x" * 300}] * 5
    for call in (
        lambda: append_rows(Path("FOLDER/rows.jsonl"), rows[:2]),
        lambda: write_rows(Path("FOLDER/rows.jsonl"), rows),
        lambda: write_json(Path("FOLDER/whole.json"), {"a": "x" * 2000}),
        lambda: write_text(Path("FOLDER/new/page.html"), "x" * 2000),
    ):
        try:
            call()
            print("written")
        except DataError as error:
            print(error)
"""
SMALL_DISK = "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))"
# Root may write everywhere. Paths are relative, so that nobody finds them too.
NOBODY = "os.geteuid() or os.seteuid(65534)"


def split_lines(folder: Path, set_up: str, place: str) -> list[str]:
    """What each of the calls says, in a process that limits and users do not outlive."""
    code = textwrap.dedent(CALLS.replace("SET_UP", set_up).replace("FOLDER", place))
    env = os.environ | {"PYTHONPATH": str(SRC)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_does_not_fit_is_not_written_in_part_and_the_error_says_what_to_do(
    tmp_path: Path,
) -> None:
    append_rows(tmp_path / "rows.jsonl", [{"text": "x" * 300}] * 3)
    write_json(tmp_path / "whole.json", {"a": 1})
    lines = split_lines(tmp_path, SMALL_DISK, ".")
    names = ("rows.jsonl", "rows.jsonl", "whole.json", "new/page.html")
    for line, name in zip(lines, names, strict=True):
        assert line.startswith(f"{name}: cannot be written: ")
        assert "free some space, and run the same command again" in line
    assert len(read_rows(tmp_path / "rows.jsonl")) == 3
    assert (tmp_path / "rows.jsonl").read_bytes().endswith(b"}\n")
    assert read_json(tmp_path / "whole.json") == {"a": 1}
    assert {path.name for path in tmp_path.rglob("*")} == {"rows.jsonl", "whole.json", "new"}
    append_rows(tmp_path / "rows.jsonl", [{"text": "after"}])
    assert read_rows(tmp_path / "rows.jsonl")[3] == {"text": "after"}


def test_a_folder_that_is_read_only_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    tmp_path.chmod(0o755)
    lines = split_lines(tmp_path, NOBODY, "closed")
    assert len(lines) == 4
    assert all("cannot be written: Permission denied; write to another folder" in x for x in lines)
    assert list((tmp_path / "closed").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotADirectoryError(20, "Not a directory"), "Not a directory; write to another folder"),
        (SafetensorError("I/O error (os error 28)"), "No space left on device; free some space"),
        (
            UnicodeEncodeError("ascii", "ä", 0, 1, ""),
            "beyond this locale's ascii; set PYTHONUTF8=1",
        ),
    ],
)
def test_an_error_of_the_machine_ends_in_words(
    monkeypatch: pytest.MonkeyPatch, rcsd: Any, error: Exception, said: str
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr("rcsd.cli.app", fails)
    code, _, err = rcsd()
    assert code == 2
    assert said in err


def test_a_command_needs_no_locale_and_no_reader(tmp_path: Path) -> None:
    write_jsonl(
        [replace(of, question=f"ä你 {of.question}") for of in examples("train", 1, 0)],
        tmp_path / "rows.jsonl",
    )
    words = ["eval", tiny_folder(tmp_path / "model"), "data.own={type: jsonl, path: rows.jsonl}"]
    env = os.environ | {"PYTHONPATH": str(SRC), "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "rcsd", *words, "max_tokens=2", "out=eval"],
        cwd=tmp_path,
        env=env | {"PYTHONUTF8": "0"},
        stdout=writer,
        stderr=writer,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 0
    assert len(read_rows(tmp_path / "eval" / "completions.jsonl")) == 1


def test_names_may_have_spaces_and_letters_of_any_script(tmp_path: Path, rcsd: Any) -> None:
    folder = tmp_path / "ä b 你's [x] {y}%"
    folder.mkdir()
    lora = {"type": "lora", "rank": 2, "alpha": 4}
    model = {"path": tiny_folder(folder / "model"), "training": lora}
    file = run_file(folder, model=model)
    data = f"data.own={{type: jsonl, path: {json.dumps(str(folder / 'rows.jsonl'))}}}"
    for words in (
        ["train", file],
        ["train", file, "--resume"],
        ["export", folder / "run", "--out", folder / "é x"],
        ["eval", folder / "run", data, "max_tokens=2"],
        ["eval", folder / "é x", data, "max_tokens=2", f"out={folder / 'e'}"],
    ):
        code, _, err = rcsd(*words)
        assert code == 0, err
    names = {"model", "rows.jsonl", "run.yaml", "run", "é x", "e"}
    assert {path.name for path in folder.iterdir()} == names


def test_an_evaluation_whose_disk_is_full_at_any_write_goes_on_afterwards(tmp_path: Path) -> None:
    model, data = tiny_folder(tmp_path / "model"), {"type": "world", "num_examples": 2}
    tree = {"model": {"path": model}, "data": {"own": data}, "max_tokens": 2, "num_samples": 1}
    counted: list[int] = []

    def evaluated(name: str, num_writes: float) -> Path:
        def write(call: int) -> None:
            counted.append(call)
            if call > num_writes:
                raise OSError(28, "No space left on device")

        with pytest.MonkeyPatch.context() as patch:
            before(os, "fsync", write, patch)
            run_eval(
                parse(config.EvalConfig, tree | {"out": str(tmp_path / name)}, "test"), quietly
            )
        return tmp_path / name / "completions.jsonl"

    whole = evaluated("whole", math.inf)
    names = ["model", "whole"]
    for number in range(len(counted)):
        names.append(f"full-{number}")
        with pytest.raises(UserError, match="No space left on device"):
            evaluated(names[-1], number)
        assert not (tmp_path / names[-1]).exists()
        assert evaluated(names[-1], math.inf).read_bytes() == whole.read_bytes()
        assert {path.name for path in tmp_path.iterdir()} == set(names)


BROKEN = [b"", b"[]", b"\xff", b"\0" * 100, b"[" * 9999, b'{"config": 1}', b'{"config": {}}']


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:12]))
def test_a_broken_record_of_a_run_is_named_by_every_command(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rcsd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run/model").mkdir(parents=True)
    Path("run/run.json").write_bytes(content)
    write_jsonl(examples("train", 1, 0), "rows.jsonl")
    for words in (
        ["eval", "run"],
        ["export", "run", "--out", "out"],
        ["rubrics", "write", "--model", "run", "--data", "rows.jsonl", "--out", "out.jsonl"],
    ):
        code, _, err = rcsd(*words)
        assert code == 2, err
        assert "run/run.json" in err
    if content not in BROKEN[5:]:
        with pytest.raises(DataError, match=r"run\.json: the file is broken .* bring back a copy"):
            read_json(Path("run/run.json"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def pipeline(tmp_path: Path) -> Pipeline:
    data, sets = {}, list[Any]([("train", "train", 3), ("test", "new_numbers", 2)])
    for name, split, num in sets:
        write_jsonl(examples(split, num, 0), tmp_path / f"{name}.jsonl")
        data[name] = {"type": "jsonl", "path": str(tmp_path / f"{name}.jsonl")}
    stage = {"data": data["train"], "method": {"type": "distill"}, "optim": {"lr": 1e-3}}
    tree = {
        "model": {"path": tiny_folder(tmp_path / "tiny")},
        "reasoner": stage | {"steps": 1},
        "arms": ["gold"],
        "evaluation": {"data": {"own": data["test"]}},
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
    assert held.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError, match="bring back the former one"):
        load_examples(held)
    assert pinned(held) == held
    with pytest.raises(UserError, match="there is no such file"):
        pinned(config.JsonlData(path=tmp_path / "none.jsonl"))
    with pytest.raises(ConfigError, match=r"data\.jsonl\.sha256|sha256"):
        config.parse_config({"data": {"type": "jsonl", "path": "x", "sha256": "0"}})
