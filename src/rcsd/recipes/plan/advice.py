"""What a plan says in sentences: whether it fits, what limits it, what would help."""

from rcsd.recipes.plan import Plan
from rcsd.recipes.plan.memory import GIB, WHOLE
from rcsd.recipes.plan.seconds import FLOPS, HOST, LINK, STREAMED

HINTS = {
    ("sampling", HOST): "the host starts operations one by one, whatever the batch: a larger "
    "engine.batch_size is almost free, and an engine that replays recorded graphs (engine.type: "
    "vllm) does without",
    ("sampling", STREAMED): "each token reads all weights and the cache: a larger "
    "engine.batch_size shares the reading among more completions; bfloat16 weights are read in "
    "half the time of float32 ones",
    ("sampling", LINK): "all weights are gathered once a step, however much is sampled: take "
    "more examples_per_step",
    ("sampling", FLOPS): "the batch is large enough; more devices share it",
    ("teacher", FLOPS): "more devices share it; a shorter view of the teacher takes less",
    ("teacher", LINK): "weights are gathered for each part: raise max_tokens_per_microbatch",
    ("student", FLOPS): "more devices share it; model.activation_checkpointing: false saves a "
    "forward pass where there is room",
    ("student", LINK): "weights are gathered twice for each part, and gradients scattered: raise "
    "max_tokens_per_microbatch",
    ("communication", LINK): "fewer and larger steps, or LoRA, whose gradient is small",
}
"""What helps against the longest wait of a phase."""


def sentences(plan: Plan) -> list[str]:
    """The verdict, the limit, what helps, and how far to trust it."""
    memory, times = plan.memory, plan.times
    room = memory.usable_share * memory.capacity
    verdict = "fits" if memory.fits else "does not fit"
    found = [
        f"It {verdict}: {memory.peak / GIB:.1f} GiB a device at the peak ({memory.peak_phase}), "
        f"of {memory.capacity / GIB:.1f} GiB of which {room / GIB:.1f} are counted on."
    ]
    if not memory.fits:
        found.append(_what_fits(plan))
    found.append(f"What limits it: {plan.limit}.")
    phase = times.longest
    hint = HINTS.get((phase, times.phases[phase].limit))
    if hint is not None and memory.fits:
        found.append(f"What would help: {hint}.")
    if plan.setup.cluster.hardware.attained.matmul < 1:
        found.append(
            "Reckoned from data sheets and assumed shares (rcsd.recipes.plan), not measured: "
            "nobody has checked it on such devices."
        )
    return found


def _what_fits(plan: Plan) -> str:
    """The first change that makes it fit; changes stand from the least to the most."""
    fitting = [change for change in plan.changes if change.fits]
    if fitting:
        first = fitting[0]
        return f"It would fit with {first.name}: {first.peak / GIB:.1f} GiB."
    if plan.memory.largest == WHOLE:
        return (
            "Nothing below makes it fit: to sample, each device gathers all weights, however many "
            "devices share them. Devices with more memory or a smaller model would do."
        )
    return (
        f"Nothing below makes it fit; {plan.memory.largest} takes most. More devices with "
        "processes.sharding: fsdp, LoRA instead of full fine-tuning, shorter completions or a "
        "smaller engine.batch_size would take less."
    )
