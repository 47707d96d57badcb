import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcsd.config import parse_config
from rcsd.errors import ConfigError, RunError
from rcsd.training.early_stopping import EarlyStopping

SCORE = "eval/score_mean"


def history(*scores: float | None) -> list[dict[str, float]]:
    """A row a step; an evaluation where there is a score."""
    return [
        {"step": step, "loss/nll_nats_mean": 1.0} | ({} if score is None else {SCORE: score})
        for step, score in enumerate(scores, 1)
    ]


# By hand


def test_a_run_stops_at_the_evaluation_that_uses_up_its_patience() -> None:
    stopping = EarlyStopping(SCORE, patience=2)
    assert not stopping.should_stop(history(0.5))
    assert not stopping.should_stop(history(0.5, 0.4))
    assert stopping.should_stop(history(0.5, 0.4, 0.5))
    assert not stopping.should_stop(history(0.5, 0.4, 0.6))
    assert EarlyStopping(SCORE, patience=1).should_stop(history(0.5, 0.5))


def test_patience_counts_evaluations_and_not_steps() -> None:
    stopping = EarlyStopping(SCORE, patience=2)
    assert not stopping.should_stop(history(None, 0.5, None, None, None, 0.4, None))
    assert stopping.should_stop(history(None, 0.5, None, None, None, 0.4, None, 0.3))
    assert not stopping.should_stop(history(None, None, None))
    assert not stopping.should_stop([])


def test_the_best_is_told_by_its_number_of_steps() -> None:
    stopping = EarlyStopping(SCORE, patience=2)
    assert stopping.best(history(None, 0.5, None, 0.7, 0.6)) == 4
    assert stopping.best(history(0.7, 0.7, 0.7)) == 1


def test_small_gains_do_not_count_until_they_add_up() -> None:
    stopping = EarlyStopping(SCORE, patience=3, min_gain=0.25)
    assert stopping.best(history(0.25, 0.375, 0.5)) == 1  # not by more than 0.25
    assert stopping.best(history(0.25, 0.375, 0.5, 0.625)) == 4
    assert stopping.should_stop(history(0.25, 0.375, 0.5, 0.5))
    assert not stopping.should_stop(history(0.25, 0.375, 0.5, 0.625))


# Laws

SCORES = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=20)


@given(SCORES.filter(any), st.integers(1, 4))
def test_without_a_least_gain_the_best_is_the_first_of_the_largest(
    scores: list[float | None], patience: int
) -> None:
    known = [score for score in scores if score is not None]
    best = EarlyStopping(SCORE, patience).best(history(*scores))
    assert scores[best - 1] == max(known)
    assert max(known) not in scores[: best - 1]


@given(SCORES, st.integers(1, 4), st.floats(0, 0.5))
def test_more_patience_never_stops_earlier(
    scores: list[float | None], patience: int, min_gain: float
) -> None:
    rows = history(*scores)
    if EarlyStopping(SCORE, patience + 1, min_gain).should_stop(rows):
        assert EarlyStopping(SCORE, patience, min_gain).should_stop(rows)


@given(SCORES, st.integers(1, 4), st.floats(0, 0.5))
def test_steps_without_an_evaluation_decide_nothing(
    scores: list[float | None], patience: int, min_gain: float
) -> None:
    stopping = EarlyStopping(SCORE, patience, min_gain)
    rows = history(*scores)
    evaluated = [row for row in rows if SCORE in row]
    assert stopping.should_stop(rows) == stopping.should_stop(evaluated)


# Errors


def test_a_metric_that_no_evaluation_has_is_refused() -> None:
    rows = [{"step": 1, "eval/accuracy_mean": 0.5, "eval/unscored_share": 1.0}]
    stopping = EarlyStopping(SCORE, patience=1)
    message = "no evaluation has it; they have eval/accuracy_mean, eval/unscored_share"
    with pytest.raises(RunError, match=message):
        stopping.should_stop(rows)
    with pytest.raises(RunError, match=message):
        stopping.best(rows)


def test_without_an_evaluation_none_is_the_best() -> None:
    with pytest.raises(RunError, match="no evaluation yet"):
        EarlyStopping(SCORE, patience=1).best(history(None))


# Its section


def run_that_stops(metric: str, writes: str = "answer", every_steps: int | None = 5) -> dict:
    data = {"type": "jsonl", "path": "rows.jsonl"}
    return {
        "model": {"path": "model"},
        "data": data,
        "method": {"type": "distill"},
        "optim": {"lr": 1e-3},
        "steps": 20,
        "views": {"writes": writes},
        "out": "run",
        "evaluation": {
            "data": data,
            "every_steps": every_steps,
            "early_stop": {"metric": metric, "patience": 2},
        },
    }


@pytest.mark.parametrize(
    ("metric", "writes"), [(SCORE, "answer"), ("eval/accuracy_mean", "answer")]
)
def test_a_run_may_stop_by_what_it_measures(metric: str, writes: str) -> None:
    evaluation = parse_config(run_that_stops(metric, writes)).evaluation
    assert evaluation is not None
    assert evaluation.early_stop is not None
    assert evaluation.early_stop.min_gain == 0
    parse_config(run_that_stops("eval/f1_mean", "rubric"))


def test_a_run_cannot_stop_by_what_it_does_not_measure() -> None:
    with pytest.raises(ConfigError, match="take eval/score_mean or eval/accuracy_mean"):
        parse_config(run_that_stops("eval/f1_mean"))
    with pytest.raises(ConfigError, match="take eval/f1_mean"):
        parse_config(run_that_stops(SCORE, "rubric"))


def test_a_run_that_evaluates_at_its_end_alone_cannot_stop_early() -> None:
    with pytest.raises(ConfigError, match="set every_steps"):
        parse_config(run_that_stops(SCORE, every_steps=None))
