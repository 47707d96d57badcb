"""Bytes that a device sends to others in a step, and how long that takes.

With N processes:

    gradients    2 (N - 1) / N bytes of the gradient, once an update: a ring's sum
    gathers      (N - 1) / N bytes of the weights, for each pass over a part; where a backward pass
                 follows, of the layers once more (FSDP2 lets them go after their forward pass)
    scatters     (N - 1) / N bytes of the gradient, for each part that is learned from
    sampling     (N - 1) / N bytes of the weights once a step, whole while it is sampled
                 (`rcsd.training.fsdp.Sharding.whole`); once more to hand them to an engine of its
                 own

(Patarasu and Yuan 2009 for rings; FSDP: arXiv 2304.11277, section 3.) Latencies count
nothing, nor do the sums within an inference engine that several devices share.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rcsd.recipes.plan.memory import Setup
from rcsd.recipes.plan.workload import TRAINED_BYTES


@dataclass(frozen=True)
class Traffic:
    """What a device sends in a step.

    Args:
        sent: Bytes by purpose.
        rate: Bytes a second.
    """

    sent: Mapping[str, float]
    rate: float

    def seconds(self, *names: str) -> float:
        """How long some of it takes, without anything else meanwhile."""
        return sum(self.sent.get(name, 0.0) for name in names) / self.rate


def traffic_of(setup: Setup) -> Traffic:
    """What a device sends."""
    work, num = setup.work, setup.cluster.num_devices
    others = (num - 1) / num
    gradient = TRAINED_BYTES * setup.shape.trained
    sent: dict[str, float] = {}
    if setup.is_sharded:
        gathered = others * setup.gathered_bytes
        again = gathered - others * setup.gathered_embeddings
        sent["gathers, teacher"] = gathered * (work.teacher_passes + work.frozen_passes)
        sent["gathers, teacher"] *= work.num_parts
        sent["gathers, student"] = (gathered + again) * work.num_parts * work.updates
        sent["scatters of the gradient"] = others * gradient * work.num_parts * work.updates
        if work.samples:
            sent["gathers, sampling"] = gathered * (1 if setup.is_own_engine else 2)
    elif num > 1:
        sent["sum of the gradient"] = 2 * others * gradient * work.updates
    return Traffic({name: value for name, value in sent.items() if value}, setup.cluster.link)
