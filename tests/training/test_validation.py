"""Validation by a judge that is a model: scores, failures, interruptions, early stopping."""

import json
import os
import signal
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.judge_server import JudgeServer
from tests.support.launched import codes, on_ranks
from tests.training.test_trainer import settings, trajectory, weights

from rcsd import config
from rcsd.errors import ConfigError, DataError, RunError
from rcsd.evaluation.run_report import write_run_report
from rcsd.evaluation.targets import build_eval_config
from rcsd.io import read_rows, write_rows
from rcsd.runs import RunFolder
from rcsd.training.trainer import run

ROWS = [
    {
        "question": f"{n} + 2?",
        "rubric": [
            {"criterion": f"Says {n + 2}.", "weight": 2},
            {"criterion": "Is long.", "weight": 1},
        ],
    }
    for n in range(4)
]


def some(criterion: str, answer: str, seed: int) -> bool:
    """A verdict that hardly anything explains."""
    return zlib.crc32(f"{criterion} {answer}".encode()) % 2 == 0


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    served = JudgeServer(some)
    yield served
    served.close()


def judged(
    folder: Path, name: str, server: JudgeServer, rows: Any = ROWS, **changes: Any
) -> config.Config:
    """A run whose held-out answers a model judges after each step."""
    write_rows(folder / "held_out.jsonl", rows)
    judge: dict[str, Any] = {"type": "model", "url": server.url, "model": "m"}
    judge |= {"patience_seconds": 0.5, "max_concurrent": 1}
    evaluation = {
        "data": {"type": "jsonl", "path": str(folder / "held_out.jsonl")},
        "every_steps": 1,
        "max_tokens": 8,
        "judge": judge | {"cache": str(folder / f"{name}.sqlite")},
        **changes.pop("evaluation", {}),
    }
    return settings(folder, name, evaluation=evaluation, **{"optim": {"lr": 0.1}, **changes})


def without_cost(folder: RunFolder) -> list[dict[str, float]]:
    return [
        {k: v for k, v in row.items() if not k.startswith("eval/judge/")}
        for row in trajectory(folder)
    ]


def test_held_out_scores_curves_and_explanations_are_the_judges(
    tmp_path: Path, server: JudgeServer
) -> None:
    server.explanation = "It <i>does</i>."
    folder = run(judged(tmp_path, "run", server, steps=3))
    for step, metrics in enumerate(folder.metrics(), 1):
        rows = read_rows(folder.evaluation(step, "held_out"))
        scores = [
            sum(w * some(c["criterion"], row["text"], 0) for w, c in zip((2, 1), of, strict=True))
            / 3
            for row, of in zip(rows, (r["rubric"] for r in ROWS), strict=True)
        ]
        assert metrics["eval/score_mean"] == pytest.approx(sum(scores) / 4)
        assert metrics["eval/unscored_share"] == 0
        assert rows[0]["explanations"] == ["It <i>does</i>."] * 2
    assert folder.metrics()[-1]["eval/judge/num_calls"] == len(server.asked)
    page = write_run_report(folder).read_text()
    assert "It &lt;i&gt;does&lt;/i&gt;." in page
    assert "held-out score" in page
    evaluated = build_eval_config(str(folder.path)).judge
    assert evaluated == config.config_of_run(folder).evaluation.judge  # type: ignore[union-attr]


def test_a_run_stops_early_by_judged_scores_and_keeps_the_best_weights(
    tmp_path: Path, server: JudgeServer
) -> None:
    num_steps = []
    server.meets = lambda *_: not num_steps  # all after the first step, nothing later
    stop = {"metric": "eval/score_mean", "patience": 1}
    made = judged(tmp_path, "run", server, steps=5, evaluation={"early_stop": stop})
    folder = run(made, on_step=lambda *_: num_steps.append(1))
    assert [row["eval/score_mean"] for row in folder.metrics()] == [1, 0]
    first = run(judged(tmp_path, "first", server, steps=1))
    assert weights(folder) == weights(first)


def test_a_judge_that_fails_leaves_answers_unscored_and_ends_no_run(
    tmp_path: Path, server: JudgeServer
) -> None:
    calls = []

    def answer(path: str, body: Any) -> tuple[int, Any]:
        return (401, "no key") if len(calls) < 2 else JudgeServer.answer(server, path, body)

    server.answer = answer
    stop = {"metric": "eval/score_mean", "patience": 3}
    made = judged(tmp_path, "run", server, steps=4, evaluation={"early_stop": stop})
    with pytest.warns(UserWarning, match="no held-out answer has a verdict"):
        folder = run(made, on_step=lambda *_: calls.append(1))
    shares = [row["eval/unscored_share"] for row in folder.metrics()]
    assert shares == [1, 1, 0, 0]
    assert ["eval/score_mean" in row for row in folder.metrics()] == [False, False, True, True]
    [reason] = {
        why for row in read_rows(folder.evaluation(1, "held_out")) for why in row["unscored"]
    }
    assert reason.startswith("failed: ")
    assert "401" in reason


@pytest.mark.parametrize("why", ["away", "budget", "mute"])
def test_three_evaluations_in_a_row_without_a_verdict_end_the_run(
    tmp_path: Path, server: JudgeServer, why: str
) -> None:
    judge = {}
    if why == "away":
        server.answer = lambda path, body: (401, "no key")
    if why == "budget":
        judge = {"max_calls": 12}  # one evaluation and a half
        server.meets = some
    if why == "mute":
        server.meets = lambda *_: "perhaps"
    made = judged(tmp_path, "run", server, steps=5, save_every_steps=1)
    section = made.evaluation
    assert section is not None
    changed = section.judge.model_copy(update=judge)
    made = made.model_copy(update={"evaluation": section.model_copy(update={"judge": changed})})
    with (
        pytest.warns(UserWarning, match="no held-out answer has a verdict"),
        pytest.raises(RunError, match=r"3 evaluations in a row: mend evaluation\.judge"),
    ):
        run(made)
    has_score = ["eval/score_mean" in row for row in RunFolder(made.out).metrics()]
    assert has_score == ([True, False, False, False] if why == "budget" else [False, False])


def test_sigterm_while_the_judge_is_asked_ends_the_run_at_once_and_resuming_validates_first(
    tmp_path: Path, server: JudgeServer
) -> None:
    stop = {"metric": "eval/score_mean", "patience": 4}
    whole = run(judged(tmp_path, "whole", server, evaluation={"early_stop": stop}))
    num_asked = len(server.asked)
    made = judged(tmp_path, "broken", server, evaluation={"early_stop": stop})
    # In the third evaluation, and once more when that is repeated.
    for resume, nth in ((False, num_asked + 20), (True, num_asked + 22)):

        def meets(criterion: str, answer: str, seed: int, nth: int = nth) -> bool:
            if len(server.asked) == nth:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.3)
            return some(criterion, answer, seed)

        server.meets = meets
        began = time.monotonic()
        with pytest.raises(SystemExit):
            run(made, resume=resume)
        assert time.monotonic() - began < 20
        folder = RunFolder(made.out)
        assert folder.checkpoints()[-1].name == "step-000003"
        assert "eval/score_mean" not in folder.metrics()[-1]
    server.meets = some
    resumed = run(made, resume=True)
    assert without_cost(resumed) == without_cost(whole)
    assert resumed.completions() == whole.completions()
    assert weights(resumed) == weights(whole)
    for path in whole.path.glob("evaluations/*"):
        assert (resumed.path / "evaluations" / path.name).read_bytes() == path.read_bytes()


def test_a_judge_without_work_is_refused(tmp_path: Path, server: JudgeServer) -> None:
    rows = [{"question": "2 + 2?", "reference_answer": "4"}]
    with pytest.raises(DataError, match=r"evaluation\.judge: no held-out example has a rubric"):
        run(judged(tmp_path, "run", server, rows))
    stop = {"metric": "eval/accuracy_mean", "patience": 1}  # no row has a reference answer
    with pytest.raises(RunError, match=r"cannot stop by eval/accuracy_mean"):
        run(judged(tmp_path, "run", server, evaluation={"early_stop": stop}))
    with pytest.raises(ConfigError, match=r"evaluation\.judge reads answers"):
        judged(tmp_path, "run", server, views={"writes": "rubric"})


@pytest.mark.slow
def test_of_several_processes_one_asks_the_judge(tmp_path: Path, server: JudgeServer) -> None:
    alone = judged(tmp_path, "alone", server, steps=2)
    assert codes(on_ranks([alone])) == [0]
    num_asked = len(server.asked)
    both = judged(tmp_path, "both", server, steps=2)
    assert codes(on_ranks([both, both])) == [0, 0]
    assert len(server.asked) == 2 * num_asked
    rows = [RunFolder(of.out).metrics() for of in (alone, both)]
    scores = [[row["eval/score_mean"] for row in of] for of in rows]
    assert scores[0] == scores[1]
    assert json.dumps(rows[1][0]["eval/judge/num_calls"]) == "8"
