import random
import re

import pytest

from rcsd.data import near_duplicates as module
from rcsd.data.near_duplicates import near_duplicates

BOILERPLATE = (
    "Solve the following problem step by step. The last line of your response should be of the "
    "form 'The final answer is: ANSWER' (without quotes) where ANSWER is your answer. Explain "
    "the role of"
)


def shingles(text: str) -> set[str]:
    words = re.findall(r"\w+(?:\.\d+)?", text.lower())
    return {" ".join(words[at : at + 3]) for at in range(max(1, len(words) - 2))}


def similarities(text: str, others: list[str]) -> list[float]:
    """Slow sibling: the Jaccard similarity to every other text."""
    ours = shingles(text)
    return [len(ours & other) / len(ours | other) for other in map(shingles, others)]


def questions(kind: str, num: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)

    def words(count: int) -> str:
        return " ".join(f"word{draw.randrange(300)}" for _ in range(count))

    def numbers() -> str:
        return f"A train goes {draw.randrange(30)} km; how far in {draw.randrange(9)} hours or so?"

    text = {
        "short": lambda: words(draw.randrange(4)),
        "templated": lambda: f"{BOILERPLATE} {words(6)}?",
        "mostly boilerplate": lambda: f"{BOILERPLATE * 4} {words(draw.randrange(1, 12))}?",
        "numbers": numbers,
        "varied": lambda: f"{BOILERPLATE[: draw.randrange(200)]} {words(draw.randrange(30))}",
    }[kind]
    return [text() for _ in range(num)]


@pytest.mark.parametrize("kind", ["short", "templated", "mostly boilerplate", "numbers", "varied"])
@pytest.mark.parametrize("is_other", [False, True])
def test_the_nearest_text_is_that_of_a_comparison_with_all(
    monkeypatch: pytest.MonkeyPatch, kind: str, is_other: bool
):
    monkeypatch.setattr(module, "_FEW", 1000)  # the nearest, also where many are near
    texts = questions(kind, 120)
    others = questions(kind, 120, seed=1)
    matches = list(near_duplicates(texts, others if is_other else None))
    assert len(matches) == len(texts)
    for number, match in enumerate(matches):
        measured = similarities(texts[number], others if is_other else texts[:number])
        if max(measured, default=0) < 0.8:
            assert match is None
        else:
            assert match is not None
            assert match.similarity == measured[match.number] == max(measured)


@pytest.mark.parametrize("kind", ["templated", "mostly boilerplate", "numbers"])
def test_a_text_near_another_is_found_in_few_steps_though_all_share_boilerplate(
    monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setattr(module, "_MAX_STEPS", 100)
    texts = questions(kind, 1000)
    planted = texts[500].replace("?", " please?")
    match = list(near_duplicates([*texts, planted]))[-1]
    assert match is not None
    assert match.similarity == similarities(planted, texts)[match.number] >= 0.8


def test_of_no_text_there_is_no_match():
    assert list(near_duplicates([])) == []
    assert list(near_duplicates(["Why?"], [])) == [None]
