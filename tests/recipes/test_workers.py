"""Steps run after those that they need, here or in processes of their own."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rcsd.errors import DataError
from rcsd.recipes.workers import Step, in_order, run_steps
from rcsd.types import Progress


def touch(progress: Progress, name: str, folder: Path, needs: tuple[str, ...]) -> None:
    """Leaves a file, if those that it needs are there."""
    missing = [need for need in needs if not (folder / need).is_file()]
    assert not missing, f"{name} ran before {missing}"
    (folder / name).write_text("done")
    progress(name, 1, 1, "")


def refuse(progress: Progress, name: str) -> None:
    raise DataError("the row is malformed", "a.jsonl", 3)


def steps_in(folder: Path) -> list[Step]:
    needs = {"report": ("train", "write"), "train": ("write",), "write": (), "probe": ()}
    return [Step(name, of, touch, (name, folder, of)) for name, of in needs.items()]


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_step_runs_once_after_those_that_it_needs(tmp_path: Path, jobs: int) -> None:
    told: list[str] = []
    run_steps(steps_in(tmp_path), jobs, lambda stage, done, total, note: told.append(stage))
    assert sorted(told) == ["probe", "report", "train", "write"]
    assert told.index("write") < told.index("train") < told.index("report")


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_a_step_arrives_as_it_was_and_what_is_done_stays(
    tmp_path: Path, jobs: int
) -> None:
    failing = Step("fail", ("write",), refuse, ("fail",))
    after = Step("after", ("fail",), touch, ("after", tmp_path, ()))
    with pytest.raises(DataError, match=r"a\.jsonl:3: the row is malformed"):
        run_steps([*steps_in(tmp_path), failing, after], jobs, lambda *_: None)
    assert (tmp_path / "write").is_file()
    assert not (tmp_path / "after").exists()


def test_steps_that_need_each_other_are_refused(tmp_path: Path) -> None:
    a = Step("a", ("b",), touch, ("a", tmp_path, ()))
    b = Step("b", ("a",), touch, ("b", tmp_path, ()))
    with pytest.raises(ValueError, match="cycle"):
        run_steps([a, b], 1, lambda *_: None)


def test_calls_run_at_the_same_time_and_come_in_order() -> None:
    together = threading.Barrier(3)

    def call(number: int) -> int:
        together.wait(20)  # one call alone would wait in vain
        return number**2

    assert list(in_order(call, range(6), 3)) == [(n, n**2) for n in range(6)]
    assert list(in_order(call, [], 3)) == []


def test_one_call_at_a_time_is_made_in_this_thread() -> None:
    here = threading.current_thread()
    assert list(in_order(lambda _: threading.current_thread(), "ab", 1)) == [
        ("a", here),
        ("b", here),
    ]


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
def test_what_is_before_an_error_has_been_given(num_at_once: int) -> None:
    pairs = in_order(lambda n: 6 // n, [3, 2, 0, 1], num_at_once)
    assert [next(pairs), next(pairs)] == [(3, 2), (2, 3)]
    with pytest.raises(ZeroDivisionError):
        next(pairs)
