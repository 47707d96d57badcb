"""What the machine at hand does: a few seconds of products, streams and small operations.

Axes: L tokens of a row, B rows of one token, I and O widths of a linear layer.
"""

import time
from collections.abc import Callable
from typing import Any

import psutil
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from rcsd import config
from rcsd.models.cpu_linear import linear, make_swift
from rcsd.models.policy import adapted
from rcsd.recipes.plan.hardware import MEASURED, SECONDS_AN_OPERATION, Hardware
from rcsd.recipes.plan.seconds import ADAPTER_OPERATIONS, LAYER_OPERATIONS, NORM_OPERATIONS
from rcsd.recipes.plan.shapes import Shape
from rcsd.recipes.plan.workload import Bytes

Clock = Callable[[], float]

TOKENS = 512
"""L of the products that are measured: enough that no more would be faster."""
COLD_BYTES = 2**28
"""Of the weights that are gone through, so that none of them is still in a cache."""
MOST_LAYERS = 1024
"""That are gone through; all of a tiny model's are in the caches in its runs too."""
TRIES = 3
"""The best of so many counts: others may use the machine too."""
_SMALL_LAYERS = 4


def machine(shape: Shape, sizes: Bytes, rows: int, clock: Clock = time.perf_counter) -> Hardware:
    """This machine, measured with layers of the run's own widths and types.

    Products of L tokens with the feed-forward part's weights; the same with the few rows that
    sampling has, which do little but read the weights; attention over L tokens; a product of two
    tensors entry by entry, which streams; and a model so small that only its operations take time.
    Processes of one machine are taken to exchange bytes as fast as its memory does.

    Args:
        shape: Of the run's model.
        sizes: Of its numbers.
        rows: Completions that are sampled together.
        clock: Tells seconds; that of the process where others use the processor too, which counts
            the same on one thread alone.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if sizes.compute == 2 else torch.float32
    wide, high = shape.intermediate, shape.hidden
    num = min(MOST_LAYERS, max(2, COLD_BYTES // (wide * high * dtype.itemsize)))
    weights = [torch.randn(wide, high, dtype=dtype, device=device) for _ in range(num)]
    few = weights[: max(2, num // 16)]
    all_rows = torch.randn(TOKENS, high, dtype=dtype, device=device)
    few_rows = torch.randn(rows, high, dtype=dtype, device=device)
    triples = min(MOST_LAYERS, max(2, COLD_BYTES // (3 * TOKENS * wide * dtype.itemsize)))
    entries = torch.ones(triples, 3, TOKENS, wide, dtype=dtype, device=device)
    with torch.no_grad():
        product = _best(clock, lambda: [linear(all_rows, w) for w in few], device) / len(few)
        read = _best(clock, lambda: [linear(few_rows, w) for w in weights], device) / num
        attended = _best(clock, lambda: _attend(shape, dtype, device), device)
        streamed = _best(clock, lambda: [torch.mul(a, b, out=c) for a, b, c in entries], device)
    flops = 2 * TOKENS * wide * high / product
    bandwidth = entries.nbytes / streamed
    return Hardware(
        name=_name(device),
        kind="cuda" if device.type == "cuda" else "cpu",
        bf16_flops=flops,
        fp32_flops=flops,
        memory_bytes=_memory(device),
        bandwidth=bandwidth,
        node_link=bandwidth,
        network_link=bandwidth,
        attained=MEASURED,
        operation_seconds=_operation_seconds(clock, shape.rank > 0)
        if device.type == "cpu"
        else SECONDS_AN_OPERATION,
        attention_flops=4 * shape.query * TOKENS**2 / attended,
        few_rows_bandwidth=weights[0].nbytes / read,
    )


def _best(clock: Clock, work: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(TRIES + 1):  # the first warms up
        _wait(device)
        began = clock()
        work()
        _wait(device)
        seconds.append(clock() - began)
    return min(seconds[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _attend(shape: Shape, dtype: torch.dtype, device: torch.device) -> None:
    """Attention as packed rows ask for it: a mask, and fewer keys than queries."""
    width = shape.query // shape.heads
    keys = shape.key // width
    q_BALD = torch.randn(1, shape.heads, TOKENS, width, dtype=dtype, device=device)
    k_BALD = torch.randn(1, keys, TOKENS, width, dtype=dtype, device=device)
    mask_LL = torch.ones(TOKENS, TOKENS, dtype=torch.bool, device=device).tril()
    nn.functional.scaled_dot_product_attention(
        q_BALD, k_BALD, k_BALD, attn_mask=mask_LL, enable_gqa=keys != shape.heads
    )


def _operation_seconds(clock: Clock, has_adapters: bool) -> float:
    """Of a model that has next to nothing to compute, token by token, with adapters if the run has.

    PEFT's layers are slow for what they do, and their operations are many.
    """
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=_SMALL_LAYERS,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )
    num = LAYER_OPERATIONS + 2 * NORM_OPERATIONS
    if has_adapters:
        model = adapted(model, config.Lora(rank=4, alpha=8))
        num += 7 * ADAPTER_OPERATIONS
    make_swift(model)
    model.eval()
    token = torch.tensor([[1]])
    with torch.no_grad():
        cache = model(input_ids=token, use_cache=True).past_key_values
        seconds = _best(
            clock,
            lambda: [
                model(input_ids=token, past_key_values=cache, use_cache=True) for _ in range(20)
            ],
            torch.device("cpu"),
        )
    return seconds / 20 / (num * _SMALL_LAYERS)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, measured"
    return f"this processor, measured with {torch.get_num_threads()} threads"


def _memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(psutil.virtual_memory().total)
