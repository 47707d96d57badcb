"""The command line: what a user can get wrong ends with a clear error and exit code 2."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import tiny_folder

from rcsd import cli


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``rcsd WORDS``."""
    monkeypatch.setattr(sys, "argv", ["rcsd", *words])
    try:
        cli.main()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 0
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def run_file(folder: Path, rows: list[Any] | None = None, **changes: Any) -> str:
    """A YAML file of a run on a tiny model and JSONL rows."""
    if not (folder / "model").exists():
        tiny_folder(folder / "model")
    default = {"question": "2 + 2?", "rubric": [{"criterion": "Says 4.", "weight": 1}]}
    lines = [json.dumps(row) for row in ([default] if rows is None else rows)]
    (folder / "rows.jsonl").write_text("".join(line + "\n" for line in lines))
    tree: dict[str, Any] = {
        "model": {"path": str(folder / "model"), "training": {"type": "full"}},
        "data": {"type": "jsonl", "path": str(folder / "rows.jsonl")},
        "method": {"type": "distill"},
        "optim": {"lr": 0.001},
        "sampling": {"max_tokens": 4},
        "steps": 1,
        "examples_per_step": 1,
        "out": str(folder / "run"),
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(tree | changes))
    return str(folder / "run.yaml")


def test_train_writes_a_model_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = said(monkeypatch, capsys, "train", run_file(tmp_path), "optim.lr=1e-4")
    assert code == 0
    assert str(tmp_path / "run" / "model") in out
    assert "<html" in (tmp_path / "run" / "report.html").read_text()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["optim"]["lr"] == 1e-4


GOOD = {"criterion": "a", "weight": 1}
BAD_ROWS: list[tuple[list[Any], str]] = [
    ([], "holds no rows"),
    ([{"question": " "}], "rows.jsonl:1"),
    ([{"question": "a?", "rubric": [GOOD]}, {"qestion": "b"}], "rows.jsonl:2"),
    ([{"question": "a?", "rubric": []}], "at least one criterion"),
    ([{"question": "a?", "rubric": [{"criterion": "a", "weight": 0}]}], "rubric[0].weight"),
    ([{"question": "a?", "rubric": [{**GOOD, "check": {"type": "boxd"}}]}], "boxed"),
    ([{"question": "a?"}], "rubric"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS)
def test_a_malformed_row_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rows: list[Any],
    message: str,
) -> None:
    code, _, err = said(monkeypatch, capsys, "train", run_file(tmp_path, rows))
    assert code == 2
    assert message in err.replace("\n", "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "did you mean 'lr'"),
        ("method.clip.type=tokn", "token"),
        ("sampling.max_prompt_tokens=3", "no example is left"),
        ("model.path=/nowhere", "/nowhere"),
        ("data.path=/nowhere", "/nowhere"),
        ("steps", "key=value"),
    ],
)
def test_a_wrong_setting_is_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    override: str,
    message: str,
) -> None:
    code, _, err = said(monkeypatch, capsys, "train", run_file(tmp_path), override)
    assert code == 2
    assert message in err.replace("\n", "")
    assert "Traceback" not in err


def test_an_existing_run_folder_is_refused_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    code, _, err = said(monkeypatch, capsys, "train", run_file(tmp_path))
    assert code == 2
    assert "--resume" in err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_check_that_cannot_be_carried_out_ends_the_evaluation_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    criterion = {**GOOD, "check": {"type": "matches", "pattern": "("}}
    rows = [{"question": "a?", "rubric": [criterion]}]
    code, _, err = said(monkeypatch, capsys, "train", run_file(tmp_path, rows))
    assert code == 2
    assert "pattern" in err


def test_models_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = said(monkeypatch, capsys, "models")
    assert code == 0
    assert "builtin:micro" in out
    assert "builtin:smollm2" in out


def test_quickstart_refuses_an_unknown_model_and_an_existing_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = said(monkeypatch, capsys, "quickstart", "--model", "nano")
    assert (code, "micro, smollm2" in err) == (2, True)
    code, _, err = said(monkeypatch, capsys, "quickstart", "--out", str(tmp_path))
    assert (code, "exists" in err) == (2, True)
