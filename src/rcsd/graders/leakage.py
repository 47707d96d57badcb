"""Metrics of completion texts: leaks, copies, hedging, checking, duplicates.

Read them beside the same numbers of the untrained model: lists of phrases miss some and match
others by chance, but by chance as often before training as after. All lists are English.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from rcsd.data.words import QUOTED_WORDS, runs
from rcsd.types import Example

MIN_PROSE_WORDS = QUOTED_WORDS // 2
"""Words of a run that must have three letters or more. Else a calculation that comes out the same,
as right ones do, would be a copy of the reference's."""

# Phrases are searched in a text's words, in lower case, one space before each and one at the end:
# so no emphasis, line break or hyphen hides one. A pattern begins with a space for speed.
_SAYS = (
    "(?:says?|states?|mentions?|requires?|demands?|asks?|wants?|expects?|tells?|specif(?:y|ies)|"
    "emphasi[sz]es?|concludes?|explains?|suggests?|calls? for)"
)
_BY = "(?:according to|as per|following|mention(?:s|ing)?|based on|as)"
_GIVEN = "(?:given|provided)"

_LEAKS: Sequence[tuple[tuple[str, ...], tuple[str, ...]]] = (
    ((" rubric",), ("rubrics?(?<! under the rubric)",)),
    (
        (" reference ",),
        (
            "reference (?:answer|response)s?",
            f"{_BY} the (?:{_GIVEN} )?reference solution",
            f"the reference solution {_SAYS}",
            # Not the reference frame, state or values.
            "the reference (?:says|mentions|requires|expects|wants|concludes|explains)",
            "as the reference (?:states|shows|suggests)",
            f"(?:according to|as per) the (?:{_GIVEN} )?reference (?:the|it|we|i|this|an?|and)",
        ),
    ),
    (
        (" criteria ",),
        (
            "criteria of a strong answer",
            f"the (?:(?:given|provided|above) )?criteria {_SAYS}",
            "the (?:given|provided|listed) criteria",
            "(?:according to|as per) the criteria(?! (?:of|for|in|set|by|laid|that|which|"
            "established|defined|described|proposed|published))",
        ),
    ),
    (
        (" guidance ",),
        (
            "(?:this|your) guidance",
            "the (?:given|provided|above) guidance",
            f"the guidance (?:{_SAYS}|given|provided|above|shown)",
            f"{_BY} the guidance(?! (?:of|from|by|on|for|in|issued|published|document|cues?|"
            "signals?|systems?))",
        ),
    ),
    # The heading in our template. After other words a worked solution is the model's own.
    (
        (" worked solution ",),
        ("(?<! a )(?<! my )(?<! full )(?<! complete )(?<! detailed )(?<! our )worked solution",),
    ),
    (
        tuple(f" {which} solution " for which in ("given", "provided", "model", "official")),
        (
            f"{_BY} the (?:given|provided|model|official) solution",
            f"the (?:given|provided|model|official) solution {_SAYS}",
        ),
    ),
    (
        tuple(f" {which} answer " for which in ("given", "provided", "expected", "official")),
        ("the (?:given|provided|expected|official) answer(?! (?:choices?|options?))",),
    ),
    ((" strong answer ",), ("an? strong answer",)),
    ((" answer key ", " marking scheme "), ("answer key", "marking scheme")),
)
"""Phrases that speak of what only the teacher saw, and the nouns of which each of them has one.

Where the question has one of the nouns too, none of the phrases counts.
"""

_HEDGES = (
    "perhaps",
    "maybe",
    "probably",
    "possibly",
    "presumably",
    "might be",
    "i (?:think|believe|guess|suppose|suspect)",
    "i m guessing",
    "it seems",
    "seems like",
    "it looks like",
    "not (?:(?:entirely|completely|quite|really|so|very|too) )?(?:sure|certain)",
    "unsure",
    "if i (?:recall|remember)",
)
"""Without "likely" and "could be", which state chances and possibilities as often as doubts."""

_CHECKS = (
    "hm+",
    # Not "let us consider" or "calculate", which begin a working.
    "let (?:me|us|s) (?:(?:just|quickly|now) )*(?:(?:double )?(?:re ?)?(?:check|verify|confirm)"
    "|re ?(?:consider|examine|calculate|compute|evaluate|think|read))",
    "double check(?:s|ed|ing)?",
    "sanity check",
    "on second thoughts?",
    "i made an? (?:\\w+ )?(?:mistake|error)",
    "scratch that",
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
      or guidance ("according to the rubric", "the reference answer"), or in the words of our
      templates. Phrases about what the question itself speaks of ("which criteria must be met?")
      do not count.
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

    Args:
        pairs: Examples, told apart by their ids, each with a completion of a model.

    Returns:
        Shares in [0, 1] and rates of at least 0. A metric without a denominator is left out, such
        as rates where no completion holds a word.
    """
    examples = {example.id: example for example, _ in pairs}
    texts: dict[str, list[str]] = {}
    for example, text in pairs:
        texts.setdefault(example.id, []).append(text)
    flags: dict[str, list[bool]] = {}
    counts = Counter[str]()
    for id_, completions in texts.items():
        times = Counter(completions)
        if len(completions) > 1:
            flags.setdefault("duplicate_share", []).extend(times[t] > 1 for t in completions)
        _count(examples[id_], completions, flags, counts)
    metrics = {name: sum(values) / len(values) for name, values in flags.items()}
    if counts["words"]:
        for name in ("hedges", "checks"):
            metrics[f"{name}_per_1000_words"] = 1000 * counts[name] / counts["words"]
    return {f"completion/{name}": value for name, value in metrics.items()}


def _count(
    example: Example, texts: Sequence[str], flags: dict[str, list[bool]], counts: Counter[str]
) -> None:
    """Add the completions of one example to the flags and counts."""
    question = _words(example.question)
    question_line = _line(question)
    criteria = () if example.rubric is None else example.rubric.criteria
    reference = _runs([example.reference_answer or "", example.solution or ""], question)
    rubric = _runs([criterion.text for criterion in criteria], question)
    hidden = {"copied_reference_share": reference, "copied_rubric_share": rubric}
    either = reference | rubric
    leaks = [leak for leak in _LEAKS if not any(noun in question_line for noun in leak[0])]
    for text in texts:
        words = _words(text)
        line = _line(words)
        copied = {run for run in either.intersection(runs(words)) if _is_prose(run)}
        for name, source in hidden.items():
            if source:
                flags.setdefault(name, []).append(not copied.isdisjoint(source))
        flags.setdefault("leak_phrase_share", []).append(
            any(
                any(noun in line for noun in nouns) and _pattern(phrases).search(line)
                for nouns, phrases in leaks
            )
        )
        counts["words"] += len(words)
        counts["hedges"] += len(_pattern(_HEDGES).findall(line))
        counts["checks"] += len(_pattern(_CHECKS).findall(line))
        for word, pattern in _INTERJECTIONS:
            if word in line:
                counts["checks"] += len(pattern.findall(text.casefold()))


def _runs(texts: Iterable[str], question: Sequence[str]) -> set[tuple[str, ...]]:
    """Runs of words of the texts that the question has not; empty if none of them is prose."""
    hidden = set[tuple[str, ...]]().union(*(runs(_words(text)) for text in texts))
    hidden.difference_update(runs(question))
    return hidden if any(map(_is_prose, hidden)) else set()


def _is_prose(run: Sequence[str]) -> bool:
    return sum(len(word) > 2 and word.isalpha() for word in run) >= MIN_PROSE_WORDS


@functools.cache
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """One space, a phrase, and a space that the next phrase may begin with."""
    return re.compile(f" (?:{'|'.join(phrases)})(?= )")


def _words(text: str) -> list[str]:
    """Letters and digits in a row, in lower case; all signs are gaps."""
    # On bytes: a regular expression over characters takes twice as long.
    content = _SIGNS.sub(b" ", text.lower().encode("utf-8", "replace"))
    return content.translate(_LETTERS).decode().split()


# In UTF-8 the signs of Latin 1 but letters, then U+2000 to U+2FFF: dashes, quotes, arrows, sums.
_SIGNS = re.compile(rb"\xc2.|\xc3[\x97\xb7]|\xe2..", re.DOTALL)
_LETTERS = bytes(c if c > 127 or chr(c).isalnum() else 32 for c in range(256))


def _line(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "
