"""What the text of a model's completions gives away: leaks, copies, hedging, checking, collapse.

Read them beside the same numbers of the untrained model: lists of phrases miss some and catch
others by chance, but by chance as often before training as after. All lists are ours, and English.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rcsd.data.words import QUOTED_WORDS, runs
from rcsd.types import Example

MIN_PROSE_WORDS = QUOTED_WORDS // 2
"""So many words of a run must be made of three letters or more. Else a calculation that comes out
the same, as right ones do, would be a copy of the reference's."""

# Phrases are looked for in a text's words, in lower case, one space before each and one at the end:
# so no emphasis, line break or hyphen hides one. A pattern begins with a space for speed.
_SAYS = (
    "(?:says?|states?|mentions?|requires?|demands?|asks?|wants?|expects?|tells?|specif(?:y|ies)|"
    "emphasi[sz]es?|concludes?|explains?|suggests?|calls? for)"
)
_BY = "(?:according to|as per|following|mention(?:s|ing)?|based on|as)"


@dataclass(frozen=True, slots=True)
class _Leak:
    """Phrases that speak of what only the teacher saw.

    Args:
        nouns: Each phrase has one of them. Where the question has one too, no phrase counts.
        phrases: Regular expressions.
    """

    nouns: tuple[str, ...]
    phrases: tuple[str, ...]

    def is_in(self, line: str) -> bool:
        """Whether one of the phrases is in a line of words."""
        return any(noun in line for noun in self.nouns) and (
            _pattern(self.phrases).search(line) is not None
        )


_LEAKS = (
    _Leak((" rubric",), ("rubrics?(?<! under the rubric)",)),
    _Leak(
        (" reference ",),
        (
            "reference (?:answer|response)s?",
            f"{_BY} the (?:(?:given|provided) )?reference solution",
            f"the reference solution {_SAYS}",
            # Not the reference frame, state or values.
            "the reference (?:says|mentions|requires|expects|wants|concludes|explains)",
            "as the reference (?:states|shows|suggests)",
            "(?:according to|as per) the (?:(?:given|provided) )?reference"
            " (?:the|it|we|i|this|an?|and)",
        ),
    ),
    _Leak(
        (" criteria ",),
        (
            "criteria of a strong answer",
            f"the (?:(?:given|provided|above) )?criteria {_SAYS}",
            "the (?:given|provided|listed) criteria",
            "(?:according to|as per) the criteria(?! (?:of|for|in|set|by|laid|that|which|"
            "established|defined|described|proposed|published))",
        ),
    ),
    _Leak(
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
    _Leak(
        (" worked solution ",),
        ("(?<! a )(?<! my )(?<! full )(?<! complete )(?<! detailed )(?<! our )worked solution",),
    ),
    _Leak(
        tuple(f" {which} solution " for which in ("given", "provided", "model", "official")),
        (
            f"{_BY} the (?:given|provided|model|official) solution",
            f"the (?:given|provided|model|official) solution {_SAYS}",
        ),
    ),
    _Leak(
        tuple(f" {which} answer " for which in ("given", "provided", "expected", "official")),
        ("the (?:given|provided|expected|official) answer(?! (?:choices?|options?))",),
    ),
    _Leak((" strong answer ",), ("an? strong answer",)),
    _Leak((" answer key ", " marking scheme "), ("answer key", "marking scheme")),
)
"""What leaks are."""

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


def text_monitors(pairs: Sequence[tuple[Example, str]]) -> dict[str, float]:
    """What the texts of a step's completions give away, over (example, text) pairs in any order.

    - ``completion/leak_phrase_share``: of all completions, those that speak of a rubric, reference
      or guidance ("according to the rubric", "the reference answer"), or in the words of our
      templates. Phrases about what the question itself speaks of ("which criteria must be met?")
      are left to the question.
    - ``completion/copied_reference_share``: of the completions whose example has something to
      copy, those that hold `QUOTED_WORDS` consecutive words of its reference answer or worked
      solution that are not the question's. Letter case, spacing and punctuation aside.
      A reference of fewer words is nothing to copy: it cannot be told from a right answer; nor can
      a run of mere numbers and symbols (`MIN_PROSE_WORDS`).
    - ``completion/copied_rubric_share``: the same of the text of a criterion.
    - ``completion/hedges_per_1000_words``, ``completion/checks_per_1000_words``: phrases of doubt
      ("perhaps", "I think") and of looking again ("wait,", "let me check") over the words of all
      completions together.
    - ``completion/duplicate_share``: of the completions whose example has several, those whose
      exact text another of them has too.

    A leak is what only the teacher saw. Where the completion is a rubric, is the reference itself
    (SFT), or where the student is shown the same, the first three say nothing of leaks.

    Args:
        pairs: Examples, told apart by their ids, with what a model said to each.

    Returns:
        Shares in [0, 1] and rates of at least 0. Left out, since nobody could say: what would be
        divided by none, such as rates where no completion holds a word.
    """
    examples = {example.id: example for example, _ in pairs}
    said: dict[str, list[str]] = {}
    for example, text in pairs:
        said.setdefault(example.id, []).append(text)
    tallies, repeated = list[_Tally](), list[bool]()
    for id_, texts in said.items():
        hidden = _hidden(examples[id_])
        tallies += [_tally(text, hidden) for text in texts]
        times = Counter(texts)
        repeated += [times[text] > 1 for text in texts if len(texts) > 1]
    words = [tally.num_words for tally in tallies]
    copies = (tally.copied_reference for tally in tallies)
    rubric_copies = (tally.copied_rubric for tally in tallies)
    found = {
        "leak_phrase_share": _mean([tally.leaks for tally in tallies]),
        "copied_reference_share": _mean([copied for copied in copies if copied is not None]),
        "copied_rubric_share": _mean([copied for copied in rubric_copies if copied is not None]),
        "hedges_per_1000_words": _per_1000([tally.num_hedges for tally in tallies], words),
        "checks_per_1000_words": _per_1000([tally.num_checks for tally in tallies], words),
        "duplicate_share": _mean(repeated),
    }
    return {f"completion/{name}": value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Hidden:
    """What an example has that its question does not show.

    Args:
        reference: Runs of words of its reference answer and solution.
        rubric: Of its criteria.
        either: Both.
        leaks: What speaks of them, and not of the question.
    """

    reference: set[tuple[str, ...]]
    rubric: set[tuple[str, ...]]
    either: set[tuple[str, ...]]
    leaks: Sequence[_Leak]


@dataclass(frozen=True, slots=True)
class _Tally:
    """What stands in one completion; a copy is None where there is nothing to copy."""

    leaks: bool
    copied_reference: bool | None
    copied_rubric: bool | None
    num_hedges: int
    num_checks: int
    num_words: int


def _hidden(example: Example) -> _Hidden:
    asked = _words(example.question)
    line, criteria = _line(asked), example.rubric.criteria if example.rubric is not None else ()
    reference = _runs([example.reference_answer or "", example.solution or ""], asked)
    rubric = _runs([criterion.text for criterion in criteria], asked)
    leaks = [leak for leak in _LEAKS if not any(noun in line for noun in leak.nouns)]
    return _Hidden(reference, rubric, reference | rubric, leaks)


def _runs(texts: Iterable[str], asked: Sequence[str]) -> set[tuple[str, ...]]:
    """Runs of words of the texts that the question has not; empty if none of them is prose."""
    found = set[tuple[str, ...]]().union(*(runs(_words(text)) for text in texts))
    found.difference_update(runs(asked))
    return found if any(map(_is_prose, found)) else set()


def _is_prose(run: Sequence[str]) -> bool:
    return sum(len(word) > 2 and word.isalpha() for word in run) >= MIN_PROSE_WORDS


def _tally(text: str, hidden: _Hidden) -> _Tally:
    words = _words(text)
    line = _line(words)
    found = hidden.either.intersection(runs(words))
    num_checks = len(_pattern(_CHECKS).findall(line))
    for word, pattern in _INTERJECTIONS:
        if word in line:
            num_checks += len(pattern.findall(text.casefold()))
    return _Tally(
        leaks=any(leak.is_in(line) for leak in hidden.leaks),
        copied_reference=_copies(found, hidden.reference),
        copied_rubric=_copies(found, hidden.rubric),
        num_hedges=len(_pattern(_HEDGES).findall(line)),
        num_checks=num_checks,
        num_words=len(words),
    )


def _copies(found: set[tuple[str, ...]], hidden: set[tuple[str, ...]]) -> bool | None:
    return any(run in hidden and _is_prose(run) for run in found) if hidden else None


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


def _mean(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _per_1000(nums: Sequence[int], words: Sequence[int]) -> float | None:
    return 1000 * sum(nums) / sum(words) if sum(words) else None
