"""``rcsd plan``: what a step of a run needs on given machines, reckoned before anything is loaded.

Predictions from formulas (`rcsd.recipes.plan.activations`, `rcsd.recipes.plan.memory`,
`rcsd.recipes.plan.seconds`,
`rcsd.recipes.plan.traffic`), not measurements. On processors they have been compared with measured
steps (``benchmarks/plan.py``); what they say of GPUs and of several machines nobody has checked.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rcsd import config
from rcsd.errors import ConfigError
from rcsd.recipes.plan.hardware import Cluster
from rcsd.recipes.plan.memory import Memory, Setup, memory_of
from rcsd.recipes.plan.seconds import Times, times_of
from rcsd.recipes.plan.shapes import Shape
from rcsd.recipes.plan.workload import Lengths, in_halves, work_of


@dataclass(frozen=True)
class Change:
    """Another way to run the same step.

    Args:
        name: What is changed, as it stands in a configuration.
        peak: Bytes of a device then.
        fits: Whether they fit.
        step: Seconds of a step.
    """

    name: str
    peak: float
    fits: bool
    step: float


@dataclass(frozen=True)
class Plan:
    """What a step needs.

    Args:
        setup: What was planned.
        memory: Bytes of a device.
        times: Seconds by phase, and bytes between devices.
        changes: What else could be done, alone or, where that does not fit, together.
    """

    setup: Setup
    memory: Memory
    times: Times
    changes: tuple[Change, ...]

    @property
    def limit(self) -> str:
        """What to look at first: memory where it does not fit, else what takes longest."""
        if not self.memory.fits:
            return f"memory: {self.memory.largest}"
        longest = self.times.longest
        return f"{longest}: {self.times.phases[longest].limit}"

    def record(self) -> dict[str, object]:
        """Everything, for JSON."""
        setup, memory, times = self.setup, self.memory, self.times
        return {
            "config": setup.settings.model_dump(mode="json"),
            "shape": dataclasses.asdict(setup.shape),
            "cluster": dataclasses.asdict(setup.cluster),
            "work": dataclasses.asdict(setup.work),
            "memory_bytes": {"kept": dict(memory.kept)}
            | {name: dict(phase) for name, phase in memory.phases.items()},
            "peak_bytes": memory.peak,
            "peak_phase": memory.peak_phase,
            "fits": memory.fits,
            "seconds": {
                name: {"seconds": phase.seconds, "limit": phase.limit, **phase.causes}
                for name, phase in times.phases.items()
            },
            "step_seconds": times.step,
            "decoded_tokens": times.decoded,
            "sent_bytes": dict(times.traffic.sent),
            "limit": self.limit,
            "changes": [dataclasses.asdict(change) for change in self.changes],
        }


def setup_of(settings: config.Config, shape: Shape, lengths: Lengths, cluster: Cluster) -> Setup:
    """What a plan is made from.

    Args:
        settings: The run.
        shape: Of its model.
        lengths: Of prompts and completions.
        cluster: Where it runs.

    Raises:
        ConfigError: If weights are to be shared out among one process.
    """
    if settings.processes.sharding == "fsdp" and cluster.num_devices == 1:
        raise ConfigError(
            "processes.sharding: fsdp shards weights among processes, and one device has one; give "
            "--devices-per-node or --nodes, or processes.sharding=none"
        )
    work = work_of(settings, lengths, cluster.num_devices, shape.is_full)
    return Setup(settings, shape, work, cluster)


def plan_of(setup: Setup) -> Plan:
    """The plan, and what else could be done."""
    return Plan(setup, memory_of(setup), times_of(setup), tuple(_changes(setup)))


def _changes(setup: Setup) -> Iterator[Change]:
    """Each change by itself; where the run does not fit, also all that save memory together."""
    found = dict(_savings(setup))
    together = setup
    for name in found:
        together = _savings(together).get(name, together)
    is_tight = not memory_of(setup).fits
    if is_tight and len(found) > 1:
        found["all of these"] = together
    takes_engine = setup.cluster.hardware.kind == "cuda" and setup.work.samples
    # Handing sharded weights over fails (docs/scaling.md), and vLLM samples nothing ahead.
    is_free = not (setup.is_sharded or setup.settings.overlap)
    if takes_engine and setup.is_own_engine and is_free:
        rows = setup.settings.engine.batch_size
        found["engine.type=vllm"] = _changed(setup, engine=config.engine_by_type("vllm", rows))
    for name, changed in found.items():
        memory = memory_of(changed)
        yield Change(name, memory.peak, memory.fits, times_of(changed).step)


def _changed(setup: Setup, **sections: object) -> Setup:
    """With other sections of its settings."""
    return dataclasses.replace(setup, settings=setup.settings.model_copy(update=sections))


def _savings(setup: Setup) -> Mapping[str, Setup]:
    """What saves memory, as it stands in a configuration."""
    settings, work = setup.settings, setup.work
    found: dict[str, Setup] = {}
    # Refused by a run that overlaps; one that is sharded does not find the size of its parts.
    if not (setup.is_sharded or settings.overlap) and setup.cluster.num_devices > 1:
        processes = settings.processes.model_copy(update={"sharding": "fsdp"})
        name, tokens = "processes.sharding=fsdp", work.max_tokens_per_microbatch
        if settings.max_tokens_per_microbatch == "auto":
            name += f" max_tokens_per_microbatch={tokens}"
        found[name] = _changed(setup, processes=processes, max_tokens_per_microbatch=tokens)
    if not settings.model.activation_checkpointing:
        model = settings.model.model_copy(update={"activation_checkpointing": True})
        found["model.activation_checkpointing=true"] = _changed(setup, model=model)
    if work.part(longest=True).positions > work.lengths.longest_completion:
        halves = in_halves(work)
        found[f"max_tokens_per_microbatch={halves.max_tokens_per_microbatch}"] = (
            dataclasses.replace(setup, work=halves)
        )
    return found
