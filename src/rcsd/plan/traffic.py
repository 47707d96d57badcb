"""Bytes that a device sends to others in a step, and how long that takes.

With N processes:

    gradients    2 (N - 1) / N bytes of the gradient, once an update: a ring's sum
    gathers      (N - 1) / N bytes of the weights, for each pass over a part; twice where a backward
                 pass follows (FSDP2 lets a layer go after its forward pass)
    scatters     (N - 1) / N bytes of the gradient, for each part that is learned from
    sampling     (N - 1) / N bytes of the weights for each token, where the training process samples
                 with weights that are sharded
    sync         the trained weights in bfloat16, once a step, where another engine samples

(Patarasu and Yuan 2009 for rings; FSDP: arXiv 2304.11277, section 3.) Latencies count
nothing, nor do the sums within an inference engine that several devices share.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rcsd.plan.memory import Setup
from rcsd.plan.workload import TRAINED_BYTES


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


def traffic_of(setup: Setup, decoded: float) -> Traffic:
    """What a device sends.

    Args:
        setup: The plan's.
        decoded: Times that the sampling model is run for one more token.
    """
    work, num = setup.work, setup.cluster.num_devices
    others = (num - 1) / num
    gradient = TRAINED_BYTES * setup.shape.trained
    sent: dict[str, float] = {}
    if setup.is_sharded:
        gathered = others * setup.gathered_bytes
        sent["gathers, teacher"] = gathered * (work.teacher_passes + work.frozen_passes)
        sent["gathers, teacher"] *= work.num_parts
        sent["gathers, student"] = 2 * gathered * work.num_parts * work.updates
        sent["scatters of the gradient"] = others * gradient * work.num_parts * work.updates
        if work.samples and setup.is_own_engine:
            sent["gathers, sampling"] = gathered * decoded
    elif num > 1:
        sent["sum of the gradient"] = 2 * others * gradient * work.updates
    if work.samples and not setup.is_own_engine:
        sent["sync of the engine"] = 2.0 * setup.shape.trained
    return Traffic({name: value for name, value in sent.items() if value}, setup.cluster.link)
