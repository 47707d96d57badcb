"""Runs of several processes: the same as one process, and none hangs when another fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load
from tests.methods.test_grpo import GRPO
from tests.support.launched import SERVER, before, codes, on_ranks, slowly, terminate, wait_for
from tests.training.test_trainer import FULL, LORA, Tree, settings, slow, trajectory, weights
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from rcsd import config
from rcsd.distributed import Ranks, end_with_parent
from rcsd.engines.local import LocalEngine
from rcsd.errors import ConfigError, RunError
from rcsd.runs import RunFolder
from rcsd.training import launch as launching
from rcsd.training.launch import build_accelerator, launch, refuse_other_sharding
from rcsd.training.trainer import run

FSDP = {"processes": {"sharding": "fsdp"}}
ON_HEAD = LORA | {"target_modules": ["q_proj", "lm_head"]}
SRPO = {"type": "srpo", "reward": GRPO | {"updates_per_batch": 2}}
TWICE = {"updates_per_batch": 2, "kl_weight": 0.1}
ANALYSIS = {"views": {"analysis": True, "max_analysis_tokens": 8}}
EMA = {"teacher": {"type": "ema", "decay": 0.9}}
EVALUATION = {"data": {"type": "world", "num_examples": 3}, "every_steps": 2, "max_tokens": 8}


def made(folder: Path, name: str, training: Tree, **changes: Any) -> config.Config:
    """A run whose first step moves the weights already, and rounding alone moves none."""
    model = {"path": str(folder / "model"), "training": training}
    optim = {"lr": 1e-2, "warmup_steps": 0, "eps": 1e-4}
    return settings(folder, name, **({"model": model, "optim": optim, "steps": 4} | changes))


def assert_same(found: RunFolder, expected: RunFolder) -> None:
    """Completions to the letter, all metrics and weights but for the rounding of sums."""
    rows, other_rows = (
        [{k: v for k, v in row.items() if k != "reward"} for row in folder.completions()]
        for folder in (found, expected)
    )
    assert rows == other_rows
    for row, other in zip(trajectory(found), trajectory(expected), strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-5)
    torch.testing.assert_close(*(load(weights(f)) for f in (found, expected)), rtol=1e-5, atol=1e-5)


CASES = [
    (FULL, EMA | {"evaluation": EVALUATION, "examples_per_step": 5}),
    (LORA, FSDP | {"evaluation": EVALUATION, "max_tokens_per_microbatch": 300}),
    slow(FULL, {"examples_per_step": 1}),  # one process has nothing to do
    slow(LORA, {"method": GRPO | TWICE}),
    slow(FULL, {"method": {"type": "sft", "habit_share": 0.5, "view": "none"}}),
    slow(LORA, {"method": {"type": "criterion"}, "max_tokens_per_microbatch": 1}),
    slow(LORA, {"overlap": True}),
    slow(LORA, ANALYSIS),
    slow(FULL, FSDP | EMA | {"method": {"type": "distill", "support": {"type": "full"}}}),
    slow(LORA, FSDP | {"method": GRPO | TWICE}),
    slow(FULL, FSDP | {"examples_per_step": 1}),
    slow(LORA, FSDP | ANALYSIS),
    slow(ON_HEAD, FSDP | {"method": GRPO | {"kl_weight": 0.1}}),
    slow(LORA, FSDP | {"method": SRPO, "max_tokens_per_microbatch": 1, "examples_per_step": 3}),
    slow(LORA, FSDP | EMA | {"model_changes": {"activation_checkpointing": True}}),
]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize(("training", "changes"), CASES)
def test_two_processes_train_what_one_trains(tmp_path: Path, training: Tree, changes: Tree) -> None:
    if changes.get("method", {}).get("type") in ("grpo", "srpo"):
        changes = changes | {"completions_per_example": 2}
    more = changes.pop("model_changes", {})
    model = {"model": {"path": str(tmp_path / "model"), "training": training} | more}
    one, two = (made(tmp_path, name, training, **model | changes) for name in ("one", "two"))
    alone = run(one.model_copy(update={"processes": config.Processes()}))
    assert codes(on_ranks([two, two])) == [0, 0]
    assert_same(RunFolder(two.out), alone)


@pytest.mark.parametrize("changes", [{}, slow(FSDP)])
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path, changes: Tree) -> None:
    whole = run(made(tmp_path, "whole", FULL, **EMA))
    two = made(tmp_path, "run", FULL, **EMA, **changes)
    assert codes(on_ranks([two, two], False, stop_after, 2)) == [1, 1]
    assert len(RunFolder(two.out).metrics()) == 2
    one = two.model_copy(update={"processes": config.Processes()})
    assert_same(run(one, resume=True), whole)


def stop_after(rank: int, num_steps: int) -> None:
    """The run ends with an error after so many logged steps."""
    before(RunFolder, "log", lambda nth: 1 // (nth <= num_steps))


def fail_in_sampling(rank: int, failing: int, errors: Path) -> None:
    """One rank cannot sample in its second step; every rank notes how it ended."""
    keep_errors(rank, errors)

    def fail(nth: int) -> None:
        if rank == failing and nth == 2:
            raise FloatingPointError("next-token probabilities are not numbers")

    before(LocalEngine, "sample", fail)


def keep_errors(rank: int, errors: Path) -> None:
    """What ends a rank goes into a file."""
    original, depth = Ranks.all_gather_results, [0]

    def noting(self: Ranks, *args: Any, **kwargs: Any) -> Any:
        depth[0] += 1
        try:
            return original(self, *args, **kwargs)
        except BaseException as error:
            if depth[0] == 1:
                told = f"{type(error).__name__}: {error}"
                errors.with_name(f"{errors.name}-{rank}").write_text(told)
            raise
        finally:
            depth[0] -= 1

    pytest.MonkeyPatch().setattr(Ranks, "all_gather_results", noting)


@pytest.mark.parametrize("changes", [{}, slow(FSDP)])
def test_when_one_process_fails_the_other_says_why(tmp_path: Path, changes: Tree) -> None:
    one = made(tmp_path, "run", LORA, **changes)
    processes = on_ranks([one, one], False, fail_in_sampling, 1, tmp_path / "error")
    assert codes(processes) == [1, 1]
    assert "step 2: next-token probabilities are not" in (tmp_path / "error-1").read_text()
    told = (tmp_path / "error-0").read_text()
    assert told.startswith("OtherRankError: process 1 failed")
    assert "probabilities are not numbers" in told
    assert len(RunFolder(one.out).metrics()) == 1


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_with_an_error(tmp_path: Path) -> None:
    one = made(tmp_path, "run", LORA, steps=10_000, save_every_steps=1)
    processes = on_ranks([one, one], False, keep_errors, tmp_path / "error")
    wait_for(one.out / "metrics.jsonl", '"step": 2')
    processes[1].kill()
    assert codes(processes) == [1, -9]
    assert "another process does not answer" in (tmp_path / "error-0").read_text()


def test_processes_that_read_other_data_are_told_apart(tmp_path: Path) -> None:
    one = made(tmp_path, "run", LORA)
    other = one.model_copy(update={"data": config.WorldData(num_examples=13)})
    assert codes(on_ranks([one, other], False, keep_errors, tmp_path / "error")) == [1, 1]
    assert "data: processes 0 and 1 have different ones" in (tmp_path / "error-0").read_text()
    assert not one.out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, FSDP])
def test_sigterm_to_one_process_ends_all_with_a_checkpoint(tmp_path: Path, changes: Tree) -> None:
    whole, one = (
        made(tmp_path, name, LORA, steps=15, save_every_steps=1000, **changes)
        for name in ("whole", "run")
    )
    assert codes(on_ranks([whole, whole])) == [0, 0]
    processes = on_ranks([one, one], False, slowly)
    wait_for(one.out / "metrics.jsonl", '"step": 3')
    terminate(processes[1])
    assert codes(processes) == [143, 143]
    folder = RunFolder(one.out)
    num_steps = len(folder.metrics())
    assert [path.name for path in folder.checkpoints()] == [f"step-{num_steps:06d}"]
    assert codes(on_ranks([one, one], True)) == [0, 0]
    assert trajectory(folder) == trajectory(RunFolder(whole.out))
    assert_same(folder, RunFolder(whole.out))


def test_shares_are_consecutive_whole_and_even() -> None:
    for num in (1, 2, 3, 8):
        shares = [Ranks(rank, num).share(10) for rank in range(num)]
        assert [index for share in shares for index in range(10)[share]] == list(range(10))
        sizes = [share.stop - share.start for share in shares]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_what_a_launcher_or_one_process_shards_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match=r"processes\.sharding: fsdp"):
        refuse_other_sharding(DistributedType(kind))
    refuse_other_sharding(DistributedType.MULTI_GPU)
    with pytest.raises(ConfigError, match="shards weights among processes, and there is one"):
        build_accelerator(made(tmp_path, "run", LORA, **FSDP))


@pytest.mark.slow
def test_the_command_line_starts_processes_and_gives_back_their_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(made(tmp_path, "run", LORA).model_dump(mode="json")))
    command = [sys.executable, "-m", "rcsd", "train", str(file), "--processes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Model: ") == 1
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert again.stderr.count("error:") == 1
    assert "exists; go on with --resume" in again.stderr


@pytest.mark.parametrize(
    ("exit_codes", "expected"), [([2, -6], 2), ([-6, 2], 2), ([143, 143], 143), ([0, 3], 3)]
)
def test_a_process_that_says_what_is_wrong_comes_before_one_that_was_killed(
    exit_codes: list[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = {n: ProcessFailure(n, 9, code, "") for n, code in enumerate(exit_codes) if code}

    def run(options: Any) -> None:
        assert options.log_dir == os.devnull  # nothing is left in the folder of temporary files
        assert os.environ["RCSD_LAUNCHER"] == str(os.getpid())
        raise ChildFailedError("rcsd", failures)

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which it would set
    monkeypatch.setattr(launching, "run", run)
    assert launch(2, ["train", "run.yaml"]) == expected
    failures = {1: ProcessFailure(1, 9, -9, "")}
    with pytest.raises(
        RunError, match=r"process 1 was ended by signal 9 \(SIGKILL\), probably for"
    ):
        launch(2, ["train", "run.yaml"])
    failures = {1: ProcessFailure(1, 9, -11, "")}
    with pytest.raises(RunError, match=r"by signal 11 \(SIGSEGV\); go on with --resume"):
        launch(2, ["train", "run.yaml"])
    assert "RCSD_LAUNCHER" not in os.environ


def have_child(path: Path) -> None:
    """A child that sleeps, and ends with this process."""
    parent = os.getpid()
    if os.fork() == 0:
        end_with_parent(parent)
        path.write_text(f"{os.getpid()} ")
    time.sleep(600)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_ends_with_its_parent(tmp_path: Path, number: int) -> None:
    parent = SERVER.Process(target=have_child, args=(tmp_path / "child",))
    parent.start()
    wait_for(tmp_path / "child", " ")
    [child] = psutil.Process(parent.pid).children()
    terminate(parent, number)
    assert codes([parent]) == [-number]
    assert psutil.wait_procs([child], timeout=20)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "which", "code"), [("KILL", 0, -9), ("TERM", 0, 143), ("HUP", 0, 129), ("KILL", 1, 2)]
)
def test_a_launcher_takes_its_ranks_with_it_and_leaves_no_temporary_folder(
    tmp_path: Path, name: str, which: int, code: int
) -> None:
    file, temporary = tmp_path / "run.yaml", tmp_path / "temporary"
    temporary.mkdir()
    run = made(tmp_path, "run", LORA, steps=10_000)
    file.write_text(json.dumps(run.model_dump(mode="json")))
    command = [sys.executable, "-m", "rcsd", "train", str(file), "--processes", "2"]
    env = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    launcher = subprocess.Popen(
        command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(run.out / "metrics.jsonl", '"step": 2,')
    here = psutil.Process(launcher.pid)
    ranks = here.children(recursive=True)
    [here, *ranks][which].send_signal(signal.Signals[f"SIG{name}"])
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == code
    assert psutil.wait_procs(ranks, timeout=20)[1] == []
    assert list(temporary.iterdir()) == []
    if which:
        assert "was ended by signal 9 (SIGKILL), probably for want of memory" in said
