"""The plan's bytes beside those of real models and passes."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tests.methods.test_on_policy import student
from tests.support.tiny import tiny_shape, tiny_tokenizer
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen3Config

from rcsd import config
from rcsd.engines.scripted import ScriptedEngine
from rcsd.errors import ConfigError
from rcsd.methods.build import MethodParts, build_methods
from rcsd.methods.distill import Distill, TeacherTopK
from rcsd.models.logits import HeadPredictions
from rcsd.models.memory import TensorBytes, microbatch_limit
from rcsd.models.policy import Policy, build_policy, checkpoint_activations
from rcsd.models.scorer import Scorer
from rcsd.models.teacher import LiveTeacher, build_teacher
from rcsd.recipes.plan import (
    GIB,
    TRAINED_BYTES,
    Device,
    Lengths,
    Plan,
    build_lengths,
    build_plan,
    build_work,
)
from rcsd.recipes.plan_passes import PlannedModel
from rcsd.types import Completion, Example, Rollout

CPU = torch.device("cpu")
LORA = config.Lora(rank=8, alpha=16)
FULL = config.FullFineTuning()
FSDP = {"processes": {"sharding": "fsdp"}}
SHORT = Lengths(60, 90, 50)
GPU = Device("cuda", 80e9)


def shape(kind: Any = LlamaConfig, **changes: Any) -> Any:
    """A configuration of two layers, wide enough that their activations count."""
    sizes = tiny_shape() | {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24 if kind is Qwen3Config else 32,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    }
    return kind(**(sizes | changes))


def settings(
    folder: Path, training: Any = LORA, hf_config: Any = None, **changes: Any
) -> config.Config:
    """A run of a model that has a configuration and no weights."""
    (hf_config or shape()).save_pretrained(folder)
    model = {"path": str(folder), "training": training.model_dump()}
    tree: dict[str, Any] = {
        "model": model | changes.pop("model", {}),
        "data": {"type": "world", "num_examples": 20},
        "method": {"type": "distill"},
        "sampling": {"max_tokens": 50},
        "optim": {"lr": 1e-4},
        "steps": 1,
        "examples_per_step": 3,
        "completions_per_example": 4,
        "out": "runs/plan",
    }
    return config.Config.model_validate(tree | changes)


def planned(run: config.Config, device: Device = GPU) -> Plan:
    return build_plan(run, SHORT, device)


# Sizes


@pytest.mark.parametrize(
    "hf_config",
    [
        shape(LlamaConfig),
        shape(LlamaConfig, tie_word_embeddings=False),
        shape(Qwen3Config),
        shape(Gemma2Config, attention_bias=True),
    ],
)
@pytest.mark.parametrize("training", [LORA, FULL])
def test_sizes_are_those_of_the_model_with_weights(
    hf_config: Any, training: Any, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_config(hf_config)
    num = sum(p.numel() for p in model.parameters())
    policy = build_policy(model, tiny_tokenizer(), training)
    made = PlannedModel.from_config(settings(tmp_path, training, hf_config).model)
    assert made.parameters == num
    assert made.trained == sum(p.numel() for p in policy.trainable.values())


# Passes


def policy_for(hf_config: Any, training: Any, dtype: torch.dtype) -> Policy:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(hf_config, dtype=dtype, attn_implementation="sdpa")
    policy = build_policy(model, tiny_tokenizer(), training)
    assert policy.packs
    return policy


def measured_bytes(run: config.Config, policy: Policy) -> int:
    """Peak of loss and backward pass over a whole step, gradients made before."""
    AcceleratorState._reset_state(True)
    scorer = Scorer(policy.model)
    if run.precision is not None:
        scorer = Accelerator(mixed_precision=run.precision).prepare(scorer)
    example, drawn = Example("a", "b"), random.Random(0)
    silent = ScriptedEngine([Completion((), "", finished=True)])
    teacher = build_teacher(run.teacher, policy)
    made = MethodParts([example], policy, scorer, teacher, silent, microbatch_limit(10**9))
    method = build_methods(run, made)(0)
    rollouts: list[Rollout] = []
    ids = range(5, policy.vocab_size)
    for _ in range(run.examples_per_step):
        student_ids, teacher_ids = (tuple(drawn.choices(ids, k=k)) for k in (60, 90))
        for _ in range(run.completions_per_example):
            completion = Completion(tuple(drawn.choices(ids, k=50)), "", finished=False)
            rollout = Rollout(example, student_ids, teacher_ids, completion)
            before = 50 * len(rollouts)
            rollouts.append(dataclasses.replace(rollout, signals=(None,), num_tokens_before=before))
    for parameter in policy.trainable.values():
        parameter.grad = torch.zeros_like(parameter)

    def learn() -> None:
        loss, _ = method.loss(rollouts, 50 * len(rollouts))
        loss.backward()

    learn()  # makes what is made only once
    with TensorBytes() as held:
        learn()
    AcceleratorState._reset_state(True)
    return held.peak


@pytest.mark.parametrize(
    ("kind", "training", "changes", "checkpointing"),
    [
        (LlamaConfig, LORA, {}, True),
        (LlamaConfig, FULL, {"method": {"type": "distill", "support": {"type": "full"}}}, False),
        (Qwen3Config, FULL, {"precision": "bf16"}, True),
        pytest.param(
            Qwen3Config, LORA, {"model": {"dtype": "bfloat16"}}, False, marks=pytest.mark.slow
        ),
    ],
)
def test_the_bytes_of_a_pass_are_planned_within_15_percent(
    kind: Any, training: Any, changes: dict[str, Any], checkpointing: bool, tmp_path: Path
) -> None:
    model = changes.get("model", {}) | {"activation_checkpointing": checkpointing}
    hf_config = shape(kind, num_hidden_layers=4)
    run = settings(tmp_path, training, hf_config, **(changes | {"model": model}))
    dtype = torch.bfloat16 if run.model.dtype == "bfloat16" else torch.float32
    policy = policy_for(hf_config, training, dtype)
    if checkpointing:
        checkpoint_activations(policy)
    phase = planned(run, Device("cpu", 80e9)).phases["student"]
    counted = sum(phase.values()) - phase["gradients"]
    assert counted == pytest.approx(measured_bytes(run, policy), rel=0.15)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd"])
@pytest.mark.parametrize(
    "support", [{"type": "full"}, {"type": "teacher_top_k", "k": 20, "outside": "tail"}]
)
def test_the_chunks_of_logits_that_a_loss_holds_are_counted(
    divergence: str, support: dict[str, Any], tmp_path: Path
) -> None:
    method = {"type": "distill", "divergence": {"type": divergence}, "support": support}
    run = settings(tmp_path, method=method)
    assert isinstance(run.method, config.Distill)
    distill = Distill(run.method, student(), LiveTeacher())
    torch.manual_seed(0)
    weight_VH = torch.randn(20_000, 16)
    p = HeadPredictions(torch.randn(100, 16), weight_VH)
    q = HeadPredictions(torch.randn(100, 16).requires_grad_(), weight_VH)
    said: Any = distill._reduced(p, torch.zeros(100, dtype=torch.long))

    def learn() -> None:
        if isinstance(said, TeacherTopK):
            loss_T, _ = q.losses(distill._on_support, said.log_p_TL, said.ids_TK)
        else:
            loss_T, _ = q.losses(distill._on_vocabulary, said)
        loss_T.sum().backward()

    with TensorBytes() as held:
        learn()
    chunks = held.peak / (100 * 20_000 * 4)
    assert build_work(run, 1).copies == pytest.approx(chunks, rel=0.1)


# Work


def test_processes_share_examples_and_the_largest_share_counts(tmp_path: Path) -> None:
    work = build_work(settings(tmp_path, examples_per_step=10), 4)
    assert (work.examples, work.completions) == (3, 4)
    work = build_work(settings(tmp_path, examples_per_step=2), 4)
    assert (work.examples, work.completions) == (1, 2)


def test_a_teacher_prompt_holds_the_longest_analysis_and_is_the_students_without_a_view(
    tmp_path: Path,
) -> None:
    views = {"analysis": True, "max_analysis_tokens": 100}
    for changes, teacher in (({}, 30), ({"views": views}, 130), ({"method": {"type": "sft"}}, 10)):
        assert build_lengths(settings(tmp_path, **changes), 10, 30) == (10, teacher, 50)


ANSWER = {"rewards": [{"type": "answer"}]}


@pytest.mark.parametrize(
    ("method", "passes"),
    [
        ({"type": "distill"}, 1),
        ({"type": "criterion"}, 3),
        ({"type": "grpo", "kl_weight": 0.04, "updates_per_batch": 2, **ANSWER}, 2),
        ({"type": "srpo", "reward": ANSWER}, 1),
        ({"type": "sft"}, 0),
    ],
)
def test_a_method_takes_its_passes(method: dict[str, Any], passes: int, tmp_path: Path) -> None:
    plan = planned(settings(tmp_path, method=method))
    assert plan.work.no_grad_passes == passes
    assert ("sampling" in plan.phases) == (method["type"] != "sft")
    assert ("teacher" in plan.phases) == (passes > 0)


# Memory


@pytest.mark.parametrize(
    ("training", "teacher", "copies"),
    [(FULL, "frozen", 1), (FULL, "live", 0), (LORA, "frozen", 0), (LORA, "ema", 1)],
)
def test_what_is_held_all_the_time_by_hand(
    training: Any, teacher: str, copies: int, tmp_path: Path
) -> None:
    two = Device("cuda", 80e9, 2)
    plan = planned(settings(tmp_path, training, teacher={"type": teacher}), two)
    model, kept = plan.model, plan.held_bytes
    assert kept["weights"] == 4 * model.all_weights
    assert kept["optimizer"] == 2 * TRAINED_BYTES * model.trained
    assert kept.get("teacher", 0) == copies * TRAINED_BYTES * model.trained
    halves = planned(
        settings(tmp_path, training, teacher={"type": teacher}, **FSDP), two
    ).held_bytes
    assert halves == {name: value / 2 for name, value in kept.items()}


@pytest.mark.parametrize(("precision", "number"), [(None, 4), ("bf16", 2)])
def test_sharded_weights_are_gathered_to_sample_and_two_layers_in_a_pass(
    precision: str | None, number: int, tmp_path: Path
) -> None:
    run = settings(tmp_path, FULL, precision=precision, **FSDP)
    plan = planned(run, Device("cuda", 80e9, 2))
    model, phases = plan.model, plan.phases
    assert phases["sampling"]["gathered weights"] == number * model.all_weights
    layer = (model.all_weights - model.embeddings) / 2
    for name in ("teacher", "student"):
        gathered = phases[name]["gathered weights"]
        assert gathered == pytest.approx(number * (2 * layer + model.embeddings))
    with pytest.raises(ConfigError, match="--devices"):
        planned(run)


def test_vllm_holds_weights_and_a_cache_of_its_own(tmp_path: Path) -> None:
    engine = {"type": "vllm", "kv_cache_gib": 0.001, "dtype": "bfloat16"}
    plan = planned(settings(tmp_path, engine=engine))
    assert plan.held_bytes["engine's weights"] == 2 * plan.model.all_weights
    assert plan.held_bytes["engine's cache"] == 0.001 * GIB


def test_the_verdict_names_the_peak_and_what_saves_memory(tmp_path: Path) -> None:
    plan = planned(settings(tmp_path, FULL))
    assert plan.verdict()[0].startswith("It fits: peak ")
    small = dataclasses.replace(plan, device=Device("cuda", 1e6))
    assert "does not fit" in small.verdict()[0]
    assert "model.activation_checkpointing" in small.verdict()[1]
