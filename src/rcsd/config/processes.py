"""Several processes of one run."""

from typing import Literal

from pydantic import Field

from rcsd.config.base import Section


class Processes(Section):
    """What holds where a run is started as several processes, one for each device.

    How many there are says the launcher: ``rcsd train --processes N``, ``accelerate launch`` or
    ``torchrun``. Each samples and learns from its share of a step; the step is that of one process.
    """

    sharding: Literal["none", "fsdp"] = "none"
    """Whether each process holds the whole model, or by FSDP2 its share of every layer's weights,
    gradients and optimizer state. Sharded weights are gathered layer by layer as they are needed;
    to sample with engine local, all of them at once."""
    timeout_seconds: int = Field(default=1800, ge=1)
    """Seconds that a process waits for the others, after which the run ends with an error. Longer
    than the longest completions of a step or an evaluation take."""
