"""What one process does in a step of a run: prompts, completions, passes, parts."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rcsd import config
from rcsd.config import distillations, objectives
from rcsd.errors import ConfigError
from rcsd.methods.on_policy import MIN_MONITORED_SHARE, MIN_MONITORED_TOKENS
from rcsd.recipes.plan.heads import Heads, heads_of

MEAN_SHARE = 0.5
"""Mean length of a completion as a share of the longest, where nobody knows better. Assumed."""
RUBRIC_TOKENS = 256
"""What the rubric adds to a teacher's prompt, where the data is not at hand: the gold rubrics of
RaR-Science have 7.6 criteria of some 30 tokens. Assumed."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompts and completions.

    Args:
        student: Of a student's prompt, in the mean.
        teacher: Of a teacher's prompt, in the mean.
        longest_student: Of a student's prompt, at most.
        longest_teacher: Of a teacher's prompt, at most.
        completion: Of a completion, in the mean.
        longest_completion: Of any completion.
        sources: Where these numbers come from, in words.
    """

    student: float
    teacher: float
    longest_student: int
    longest_teacher: int
    completion: float
    longest_completion: int
    sources: tuple[str, ...] = ()


def lengths_of(
    settings: config.Config,
    prompts: Sequence[tuple[int, int]] | None,
    prompt_tokens: int | None = None,
    teacher_tokens: int | None = None,
    completion_tokens: int | None = None,
) -> Lengths:
    """Lengths as measured, as asked for or as assumed, in this order; and which it was.

    Args:
        settings: The run.
        prompts: Tokens of the student's and the teacher's prompt of each example of the run's
            data, or None where data or tokenizer are not at hand.
        prompt_tokens: Asked for: of a student's prompt.
        teacher_tokens: Asked for: of a teacher's prompt.
        completion_tokens: Asked for: of a completion, in the mean.

    Raises:
        ConfigError: If nothing says how long prompts are, or more is asked for than fits.
    """
    longest = settings.sampling.max_tokens
    if completion_tokens is not None and completion_tokens > longest:
        raise ConfigError(
            f"--completion-tokens {completion_tokens}: no completion is longer than "
            f"sampling.max_tokens: {longest}"
        )
    mean = MEAN_SHARE * longest if completion_tokens is None else float(completion_tokens)
    told = "assumed, half of the longest" if completion_tokens is None else "as asked for"
    said = [f"completions: {mean:.0f} tokens in the mean ({told}), {longest} at most"]
    if prompt_tokens is None and prompts is None:
        raise ConfigError(
            "neither the run's data and tokenizer are at hand nor the length of its prompts; "
            "give --prompt-tokens"
        )
    if prompt_tokens is None and prompts is not None:
        students, teachers = zip(*prompts, strict=True)
        student, teacher = sum(students) / len(prompts), sum(teachers) / len(prompts)
        longest_student, longest_teacher = max(students), max(teachers)
        said.append(f"prompts: measured on {len(prompts)} examples of the run's data")
    else:
        student = float(prompt_tokens or 0)
        rubric = RUBRIC_TOKENS if "rubric" in settings.views.teacher else 0
        teacher = student + rubric
        longest_student, longest_teacher = math.ceil(student), math.ceil(teacher)
        said.append(f"prompts: as asked for; a rubric has {rubric} tokens more (assumed)")
    if teacher_tokens is not None:
        teacher, longest_teacher = float(teacher_tokens), teacher_tokens
        said.append("teacher's prompts: as asked for")
    if not settings.has_teacher_view:
        teacher, longest_teacher = student, longest_student
    elif settings.views.analysis:
        teacher += settings.views.max_analysis_tokens
        longest_teacher += settings.views.max_analysis_tokens
        said.append("the teacher's prompt holds the longest analysis")
    bounds = longest_student, longest_teacher
    return Lengths(student, teacher, *bounds, mean, longest, tuple(said))


@dataclass(frozen=True)
class Bytes:
    """Bytes of one number.

    Args:
        weights: Of the model's weights.
        compute: What layers compute in.
        adapters: What adapters compute in. PEFT keeps those of bfloat16 weights in float32, and
            hands them copies of their inputs.
        is_autocast: Whether weights and inputs are cast for each product, as ``precision: bf16``
            does with weights of float32.
    """

    weights: int
    compute: int
    adapters: int
    is_autocast: bool

    @property
    def has_casts(self) -> bool:
        """Whether each linear layer keeps a copy of its input in another type."""
        return self.is_autocast or self.adapters != self.compute


TRAINED_BYTES = 4
"""Of a trained weight: adapters and fully trained weights are float32."""


def bytes_of(settings: config.Config) -> Bytes:
    """The types that a run's model and precision ask for.

    Sharded weights are gathered in bfloat16 where ``precision: bf16`` asks for it
    (`rcsd.training.fsdp`), so that nothing is left for autocast to cast.
    """
    is_wide = settings.model.dtype == "float32"
    is_sharded = settings.processes.sharding == "fsdp"
    if settings.precision == "bf16":
        return Bytes(4 if is_wide else 2, 2, 2, is_autocast=is_wide and not is_sharded)
    return Bytes(4, 4, 4, is_autocast=False) if is_wide else Bytes(2, 2, 4, is_autocast=False)


@dataclass(frozen=True)
class Work:
    """What one process does in an optimizer step.

    Args:
        examples: Its share of the step's examples; whole ones, the largest share.
        completions: Of each example that it has; fewer where processes share one.
        lengths: Of prompts and completions.
        samples: Whether the student samples them; supervised fine-tuning learns given ones.
        teacher_passes: Times that completions are scored in the teacher's view.
        frozen_passes: Times that they are scored in the student's view without gradient.
        updates: Times that the student learns from them.
        heads: What is done with the vocabulary.
        support: Logits a position that are taken from single rows of the head.
        max_tokens_per_microbatch: Tokens of a forward and backward pass, both views together.
    """

    examples: int
    completions: int
    lengths: Lengths
    samples: bool
    teacher_passes: int
    frozen_passes: int
    updates: int
    heads: Heads
    support: int
    max_tokens_per_microbatch: int

    @property
    def num_completions(self) -> int:
        """Of the process."""
        return self.examples * self.completions

    @property
    def num_learned_tokens(self) -> float:
        """Completion tokens of the process."""
        return self.num_completions * self.lengths.completion

    @property
    def num_watched(self) -> float:
        """Positions at which monitors look at the vocabulary."""
        stride = min(
            round(1 / MIN_MONITORED_SHARE), max(1, self.num_learned_tokens // MIN_MONITORED_TOKENS)
        )
        return self.num_learned_tokens / stride

    def part(self, longest: bool = False) -> "Part":
        """The largest part of a step, as `rcsd.models.packing.split_microbatches` divides it.

        Args:
            longest: With prompts and completions as long as any may be; else as long as the mean.
        """
        lengths = self.lengths
        student, teacher, own = lengths.student, lengths.teacher, lengths.completion
        if longest:
            student, teacher = lengths.longest_student, lengths.longest_teacher
            own = lengths.longest_completion
        prompts = student + (teacher if self.teacher_passes else student)
        each = prompts + 2 * own * self.completions
        if each <= self.max_tokens_per_microbatch:
            examples = min(self.examples, int(self.max_tokens_per_microbatch // each))
            return Part(examples, self.completions, student, teacher, own)
        fitting = max(1, int((self.max_tokens_per_microbatch - prompts) // (2 * own)))
        return Part(1, min(fitting, self.completions), student, teacher, own)

    @property
    def num_parts(self) -> int:
        """Parts of a step."""
        part = self.part()
        return math.ceil(self.num_completions / (part.examples * part.completions))


@dataclass(frozen=True)
class Part:
    """Prompts with their completions, that are scored together.

    Args:
        examples: Prompts.
        completions: Of each.
        student: Tokens of a student's prompt.
        teacher: Tokens of a teacher's prompt.
        own: Tokens of a completion.
    """

    examples: int
    completions: int
    student: float
    teacher: float
    own: float

    @property
    def positions(self) -> float:
        """Completion tokens."""
        return self.examples * self.completions * self.own

    def rows(self, prompt: float, packs: bool = True) -> "Rows":
        """The row that is read after prompts of so many tokens.

        Packed, a prompt stands there once for all of its completions. Padded, it stands before
        each: nothing is shared, and nothing is concatenated.
        """
        num = self.examples * self.completions
        if not packs:
            whole = prompt + self.own
            pairs = num * whole * (whole + 1) / 2
            return Rows(num * whole, pairs, 0.0, 0.0, num)
        return Rows(
            tokens=self.examples * (prompt + self.completions * self.own),
            pairs=self.examples * prompt * (prompt + 1) / 2 + num * self.own * (prompt + self.own),
            copied=num * (prompt + self.own),
            masked=num * self.own * (prompt + self.own),
            branches=self.examples + num,
        )


@dataclass(frozen=True)
class Rows:
    """What attention and linear layers see of a part.

    Args:
        tokens: Of the row, each prompt once.
        pairs: Of a query and a key that attention multiplies; a completion's rectangle counts
            whole, since kernels are given a mask.
        copied: Keys that are copied to stand behind their prompt.
        masked: Entries of the masks that a processor's attention is given; none on a GPU.
        branches: Calls of attention in a layer.
    """

    tokens: float
    pairs: float
    copied: float
    masked: float
    branches: int


def work_of(settings: config.Config, lengths: Lengths, num_processes: int, is_full: bool) -> Work:
    """One process's work in a step; of a schedule in the phase with most completions.

    Args:
        settings: The run.
        lengths: Of prompts and completions.
        num_processes: That share a step's examples.
        is_full: Whether every weight is trained.
    """
    tokens = settings.max_tokens_per_microbatch
    sizes: list[tuple[config.PhaseMethod | config.Sft, int, int]] = [
        (
            phase.method,
            phase.examples_per_step or settings.examples_per_step,
            phase.completions_per_example or settings.completions_per_example,
        )
        for phase in settings.phases
    ]
    if isinstance(settings.method, config.Sft):
        sizes = [(settings.method, settings.examples_per_step, 1)]
    method, examples, completions = max(sizes, key=lambda size: size[1] * size[2])
    leaves = [leaf.reward if isinstance(leaf, config.Srpo) else leaf for leaf in objectives(method)]
    rewards = [leaf for leaf in leaves if isinstance(leaf, config.Grpo)]
    updates = max((grpo.updates_per_batch for grpo in rewards), default=1)
    has_criterion = any(isinstance(leaf, config.Criterion) for leaf in leaves)
    supports = [d.support.k for d in distillations(method) if d.support.type == "teacher_top_k"]
    return Work(
        examples=math.ceil(examples / num_processes),
        # Completions are shared out, so that processes have some each of too few examples.
        completions=math.ceil(completions * min(examples, num_processes) / num_processes),
        lengths=lengths,
        samples=not isinstance(method, config.Sft),
        # Criterion scores what failed something with and without the failed criteria before.
        teacher_passes=len(distillations(method)) + 2 * has_criterion,
        frozen_passes=sum((g.kl_weight > 0) + (g.updates_per_batch > 1) for g in rewards),
        updates=updates,
        heads=heads_of(method, is_full),
        support=max(supports, default=0),
        max_tokens_per_microbatch=config.DEFAULT_MAX_TOKENS_PER_MICROBATCH
        if tokens == "auto"
        else tokens,
    )


def in_halves(work: Work) -> Work:
    """The same in smaller parts, as a run divides them where memory runs out."""
    return dataclasses.replace(
        work, max_tokens_per_microbatch=max(1, work.max_tokens_per_microbatch // 2)
    )
