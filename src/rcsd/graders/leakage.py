"""Metrics of completion texts: leaks, copies, hedging, checking, duplicates.

Read them beside the same numbers of the untrained model: lists of phrases miss some and match
others by chance, but by chance as often before training as after. All lists are English.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rcsd.types import Example

QUOTED_WORDS = 8
"""Length in words of a quotation: of a run that stands in another text and not in the question."""

MIN_PROSE_WORDS = QUOTED_WORDS // 2
"""Words of a run that must have three letters or more. Else a calculation that comes out the same,
as right ones do, would be a copy of the reference's."""

# Phrases are searched in a text's words, in lower case, one space before each and one at the end:
# so no emphasis, line break or hyphen hides one. A pattern begins with a space for speed.
_BY = "(?:according to|as per|following|mention(?:s|ing)?|based on|as)"
_PER = "(?:according to|as per)"
_SAYS = (
    "(?:says?|states?|mentions?|requires?|demands?|asks?|wants?|expects?|tells?|specif(?:y|ies)|"
    "emphasi[sz]es?|concludes?|explains?|suggests?|calls? for)"
)
_OTHERS = "(?:of|for|in|set|by|laid|that|which|established|defined|described|proposed|published)"
_ADVICE = "(?:of|from|by|on|for|in|issued|published|document|cues?|signals?|systems?)"
# After other words a worked solution is the model's own; the heading is our template's.
_OWN = "(?<! a )(?<! my )(?<! full )(?<! complete )(?<! detailed )(?<! our )"
_SOLUTIONS = "given solution, provided solution, model solution, official solution"
_LEAKS = rf"""
rubric, rubrics: rubrics?(?<! under the rubric)
reference: reference (?:answer|response)s?
reference: {_BY} the (?:(?:given|provided) )?reference solution
reference: the reference solution {_SAYS}
reference: the reference (?:says|mentions|requires|expects|wants|concludes|explains)
reference: as the reference (?:states|shows|suggests)
reference: {_PER} the (?:(?:given|provided) )?reference (?:the|it|we|i|this|an?|and)
criteria: criteria of a strong answer
criteria: the (?:(?:given|provided|above) )?criteria {_SAYS}
criteria: the (?:given|provided|listed) criteria
criteria: {_PER} the criteria(?! {_OTHERS})
guidance: (?:this|your) guidance
guidance: the (?:given|provided|above) guidance
guidance: the guidance (?:{_SAYS}|given|provided|above|shown)
guidance: {_BY} the guidance(?! {_ADVICE})
worked solution: {_OWN}worked solution
{_SOLUTIONS}: {_BY} the (?:given|provided|model|official) solution
{_SOLUTIONS}: the (?:given|provided|model|official) solution {_SAYS}
given answer, provided answer, expected answer, official answer: \
the (?:given|provided|expected|official) answer(?! (?:choices?|options?))
strong answer: an? strong answer
answer key, marking scheme: (?:answer key|marking scheme)
""".replace("\\\n", "")
"""Nouns, and a phrase with one of them that speaks of what only the teacher saw.

Where the question has one of the nouns too, the phrase does not count.
"""

_HEDGES = (
    "perhaps|maybe|probably|possibly|presumably|might be|i (?:think|believe|guess|suppose|suspect)|"
    "i m guessing|it seems|seems like|it looks like|unsure|if i (?:recall|remember)|"
    "not (?:(?:entirely|completely|quite|really|so|very|too) )?(?:sure|certain)"
)
"""Without "likely" and "could be", which state chances and possibilities as often as doubts."""

_CHECKS = (
    # Not "let us consider" or "calculate", which begin a working.
    "let (?:me|us|s) (?:(?:just|quickly|now) )*(?:(?:double )?(?:re ?)?(?:check|verify|confirm)"
    "|re ?(?:consider|examine|calculate|compute|evaluate|think|read))|"
    "hm+|double check(?:s|ed|ing)?|sanity check|on second thoughts?|"
    "i made an? (?:\\w+ )?(?:mistake|error)|scratch that"
)

# Where the punctuation tells: a sample may "wait for" equilibrium, and light "actually" bends.
# They begin with a word for speed, so what stands before it is looked at afterwards.
_INTERJECTIONS = (
    (
        " wait ",
        re.compile(r"wait(?<!\wwait)(?:\s*(?:[,!?:\u2026\u2013\u2014]|\.\.|-[\s-])|\s+no\b)"),
    ),
    (" actually ", re.compile(r"actually(?<!\wactually)\s*,")),
)


def text_metrics(pairs: Sequence[tuple[Example, str]]) -> dict[str, float]:
    """Leaks, copies and markers of style in (example, completion text) pairs in any order.

    - ``completion/leak_phrase_share``: of all completions, those that speak of a rubric, reference
      or guidance ("according to the rubric"), or in the words of our templates. Phrases about what
      the question itself speaks of do not count.
    - ``completion/copied_reference_share``: of the completions whose example has something to
      copy, those that hold `QUOTED_WORDS` consecutive words of its reference answer or worked
      solution that are not the question's. Letter case, spacing and punctuation aside.
      A reference of fewer words is nothing to copy: it cannot be told from a right answer; nor can
      a run of mere numbers and symbols (`MIN_PROSE_WORDS`).
    - ``completion/copied_rubric_share``: the same of the text of a criterion.
    - ``completion/hedges_per_1000_words``, ``completion/checks_per_1000_words``: phrases of doubt
      ("perhaps", "I think") and of checking ("wait,", "let me check") over the words of all
      completions together.
    - ``completion/duplicate_share``: of the completions whose example has several, those whose
      exact text another of them has too.

    A leak is what only the teacher saw. Where the completion is a rubric or the reference itself
    (SFT), or where the student's prompt shows the same, the first three do not measure leaks.

    Returns:
        Shares in [0, 1] and rates of at least 0. A metric without a denominator is left out, such
        as rates where no completion holds a word.
    """
    completions: dict[str, tuple[Example, list[str]]] = {}
    for example, text in pairs:
        completions.setdefault(example.id, (example, []))[1].append(text)
    flags: dict[str, list[bool]] = {}
    counts = Counter[str]()
    for example, texts in completions.values():
        times = Counter(texts)
        if len(texts) > 1:
            flags.setdefault("duplicate_share", []).extend(times[text] > 1 for text in texts)
        _count(example, texts, flags, counts)
    metrics = {name: sum(values) / len(values) for name, values in flags.items()}
    if counts["words"]:
        for name in ("hedges", "checks"):
            metrics[f"{name}_per_1000_words"] = 1000 * counts[name] / counts["words"]
    return {f"completion/{name}": value for name, value in metrics.items()}


def _count(
    example: Example, texts: Sequence[str], flags: dict[str, list[bool]], counts: Counter[str]
) -> None:
    """Add the completions of one example to the flags and counts."""
    question = _words(example.prompt_text)
    spaced = f" {' '.join(question)} "
    criteria = () if example.rubric is None else example.rubric.criteria
    reference = _new_runs([example.reference_answer or "", example.solution or ""], question)
    rubric = _new_runs([criterion.text for criterion in criteria], question)
    leaks = [leak for leak in _leaks() if not any(noun in spaced for noun in leak[0])]
    for text in texts:
        words = _words(text)
        line = f" {' '.join(words)} "
        copied = {run for run in (reference | rubric).intersection(_runs(words)) if _is_prose(run)}
        for name, source in (("reference", reference), ("rubric", rubric)):
            if source:
                is_copied = not copied.isdisjoint(source)
                flags.setdefault(f"copied_{name}_share", []).append(is_copied)
        has_leak = any(
            any(noun in line for noun in nouns) and _pattern(phrase).search(line)
            for nouns, phrase in leaks
        )
        flags.setdefault("leak_phrase_share", []).append(has_leak)
        counts["words"] += len(words)
        counts["hedges"] += len(_pattern(_HEDGES).findall(line))
        counts["checks"] += len(_pattern(_CHECKS).findall(line))
        for word, pattern in _INTERJECTIONS:
            if word in line:
                counts["checks"] += len(pattern.findall(text.casefold()))


@functools.cache
def _leaks() -> list[tuple[list[str], str]]:
    """The nouns, a space around each, and the phrase of every row of the table."""
    rows = [row.partition(": ") for row in _LEAKS.strip().splitlines()]
    return [([f" {noun} " for noun in nouns.split(", ")], phrase) for nouns, _, phrase in rows]


def _runs(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every run of `QUOTED_WORDS` words, in order; none where there are fewer words."""
    # One after another in C: monitors look for them in every completion of every step.
    return zip(*(words[start:] for start in range(QUOTED_WORDS)), strict=False)


def _new_runs(texts: Iterable[str], question: Sequence[str]) -> set[tuple[str, ...]]:
    """Runs of words of the texts that the question has not; empty if none of them is prose."""
    hidden = set[tuple[str, ...]]().union(*(_runs(_words(text)) for text in texts))
    hidden.difference_update(_runs(question))
    return hidden if any(map(_is_prose, hidden)) else set()


def _is_prose(run: Sequence[str]) -> bool:
    return sum(len(word) > 2 and word.isalpha() for word in run) >= MIN_PROSE_WORDS


@functools.cache
def _pattern(phrases: str) -> re.Pattern[str]:
    """One space, a phrase, and a space that the next phrase may begin with."""
    return re.compile(f" (?:{phrases})(?= )")


def _words(text: str) -> list[str]:
    """Letters and digits in a row, in lower case; all signs are gaps."""
    return re.findall(r"[^\W_]+", text.lower())
