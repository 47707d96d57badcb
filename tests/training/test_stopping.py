"""When a run ends: budgets, early stopping; and validation on the way."""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.test_trainer import Tree, run_until_killed, settings, trajectory, weights

from rcsd import config
from rcsd.errors import ConfigError, DataError, RunError
from rcsd.io import read_rows, write_rows
from rcsd.training.stopping import TOKENS, BudgetTracker, EarlyStopping
from rcsd.training.trainer import run

WORLD = {"type": "world", "split": "new_numbers", "num_examples": 2}
OTHER = {"type": "world", "split": "new_templates", "num_examples": 3}


def stopping_by(name: str, every_steps: int | None = 5) -> Tree:
    stop = {"metric": f"eval/{name}", "patience": 2}
    return {"data": WORLD, "every_steps": every_steps, "early_stop": stop}


SCORE = "eval/score_mean"
Scores = Sequence[float | None]


def test_with_seconds_both_must_be_reached_by_either_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks: list[tuple[Any, str, float]]
    clocks = [("wall", "perf_counter", 1.0), ("process", "process_time", 100.0)]
    for clock, name, second in clocks:
        # It goes on by that much whenever it is read.
        monkeypatch.setattr(time, name, itertools.count(0.0, second).__next__)
        tracker = BudgetTracker(config.Budget(tokens=10, seconds=3 * second, clock=clock))
        spent = []
        for num_tokens in (20, 0, 0):
            began = tracker.now()
            tracker.add(num_tokens, tracker.now() - began)
            spent.append(tracker.is_spent)
        assert (tracker.seconds, spent) == (3 * second, [False, False, True])
    for seconds in (None, 3):
        late = BudgetTracker(config.Budget(tokens=10, seconds=seconds))
        assert late.add(9, 50.0)[TOKENS] == 9
        assert not late.is_spent
        late.add(1, 1.0)
        assert late.is_spent


def test_a_run_ends_after_the_first_step_at_which_the_tokens_are_reached(tmp_path: Path) -> None:
    free = run(settings(tmp_path, "free"))
    totals = [row[TOKENS] for row in free.metrics()]
    lengths = [4 * row["completion/length_tokens_mean"] for row in free.metrics()]
    assert totals == pytest.approx(list(itertools.accumulate(lengths)))
    for name, tokens in (("at", int(totals[2])), ("past", int(totals[1]) + 1)):
        spent = settings(tmp_path, name, budget={"tokens": tokens})
        model = None
        for resume in (False, True):  # it has ended: there is nothing to resume
            folder = run(spent, resume=resume)
            assert trajectory(folder) == trajectory(free)[:3]
            assert [path.name for path in folder.checkpoints()] == ["step-000002", "step-000003"]
            assert "for 3 steps" in (folder.model / "README.md").read_text()
            model = model or weights(folder)
            assert weights(folder) == model


def test_a_resumed_run_counts_on_from_its_checkpoint_and_reads_no_metrics(tmp_path: Path) -> None:
    stop = {"metric": SCORE, "patience": 4}
    evaluation = {"data": WORLD, "every_steps": 1, "max_tokens": 4, "early_stop": stop}
    changes = {"budget": {"tokens": 10**9}, "steps": 20, "evaluation": evaluation}
    whole = run(settings(tmp_path, "whole", **changes))
    assert len(whole.metrics()) == 5  # all scores of a random model are 0
    run_until_killed(settings(tmp_path, "broken", **changes))
    metrics = tmp_path / "broken" / "metrics.jsonl"
    write_rows(metrics, rows := [{"step": row["step"]} for row in read_rows(metrics)])
    resumed = run(settings(tmp_path, "broken", **changes), resume=True)
    assert trajectory(resumed) == rows[:2] + trajectory(whole)[2:]
    assert weights(resumed) == weights(whole)


def test_evaluations_are_due_at_each_multiple_of_the_tokens_and_at_the_end(tmp_path: Path) -> None:
    evaluation = {"data": WORLD, "every_tokens": 70, "max_tokens": 4}
    rows = run(settings(tmp_path, "run", evaluation=evaluation, steps=6)).metrics()
    totals = [0, *(int(row[TOKENS]) for row in rows)]
    expected = [after // 70 > before // 70 for before, after in itertools.pairwise(totals)]
    expected[-1] = True
    assert ["eval/unscored_share" in row for row in rows] == expected
    assert 1 < sum(expected) < 6


WRONG = "_ungraded_as_wrong"


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
        accuracies = (rows[1].get(f"{part}/accuracy{which}_mean", 0) for which in ("", WRONG))
        assert next(accuracies) >= next(accuracies)
        assert f"{part}/accuracy{WRONG}_mean" in rows[1]
    assert not any(name.startswith("eval-numbers") for row in rows for name in row)
    written = sorted(path.name for path in (folder.path / "evaluations").iterdir())
    steps, kinds = ("step-000002", "step-000003"), ("numbers", "templates-2")
    assert written == [f"{step}-{kind}.jsonl" for step in steps for kind in kinds]
    assert [len(read_rows(folder.evaluation(3, kind))) for kind in kinds] == [2, 3]


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        ({"data": WORLD, "sets": {"a": WORLD}}, "either data, or sets"),
        ({"every_steps": 2}, "either data, or sets"),
        ({"sets": {}}, "either data, or sets"),
        ({"data": WORLD, "every_steps": 2, "every_tokens": 9}, "either every_steps or every_token"),
        ({"sets": {"a/b": WORLD}}, "evaluation.sets.a/b"),
        ({"sets": {"a": {"type": "jsonl"}}}, "evaluation.sets.a.path: Field req"),
        (stopping_by("f1_mean"), "take eval/score_mean or eval/accuracy_mean"),
        (stopping_by("score_mean", every_steps=None), "set every_steps"),
    ],
)
def test_evaluations_without_sense_are_refused(tmp_path: Path, evaluation: Tree, said: str) -> None:
    for metric in ("score_mean", "accuracy_mean"):
        settings(tmp_path, "run", evaluation=stopping_by(metric))
    with pytest.raises(ConfigError, match=said):
        settings(tmp_path, "run", evaluation=evaluation)


def test_a_writer_of_rubrics_stops_by_their_agreement(tmp_path: Path) -> None:
    settings(tmp_path, "run", views={"writes": "rubric"}, evaluation=stopping_by("f1_mean"))
    with pytest.raises(ConfigError, match="take eval/f1_mean"):
        settings(tmp_path, "run", views={"writes": "rubric"}, evaluation=stopping_by("score_mean"))


@pytest.mark.parametrize("name", ["data", "sets.a"])
def test_a_held_out_prompt_that_does_not_fit_names_its_set(tmp_path: Path, name: str) -> None:
    data = {"data": WORLD} if name == "data" else {"sets": {"a": WORLD}}
    evaluation = data | {"max_tokens": 1000}  # of 1024 positions
    with pytest.raises(DataError, match=rf"'evaluation.{name}'.*held-out example .*room for 24"):
        run(settings(tmp_path, "run", evaluation=evaluation))
    assert not (tmp_path / "run").exists()


def watch(stopping: EarlyStopping, *scores: float | None) -> EarlyStopping:
    """Steps 1, 2, ...; an evaluation where there is a score."""
    for step, score in enumerate(scores, 1):
        if score is not None:
            stopping.observe(step, {SCORE: score})
    return stopping


@pytest.mark.parametrize(
    ("scores", "min_gain", "stops", "best"),
    [
        ((0.5, 0.4), 0, False, 1),
        ((0.5, 0.4, 0.5), 0, True, 1),
        ((0.5, 0.4, 0.6), 0, False, 3),
        ((0.7, 0.7, 0.7), 0, True, 1),
        ((None, 0.5, None, None, 0.4, None), 0, False, 2),  # evaluations count, not steps
        ((None, 0.5, None, None, 0.4, 0.3), 0, True, 2),
        ((None, None), 0, False, None),
        ((0.25, 0.5), 0.25, False, 1),  # not by more than 0.25
        ((0.25, 0.5, 0.5), 0.25, True, 1),
        ((0.25, 0.5, 0.625), 0.25, False, 3),  # small gains that add up
    ],
)
def test_a_run_stops_at_the_evaluation_that_uses_up_its_patience(
    scores: Scores, min_gain: float, stops: bool, best: int | None
) -> None:
    stopping = watch(EarlyStopping(SCORE, 2, min_gain), *scores)
    assert (stopping.should_stop, stopping.best_step) == (stops, best)
    other = EarlyStopping("eval/accuracy_mean", 2)  # its state does not count for another metric
    other.load_state_dict(stopping.state_dict())
    assert (other.should_stop, other.best_step) == (False, None)


SCORES = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=20)


@given(SCORES.filter(any), st.integers(1, 4))
def test_without_a_least_gain_the_first_largest_is_best(scores: Scores, patience: int) -> None:
    best = watch(EarlyStopping(SCORE, patience), *scores).best_step
    assert best is not None
    largest = max(score for score in scores if score is not None)
    assert scores[best - 1] == largest
    assert largest not in scores[: best - 1]


@given(SCORES, st.integers(1, 4), st.floats(0, 0.5), st.integers(0, 20))
def test_early_stopping_goes_on_from_its_state(
    scores: Scores, patience: int, min_gain: float, cut: int
) -> None:
    whole, part, resumed = (EarlyStopping(SCORE, patience, min_gain) for _ in range(3))
    watch(whole, *scores)
    resumed.load_state_dict(watch(part, *scores[:cut]).state_dict())
    watch(resumed, *[None] * cut, *scores[cut:])
    assert resumed.state_dict() == whole.state_dict()
    assert resumed.should_stop == whole.should_stop
    more = watch(EarlyStopping(SCORE, patience + 1, min_gain), *scores)
    assert whole.should_stop or not more.should_stop


def test_a_metric_that_the_first_evaluation_lacks_is_refused() -> None:
    metrics = {"eval/accuracy_mean": 0.5, "eval/unscored_share": 1.0}
    stopping = EarlyStopping(SCORE, patience=1)
    with pytest.raises(RunError, match="lacks it; it has eval/accuracy_mean, eval/unscored_share"):
        stopping.observe(1, metrics)
    watch(stopping, 0.5)
    assert not stopping.observe(2, metrics)  # later ones may grade nothing
