"""Bytes that a device holds in a step: what stays, and what comes and goes with each phase.

    weights      b W, adapters 4 A; without adapters 4 W
    optimizer    8 bytes for each trained weight: AdamW's two moments in float32
    teacher      4 bytes for each trained weight, where it has weights of its own: a moving average,
                 or the frozen copy of a model that is trained in full
    gradients    4 bytes for each trained weight, from the student's pass to the update
    cache        2 K c for each layer, row and column, and a quarter to spare
                 (`rcsd.engines.kv_cache`); a row is as long as the longest prompt and completion
    activations  `rcsd.recipes.plan.activations`
    update       4 bytes for each trained weight on a GPU, where AdamW goes over all at once
                 (``foreach``)

An engine vllm keeps weights and cache of its own all the time; a server is on other devices.
Evaluations sample as steps do. Gradients of weights that are not sharded are summed in place.

Sharded (FSDP2, `rcsd.training.fsdp`), the first four are divided by the number of processes, and
there are whole:

    sampling     all weights, gathered before and let go afterwards, whatever samples
    a pass       two layers, that which computes and that which is fetched meanwhile, and from its
                 beginning to the end of its backward pass embeddings and head
    backward     the gradient of what is trained: a layer's, and 4 bytes a weight from which it is
                 scattered; that of the head from the loss on; at the end, both embeddings' so
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rcsd import config
from rcsd.engines.kv_cache import SPARE_SHARE
from rcsd.recipes.plan.activations import Options, activations_of, head_bytes
from rcsd.recipes.plan.hardware import Cluster
from rcsd.recipes.plan.shapes import Shape
from rcsd.recipes.plan.workload import TRAINED_BYTES, Bytes, Work, bytes_of

GIB = 2**30
WHOLE = "gathered weights"


@dataclass(frozen=True)
class Setup:
    """Everything that a plan is made from.

    Args:
        settings: The run.
        shape: Of its model.
        work: Of one process.
        cluster: Where it runs.
    """

    settings: config.Config
    shape: Shape
    work: Work
    cluster: Cluster

    @property
    def sizes(self) -> Bytes:
        """Of its numbers."""
        return bytes_of(self.settings)

    @property
    def is_sharded(self) -> bool:
        """Whether a process holds a share of the weights alone."""
        return self.settings.processes.sharding == "fsdp"

    @property
    def num_shards(self) -> int:
        """Processes that weights are divided among."""
        return self.cluster.num_devices if self.is_sharded else 1

    @property
    def is_own_engine(self) -> bool:
        """Whether the training process itself samples, with the weights that it trains."""
        return isinstance(self.settings.engine, config.LocalEngine | config.HfEngine)

    @property
    def replays(self) -> bool:
        """Whether the engine replays recorded graphs, which its host starts as one operation."""
        engine = self.settings.engine
        return engine.compiled if isinstance(engine, config.VllmEngine) else not self.is_own_engine

    @property
    def engine_number(self) -> int:
        """Bytes of a number in an engine with weights of its own; in a server assumed."""
        engine = self.settings.engine
        is_wide = self.settings.model.dtype == "float32"
        if isinstance(engine, config.VllmEngine):
            return 4 if engine.dtype == "float32" or (engine.dtype is None and is_wide) else 2
        return 2

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
        """Of all weights as they are gathered from other processes: in bfloat16 or as they are."""
        if self.settings.precision == "bf16":
            return 2.0 * self.shape.all_weights
        return self.weight_bytes

    @property
    def gathered_number(self) -> int:
        """Bytes of a gathered weight of the model itself."""
        return 2 if self.settings.precision == "bf16" else self.sizes.weights

    @property
    def gathered_embeddings(self) -> float:
        """Of what stays whole for the whole of a pass."""
        return float(self.gathered_number * self.shape.embeddings)

    @property
    def rows(self) -> int:
        """Completions that are sampled together; in vLLM as many as its cache has room for."""
        engine, lengths = self.settings.engine, self.work.lengths
        rows = min(engine.batch_size, self.work.num_completions)
        if isinstance(engine, config.VllmEngine):
            room = engine.kv_cache_gib * GIB / self.cached_bytes
            rows = min(rows, int(room / (lengths.student + lengths.completion)))
        return max(1, rows)

    @property
    def cached_bytes(self) -> float:
        """Of the keys and values of a token; under autocast keys are float32 by their rotation."""
        sizes = self.sizes
        number = sizes.compute if self.is_own_engine else self.engine_number
        if self.is_own_engine and sizes.is_autocast:
            number = (sizes.weights + sizes.compute) / 2
        return 2.0 * self.shape.key * self.shape.layers * number

    @property
    def engine_devices(self) -> int:
        """Devices that share a copy of the weights to sample with.

        Those of a server are assumed to be as many as the run's own, and the fewest of a node,
        doubled from one, share a copy, which then takes less than half of their memory.
        """
        if not isinstance(self.settings.engine, config.VllmServer):
            return 1
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
as `rcsd.training.auto_microbatch.USED_SHARE`; on GPUs, whose peak is counted here to the byte,
assumed."""


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
    engine = setup.settings.engine
    if isinstance(engine, config.VllmEngine):
        kept["engine's weights"] = float(setup.engine_number * shape.all_weights)
        kept["engine's cache"] = engine.kv_cache_gib * GIB
    phases: dict[str, Mapping[str, float]] = {}
    if setup.work.samples or setup.settings.evaluation is not None:
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
    found = {WHOLE: setup.gathered_bytes if setup.is_sharded else 0.0}
    if isinstance(setup.settings.engine, config.VllmServer):
        return found
    found["logits"] = 4.0 * 3 * setup.rows * shape.vocabulary
    if not setup.is_own_engine:
        return found
    columns = lengths.longest_student + lengths.longest_completion
    found["cache"] = setup.rows * columns * setup.cached_bytes * (1 + SPARE_SHARE)
    if setup.sizes.is_autocast and shape.is_full:
        # Autocast remembers its copies of what is trained until sampling ends.
        found["casts"] = 2.0 * (shape.body + shape.head)
    return found


def _scoring(setup: Setup) -> dict[str, float]:
    """Nothing is kept for a backward pass: one layer's numbers, and chunks of logits."""
    part, shape = setup.work.part(longest=True), setup.shape
    rows = part.rows(part.teacher, setup.packs)
    widest = max(3 * shape.intermediate, 3 * shape.query) + 2 * shape.hidden
    logits = head_bytes(shape, setup.sizes, setup.work, part.positions, _kind(setup))
    activations = rows.tokens * setup.sizes.compute * widest
    return {WHOLE: _gathered(setup), "activations": activations, "logits": logits}


def _gathered(setup: Setup) -> float:
    """Of weights that are whole while a sharded model is passed through."""
    if not setup.is_sharded:
        return 0.0
    layers = setup.gathered_bytes - setup.gathered_embeddings
    return 2 * layers / setup.shape.layers + setup.gathered_embeddings


def _learning(setup: Setup, trained: float) -> dict[str, float]:
    """At the peak of the backward pass, or at its end, whichever holds more."""
    part, settings = setup.work.part(longest=True), setup.settings
    rows = part.rows(part.student, setup.packs)
    options = Options(_kind(setup), settings.model.activation_checkpointing)
    found = activations_of(setup.shape, setup.sizes, setup.work, rows, part.positions, options)
    common = {WHOLE: _gathered(setup), "gradients": trained}
    backward = {"activations": found.kept, "casts": found.casts, "passing": found.passing}
    if not setup.is_sharded:
        return common | backward
    shape, number = setup.shape, setup.gathered_number
    scattered = number + TRAINED_BYTES
    layer = shape.layer_weights if shape.is_full else shape.adapters / shape.layers
    backward["whole gradients"] = scattered * layer + number * shape.head * shape.is_full
    end = {"whole gradients": float(scattered * shape.embeddings * shape.is_full)}
    return common | max(backward, end, key=lambda held: sum(held.values()))


def _kind(setup: Setup) -> str:
    return setup.cluster.hardware.kind
