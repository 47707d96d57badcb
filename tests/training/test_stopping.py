"""When a run ends: budgets, early stopping; and validation on the way."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.test_trainer import run_until_killed, settings, trajectory

from rcsd import config
from rcsd.config import parse_config
from rcsd.errors import ConfigError, DataError, RunError
from rcsd.io import read_rows, write_rows
from rcsd.runs import RunFolder
from rcsd.training.stopping import TOKENS, BudgetTracker, EarlyStopping
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


@pytest.mark.usefixtures("ticking")
def test_with_seconds_both_must_be_reached() -> None:
    tracker = BudgetTracker(budget(10, seconds=3))
    spent = []
    for num_tokens in (20, 0, 0):
        began = tracker.now()
        tracker.add(num_tokens, tracker.now() - began)
        spent.append(tracker.is_spent)
    assert (tracker.seconds, spent) == (3, [False, False, True])
    for seconds in (None, 3):
        late = BudgetTracker(budget(10, seconds))
        assert late.add(9, 50.0)[TOKENS] == 9
        assert not late.is_spent
        late.add(1, 1.0)
        assert late.is_spent


@pytest.mark.usefixtures("ticking")
def test_the_clock_is_the_walls_or_the_process() -> None:
    for clock, seconds in (("wall", 1.0), ("process", 100.0)):
        tracker = BudgetTracker(budget(10, clock=clock))
        began = tracker.now()
        assert tracker.now() - began == seconds
    plain = BudgetTracker(None).now
    assert plain() - plain() == -1.0


# Laws


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 60), st.integers(0, 20))
def test_counting_on_is_counting_through(sizes: list[int], tokens: int, cut: int) -> None:
    whole, resumed = BudgetTracker(budget(tokens)), BudgetTracker(budget(tokens))
    states = [whole.state_dict()]
    for size in sizes:
        whole.add(size, 0.5)
        states.append(whole.state_dict())
    cut = min(cut, len(sizes))
    resumed.load_state_dict(states[cut])
    for size in sizes[cut:]:
        resumed.add(size, 0.5)
    assert (resumed.state_dict(), resumed.is_spent) == (whole.state_dict(), whole.is_spent)


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


def test_a_resumed_run_counts_on_from_its_checkpoint_and_reads_no_metrics(tmp_path: Path) -> None:
    stop = {"metric": SCORE, "patience": 4}
    evaluation = {"data": WORLD, "every_steps": 1, "max_tokens": 4, "early_stop": stop}
    changes = {"budget": {"tokens": 10**9}, "steps": 20, "evaluation": evaluation}
    whole = run(settings(tmp_path, "whole", **changes))
    assert len(whole.metrics()) == 5  # all scores of a random model are 0
    run_until_killed(settings(tmp_path, "broken", **changes))
    metrics = tmp_path / "broken" / "metrics.jsonl"
    rows = [{"step": row["step"]} for row in read_rows(metrics)]
    write_rows(metrics, rows)
    resumed = run(settings(tmp_path, "broken", **changes), resume=True)
    assert trajectory(resumed) == rows[:2] + trajectory(whole)[2:]
    name = "model.safetensors"
    assert (resumed.model / name).read_bytes() == (whole.model / name).read_bytes()


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
    [({"data": WORLD}, "'evaluation.data'"), ({"sets": {"a": WORLD}}, "'evaluation.sets.a'")],
)
def test_a_held_out_prompt_that_does_not_fit_names_its_set(
    tmp_path: Path, evaluation: dict[str, Any], where: str
) -> None:
    evaluation = evaluation | {"max_tokens": 1000}  # of 1024 positions
    with pytest.raises(DataError, match=rf"{where}.*held-out example .*room for 24"):
        run(settings(tmp_path, "run", evaluation=evaluation))
    assert not (tmp_path / "run").exists()


# Early stopping

SCORE = "eval/score_mean"


def watch(stopping: EarlyStopping, *scores: float | None) -> EarlyStopping:
    """Steps 1, 2, ...; an evaluation where there is a score."""
    for step, score in enumerate(scores, 1):
        if score is not None:
            stopping.observe(step, {SCORE: score})
    return stopping


@pytest.mark.parametrize(
    ("scores", "stops", "best"),
    [
        ((0.5,), False, 1),
        ((0.5, 0.4), False, 1),
        ((0.5, 0.4, 0.5), True, 1),
        ((0.5, 0.4, 0.6), False, 3),
        ((0.7, 0.7, 0.7), True, 1),
        ((None, 0.5, None, None, 0.4, None), False, 2),  # evaluations count, not steps
        ((None, 0.5, None, None, 0.4, 0.3), True, 2),
        ((None, None), False, None),
    ],
)
def test_a_run_stops_at_the_evaluation_that_uses_up_its_patience(
    scores: tuple[float | None, ...], stops: bool, best: int | None
) -> None:
    stopping = watch(EarlyStopping(SCORE, patience=2), *scores)
    assert (stopping.should_stop, stopping.best_step) == (stops, best)


def test_small_gains_do_not_count_until_they_add_up() -> None:
    def after(*scores: float) -> EarlyStopping:
        return watch(EarlyStopping(SCORE, patience=3, min_gain=0.25), *scores)

    assert after(0.25, 0.375, 0.5).best_step == 1  # not by more than 0.25
    assert after(0.25, 0.375, 0.5, 0.625).best_step == 4
    assert after(0.25, 0.375, 0.5, 0.5).should_stop
    assert not after(0.25, 0.375, 0.5, 0.625).should_stop


SCORES = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=20)


@given(SCORES.filter(any), st.integers(1, 4))
def test_without_a_least_gain_the_best_is_the_first_of_the_largest(
    scores: list[float | None], patience: int
) -> None:
    best = watch(EarlyStopping(SCORE, patience), *scores).best_step
    assert best is not None
    largest = max(score for score in scores if score is not None)
    assert scores[best - 1] == largest
    assert largest not in scores[: best - 1]


@given(SCORES, st.integers(1, 4), st.floats(0, 0.5), st.integers(0, 20))
def test_early_stopping_goes_on_from_its_state(
    scores: list[float | None], patience: int, min_gain: float, cut: int
) -> None:
    whole = watch(EarlyStopping(SCORE, patience, min_gain), *scores)
    resumed = EarlyStopping(SCORE, patience, min_gain)
    resumed.load_state_dict(
        watch(EarlyStopping(SCORE, patience, min_gain), *scores[:cut]).state_dict()
    )
    for step, score in list(enumerate(scores, 1))[cut:]:
        if score is not None:
            resumed.observe(step, {SCORE: score})
    assert resumed.state_dict() == whole.state_dict()
    assert resumed.should_stop == whole.should_stop
    more = watch(EarlyStopping(SCORE, patience + 1, min_gain), *scores)
    assert whole.should_stop or not more.should_stop


def test_a_state_by_another_metric_does_not_count() -> None:
    stopping = EarlyStopping("eval/accuracy_mean", patience=1)
    stopping.load_state_dict(watch(EarlyStopping(SCORE, patience=1), 0.5, 0.4).state_dict())
    assert (stopping.should_stop, stopping.best_step) == (False, None)


def test_a_metric_that_the_first_evaluation_lacks_is_refused() -> None:
    metrics = {"eval/accuracy_mean": 0.5, "eval/unscored_share": 1.0}
    stopping = EarlyStopping(SCORE, patience=1)
    with pytest.raises(RunError, match="lacks it; it has eval/accuracy_mean, eval/unscored_share"):
        stopping.observe(1, metrics)
    watch(stopping, 0.5)
    assert not stopping.observe(2, metrics)  # later ones may grade nothing


def run_that_stops(metric: str, writes: str = "answer", every_steps: int | None = 5) -> dict:
    data = {"type": "jsonl", "path": "rows.jsonl"}
    stop = {"metric": metric, "patience": 2}
    return {
        "model": {"path": "model"},
        "data": data,
        "method": {"type": "distill"},
        "optim": {"lr": 1e-3},
        "steps": 20,
        "views": {"writes": writes},
        "out": "run",
        "evaluation": {"data": data, "every_steps": every_steps, "early_stop": stop},
    }


def test_a_run_may_stop_by_what_it_measures_on_the_way_alone() -> None:
    for metric, writes in (
        (SCORE, "answer"),
        ("eval/accuracy_mean", "answer"),
        ("eval/f1_mean", "rubric"),
    ):
        parse_config(run_that_stops(metric, writes))
    for metric, writes, every_steps, said in (
        ("eval/f1_mean", "answer", 5, "take eval/score_mean or eval/accuracy_mean"),
        (SCORE, "rubric", 5, "take eval/f1_mean"),
        (SCORE, "answer", None, "set every_steps"),
    ):
        with pytest.raises(ConfigError, match=said):
            parse_config(run_that_stops(metric, writes, every_steps))
