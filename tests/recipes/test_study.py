"""A study on a random two-layer model: what is made, what is reused, what goes on."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.recipes.test_study_config import study, tree
from tests.support.tiny import quietly, tiny_folder

from rcsd.errors import DataError, RunError
from rcsd.io import one_owner
from rcsd.recipes.study import add_teachers, plan_seed, run
from rcsd.recipes.study_config import BASE, Study
from rcsd.training.stopping import TOKENS

GROUPS = {
    "method": {"type": "grpo", "rewards": [{"type": "answer"}]},
    "examples_per_step": 1,
    "completions_per_example": 2,
}
ARMS = {"rcsd": {"rubrics": ["gold", "shuffled"]}, "grpo": {"run": GROUPS}}
SETS = {
    name: {"type": "world", "split": name, "num_examples": num}
    for name, num in (("new_numbers", 3), ("new_templates", 2))
}


def settings(folder: Path, **changes: Any) -> Study:
    """Two methods, one with a placebo, with two seeds and a few steps each."""
    if not (model := folder / "model").exists():
        tiny_folder(model)
    few = {"optim": {"lr": 1e-2}, "examples_per_step": 2, "save_every_steps": 1}
    return study(
        **{
            "model": {"path": str(model), "training": {"type": "full"}},
            "run": tree()["run"] | few,
            "arms": ARMS,
            "evaluation": {"data": SETS, "max_tokens": 6, "num_points": 2},
            "budget": {"tokens": 50},
            "seeds": [0, 1],
            "out": str(folder / "out"),
        }
        | changes
    )


# What is made


@pytest.mark.slow  # fast: the command in tests/cli
def test_a_study_has_answers_of_every_arm_and_seed_at_the_end_and_before_training(
    tmp_path: Path,
) -> None:
    small = settings(tmp_path)
    found = run(small, quietly)
    assert list(found.runs) == list(found.folders) == ["rcsd", "rcsd, shuffled", "grpo"]
    for label, seeds in found.runs.items():
        assert [f.read_record()["config"]["seed"] for f in found.folders[label]] == [0, 1]
        for rows, folder in zip(seeds, found.folders[label], strict=True):
            *_, before_end, end = folder.metrics()
            assert end[TOKENS] >= 50 > before_end[TOKENS]
            scores = [graded.score or 0.0 for graded in rows["new_numbers"]]
            assert sum(scores) / 3 == pytest.approx(end["eval/score_mean"])
            assert len(rows["new_templates"]) == 2
            assert not any(graded.text for graded in rows["new_numbers"])
    assert set(found.answers[BASE]) == set(found.held_out) == {"new_numbers", "new_templates"}
    assert found.taught_by == {n: f"teacher of {n}" for n in ("rcsd", "rcsd, shuffled")}
    assert set(found.answers) == {BASE, *found.taught_by.values()}
    assert "new_templates" in found.new_kinds
    placebos = [f.read_record()["config"]["rubrics"] for f in found.folders["rcsd, shuffled"]]
    assert [p["placebo"] for p in placebos] == [{"type": "shuffled", "seed": s} for s in (0, 1)]


# Teachers, and what is refused


def teachers(folder: Path, arms: Mapping[str, Any]) -> dict[str, str]:
    small = settings(folder, arms=arms, seeds=[0], against="one")
    return add_teachers(small, plan_seed(small, 0))


def test_arms_share_a_teacher_that_is_shown_the_same_in_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "answer_with_rubric.jinja").write_text("{{ question }}")
    words = {"views": {"templates": str(tmp_path / "words")}}
    found = teachers(
        tmp_path,
        {
            "one": {},
            "two": {"run": {"method": {"type": "criterion"}, "views": {"max_analysis_tokens": 9}}},
            "words": {"run": words, "rubrics": ["gold", "generic"]},
            "answer": {"run": {"views": {"teacher": "answer"}}},
            "sft": {"run": {"method": {"type": "sft"}}},
        },
    )
    assert found == {
        "one": "teacher of one",
        "two": "teacher of one",
        "words": "teacher of words",
        "words, generic": "teacher of words, generic",
        "answer": "teacher of answer",
    }


def test_a_second_study_on_a_folder_is_refused(tmp_path: Path) -> None:
    with (
        one_owner(tmp_path / "out"),
        pytest.raises(RunError, match="out: another process writes there"),
    ):
        run(settings(tmp_path), quietly)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evaluations/*-new_numbers.jsonl", "metrics.jsonl"])
def test_a_damaged_run_of_a_study_is_named_with_what_to_make_anew(
    tmp_path: Path, name: str
) -> None:
    small = settings(tmp_path, arms={"rcsd": {}}, seeds=[0])
    [folder] = run(small, quietly).folders["rcsd"]
    path = max(folder.path.glob(name))
    path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        run(small, quietly)
    assert str(caught.value).startswith(f"{path}: damaged: ")
    assert f"delete the folder {folder.path}, and run the same command" in str(caught.value)
    shutil.rmtree(folder.path)
    run(small, quietly)


def test_a_run_that_ends_before_its_budget_is_refused(tmp_path: Path) -> None:
    arms = {"rcsd": {"run": {"steps": 1}}}
    with pytest.raises(RunError, match=r"ended after \d+ of 900 tokens; raise the arm"):
        run(settings(tmp_path, arms=arms, seeds=[0], budget={"tokens": 900}), quietly)
