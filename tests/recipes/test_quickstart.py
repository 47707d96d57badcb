"""The quickstart: what it promises to write, and what it shows."""

import json
from pathlib import Path

import pytest

from rcsd.data.world.problems import examples
from rcsd.recipes import quickstart
from rcsd.recipes.pipeline_config import Pipeline

ARMS = {"base", "teacher", "gold", "learned", "direct", "shuffled"}
HELD_OUT = {"new_numbers", "new_templates"}
NUM_TRAIN, NUM_HELD_OUT = 8, 4


def quietly(stage: str, done: int, total: int, note: str) -> None:
    """Drop the progress."""


def small(out: Path, seed: int, model: str, quick: bool) -> Pipeline:
    """A pipeline of seconds."""
    full = build_pipeline(out, seed, model, quick)
    tree = full.model_dump(mode="json", exclude_unset=True)
    for stage in ("writer", "reasoner"):
        tree[stage] |= {"steps": 2, "examples_per_step": 4}
        tree[stage]["data"]["num_examples"] = NUM_TRAIN
    for held_out in tree["evaluation"]["data"].values():
        held_out["num_examples"] = NUM_HELD_OUT
    tree["evaluation"]["max_tokens"] = tree["reasoner"]["sampling"]["max_tokens"] = 24
    tree["writing"]["max_tokens"] = tree["writer"]["sampling"]["max_tokens"] = 96
    return Pipeline.model_validate(tree | {"jobs": 1})


build_pipeline = quickstart.build_pipeline


@pytest.mark.slow  # fast: a pipeline makes rubrics, runs, answers, a report
def test_quickstart_writes_what_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(quickstart, "build_pipeline", small)
    outcome = quickstart.run(out, 0, "micro", quick=False, progress=quietly)
    assert outcome.report == out / "report.html"
    summary = json.loads((out / "summary.json").read_text())
    assert summary == json.loads(json.dumps(outcome.summary))
    families = {row.tags["template"] for row in examples("new_templates", NUM_HELD_OUT, seed=1)}
    # Claims about new families are resampled by family.
    num_units = {"new_numbers": NUM_HELD_OUT, "new_templates": len(families)}
    assert set(summary["arms"]) == ARMS | {"rcsd"}
    assert summary["arms"]["rcsd"] == summary["arms"]["gold"]
    for sets in summary["arms"].values():
        assert set(sets) == HELD_OUT
        for name, metrics in sets.items():
            for metric in ("score", "accuracy"):
                interval = metrics[metric]
                assert 0 <= interval["low"] <= interval["mean"] <= interval["high"] <= 1
                assert interval["n"] == num_units[name]
    assert summary["criteria"]["method"].keys() == ARMS
    assert set(summary["rubrics"]) == {"learned", "direct"}
    for sets in summary["rubrics"].values():
        assert {name: of["f1"]["n"] for name, of in sets.items()} == num_units
    for counts in summary["writing"].values():
        assert (
            counts["num_rows"]
            == counts["num_written"]
            == counts["num_valid"]
            == NUM_TRAIN + 2 * NUM_HELD_OUT
        )


@pytest.mark.parametrize("model", quickstart.MODELS)
@pytest.mark.parametrize("quick", [False, True])
def test_each_set_of_problems_has_a_seed_of_its_own(
    tmp_path: Path, model: str, quick: bool
) -> None:
    pipeline = build_pipeline(tmp_path / "out", 7, model, quick)
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


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_full_quickstart_meets_the_targets_of_the_rubric_world(
    tmp_path: Path, seed: int
) -> None:
    outcome = quickstart.run(tmp_path / "run", seed, "micro", quick=False, progress=quietly)
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
