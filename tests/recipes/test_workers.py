"""Steps run after those that they need, here or in separate processes."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rcsd.errors import DataError
from rcsd.recipes.workers import Step, StepProgress, in_order, run_steps


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


def test_steps_that_need_each_other_are_refused(tmp_path: Path) -> None:
    steps = [touching(tmp_path, "a", "b"), touching(tmp_path, "b", "a")]
    with pytest.raises(ValueError, match="cycle"):
        run_steps(steps, 1, lambda *_: None)


def test_calls_run_at_the_same_time_and_come_in_order() -> None:
    together = threading.Barrier(3)

    def call(number: int) -> int:
        together.wait(20)  # one call alone would wait in vain
        return number**2

    assert list(in_order(call, range(6), 3)) == [(n, n**2) for n in range(6)]
    assert list(in_order(call, [], 3)) == []


def test_items_are_taken_when_there_is_room_for_another_call() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    for number_at_once, num_taken in ((1, 1), (2, 3)):
        taken.clear()
        assert next(in_order(str, items(), number_at_once)) == (0, "0")
        assert len(taken) == num_taken


@pytest.mark.parametrize("num_at_once", [1, 3])
def test_results_before_an_error_are_yielded(num_at_once: int) -> None:
    pairs = in_order(lambda n: 6 // n, [3, 2, 0, 1], num_at_once)
    assert [next(pairs), next(pairs)] == [(3, 2), (2, 3)]
    with pytest.raises(ZeroDivisionError):
        next(pairs)
