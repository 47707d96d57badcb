"""The command line: what a user can get wrong ends with a clear error and exit code 2."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.tiny import tiny_folder


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


def test_train_writes_a_model_and_a_report(tmp_path: Path, rcsd: Any) -> None:
    code, out, _ = rcsd("train", run_file(tmp_path), "optim.lr=1e-4")
    assert code == 0
    assert str(tmp_path / "run" / "model") in out
    assert "<html" in (tmp_path / "run" / "report.html").read_text()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["optim"]["lr"] == 1e-4


GOOD = {"criterion": "a", "weight": 1}
BAD_ROWS: list[tuple[list[Any], str]] = [
    ([], "holds no rows"),
    ([{"question": "a?", "rubric": [GOOD]}, {"qestion": "b"}], "rows.jsonl:2"),
    ([{"question": "a?", "rubric": [{**GOOD, "check": {"type": "boxd"}}]}], "boxed"),
    ([{"question": "a?"}], "rubric"),
    ([{"question": "a?", "rubric": [GOOD]}, {"question": "b?"}], "rows.jsonl:2: field 'rubric'"),
]


def test_a_missing_rubric_is_refused_before_the_model_is_loaded(tmp_path: Path, rcsd: Any) -> None:
    file = run_file(tmp_path, [{"question": "a?", "rubric": [GOOD]}, {"question": "b?"}])
    code, _, err = rcsd("train", file, "model.path=none/here")
    assert (code, "rows.jsonl:2: field 'rubric': example '2' has none" in err) == (2, True)


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS)
def test_a_malformed_row_is_named(tmp_path: Path, rcsd: Any, rows: list[Any], message: str) -> None:
    code, _, err = rcsd("train", run_file(tmp_path, rows))
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "did you mean 'lr'"),
        ("sampling.max_prompt_tokens=3", "no example is left"),
        ("model.path=/nowhere", "/nowhere"),
        ("data.path=/nowhere", "/nowhere"),
        ("steps", "key=value"),
    ],
)
def test_a_wrong_setting_is_explained(
    tmp_path: Path, rcsd: Any, override: str, message: str
) -> None:
    code, _, err = rcsd("train", run_file(tmp_path), override)
    assert code == 2
    assert message in err


def test_an_existing_run_folder_is_refused_and_left_alone(tmp_path: Path, rcsd: Any) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    code, _, err = rcsd("train", run_file(tmp_path))
    assert code == 2
    assert "--resume" in err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_study_trains_compares_and_goes_on(tmp_path: Path, rcsd: Any) -> None:
    tree = {
        "model": {"path": tiny_folder(tmp_path / "model"), "training": {"type": "full"}},
        "run": {
            "data": {"type": "world", "num_examples": 4},
            "method": {"type": "distill"},
            "optim": {"lr": 0.01},
            "sampling": {"max_tokens": 4},
            "examples_per_step": 2,
        },
        "arms": {"rcsd": {"rubrics": ["gold", "shuffled"]}, "sft": {}},
        "against": "rcsd",
        "evaluation": {
            "data": {"new_numbers": {"type": "world", "split": "new_numbers", "num_examples": 3}},
            "max_tokens": 4,
            "num_points": 1,
        },
        "budget": {"tokens": 12},
        "seeds": [0, 1],
        "out": str(tmp_path / "out"),
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(tree))
    code, _, err = rcsd("study", file, "against=sfd")
    assert (code, "no arm 'sfd'; there are ['rcsd', 'rcsd, shuffled', 'sft']" in err) == (2, True)
    code, out, _ = rcsd("study", file, "arms.sft.run.method.type=sft")
    assert code == 0
    summary = json.loads((tmp_path / "out" / "study.json").read_text())
    assert summary["config"]["arms"]["sft"]["run"]["method"] == {"type": "sft"}
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
    assert summary["findings"][0].startswith("After 12 tokens, on new numbers, rcsd scores ")
    assert all(finding in " ".join(out.split()) for finding in summary["findings"])
    assert "rcsd, shuffled" in out
    means = {row["arm"]: row["interval"] for row in summary["comparisons"][0]["compared"]["means"]}
    assert means["worked solutions"]["mean"] > 0.8
    runs = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/run.json")}
    assert len(runs) == 6
    code, _, _ = rcsd("study", file, "arms.sft.run.method.type=sft", "seeds=[0, 1, 2]")
    assert code == 0
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/run.json")}
    assert {path: now[path] for path in runs} == runs
    assert len(now) == 9


def test_quickstart_refuses_an_unknown_model_and_an_existing_folder(
    tmp_path: Path, rcsd: Any
) -> None:
    code, _, err = rcsd("quickstart", "--model", "nano")
    assert (code, "micro, smollm2" in err) == (2, True)
    code, _, err = rcsd("quickstart", "--out", str(tmp_path))
    assert (code, "exists" in err) == (2, True)
