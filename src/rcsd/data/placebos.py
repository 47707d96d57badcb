"""Placebo rubrics, which say less of their question, or nothing; `rcsd.config` defines each.

They are shown to the teacher in training; answers are graded by the rubrics of their own rows. A
criterion that moves brings its title and its check, which was written for the other question:
`rcsd.data.load.read_rubrics` reads what its words demand of this one. Examples keep their order,
those without a rubric and the arguments stay as they are, and a seed always gives the same rubrics.
"""

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace

from rcsd import config
from rcsd.config.data import Arm, PlaceboArm
from rcsd.data.rubric import parse_rubric
from rcsd.data.views import PromptTemplates
from rcsd.errors import ConfigError, DataError, RubricError
from rcsd.types import Criterion, Example, Rubric

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
    """Examples with the rubrics of a placebo.

    Raises:
        DataError: If too few examples have a rubric.
        ConfigError: If the template of the generic rubric holds none.
    """
    match placebo:
        case config.NoPlacebo():
            return list(examples)
        case config.GenericRubrics():
            _refuse_fewer(examples, 1, "generic")
            rubric = generic_rubric(templates)
            return [e if e.rubric is None else replace(e, rubric=rubric) for e in examples]
        case config.ShuffledRubrics(seed=seed):
            return _shuffled(examples, seed)
        case config.RandomRubrics(seed=seed):
            return _exchanged(examples, "random", seed, None)
        case config.ReducedRubrics(kept_share=share, seed=seed):
            return _reduced(examples, share, seed)
        case config.NoisyRubrics(replaced_share=share, seed=seed):
            return _exchanged(examples, "noisy", seed, share)


def generic_rubric(templates: PromptTemplates) -> Rubric:
    """The rubric of ``generic_rubric.jinja``, packaged as generalities that any question allows.

    Raises ConfigError if the template renders to no rubric in JSON.
    """
    try:
        return parse_rubric(json.loads(templates.render("generic_rubric.jinja")))
    except (ValueError, RecursionError, RubricError) as error:
        raise ConfigError(f"template generic_rubric.jinja: no rubric in JSON: {error}") from error


def _shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """Examples with each other's rubrics.

    Where ``tags["template"]`` says which questions are of one kind, rubrics come from another kind:
    a sibling's rubric would name the same method, and so be no placebo.
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


def _exchanged(
    examples: Sequence[Example], name: str, seed: int, share: float | None
) -> list[Example]:
    """Examples with a share of each rubric's criteria replaced, at least one; None: all."""
    pools = _Pools(examples, name)

    def change(index: int, rubric: Rubric, rng: random.Random) -> Rubric:
        every = range(len(rubric.criteria))
        places = every if share is None else _draw_places(rubric, share, rng)
        return pools.replaced(index, places, rng)

    return _map_rubrics(examples, f"{name} {seed}", change)


def _reduced(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """Examples with a share of their criteria; it depends on the seed and the id alone."""
    _refuse_fewer(examples, 1, "reduced")

    def part(index: int, rubric: Rubric, rng: random.Random) -> Rubric:
        while True:
            criteria = [rubric.criteria[place] for place in _draw_places(rubric, share, rng)]
            if any(criterion.weight > 0 for criterion in criteria):
                return Rubric(tuple(criteria))

    return _map_rubrics(examples, f"reduced {seed}", part)


def _map_rubrics(
    examples: Sequence[Example], name: str, change: Callable[[int, Rubric, random.Random], Rubric]
) -> list[Example]:
    """Examples with changed rubrics; the random numbers of each depend on the name and its id."""
    result = list(examples)
    for index, e in enumerate(examples):
        if e.rubric is not None:
            rng = random.Random(f"{name} {e.id}")
            result[index] = replace(e, rubric=change(index, e.rubric, rng))
    return result


def _draw_places(rubric: Rubric, share: float, rng: random.Random) -> list[int]:
    size = len(rubric.criteria)
    return sorted(rng.sample(range(size), max(1, math.floor(share * size + 0.5))))


def _refuse_fewer(examples: Sequence[Example], least: int, placebo: str) -> None:
    if (num := sum(example.rubric is not None for example in examples)) < least:
        number = "one example" if least == 1 else "two examples"
        message = f"{placebo} rubrics need at least {number} with a rubric, got {num}"
        raise DataError(message, field="rubric")


class _Pools:
    """All criteria of a data set, by their sign, each with the index of its example.

    A place draws, uniformly, from the criteria of the same sign of the examples of other kinds
    whose words neither stand in the example's own rubric nor were drawn for it before. Where there
    are none, as little as possible is given up, in this order: the other kind, words that are new.
    Never the other example: a place of negative points takes a positive criterion, with its points
    above 0, where no other example has a negative one.
    """

    def __init__(self, examples: Sequence[Example], placebo: str) -> None:
        _refuse_fewer(examples, 2, placebo)
        self._rubrics = [example.rubric for example in examples]
        kinds: list[Hashable] = [e.tags.get("template", n) for n, e in enumerate(examples)]
        with_rubric = [kind for kind, rubric in zip(kinds, self._rubrics, strict=True) if rubric]
        # One kind for all tells nothing apart: then every example is one.
        self._kinds = kinds if len(set(with_rubric)) > 1 else list[Hashable](range(len(kinds)))
        self._donors: dict[bool, list[tuple[Criterion, int]]] = {True: [], False: []}
        for index, rubric in enumerate(self._rubrics):
            for criterion in rubric.criteria if rubric is not None else ():
                self._donors[criterion.weight > 0].append((criterion, index))
        self._with_mistakes = {index for _, index in self._donors[False]}

    def replaced(self, index: int, places: Collection[int], rng: random.Random) -> Rubric:
        """Rubric of one example, with other examples' criteria in some places."""
        rubric = self._rubrics[index]
        assert rubric is not None
        criteria, used = list(rubric.criteria), {c.text for c in rubric.criteria}
        for place in places:
            weight = criteria[place].weight
            # Every rubric has a positive criterion, so only a mistake can be without another owner.
            if weight < 0 and self._with_mistakes == {index}:
                weight = -weight
            donor = self._draw(index, weight > 0, used, rng)
            criteria[place] = replace(donor, weight=weight)
            used.add(donor.text)
        return Rubric(tuple(criteria))

    def _draw(
        self, index: int, positive: bool, used: Collection[str], rng: random.Random
    ) -> Criterion:
        """One of the least bad criteria, each as likely as any other."""
        donors = self._donors[positive]

        def badness(donor: tuple[Criterion, int]) -> int:
            criterion, owner = donor
            is_same_kind = self._kinds[owner] == self._kinds[index]
            return 4 * (owner == index) + 2 * (criterion.text in used) + is_same_kind

        for _ in range(_TRIES):
            if badness(donor := rng.choice(donors)) == 0:
                return donor[0]
        least = min(map(badness, donors))
        return rng.choice([donor for donor in donors if badness(donor) == least])[0]
