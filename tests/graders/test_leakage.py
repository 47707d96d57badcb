from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcsd.data.views import PromptTemplates, Request, build_conversation
from rcsd.graders.leakage import text_metrics
from rcsd.types import Criterion, Example, Rubric, ViewName

QUESTION = "Why does ice float on water, although both are made of the same molecules?"
SOLUTION = (
    "Hydrogen bonds hold the molecules of ice in an open lattice with much empty room, and so its "
    "density is 0.917 g/cm3."
)
CRITERION = "Explains that the open lattice of hydrogen bonds leaves room between molecules."
ICE = Example(
    "ice",
    QUESTION,
    reference_answer="Ice is less dense.",
    solution=SOLUTION,
    rubric=Rubric((Criterion(CRITERION, 5), Criterion("Names the density.", 2))),
)
PLAIN = Example("plain", "What is light?")

LEAK = "completion/leak_phrase_share"
REFERENCE = "completion/copied_reference_share"
RUBRIC = "completion/copied_rubric_share"
HEDGES = "completion/hedges_per_1000_words"
CHECKS = "completion/checks_per_1000_words"
DUPLICATES = "completion/duplicate_share"


def leaks(text: str, question: str = QUESTION) -> bool:
    return text_metrics([(Example("q", question), text)])[LEAK] == 1


def num(metric: str, text: str) -> int:
    """How many phrases of a metric the text holds, of a few words; with a thousand others."""
    return round(text_metrics([(PLAIN, f"{text} . {'water ' * 1000}")])[metric])


# By hand


def test_every_metric_of_a_step_by_hand() -> None:
    metrics = text_metrics(
        [
            (ICE, "As the rubric asks: perhaps it is less dense."),  # 9 words
            (ICE, f"It floats. {SOLUTION.upper()}"),  # 26 words: g/cm3 and 0.917 are two each
            *[(PLAIN, "Light is a wave.")] * 2,
            (PLAIN, "Wait, let me check."),
        ]
    )
    num_words = 9 + 26 + 4 + 4 + 4
    assert metrics == pytest.approx(
        {LEAK: 1 / 5, REFERENCE: 1 / 2, RUBRIC: 0.0, HEDGES: 1000 / num_words}
        | {CHECKS: 2000 / num_words, DUPLICATES: 2 / 5}
    )


EIGHT = "Hydrogen bonds hold the molecules of ice in"
SHORT = Example("short", "How many?", reference_answer="Forty-two of them")
RESTATED = Example("q", QUESTION, solution=QUESTION + " It is less dense.")
WORKING = "v = u + a t = 0 + 9.8 * 2 = 19.6 m/s"
FALL = Example("fall", "How fast is a stone?", solution=f"The stone falls freely: {WORKING}")


@pytest.mark.parametrize(
    ("example", "text", "reference", "rubric"),
    [
        (ICE, EIGHT, 1, 0),
        (ICE, EIGHT.removesuffix(" in"), 0, 0),  # seven words
        (ICE, EIGHT.replace("hold", "keep"), 0, 0),
        # Letter case, spacing and punctuation hide nothing.
        (ICE, "**hydrogen\nBONDS**\u00a0hold \u201cthe molecules\u201d of \u2014 ice, in", 1, 0),
        (ICE, CRITERION, 0, 1),
        # Words of two criteria, one after the other, are no run of either.
        (ICE, "leaves room between molecules names the density", 0, 0),
        (RESTATED, QUESTION, 0, None),  # the question's words are nobody's secret
        (RESTATED, f"{QUESTION} It is less dense.", 1, None),
        (SHORT, "Forty-two of them", None, None),  # nothing that could be told from right answers
        (FALL, WORKING, 0, None),  # nor is a calculation that comes out the same
        (Example("v", "How fast?", solution=WORKING), "", None, None),
    ],
)
def test_eight_words_of_prose_in_a_row_are_a_copy_where_there_is_something_to_copy(
    example: Example, text: str, reference: float | None, rubric: float | None
) -> None:
    metrics = text_metrics([(example, text)])
    assert (metrics.get(REFERENCE), metrics.get(RUBRIC)) == (reference, rubric)
    if reference is None:
        assert text_metrics([(example, text), (ICE, SOLUTION)])[REFERENCE] == 1


def test_duplicates_are_counted_within_an_example() -> None:
    assert DUPLICATES not in text_metrics([(ICE, "Same."), (PLAIN, "Same.")])
    assert text_metrics([(ICE, "Same."), (ICE, "same."), (PLAIN, "x")])[DUPLICATES] == 0
    assert text_metrics([(ICE, "Same."), (ICE, "Same."), (PLAIN, "x")])[DUPLICATES] == 1


def test_texts_without_words_divide_by_nothing() -> None:
    assert text_metrics([]) == {}
    none = {LEAK: 0, REFERENCE: 0, RUBRIC: 0, DUPLICATES: 0}
    assert text_metrics([(ICE, ""), (ICE, " \n\u2014 ?!"), (PLAIN, "")]) == none


# Phrases


LEAKS = """According to the rubric, units matter.
The reference solution states that it floats.
According to the reference, the answer is 4.
The provided guidance wants a unit.
According to the criteria, a unit is needed.
The given solution concludes that it floats.
A strong answer must name the density.
The answer key says B."""
SCIENCE = """In the frame of reference of the train, the ball rests.
With reference to the table, it is 4.
Compare its colour with the reference solution.
The reference solution shows no absorbance.
The criterion for equilibrium is that the Gibbs energy is least.
According to the criteria of Amsterdam, it is hereditary.
Such effects fall under the rubric of epigenetics.
Axon guidance depends on netrins; the guidance cues attract the growth cone.
According to the guidance of the WHO, fluids come first.
The given solution of NaCl is diluted.
The solution is a strong acid; the model answers well."""


@pytest.mark.parametrize("text", LEAKS.splitlines())
def test_speaking_of_rubric_reference_or_guidance_is_a_leak(text: str) -> None:
    assert leaks(text)


@pytest.mark.parametrize("text", SCIENCE.splitlines())
def test_science_may_speak_of_references_and_criteria(text: str) -> None:
    assert not leaks(text)


def test_what_the_question_speaks_of_is_no_leak() -> None:
    question = "What must a rubric for essays hold, and which criteria should it list?"
    assert not leaks("The rubric lists the given criteria.", question)
    assert leaks("As the reference answer says, the rubric lists the criteria.", question)


VIEWS = [view for view in get_args(ViewName) if view != "none"]


@pytest.mark.parametrize(("request_name", "view"), [*product(("answer", "analysis"), VIEWS)])
def test_the_words_of_our_templates_are_leaks(request_name: Request, view: ViewName) -> None:
    example = Example("q", QUESTION, "4 m", "2 + 2 = 4", Rubric((Criterion("Is right.", 1),)))
    [turn] = build_conversation(request_name, example, view, PromptTemplates())
    assert leaks(turn["content"])


@pytest.mark.parametrize(
    ("text", "hedges", "checks"),
    [
        *((text, 1, 0) for text in (
            "Perhaps", "maybe", "I think", "It seems", "I'm not sure", "not quite certain",
            "might be",
        )),
        *((text, 0, 1) for text in (
            "Wait, no.", "Wait no", "wait \u2014 that", "wait...", "Actually, it is 4.", "Hmm",
            "Let me check", "let me re-check", "Let me just verify", "Let's reconsider",
            "On second thought", "a double-check", "I made an algebra mistake",
        )),
        *((text, 0, 0) for text in (
            "Uncertainty is certain: a more likely outcome could be measured.",
            "I thinking mayflies",
            "We wait for equilibrium, and await, in the waiting time, what actually happens.",
            "Let us consider a ball; let me calculate its weight, and let's think of rereading.",
            "Factually, the check valve lets me through; verify the law.",
        )),
    ],
)  # fmt: skip
def test_hedges_and_checks_are_counted_and_science_is_neither(
    text: str, hedges: int, checks: int
) -> None:
    assert (num(HEDGES, text), num(CHECKS, text)) == (hedges, checks)


# Laws


@given(st.lists(st.tuples(st.just(ICE), st.text()), max_size=4))
def test_any_text_gives_shares_and_rates(pairs: list[tuple[Example, str]]) -> None:
    for name, value in text_metrics(pairs).items():
        assert 0 <= value <= (1 if name.endswith("_share") else 2000)
