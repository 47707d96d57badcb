"""The plan's formulas beside what models, passes and parts really are."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rcsd.recipes.plan.activations import Options, activations_of
from rcsd.recipes.plan.advice import sentences
from rcsd.recipes.plan.hardware import (
    ACCELERATORS,
    STORAGE_RATE,
    Attained,
    Cluster,
    Hardware,
    accelerator,
)
from rcsd.recipes.plan.heads import heads_of
from rcsd.recipes.plan.machine import machine
from rcsd.recipes.plan.memory import memory_of
from rcsd.recipes.plan.seconds import (
    ADAPTER_OPERATIONS,
    CASTING_ADAPTER_OPERATIONS,
    CASTING_NORM_OPERATIONS,
    LAYER_OPERATIONS,
    NORM_OPERATIONS,
)
from rcsd.recipes.plan.shapes import Shape, shape_of, shape_of_run
from rcsd.recipes.plan.workload import TRAINED_BYTES, Lengths, bytes_of, lengths_of, work_of
from tests.methods.test_on_policy import student
from tests.support.hub_shapes import LLAMA_70B, QWEN3_8B
from tests.support.launched import codes, on_ranks
from tests.support.tiny import tiny_shape, tiny_tokenizer
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MambaConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from rcsd import config
from rcsd.engines.local import LocalEngine
from rcsd.engines.scripted import ScriptedEngine
from rcsd.errors import ConfigError, ModelError
from rcsd.methods.build import Parts, method_at
from rcsd.methods.distill import Distill, TopKSaid
from rcsd.models.logits import HeadPredictions
from rcsd.models.memory import microbatch_limit, peak_bytes
from rcsd.models.packing import microbatch_tokens, split_microbatches
from rcsd.models.policy import Policy, Scorer, checkpoint_activations, policy_of
from rcsd.models.teacher import LiveTeacher, teacher_of
from rcsd.recipes.plan import Plan, plan_of, setup_of
from rcsd.training import trainer
from rcsd.types import Completion, Decoding, Example, Rollout, Signal

CPU = torch.device("cpu")
LORA = config.Lora(rank=8, alpha=16)
FULL = config.FullFineTuning()
FSDP = {"processes": {"sharding": "fsdp"}}
SERVER = {"type": "vllm_server", "url": "http://there", "shared_folder": "/shared"}
SHORT = Lengths(60, 90, 60, 90, 50, 50)


def shape(kind: Any = LlamaConfig, **changes: Any) -> Any:
    """A configuration of four layers, wide enough that their activations count."""
    sizes = tiny_shape() | {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24 if kind is Qwen3Config else 32,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    }
    return kind(**(sizes | changes))


def settings(training: Any = LORA, **changes: Any) -> config.Config:
    model = {"path": "builtin:micro", "training": training.model_dump()}
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


def planned(
    run: config.Config,
    found: Any,
    cluster: Cluster,
    lengths: Lengths = SHORT,
) -> Plan:
    made = shape_of(found, run.model.training)
    return plan_of(setup_of(run, made, lengths, cluster))


# Shapes


@pytest.mark.parametrize(
    "found",
    [
        shape(LlamaConfig),
        shape(LlamaConfig, tie_word_embeddings=False),
        shape(Qwen3Config),
        shape(Gemma2Config, attention_bias=True),
    ],
)
@pytest.mark.parametrize("training", [LORA, FULL])
def test_a_shapes_parameters_are_those_of_the_model_with_weights(found: Any, training: Any) -> None:
    model = AutoModelForCausalLM.from_config(found)
    num = sum(p.numel() for p in model.parameters())
    policy = policy_of(model, tiny_tokenizer(), training)
    made = shape_of(found, training)
    assert made.parameters == num
    assert made.trained == sum(p.numel() for p in policy.trainable.values())
    assert made.num_trained == len(policy.trainable)


def test_the_parameters_of_known_models_are_the_published_ones() -> None:
    assert shape_of_run(config.Model(path="builtin:micro")).parameters == 1_779_680
    smollm2 = LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    assert shape_of(smollm2, FULL).parameters == 134_515_008
    assert shape_of(QWEN3_8B, FULL).parameters == 8_190_735_360
    assert shape_of(LLAMA_70B, FULL).parameters == 70_553_706_496


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Qwen3MoeConfig(num_hidden_layers=1), "mixture of experts .num_experts: 128"),
        (MambaConfig(num_hidden_layers=1), "no linear layer, norm or embedding"),
    ],
)
def test_a_model_whose_operations_cannot_be_counted_is_refused(found: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        shape_of(found, FULL, "it")


def test_a_model_without_a_configuration_is_an_error_that_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.path: no configuration"):
        shape_of_run(config.Model(path=str(tmp_path)))


# Activations


def policy_for(found: Any, training: Any, dtype: torch.dtype) -> Policy:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(found, dtype=dtype, attn_implementation="sdpa")
    policy = policy_of(model, tiny_tokenizer(), training)
    assert policy.packs
    return policy


def held_by_a_pass(run: config.Config, policy: Policy) -> int:
    """Bytes at the peak of loss and backward pass over a whole step, gradients made before."""
    AcceleratorState._reset_state(True)
    scorer = Scorer(policy)
    if run.precision is not None:
        scorer = Accelerator(mixed_precision=run.precision).prepare(scorer)
    example, drawn = Example("a", "b"), random.Random(0)
    silent = ScriptedEngine([Completion((), "", finished=True)])
    teacher = teacher_of(run.teacher, policy)
    made = Parts([example], policy, scorer, teacher, silent, microbatch_limit(10**9))
    method = method_at(run, made)(0)
    rollouts: list[Rollout] = []
    ids = range(5, policy.vocab_size)
    for _ in range(run.examples_per_step):
        shown, taught = tuple(drawn.choices(ids, k=60)), tuple(drawn.choices(ids, k=90))
        for _ in range(run.completions_per_example):
            completion = Completion(tuple(drawn.choices(ids, k=50)), "", finished=False)
            rollout = Rollout(example, shown, taught, completion)
            before = 50 * len(rollouts)
            rollouts.append(
                dataclasses.replace(rollout, signals=(Signal(),), num_tokens_before=before)
            )
    for parameter in policy.trainable.values():
        parameter.grad = torch.zeros_like(parameter)

    def learn() -> None:
        loss, _ = method.loss(rollouts, 50 * len(rollouts))
        loss.backward()

    learn()  # makes what is made only once
    held = peak_bytes(learn, CPU)
    AcceleratorState._reset_state(True)
    return held


def reckoned(run: config.Config, found: Any) -> float:
    made = shape_of(found, run.model.training)
    work = work_of(run, SHORT, 1, made.is_full)
    part = work.part()
    assert part.positions == 50 * run.examples_per_step * run.completions_per_example
    options = Options("cpu", run.model.activation_checkpointing)
    rows = part.rows(part.student)
    return activations_of(made, bytes_of(run), work, rows, part.positions, options).peak


PASSES: list[tuple[Any, Any, dict[str, Any]]] = [
    *((kind, training, {}) for kind in (LlamaConfig, Qwen3Config) for training in (LORA, FULL)),
    (LlamaConfig, LORA, {"examples_per_step": 1}),
    (LlamaConfig, LORA, {"precision": "bf16"}),
    (Qwen3Config, FULL, {"precision": "bf16"}),
    (Qwen3Config, LORA, {"model": {"dtype": "bfloat16"}}),
    (LlamaConfig, FULL, {"method": {"type": "distill", "support": {"type": "full"}}}),
]


@pytest.mark.parametrize(("kind", "training", "changes"), PASSES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_bytes_of_a_pass_are_reckoned_within_15_percent(
    kind: Any, training: Any, changes: dict[str, Any], checkpointing: bool
) -> None:
    model = changes.get("model", {}) | {"activation_checkpointing": checkpointing}
    run = settings(training, **(changes | {"model": model}))
    found = shape(kind)
    dtype = torch.bfloat16 if run.model.dtype == "bfloat16" else torch.float32
    policy = policy_for(found, training, dtype)
    if checkpointing:
        checkpoint_activations(policy)
    assert reckoned(run, found) == pytest.approx(held_by_a_pass(run, policy), rel=0.15)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd"])
@pytest.mark.parametrize(
    "support",
    [
        {"type": "full"},
        {"type": "student_top_k", "k": 20},
        {"type": "teacher_top_k", "k": 20, "outside": "tail"},
    ],
)
def test_the_chunks_of_logits_that_a_loss_holds_are_counted(
    divergence: str, support: dict[str, Any]
) -> None:
    section = config.Distill.model_validate(
        {"divergence": {"type": divergence}, "support": support}
    )
    distill = Distill(section, student(), LiveTeacher())
    torch.manual_seed(0)
    weight_VH = torch.randn(20_000, 16)
    p = HeadPredictions(torch.randn(100, 16), weight_VH)
    q = HeadPredictions(torch.randn(100, 16).requires_grad_(), weight_VH)
    said: Any = distill._said(p, torch.zeros(100, dtype=torch.long))

    def learn() -> None:
        if isinstance(said, TopKSaid):
            loss_T, _ = q.losses(distill._on_support, said.log_p_TL, said.ids_TK)
        else:
            loss_T, _ = q.losses(distill._on_vocabulary, said)
        loss_T.sum().backward()

    chunks = peak_bytes(learn, CPU) / (100 * 20_000 * 4)
    assert heads_of(section, is_full=False).copies == pytest.approx(chunks, rel=0.1)


# Work


def test_parts_are_those_of_a_run() -> None:
    run = settings(examples_per_step=7, completions_per_example=4, max_tokens_per_microbatch=1200)
    work = work_of(run, SHORT, 1, is_full=False)
    ids, own = tuple(range(90)), Completion(tuple(range(50)), "", finished=False)
    rollouts = [
        Rollout(Example(str(n), ""), (n, *ids[:59]), (n, *ids[:89]), own)
        for n in range(7)
        for _ in range(4)
    ]
    divided = split_microbatches(rollouts, 1200, packs=True)
    part = work.part()
    assert len(divided[0]) == part.examples * part.completions == 8
    assert len(divided) == work.num_parts
    tokens = part.rows(part.student).tokens + part.rows(part.teacher).tokens
    assert tokens == microbatch_tokens(divided[0], packs=True)


def test_an_example_larger_than_a_part_is_divided_among_its_completions() -> None:
    run = settings(examples_per_step=2, completions_per_example=8, max_tokens_per_microbatch=450)
    part = work_of(run, SHORT, 1, is_full=False).part()
    assert (part.examples, part.completions) == (1, 3)  # 150 of prompts, 100 a completion


def test_processes_share_examples_and_the_largest_share_counts() -> None:
    work = work_of(settings(examples_per_step=10), SHORT, 4, is_full=False)
    assert (work.examples, work.completions) == (3, 4)
    work = work_of(settings(examples_per_step=2), SHORT, 4, is_full=False)
    assert (work.examples, work.completions) == (1, 2)


def test_lengths_say_whether_they_are_measured_asked_for_or_assumed() -> None:
    run = settings()
    measured = lengths_of(run, [(10, 30), (20, 60)])
    assert dataclasses.astuple(measured)[:6] == (15, 45, 20, 60, 25, 50)
    assert "assumed" in measured.sources[0]
    assert "measured on 2 examples" in measured.sources[1]
    asked = lengths_of(run, None, prompt_tokens=100, completion_tokens=20)
    assert dataclasses.astuple(asked)[:6] == (100, 356, 100, 356, 20, 50)
    assert "256 tokens more (assumed)" in asked.sources[1]
    assert lengths_of(run, None, 100, teacher_tokens=130).teacher == 130
    with pytest.raises(ConfigError, match="give --prompt-tokens"):
        lengths_of(run, None)
    with pytest.raises(ConfigError, match=r"sampling\.max_tokens: 50"):
        lengths_of(run, None, 100, completion_tokens=51)


@pytest.mark.parametrize(
    ("method", "passes", "updates", "samples"),
    [
        ({"type": "distill"}, (1, 0), 1, True),
        ({"type": "criterion"}, (3, 0), 1, True),
        ({"type": "grpo", "rewards": [{"type": "answer"}]}, (0, 0), 1, True),
        (
            {
                "type": "grpo",
                "rewards": [{"type": "answer"}],
                "kl_weight": 0.04,
                "updates_per_batch": 2,
            },
            (0, 2),
            2,
            True,
        ),
        ({"type": "srpo", "reward": {"rewards": [{"type": "answer"}]}}, (1, 0), 1, True),
        ({"type": "sft"}, (0, 0), 1, False),
    ],
)
def test_a_method_asks_for_its_passes(
    method: dict[str, Any], passes: tuple[int, int], updates: int, samples: bool
) -> None:
    run = settings(method=method)
    work = work_of(run, SHORT, 1, is_full=False)
    assert (work.teacher_passes, work.frozen_passes) == passes
    assert (work.updates, work.samples) == (updates, samples)
    plan = planned(run, shape(), Cluster(ACCELERATORS["h100"]))
    assert ("sampling" in plan.times.phases) == samples
    assert ("teacher" in plan.times.phases) == (sum(passes) > 0)


# Time


class _Counting(TorchDispatchMode):
    """Operations that do something; those that look at the same numbers anew do not."""

    LOOKS = ("view", "::t", "transpose", "unsqueeze", "slice", "expand", "detach", "alias")
    LOOKS += ("select", "permute", "squeeze", "split", "narrow")

    def __init__(self) -> None:
        super().__init__()
        self.num = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num += not any(look in func._schema.name for look in self.LOOKS)
        return func(*args, **(kwargs or {}))


def operations_a_token(found: Any, training: Any, dtype: torch.dtype) -> float:
    engine = LocalEngine(policy_for(found, training, dtype), 8)
    counts = []
    for num in (3, 13):
        with _Counting() as counting:
            engine.sample([[5, 6, 7, 8]] * 4, Decoding(num, 1.0), 0)
        counts.append(counting.num)
    return (counts[1] - counts[0]) / 10


@pytest.mark.parametrize("kind", [LlamaConfig, Qwen3Config])
@pytest.mark.parametrize("training", [LORA, FULL])
def test_the_operations_of_a_layer_are_counted(kind: Any, training: Any) -> None:
    for dtype in (torch.float32, torch.bfloat16) if training is LORA else (torch.float32,):
        one, three = (
            operations_a_token(shape(kind, num_hidden_layers=n), training, dtype) for n in (1, 3)
        )
        is_wide = dtype == torch.float32
        adapter = ADAPTER_OPERATIONS if is_wide else CASTING_ADAPTER_OPERATIONS
        norm = NORM_OPERATIONS if is_wide else CASTING_NORM_OPERATIONS
        norms, adapters = (4 if kind is Qwen3Config else 2), (7 if training is LORA else 0)
        expected = LAYER_OPERATIONS + norms * norm + adapters * adapter
        assert (three - one) / 2 == expected


PLAIN = Hardware(
    "plain", "cuda", 1e12, 1e12, 80e9, 1e15, 1e9, 1e8, Attained(1.0, 1.0, 1.0, 1.0), 0.0
)
"""Computes, and does all else in no time."""


@pytest.mark.parametrize(("training", "per_weight"), [(FULL, 6), (LORA, 4)])
def test_a_token_that_is_learned_takes_six_operations_a_weight_or_four_through_frozen_ones(
    training: Any, per_weight: int
) -> None:
    lengths = Lengths(0, 0, 0, 0, 1000, 1000)
    run = settings(
        training,
        method={"type": "sft"},
        sampling={"max_tokens": 1000},
        examples_per_step=1,
    )
    found = shape(LlamaConfig, vocab_size=64, hidden_size=512, intermediate_size=2048)
    plan = planned(run, found, Cluster(dataclasses.replace(PLAIN, attention_flops=1e30)), lengths)
    made: Shape = plan.setup.shape
    operations = 1e12 * plan.times.phases["student"].causes["operations"]
    own = 6 * 1000 * made.adapters
    assert operations - own == pytest.approx(per_weight * 1000 * made.body, rel=0.02)


def test_what_processes_send_by_hand() -> None:
    cluster = Cluster(PLAIN, devices_per_node=4)
    run = settings(FULL, examples_per_step=8)
    plan = planned(run, shape(), cluster)
    num = plan.setup.shape.parameters
    assert plan.times.traffic.sent == {"sum of the gradient": 2 * 3 / 4 * 4 * num}
    assert plan.times.phases["communication"].seconds == pytest.approx(6 * num / 1e9)
    assert not planned(run, shape(), Cluster(PLAIN)).times.traffic.sent


@pytest.mark.parametrize(("precision", "number"), [(None, 4), ("bf16", 2)])
def test_what_processes_with_shares_of_the_weights_send_by_hand(
    precision: str | None, number: int
) -> None:
    cluster = Cluster(PLAIN, devices_per_node=4)
    run = settings(FULL, examples_per_step=8, precision=precision, **FSDP)
    plan = planned(run, shape(), cluster)
    num, head = plan.setup.shape.parameters, plan.setup.shape.head
    gathered = 3 / 4 * number * num
    sent = {
        "gathers, teacher": gathered,
        "gathers, student": 2 * gathered - 3 / 4 * number * head,  # tied
        "gathers, sampling": gathered,
        "scatters of the gradient": 3 / 4 * 4 * num,
    }
    assert plan.times.traffic.sent == sent
    phases = plan.times.phases
    assert "communication" not in phases
    assert phases["student"].causes["communication"] == pytest.approx(
        (sent["gathers, student"] + sent["scatters of the gradient"]) / 1e9
    )
    sampling = phases["sampling"]  # computes only once it has the weights
    assert sampling.seconds == pytest.approx(sum(sampling.causes.values()))


def counting_what_is_sent(rank: int, folder: str) -> None:
    """Write the bytes that a step's gathers give and its scatters take, in the last process."""
    sent = {"all_gather_single": 0, "reduce_scatter_single": 0}

    def count(name: str) -> None:
        exchange = getattr(torch.distributed, name)

        def exchanged(*given: Any, **named: Any) -> Any:
            both = (value for value in (*given, *named.values()) if torch.is_tensor(value))
            sent[name] += max(value.nbytes for value in both)
            return exchange(*given, **named)

        pytest.MonkeyPatch().setattr(torch.distributed, name, exchanged)

    def stepped(made: Any, *rest: Any) -> None:
        sent.update(dict.fromkeys(sent, 0))
        steps(made, *rest)
        (Path(folder) / "sent.json").write_text(json.dumps(sent))

    for name in sent:
        count(name)
    if rank > 0:
        steps = trainer._Run._take_steps
        pytest.MonkeyPatch().setattr(trainer._Run, "_take_steps", stepped)


@pytest.mark.parametrize(
    ("training", "changes"), [(FULL, {}), (FULL, {"precision": "bf16"}), (LORA, {})]
)
def test_what_processes_with_shares_of_the_weights_really_send(
    training: Any, changes: dict[str, Any], tmp_path: Path
) -> None:
    found, model = shape(tie_word_embeddings=False), str(tmp_path / "model")
    AutoModelForCausalLM.from_config(found).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    run = settings(training, model={"path": model}, out=str(tmp_path / "run"), **(FSDP | changes))
    started = on_ranks([run] * 2, False, counting_what_is_sent, str(tmp_path))
    assert codes(started) == [0, 0]
    sent = json.loads((tmp_path / "sent.json").read_text("utf-8"))
    traffic = planned(run, found, Cluster(PLAIN, 2)).times.traffic
    scattered = traffic.sent["scatters of the gradient"]
    # Of what is gathered each of two processes sends half; shares are padded to equal sizes.
    assert sent["reduce_scatter_single"] / 2 == pytest.approx(scattered, rel=0.01)
    gathered = sum(traffic.sent.values()) - scattered
    assert sent["all_gather_single"] / 2 == pytest.approx(gathered, rel=0.01)


@pytest.mark.parametrize("engine", [SERVER, {"type": "vllm"}])
def test_weights_are_gathered_once_more_for_an_engine_with_weights_of_its_own(engine: Any) -> None:
    run = settings(LORA, examples_per_step=8, **FSDP)
    cluster = Cluster(PLAIN, devices_per_node=4)
    sent = planned(run, shape(), cluster).times.traffic.sent
    other = planned(settings(LORA, examples_per_step=8, engine=engine, **FSDP), shape(), cluster)
    assert other.times.traffic.sent["gathers, sampling"] == 2 * sent["gathers, sampling"]
    adapters = 4 * other.setup.shape.adapters
    assert other.times.phases["hand-over"].seconds == 2 * adapters / STORAGE_RATE


def test_all_weights_go_to_a_server_by_file_and_to_vllm_in_the_process_by_memory() -> None:
    runs = [settings(FULL, engine=engine) for engine in (SERVER, {"type": "vllm"})]
    served, inside = (planned(run, shape(), Cluster(PLAIN)) for run in runs)
    weights = 4 * served.setup.shape.parameters
    assert served.times.phases["hand-over"].seconds == 2 * weights / STORAGE_RATE
    assert "hand-over" not in inside.times.phases


def test_one_process_does_not_shard() -> None:
    with pytest.raises(ConfigError, match="--devices-per-node or --nodes"):
        planned(settings(**FSDP), shape(), Cluster(PLAIN))


def test_between_machines_the_slowest_link_counts() -> None:
    h100 = ACCELERATORS["h100"]
    assert Cluster(h100, 8, 1).link == 0.8 * 450e9
    assert Cluster(h100, 8, 2).link == 0.8 * 50e9


def test_a_plan_says_what_limits_each_phase() -> None:
    run = settings(examples_per_step=1, completions_per_example=1)
    slow_host = dataclasses.replace(PLAIN, operation_seconds=1.0)
    slow_memory = dataclasses.replace(PLAIN, bandwidth=1.0)
    slow_chip = dataclasses.replace(PLAIN, bf16_flops=1.0, fp32_flops=1.0)
    for hardware, limit in (
        (slow_host, "host"),
        (slow_memory, "memory bandwidth"),
        (slow_chip, "operations"),
    ):
        plan = planned(run, shape(), Cluster(hardware))
        assert plan.times.phases["sampling"].limit == limit
        assert plan.limit.endswith(limit)
    slow_link = dataclasses.replace(PLAIN, node_link=1.0)
    sharded = settings(examples_per_step=2, method={"type": "sft"}, **FSDP)
    plan = planned(sharded, shape(), Cluster(slow_link, 2))
    assert plan.limit == "student: communication"
    assert any("raise max_tokens_per_microbatch" in sentence for sentence in sentences(plan))
    slow_host = settings(engine={"type": "vllm", "compiled": False})
    plan = planned(slow_host, shape(), Cluster(dataclasses.replace(PLAIN, operation_seconds=1.0)))
    assert plan.limit == "sampling: host"


# Memory


@pytest.mark.parametrize(
    ("training", "teacher", "copies"),
    [
        (FULL, "frozen", 1),
        (FULL, "ema", 1),
        (FULL, "live", 0),
        (LORA, "frozen", 0),
        (LORA, "ema", 1),
    ],
)
def test_what_is_kept_by_hand(training: Any, teacher: str, copies: int) -> None:
    run = settings(training, teacher={"type": teacher})
    plan = planned(run, shape(), Cluster(PLAIN, 2))
    made, kept = plan.setup.shape, plan.memory.kept
    assert kept["weights"] == 4 * made.all_weights
    assert kept["optimizer"] == 2 * TRAINED_BYTES * made.trained
    assert kept.get("teacher", 0) == copies * TRAINED_BYTES * made.trained
    sharded = settings(training, teacher={"type": teacher}, **FSDP)
    halves = planned(sharded, shape(), Cluster(PLAIN, 2)).memory.kept
    assert halves == {name: value / 2 for name, value in kept.items()}


@pytest.mark.parametrize("training", [FULL, LORA])
@pytest.mark.parametrize(("precision", "number"), [(None, 4), ("bf16", 2)])
@pytest.mark.parametrize("engine", [{}, SERVER, {"type": "vllm"}])
def test_sharded_weights_are_whole_while_it_is_sampled_by_hand(
    training: Any, precision: str | None, number: int, engine: Any
) -> None:
    run = settings(training, precision=precision, engine=engine, **FSDP)
    plan = planned(run, shape(), Cluster(PLAIN, 2))
    made, phases = plan.setup.shape, plan.memory.phases
    assert phases["sampling"]["gathered weights"] == number * made.all_weights
    layer = (made.all_weights - made.head) / 4
    for name in ("teacher", "student"):
        assert phases[name]["gathered weights"] == number * (2 * layer + made.head)
    assert "gathered weights" not in phases["update"]
    evaluated = {"evaluation": {"data": {"type": "world", "num_examples": 3}, "every_steps": 1}}
    learned = settings(method={"type": "sft"}, **evaluated, **FSDP)
    assert "sampling" in planned(learned, shape(), Cluster(PLAIN, 2)).memory.phases


def test_frozen_weights_are_gathered_as_they_are_and_adapters_in_float32() -> None:
    run = settings(LORA, model={"dtype": "bfloat16"}, **FSDP)
    plan = planned(run, shape(), Cluster(PLAIN, 2))
    made = plan.setup.shape
    whole = plan.memory.phases["sampling"]["gathered weights"]
    assert whole == 2 * made.parameters + 4 * made.adapters


def test_vllm_holds_weights_and_a_cache_of_its_own_which_bounds_what_is_sampled_together() -> None:
    engine = {"type": "vllm", "kv_cache_gib": 0.001, "dtype": "bfloat16"}
    run = settings(LORA, completions_per_example=16, engine=engine)
    plan = planned(run, shape(), Cluster(PLAIN))
    kept, made = plan.memory.kept, plan.setup.shape
    assert kept["engine's weights"] == 2 * made.all_weights
    assert kept["engine's cache"] == 0.001 * 2**30
    assert plan.setup.rows == int(0.001 * 2**30 / (2 * 2 * made.key * 4) / (60 + 50)) < 48


def test_a_plan_that_does_not_fit_says_what_is_too_large_and_what_would_fit() -> None:
    run = settings(FULL, examples_per_step=8)
    sharded = planned(
        settings(FULL, examples_per_step=8, **FSDP), shape(), Cluster(PLAIN, 4)
    ).memory
    small = dataclasses.replace(PLAIN, memory_bytes=1.01 * sharded.peak / sharded.usable_share)
    plan = planned(run, shape(), Cluster(small, 4))
    assert not plan.memory.fits
    assert plan.limit.startswith("memory: ")
    said = " ".join(sentences(plan))
    assert "does not fit" in said
    assert "would fit with processes.sharding=fsdp" in said
    least = min(change.peak for change in plan.changes)
    assert least < plan.memory.peak
    hopeless = dataclasses.replace(PLAIN, memory_bytes=1e6)
    assert "Nothing below makes it fit; " in " ".join(
        sentences(planned(run, shape(), Cluster(hopeless)))
    )


def test_a_model_that_no_device_holds_whole_is_said_not_to_fit_however_many_there_are() -> None:
    run = settings(LORA, examples_per_step=8, engine=SERVER, **FSDP)
    plan = planned(run, shape(vocab_size=10_000), Cluster(PLAIN, 64))
    small = dataclasses.replace(PLAIN, memory_bytes=plan.setup.gathered_bytes)
    found = planned(run, shape(vocab_size=10_000), Cluster(small, 64))
    assert "each device gathers all weights" in " ".join(sentences(found))


def test_every_change_is_a_plan_of_its_own() -> None:
    run = settings(FULL, examples_per_step=8)
    plan = planned(run, shape(), Cluster(ACCELERATORS["h100"], 4))
    changes = {change.name: change for change in plan.changes}
    other = settings(FULL, examples_per_step=8, **FSDP)
    sharded = planned(other, shape(), Cluster(ACCELERATORS["h100"], 4))
    assert changes["processes.sharding=fsdp"].peak == sharded.memory.peak
    assert changes["processes.sharding=fsdp"].step == sharded.times.step
    checkpointing = settings(FULL, examples_per_step=8, model={"activation_checkpointing": True})
    other = planned(checkpointing, shape(), Cluster(ACCELERATORS["h100"], 4))
    assert changes["model.activation_checkpointing=true"].peak == other.memory.peak
    sampled = settings(FULL, examples_per_step=8, engine={"type": "vllm", "batch_size": 32})
    other = planned(sampled, shape(), Cluster(ACCELERATORS["h100"], 4))
    assert changes["engine.type=vllm"].step == other.times.step


def test_only_changes_that_the_configuration_takes_are_shown() -> None:
    cluster = Cluster(ACCELERATORS["h100"], 4)
    names = {c.name for c in planned(settings(overlap=True), shape(), cluster).changes}
    assert not {"processes.sharding=fsdp", "engine.type=vllm"} & names
    names = {
        c.name
        for c in planned(settings(max_tokens_per_microbatch="auto"), shape(), cluster).changes
    }
    assert "processes.sharding=fsdp max_tokens_per_microbatch=16384" in names


def test_under_sharding_nothing_is_left_for_autocast_to_copy() -> None:
    run = settings(FULL, precision="bf16", examples_per_step=8)
    cluster = Cluster(PLAIN, 2)
    whole = planned(run, shape(), cluster).memory.phases
    assert whole["student"]["casts"] > 0
    sharded = planned(
        settings(FULL, precision="bf16", examples_per_step=8, **FSDP), shape(), cluster
    )
    assert sharded.memory.phases["student"]["casts"] == 0
    assert memory_of(sharded.setup).peak == sharded.memory.peak


# Machines


def test_an_unknown_device_names_its_nearest_neighbour() -> None:
    with pytest.raises(ConfigError, match="did you mean h100"):
        accelerator("h10")


def test_the_machine_at_hand_is_measured() -> None:
    found = machine(shape_of(shape(), LORA), bytes_of(settings()), rows=2)
    assert found.kind in ("cpu", "cuda")
    assert min(found.fp32_flops, found.bandwidth, found.operation_seconds) > 0
    assert found.matmul_rate(4) == found.fp32_flops


def test_the_packaged_micro_model_can_be_planned() -> None:
    run = settings(FULL)
    found = AutoConfig.from_pretrained(
        str(Path(config.__file__).parents[1] / "data" / "world" / "micro")
    )
    plan = planned(run, found, Cluster(ACCELERATORS["a100"]))
    assert plan.memory.fits
    assert plan.record()["limit"] == plan.limit
