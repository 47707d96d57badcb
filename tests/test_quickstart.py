"""The quickstart: what it promises to write, and that it is the same for the same seed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rcsd import quickstart
from rcsd.rubrics import rubric_score
from rcsd.world.problems import examples

ARMS = {"base", "teacher", "rcsd", "shuffled"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline of seconds, on the shipped model."""
    scale = replace(
        quickstart.SCALES["micro"],
        num_train=40,
        num_eval=6,
        num_steps=2,
        examples_per_step=4,
        max_tokens=48,
    )
    monkeypatch.setitem(quickstart.SCALES, "micro", scale)


def finished(out: Path) -> dict[str, Any]:
    stages: list[tuple[str, int, int]] = []

    def progress(stage: str, done: int, total: int, note: str) -> None:
        stages.append((stage, done, total))

    outcome = quickstart.run(out, 0, "micro", quick=False, progress=progress)
    assert outcome.report == out / "report.html"
    for stage in {stage for stage, _, _ in stages}:
        assert [(d, t) for s, d, t in stages if s == stage][-1][0] == max(
            t for s, _, t in stages if s == stage
        )
    summary = json.loads((out / "summary.json").read_text())
    assert summary == json.loads(json.dumps(outcome.summary))
    return summary


@pytest.mark.usefixtures("small")
def test_quickstart_writes_what_it_promises_the_same_for_the_same_seed(tmp_path: Path) -> None:
    summary = finished(tmp_path / "one")
    assert set(summary["arms"]) == ARMS
    for splits in summary["arms"].values():
        assert set(splits) == {"new_numbers", "new_templates"}
        for metrics in splits.values():
            for metric in ("score", "accuracy"):
                interval = metrics[metric]
                assert 0 <= interval["low"] <= interval["mean"] <= interval["high"] <= 1
                assert interval["n"] == 6
    assert summary["criteria"]["method"].keys() == ARMS
    again = finished(tmp_path / "two")
    for varying in ("seconds",):
        del summary[varying], again[varying]
    assert again == summary


@pytest.mark.usefixtures("small")
def test_every_mean_of_the_summary_follows_from_the_written_rows(tmp_path: Path) -> None:
    summary = finished(tmp_path / "run")
    problems = {problem.id: problem for problem in examples("new_numbers", 6, seed=1)}
    path = tmp_path / "run" / "evaluations" / "rcsd-new_numbers.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    scores = []
    for row in rows:
        rubric = problems[row["id"]].rubric
        assert rubric is not None
        scores.append(rubric_score(rubric, row["verdicts"]))
    mean = summary["arms"]["rcsd"]["new_numbers"]["score"]["mean"]
    assert sum(scores) / len(scores) == pytest.approx(mean)


@pytest.mark.slow
def test_the_full_quickstart_meets_the_targets_of_the_rubric_world(tmp_path: Path) -> None:
    arms = finished(tmp_path / "run")["arms"]
    base, teacher, rcsd, shuffled = (
        arms[arm]["new_numbers"] for arm in ("base", "teacher", "rcsd", "shuffled")
    )
    assert base["score"]["mean"] <= 0.45
    assert base["accuracy"]["mean"] <= 0.4
    assert teacher["score"]["mean"] >= 0.9
    assert teacher["accuracy"]["mean"] >= 0.9
    assert rcsd["score"]["mean"] >= 0.8
    assert rcsd["accuracy"]["mean"] >= 0.75
    assert shuffled["score"]["mean"] <= rcsd["score"]["mean"] - 0.15
    assert shuffled["score"]["high"] < rcsd["score"]["low"]
