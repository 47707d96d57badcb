"""Rewards that a model judge gives in a run."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.judge_server import JudgeServer
from tests.support.launched import codes, on_ranks
from tests.training.test_trainer import settings

from rcsd import config
from rcsd.distributed import Ranks, Terminated
from rcsd.errors import NoVerdictsError, RunError
from rcsd.io import write_rows
from rcsd.models.checkpoint import Checkpoints
from rcsd.runs import RunFolder
from rcsd.training.trainer import run


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    served = JudgeServer(lambda criterion, answer, seed: len(answer) % 2 == 0)
    yield served
    served.close()


def judged(folder: Path, server: JudgeServer, name: str, **judge: Any) -> config.Config:
    """A run whose reward is a model's."""
    rubric = [{"criterion": "Is even.", "weight": 1}]
    write_rows(folder / "rows.jsonl", [{"question": f"{n}?", "rubric": rubric} for n in range(4)])
    judge = {"url": server.url, "model": "m", "cache": str(folder / name)} | judge
    judge |= {"type": "model"}
    return settings(
        folder,
        f"run-{name}",
        data={"type": "jsonl", "path": str(folder / "rows.jsonl")},
        method={"type": "grpo", "rewards": [{"type": "rubric", "judge": judge}]},
        completions_per_example=2,
        steps=2,
    )


def test_a_judge_that_refuses_ends_the_run(server: JudgeServer, tmp_path: Path) -> None:
    server.faults.extend([(401, "who?")] * 1000)
    with pytest.raises(RunError, match=r"refused with 401: who\?; the key is missing or wrong"):
        run(judged(tmp_path, server, "c", patience_seconds=0.1))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rcsd-judge")]


def test_a_budget_that_is_spent_ends_the_run(server: JudgeServer, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has spent its budget"):
        run(judged(tmp_path, server, "c", asks="holistic", max_calls=3))
    assert len(server.asked) == 3


POLICY = '{"error": {"message": "Rejected by our content policy."}}'


def test_a_completion_that_a_judge_cannot_score_is_left_out_and_the_run_goes_on(
    server: JudgeServer, tmp_path: Path
) -> None:
    server.faults.extend([None, (400, POLICY), None, (500, "no", {"x-should-retry": "false"})])
    rows = run(judged(tmp_path, server, "c", max_concurrent=1)).metrics()
    assert [row["reward/unscored_share"] for row in rows] == [2 / 8, 0]
    assert rows[1]["judge/num_unscored/refused"] == rows[1]["judge/num_unscored/failed"] == 1


def test_steps_without_any_verdict_warn_and_three_in_a_row_end_the_run_with_a_checkpoint(
    server: JudgeServer, tmp_path: Path
) -> None:
    steps = dict[int, int]()

    def fault(body: Any) -> Any:  # steps 1, 3, 4 and 5 have no verdicts
        step = RunFolder(settings.out).metrics()[-1:]
        return (400, POLICY) if (step[0]["step"] if step else 0) in (1, 3, 4, 5) else None

    settings = judged(tmp_path, server, "c").model_copy(update={"steps": 9})
    server.fault_of = fault
    with (
        pytest.warns(UserWarning, match="no completion has a verdict .*refused: 400: Reje") as told,
        pytest.raises(NoVerdictsError, match=r"step 5: .* in 3 steps in a row; mend the judge"),
    ):
        run(settings, on_step=lambda step, _: steps.update({step: len(server.asked)}))
    assert [str(each.message).partition(":")[0] for each in told] == ["step 1", "step 3", "step 4"]
    assert Checkpoints(settings.out / "checkpoints", 9, Ranks()).steps()[-1] == 5
    server.fault_of = lambda body: None
    assert len(run(settings, resume=True).metrics()) == 9


@pytest.mark.parametrize("fault", ["silence", "drip", (503, "no", {"Retry-After": "4"}), "refused"])
def test_sigterm_ends_a_run_that_waits_for_its_judge_within_two_seconds(
    server: JudgeServer, tmp_path: Path, fault: Any
) -> None:
    sent = list[float]()

    def terminate() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    def on_step(step: int, _: Any) -> None:
        server.fault_of = lambda body: fault
        threading.Timer(0.5, terminate).start()

    settings = judged(tmp_path, server, "c").model_copy(update={"save_every_steps": 9})
    if fault == "refused":  # after the judge was built
        settings, fault = judged(tmp_path, server, "d", url="http://127.0.0.1:9"), None
        threading.Timer(1.0, terminate).start()
    with pytest.raises(Terminated):
        run(settings, on_step=on_step)
    assert time.monotonic() - sent[0] < 2
    if fault is not None:
        assert Checkpoints(settings.out / "checkpoints", 9, Ranks()).steps() == [1]


@pytest.mark.slow
def test_two_processes_ask_what_one_asks(server: JudgeServer, tmp_path: Path) -> None:
    alone = run(judged(tmp_path, server, "one"))
    num_asked = len(server.asked)
    two = judged(tmp_path, server, "two")
    assert codes(on_ranks([two, two])) == [0, 0]
    for row, other in zip(RunFolder(two.out).metrics(), alone.metrics(), strict=True):
        names = [n for n in row if n.startswith(("reward/", "judge/num"))]
        assert {n: row[n] for n in names} == {n: other[n] for n in names}
    assert len(server.asked) == 2 * num_asked > 0
