"""Prompts of a run, in a new random order each epoch."""

import functools
import random
from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate

from rcsd import config
from rcsd.data.prompts import PromptPair, build_prompts, limit_prompt_tokens, prompts_fingerprint
from rcsd.data.views import find_control_token
from rcsd.distributed import Ranks
from rcsd.engines.analysis import with_analyses
from rcsd.engines.base import Engine
from rcsd.errors import DataError
from rcsd.methods.sft import written_target
from rcsd.models.policy import Policy
from rcsd.types import Example, Message


class ShuffledBatches:
    """Examples in a new random order each epoch; the same for the same seed and step."""

    def __init__(self, prompts: Sequence[PromptPair], per_step: Sequence[int], seed: int) -> None:
        self.prompts, self._seed = prompts, seed
        self._ends = list(accumulate(per_step, initial=0))

    def take(self, step: int) -> list[PromptPair]:
        """The step's examples."""
        places, size = range(self._ends[step], self._ends[step + 1]), len(self.prompts)
        return [self.prompts[self._order(place // size)[place % size]] for place in places]

    def used(self, num_steps: int) -> list[int]:
        """Indices of the examples that the first steps take."""
        return sorted(self._order(0)[: self._ends[num_steps]])

    @functools.lru_cache(maxsize=2)  # noqa: B019 (lives as long as its run)
    def _order(self, epoch: int) -> list[int]:
        order = list(range(len(self.prompts)))
        random.Random(f"{self._seed} {epoch}").shuffle(order)
        return order


def build_batches(
    settings: config.Config,
    examples: Sequence[Example],
    policy: Policy,
    engine: Engine,
    ranks: Ranks,
) -> tuple[ShuffledBatches, dict[str, object]]:
    """The prompts of the run, and the entries of its record about them.

    Raises:
        DataError: If an example lacks what a view shows or sft learns, if that holds a control
            token, or if no example is left.
        RunError: If ranks have different prompts.
    """
    views = settings.views
    if not settings.has_teacher_view:
        views = views.untaught(settings.learned_view)
    if settings.method.type == "sft":
        for example in examples:
            target = Message(role="assistant", content=written_target(example, views.writes))
            if token := find_control_token(policy.tokenizer, [target]):
                raise DataError(
                    f"example {example.id!r}: what sft learns holds the control token {token}"
                )
    sampling = settings.sampling
    max_prompt_tokens = limit_prompt_tokens(
        policy.max_positions, sampling.max_prompt_tokens, sampling.max_tokens
    )
    prompts, dropped = build_prompts(examples, views, policy.tokenizer, max_prompt_tokens)
    batches = ShuffledBatches(prompts, examples_per_step(settings), settings.seed)
    num_cut = 0
    if views.analysis:
        used = batches.used(settings.steps)
        chosen = [prompts[index] for index in used]
        continued, num_cut = with_analyses(chosen, views, policy, engine, max_prompt_tokens, ranks)
        for index, prompt in zip(used, continued, strict=True):
            prompts[index] = prompt
    sha256 = prompts_fingerprint(prompts)
    ranks.assert_same_on_all_ranks({"prompts": sha256})
    return batches, {
        "dropped": [asdict(drop) for drop in dropped],
        "num_analyses_cut_off": num_cut,
        "prompts_sha256": sha256,
    }


def examples_per_step(settings: config.Config) -> list[int]:
    """Number of examples of each step; a phase may have another than the run."""
    counts: list[int] = []
    for phase in settings.phases:
        num_steps = phase.steps or settings.steps
        counts += [phase.examples_per_step or settings.examples_per_step] * num_steps
    return (counts or [settings.examples_per_step] * settings.steps)[: settings.steps]
