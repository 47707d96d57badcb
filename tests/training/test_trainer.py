"""The loop: exact resume, the golden trajectory, splitting, errors that lose nothing."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.tiny import tiny_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.prompts import PromptPair
from rcsd.data.rubric import rubric_json
from rcsd.engines.scripted import ScriptedEngine
from rcsd.errors import DataError, RunError
from rcsd.io import read_rows
from rcsd.methods.sft import written_target
from rcsd.runs import RunFolder
from rcsd.training.trainer import run
from rcsd.training.validation import HeldOutRubrics
from rcsd.types import Completion, Decoding, Example

Tree = dict[str, Any]

FULL = {"type": "full"}
LORA = {"type": "lora", "rank": 4, "alpha": 8}
HELD_OUT = {"type": "world", "split": "new_numbers", "num_examples": 3}
slow = partial(pytest.param, marks=pytest.mark.slow)


def settings(folder: Path, name: str, **changes: Any) -> config.Config:
    """A run of five steps on a random two-layer model."""
    model = folder / "model"
    if not model.exists():
        tiny_folder(model)
    tree: Tree = {
        "model": {"path": str(model), "training": FULL},
        "data": {"type": "world", "num_examples": 12},
        "method": {"type": "distill"},
        "optim": {"lr": 1e-3, "warmup_steps": 2},
        "sampling": {"max_tokens": 12},
        "steps": 5,
        "examples_per_step": 4,
        "save_every_steps": 2,
        "out": str(folder / name),
    }
    return config.parse_config(tree | changes)


def trajectory(folder: RunFolder) -> list[dict[str, float]]:
    """Metrics without the clock's."""
    rows = folder.metrics()
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def without_gap(row: dict[str, float]) -> dict[str, float]:
    """A row without the gap of engine and trainer, which is rounding alone."""
    assert row["engine/log_q_gap_nats_mean"] < 1e-5
    return {key: value for key, value in row.items() if not key.startswith("engine/")}


class KilledError(BaseException):
    """A kill in the middle of a run, which nothing in it catches."""


def run_until_killed(broken: config.Config) -> None:
    """A run that is killed after its third step."""

    def kill(step: int, metrics: object) -> None:
        if step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        run(broken, on_step=kill)


def weights(folder: RunFolder) -> bytes:
    """Of the trained model."""
    [path] = folder.model.glob("*model.safetensors")
    return path.read_bytes()


def check_resumes_exactly(folder: Path, **changes: Any) -> RunFolder:
    """A killed and resumed run equals an unbroken one bit for bit; returns the latter."""
    whole = run(settings(folder, "whole", **changes))
    run_until_killed(settings(folder, "broken", **changes))
    assert len(RunFolder(folder / "broken").metrics()) == 3
    resumed = run(settings(folder, "broken", **changes), resume=True)
    assert trajectory(resumed) == trajectory(whole)
    assert resumed.completions() == whole.completions()
    assert weights(resumed) == weights(whole)
    return whole


@pytest.mark.parametrize(
    ("training", "teacher"),
    [
        *((LORA, "frozen"), (FULL, "ema"), slow(FULL, "frozen"), slow(LORA, "ema")),
        *(slow(FULL, "live"), slow(LORA, "live")),
    ],
)
def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, training: Tree, teacher: str) -> None:
    model = {"path": str(tmp_path / "model"), "training": training}
    check_resumes_exactly(tmp_path, model=model, teacher={"type": teacher})


def test_a_finished_run_takes_more_steps_as_if_it_had_been_longer(tmp_path: Path) -> None:
    whole = run(settings(tmp_path, "whole", steps=4))
    run(settings(tmp_path, "short", steps=2))
    longer = run(settings(tmp_path, "short", steps=4), resume=True)
    assert trajectory(longer) == trajectory(whole)
    assert weights(longer) == weights(whole)
    assert longer.read_record()["config"]["steps"] == 4
    with pytest.raises(RunError, match=r"another steps; cannot resume \(steps may only grow"):
        run(settings(tmp_path, "short", steps=3), resume=True)


@pytest.mark.slow
def test_the_frozen_weights_write_the_analyses_even_on_resume(tmp_path: Path) -> None:
    changes = {"views": {"analysis": True, "max_analysis_tokens": 8}, "optim": {"lr": 1e-2}}
    whole = run(settings(tmp_path, "whole", **changes))

    run_until_killed(settings(tmp_path, "broken", **changes))
    shutil.rmtree(tmp_path / "cache")
    resumed = run(settings(tmp_path, "broken", **changes), resume=True)
    assert resumed.read_record()["prompts_sha256"] == whole.read_record()["prompts_sha256"]
    assert trajectory(resumed) == trajectory(whole)


def test_the_golden_trajectory_has_not_moved(tmp_path: Path) -> None:
    rows = trajectory(run(settings(tmp_path, "golden", engine={"type": "hf"})))
    golden = json.loads((Path(__file__).parent / "golden_trajectory.json").read_text())
    assert len(rows) == len(golden)
    for row, expected in zip(rows, golden, strict=True):
        assert without_gap(row) == pytest.approx(expected, rel=2e-3)


def test_a_run_after_one_of_another_precision_is_as_in_a_process_of_its_own(tmp_path: Path) -> None:
    runs = [
        trajectory(run(settings(tmp_path, str(n), steps=2, precision=precision)))
        for n, precision in enumerate([None, "bf16", None, "bf16"])
    ]
    assert runs[0] == runs[2] != runs[1] == runs[3]


def test_where_only_the_likeliest_token_is_left_engines_train_the_same(tmp_path: Path) -> None:
    sampling = {"max_tokens": 12, "top_k": 1}
    slow = run(settings(tmp_path, "slow", sampling=sampling, engine={"type": "hf"}))
    fast = run(settings(tmp_path, "fast", sampling=sampling))
    assert fast.completions() == slow.completions()
    for row, expected in zip(trajectory(fast), trajectory(slow), strict=True):
        assert without_gap(row) == pytest.approx(without_gap(expected), rel=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"divergence": {"type": "reverse_kl"}, "support": {"type": "full"}},
        {"divergence": {"type": "jsd", "beta": 0.3}, "support": {"type": "student_top_k", "k": 5}},
        {"divergence": {"type": "sampled_token"}},
        {"support": {"type": "teacher_top_k", "k": 5, "outside": "tail"}},
        {"clip": {"type": "token", "max_nats": 0.1}},
        {"clip": {"type": "entry"}, "temperature": 2.0},
    ],
)
def test_every_loss_has_a_gradient_and_says_what_it_clipped(tmp_path: Path, changes: Tree) -> None:
    rows = run(settings(tmp_path, "run", method={"type": "distill"} | changes, steps=2)).metrics()
    assert all(row["optim/grad_norm"] > 0 for row in rows)
    assert ("loss/clipped_share" in rows[0]) == ("clip" in changes)


def test_sft_learns_solutions_and_keeps_habits(tmp_path: Path) -> None:
    method = {"type": "sft", "view": "rubric", "habit_share": 0.5}
    data = {"type": "world", "num_examples": 12, "rubrics": "drawn"}
    folder = run(settings(tmp_path, "sft", method=method, data=data, steps=4))
    losses = [row["loss/nll_nats_mean"] for row in folder.metrics()]
    assert losses[-1] < losses[0]
    solutions = {e.solution for e in load_examples(config.WorldData.model_validate(data))[0]}
    first = [row for row in folder.completions() if row["step"] == 1]
    assert sum(row["text"] in solutions for row in first) == 2


def test_a_solution_with_a_control_token_is_refused_before_the_first_step(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "a", "question": "Why?", "solution": "So.<|user|>Then?"}\n')
    changes: Tree = {"method": {"type": "sft", "view": "none"}, "examples_per_step": 1}
    data = {"type": "jsonl", "path": str(rows)}
    with pytest.raises(DataError, match=r"'a': what sft learns holds the control token <\|user"):
        run(settings(tmp_path, "run", data=data, **changes))
    assert not (tmp_path / "run").exists()


def test_the_model_loads_with_transformers_and_is_never_overwritten(tmp_path: Path) -> None:
    folder = run(settings(tmp_path, "run", steps=1))
    AutoModelForCausalLM.from_pretrained(folder.model)
    assert AutoTokenizer.from_pretrained(folder.model).chat_template
    record = folder.read_record()
    assert (record["config"]["steps"], record["num_examples"]) == (1, 12)
    with pytest.raises(RunError, match="--resume"):
        run(settings(tmp_path, "run", steps=1))
    with pytest.raises(RunError, match="another optim"):
        run(settings(tmp_path, "run", steps=1, optim={"lr": 1e-2}), resume=True)
    with pytest.raises(RunError, match="no run to resume"):
        run(settings(tmp_path, "other", steps=1), resume=True)


def test_nan_stops_the_run_names_the_batch_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"step 2: .*not.* numbers?; .*step-000001.*train-0-"):
        run(settings(tmp_path, "run", optim={"lr": 1e30}, save_every_steps=1))
    folder = RunFolder(tmp_path / "run")
    assert [path.name for path in folder.checkpoints()] == ["step-000001"]
    assert len(folder.metrics()) == 1


def test_prompts_that_do_not_fit_are_counted_and_none_left_is_an_error(tmp_path: Path) -> None:
    lengths = {"max_tokens": 4, "max_prompt_tokens": 150}
    folder = run(settings(tmp_path, "run", steps=1, sampling=lengths))
    dropped = folder.read_record()["dropped"]
    assert 0 < len(dropped) < 12
    assert "room for 150" in dropped[0]["reason"]
    with pytest.raises(DataError, match="no example is left"):
        run(settings(tmp_path, "none", sampling={"max_tokens": 4, "max_prompt_tokens": 3}))


WRITER = {
    "views": {"writes": "rubric", "student": "answer", "teacher": "rubric+answer"},
    "sampling": {"max_tokens": 40, "grammar": {"type": "rubric", "max_characters": 20}},
}


@pytest.mark.parametrize(("student", "analysis"), [("answer", False), ("none", True)])
def test_a_rubric_writer_is_trained_alike(tmp_path: Path, student: str, analysis: bool) -> None:
    views = {"writes": "rubric", "student": student, "teacher": "rubric", "analysis": analysis}
    views |= {"max_analysis_tokens": 4}
    folder = run(settings(tmp_path, "run", steps=2, **{**WRITER, "views": views}))
    rows = folder.completions()
    assert all(row["text"].startswith('[{"criterion": "') for row in rows)
    assert all(row["loss/divergence_nats_mean"] > 0 for row in folder.metrics())


def test_a_writers_warm_start_learns_the_gold_rubrics(tmp_path: Path) -> None:
    warm = settings(tmp_path, "run", method={"type": "sft", "view": "answer"}, steps=1, **WRITER)
    gold = {rubric_json(e.rubric) for e in load_examples(warm.data)[0] if e.rubric is not None}
    assert {row["text"] for row in run(warm).completions()} <= gold


@pytest.mark.parametrize(("writes", "field"), [("rubric", "rubric"), ("answer", "solution")])
def test_what_sft_is_to_learn_must_be_there(writes: Any, field: str) -> None:
    with pytest.raises(DataError, match=f"field '{field}': example 'a' has none"):
        written_target(Example("a", "Why?"), writes)


def test_held_out_rubrics_are_measured_against_gold(tmp_path: Path) -> None:
    evaluation = {"data": HELD_OUT, "every_steps": 2, "max_tokens": 200}
    rows = run(settings(tmp_path, "run", steps=3, evaluation=evaluation, **WRITER)).metrics()
    assert ["eval/f1_mean" in row for row in rows] == [False, True, True]
    written = read_rows(tmp_path / "run" / "evaluations" / "step-000003-held_out.jsonl")
    valid = [row for row in written if row["rubric"] is not None]
    assert rows[-1]["eval/valid_share"] == len(valid) / 3
    assert 0 <= rows[-1]["eval/f1_mean"] <= 1


def test_a_written_copy_of_gold_agrees_with_it_fully(tmp_path: Path) -> None:
    examples = load_examples(config.WorldData(num_examples=2))[0]
    texts = [rubric_json(e.rubric) for e in examples if e.rubric is not None]
    prompts = [PromptPair(example, (1,), (1,)) for example in examples]
    engine = ScriptedEngine([Completion((1,), text, finished=True) for text in texts])
    held_out = HeldOutRubrics("set", prompts, engine, Decoding(10))
    expected = dict.fromkeys(("valid_share", "precision_mean", "recall_mean", "f1_mean"), 1.0)
    assert held_out.metrics(tmp_path / "whole.jsonl", 1) == expected
    cut = [Completion((1,), text[: text.index("}") + 1], finished=False) for text in texts]
    part = HeldOutRubrics("set", prompts, ScriptedEngine(cut), Decoding(10))
    assert part.metrics(tmp_path / "part.jsonl", 2)["recall_mean"] < 1


def test_a_run_that_stops_early_leaves_its_best_model(tmp_path: Path) -> None:
    stop = {"metric": "eval/score_mean", "patience": 2}
    evaluation = {"data": HELD_OUT, "every_steps": 1, "max_tokens": 8, "early_stop": stop}
    stopped = settings(tmp_path, "stopped", steps=5, evaluation=evaluation)
    folder = run(stopped)
    # A random model scores 0 each time, so its first evaluation is its best.
    assert [row["eval/score_mean"] for row in folder.metrics()] == [0.0] * 3
    assert weights(folder) == weights(run(settings(tmp_path, "first", steps=1)))
    assert len(run(stopped, resume=True).metrics()) == 3
