"""What a step must at least do, whoever does it: the denominator of "fraction of the limit".

Axes as everywhere: N examples, G completions of each, T completion tokens, P and S tokens of the
teacher's and the student's prompt, K support, V vocabulary, H hidden.

Floating-point operations, with W weights of the decoder's linear layers and A of their adapters:

- a token forward: 2 (W + A), the teacher's 2 W;
- a token backward: 2 W for the gradient of the activations through the frozen weights, 4 A for the
  adapters' activations and weights;
- attention forward: 4 x layers x heads' width for every pair of a token and one before it (or
  itself); backward twice that;
- the head at a position: 2 V H where all logits are unavoidable: at each sampled token, and at each
  position of the teacher, whose top k is looked for. The student needs K of them: 2 K H forward and
  2 K H backward.

A prompt is read once for the G completions after it. Time is operations over the rate of a large
matrix product that the same run measured. Decoding a token of all sequences also reads every weight
and every key and value once: its time is the larger of both. Norms, activations, softmax, sampling
and the optimizer count nothing, so no implementation reaches 1.
"""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from workload import Work, config_of


@dataclass(frozen=True)
class Shape:
    """Numbers of a model that time depends on.

    Args:
        body: Weights of the decoder's linear layers.
        adapters: Weights of their adapters.
        head: Weights of the output head, V H.
        hidden: Width H.
        layers: Attention layers.
        query_width: Heads times their width.
        key_width: Key-value heads times their width.
    """

    body: int
    adapters: int
    head: int
    hidden: int
    layers: int
    query_width: int
    key_width: int


def shape_of(work: Work) -> Shape:
    """The numbers of the work's model, from its configuration alone."""
    shape = config_of(work.model)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape)
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    head_width = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    return Shape(
        body=sum(layer.weight.numel() for layer in linear),
        adapters=sum(work.lora_rank * sum(layer.weight.shape) for layer in linear),
        head=head.weight.numel(),
        hidden=shape.hidden_size,
        layers=shape.num_hidden_layers,
        query_width=shape.num_attention_heads * head_width,
        key_width=shape.num_key_value_heads * head_width,
    )


@dataclass(frozen=True)
class Limit:
    """Least seconds of each phase on a machine."""

    sampling: float
    teacher: float
    student: float

    @property
    def step(self) -> float:
        """Least seconds of a step without an analysis."""
        return self.sampling + self.teacher + self.student


def teacher_flops(work: Work, shape: Shape) -> float:
    """Operations of the teacher's scoring."""
    num_read = work.examples * (work.teacher_prefix + work.completions * work.completion_tokens)
    return (
        2 * shape.body * num_read
        + _attention(work, shape, work.teacher_prefix)
        + 2 * shape.head * work.num_tokens
    )


def student_flops(work: Work, shape: Shape) -> float:
    """Operations of the student's forward and backward pass."""
    num_read = work.examples * (work.student_prefix + work.completions * work.completion_tokens)
    forward = 2 * (shape.body + shape.adapters) * num_read
    backward = (2 * shape.body + 4 * shape.adapters) * num_read
    head = (2 + 2) * work.top_k * shape.hidden * work.num_tokens
    return forward + backward + 3 * _attention(work, shape, work.student_prefix) + head


def _attention(work: Work, shape: Shape, prefix: int) -> float:
    """Forward, over prompts that are read once and the completions after them."""
    num = work.completion_tokens
    pairs = _pairs(0, prefix) + work.completions * _pairs(prefix, num)
    return 4 * shape.layers * shape.query_width * work.examples * pairs


def _pairs(before: int, num: int) -> float:
    """Pairs of each of ``num`` tokens with itself and those before it."""
    return num * before + num * (num + 1) / 2


def _sampling_seconds(work: Work, shape: Shape, flops: float, rate: float, width: int) -> float:
    weights = shape.body + shape.adapters
    per_pair = 4 * shape.layers * shape.query_width
    read = 2 * weights * work.student_prefix + per_pair * _pairs(0, work.student_prefix)
    seconds = work.examples * (read + 2 * shape.head) / flops
    # The first token comes from reading the prompt.
    for drawn in range(1, work.completion_tokens):
        context = work.student_prefix + drawn
        operations = 2 * (weights + shape.head) + per_pair * context
        kept = work.examples * (work.student_prefix + work.completions * drawn)
        num_bytes = width * (weights + shape.head + 2 * shape.layers * shape.key_width * kept)
        seconds += max(work.num_completions * operations / flops, num_bytes / rate)
    return seconds


def limit_of(work: Work, flops: float, rate: float, dtype: torch.dtype) -> Limit:
    """Least seconds of the work's phases.

    Args:
        work: What is to be done.
        flops: Operations a second that the machine reaches.
        rate: Bytes a second that it reads.
        dtype: Type of the weights.
    """
    shape = shape_of(work)
    return Limit(
        sampling=_sampling_seconds(work, shape, flops, rate, dtype.itemsize),
        teacher=teacher_flops(work, shape) / flops,
        student=student_flops(work, shape) / flops,
    )


def record_of(work: Work, limit: Limit) -> dict[str, object]:
    """What the limit is made of, for the record."""
    shape = shape_of(work)
    return {
        "shape": asdict(shape),
        "teacher_flops": teacher_flops(work, shape),
        "student_flops": student_flops(work, shape),
        "seconds": {**asdict(limit), "step": limit.step},
    }
