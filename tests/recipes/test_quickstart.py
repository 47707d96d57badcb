"""The quickstart: what it promises to write, and that it is the same for the same seed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rcsd.data.world.problems import examples
from rcsd.recipes import quickstart
from rcsd.types import rubric_score

ARMS = {"base", "teacher", "gold", "learned", "direct", "shuffled"}


SMALL = replace(
    quickstart.SCALES["micro"],
    num_train=12,
    num_eval=6,
    num_steps=2,
    examples_per_step=4,
    max_tokens=48,
    num_writer_steps=2,
    jobs=1,
)


def finished(out: Path) -> dict[str, Any]:
    """The summary of a pipeline of seconds, on the shipped model."""
    stages: dict[str, tuple[int, int]] = {}

    def progress(stage: str, done: int, total: int, note: str) -> None:
        stages[stage] = (done, total)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(quickstart.SCALES, "micro", SMALL)
        patch.setenv("RCSD_CACHE", str(out.parent / "cache"))
        outcome = quickstart.run(out, 0, "micro", quick=False, progress=progress)
    assert outcome.report == out / "report.html"
    assert all(done == total for done, total in stages.values())
    summary = json.loads((out / "summary.json").read_text())
    assert summary == json.loads(json.dumps(outcome.summary))
    return summary


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished quickstart."""
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    finished(folder)
    return folder


def summary_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())


def test_quickstart_writes_what_it_promises(out: Path) -> None:
    summary = summary_of(out)
    assert set(summary["arms"]) == ARMS | {"rcsd"}
    assert summary["arms"]["rcsd"] == summary["arms"]["gold"]
    for splits in summary["arms"].values():
        assert set(splits) == {"new_numbers", "new_templates"}
        for split, metrics in splits.items():
            for metric in ("score", "accuracy"):
                interval = metrics[metric]
                assert 0 <= interval["low"] <= interval["mean"] <= interval["high"] <= 1
                families = {p.tags["template"] for p in examples("new_templates", 6, seed=1)}
                # Claims about new families are resampled by family.
                assert interval["n"] == (6 if split == "new_numbers" else len(families))
    assert summary["criteria"]["method"].keys() == ARMS


def test_quickstart_finds_the_same_for_the_same_seed(out: Path, tmp_path: Path) -> None:
    again, summary = finished(tmp_path / "two"), summary_of(out)
    del summary["seconds"], again["seconds"]
    assert again == summary


def test_every_mean_of_the_summary_follows_from_the_written_rows(out: Path) -> None:
    problems = {problem.id: problem for problem in examples("new_numbers", 6, seed=1)}
    [path] = out.glob("answers-gold-*/new_numbers.jsonl")
    scores = []
    for row in map(json.loads, path.read_text().splitlines()):
        rubric = problems[row["id"]].rubric
        assert rubric is not None
        scores.append(rubric_score(rubric, row["verdicts"]))
    mean = summary_of(out)["arms"]["gold"]["new_numbers"]["score"]["mean"]
    assert sum(scores) / len(scores) == pytest.approx(mean)


def test_the_quickstart_measures_both_writers_against_gold(out: Path) -> None:
    summary = summary_of(out)
    rubrics = summary["rubrics"]
    assert set(rubrics) == {"learned", "direct"}
    for sets in rubrics.values():
        assert set(sets) == {"new_numbers", "new_templates"}
        families = {p.tags["template"] for p in examples("new_templates", 6, seed=1)}
        assert sets["new_numbers"]["f1"]["n"] == 6
        assert sets["new_templates"]["f1"]["n"] == len(families)
    for counts in summary["writing"].values():
        assert counts["num_rows"] == counts["num_written"] == counts["num_valid"] == 12 + 6 + 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_full_quickstart_meets_the_targets_of_the_rubric_world(
    tmp_path: Path, seed: int
) -> None:
    def progress(stage: str, done: int, total: int, note: str) -> None:
        """Tell nobody."""

    outcome = quickstart.run(tmp_path / "run", seed, "micro", quick=False, progress=progress)
    assert outcome.summary["seconds"] <= 600
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
