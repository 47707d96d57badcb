"""Bytes that a forward pass keeps for its backward pass, and what is held beside them.

Axes, as numbers of one layer: n tokens of the row, H hidden, Q queries (heads x their width), K
keys (or values), I feed-forward, r rank; T completion tokens, V vocabulary.

A decoder layer of transformers (norm, attention with rotary positions, norm, SwiGLU or GeGLU) keeps

    norms                 n 4 w          w: widths that are normalised, 2 H + (Q + K if heads are)
                          n 4 w          once more where the norm's weight is trained
    inputs of products    n c (2 H + Q + I)     shared by the layers that read them, or
                          n a (sum of inputs)   where each layer casts its own copy
    attention             n c (2 Q + 2 K) + 4 n heads    q, k, v, outcome and the sums of softmax
    shared prompts        c 2 K sum (P + T_i)   of each completion: keys and values behind its
                          prompt's
    masks                 4 sum T_i (P + T_i)   on a processor alone
    feed-forward          n c 3 I        gate, gate's activation, up; their product is an input
    adapters              n a r          for each adapted layer

with c bytes of what is computed and a of what adapters compute. Counted by looking at what autograd
saves (`torch.autograd.graph.saved_tensors_hooks`) of Llama and Qwen3 layers; the tests compare with
the bytes of whole passes. With checkpointing a layer keeps its input, n H numbers, and one layer at
a time is computed anew. The head keeps the hidden states of T positions; logits exist in chunks
(`rcsd.models.logits`), never [T, V].
"""

from dataclasses import dataclass

from rcsd.models.logits import CHUNK_ENTRIES
from rcsd.recipes.plan.shapes import Shape
from rcsd.recipes.plan.workload import Bytes, Rows, Work


@dataclass(frozen=True)
class Activations:
    """Bytes at the peak of a student's pass.

    Args:
        kept: For the backward pass, until it comes by.
        casts: Copies of the weights in bfloat16 that autocast makes, and autograd keeps.
        passing: Gradients of one layer, or the chunks of logits, whichever is more.
    """

    kept: float
    casts: float
    passing: float

    @property
    def peak(self) -> float:
        """All of them at once."""
        return self.kept + self.casts + self.passing


def layer_bytes(shape: Shape, sizes: Bytes, rows: Rows, on_cpu: bool) -> float:
    """What one layer keeps.

    Args:
        shape: Of the model.
        sizes: Of its numbers.
        rows: What is read.
        on_cpu: Whether attention is given masks.
    """
    n, compute = rows.tokens, sizes.compute
    norms = 4 * shape.norms / shape.layers * (2 if shape.is_full else 1)
    if sizes.has_casts:
        inputs = shape.inputs / shape.layers * (compute if sizes.is_autocast else sizes.adapters)
    else:
        widths = 2 * shape.hidden + shape.query + shape.intermediate
        inputs = min(widths, shape.inputs / shape.layers) * compute
    attention = compute * (2 * shape.query + 2 * shape.key) + 4 * shape.heads
    feed_forward = compute * 3 * shape.intermediate
    adapters = sizes.adapters * shape.rank * shape.num_adapted / shape.layers
    shared = compute * 2 * shape.key * rows.copied
    masks = 4 * rows.masked if on_cpu else 0
    return n * (norms + inputs + attention + feed_forward + adapters) + shared + masks


def passing_bytes(shape: Shape, sizes: Bytes, rows: Rows) -> float:
    """What a layer's backward pass holds at once beyond what it has not yet let go: n c (I + 2 H).

    In the feed-forward part three gradients of width I come while the product of that width and
    what it was made of go; the residual's gradient and the norm's stay.
    """
    return rows.tokens * sizes.compute * (shape.intermediate + 2 * shape.hidden)


def head_bytes(shape: Shape, sizes: Bytes, work: Work, positions: float, kind: str) -> float:
    """Chunks of logits that are there at once, or the rows of the head that are gathered.

    Gathered rows are made float32, beside those of the head's own type. A trained head's gradient
    is there once more before it is added.

    Args:
        shape: Of the model.
        sizes: Of its numbers.
        work: What is done with the vocabulary.
        positions: Completion tokens of the part.
        kind: Of the device, which says how large a chunk may be.
    """
    share = work.num_watched / max(1.0, work.num_learned_tokens)
    looked = min(positions * share * shape.vocabulary, CHUNK_ENTRIES[kind])
    whole = min(positions * shape.vocabulary, CHUNK_ENTRIES[kind])
    gathered = min(positions * work.support * shape.hidden, CHUNK_ENTRIES[kind])
    copies = work.heads.copies * (whole if work.heads.is_whole else looked)
    rows = gathered * (4 if sizes.compute == 4 else 4 + sizes.compute)
    return max(4 * copies, rows) + (4 * shape.head if shape.is_full else 0)


@dataclass(frozen=True)
class Options:
    """What of a run changes how much is kept.

    Args:
        kind: Of the device.
        is_checkpointing: Whether layers are computed anew backward.
    """

    kind: str
    is_checkpointing: bool


def activations_of(
    shape: Shape, sizes: Bytes, work: Work, rows: Rows, positions: float, options: Options
) -> Activations:
    """Of the student's forward and backward pass over a part.

    Args:
        shape: Of the model.
        sizes: Of its numbers.
        work: What is done with the vocabulary.
        rows: What is read.
        positions: Completion tokens.
        options: Of the run.
    """
    layer = layer_bytes(shape, sizes, rows, options.kind == "cpu")
    head = head_bytes(shape, sizes, work, positions, options.kind)
    ends = positions * shape.hidden * sizes.compute
    casts = sizes.compute * (shape.body + shape.adapters + shape.head) * sizes.is_autocast
    gradients = passing_bytes(shape, sizes, rows)
    if not options.is_checkpointing:
        return Activations(shape.layers * layer + ends, casts, max(head, gradients))
    # Under autocast the residual stream stays in the embedding's type.
    residual = sizes.weights if sizes.is_autocast else sizes.compute
    inputs = shape.layers * rows.tokens * shape.hidden * residual
    return Activations(inputs + ends, casts / shape.layers, max(head, layer + gradients))
