"""A study whose runs were never run: points made up by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from rcsd.config.base import parse
from rcsd.graders.grade import Graded
from rcsd.recipes.study import Point, StudyResult
from rcsd.recipes.study_config import BASE, Study
from rcsd.runs import RunFolder
from rcsd.types import Example


def settings(arms: Mapping[str, Any], against: str, out: str = "out", **more: Any) -> Study:
    world = {"type": "world", "num_examples": 4, "split": "new_numbers"}
    run = {"data": {"type": "world", "num_examples": 6}, "method": {"type": "distill"}}
    tree = {"model": {"path": "some/model"}, "arms": arms, "against": against, "out": out}
    tree |= {"run": run | {"optim": {"lr": 1e-3}}, "evaluation": {"data": {"new_numbers": world}}}
    return parse(Study, tree | {"budget": {"tokens": 100}, "seeds": [0, 1]} | more, "test")


def rows(*scores: float | None, rights: Sequence[bool | None] | None = None) -> list[Graded]:
    """Graded completions of questions q0, q1, ...; NaN: a verdict is missing."""
    rights = rights or [None] * len(scores)
    return [
        Graded(f"q{n}", "", "", 1, True, (), score, right)
        for n, (score, right) in enumerate(zip(scores, rights, strict=True))
    ]


def point(tokens: float, seconds: float, *scores: float | None) -> Point:
    return Point(tokens, seconds, {"set": rows(*scores)})


def result(
    base: list[Graded],
    runs: Mapping[str, Sequence[Sequence[Point]]],
    teachers: Mapping[str, list[Graded]] | None = None,
    taught_by: Mapping[str, str] | None = None,
    templates: Sequence[str] = (),
    folder: RunFolder | None = None,
) -> StudyResult:
    """A finished study of one set, whose questions are of these templates."""
    tags = templates or [f"t{n}" for n in range(len(base))]
    examples = [Example(f"q{n}", "?", tags={"template": tag}) for n, tag in enumerate(tags)]
    return StudyResult(
        {BASE: {"set": base}} | {name: {"set": of} for name, of in (teachers or {}).items()},
        taught_by or {},
        runs,
        {} if folder is None else {label: [folder] for label in runs},
        {"set": examples},
        frozenset({"set"} if templates else ()),
    )


def ends(*scores: float) -> list[list[Point]]:
    """Two seeds that each end on the budget with the same scores."""
    return [[point(100, 1, *scores)], [point(100, 1, *scores)]]
