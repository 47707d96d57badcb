"""The paper's table: benchmarks x arms, their average, and the published figures beside."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.test_record import answer, question

from rcsd import config
from rcsd.config.base import parse
from rcsd.data.views import PromptTemplates
from rcsd.errors import DataError
from rcsd.evaluation.compare import GradedSet
from rcsd.evaluation.record import (
    EvalRecord,
    EvaluatedModel,
    SetAnswers,
    unfinished_folder,
    write_record,
)
from rcsd.recipes.paper_table import PUBLISHED, SCIENCE, build_paper_table, published_row

Scores = Mapping[str, Sequence[float]]
"""Set -> a score, and whether it is 1 for right, of each of its questions."""


def evaluated(path: Path, scores: Scores, digest: str, seed: int | None = None) -> Path:
    """A folder of greedy answers to several benchmarks."""
    data = {name: {"type": "jsonl", "path": "x"} for name in scores}
    tree = {"model": {"path": "m"}, "data": data, "out": "o"}
    sets = {}
    for name, of in scores.items():
        asked = [question(f"q{n}") for n in range(len(of))]
        rows = [
            answer(
                e.id, s, None if math.isnan(s) else s == 1, verdicts=((None if s != s else s == 1),)
            )
            for e, s in zip(asked, of, strict=True)
        ]
        sets[name] = SetAnswers(asked, rows, ())
    task = {"exclusions": {}, "num_problems": 3, "num_published": 198, "criteria_left_out": []}
    record = {
        "template_sha256": PromptTemplates(None).hashes(),
        "data_sha256": dict.fromkeys(scores, "0"),
        "tasks": {name: task for name in scores if name == "rar-science"},
    }
    settings = parse(config.EvalConfig, tree, "test")
    model = EvaluatedModel("m", digest, seed)
    with unfinished_folder(path, {}) as folder:
        write_record(EvalRecord(path, model, sets, settings, record), {}, folder)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, two seeds of one arm, and an arm that lacks a benchmark and a verdict."""
    folder = tmp_path_factory.mktemp("arms")
    base = {"gpqa-diamond": [0, 0, 1, 0], "rar-science": [0, 1, 0], "pubmedqa": [1, 1]}
    new = {"gpqa-diamond": [1, 0, 1, 1], "rar-science": [1, 1, 0], "pubmedqa": [1, 0]}
    other = {"gpqa-diamond": [1, math.nan, 0, 0], "own-set": [1]}
    return {
        "base": evaluated(folder / "base", base, "b"),
        "s0": evaluated(folder / "s0", new, "s0", 0),
        "s1": evaluated(folder / "s1", base | {"gpqa-diamond": [1, 1, 1, 1]}, "s1", 1),
        "other": evaluated(folder / "other", other, "o"),
    }


def numbers(rcsd: Any, folder: Path, *words: str) -> dict[str, Any]:
    """What the command writes as JSON."""
    assert rcsd("paper-table", *words, "--json", folder / "found.json")[0] == 0
    return json.loads((folder / "found.json").read_text())


def words(folders: Mapping[str, Path], *names: str) -> list[str]:
    known = {
        "base": f"base={folders['base']}",
        "rcsd": f"rcsd={folders['s0']},{folders['s1']}",
        "other": f"other={folders['other']}",
    }
    return [known[name] for name in names]


# By hand


def test_each_benchmark_has_its_metric_and_the_average_weighs_them_alike(
    folders: dict[str, Path], rcsd: Any, tmp_path: Path
):
    found = numbers(rcsd, tmp_path, *words(folders, "base", "rcsd"))
    assert "pubmedqa measures transfer and is in no average." in found["notes"]
    measured = {row["set"]: row["metric"] for row in found["benchmarks"]}
    assert measured == {"gpqa-diamond": "accuracy", "rar-science": "score", "pubmedqa": "accuracy"}
    average = found["average"]
    assert found["averaged"] == ["gpqa-diamond", "rar-science"]
    base, rcsd = average["means"]
    assert base["interval"]["mean"] == pytest.approx((1 / 4 + 1 / 3) / 2)
    assert rcsd["interval"]["mean"] == pytest.approx((7 / 8 + 1 / 2) / 2)
    assert (base["num_seeds"], rcsd["num_seeds"]) == (1, 2)
    [difference] = average["differences"]
    assert (difference["left"], difference["right"]) == ("rcsd", "base")
    assert difference["interval"]["mean"] == pytest.approx(0.6875 - 7 / 24)
    assert found["published"]["of_arms"] == {"base": "base", "rcsd": "RCSD"}


def test_what_an_arm_lacks_is_left_out_and_what_is_ungraded_is_bounded(
    folders: dict[str, Path], rcsd: Any, tmp_path: Path
):
    found = numbers(rcsd, tmp_path, *words(folders, "base", "rcsd", "other"))
    assert found["averaged"] == ["gpqa-diamond"]
    rows = {row["set"]: row for row in found["benchmarks"]}
    assert list(rows) == ["gpqa-diamond"]
    gpqa = rows["gpqa-diamond"]
    assert (gpqa["compared"]["num_compared"], gpqa["compared"]["num_left_out"]) == (3, 1)
    other = {"arm": "other", "low": 0.25, "high": 0.5, "num_unscored": 1}
    assert gpqa["bounds"][2] == other
    notes = " ".join(found["notes"])
    assert "Set 'rar-science' is not compared: " in notes
    assert "the two cannot be compared" in notes
    assert "rar-science: 3 rows, and 198 were published: this is no result" in notes


def test_the_tables_show_ours_and_mark_what_is_published(folders: dict[str, Path], rcsd: Any):
    out = " ".join(rcsd("paper-table", *words(folders, "base", "rcsd"))[1].split())
    assert "average of 2 29.2" in out
    assert out.index("average of 2") < out.index("pubmedqa, accuracy")
    assert "Published averages (arXiv 2606.19327, Qwen3-8B) beside ours" in out
    assert "RCSD 70.6 +4.7 rcsd" in out
    assert "70.0 +4.1 \N{EN DASH} \N{EN DASH}" in out  # random rubrics
    assert "Published figures have no interval" in out
    assert "Paired differences" in out
    out = " ".join(rcsd("paper-table", *words(folders, "base", "other"))[1].split())
    assert "other between 25.0 and 50.0" in out


def test_without_a_common_benchmark_there_is_no_average():
    rows = {"a": [[answer("q0", 1, True)]]}
    found = build_paper_table(["a"], [GradedSet("pubmedqa", [question("q0")], rows, {})], "a")
    assert found.average is None
    assert "No average" in found.notes[-1]


def test_published_figures_are_those_of_the_paper():
    averages = {row.method: row.average for row in PUBLISHED}
    # What its abstract says: 1.0 over GRPO (with rubric reward), 0.9 over OPSD.
    assert averages["RCSD"] - averages["GRPO, rubric reward"] == pytest.approx(0.010)
    assert averages["RCSD"] - averages["OPSD"] == pytest.approx(0.009)
    assert len(SCIENCE) == 6
    assert published_row("GRPO_rubrics") is published_row("grpo-rubrics") is not None
    assert published_row("mine") is None


# Errors


def test_sets_that_are_no_benchmark_are_refused():
    own = GradedSet("own", [question("q0")], {"a": [[answer("q0", 1, True)]]}, {})
    with pytest.raises(
        DataError, match=r"none of the sets is a benchmark of the paper.*these have own"
    ):
        build_paper_table(["a"], [own], "a")
