"""Seconds of a step by phase, and what each phase waits for.

Operations, with W weights of the decoder's linear layers, A of their adapters, n tokens of a row:

- a token forward 2 (W + A); backward 2 W through frozen weights and 4 A, or 4 W where all are
  trained: the usual 2 N and 6 N for each token (Kaplan et al., arXiv 2001.08361, section 2.1);
- attention 4 Q for every pair of a query and a key, forward; backward 2.5 times that, since fused
  kernels make the scores anew (arXiv 2307.08691, section 4);
- the head 2 V H at each position where the whole vocabulary is looked at.

Beside them a layer streams through memory (norms in float32, rotary positions, activations, sums,
adapters' scales, all without fusion, as transformers runs them):

    n (8 x 4 w + c (6 H + 10 (Q + K) + 5 I + 4 Q + 5 O))     w as in
    `rcsd.recipes.plan.activations`,
                                                             O the adapted layers' outputs

A token that is sampled reads every weight and every row's keys and values once. The host starts

    24 + 6 norms (8 in bfloat16) + 4 adapted layers (6 where they cast)    operations a layer

for each token (counted by a dispatch mode; views and slices are in the time of those that follow).
A GPU computes while its host starts what comes next, and while sharded weights are gathered and
their gradients scattered, so the larger counts; a processor does one after the other. Weights to
sample with are gathered before, and gradients of weights that are not sharded summed afterwards.
Adapters go to vLLM by way of a file, and all weights to a server.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rcsd import config
from rcsd.recipes.plan.hardware import STORAGE_RATE
from rcsd.recipes.plan.memory import Setup
from rcsd.recipes.plan.traffic import Traffic, traffic_of
from rcsd.recipes.plan.workload import TRAINED_BYTES, Rows

FLOPS, STREAMED, HOST, LINK = "operations", "memory bandwidth", "host", "communication"
STORAGE = "storage"
BACKWARD_ATTENTION = 2.5
BACKWARD_STREAM = 2.0
"""Bytes of elementwise work backward over those forward: a gradient is read for each that is
written, and what was kept is read too."""
BRANCH_OPERATIONS = 6
"""Operations of a layer for each prompt and completion that attention looks at by itself."""
LAYER_OPERATIONS, HEAD_OPERATIONS = 24, 66
"""Operations of a layer beside norms and adapters; of what stands before and after all layers, the
drawing of a token included."""
NORM_OPERATIONS, CASTING_NORM_OPERATIONS = 6, 8
"""Operations of a norm; in bfloat16, where it goes to float32 and back."""
ADAPTER_OPERATIONS, CASTING_ADAPTER_OPERATIONS = 4, 6
"""Operations of an adapted layer's adapter, and where it casts what it is given."""
UPDATE_OPERATIONS = 10
"""Operations of clipping and AdamW for each trained tensor."""


@dataclass(frozen=True)
class Phase:
    """Seconds of a phase.

    Args:
        seconds: All in all.
        causes: Seconds of each cause by itself; some go on together.
        limit: The cause that would have to shrink for the phase to.
    """

    seconds: float
    causes: Mapping[str, float]
    limit: str


@dataclass(frozen=True)
class Times:
    """Seconds of a step.

    Args:
        phases: By name, in their order.
        decoded: Times that the sampling model is run for one more token.
        traffic: What is sent meanwhile.
    """

    phases: Mapping[str, Phase]
    decoded: float
    traffic: Traffic

    @property
    def step(self) -> float:
        """All phases."""
        return sum(phase.seconds for phase in self.phases.values())

    @property
    def longest(self) -> str:
        """The phase that takes longest."""
        return max(self.phases, key=lambda name: self.phases[name].seconds)


def times_of(setup: Setup) -> Times:
    """How long the phases of a step take, with prompts and completions of mean length."""
    decoded = _decoded(setup)
    traffic = traffic_of(setup)
    phases: dict[str, Phase] = {}
    if setup.work.samples:
        phases["sampling"] = _sampling(setup, traffic, decoded)
    if setup.work.teacher_passes + setup.work.frozen_passes:
        phases["teacher"] = _teacher(setup, traffic)
    phases["student"] = _student(setup, traffic)
    if setup.cluster.num_devices > 1 and not setup.is_sharded:
        summing = traffic.seconds("sum of the gradient")
        phases["communication"] = _phase(setup, 0.0, 0.0, link=summing)
    phases["update"] = _update(setup)
    if handed := _handed_bytes(setup):
        writing = 2 * handed / STORAGE_RATE
        phases["hand-over"] = Phase(writing, {STORAGE: writing}, STORAGE)
    return Times(phases, decoded, traffic)


def _phase(
    setup: Setup, flops: float, streamed: float, host: float = 0.0, link: float = 0.0
) -> Phase:
    """Products and streams one after the other; beside them host and links, where they can be."""
    causes = {FLOPS: flops, STREAMED: streamed, HOST: host, LINK: link}
    computing = flops + streamed
    if setup.cluster.hardware.kind == "cpu":
        return Phase(computing + host + link, causes, max(causes, key=causes.__getitem__))
    if computing >= max(host, link):
        return Phase(computing, causes, FLOPS if flops >= streamed else STREAMED)
    return Phase(max(host, link), causes, HOST if host >= link else LINK)


def _handed_bytes(setup: Setup) -> float:
    """Of what is written and read once a step, so that another engine has it."""
    engine, shape = setup.settings.engine, setup.shape
    is_file = isinstance(engine, config.VllmServer) or not (setup.is_own_engine or shape.is_full)
    return float(TRAINED_BYTES * shape.trained) if setup.work.samples and is_file else 0.0


def _decoded(setup: Setup) -> float:
    """Runs of the sampling model for one token each; ended rows make room for waiting ones."""
    work = setup.work
    if not work.samples:
        return 0.0
    return max(float(work.lengths.longest_completion), work.num_learned_tokens / setup.rows)


def _sampling(setup: Setup, traffic: Traffic, decoded: float) -> Phase:
    shape, hardware, work = setup.shape, setup.cluster.hardware, setup.work
    shared = setup.engine_devices
    number = setup.sizes.compute if setup.is_own_engine else setup.engine_number
    rows = work.num_learned_tokens / decoded * shared
    context = work.lengths.student + work.lengths.completion / 2
    cached = rows * context * setup.cached_bytes
    weights = shape.body + shape.adapters + shape.head
    flops = rows * 2 * weights / hardware.matmul_rate(number)
    flops += rows * 4 * shape.query * shape.layers * context / hardware.attention_rate(number)
    streamed = _read_bytes(setup) / hardware.weights_rate + cached / hardware.memory_rate
    token, is_streamed = max(flops, streamed) / shared, flops < streamed
    read = _forward(setup, _prompts(setup))
    host = 0.0
    if not setup.replays:
        host = (decoded + 1) * hardware.operation_seconds * _operations(setup, Rows(0, 0, 0, 0, 0))
    found = _phase(
        setup,
        read[0] + (0 if is_streamed else token * decoded),
        read[1] + (token * decoded if is_streamed else 0),
        host,
    )
    gathering = traffic.seconds("gathers, sampling")
    limit = LINK if gathering > found.seconds else found.limit
    return Phase(found.seconds + gathering, {**found.causes, LINK: gathering}, limit)


def _read_bytes(setup: Setup) -> float:
    """Of the weights that one more token reads, and casts where autocast does so each time."""
    shape, sizes = setup.shape, setup.sizes
    if not setup.is_own_engine:
        return float(setup.engine_number * (shape.body + shape.adapters + shape.head))
    base = shape.body + shape.head
    if sizes.is_autocast:
        # What is trained is cast once (autocast remembers it); what is frozen for every token:
        # read as float32, written and read as bfloat16.
        return float(2 * base if shape.is_full else 8 * (base + shape.adapters))
    return float(min(sizes.weights, sizes.compute) * base + TRAINED_BYTES * shape.adapters)


def _prompts(setup: Setup) -> Rows:
    """The prompts that are read before sampling, each once."""
    work = setup.work
    prompt, num = work.lengths.student, work.examples
    return Rows(num * prompt, num * prompt * (prompt + 1) / 2, 0, 0, num)


def _forward(setup: Setup, rows: Rows) -> tuple[float, float]:
    """Seconds of products and of streams of a pass through all layers."""
    shape, hardware, number = setup.shape, setup.cluster.hardware, setup.sizes.compute
    flops = 2 * (shape.body + shape.adapters) * rows.tokens / hardware.matmul_rate(number)
    flops += _attention(setup, rows)
    return flops, _streamed(setup, rows) / hardware.memory_rate


def _attention(setup: Setup, rows: Rows) -> float:
    shape = setup.shape
    pairs = 4 * shape.query * shape.layers * rows.pairs
    return pairs / setup.cluster.hardware.attention_rate(setup.sizes.compute)


def _streamed(setup: Setup, rows: Rows) -> float:
    """Bytes of a forward pass between its products."""
    shape, number = setup.shape, setup.sizes.compute
    layer = 6 * shape.hidden + 14 * shape.query + 10 * shape.key + 5 * shape.intermediate
    adapters = 5 * shape.outputs if shape.rank else 0
    weights = setup.work.num_parts * _cast_bytes(setup)
    width = 32 * shape.norms + number * (shape.layers * layer + adapters)
    return rows.tokens * width + 4 * shape.key * shape.layers * number * rows.copied + weights


def _cast_bytes(setup: Setup) -> float:
    """Of weights that autocast reads in float32 and writes in bfloat16 in a pass."""
    shape = setup.shape
    return 6.0 * (shape.body + shape.adapters + shape.head) if setup.sizes.is_autocast else 0.0


def _operations(setup: Setup, rows: Rows) -> float:
    """Operations that the host starts in a pass."""
    shape, sizes = setup.shape, setup.sizes
    casts = sizes.adapters != sizes.compute
    each = CASTING_ADAPTER_OPERATIONS if casts else ADAPTER_OPERATIONS
    layers = LAYER_OPERATIONS * shape.layers + BRANCH_OPERATIONS * shape.layers * rows.branches
    return layers + NORM_OPERATIONS * shape.num_norms + each * shape.num_adapted + HEAD_OPERATIONS


def _logits(setup: Setup, products: float, copies: float, positions: float) -> tuple[float, float]:
    """Seconds of products with the head, and of streams through what they give."""
    shape, hardware = setup.shape, setup.cluster.hardware
    entries = positions * shape.vocabulary
    flops = 2 * products * entries * shape.hidden / hardware.matmul_rate(setup.sizes.compute)
    return flops, 2 * 4 * copies * entries / hardware.memory_rate


def _all_rows(setup: Setup, prompt: float) -> Rows:
    """The rows of a whole step, part by part."""
    work = setup.work
    part = work.part()
    rows = part.rows(prompt, setup.packs)
    parts = work.num_completions / (part.examples * part.completions)
    return Rows(parts * rows.tokens, parts * rows.pairs, parts * rows.copied, 0, 1)


def _teacher(setup: Setup, traffic: Traffic) -> Phase:
    work, hardware = setup.work, setup.cluster.hardware
    flops = streamed = 0.0
    for prompt, passes in (
        (work.lengths.teacher, work.teacher_passes),
        (work.lengths.student, work.frozen_passes),
    ):
        found = _forward(setup, _all_rows(setup, prompt))
        flops, streamed = flops + passes * found[0], streamed + passes * found[1]
    products = work.heads.teacher + work.frozen_passes
    head = _logits(setup, products, products, work.num_learned_tokens)
    passes = (work.teacher_passes + work.frozen_passes) * work.num_parts
    host = passes * hardware.operation_seconds * _operations(setup, _branches(setup))
    link = traffic.seconds("gathers, teacher")
    return _phase(setup, flops + head[0], streamed + head[1], host, link)


def _branches(setup: Setup) -> Rows:
    part = setup.work.part()
    return Rows(0, 0, 0, 0, part.rows(part.student, setup.packs).branches)


def _student(setup: Setup, traffic: Traffic) -> Phase:
    shape, work, hardware = setup.shape, setup.work, setup.cluster.hardware
    rows, number = _all_rows(setup, work.lengths.student), setup.sizes.compute
    forward = _forward(setup, rows)
    backward = 4 * shape.body if shape.is_full else 2 * shape.body + 4 * shape.adapters
    flops = backward * rows.tokens / hardware.matmul_rate(number)
    flops += BACKWARD_ATTENTION * _attention(setup, rows)
    again = 2 if setup.settings.model.activation_checkpointing else 1
    positions, heads = work.num_learned_tokens, work.heads
    whole = _logits(setup, heads.student, heads.copies if heads.is_whole else 0, positions)
    # Monitors look at the student twice and at the teacher once.
    watched = _logits(setup, 3, 6, work.num_watched)
    # Rows of the head are gathered, made float32, multiplied; forward and backward.
    gathered = 2 * 4 * 4 * positions * work.support * shape.hidden / hardware.memory_rate
    updates = work.updates
    host = hardware.operation_seconds * _operations(setup, _branches(setup)) * work.num_parts
    return _phase(
        setup,
        updates * (again * forward[0] + flops + whole[0] + watched[0]),
        updates * ((again + BACKWARD_STREAM) * forward[1] + whole[1] + watched[1] + gathered),
        updates * (again + 1) * host,
        traffic.seconds("gathers, student", "scatters of the gradient"),
    )


def _update(setup: Setup) -> Phase:
    """Clip (the gradient read twice, written once), AdamW (4 read, 3 written), teacher (3).

    A processor goes over the trained tensors one by one, a GPU over all at once.
    """
    hardware, shape, updates = setup.cluster.hardware, setup.shape, setup.work.updates
    trained = TRAINED_BYTES * shape.trained / setup.num_shards
    passes = 10 + (3 if setup.settings.teacher.type == "ema" else 0)
    num = UPDATE_OPERATIONS * shape.num_trained if hardware.kind == "cpu" else 0
    streamed = updates * passes * trained / hardware.memory_rate
    return _phase(setup, 0.0, streamed, updates * num * hardware.operation_seconds)
