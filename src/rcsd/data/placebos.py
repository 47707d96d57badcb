"""Placebo rubrics: rubrics that say less of their question, or nothing.

A placebo is shown to the teacher in training; answers are graded by the rubrics of their own rows.
A criterion that moves to another example brings its title and check along, and the check was
written for the other question: `rcsd.data.load.read_rubrics` reads what its words demand of this
one. All functions keep the order of the examples, leave those without a rubric and their arguments
as they are, and give the same rubrics for the same seed. They raise a DataError if too few examples
have a rubric.
"""

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from rcsd import config
from rcsd.config.data import Arm, PlaceboArm
from rcsd.data.rubric import parse_rubric
from rcsd.data.views import PromptTemplates
from rcsd.errors import ConfigError, DataError, RubricError
from rcsd.types import Criterion, Example, Rubric

GENERIC_TEMPLATE = "generic_rubric.jinja"

EMPTY: tuple[PlaceboArm, ...] = ("generic", "shuffled", "random")
"""Placebos whose rubrics say nothing of their question: what gains no more has no content."""

PARTIAL: tuple[PlaceboArm, ...] = ("reduced", "noisy")
"""Placebos whose rubrics say a part of it: they show how much of a gain the rest is worth."""

PLACEBOS: Mapping[Arm, Callable[[int], config.Placebo]] = {
    "generic": lambda seed: config.GenericRubrics(),
    "shuffled": lambda seed: config.ShuffledRubrics(seed=seed),
    "random": lambda seed: config.RandomRubrics(seed=seed),
    "reduced": lambda seed: config.ReducedRubrics(seed=seed),
    "noisy": lambda seed: config.NoisyRubrics(seed=seed),
}
"""Each placebo with the defaults of its section, for a seed."""

_TRIES = 64
"""Draws before a whole pool is searched: rubrics of a file of any size in a time that is linear."""


def with_placebo(
    examples: Sequence[Example], placebo: config.Placebo, templates: PromptTemplates
) -> list[Example]:
    """Examples with the rubrics of a placebo (defined by the docstrings of its sections).

    Args:
        examples: In any order, which is kept.
        placebo: The section.
        templates: Holds the generic rubric.

    Raises:
        DataError: If too few examples have a rubric.
        ConfigError: If the template of the generic rubric holds none.
    """
    match placebo:
        case config.NoPlacebo():
            return list(examples)
        case config.GenericRubrics():
            return generic(examples, generic_rubric(templates))
        case config.ShuffledRubrics(seed=seed):
            return shuffled(examples, seed)
        case config.RandomRubrics(seed=seed):
            return random_criteria(examples, seed)
        case config.ReducedRubrics(kept_share=share, seed=seed):
            return reduced(examples, share, seed)
        case config.NoisyRubrics(replaced_share=share, seed=seed):
            return noisy(examples, share, seed)


def generic_rubric(templates: PromptTemplates) -> Rubric:
    """The rubric of ``generic_rubric.jinja``.

    The packaged one has generalities that any model understands and any question allows, those of
    the micro model's training text too: a gain comes from content and not from unknown words. What
    answers are most often asked for has the most points, 5 to 1 as in RaR.

    Raises:
        ConfigError: If the template renders to no rubric in JSON.
    """
    try:
        return parse_rubric(json.loads(templates.render(GENERIC_TEMPLATE)))
    except (ValueError, RecursionError, RubricError) as error:
        raise ConfigError(f"template {GENERIC_TEMPLATE}: no rubric in JSON: {error}") from error


def generic(examples: Sequence[Example], rubric: Rubric) -> list[Example]:
    """Examples that all have the same rubric."""
    _refuse_fewer(examples, 1, "generic")
    return [e if e.rubric is None else replace(e, rubric=rubric) for e in examples]


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """Examples with each other's rubrics: no example keeps its own, and each rubric is used once.

    Where ``tags["template"]`` says which questions are of one kind, rubrics come from another kind:
    a sibling's rubric would name the same method, and so be no placebo. Only where one kind has
    more than half of the rubrics must some stay within it, as few as possible. Examples without a
    rubric stay as they are.
    """
    _refuse_fewer(examples, 2, "shuffled")
    owners = [index for index, example in enumerate(examples) if example.rubric is not None]
    kinds = [examples[owner].tags.get("template", owner) for owner in owners]
    result = list(examples)
    for place, donor in enumerate(_donors(kinds, random.Random(seed))):
        rubric = examples[owners[donor]].rubric
        result[owners[place]] = replace(examples[owners[place]], rubric=rubric)
    return result


def _donors(kinds: Sequence[Hashable], rng: random.Random) -> list[int]:
    """For each place a donor: a permutation that fixes nothing and seldom stays within a kind.

    Sorted by kind and moved on by the size of the largest kind, the fewest places stay within it.
    Random exchanges that make nothing worse then mix the donors.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for place, kind in enumerate(kinds):
        members[kind].append(place)
    order = [place for group in members.values() for place in group]
    step = max(len(group) for group in members.values())
    step = step if step < len(order) else 1
    donors = [0] * len(order)
    for position, place in enumerate(order):
        donors[place] = order[(position + step) % len(order)]

    def badness(place: int, donor: int) -> int:
        return 2 if place == donor else int(kinds[place] == kinds[donor])

    for _ in range(20 * len(order)):
        a, b = rng.randrange(len(order)), rng.randrange(len(order))
        before = sorted((badness(a, donors[a]), badness(b, donors[b])))
        after = sorted((badness(a, donors[b]), badness(b, donors[a])))
        if after[1] < 2 and sum(after) <= sum(before):
            donors[a], donors[b] = donors[b], donors[a]
    return donors


def random_criteria(examples: Sequence[Example], seed: int) -> list[Example]:
    """Examples with each criterion replaced by one of another example, drawn on its own.

    Each place keeps its points and draws, uniformly, from the criteria of the same sign of the
    examples of other kinds (``tags["template"]``; without the tag each example is a kind of its
    own) whose words neither stand in the example's own rubric nor were drawn for it before. Where
    there are none, as little as possible is given up, in this order: the other kind, words that
    are new. Never the other example: a place of negative points takes a positive criterion, with
    its points above 0, where no other example has a negative one.
    """
    return _with_replaced(examples, "random", seed, lambda size, rng: range(size))


def noisy(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """Examples with a part of their criteria replaced as `random_criteria` does.

    Args:
        examples: The data set.
        share: Of each rubric's criteria that are replaced, in (0, 1); rounded to whole criteria
            (halves up), at least one.
        seed: Random seed.
    """

    def drawn(size: int, rng: random.Random) -> Sequence[int]:
        return sorted(rng.sample(range(size), _share_size(share, size)))

    return _with_replaced(examples, "noisy", seed, drawn)


def _with_replaced(
    examples: Sequence[Example],
    name: str,
    seed: int,
    places: Callable[[int, random.Random], Sequence[int]],
) -> list[Example]:
    """Examples with the criteria at some places of each rubric replaced by other examples'."""
    _refuse_fewer(examples, 2, name)
    pools = _Pools(examples)
    result = list(examples)
    for index, example in enumerate(examples):
        if example.rubric is not None:
            rng = random.Random(f"{name} {seed} {example.id}")
            chosen = places(len(example.rubric.criteria), rng)
            result[index] = replace(example, rubric=pools.replaced(index, chosen, rng))
    return result


def reduced(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """Examples with a part of their own criteria, in their order.

    Every choice of as many criteria of which at least one is positive is as likely as any other. An
    example's choice depends on the seed and its id alone.

    Args:
        examples: The data set.
        share: Of each rubric's criteria that are kept, in (0, 1); rounded to whole criteria
            (halves up), at least one.
        seed: Random seed.
    """
    _refuse_fewer(examples, 1, "reduced")
    result = list(examples)
    for index, example in enumerate(examples):
        if example.rubric is not None:
            rng = random.Random(f"reduced {seed} {example.id}")
            result[index] = replace(example, rubric=_part(example.rubric, share, rng))
    return result


def _refuse_fewer(examples: Sequence[Example], least: int, placebo: str) -> None:
    num = sum(example.rubric is not None for example in examples)
    if num < least:
        number = "one example" if least == 1 else "two examples"
        raise DataError(
            f"{placebo} rubrics need at least {number} with a rubric, got {num}", field="rubric"
        )


def _share_size(share: float, size: int) -> int:
    return max(1, math.floor(share * size + 0.5))


def _part(rubric: Rubric, share: float, rng: random.Random) -> Rubric:
    size = len(rubric.criteria)
    while True:
        places = sorted(rng.sample(range(size), _share_size(share, size)))
        part = tuple(rubric.criteria[place] for place in places)
        if any(criterion.weight > 0 for criterion in part):
            return Rubric(part)


@dataclass(frozen=True)
class _Donor:
    """A criterion that may be drawn, with the place of its example and that one's kind."""

    criterion: Criterion
    owner: int
    kind: Hashable


class _Pools:
    """All criteria of a data set, by their sign."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._rubrics = [example.rubric for example in examples]
        kinds: list[Hashable] = [e.tags.get("template", n) for n, e in enumerate(examples)]
        owned = [kind for kind, rubric in zip(kinds, self._rubrics, strict=True) if rubric]
        # One kind for all tells nothing apart: then every example is one.
        self._kinds = kinds if len(set(owned)) > 1 else list[Hashable](range(len(kinds)))
        self._donors: dict[bool, list[_Donor]] = {True: [], False: []}
        for index, rubric in enumerate(self._rubrics):
            for criterion in rubric.criteria if rubric is not None else ():
                donor = _Donor(criterion, index, self._kinds[index])
                self._donors[criterion.weight > 0].append(donor)
        owners = {sign: {d.owner for d in donors} for sign, donors in self._donors.items()}
        self._only = {sign: next(iter(o)) for sign, o in owners.items() if len(o) == 1}

    def replaced(self, index: int, places: Collection[int], rng: random.Random) -> Rubric:
        """The rubric of one example, with other examples' criteria in some places."""
        rubric = self._rubrics[index]
        assert rubric is not None
        criteria, used = list(rubric.criteria), {c.text for c in rubric.criteria}
        for place in places:
            weight = criteria[place].weight
            # Every rubric has a positive criterion, so only a mistake can be without another owner.
            if weight < 0 and self._only.get(False) == index:
                weight = -weight
            donor = self._drawn(index, weight > 0, used, rng)
            criteria[place] = replace(donor.criterion, weight=weight)
            used.add(donor.criterion.text)
        return Rubric(tuple(criteria))

    def _drawn(
        self, index: int, positive: bool, used: Collection[str], rng: random.Random
    ) -> _Donor:
        """One of the least bad criteria, each as likely as any other."""
        donors, kind = self._donors[positive], self._kinds[index]

        def badness(donor: _Donor) -> int:
            repeats = donor.criterion.text in used
            return 4 * (donor.owner == index) + 2 * repeats + (donor.kind == kind)

        for _ in range(_TRIES):
            donor = rng.choice(donors)
            if badness(donor) == 0:
                return donor
        bad = [badness(donor) for donor in donors]
        least = min(bad)
        return rng.choice([d for d, b in zip(donors, bad, strict=True) if b == least])
