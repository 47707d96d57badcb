"""Memory that runs out: smaller micro-batches, the same outcome; checkpoints."""

import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tests.methods.test_grpo import asked
from tests.methods.test_on_policy import distill, student
from tests.support.tiny import tiny_model, tiny_tokenizer
from tests.training.test_trainer import FULL, LORA, run_until_killed, settings, trajectory
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from rcsd import config
from rcsd.distributed import Ranks
from rcsd.engines.hf import HfEngine
from rcsd.errors import ModelError, RunError
from rcsd.methods.base import Batch
from rcsd.methods.on_policy import OnPolicy
from rcsd.models.memory import TensorBytes, in_microbatches, microbatch_limit
from rcsd.models.policy import Policy, build_policy, checkpoint_activations
from rcsd.models.scorer import Scorer
from rcsd.training.optimizer_step import OptimizerStep
from rcsd.training.trainer import run
from rcsd.types import Completion, Decoding, Example, Rollout


@contextlib.contextmanager
def room_for(
    fits: Callable[[nn.Module, Tensor], bool], kind: type[nn.Module] = nn.Embedding
) -> Iterator[list[int]]:
    """Memory runs out after modules of a kind on what does not fit; gives the sizes that did not.

    Those of the embedding are token ids, [rows, tokens]; activations have a third axis.
    """
    failed: list[int] = []

    def refuse(module: nn.Module, args: Any, output: object) -> None:
        if isinstance(module, kind) and not fits(module, args[0]):
            failed.append(args[0].numel())
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    hook = register_module_forward_hook(refuse)
    try:
        yield failed
    finally:
        hook.remove()


def learns(num_tokens: int) -> Callable[[nn.Module, Tensor], bool]:
    """Room for a student's pass over so many tokens."""
    return lambda module, ids: (
        not torch.is_grad_enabled() or ids.shape[0] * ids.shape[1] <= num_tokens
    )


# Micro-batches that do not fit


@pytest.mark.parametrize("training", [FULL, LORA | {"dropout": 0.2}])
def test_a_run_out_of_memory_goes_on_as_one_that_began_with_smaller_parts(
    tmp_path: Path, training: dict[str, Any]
) -> None:
    changes = {"model": {"path": str(tmp_path / "model"), "training": training}, "steps": 3}
    # After a dropout, so that the pass that fails has drawn random numbers.
    kind = nn.Dropout if "dropout" in training else nn.Embedding
    with room_for(learns(50), kind) as failed:
        split = run(settings(tmp_path, "split", **changes))
    first, *later = split.metrics()
    assert first["memory/out_of_memory_count"] == len(failed) > 0
    assert not any("memory/max_tokens_per_microbatch" in row for row in later)
    tokens = int(first["memory/max_tokens_per_microbatch"])
    small = run(settings(tmp_path, "small", max_tokens_per_microbatch=tokens, **changes))
    without = [
        {k: v for k, v in row.items() if not k.startswith("memory/")} for row in trajectory(split)
    ]
    assert without == trajectory(small)


def test_memory_that_runs_out_in_the_teachers_pass_or_in_sampling_ends_no_run(
    tmp_path: Path,
) -> None:
    def fits(module: nn.Module, ids: Tensor) -> bool:
        # A packed row of all teachers' prompts is too long, and a batch of prompts too wide; the
        # few tokens on which a model is tried when it is loaded are neither.
        is_wide = len(ids) > 2 and ids.numel() > 30
        return torch.is_grad_enabled() or (ids.shape[1] <= 300 and not is_wide)

    with room_for(fits) as failed:
        whole = run(settings(tmp_path, "whole"))
        run_until_killed(settings(tmp_path, "broken"))
        num_failed = len(failed)
        resumed = run(settings(tmp_path, "broken"), resume=True)
    first = whole.metrics()[0]
    assert first["memory/sampling_batch_size"] == 2
    assert first["memory/sampling_out_of_memory_count"] == 1
    assert first["memory/out_of_memory_count"] >= 1
    assert trajectory(resumed) == trajectory(whole)
    assert resumed.completions() == whole.completions()
    assert len(failed) == num_failed


def test_a_single_completion_that_does_not_fit_is_an_error_that_says_what_helps(
    tmp_path: Path,
) -> None:
    said = r"single completion.*'train-0-.*\d+ tokens after.*max_tokens.*activation_checkpointing"
    with room_for(learns(10)), pytest.raises(RunError, match=said):
        run(settings(tmp_path, "run"))


def build_optimizer_step(policy: Policy, max_tokens_per_microbatch: int) -> OptimizerStep:
    optimizer = torch.optim.SGD(policy.trainable.values(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    limit = microbatch_limit(max_tokens_per_microbatch)
    return OptimizerStep(Accelerator(), policy, optimizer, schedule, None, limit, Ranks())


def test_a_pass_that_fails_half_way_leaves_no_gradient() -> None:
    def learned(tokens: int, fails: bool = False) -> tuple[Any, ...]:
        one = student()
        method = OnPolicy(one, [(1.0, distill(one))])
        step = build_optimizer_step(one.policy, tokens)
        batch = method.collect(asked("a", "b"), 0)

        def fits(module: nn.Module, ids: Tensor) -> bool:
            has_learned = any(p.grad is not None for p in one.policy.trainable.values())
            return not fails or bool(failed) or not has_learned

        with room_for(fits) as failed:
            metrics = step(method, batch)
        assert len(failed) == fails
        return metrics, one.policy.model.state_dict(), step.max_tokens_per_microbatch

    metrics, weights, limit = learned(30, fails=True)
    assert limit.metrics(Ranks())["memory/out_of_memory_count"] == 1
    expected, weights_expected, _ = learned(limit.value)
    assert metrics == expected
    for name, value in weights.items():
        assert torch.equal(value, weights_expected[name])


def rollouts(*lengths: int) -> list[Rollout]:
    said = [Completion((1,) * length, "", True) for length in lengths]
    return [Rollout(Example(str(n), "q"), (1,), (1,), c) for n, c in enumerate(said)]


WANT = [torch.OutOfMemoryError(), MemoryError(), RuntimeError("could not create a primitive")]


@pytest.mark.parametrize("error", WANT, ids=repr)
def test_the_limit_is_halved_until_the_failed_part_is_divided_and_failures_count_once(
    error: Exception,
) -> None:
    batch, limit = Batch(rollouts(*[9] * 8)), microbatch_limit(4000)
    begun: list[int] = []

    def visit(microbatch: list[Rollout]) -> int:
        if len(microbatch) > 3:
            raise error
        return len(microbatch)

    found = in_microbatches(batch.split, limit, visit, lambda: begun.append(limit.value))
    assert found == [3, 3, 2]
    assert begun == [4000, 125, 62]  # 8 rows of 20 tokens, 6 of them, 3 of them
    names = "memory/max_tokens_per_microbatch", "memory/out_of_memory_count"
    assert limit.metrics(Ranks()) == dict(zip(names, (62, 2), strict=True))
    assert limit.metrics(Ranks()) == {}


def test_nothing_of_a_failed_pass_is_alive_when_it_is_tried_again() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def visit(microbatch: list[Rollout]) -> None:
        activations = torch.ones(3)
        alive.append(weakref.ref(activations))
        if len(microbatch) > 1:
            raise torch.OutOfMemoryError
        assert all(reference() is None for reference in alive[:-1])

    in_microbatches(Batch(rollouts(3, 3)).split, microbatch_limit(100), visit)
    assert len(alive) == 3


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    def visit(microbatch: list[Rollout]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        in_microbatches(Batch(rollouts(3, 3)).split, microbatch_limit(100), visit)


# Batches that do not fit


def test_batches_that_do_not_fit_are_halved_and_sampled_with_the_same_seed() -> None:
    prompts = [[5, 6, 7], [8], [5, 6, 7], [9, 10], [11]]

    def sampled(engine: HfEngine) -> list[Completion]:
        return engine.sample(prompts, Decoding(6, temperature=1.0), seed=3)

    policy = build_policy(tiny_model(), tiny_tokenizer(), config.FullFineTuning())
    engine = HfEngine(policy, 64)
    with room_for(lambda _, ids: len(ids) <= 1):
        found = sampled(engine)
    assert engine.batch_size.metrics(Ranks()) == {
        "memory/sampling_batch_size": 1,
        "memory/sampling_out_of_memory_count": 2,
    }
    assert found == sampled(HfEngine(policy, 1)) == sampled(engine)
    assert engine.batch_size.metrics(Ranks()) == {}
    said = "up to 6 tokens after a single prompt of up to 3; lower sampling.max_tokens"
    with room_for(lambda _, ids: False), pytest.raises(RunError, match=said):
        sampled(HfEngine(policy, 4))


# What is held


def test_views_and_what_was_there_before_hold_nothing() -> None:
    before = torch.ones(1000)

    def work() -> None:
        before.view(10, 100).add_(1)
        made = torch.zeros(100)
        assert made.reshape(10, 10)[2:].sum() == 0
        del made
        torch.zeros(50)

    with TensorBytes() as held:
        work()
    assert 400 <= held.peak <= 420


# Activation checkpointing


def gradient(training: dict[str, Any], checkpointing: bool) -> tuple[dict[str, Tensor], int]:
    """Of a step's loss, and the bytes at its peak."""
    lora = config.Lora.model_validate(training) if training["type"] == "lora" else None
    torch.manual_seed(0)
    policy = build_policy(tiny_model(), tiny_tokenizer(), lora or config.FullFineTuning())
    if checkpointing:
        checkpoint_activations(policy)
    one = student(policy=policy, scorer=Scorer(policy.model))
    method = OnPolicy(one, [(1.0, distill(one))])
    batch = method.collect(asked("a", "b"), 0)
    torch.manual_seed(0)
    microbatch = [
        dataclasses.replace(rollout, student_ids=rollout.student_ids * 60)
        for rollout in batch.rollouts
    ]
    with TensorBytes() as held:
        method.loss(microbatch, 100)[0].backward()
    return {n: p.grad for n, p in policy.trainable.items() if p.grad is not None}, held.peak


@pytest.mark.parametrize("training", [FULL, LORA | {"dropout": 0.3}])
def test_checkpoints_hold_fewer_bytes_and_give_the_same_gradient(training: dict[str, Any]) -> None:
    plain, peak = gradient(training, checkpointing=False)
    saved, smaller = gradient(training, checkpointing=True)
    assert smaller < 0.8 * peak
    assert plain.keys() == saved.keys()
    for name, value in plain.items():
        torch.testing.assert_close(saved[name], value, rtol=1e-5, atol=1e-8)


def test_a_model_that_offers_no_checkpoints_is_refused() -> None:
    policy = build_policy(tiny_model(), tiny_tokenizer(), config.FullFineTuning())
    policy.model.supports_gradient_checkpointing = False
    with pytest.raises(ModelError, match="does not support"):
        checkpoint_activations(policy)
