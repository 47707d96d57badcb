r"""Final answers told right from wrong by what kind of answer is asked for.

===========  ===========================================================================
kind         right if
===========  ===========================================================================
``choice``   the letter or the text of the reference's option (`choices`)
``number``   the number within a tolerance, in a unit that converts (`quantities`)
``math``     math-verify finds the expressions equal (`mathematics`)
``text``     the same words, but for an opening such as "it is" (`texts`)
===========  ===========================================================================

Where the final answer stands says `extraction`. A text without one is wrong, unless its last line
may give one; of kind ``text`` it is ungraded, since any sentence may say it: of that kind nothing
is told wrong. What is ambiguous is ungraded, never wrong by luck.
"""

from dataclasses import dataclass

from rcsd.errors import DataError
from rcsd.graders.answers import plain
from rcsd.graders.answers.choices import choice, place_of
from rcsd.graders.answers.extraction import extraction
from rcsd.graders.answers.mathematics import equality
from rcsd.graders.answers.quantities import number_verdict
from rcsd.graders.answers.texts import text_verdict
from rcsd.types import LETTERS, Example, Grading


@dataclass(frozen=True, slots=True)
class Grade:
    """What a final answer is worth.

    Args:
        extracted: The final answer that was found; None: there is none.
        verdict: Right, wrong, or None: ungraded.
        reason: Why, in a few words; empty: nobody says.
    """

    extracted: str | None
    verdict: bool | None
    reason: str


def grade(text: str, reference: str, grading: Grading, finished: bool = True) -> Grade:
    """Whether the final answer of a text is right, and why.

    Args:
        text: A completion.
        reference: The right answer: of a choice its letter or its text.
        grading: What kind of answer it is.
        finished: Whether the model ended by itself; cut off before a final answer is wrong.

    Raises:
        DataError: If the options of a choice are not different, or none is the reference.
        RunError: If the process that does mathematics cannot be started.
    """
    place = place_of(reference, grading.options) if grading.kind == "choice" else 0
    found = extraction(text, finished, grading.kind, grading.options)
    if found.is_unsure:
        return Grade(found.answer, None, found.reason)
    if found.answer is None:
        if grading.kind == "text":
            return Grade(None, None, f"{found.reason}: only a judge can tell")
        return Grade(None, False, found.reason)
    if grading.kind == "choice":
        verdict, reason = _choice_verdict(found.answer, place, grading.options)
    elif grading.kind == "number":
        verdict, reason = number_verdict(found.answer, reference, grading.unit, grading.tolerance)
    elif grading.kind == "math":
        verdict, reason = equality(found.answer, reference)
    else:
        verdict, reason = text_verdict(found.answer, reference)
    return Grade(found.answer, verdict, reason)


def _choice_verdict(answer: str, place: int, options: tuple[str, ...]) -> tuple[bool | None, str]:
    chosen = choice(answer, options)
    if chosen.beyond:
        return False, chosen.reason
    if chosen.place is None:
        return None, chosen.reason
    right = chosen.place == place
    return right, chosen.reason if right else f"{chosen.reason}, not {LETTERS[place]}"


def graded_answer(example: Example, text: str, finished: bool = True) -> Grade:
    """Whether a text answers an example rightly: as its grading says, or as its reference reads.

    Raises:
        DataError: If the example has no reference answer; otherwise as `grade`.
    """
    reference = example.reference_answer
    if reference is None:
        raise DataError(
            f"example {example.id!r} has none, but is graded by it", field="reference_answer"
        )
    if example.grading is not None:
        return grade(text, reference, example.grading, finished)
    return Grade(None, plain.answer_verdict(text, reference), "")


def can_be_wrong(example: Example) -> bool:
    """Whether code can tell a wrong answer to an example from a right one.

    Where it recognises right answers alone, an accuracy would be 1 for every model.
    """
    if example.reference_answer is None:
        return False
    if example.grading is not None:
        return example.grading.kind != "text"
    return plain.can_be_wrong(example.reference_answer)
