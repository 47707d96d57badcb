"""Budgets: when a run has learned from enough; and what is evaluated on the way."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.test_trainer import (
    FULL,
    LORA,
    KilledError,
    run_until_killed,
    settings,
    trajectory,
)

from rcsd import config
from rcsd.errors import ConfigError, DataError
from rcsd.io import read_rows
from rcsd.runs import RunFolder
from rcsd.training.budget import SECONDS, TOKENS, BudgetTracker
from rcsd.training.trainer import run

WORLD = {"type": "world", "split": "new_numbers", "num_examples": 2}
OTHER = {"type": "world", "split": "new_templates", "num_examples": 3}


def budget(tokens: int, seconds: float | None = None, clock: Any = "wall") -> config.Budget:
    return config.Budget(tokens=tokens, seconds=seconds, clock=clock)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks that go on by one second, and by a hundred, whenever they are read."""

    def clock(step: float) -> Any:
        ticks: Iterator[float] = itertools.count(0.0, step)
        return lambda: next(ticks)

    monkeypatch.setattr(time, "perf_counter", clock(1.0))
    monkeypatch.setattr(time, "process_time", clock(100.0))


# By hand


def test_it_is_enough_once_the_tokens_are_reached() -> None:
    ledger = BudgetTracker(budget(10), [])
    assert not ledger.is_spent
    assert ledger.add(9, 1.0)[TOKENS] == 9
    assert not ledger.is_spent
    assert ledger.add(1, 1.0)[TOKENS] == 10
    assert ledger.is_spent


@pytest.mark.usefixtures("ticking")
def test_with_seconds_both_must_be_reached() -> None:
    ledger = BudgetTracker(budget(10, seconds=3), [])
    spent = []
    for num_tokens in (20, 0, 0):
        began = ledger.now()
        ledger.add(num_tokens, ledger.now() - began)
        spent.append(ledger.is_spent)
    assert (ledger.seconds, spent) == (3, [False, False, True])
    late = BudgetTracker(budget(10, seconds=3), [{TOKENS: 9.0, SECONDS: 50.0}])
    assert not late.is_spent
    late.add(1, 1.0)
    assert late.is_spent


@pytest.mark.usefixtures("ticking")
def test_the_clock_is_the_walls_or_the_process() -> None:
    for clock, seconds in (("wall", 1.0), ("process", 100.0)):
        ledger = BudgetTracker(budget(10, clock=clock), [])
        began = ledger.now()
        assert ledger.now() - began == seconds
    plain = BudgetTracker(None, []).now
    assert plain() - plain() == -1.0


def test_without_a_budget_it_is_never_enough() -> None:
    ledger = BudgetTracker(None, [])
    ledger.add(10**12, 1e9)
    assert not ledger.is_spent


def test_it_counts_on_from_the_rows_that_are_there() -> None:
    rows = [{TOKENS: 4.0, SECONDS: 1.5}, {TOKENS: 9.0, SECONDS: 2.5}]
    ledger = BudgetTracker(budget(12), rows)
    assert (ledger.tokens, ledger.seconds) == (9, 2.5)
    ledger.add(3, ledger.now())
    assert ledger.is_spent


# Laws


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 60), st.integers(0, 20))
def test_counting_on_is_counting_through(sizes: list[int], tokens: int, cut: int) -> None:
    whole, rows = BudgetTracker(budget(tokens), []), []
    for size in sizes:
        rows.append(whole.add(size, whole.now()))
    resumed = BudgetTracker(budget(tokens), rows[:cut])
    for size in sizes[cut:]:
        resumed.add(size, resumed.now())
    assert (resumed.tokens, resumed.is_spent) == (whole.tokens, whole.is_spent)


# Runs


def test_a_run_ends_after_the_first_step_at_which_the_tokens_are_reached(tmp_path: Path) -> None:
    free = run(settings(tmp_path, "free")).metrics()
    totals = [row[TOKENS] for row in free]
    lengths = [4 * row["completion/length_tokens_mean"] for row in free]
    assert totals == pytest.approx(list(itertools.accumulate(lengths)))
    for name, tokens in (("at", int(totals[2])), ("past", int(totals[1]) + 1)):
        spent = settings(tmp_path, name, budget={"tokens": tokens})
        folder = run(spent)
        assert trajectory(folder) == trajectory(RunFolder(tmp_path / "free"))[:3]
        assert [path.name for path in folder.checkpoints()] == ["step-000002", "step-000003"]
        assert "for 3 steps" in (folder.model / "README.md").read_text()
        weights = (folder.model / "model.safetensors").read_bytes()
        # It has ended: there is nothing to resume.
        steps: list[int] = []
        again = run(spent, resume=True, on_step=lambda step, metrics, into=steps: into.append(step))
        assert steps == []
        assert len(again.metrics()) == 3
        assert (again.model / "model.safetensors").read_bytes() == weights
        assert "for 3 steps" in (folder.model / "README.md").read_text()


def test_steps_end_a_run_whose_budget_is_larger(tmp_path: Path) -> None:
    changes = {"budget": {"tokens": 10**9}, "evaluation": {"data": WORLD, "max_tokens": 4}}
    rows = run(settings(tmp_path, "run", steps=2, **changes)).metrics()
    assert ["eval/unscored_share" in row for row in rows] == [False, True]


@pytest.mark.parametrize("training", [FULL, LORA])
def test_a_killed_and_resumed_run_spends_what_an_unbroken_one_does(
    tmp_path: Path, training: dict[str, Any]
) -> None:
    changes = {
        "model": {"path": str(tmp_path / "model"), "training": training},
        "budget": {"tokens": 150},
        "steps": 50,
        "evaluation": {"data": WORLD, "every_tokens": 60, "max_tokens": 4},
    }
    whole = run(settings(tmp_path, "whole", **changes))
    assert 3 < len(whole.metrics()) < 50
    run_until_killed(settings(tmp_path, "broken", **changes))
    resumed = run(settings(tmp_path, "broken", **changes), resume=True)
    assert trajectory(resumed) == trajectory(whole)
    assert resumed.completions() == whole.completions()


def test_a_run_killed_after_its_last_step_takes_no_other(tmp_path: Path) -> None:
    changes = {"budget": {"tokens": 100}, "steps": 50, "save_every_steps": 50}
    whole = run(settings(tmp_path, "whole", **changes))
    last = len(whole.metrics())

    def kill(step: int, metrics: object) -> None:
        if step == last:
            raise KilledError

    with pytest.raises(KilledError):
        run(settings(tmp_path, "broken", **changes), on_step=kill)
    resumed = run(settings(tmp_path, "broken", **changes), resume=True)
    assert trajectory(resumed) == trajectory(whole)
    name = "model.safetensors"
    assert (resumed.model / name).read_bytes() == (whole.model / name).read_bytes()


@pytest.mark.usefixtures("ticking")
@pytest.mark.parametrize("clock", ["wall", "process"])
def test_seconds_keep_a_run_going_that_has_learned_from_enough(tmp_path: Path, clock: str) -> None:
    free = run(settings(tmp_path, "free", budget={"tokens": 10**9, "clock": clock})).metrics()
    seconds = [row[SECONDS] for row in free]
    assert seconds == sorted(seconds)
    assert all(row["time/step_seconds"] > row["time/sampling_seconds"] > 0 for row in free)
    enough = (seconds[2] + seconds[3]) / 2  # by tokens it would end after its first step
    spent = {"tokens": 1, "seconds": enough, "clock": clock}
    held_out = {"data": WORLD, "max_tokens": 4}
    rows = run(settings(tmp_path, "run", budget=spent, evaluation=held_out)).metrics()
    assert len(rows) == 4
    assert rows[-1][SECONDS] >= enough > rows[-2][SECONDS]
    assert ["eval/unscored_share" in row for row in rows] == [False] * 3 + [True]


def test_evaluations_are_due_at_each_multiple_of_the_tokens_and_at_the_end(tmp_path: Path) -> None:
    evaluation = {"data": WORLD, "every_tokens": 70, "max_tokens": 4}
    rows = run(settings(tmp_path, "run", evaluation=evaluation, steps=6)).metrics()
    totals = [0, *(int(row[TOKENS]) for row in rows)]
    expected = [after // 70 > before // 70 for before, after in itertools.pairwise(totals)]
    expected[-1] = True
    assert ["eval/unscored_share" in row for row in rows] == expected
    assert 1 < sum(expected) < 6


def test_several_sets_have_their_own_metrics_and_files(tmp_path: Path) -> None:
    sets = {"numbers": WORLD, "templates-2": OTHER}
    evaluation = {"sets": sets, "every_steps": 2, "max_tokens": 8}
    folder = run(settings(tmp_path, "run", evaluation=evaluation, steps=3))
    rows = folder.metrics()
    names = {"score_mean", "accuracy_mean", "unscored_share", "ungraded_share"}
    for part in ("eval", "eval-templates-2"):
        shown = [{n for n in names if f"{part}/{n}" in row} for row in rows]
        assert shown[0] == set()
        assert shown[1] == shown[2] >= {"unscored_share", "ungraded_share"}
    assert not any(name.startswith("eval-numbers") for row in rows for name in row)
    written = sorted(path.name for path in (folder.path / "evaluations").iterdir())
    steps, kinds = ("step-000002", "step-000003"), ("numbers", "templates-2")
    assert written == [f"{step}-{kind}.jsonl" for step in steps for kind in kinds]
    assert [len(read_rows(folder.evaluation(3, kind))) for kind in kinds] == [2, 3]


def test_data_alone_is_the_set_called_held_out(tmp_path: Path) -> None:
    one = config.Evaluation.model_validate({"data": WORLD})
    same = config.Evaluation.model_validate({"sets": {"held_out": WORLD}})
    assert one.by_name == same.by_name
    folder = run(settings(tmp_path, "run", evaluation={"data": WORLD, "max_tokens": 4}, steps=1))
    assert [path.name for path in (folder.path / "evaluations").iterdir()] == [
        "step-000001-held_out.jsonl"
    ]


# What makes no sense


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluation": {"data": WORLD, "sets": {"a": WORLD}}}, "either data, or sets"),
        ({"evaluation": {"every_steps": 2}}, "either data, or sets"),
        ({"evaluation": {"sets": {}}}, "either data, or sets"),
        (
            {"evaluation": {"data": WORLD, "every_steps": 2, "every_tokens": 9}},
            "either every_steps or every_tokens",
        ),
        ({"evaluation": {"data": WORLD, "every_tokens": 0}}, "evaluation.every_tokens: "),
        ({"evaluation": {"sets": {"a/b": WORLD}}}, "evaluation.sets.a/b"),
        ({"evaluation": {"sets": {"a": {"type": "jsonl"}}}}, "evaluation.sets.a.path: Field req"),
        ({"budget": {}}, "budget.tokens: Field required"),
        ({"budget": {"tokens": 0}}, "budget.tokens: "),
        ({"budget": {"tokens": 1, "seconds": 0}}, "budget.seconds: "),
        ({"budget": {"tokens": 1, "clock": "cpu"}}, "budget.clock: .*'wall' or 'process'"),
        ({"budget": {"token": 1}}, "budget.token: unknown key; did you mean 'tokens'"),
    ],
)
def test_budgets_and_evaluations_that_make_no_sense_are_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(tmp_path, "run", **changes)


@pytest.mark.parametrize(
    ("evaluation", "where"),
    [
        ({"data": WORLD}, "'evaluation.data'"),
        ({"sets": {"a": WORLD}}, "'evaluation.sets.a'"),
    ],
)
def test_a_held_out_prompt_that_does_not_fit_names_its_set(
    tmp_path: Path, evaluation: dict[str, Any], where: str
) -> None:
    evaluation = evaluation | {"max_tokens": 1000}  # of 1024 positions
    with pytest.raises(DataError, match=rf"{where}.*held-out example .*room for 24"):
        run(settings(tmp_path, "run", evaluation=evaluation))
    assert not (tmp_path / "run").exists()
