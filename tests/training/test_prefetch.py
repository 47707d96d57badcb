"""Sampling the next step's completions while the present step is learned from."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny import tiny_model, tiny_tokenizer
from tests.training.test_trainer import (
    FULL,
    HELD_OUT,
    LORA,
    Tree,
    check_resumes_exactly,
    settings,
    slow,
    trajectory,
    weights,
)

from rcsd import config
from rcsd.data.load import load_examples
from rcsd.data.prompts import build_decoding, build_prompts
from rcsd.distributed import Ranks
from rcsd.engines.base import sampling_seed
from rcsd.engines.build import build_engine
from rcsd.errors import RunError
from rcsd.models.memory import batch_limit
from rcsd.models.policy import build_policy, load_policy
from rcsd.runs import RunFolder
from rcsd.training.batches import ShuffledBatches, examples_per_step
from rcsd.training.prefetch import Prefetch
from rcsd.training.trainer import run
from rcsd.types import Decoding


class AtOnce(Executor):
    """The slow sibling of a thread; its second task fails if there is an error for it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.num_tasks, self.error = 0, error

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.error and self.num_tasks == 1:
            future.set_exception(self.error)
        else:
            future.set_result(fn(*args, **kwargs))
        self.num_tasks += 1
        return future


IN_A_THREAD = "rcsd.training.trainer.ThreadPoolExecutor"
# The first step moves the weights already.
OVERLAP = {"overlap": True, "optim": {"lr": 1e-2, "warmup_steps": 0}}


def overlapping(folder: Path, name: str, **changes: Any) -> config.Config:
    return settings(folder, name, **(OVERLAP | changes))


def texts(folder: RunFolder, step: int) -> list[str]:
    """Completions of a step."""
    return [row["text"] for row in folder.completions() if row["step"] == step]


def running() -> list[str]:
    """Threads of sampling."""
    return [each.name for each in threading.enumerate() if each.name.startswith("rcsd-prefetch")]


def test_a_step_is_sampled_by_the_weights_before_the_step_before(tmp_path: Path) -> None:
    one = overlapping(tmp_path, "run", steps=4)
    folder = run(one)
    # Its weights after each step are the models of shorter runs.
    paths = [one.model.path]
    paths += [str(run(overlapping(tmp_path, f"{n}", steps=n)).model) for n in (1, 2)]
    policies = [load_policy(one.model.model_copy(update={"path": path})) for path in paths]
    prompts, _ = build_prompts(load_examples(one.data)[0], one.views, policies[0].tokenizer, 1000)
    stream = ShuffledBatches(prompts, examples_per_step(one), one.seed)
    for step, policy in enumerate([policies[0], *policies]):
        asked = [prompt.student_ids for prompt in stream.take(step)]
        seed = sampling_seed(one.seed, step)
        said = build_engine(one.engine, policy).sample(asked, build_decoding(one.sampling), seed)
        assert [completion.text for completion in said] == texts(folder, step + 1)


def test_without_overlap_the_first_step_is_the_same_and_the_second_is_not(tmp_path: Path) -> None:
    ahead = run(overlapping(tmp_path, "ahead", steps=2))
    usual = run(overlapping(tmp_path, "usual", steps=2, overlap=False))
    first, second = trajectory(ahead)
    lag = {"completion/lag_steps_mean", "completion/lag_steps_max"}
    assert {first[name] for name in lag} == {0}
    assert {second[name] for name in lag} == {1}
    assert {k: v for k, v in first.items() if k not in lag} == trajectory(usual)[0]
    assert texts(ahead, 1) == texts(usual, 1)
    assert texts(ahead, 2) != texts(usual, 2)


DROPS = LORA | {"dropout": 0.2}


@pytest.mark.parametrize(
    ("training", "teacher"),
    [(DROPS, "frozen"), slow(FULL, "ema"), slow(FULL, "live"), slow(DROPS, "live")],
)
def test_a_thread_and_a_sequence_train_the_same_model_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: Tree, teacher: str
) -> None:
    changes: Tree = {
        "model": {"path": str(tmp_path / "model"), "training": training},
        "teacher": {"type": teacher},
        "evaluation": {"data": HELD_OUT, "every_steps": 2, "max_tokens": 8},
        "method": {"type": "distill", "divergence": {"type": "reverse_kl"}},
    }
    threaded, tasks = run(overlapping(tmp_path, "fast", **changes)), AtOnce()
    monkeypatch.setattr(IN_A_THREAD, lambda *_: tasks)
    in_sequence = run(overlapping(tmp_path, "slow", **changes))
    assert tasks.num_tasks == 4
    assert trajectory(threaded) == trajectory(in_sequence)
    assert threaded.completions() == in_sequence.completions()
    assert weights(threaded) == weights(in_sequence)


@pytest.mark.parametrize(("training", "teacher"), [(LORA, "ema"), slow(FULL, "frozen")])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, training: Tree, teacher: str) -> None:
    model = {"path": str(tmp_path / "model"), "training": training}
    check_resumes_exactly(tmp_path, **OVERLAP, model=model, teacher={"type": teacher})
    assert running() == []


def test_what_is_sampled_for_nothing_is_not_counted_and_no_thread_stays(tmp_path: Path) -> None:
    budget = {"tokens": 60}  # a step has at most 48
    folder = run(overlapping(tmp_path, "spent", budget=budget))
    rows = folder.metrics()
    assert len(rows) < 5
    learned = sum(row["num_tokens"] for row in folder.completions())
    assert rows[-1]["completion/tokens_total"] == learned
    assert {row["step"] for row in folder.completions()} == set(range(1, len(rows) + 1))
    again = run(overlapping(tmp_path, "spent", budget=budget), resume=True)
    assert len(again.metrics()) == len(rows)
    assert running() == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FloatingPointError("not numbers"), r"step 3: not numbers; .* The batch: train-0-"),
        (RunError("out of memory while sampling"), "^out of memory while sampling$"),
    ],
)
def test_an_error_of_sampling_is_that_of_the_step_that_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr(IN_A_THREAD, lambda *_: AtOnce(error))
    with pytest.raises(RunError, match=said):
        run(overlapping(tmp_path, "run", save_every_steps=1))
    folder = RunFolder(tmp_path / "run")
    assert len(folder.metrics()) == len(folder.checkpoints()) == 2


BFLOAT16 = partial(torch.autocast, "cpu", torch.bfloat16)


@pytest.mark.parametrize("training", [config.FullFineTuning(), config.Lora(rank=4, alpha=8)])
@pytest.mark.parametrize("precision", [contextlib.nullcontext, BFLOAT16])
def test_what_happens_to_the_student_after_a_start_reaches_no_sample(
    training: Any, precision: Callable[[], Any]
) -> None:
    policy = build_policy(tiny_model(), tiny_tokenizer(), training)
    section, asked = config.LocalEngine(), ([[5, 3, 4], [7, 2]], Decoding(8, 1.0), 3)
    engine = build_engine(section, policy, precision)
    before = engine.sample(*asked)
    gate, thread = threading.Event(), ThreadPoolExecutor(1)
    thread.submit(gate.wait)  # what is given to the thread begins late
    ahead = Prefetch(engine, section, policy, thread, precision)
    assert ahead.sample(*asked) == before  # nothing was begun
    ahead.start(*asked)
    for parameter in policy.trainable.values():
        parameter.data += torch.randn_like(parameter)
    gate.set()
    assert ahead.sample(*asked) == before
    assert ahead.sample(*asked) == engine.sample(*asked) != before
    thread.shutdown()


def test_the_second_model_holds_no_frozen_weights_of_its_own_and_needs_no_gradient() -> None:
    policy = build_policy(tiny_model(), tiny_tokenizer(), config.Lora(rank=4, alpha=8))
    section = config.LocalEngine()
    ahead = Prefetch(build_engine(section, policy), section, policy, AtOnce())
    theirs = dict(ahead._copy.model.named_parameters())
    for name, parameter in policy.model.named_parameters():
        assert (theirs[name] is parameter) == (not parameter.requires_grad)
        assert not theirs[name].requires_grad
    assert policy.trainable


def test_batches_that_did_not_fit_ahead_are_smaller_everywhere_and_counted_once() -> None:
    ours, theirs = batch_limit(64), batch_limit(64)
    for lowered in (32, 16):
        theirs.lower(lowered)
    for value, count in ((16, 2), (8, 1)):
        ours.follow(theirs)
        assert ours.value == value
        assert ours.metrics(Ranks())["memory/sampling_out_of_memory_count"] == count
        ours.lower(8)
