"""What machines can do: a small table from data sheets, and which share of it is attained.

A data sheet says what no program reaches. What programs reach stands beside it as named shares, so
that a reader can disagree with each; they are assumptions, with what they lean on, and nobody has
checked them here: no GPU was at hand. `rcsd.recipes.plan.machine` measures the machine that it
runs on instead, and then every share is 1.
"""

import difflib
from dataclasses import dataclass
from typing import Literal

from rcsd.errors import ConfigError


@dataclass(frozen=True)
class Attained:
    """Shares of a data sheet's numbers that programs reach.

    Args:
        matmul: Of the peak operations a second, by large matrix products alone. Assumed 0.6: whole
            training runs report 0.38 to 0.43 with everything else counted in (Llama 3, arXiv
            2407.21783, table 4), single kernels 0.75 (arXiv 2407.08608).
        attention: Of the same, by fused attention. 0.35 on an H100 (FlashAttention-2, which
            PyTorch ships, as measured in arXiv 2407.08608, abstract).
        bandwidth: Of the memory's bytes a second, by kernels that stream. Assumed 0.8.
        link: Of a link's bytes a second, by collectives of many megabytes. Assumed 0.8.
    """

    matmul: float = 0.6
    attention: float = 0.35
    bandwidth: float = 0.8
    link: float = 0.8


SECONDS_AN_OPERATION = 2e-5
"""That the host of an accelerator needs to start one operation of a model, Python around it
included. Assumed: between 5e-6, which `rcsd.recipes.plan.machine` measures where nothing is
launched (AMD
EPYC), and 3e-5 of a published 25.5 tokens a second of Llama 7B without compilation, some 1,200
operations a token (PyTorch's blog, "Accelerating Generative AI with PyTorch II: GPT, Fast")."""

STORAGE_RATE = 2e9
"""Bytes a second that one process writes to storage, or reads. Assumed."""

MEASURED = Attained(matmul=1.0, attention=1.0, bandwidth=1.0, link=1.0)
"""Of numbers that were measured and not read in a data sheet."""


@dataclass(frozen=True)
class Hardware:
    """One device and its links.

    Args:
        name: Of the device.
        kind: ``cuda`` (ROCm too, as PyTorch calls it) or ``cpu``.
        bf16_flops: Operations a second of dense matrix products in bfloat16, at best.
        fp32_flops: The same in float32 without TensorFloat-32, which PyTorch leaves off.
        memory_bytes: Of the device's memory.
        bandwidth: Bytes a second between memory and chip.
        node_link: Bytes a second that a device sends to others of its node, one direction.
        network_link: Bytes a second that a device sends to other nodes.
        attained: Which shares of these numbers programs reach.
        operation_seconds: Of the host, for starting one operation.
        attention_flops: As measured; None takes ``attained.attention`` of the dense ones.
        few_rows_bandwidth: Bytes of weights a second that a product of few rows reads, as measured;
            None takes the memory's.
    """

    name: str
    kind: Literal["cuda", "cpu"]
    bf16_flops: float
    fp32_flops: float
    memory_bytes: float
    bandwidth: float
    node_link: float
    network_link: float
    attained: Attained = Attained()
    operation_seconds: float = SECONDS_AN_OPERATION
    attention_flops: float | None = None
    few_rows_bandwidth: float | None = None

    def matmul_rate(self, num_bytes: int) -> float:
        """Attained operations a second of matrix products, by the bytes of a number."""
        return self.attained.matmul * (self.bf16_flops if num_bytes == 2 else self.fp32_flops)

    def attention_rate(self, num_bytes: int) -> float:
        """Attained operations a second of attention."""
        if self.attention_flops is not None:
            return self.attention_flops
        return self.attained.attention * (self.bf16_flops if num_bytes == 2 else self.fp32_flops)

    @property
    def memory_rate(self) -> float:
        """Attained bytes a second of the memory."""
        return self.attained.bandwidth * self.bandwidth

    @property
    def weights_rate(self) -> float:
        """Attained bytes of weights a second, where they are multiplied with few rows."""
        return self.few_rows_bandwidth or self.memory_rate


ACCELERATORS = {
    "h100": Hardware("H100 SXM", "cuda", 989.4e12, 67e12, 80e9, 3.35e12, 450e9, 50e9),
    "h200": Hardware("H200 SXM", "cuda", 989.4e12, 67e12, 141e9, 4.8e12, 450e9, 50e9),
    "a100": Hardware("A100 SXM 80 GB", "cuda", 312e12, 19.5e12, 80e9, 2.039e12, 300e9, 25e9),
    "mi300x": Hardware("MI300X", "cuda", 1307.4e12, 163.4e12, 192e9, 5.3e12, 448e9, 50e9),
}
"""By the name of ``--device``. Dense operations, not those with sparsity. Sources:

h100    NVIDIA H100 Tensor Core GPU data sheet, SXM5: 1,979 teraFLOPS bfloat16 with sparsity, half
        of it without; 67 float32; 80 GB at 3.35 TB/s; NVLink 900 GB/s in both directions. DGX H100
        data sheet: eight 400 Gb/s adapters for eight GPUs.
h200    NVIDIA H200 Tensor Core GPU data sheet, SXM: the same but 141 GB at 4.8 TB/s.
a100    NVIDIA A100 80 GB data sheet, SXM: 312 and 19.5 teraFLOPS; 2,039 GB/s; NVLink 600 GB/s in
        both directions. DGX A100 data sheet: eight 200 Gb/s adapters for eight GPUs.
mi300x  AMD Instinct MI300X data sheet: 1,307.4 and 163.4 teraFLOPS; 192 GB at 5.3 TB/s; seven
        Infinity Fabric links of 128 GB/s in both directions. Network: one 400 Gb/s adapter a GPU,
        which is usual and not of the data sheet.
"""


@dataclass(frozen=True)
class Cluster:
    """Machines that run one process a device.

    Args:
        hardware: Of every device.
        devices_per_node: Devices of a machine.
        nodes: Machines.
    """

    hardware: Hardware
    devices_per_node: int = 1
    nodes: int = 1

    @property
    def num_devices(self) -> int:
        """Of all nodes: the processes of the run."""
        return self.devices_per_node * self.nodes

    @property
    def link(self) -> float:
        """Attained bytes a second that a device sends when all take part: by the slowest link."""
        hardware = self.hardware
        slowest = hardware.node_link if self.nodes == 1 else hardware.network_link
        return hardware.attained.link * slowest


def accelerator(name: str) -> Hardware:
    """A row of the table.

    Raises:
        ConfigError: If there is none of the name.
    """
    if name not in ACCELERATORS:
        nearest = difflib.get_close_matches(name, ACCELERATORS, 1)
        meant = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ConfigError(
            f"--device {name}{meant} There are {', '.join(ACCELERATORS)}, and here: this machine"
        )
    return ACCELERATORS[name]
