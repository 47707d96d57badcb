"""``rcsd plan``: memory of an optimizer step per device, from the model's configuration alone.

    weights      bytes of the stored type, 4 per adapter weight; full fine-tuning 4 per weight
    optimizer    8 bytes per trained weight: AdamW's two moments in float32
    teacher      4 bytes per trained weight for a moving average, or for the frozen copy of a model
                 that is trained in full
    gradients    4 bytes per trained weight, from the student's pass to the update
    cache        keys and values, 2 K c per layer, row and column, and a quarter to spare
                 (`rcsd.engines.kv_cache`); a row is the longest prompt with the longest completion
    activations  counted: the model's own code runs on tensors without memory
                 (`rcsd.recipes.plan_passes.pass_bytes`)
    logits       chunks that the loss holds at once, never [T, V] (`rcsd.models.logits`)
    update       4 bytes per trained weight on a GPU, where AdamW updates all tensors at once

With FSDP2 the first four are divided by the number of devices; all weights are gathered to sample,
two layers and the embeddings in a pass. K is the width of a layer's keys, c the bytes of a number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import psutil
import torch

from rcsd import config
from rcsd.config import distillations, objectives
from rcsd.data.load import load_examples
from rcsd.data.placebos import with_placebo
from rcsd.data.prompts import build_prompts, limit_prompt_tokens
from rcsd.data.views import PromptTemplates
from rcsd.engines.kv_cache import SPARE_SHARE
from rcsd.errors import ConfigError
from rcsd.methods.on_policy import monitor_stride
from rcsd.models.loading import Source
from rcsd.models.logits import CHUNK_ENTRIES
from rcsd.models.packing import microbatch_tokens, split_microbatches
from rcsd.models.policy import load_tokenizer
from rcsd.recipes.plan_passes import PlannedModel, casts_weights, load_hf_config, pass_bytes
from rcsd.types import Completion, Example, Rollout

GIB = 2**30
TRAINED_BYTES = 4
"""Bytes of a trained weight: float32, adapters of a bfloat16 model included (PEFT)."""
USABLE_SHARE = {"cuda": 0.9, "cpu": 0.6}
"""Share of a device's memory that tensors can take; the rest is the driver's context and what
allocators waste: on CPUs glibc held up to 1.47 times the bytes of the tensors; on GPUs assumed."""
MEASURED_EXAMPLES = 256
"""Examples whose prompts are measured, spread over the data."""

_FULL_COPIES = {"forward_kl": 11.5, "reverse_kl": 12.5, "jsd": 15.75}
_TOP_K_COPIES = {"renormalise": 4.0, "tail": 7.0}
_TOKEN_COPIES, _MONITOR_COPIES = 4.0, 3.0
"""Chunks of float32 logits that a loss holds at once; the tests count them anew."""


class Device(NamedTuple):
    """Devices to plan for, one process each; ``cuda`` stands for ROCm too, as in PyTorch."""

    kind: Literal["cuda", "cpu"]
    memory_bytes: float
    num_devices: int = 1

    @property
    def usable_bytes(self) -> float:
        """Bytes that tensors can take."""
        return USABLE_SHARE[self.kind] * self.memory_bytes


def this_device(num_devices: int = 1) -> Device:
    """The device of this machine: its GPU, or its CPUs with all memory."""
    if torch.cuda.is_available():
        return Device("cuda", torch.cuda.get_device_properties(0).total_memory, num_devices)
    return Device("cpu", float(psutil.virtual_memory().total), num_devices)


class Lengths(NamedTuple):
    """Tokens of the longest student prompt, teacher prompt and completion."""

    student: int
    teacher: int
    completion: int


def build_lengths(settings: config.Config, student: int, teacher: int) -> Lengths:
    """Longest lengths of a run whose longest prompts have so many tokens, analyses left out."""
    if not settings.has_teacher_view:
        teacher = student
    elif settings.views.analysis:
        teacher += settings.views.max_analysis_tokens
    return Lengths(student, teacher, settings.sampling.max_tokens)


def measure_prompts(settings: config.Config) -> tuple[int, int]:
    """Tokens of the longest student and teacher prompt, of examples spread over the run's data.

    Prompts that the run would drop are left out, and so are analyses.

    Raises:
        UserError: If data, configuration or tokenizer are missing, or no example fits.
    """
    views, sampling = settings.views, settings.sampling
    tokenizer = load_tokenizer(settings.model, Source.from_config(settings.model))
    rows, _ = load_examples(settings.data)
    examples = with_placebo(rows, settings.rubrics.placebo, PromptTemplates(views.templates))
    chosen = examples[:: -(-len(examples) // MEASURED_EXAMPLES)]
    if not settings.has_teacher_view:
        views = views.untaught(settings.learned_view)
    positions = getattr(load_hf_config(settings.model), "max_position_embeddings", None)
    room = limit_prompt_tokens(positions, sampling.max_prompt_tokens, sampling.max_tokens)
    prompts, _ = build_prompts(chosen, views, tokenizer, room)
    return max(len(p.student_ids) for p in prompts), max(len(p.teacher_ids) for p in prompts)


@dataclass(frozen=True)
class Work:
    """Work of one process in an optimizer step; of a schedule, its largest phase.

    ``no_grad_passes`` are forward passes without gradient, of teachers and of the student;
    ``support`` is the teacher's top k, 0 for losses over the vocabulary; ``copies`` the chunks of
    logits that the loss holds at once. If ``is_sparse``, only monitors see the whole vocabulary.
    ``max_tokens`` are those of a micro-batch, both views together.
    """

    examples: int
    completions: int
    samples: bool
    no_grad_passes: int
    support: int
    copies: float
    is_sparse: bool
    max_tokens: int

    def largest_microbatch(self, lengths: Lengths) -> list[Rollout]:
        """The micro-batch of a step with most tokens; ``lengths`` are those of all rollouts."""
        student, teacher, completion = (max(1, num) for num in lengths)
        answer = Completion((1,) * completion, "", finished=False)
        rollouts = [
            Rollout(
                Example(str(n), ""), (n, *(1,) * (student - 1)), (n, *(1,) * (teacher - 1)), answer
            )
            for n in range(self.examples)
            for _ in range(self.completions)
        ]
        parts = split_microbatches(rollouts, self.max_tokens, packs=True)
        return max(parts, key=lambda part: microbatch_tokens(part, packs=True))


def build_work(settings: config.Config, num_devices: int) -> Work:
    """The share of one process in a step whose examples so many processes share."""
    sizes: list[tuple[config.PhaseMethod | config.Sft, int, int]] = [
        (
            phase.method,
            phase.examples_per_step or settings.examples_per_step,
            phase.completions_per_example or settings.completions_per_example,
        )
        for phase in settings.phases
    ]
    if isinstance(settings.method, config.Sft):
        sizes = [(settings.method, settings.examples_per_step, 1)]
    method, examples, completions = max(sizes, key=lambda size: size[1] * size[2])
    leaves, rewards = objectives(method), config.reinforcements(method)
    has_criterion = any(isinstance(leaf, config.Criterion) for leaf in leaves)
    losses = [_loss_copies(leaf) for leaf in (*leaves, *rewards, *distillations(method))]
    supports = [d.support.k for d in distillations(method) if d.support.type == "teacher_top_k"]
    return Work(
        examples=math.ceil(examples / num_devices),
        # With fewer examples than processes, an example's completions are shared.
        completions=math.ceil(completions * min(examples, num_devices) / num_devices),
        samples=not isinstance(method, config.Sft),
        # Criterion also scores with and without the criteria that a completion fails.
        no_grad_passes=len(distillations(method))
        + 2 * has_criterion
        + sum((g.kl_weight > 0) + (g.updates_per_batch > 1) for g in rewards),
        support=max(supports, default=0),
        copies=max(losses, default=0.0) or _MONITOR_COPIES,
        is_sparse=not any(losses),
        max_tokens=settings.max_tokens_per_microbatch,
    )


def _loss_copies(method: object) -> float:
    """Chunks of logits that a loss holds at once; 0 for one that needs K logits a position."""
    if not isinstance(method, config.Distill):
        return _TOKEN_COPIES * isinstance(method, config.Grpo | config.Sft | config.Suppress)
    support = method.support
    if method.divergence.type == "sampled_token":
        return _TOKEN_COPIES
    if support.type == "full":
        return _FULL_COPIES[method.divergence.type]
    if support.type == "teacher_top_k" and support.outside == "renormalise":
        return 0.0
    return _TOP_K_COPIES[support.outside]


@dataclass(frozen=True)
class Plan:
    """Memory of an optimizer step on one device.

    ``held_bytes`` are held all the time, those of ``phases`` in one phase; both by name.
    """

    settings: config.Config
    model: PlannedModel
    work: Work
    lengths: Lengths
    device: Device
    held_bytes: Mapping[str, float]
    phases: Mapping[str, Mapping[str, float]]

    @property
    def peak_phase(self) -> str:
        """The phase that holds most."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def peak_bytes(self) -> float:
        """Bytes that are held in it."""
        return sum(self.held_bytes.values()) + sum(self.phases[self.peak_phase].values())

    def verdict(self) -> list[str]:
        """Sentences: whether it fits, which part is largest, what makes it fit."""
        device, at_peak = self.device, {**self.held_bytes, **self.phases[self.peak_phase]}
        fits = self.peak_bytes <= device.usable_bytes
        sentences = [
            f"It {'fits' if fits else 'does not fit'}: peak {self.peak_bytes / GIB:.1f} GiB "
            f"per device ({self.peak_phase}); {device.usable_bytes / GIB:.1f} of "
            f"{device.memory_bytes / GIB:.1f} GiB are usable. Largest part: "
            f"{max(at_peak, key=lambda name: at_peak[name])}."
        ]
        if not fits:
            sentences.append(
                "Less memory: model.activation_checkpointing, a smaller max_tokens_per_microbatch "
                "or engine.batch_size, LoRA, or more devices with processes.sharding=fsdp."
            )
        if device.kind == "cuda":
            sentences.append("Memory was compared with measurements on CPUs, not on GPUs.")
        return sentences


def build_plan(settings: config.Config, lengths: Lengths, device: Device) -> Plan:
    """Memory of a step, for the longest prompts and completions.

    Raises:
        ConfigError: If weights are sharded among one device.
        ModelError: If the model's configuration is missing, or its passes cannot be counted.
    """
    shards = device.num_devices if settings.processes.sharding == "fsdp" else 1
    if settings.processes.sharding == "fsdp" and shards == 1:
        raise ConfigError("processes.sharding: fsdp needs several devices: pass --devices")
    model = PlannedModel.from_config(settings.model)
    work = build_work(settings, device.num_devices)
    trained = TRAINED_BYTES * model.trained / shards
    stored = float(model.number * model.parameters + 4 * model.adapters)
    held_bytes = {"weights": stored / shards, "optimizer": 2 * trained}
    if settings.teacher.type == "ema" or (settings.teacher.type == "frozen" and model.is_full):
        held_bytes["teacher"] = trained
    if settings.overlap:
        held_bytes["weights of the sampler"] = trained
    engine = settings.engine
    if isinstance(engine, config.VllmEngine):
        number = 4 if (engine.dtype or settings.model.dtype) == "float32" else 2
        held_bytes["engine's weights"] = float(number * model.all_weights)
        held_bytes["engine's cache"] = engine.kv_cache_gib * GIB
    # FSDP gathers weights in bfloat16 under autocast, else as they are stored.
    gathered = 2.0 * model.all_weights if settings.precision == "bf16" else stored
    gathered *= shards > 1
    phases: dict[str, Mapping[str, float]] = {}
    if work.samples or settings.evaluation is not None:
        phases["sampling"] = {
            "gathered weights": gathered,
            **_sampling_bytes(settings, model, work, lengths),
        }
    counted = pass_bytes(settings, model, work.largest_microbatch(lengths))
    embeddings = gathered * model.embeddings / model.all_weights
    layers = model.text.num_hidden_layers
    in_pass = 2 * (gathered - embeddings) / layers + embeddings
    logits = _logits_bytes(settings, model, work, counted.positions, device.kind)
    if work.no_grad_passes:
        phases["teacher"] = {
            "gathered weights": in_pass,
            "activations": counted.teacher,
            "logits": logits,
        }
    layer = (model.trained - model.embeddings * model.is_full) / layers
    phases["student"] = {
        "gathered weights": in_pass,
        "gradients": trained,
        # FSDP scatters a layer's gradient from a gathered one.
        "gathered gradients": (TRAINED_BYTES + 2) * layer if shards > 1 else 0.0,
        "activations": counted.held,
        "logits or layer gradients": max(logits, counted.backward - counted.held),
    }
    phases["update"] = {"gradients": trained, "update": trained * (device.kind == "cuda")}
    return Plan(settings, model, work, lengths, device, held_bytes, phases)


def _sampling_bytes(
    settings: config.Config, model: PlannedModel, work: Work, lengths: Lengths
) -> dict[str, float]:
    if isinstance(settings.engine, config.VllmServer):
        return {}
    rows = min(settings.engine.batch_size, max(1, work.examples * work.completions))
    sizes = {"logits": 4.0 * 3 * rows * model.text.vocab_size}
    if isinstance(settings.engine, config.VllmEngine):
        return sizes
    is_autocast = casts_weights(settings)
    # Rotary positions make keys float32 under autocast; values are bfloat16.
    number = 3 if is_autocast else 2 if settings.precision == "bf16" else model.number
    cached = 2.0 * model.key * model.text.num_hidden_layers * number
    sizes["cache"] = rows * (lengths.student + lengths.completion) * cached * (1 + SPARE_SHARE)
    if is_autocast and model.is_full:
        # Autocast keeps its bfloat16 copies of trained weights until sampling ends.
        sizes["casts"] = 2.0 * model.all_weights
    return sizes


def _logits_bytes(
    settings: config.Config, model: PlannedModel, work: Work, positions: int, kind: str
) -> float:
    """Bytes of the logits that the loss or the monitors hold at once, or of gathered head rows.

    Gathered rows are float32, and beside that bfloat16 if the head computes in bfloat16.
    """
    chunk = CHUNK_ENTRIES[kind]
    # Without a loss over the vocabulary, only the monitors look at it, and not at all positions.
    looked = positions / monitor_stride(positions) if work.is_sparse else positions
    copies = 4.0 * work.copies * min(looked * model.text.vocab_size, chunk)
    number = 6 if settings.precision == "bf16" or model.number == 2 else 4
    rows = float(number * min(positions * work.support * model.text.hidden_size, chunk))
    return max(copies, rows) + (
        4.0 * model.text.vocab_size * model.text.hidden_size if model.is_full else 0.0
    )
