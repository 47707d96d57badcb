"""Bytes that a device holds in a step: what stays, and what comes and goes with each phase.

    weights      b W, adapters 4 A; without adapters 4 W
    optimizer    8 bytes for each trained weight: AdamW's two moments in float32
    teacher      4 bytes for each trained weight, where it has weights of its own: a moving average,
                 or the frozen copy of a model that is trained in full
    gradients    4 bytes for each trained weight, from the student's pass to the update
    cache        2 K c for each layer, row and column, and a quarter to spare
                 (`rcsd.engines.cache`); a row is as long as the longest prompt and completion
    activations  `rcsd.plan.activations`
    update       4 bytes for each trained weight on a GPU, where AdamW goes over all at once
                 (``foreach``)

Sharded (FSDP2), the first four are divided by the number of processes, and two layers and the
embeddings are there in full: those that compute, and those that are fetched meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rcsd import config
from rcsd.engines.cache import SPARE_SHARE
from rcsd.plan.activations import Options, activations_of, head_bytes
from rcsd.plan.hardware import Cluster
from rcsd.plan.shapes import Shape
from rcsd.plan.workload import TRAINED_BYTES, Bytes, Sharding, Work

GIB = 2**30


@dataclass(frozen=True)
class Setup:
    """Everything that a plan is made from.

    Args:
        settings: The run.
        shape: Of its model.
        sizes: Of its numbers.
        work: Of one process.
        cluster: Where it runs.
        sharding: Of the weights.
        engine: What samples, by its ``type``: ``local`` and ``hf`` in the training process;
            ``vllm`` on the same devices with weights of its own, ``vllm_server`` on as many others.
    """

    settings: config.Config
    shape: Shape
    sizes: Bytes
    work: Work
    cluster: Cluster
    sharding: Sharding
    engine: str

    @property
    def is_sharded(self) -> bool:
        """Whether a process holds a share of the weights alone."""
        return self.sharding == "fsdp" and self.cluster.num_devices > 1

    @property
    def num_shards(self) -> int:
        """Processes that weights are divided among."""
        return self.cluster.num_devices if self.is_sharded else 1

    @property
    def is_own_engine(self) -> bool:
        """Whether the training process itself samples, with the weights that it trains."""
        return self.engine in ("local", "hf")

    @property
    def packs(self) -> bool:
        """Whether completions share their prompt's row."""
        model = self.settings.model
        return model.packing and model.attention in (None, "sdpa")

    @property
    def weight_bytes(self) -> float:
        """Of all weights as they are stored, unsharded."""
        shape = self.shape
        if shape.is_full:
            return float(TRAINED_BYTES * shape.parameters)
        return float(self.sizes.weights * shape.parameters + TRAINED_BYTES * shape.adapters)

    @property
    def gathered_bytes(self) -> float:
        """Of all weights as they are gathered from other processes."""
        return float(min(self.sizes.compute, self.sizes.weights) * self.shape.all_weights)

    @property
    def rows(self) -> int:
        """Completions that are sampled together."""
        return max(1, min(self.settings.engine.batch_size, self.work.num_completions))

    @property
    def cache_number_bytes(self) -> float:
        """Of a key or value in the cache; under autocast keys are float32 after their rotation."""
        sizes = self.sizes
        return (sizes.weights + sizes.compute) / 2 if sizes.is_autocast else sizes.compute

    @property
    def engine_devices(self) -> int:
        """Devices of a node that share an inference engine's copy of the weights.

        The fewest, doubled from one, among which the copy takes less than half of the memory.
        """
        needed = 2.0 * self.shape.parameters / (0.5 * self.cluster.hardware.memory_bytes)
        num = 1
        while num < needed and num < self.cluster.devices_per_node:
            num *= 2
        return num


@dataclass(frozen=True)
class Memory:
    """Bytes of a device.

    Args:
        kept: What is there all the time, by name.
        phases: What comes and goes, by phase and name.
        capacity: What the device has.
        usable_share: Of it, that tensors can take.
    """

    kept: Mapping[str, float]
    phases: Mapping[str, Mapping[str, float]]
    capacity: float
    usable_share: float

    @property
    def peak_phase(self) -> str:
        """When most is held."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def at_peak(self) -> dict[str, float]:
        """Bytes at that time, by name."""
        return {**self.kept, **self.phases[self.peak_phase]}

    @property
    def peak(self) -> float:
        """Most that is held."""
        return sum(self.at_peak.values())

    @property
    def largest(self) -> str:
        """What takes most of it."""
        return max(self.at_peak, key=lambda name: self.at_peak[name])

    @property
    def fits(self) -> bool:
        """Whether the device has room for it."""
        return self.peak <= self.usable_share * self.capacity


USABLE_SHARE = {"cuda": 0.9, "cpu": 0.6}
"""Of a device's memory: the rest goes to the driver's context and to what allocators waste. On CPUs
as `rcsd.fitting.USED_SHARE`; on GPUs, whose peak is counted here to the byte, assumed."""


def memory_of(setup: Setup) -> Memory:
    """What a device of the run holds, at worst: prompts and completions as long as any."""
    shape, shards = setup.shape, setup.num_shards
    trained = TRAINED_BYTES * shape.trained / shards
    kept = {"weights": setup.weight_bytes / shards, "optimizer": 2 * trained}
    teacher = setup.settings.teacher.type
    if teacher == "ema" or (teacher == "frozen" and shape.is_full):
        kept["teacher"] = trained
    if setup.settings.overlap:
        kept["copy for overlap"] = trained
    if setup.engine == "vllm":
        kept["engine's weights"] = 2.0 * shape.parameters / setup.engine_devices
    if setup.is_sharded:
        embeddings = shape.head if shape.is_tied else 2 * shape.head
        share = (2 * shape.layer_weights + embeddings) / shape.all_weights
        kept["gathered weights"] = share * setup.gathered_bytes
    phases: dict[str, Mapping[str, float]] = {}
    if setup.work.samples and setup.engine != "vllm_server":
        phases["sampling"] = _sampling(setup)
    if setup.work.teacher_passes + setup.work.frozen_passes:
        phases["teacher"] = _scoring(setup)
    phases["student"] = _learning(setup, trained)
    on_gpu = setup.cluster.hardware.kind == "cuda"
    phases["update"] = {"gradients": trained, "update": trained if on_gpu else 0.0}
    hardware = setup.cluster.hardware
    return Memory(kept, phases, hardware.memory_bytes, USABLE_SHARE[hardware.kind])


def _sampling(setup: Setup) -> dict[str, float]:
    shape, lengths = setup.shape, setup.work.lengths
    columns = lengths.longest_student + lengths.longest_completion
    number = setup.cache_number_bytes if setup.is_own_engine else 2
    cache = setup.rows * columns * 2 * shape.key * shape.layers * number * (1 + SPARE_SHARE)
    found = {"cache": cache, "logits": 4.0 * 3 * setup.rows * shape.vocabulary}
    if setup.is_own_engine and setup.sizes.is_autocast and shape.is_full:
        # Autocast remembers its copies of what is trained until sampling ends.
        found["casts"] = 2.0 * (shape.body + shape.head)
    if setup.engine == "vllm":
        found["cache"] /= 1 + SPARE_SHARE
    return found


def _scoring(setup: Setup) -> dict[str, float]:
    """Nothing is kept for a backward pass: one layer's numbers, and chunks of logits."""
    part, shape = setup.work.part(longest=True), setup.shape
    rows = part.rows(part.teacher, setup.packs)
    widest = max(3 * shape.intermediate, 3 * shape.query) + 2 * shape.hidden
    logits = head_bytes(shape, setup.sizes, setup.work, part.positions, _kind(setup))
    return {"activations": rows.tokens * setup.sizes.compute * widest, "logits": logits}


def _learning(setup: Setup, trained: float) -> dict[str, float]:
    part, settings = setup.work.part(longest=True), setup.settings
    rows = part.rows(part.student, setup.packs)
    options = Options(_kind(setup), settings.model.activation_checkpointing)
    found = activations_of(setup.shape, setup.sizes, setup.work, rows, part.positions, options)
    return {
        "gradients": trained,
        "activations": found.kept,
        "casts": found.casts,
        "passing": found.passing,
    }


def _kind(setup: Setup) -> str:
    return setup.cluster.hardware.kind
