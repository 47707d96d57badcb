"""Kills, full disks, damaged checkpoints: nothing that was written is lost."""

import math
import os
import pkgutil
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.launched import before, codes, on_ranks, slowly, terminate, wait_for
from tests.training.test_trainer import KilledError, settings, slow, trajectory, weights

from rcsd import config
from rcsd.data.rows import write_jsonl
from rcsd.data.world.problems import examples
from rcsd.distributed import Ranks
from rcsd.errors import RunError, UserError
from rcsd.models.checkpoint import Checkpoints, State
from rcsd.runs import RunFolder
from rcsd.training import trainer
from rcsd.training.trainer import run


def made(folder: Path, name: str, **changes: Any) -> config.Config:
    """A run that saves and evaluates after every other step."""
    evaluation = {"data": {"type": "world", "num_examples": 2}, "every_steps": 2, "max_tokens": 4}
    defaults = {"steps": 6, "optim": {"lr": 1e-2, "warmup_steps": 2}, "evaluation": evaluation}
    return settings(folder, name, **(defaults | changes))


def assert_same(found: RunFolder, expected: RunFolder) -> None:
    """Bit for bit."""
    assert trajectory(found) == trajectory(expected)
    assert found.completions() == expected.completions()
    assert weights(found) == weights(expected)
    for path in expected.path.glob("evaluations/*"):
        assert (found.path / "evaluations" / path.name).read_bytes() == path.read_bytes()
    names = sorted(path.name for path in found.path.iterdir())
    assert names == sorted(path.name for path in expected.path.iterdir())


@pytest.mark.slow
def test_a_run_that_is_killed_at_20_random_moments_trains_the_same_model_bit_for_bit(
    tmp_path: Path,
) -> None:
    changes = {"save_every_steps": 1, "teacher": {"type": "ema"}, "steps": 400}
    whole, broken = (made(tmp_path, name, **changes) for name in ("whole", "broken"))
    assert codes(on_ranks([whole])) == [0]
    rng, folder = random.Random(0), RunFolder(broken.out)
    for _ in range(20):
        [process] = on_ranks([broken], folder.record.is_file())
        if num_more := rng.randrange(4):
            wait_for(folder.path / "metrics.jsonl", f'"step": {len(folder.metrics()) + num_more},')
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        assert codes([process]) == [-signal.SIGKILL]
    assert len(folder.metrics()) > 20
    assert codes(on_ranks([broken], True)) == [0]
    assert_same(folder, RunFolder(whole.out))


@pytest.mark.parametrize(
    ("share", "error"),
    [
        *((share, KilledError()) for share in (0.0, 0.5, 0.7, 0.95)),
        *((share, OSError(28, "No space left on device")) for share in (0.2, 0.6, 0.9)),
    ],
)
def test_a_run_that_stops_before_a_change_of_the_folder_loses_nothing(
    tmp_path: Path, share: float, error: BaseException
) -> None:
    changes = {"steps": 2, "save_every_steps": 1, "keep_checkpoints": 1}
    whole, broken = (made(tmp_path, name, **changes) for name in ("whole", "broken"))
    num, last = 0, math.inf

    def count(_: int) -> None:
        nonlocal num
        num += 1
        if num >= last:  # cleaning up changes nothing either
            raise error

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir"):
            before(os, name, count, patch)
        run(whole)
        num, last = 0, 1 + int(share * num)
        with pytest.raises((KilledError, UserError, OSError)):
            run(broken)
    folder = RunFolder(broken.out)
    assert_same(run(broken, resume=folder.record.is_file()), RunFolder(whole.out))


def slowly_heeding_signals(rank: int) -> None:
    """As `slowly`, also where the tests run in the background: shells make that ignore Ctrl-C."""
    slowly(rank)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("changes", [{"overlap": True}, slow({}), slow({"save_every_steps": 1})])
def test_signals_save_what_is_done_and_the_exit_code_names_them(
    tmp_path: Path, changes: Any
) -> None:
    changes = {"steps": 20, "save_every_steps": 1000, "evaluation": None} | changes
    whole = run(made(tmp_path, "whole", **changes))
    broken = made(tmp_path, "broken", **changes)
    folder = RunFolder(broken.out)
    for num_steps, number in ((3, signal.SIGHUP), (8, signal.SIGINT)):
        [process] = on_ranks([broken], folder.record.is_file(), slowly_heeding_signals)
        wait_for(broken.out / "metrics.jsonl", f'"step": {num_steps},')
        terminate(process, number)
        assert codes([process]) == [128 + number]
        done = len(folder.metrics())
        assert done >= num_steps
        assert folder.checkpoints()[-1].name == f"step-{done:06d}"
    assert_same(run(broken, resume=True), whole)


def test_a_run_beside_one_on_the_same_folder_is_refused_and_the_rows_are_its_steps(
    tmp_path: Path,
) -> None:
    settings = made(tmp_path, "run", steps=8, evaluation=None)
    [process] = on_ranks([settings], False, slowly)
    wait_for(settings.out / "metrics.jsonl", '"step": 2,')
    (tmp_path / "link").symlink_to("run")
    for out in (settings.out, tmp_path / "link"):
        with pytest.raises(RunError, match="another process writes there"):
            run(settings.model_copy(update={"out": out}), resume=True)
    assert codes([process]) == [0]
    assert [row["step"] for row in RunFolder(settings.out).metrics()] == [*range(1, 9)]


def test_a_run_goes_on_with_files_that_were_moved_and_its_record_follows(tmp_path: Path) -> None:
    write_jsonl(examples("train", 6, 0), tmp_path / "rows.jsonl")
    data = {"type": "jsonl", "path": str(tmp_path / "rows.jsonl")}
    broken = made(tmp_path, "run", steps=2, evaluation=None, data=data)
    with pytest.MonkeyPatch.context() as patch:
        before(RunFolder, "log", lambda nth: 1 // (nth < 2), patch)
        with pytest.raises(ZeroDivisionError):
            run(broken)
    (tmp_path / "rows.jsonl").rename(tmp_path / "other.jsonl")
    (tmp_path / "model").rename(tmp_path / "base")
    model = {"path": str(tmp_path / "base"), "training": {"type": "full"}}
    data["path"] = str(tmp_path / "other.jsonl")
    moved = made(tmp_path, "run", steps=2, evaluation=None, data=data, model=model)
    assert config.config_of_run(run(moved, resume=True)).data == moved.data
    write_jsonl(examples("train", 6, 1), tmp_path / "other.jsonl")
    with pytest.raises(RunError, match=r"data_sha256, .* changed since"):
        run(moved, resume=True)


def signal_in(rank: int, name: str, nth: int) -> None:
    """The process gets SIGTERM within the n-th call of a function, and then goes on with it."""
    owner, _, method = name.rpartition(".")

    def send(call: int) -> None:
        if call == nth:
            os.kill(os.getpid(), signal.SIGTERM)

    before(pkgutil.resolve_name(owner), method, send)


PLACES = [
    ("rcsd.engines.local:LocalEngine._prefilled", 4),
    ("rcsd.models.teacher:ShadowTeacher._put", 6),  # back from the teacher's weights
    ("torch.optim:AdamW.step", 3),
    slow("rcsd.methods.rollouts:RolloutWorker.predictions", 5),
    slow("rcsd.models.teacher:ShadowTeacher._put", 5),  # to the teacher's weights
    slow("rcsd.models.teacher:ShadowTeacher.update", 3),
    slow("rcsd.training.optimizer_step:OptimizerStep.__call__", 3),
    slow("rcsd.runs:RunFolder.log", 3),
    slow("rcsd.models.checkpoint:Checkpoints.save", 1),
    slow("rcsd.training.validation:HeldOutAnswers.metrics", 1),
]


@pytest.mark.parametrize(("name", "nth"), PLACES)
def test_wherever_sigterm_comes_the_run_goes_on_bit_for_bit(
    tmp_path: Path, name: str, nth: int
) -> None:
    changes = {"teacher": {"type": "ema", "decay": 0.5}}
    whole, broken = (made(tmp_path, n, **changes) for n in ("whole", "broken"))
    processes = [*on_ranks([whole]), *on_ranks([broken], False, signal_in, name, nth)]
    assert codes(processes) == [0, 143]
    assert RunFolder(broken.out).checkpoints()
    assert codes(on_ranks([broken], True)) == [0]
    assert_same(RunFolder(broken.out), RunFolder(whole.out))


def test_the_best_weights_of_steps_that_are_taken_again_are_forgotten(tmp_path: Path) -> None:
    best = Checkpoints(tmp_path / "best", 1, Ranks())
    best.save(8, State({"weights/a": torch.zeros(1)}))
    best.save(6, State({"weights/a": torch.ones(1)}))
    assert best.steps() == [6]
    best.drop_from(6)
    assert best.load({}) is None


def test_sigterm_before_the_first_step_leaves_nothing_behind(tmp_path: Path) -> None:
    late = made(tmp_path, "run")
    [process] = on_ranks([late], False, note_start, tmp_path / "started")
    wait_for(tmp_path / "started")
    terminate(process)
    assert codes([process]) == [143]
    assert not late.out.exists()


def note_start(rank: int, started: Path) -> None:
    """Say when the process heeds signals, and take long from then on."""
    before(trainer, "load_policy", lambda _: (started.write_text(""), time.sleep(60)))


def flipped(content: bytes) -> bytes:
    """One bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:-1], None])
@pytest.mark.parametrize("name", ["state.json", "shard-00000-of-00001.safetensors"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_taken(
    tmp_path: Path, damage: Callable[[bytes], bytes] | None, name: str
) -> None:
    checkpoints = Checkpoints(tmp_path, 3, Ranks())
    for step in range(1, 6):
        checkpoints.save(step, State({"weights/a": torch.full((3,), step)}, {"lr": step / 3}))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-000003", "step-000004", "step-000005"]  # the newest, and nothing else
    newest = checkpoints.path(5) / name
    if damage is None:
        newest.unlink()
    else:
        newest.write_bytes(damage(newest.read_bytes()))
    warnings: list[str] = []
    loaded = checkpoints.load({}, warnings.append)
    assert loaded is not None
    assert (loaded[0], loaded[1].values) == (4, {"lr": 4 / 3})
    torch.testing.assert_close(loaded[1].tensors["weights/a"], torch.full((3,), 4))
    [warning] = warnings
    assert "step-000005 is damaged" in warning
    assert (tmp_path / "damaged-step-000005").is_dir()


def test_where_all_checkpoints_are_damaged_the_error_says_what_to_do(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 3, Ranks())
    for step in (1, 2):
        checkpoints.save(step, State())
        (checkpoints.path(step) / "state.json").write_text("{")
    with pytest.raises(RunError, match="To begin again with the first step, delete that folder"):
        checkpoints.load({})
    assert checkpoints.steps() == [1, 2]


def test_a_checkpoint_is_safetensors_and_json_alone(tmp_path: Path) -> None:
    folder = run(made(tmp_path, "run", steps=2, evaluation=None))
    kinds = {path.suffix for path in folder.path.rglob("*") if path.is_file()}
    assert kinds == {".json", ".jsonl", ".safetensors", ".jinja", ".md"}


def test_what_cannot_be_saved_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(tmp_path, 2, Ranks())
    checkpoints.save(1, State())
    monkeypatch.setattr("rcsd.models.checkpoint.save_file", full)
    with pytest.raises(RunError, match=r"No space left on device; the last .* is .*step-000001"):
        checkpoints.save(2, State())
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
