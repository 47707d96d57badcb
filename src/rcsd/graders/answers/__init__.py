r"""Grading of final answers, by the kind of answer.

===========  ===========================================================================
kind         right if
===========  ===========================================================================
``choice``   the letter or the text of the reference's option (`choices`)
``number``   the number within the tolerance, in a unit that converts (`quantities`)
``math``     the values are equal, read by latex2sympy and sympy (`equality`)
``text``     the same words, but for an opening such as "it is"
===========  ===========================================================================

`extract_final_answer` finds the final answer. A text without one is wrong, unless its last line may
give one. Of kind ``text`` no answer is wrong: one in other words is ungraded, since only a judge
can tell. What is ambiguous is ungraded, never wrong by luck.
"""

import re
import unicodedata
from typing import NamedTuple

from rcsd.data.rows import option_index
from rcsd.errors import DataError
from rcsd.graders.answers.choices import REFUSES, compare_choices
from rcsd.graders.answers.extraction import extract_final_answer
from rcsd.graders.answers.mathematics import compare_expressions
from rcsd.graders.answers.normalize import normalize_quantity, normalize_words
from rcsd.graders.answers.numerals import read_quantities
from rcsd.graders.answers.quantities import compare_numbers
from rcsd.types import Example, Grading, UnitVerdict


class Grade(NamedTuple):
    """The final answer of a text, or None; the verdict, None: ungraded; and why, in a few words.

    Of kind ``number`` also the two verdicts that it combines (`quantities.Comparison`).
    """

    extracted: str | None
    verdict: bool | None
    reason: str
    number_right: bool | None = None
    unit_verdict: UnitVerdict | None = None


def grade(text: str, reference: str, grading: Grading, finished: bool = True) -> Grade:
    """Grade the final answer of a text that ended by itself, or was cut off.

    Raises:
        DataError: If the options of a choice are not different, or none is the reference.
        RunError: If the process that does mathematics cannot be started.
    """
    index = option_index(reference, grading.options) if grading.kind == "choice" else 0
    extraction = extract_final_answer(text, finished, grading.kind, grading.options)
    if extraction.is_unsure:
        return Grade(extraction.answer, None, extraction.reason)
    if extraction.answer is None:
        if grading.kind == "text":
            return Grade(None, None, f"{extraction.reason}: only a judge can tell")
        return Grade(None, False, extraction.reason, False if grading.kind == "number" else None)
    if grading.kind == "choice":
        verdict, reason = compare_choices(extraction.answer, index, grading.options)
    elif grading.kind == "number":
        return Grade(
            extraction.answer,
            *compare_numbers(extraction.answer, reference, grading.unit, grading.tolerance),
        )
    elif grading.kind == "math":
        verdict, reason = compare_expressions(extraction.answer, reference)
        if verdict is None and REFUSES.search(extraction.answer):
            is_value = re.search(r"[\d\\$=]", extraction.answer)
            verdict, reason = (None, reason) if is_value else (False, "gives no answer")
    else:
        verdict, reason = _compare_texts(extraction.answer, reference)
    return Grade(extraction.answer, verdict, reason)


_OPENING = re.compile(
    r"^(?:(?:it|this|that|answer|final answer|correct answer) (?:is|would be)|it s|called|namely"
    r"|i think(?: it is)?)\s+(?:called\s+)?"
)
"""What may stand before a reference's words and changes nothing."""
_SYMBOL = re.compile(r"\w*[A-Z]\w*[A-Z]\w*")  # CO, which is not Co


def _compare_texts(answer: str, reference: str) -> tuple[bool | None, str]:
    words, expected = (
        re.sub(r"\b(?:an?|the) ", "", normalize_words(text) + " ").strip()
        for text in (answer, reference)
    )
    if not expected:
        return None, "the reference has no words"
    if "?" in answer and "?" not in reference:
        return None, "asks, where the reference says"
    both = re.match(r"(.*?)\s*\(([^()]*)\)[*_\s]*$", answer)  # "Dog (*Canis lupus*)"
    names = [
        re.sub(r"^(?:an?|the) ", "", normalize_words(n)) for n in (both.groups() if both else ())
    ]
    if REFUSES.search(answer) and not set(words.split()) & set(expected.split()):
        return False, "gives no answer"
    if expected not in (words, _OPENING.sub("", words), *names):
        return None, "other words than the reference's, or more: only a judge can tell"
    forms = {unicodedata.normalize("NFKC", text.strip()) for text in (answer, reference)}
    if len(expected) <= 3 and len(forms) > 1 and any(map(_SYMBOL.fullmatch, forms)):
        return None, "in other capitals, which tell symbols apart"
    return True, "the reference's words"


_UNREAD_UNIT = re.compile(r"[A-Za-zΩ]+")


def default_grading(reference: str) -> Grading:
    """Grading of an example that states none: a number, with or without a unit, or else text.

    A number has the tolerance that `Grading` documents. Not mathematics: an expression that merely
    looks unlike a reference must not be wrong where the data never say that it is an expression.
    """
    text = normalize_quantity(reference)
    quantities = read_quantities(text)
    if len(quantities) != 1 or not re.search(r"\d", text):
        return Grading("text")
    value = quantities[0]
    before, after = text[: value.start].strip(), text[value.end :].strip()
    if before in ("", "+") and (
        not after or (value.unit.is_none and _UNREAD_UNIT.fullmatch(after))
    ):
        return Grading("number", unit=after)
    return Grading("text")


def grade_example(example: Example, text: str, finished: bool = True) -> Grade:
    """Grade the final answer of a text to an example, by its grading or `default_grading`.

    Raises DataError if the example has no reference answer; otherwise as `grade`.
    """
    reference = example.reference_answer
    if reference is None:
        message = f"example {example.id!r} has none, but is graded by it"
        raise DataError(message, field="reference_answer")
    return grade(text, reference, example.grading or default_grading(reference), finished)


def can_be_wrong(example: Example) -> bool:
    """True if code can tell a wrong answer to an example from a right one.

    Where it recognises right answers alone, an accuracy would be 1 for every model.
    """
    reference, grading = example.reference_answer, example.grading
    return reference is not None and (grading or default_grading(reference)).kind != "text"
