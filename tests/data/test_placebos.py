"""Placebos: what each takes from a rubric, and what it leaves."""

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcsd import config
from rcsd.data.placebos import (
    generic_rubric,
    with_placebo,
)
from rcsd.data.views import PromptTemplates
from rcsd.data.world.problems import GENERALITIES, examples
from rcsd.errors import ConfigError, DataError
from rcsd.io import fingerprint
from rcsd.types import Criterion, Example, Rubric

PLACEBOS: list[config.Placebo] = [
    config.GenericRubrics(),
    config.ShuffledRubrics(),
    config.RandomRubrics(),
    config.ReducedRubrics(),
    config.NoisyRubrics(),
]


def row(id: str, *criteria: tuple[str, float], template: str | None = None) -> Example:
    tags = {} if template is None else {"template": template}
    rubric = Rubric(tuple(Criterion(text, weight) for text, weight in criteria))
    return Example(id, f"Question {id}?", rubric=rubric, tags=tags)


def rubric_of(example: Example) -> Rubric:
    assert example.rubric is not None
    return example.rubric


def texts(example: Example) -> list[str]:
    return [criterion.text for criterion in rubric_of(example).criteria]


def weights(example: Example) -> list[float]:
    return [criterion.weight for criterion in rubric_of(example).criteria]


Drawn = list[tuple[list[int], str | None]]
"""Points of the criteria and template of each row; no points: a row without a rubric."""


@st.composite
def data_sets(draw: st.DrawFn) -> Drawn:
    """Two to six rows of few kinds, and perhaps one without a rubric, as plain values."""
    rows: Drawn = []
    points = st.integers(-5, 5).filter(bool)
    for _ in range(draw(st.integers(2, 6))):
        found = [draw(st.integers(1, 5)), *draw(st.lists(points, max_size=4))]
        rows.append((draw(st.permutations(found)), draw(st.sampled_from(["a", "b", None]))))
    return [*rows, ([], None)] if draw(st.booleans()) else rows


def built(drawn: Drawn) -> list[Example]:
    """The rows, each text of a criterion beginning with the id of the row that it belongs to."""
    return [
        row(str(n), *((f"{n} does {k}.", w) for k, w in enumerate(points)), template=template)
        if points
        else Example(str(n), "Why?")
        for n, (points, template) in enumerate(drawn)
    ]


def owners(example: Example) -> list[str]:
    """Ids of the examples that the criteria were taken from."""
    return [text.split()[0] for text in texts(example)]


def placed(rows: list[Example], placebo: config.Placebo) -> list[Example]:
    return with_placebo(rows, placebo, PromptTemplates())


# By hand


def test_generic_gives_all_the_same_rubric():
    rows = [row("a", ("A.", 3)), Example("bare", "Why?"), row("b", ("B.", 1), ("C.", -1))]
    same = generic_rubric(PromptTemplates())
    assert placed(rows, config.GenericRubrics()) == [
        replace(rows[0], rubric=same), rows[1], replace(rows[2], rubric=same)
    ]  # fmt: skip


def test_the_packaged_generic_rubric_is_made_of_generalities_that_the_world_knows():
    rubric = generic_rubric(PromptTemplates())
    assert sorted(c.text for c in rubric.criteria) == sorted(GENERALITIES)


def test_random_keeps_points_and_takes_words_title_and_check_of_the_same_sign():
    check = {"type": "boxed"}
    donor = Rubric((Criterion("Not b.", -7), Criterion("B.", 1, "boxed", check)))
    rows = [row("a", ("A.", 3), ("Not a.", -2)), Example("b", "?", rubric=donor)]
    one, two = placed(rows, config.RandomRubrics())
    assert rubric_of(one) == Rubric((Criterion("B.", 3, "boxed", check), Criterion("Not b.", -2)))
    assert rubric_of(two) == Rubric((Criterion("Not a.", -7), Criterion("A.", 1)))


def test_random_gives_up_the_other_kind_before_it_repeats_words():
    rows = [row("a", ("A.", 1), ("B.", 1), template="x"), row("b", ("C.", 1), template="x")]
    rows.append(row("c", ("D.", 1), template="y"))
    for seed in range(5):
        assert texts(placed(rows, config.RandomRubrics(seed=seed))[0]) == ["D.", "C."]


# Laws


@given(data_sets(), st.integers(0, 3), st.sampled_from(PLACEBOS))
def test_every_placebo_leaves_its_argument_alone_and_is_the_same_for_the_same_seed(
    drawn: Drawn, seed: int, placebo: config.Placebo
):
    rows = built(drawn)
    if placebo.type != "generic":
        placebo = placebo.model_copy(update={"seed": seed})
    before = copy.deepcopy(rows)
    found = placed(rows, placebo)
    assert rows == before
    assert found == with_placebo(rows, placebo, PromptTemplates())
    # The ids, questions and tags stay, and each rubric is one: `Rubric` refuses none positive.
    assert [replace(r, rubric=None) for r in found] == [replace(r, rubric=None) for r in rows]
    assert [r.rubric is None for r in found] == [r.rubric is None for r in rows]


@given(data_sets(), st.integers(0, 3))
def test_random_keeps_numbers_and_points_and_nothing_of_its_own(drawn: Drawn, seed: int):
    rows = built(drawn)
    with_mistakes = {r.id for r in rows if r.rubric and min(weights(r)) < 0}
    for own, placebo in zip(rows, placed(rows, config.RandomRubrics(seed=seed)), strict=True):
        if own.rubric is None:
            continue
        assert own.id not in owners(placebo)
        kept = weights(own) if with_mistakes != {own.id} else list(map(abs, weights(own)))
        assert weights(placebo) == kept
        by_text = {c.text: c.weight for r in rows if r.rubric for c in r.rubric.criteria}
        signs = [by_text[text] > 0 for text in texts(placebo)]
        assert signs == [weight > 0 for weight in weights(placebo)]


@given(data_sets(), st.integers(0, 3), st.floats(0.01, 0.99))
def test_noise_replaces_its_share_and_leaves_the_rest_in_place(
    drawn: Drawn, seed: int, share: float
):
    rows = built(drawn)
    for own, placebo in zip(
        rows, placed(rows, config.NoisyRubrics(replaced_share=share, seed=seed)), strict=True
    ):
        if own.rubric is None:
            continue
        size = len(own.rubric.criteria)
        assert list(map(abs, weights(placebo))) == list(map(abs, weights(own)))
        stayed = [
            o == p for o, p in zip(own.rubric.criteria, rubric_of(placebo).criteria, strict=True)
        ]
        assert stayed == [owner == own.id for owner in owners(placebo)]
        assert stayed.count(False) == max(1, int(share * size + 0.5))


@given(data_sets(), st.integers(0, 3), st.floats(0.01, 0.99))
def test_what_is_reduced_is_a_part_in_its_own_order_whatever_else_is_in_the_file(
    drawn: Drawn, seed: int, share: float
):
    rows = built(drawn)
    section = config.ReducedRubrics(kept_share=share, seed=seed)
    placebos = placed(rows, section)
    assert placebos[0] == placed(rows[:1], section)[0]
    for own, placebo in zip(rows, placebos, strict=True):
        if own.rubric is None:
            continue
        kept = iter(own.rubric.criteria)
        assert all(criterion in kept for criterion in rubric_of(placebo).criteria)
        assert len(texts(placebo)) == max(1, int(share * len(own.rubric.criteria) + 0.5))


@pytest.mark.parametrize(
    ("placebo", "start"),
    [*zip(PLACEBOS, ["909635b6", "ae7067c8", "c7e5314b", "4110b464", "af7638cf"], strict=True)],
)
def test_placebos_of_a_seed_never_change(placebo: config.Placebo, start: str):
    rows = with_placebo(examples("train", 200, 0), placebo, PromptTemplates())
    assert fingerprint(rows).startswith(start)


# Shuffled


@pytest.mark.parametrize("names", ["ab", "aa", "aaa", "aaaab", "aabbc", "aaaabb"])
def test_as_few_as_possible_stay_within_their_template(names: str):
    rows = [row(str(i), (f"Does {i}.", 1), template=n) for i, n in enumerate(names)]
    size = max(Counter(names).values())
    owner = {id(row.rubric): row.tags["template"] for row in rows}
    for seed in range(5):
        placebo = placed(rows, config.ShuffledRubrics(seed=seed))
        assert all(row.rubric != other.rubric for row, other in zip(rows, placebo, strict=True))
        pairs = [(row.tags["template"], owner[id(row.rubric)]) for row in placebo]
        within = sum(own == donor for own, donor in pairs)
        assert within == max(0, 2 * size - len(names))


# Errors


@pytest.mark.parametrize("placebo", PLACEBOS, ids=lambda placebo: placebo.type)
def test_too_few_rubrics_are_refused(placebo: config.Placebo):
    bare, one = Example("bare", "Why?"), row("a", ("A.", 1))
    alone = placebo.type in ("generic", "reduced")
    few, least = ([bare], "one example") if alone else ([bare, one], "two examples")
    with pytest.raises(DataError, match=f"{placebo.type} rubrics need at least {least} with a"):
        with_placebo(few, placebo, PromptTemplates())


def test_a_generic_rubric_of_ones_own_is_taken_and_a_malformed_one_refused(tmp_path: Path):
    template = tmp_path / "generic_rubric.jinja"
    template.write_text('[{"criterion": "Is polite.", "weight": 1}]')
    assert generic_rubric(PromptTemplates(tmp_path)) == Rubric((Criterion("Is polite.", 1),))
    for text, reason in {"Is polite.": "no rubric in JSON", "{{ x }}": "'x' is undefined"}.items():
        template.write_text(text)
        with pytest.raises(ConfigError, match=rf"template generic_rubric\.jinja: .*{reason}"):
            generic_rubric(PromptTemplates(tmp_path))
