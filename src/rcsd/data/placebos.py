"""Placebo rubrics: what is left of a gain when the rubric is another question's?"""

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from rcsd.errors import DataError
from rcsd.types import Example


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """Examples with each other's rubrics: no example keeps its own, and each rubric is used once.

    Where ``tags["template"]`` says which questions are of one kind, rubrics come from another kind:
    a sibling's rubric would name the same method, and so be no placebo. Only where one kind has
    more than half of the rubrics must some stay within it, as few as possible. Examples without a
    rubric stay as they are.

    Args:
        examples: In any order, which is kept.
        seed: The same seed gives the same rubrics.

    Raises:
        DataError: If fewer than two examples have a rubric.
    """
    owners = [index for index, example in enumerate(examples) if example.rubric is not None]
    if len(owners) < 2:
        raise DataError(
            f"shuffling needs at least two examples with a rubric, got {len(owners)}",
            field="rubric",
        )
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
