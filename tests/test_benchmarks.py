"""Each benchmark runs in its smallest form, and what it writes is consistent."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = ["--model", "micro", "--teacher-prefix", "24", "--student-prefix", "8", "--quick"]
SMALL += ["--completion-tokens", "4", "--completions", "2", "--analysis-tokens", "4"]


def record_of(folder: Path, script: str, *words: str) -> dict[str, Any]:
    command = [sys.executable, FOLDER / script, *words, "--json", folder / "record.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((folder / "record.json").read_text("utf-8"))
    assert record["benchmark"] == script.removesuffix(".py")
    assert record["hardware"]["cores"] >= 1
    assert record["versions"]["torch"]
    return record


@pytest.mark.slow
def test_a_step_is_compared_with_trls_and_the_released_codes(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="trl needs Python 3.11 or newer")
    record = record_of(tmp_path, "step.py", *SMALL)
    assert {"trl", "published"} == set(record["ratios"])
    for name, contestant in record["contestants"].items():
        seconds = contestant["medians"]
        phases = ("analysis", "sampling", "teacher", "student", "optimizer")
        parts = sum(seconds.get(f"{phase}_seconds", 0.0) for phase in phases)
        assert 0 < parts <= seconds["step_seconds"] * 1.01
        # 2 completions of 4 tokens.
        assert contestant["tokens_per_second"] == pytest.approx(8 / seconds["step_seconds"])
        assert record["limit"]["fractions"][name]
    published = record["ratios"]["published"]
    assert published["step"] > published["step_without_analysis"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words", "key", "num"),
    [
        ("scaling.py", ["--quick", "--grow", "completions,top_k"], "growth", 2),
        ("loss.py", ["--quick"], "results", 2),
        ("linear.py", ["--repetitions", "2"], "median_seconds", 12),
    ],
)
def test_a_benchmark_measures_all_of_its_cases(
    tmp_path: Path, script: str, words: list[str], key: str, num: int
) -> None:
    assert len(record_of(tmp_path, script, *words)[key]) == num


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file of the folder, found as when a script of the folder runs."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


@pytest.mark.parametrize("name", ["ours", "published"])
def test_phases_add_up_to_a_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = imported("worker", monkeypatch)
    work = worker.Work("micro", 12, 4, 1, 2, 3, 5, 2, 4)
    choice = [] if name == "ours" else {"gradient_checkpointing": False}
    [step] = worker.done(worker.Job(name, work, choice, num_steps=1))["steps"]
    total = step.pop("step_seconds")
    assert all(seconds > 0 for seconds in step.values())
    assert 0.5 * total < sum(step.values()) <= total


def test_losses_that_are_compared_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = imported("loss", monkeypatch)
    given = loss.inputs(num=6, hidden=4, vocabulary=50)
    for losses in loss.contestants(k=5).values():
        loss.check_agreement(losses, given)
        wrong = {"plain": losses["plain"], "twice": lambda *g, right=losses["plain"]: 2 * right(*g)}
        with pytest.raises(ValueError, match="twice: loss"):
            loss.check_agreement(wrong, given)


def test_operations_that_must_be_done_are_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, workload = (imported(name, monkeypatch) for name in ("limits", "workload"))
    # 1 example, prompts of 3 and 2 tokens, 2 completions of 2 tokens, support 2.
    work = workload.Work("micro", 3, 2, 1, 2, 2, 2, 0, 1)
    counts = {"body": 100, "adapters": 10, "head": 50, "hidden": 5}
    shape = limits.Shape(**counts, layers=1, query_width=4, key_width=2)
    # Pairs: the teacher's prompt 1 + 2 + 3, each completion 4 + 5; the student's 1 + 2 and 3 + 4.
    assert limits.teacher_flops(work, shape) == 2 * 100 * 7 + 16 * (6 + 2 * 9) + 2 * 50 * 4
    assert limits.student_flops(work, shape) == (
        2 * 110 * 6 + (2 * 100 + 4 * 10) * 6 + 3 * 16 * (3 + 2 * 7) + 4 * 2 * 5 * 4
    )
    shape, config = limits.shape_of(work), workload.config_of("micro")
    assert shape.head == config.vocab_size * config.hidden_size
    weights = list(workload.model_and_tokenizer("micro")[0].parameters())
    norms = sum(p.numel() for p in weights if p.ndim == 1)
    assert shape.body == sum(p.numel() for p in weights) - shape.head - norms


def test_memory_is_what_was_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def two_at_once() -> None:
        first = torch.empty(2**18)  # a MiB
        _ = first + 1
        del first
        torch.empty(2**18)

    peak = imported("measuring", monkeypatch).allocated_peak_mib
    assert peak(two_at_once, torch.device("cpu")) == pytest.approx(2, abs=0.01)
