"""Rubrics that only a model can read, end to end; each command is interrupted twice."""

import json
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.judge_server import JudgeServer
from tests.support.tiny import tiny_folder
from tests.test_house import ROOT

from rcsd.io import read_rows, write_json, write_rows

REAL = ROOT.parent / "shared" / "data" / "rar_science_dev.jsonl"
MADE_UP = [
    {
        "id": number,
        "question": f"A kettle of {number} kW heats for {number + 60} s. How much energy is that?",
        "reference_answer": f"{number * (number + 60)} kJ",
        "rubrics": {
            "GT": [
                "Essential Criteria: Multiplies power by time.",
                f"Important Criteria: States {number * (number + 60)} kJ.",
                "Pitfall Criteria: Does not mention the unit.",
            ]
        },
    }
    for number in range(2, 10)
]


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    served = JudgeServer(
        lambda criterion, answer, seed: zlib.crc32(f"{criterion} {answer}".encode()) % 2 == 0
    )
    served.explanation, served.delay_seconds = "So it says.", 0.05
    yield served
    served.close()


def rcsd_until(server: JudgeServer, num_requests: int | None, *words: object) -> None:
    """Run a command, which gets SIGTERM once the judge has that many requests; None: never."""
    start = len(server.asked)
    command = [sys.executable, "-c", "from rcsd.cli import main; main()", *map(str, words)]
    sent = None
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.01)
            num_asked = len(server.asked) - start
            if num_requests is not None and sent is None and num_asked >= num_requests:
                process.send_signal(signal.SIGTERM)
                sent = time.monotonic()
        assert sent is None or time.monotonic() - sent < 10
        printed.seek(0)
        output = printed.read()
    assert "Traceback" not in output, output
    assert (process.returncode == 0) == (num_requests is None), output


def all_numbers(folder: Path, rows: Sequence[Any], server: JudgeServer, cuts: bool) -> list[Any]:
    """Numbers of probe, train, eval, rejudge and compare; with cuts each is ended twice before."""
    tiny_folder(folder / "model")
    shape = json.loads((folder / "model" / "config.json").read_text())
    write_json(folder / "model" / "config.json", shape | {"max_position_embeddings": 8192})
    half = len(rows) // 2
    write_rows(folder / "train.jsonl", rows[:half])
    write_rows(folder / "held_out.jsonl", rows[half:])
    judge = {"type": "model", "url": server.url, "model": "m", "max_concurrent": 2}
    judge["cache"] = str(folder / "judgements.sqlite")
    data = {
        name: {"type": "rar", "path": str(folder / f"{name}.jsonl")}
        for name in ("train", "held_out")
    }
    stop = {"metric": "eval/score_mean", "patience": 9}
    tree = {
        "model": {"path": str(folder / "model"), "training": {"type": "full"}},
        "data": data["train"],
        "method": {"type": "distill"},
        "optim": {"lr": 0.1},
        "sampling": {"max_tokens": 8, "max_prompt_tokens": 8000},
        "evaluation": {
            "data": data["held_out"],
            "judge": judge,
            "every_steps": 1,
            "max_tokens": 8,
            "early_stop": stop,
        },
        "steps": 3,
        "examples_per_step": 2,
        "out": str(folder / "run"),
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    panel = [judge | {"model": name} for name in ("a", "b")]
    (folder / "panel.yaml").write_text(yaml.safe_dump({"judge": panel}))

    def rcsd(*words: object, resume: str | None = None) -> None:
        for number, num_requests in enumerate([5, 5, None] if cuts else [None]):
            more = [resume] if resume is not None and number else []
            rcsd_until(server, num_requests, *words, *more)

    rcsd("probe", folder / "run.yaml", "--num-examples", 3, "--num-samples", 1)
    rcsd("train", folder / "run.yaml", resume="--resume")
    rcsd("eval", folder / "run", "num_samples=2")
    rcsd(
        "rejudge",
        folder / "run" / "eval",
        "--judge",
        folder / "panel.yaml",
        "--out",
        folder / "two",
    )
    rcsd_until(server, None, "compare", f"one={folder / 'run' / 'eval'}", f"two={folder / 'two'}",
               "--json", folder / "compared.json")  # fmt: skip

    probed = json.loads((folder / "run-probe" / "probe.json").read_text())
    metrics = [
        {k: v for k, v in row.items() if not k.startswith(("time/", "eval/judge/"))}
        for row in read_rows(folder / "run" / "metrics.jsonl")
    ]
    records = [
        json.loads((path / "eval.json").read_text())["judging"] for path in (folder / "two",)
    ]
    compared = json.loads((folder / "compared.json").read_text())
    return [
        {name: of for name, of in probed.items() if name not in ("config", "judging")},
        metrics,
        *(read_rows(folder / name / "completions.jsonl") for name in ("run", "run/eval", "two")),
        *(json.loads((folder / n / "summary.json").read_text()) for n in ("run/eval", "two")),
        [record["agreement"] for record in records],
        [compared[name] for name in ("metrics", "criteria")],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["made up", "real"])
def test_a_judged_probe_run_evaluation_and_comparison_interrupted_twice_find_the_same(
    tmp_path: Path, server: JudgeServer, kind: str
) -> None:
    rows = MADE_UP
    if kind == "real":
        if not REAL.is_file():
            pytest.skip("the rows are not here")
        rows = sorted(read_rows(REAL), key=lambda row: len(json.dumps(row)))[:8]
    whole, broken = (
        all_numbers(tmp_path / name, rows, server, cuts)
        for name, cuts in (("whole", False), ("broken", True))
    )
    assert broken == whole
    probed, metrics, _, evaluated, *_ = whole
    assert probed["metric"] == "score"
    assert probed["contexts"][0]["num_ungraded"] == 0
    assert all("eval/score_mean" in row for row in metrics)
    assert {each for row in evaluated for each in row["explanations"]} == {"So it says."}
