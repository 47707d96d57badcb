"""Runs that have not ended: what is evaluated and exported, and on which day; full disks."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.tiny import quietly, tiny_folder
from tests.training.test_trainer import (
    FULL,
    LORA,
    KilledError,
    Tree,
    run_until_killed,
    settings,
    trajectory,
    weights,
)

from rcsd import config
from rcsd.config.base import parse
from rcsd.errors import RunError
from rcsd.evaluation.record import read_record
from rcsd.evaluation.run import run_eval
from rcsd.evaluation.targets import build_eval_config
from rcsd.models import save
from rcsd.models.save import load_trained
from rcsd.runs import RunFolder
from rcsd.training import trainer
from rcsd.training.trainer import run

SET = "data.own={type: world, split: new_numbers, num_examples: 1}"


@pytest.mark.parametrize("training", [LORA, FULL])
def test_a_run_that_has_not_ended_is_taken_by_its_newest_undamaged_checkpoint(
    tmp_path: Path, training: Tree, rcsd: Any
) -> None:
    model = {"path": tiny_folder(tmp_path / "model"), "training": training}
    changes = {"model": model, "save_every_steps": 1}
    short = run(settings(tmp_path, "short", steps=2, **changes))
    broken = settings(tmp_path, "broken", **changes)
    run_until_killed(broken)
    folder = RunFolder(broken.out)
    [newest] = (folder.path / "checkpoints/step-000003").glob("*.safetensors")
    newest.write_bytes(newest.read_bytes()[:-1])
    trained, ended = (load_trained(config.Model(path=str(of.path))) for of in (folder, short))
    assert (trained.step, ended.step) == (2, None)
    assert trained.policy.weights_sha256 == ended.policy.weights_sha256
    assert newest.is_file()  # the run may go on meanwhile

    code, out, _ = rcsd("eval", folder.path, SET, "max_tokens=2")
    assert (code, "not ended: this is its checkpoint of step 2." in out) == (0, True)
    record = read_record(folder.path / "eval")
    assert record.model.step == record.settings["checkpoint"] == 2  # `compare` says what differs
    code, out, _ = rcsd("export", folder.path, "--out", tmp_path / "exported")
    assert (code, "not ended: this is its checkpoint of step 2." in out) == (0, True)
    assert "for 2 steps" in (tmp_path / "exported" / "README.md").read_text()
    merged = load_trained(config.Model(path=str(tmp_path / "exported"))).policy
    assert merged.weights_sha256 == ended.policy.weights_sha256

    run(broken, resume=True, on_warning=lambda text: None)
    assert load_trained(config.Model(path=str(folder.path))).step is None


def test_a_finished_run_that_goes_on_has_not_ended(tmp_path: Path) -> None:
    changes = {"save_every_steps": 1}
    ended = run(settings(tmp_path, "run", steps=2, **changes))
    assert ended.has_ended

    def kill(step: int, metrics: object) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        run(settings(tmp_path, "run", steps=4, **changes), resume=True, on_step=kill)
    assert not ended.has_ended
    assert load_trained(config.Model(path=str(ended.path))).step == 3


def test_a_run_without_checkpoint_is_refused_with_what_to_do(tmp_path: Path, rcsd: Any) -> None:
    tree = settings(tmp_path, "run").model_dump(mode="json")
    folder = RunFolder(tmp_path / "run")
    folder.create({"config": tree})
    for words in (["eval", folder.path, SET], ["export", folder.path, "--out", tmp_path / "out"]):
        code, _, err = rcsd(*words)
        assert code == 2
        assert "has no model and no checkpoint yet; go on with --resume" in err
    assert not (tmp_path / "out").exists()


def full(save: Callable[..., None]) -> Callable[..., None]:
    """A disk on which half a model has room."""

    def fails(policy: Any, folder: Path, *more: Any) -> None:
        save(policy, folder, *more)
        (folder / "README.md").unlink()
        raise OSError(28, "No space left on device")

    return fails


def test_a_model_that_does_not_fit_on_the_disk_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rcsd: Any
) -> None:
    model = {"path": tiny_folder(tmp_path / "model"), "training": LORA}
    whole = run(settings(tmp_path, "whole", model=model))
    one, said = settings(tmp_path, "run", model=model), "cannot be written: No space left on device"
    names = {path.name for path in whole.path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_model", full(trainer.save_model))
        for resume in (False, True):
            with pytest.raises(RunError, match=f"model {said}.* go on with --resume"):
                run(one, resume)
            assert {path.name for path in one.out.iterdir()} == names - {"model"}
        patch.setattr(save, "save_model", full(save.save_model))
        code, _, err = rcsd("export", whole.path, "--out", tmp_path / "out")
        assert (code, said in err) == (2, True)
        assert not [path for path in tmp_path.iterdir() if "out" in path.name]
    assert weights(run(one, resume=True)) == weights(whole)
    assert rcsd("export", whole.path, "--out", tmp_path / "out")[0] == 0


# The day that a chat template prints


@pytest.fixture
def on_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the day of a November; the model's template prints it."""
    tiny_folder(tmp_path / "model")
    template = tmp_path / "model" / "chat_template.jinja"
    today = "{{ 'Today: ' ~ strftime_now('%-d %b %Y') ~ '\\n' }}"
    template.write_text(today + template.read_text())

    def set_day(day: int) -> None:
        date = datetime.date(2026, 11, day)
        clock = SimpleNamespace(date=SimpleNamespace(today=lambda: date))
        monkeypatch.setattr("rcsd.config.model.datetime", clock)

    set_day(1)
    return set_day


def test_a_run_goes_on_and_is_evaluated_on_the_day_on_which_it_began(
    tmp_path: Path, on_day: Callable[[int], None]
) -> None:
    whole = run(settings(tmp_path, "whole"))
    run_until_killed(settings(tmp_path, "run"))
    on_day(2)
    resumed = run(settings(tmp_path, "run"), resume=True)
    assert trajectory(resumed) == trajectory(whole)
    assert resumed.read_record()["config"]["model"]["date"] == "2026-11-01"
    chat_template = (resumed.model / "chat_template.jinja").read_text()
    assert chat_template == (tmp_path / "model" / "chat_template.jinja").read_text()
    other = run(settings(tmp_path, "other"))
    assert other.read_record()["prompts_sha256"] != whole.read_record()["prompts_sha256"]
    hashes = {}
    for target, day in (("run", 1), ("other", 2), ("model", 2)):
        words = [SET, "max_tokens=2", f"out={tmp_path / target}-eval"]
        run_eval(build_eval_config(str(tmp_path / target), words), quietly)
        record = read_record(tmp_path / f"{target}-eval")
        assert record.config.model.date == datetime.date(2026, 11, day)
        hashes[target] = record.sets["own"].greedy[0].prompt_sha256
    assert hashes["run"] != hashes["other"] == hashes["model"]


def test_an_evaluation_that_was_cut_off_goes_on_on_its_day(
    tmp_path: Path, on_day: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [SET, "max_tokens=2", f"out={tmp_path / 'eval'}"]
    one = build_eval_config(str(tmp_path / "model"), words)

    def kill(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("rcsd.evaluation.run.write_record", kill)
        with pytest.raises(KilledError):
            run_eval(one, quietly)
    on_day(2)
    run_eval(one, quietly)
    assert read_record(tmp_path / "eval").config.model.date == datetime.date(2026, 11, 1)


def test_a_day_is_recorded_where_it_is_printed_alone(tmp_path: Path) -> None:
    folder = run(settings(tmp_path, "run", steps=1))
    assert folder.read_record()["config"]["model"]["date"] is None
    tree = {"path": "x", "date": datetime.date(2026, 11, 1)}  # as YAML has it
    section = parse(config.Model, tree, "test")
    assert json.loads(section.model_dump_json())["date"] == "2026-11-01"
