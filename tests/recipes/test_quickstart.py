"""The quickstart: what it promises to write, and what it shows."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.tiny import quietly

from rcsd.errors import RunError
from rcsd.evaluation.report import ReportPage
from rcsd.io import one_owner, read_rows
from rcsd.recipes import quickstart
from rcsd.recipes.arms import Outcome
from rcsd.recipes.pipeline_config import Pipeline

ARMS = {"base", "teacher", "gold", "learned", "direct", "shuffled"}


@pytest.mark.parametrize("model", quickstart.MODELS)
@pytest.mark.parametrize("quick", [False, True])
def test_each_set_of_problems_has_a_seed_of_its_own(
    tmp_path: Path, model: str, quick: bool
) -> None:
    pipeline = quickstart.build_pipeline(tmp_path / "out", 7, model, quick)
    assert pipeline.seed == 7
    assert pipeline.model.path == f"builtin:{model}"
    stages = {"reasoner": pipeline.reasoner, "writer": pipeline.writer}
    stages |= {"warm_start": pipeline.warm_start}
    data = {name: stage.data for name, stage in stages.items() if stage is not None}
    seeds = {name: getattr(of, "seed", None) for name, of in data.items()}
    expected = {"reasoner": 7, "writer": 1007, "warm_start": 7}
    assert seeds == {name: expected[name] for name in seeds}
    assert {getattr(of, "seed", None) for of in pipeline.evaluation.data.values()} == {8}
    if quick:
        assert {stage.steps for stage in stages.values() if stage is not None} == {4}


@pytest.fixture
def progressed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """Progress of quickstarts that train nothing, in a folder of their own."""

    def train_nothing(pipeline: Pipeline, *_: object) -> Outcome:
        return Outcome({}, ReportPage(""), pipeline.out)

    monkeypatch.setattr(quickstart, "run_and_report", train_nothing)
    monkeypatch.chdir(tmp_path)
    return []


def start(calls: list[tuple[Any, ...]], out: Path | None, seed: int = 0) -> Path:
    calls.clear()
    return quickstart.run(out, seed, "micro", True, lambda *call: calls.append(call)).report


def test_a_quickstart_goes_on_in_its_folder_and_says_so(progressed: list[tuple[Any, ...]]) -> None:
    start(progressed, Path("one"))
    assert progressed == []
    Path("one").rename("two")
    start(progressed, Path("two"))
    assert progressed == [("quickstart", 1, 1, "goes on in two")]
    with pytest.raises(RunError, match=r"two holds a quickstart with other settings \(seed: 0,"):
        start(progressed, Path("two"), seed=1)
    Path("mine").mkdir()
    with pytest.raises(RunError, match="mine exists; it holds no quickstart to go on with"):
        start(progressed, Path("mine"))
    assert list(Path("mine").iterdir()) == []


def test_without_a_folder_the_unfinished_quickstart_of_these_settings_goes_on(
    progressed: list[tuple[Any, ...]],
) -> None:
    first = start(progressed, None)
    assert first == Path("runs/quickstart-micro")
    assert start(progressed, None, seed=1) == Path("runs/quickstart-micro-2")
    assert start(progressed, None) == first
    (first / "summary.json").touch()
    assert start(progressed, None) == Path("runs/quickstart-micro-3")


def test_two_quickstarts_on_one_folder_are_refused(progressed: list[tuple[Any, ...]]) -> None:
    Path("link").symlink_to("run")
    with one_owner(Path("run")), pytest.raises(RunError, match="another process writes there"):
        start(progressed, Path("link"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("INT", 130), ("KILL", -9)])
def test_an_interrupted_quickstart_goes_on_where_it_was_under_another_name(
    tmp_path: Path, name: str, code: int
) -> None:
    def command(out: str) -> "subprocess.Popen[str]":
        words = ["-m", "rcsd", "quickstart", "--quick", "--out", out]
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=tmp_path,
            text=True,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    process = command("one")
    here = psutil.Process(process.pid)
    ends = time.monotonic() + 300
    while not list(tmp_path.glob("one/writer-*/metrics.jsonl")):
        assert time.monotonic() < ends
        time.sleep(0.1)
    workers = here.children(recursive=True)
    os.killpg(process.pid, signal.Signals[f"SIG{name}"])
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert name == "KILL" or "Stopped; what is done is kept. The same command goes on." in said
    assert "Traceback" not in said
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    done = list(tmp_path.glob("one/answers-*/*.jsonl"))
    assert done
    times = {path.name: path.stat().st_mtime_ns for path in done}
    (tmp_path / "one").rename(tmp_path / "two")
    process = command("two")
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    assert "goes on in two" in said
    assert "done before" in said
    moved = [tmp_path / "two" / path.relative_to(tmp_path / "one") for path in done]
    assert times == {path.name: path.stat().st_mtime_ns for path in moved}
    for metrics in tmp_path.glob("two/*/metrics.jsonl"):
        assert [row["step"] for row in read_rows(metrics)] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_full_quickstart_meets_the_targets_of_the_rubric_world(
    tmp_path: Path, seed: int
) -> None:
    outcome = quickstart.run(tmp_path / "run", seed, "micro", quick=False, progress=quietly)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary == json.loads(json.dumps(outcome.summary))
    assert set(summary["arms"]) == ARMS | {"rcsd"}
    # Claims about new families are resampled by family.
    gold = summary["arms"]["gold"]
    assert gold["new_templates"]["score"]["n"] < gold["new_numbers"]["score"]["n"]
    assert summary["seconds"] <= 600
    arms = {arm: sets["new_numbers"] for arm, sets in outcome.summary["arms"].items()}
    assert arms["base"]["score"]["mean"] <= 0.45
    assert arms["base"]["accuracy"]["mean"] <= 0.4
    assert arms["teacher"]["score"]["mean"] >= 0.9
    assert arms["teacher"]["accuracy"]["mean"] >= 0.9
    assert arms["gold"]["score"]["mean"] >= 0.8
    assert arms["gold"]["accuracy"]["mean"] >= 0.75
    assert arms["shuffled"]["score"]["mean"] <= arms["gold"]["score"]["mean"] - 0.15
    assert arms["shuffled"]["score"]["high"] < arms["gold"]["score"]["low"]
    assert arms["direct"]["score"]["high"] < arms["learned"]["score"]["low"]
    learned, direct = (
        outcome.summary["rubrics"][writer]["new_numbers"] for writer in ("learned", "direct")
    )
    for counts in outcome.summary["writing"].values():
        assert counts["num_valid"] == counts["num_rows"]
    assert learned["f1"]["mean"] >= direct["f1"]["mean"] + 0.3
    assert learned["f1"]["low"] > direct["f1"]["high"]
    assert learned["verdict_agreement"]["low"] > direct["verdict_agreement"]["high"]
