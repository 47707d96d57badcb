"""The quickstart: what it promises to write, and what it shows."""

import json
from pathlib import Path

import pytest
from tests.support.tiny import quietly

from rcsd.recipes import quickstart

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
