"""A real model on real benchmarks, judged over HTTP, killed in the middle and taken up again."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.judge_server import JudgeServer

from rcsd.io import read_rows
from rcsd.models.hub import ENTRIES

DATA = Path(__file__).parents[3] / "shared" / "data"
# Tests have a cache of their own, so the folder is looked for before any begins.
SMOLLM2 = ENTRIES["smollm2"].folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data"),
    pytest.mark.skipif(not SMOLLM2.is_dir(), reason="needs rcsd models --fetch smollm2"),
]


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    """A judge whose verdicts look random, and are a function of what it reads."""

    def meets(criterion: str, answer: str, seed: int) -> bool:
        return hashlib.sha256((criterion + answer).encode()).digest()[0] % 3 > 0

    served = JudgeServer(meets)
    yield served
    served.close()


def test_an_evaluation_of_smollm2_that_was_killed_goes_on_and_ends_the_same(
    tmp_path: Path, server: JudgeServer
) -> None:
    judge = tmp_path / "judge.yaml"
    cache = tmp_path / "judgements.sqlite"
    judge.write_text(
        f"judge: {{type: model, url: '{server.url}', model: scripted, cache: '{cache}'}}"
    )

    def command(out: str) -> list[str]:
        return [
            *(sys.executable, "-m", "rcsd", "eval", str(SMOLLM2)),
            *("--tasks", "scibench,rar-science", "--limit", "40", "--judge", str(judge)),
            f"data.scibench.path={DATA / 'scibench_dev.jsonl'}",
            f"data.rar-science.path={DATA / 'rar_science_dev.jsonl'}",
            *("data.scibench.partial=true", "data.rar-science.partial=true"),
            *("max_tokens=48", "batch_size=2", f"out={tmp_path / out}"),
        ]

    journals = tmp_path / ".cut.unfinished"

    def num_journaled() -> int:
        return sum(path.read_bytes().count(b"\n") for path in journals.glob("*.greedy.jsonl"))

    running = subprocess.Popen(command("cut"), stdout=subprocess.DEVNULL)
    ends = time.monotonic() + 600
    while num_journaled() < 48:
        assert running.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.2)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert 48 <= num_journaled() < 80
    for out in ("cut", "whole"):
        subprocess.run(command(out), check=True)
    for name in ("completions.jsonl", "summary.json"):
        found, wanted = (tmp_path / out / name for out in ("cut", "whole"))
        assert found.read_bytes() == wanted.read_bytes()
    rows = read_rows(tmp_path / "cut" / "completions.jsonl")
    assert [row["set"] for row in rows] == ["scibench"] * 40 + ["rar-science"] * 40
    assert all(row["reason"] for row in rows[:40])
    assert all(row["verdicts"] and None not in row["verdicts"] for row in rows[40:])
    # The second evaluation asked nothing that the first had been told.
    assert len(server.asked) == sum(len(row["verdicts"]) for row in rows[40:])
