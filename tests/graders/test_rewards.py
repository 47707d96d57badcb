"""Rewards that a model judge gives in a run."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.judge_server import JudgeServer
from tests.support.launched import codes, on_ranks
from tests.training.test_trainer import settings

from rcsd import config
from rcsd.errors import RunError
from rcsd.io import write_rows
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
    judge |= {"type": "model", "url": server.url, "model": "m", "cache": str(folder / name)}
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
