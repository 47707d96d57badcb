"""Steps run after those that they need, here or in separate processes."""

from pathlib import Path

import pytest

from rcsd.errors import DataError
from rcsd.recipes.workers import Step, StepProgress, run_steps


def touch(progress: StepProgress, path: Path, needs: tuple[str, ...]) -> None:
    """Leave a file, if those that it needs exist."""
    missing = [need for need in needs if not (path.parent / need).is_file()]
    assert not missing, f"{path.name} ran before {missing}"
    path.write_text("done")
    progress(1, 1, "")


def refuse(progress: StepProgress) -> None:
    raise DataError("the row is malformed", "a.jsonl", 3)


def touching(folder: Path, name: str, *needs: str) -> Step:
    return Step(name, needs, [folder / name], touch, (folder / name, needs))


def steps_in(folder: Path) -> list[Step]:
    return [
        touching(folder, "report", "train", "write"),
        touching(folder, "train", "write"),
        touching(folder, "write"),
        touching(folder, "probe"),
    ]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_step_runs_once_after_those_that_it_needs(tmp_path: Path, jobs: int) -> None:
    (tmp_path / "probe").write_text("earlier")
    calls: list[tuple[str, int, int, str]] = []
    run_steps(steps_in(tmp_path), jobs, lambda *call: calls.append(call))
    stages = [stage for stage, *_ in calls]
    assert sorted(stages) == ["probe", "report", "train", "write"]
    assert stages.index("write") < stages.index("train") < stages.index("report")
    # A step whose files exist is skipped.
    assert ("probe", 1, 1, "done before") in calls
    assert (tmp_path / "probe").read_text() == "earlier"


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_error_of_a_step_arrives_as_it_was_and_what_is_done_stays(
    tmp_path: Path, jobs: int
) -> None:
    failing = Step("fail", ("write",), (), refuse)
    after = touching(tmp_path, "after", "fail")
    with pytest.raises(DataError, match=r"a\.jsonl:3: the row is malformed"):
        run_steps([*steps_in(tmp_path), failing, after], jobs, lambda *_: None)
    assert (tmp_path / "write").is_file()
    assert not (tmp_path / "after").exists()
