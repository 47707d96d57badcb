r"""Demands of written criteria of the rubric world, read back from their words.

A model writes text and points alone. Each sentence that the world knows is turned into the check
that decides it, from the words alone, as a reader would who knows the question but no answer:

==================  ====================================================  =======================
the sentence is     such as                                               its check
==================  ====================================================  =======================
a form, a value     "Ends with the unit J.", "Finds 180 s on the way."    as its words say
this problem's      "The working converts the minutes to seconds."        the fork's mark
another problem's   the same, where no minutes are to be converted        met by no answer
general             "Is clear and complete.", "Is right."                 met by every answer
anything else       "Is great.", words that the world does not know       none: unscored
==================  ====================================================  =======================

"Is right." names nothing that an answer could be searched for, so it tells no two answers apart;
"Shows the working." does, and is read.
"""

import functools
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rcsd.data.world.families import TEMPLATES, Draft
from rcsd.data.world.problems import GENERALITIES, WORDINGS, Kind, build_check, redraw_draft
from rcsd.types import Example, Rubric

NEVER: Mapping[str, Any] = {"type": "matches", "pattern": r"(?!)"}
"""Met by no answer."""

ALWAYS: Mapping[str, Any] = {"type": "matches", "pattern": r"\S"}
"""Met by every answer that is not empty."""


def read_rubric(example: Example, rubric: Rubric) -> Rubric:
    """The criteria of a rubric with the checks and titles that their words stand for.

    Titles are the kinds of `rcsd.data.world.problems`, or ``foreign``, ``general``, ``unread``.
    Text and points stay as written; checks that the rubric brings are not used.

    Raises:
        DataError: If the example cannot be traced back to its draft.
    """
    draft, criteria = redraw_draft(example), []
    for criterion in rubric.criteria:
        title, check = _demanded(" ".join(criterion.text.split()), draft)
        criteria.append(replace(criterion, title=title, check=check))
    return Rubric(tuple(criteria))


def _demanded(text: str, draft: Draft) -> tuple[str, Mapping[str, Any] | None]:
    """Subject of a sentence, and the check that decides it."""
    if text == "Shows the working.":
        return "working", {"type": "not", "check": build_check("no working", "")}
    if text in GENERALITIES:
        return "general", ALWAYS
    for kind, pattern in _sentences():
        match = pattern.fullmatch(text)
        if match is not None:
            return _decided(kind, (match.groups() or ("",))[0], draft)
    return "unread", None


@functools.cache
def _sentences() -> tuple[tuple[Kind, re.Pattern[str]], ...]:
    """Each wording, with a group for what it names; its full stop may be missing."""
    hole = "\0"
    patterns = []
    for kind, wordings in WORDINGS.items():
        for wording in wordings:
            words = re.escape(wording.format(hole).removesuffix("."))
            patterns.append((kind, re.compile(words.replace(re.escape(hole), "(.+?)") + r"\.?")))
    return tuple(patterns)


def _decided(kind: Kind, about: str, draft: Draft) -> tuple[str, Mapping[str, Any] | None]:
    if kind not in ("method", "mistake"):
        try:
            return kind, build_check(kind, draft.unit if kind == "no unit" else about)
        except ValueError:
            return "unread", None
    for fork in draft.forks:  # a method and a mistake share their wordings
        if about == fork.right:
            return "method", fork.right_mark
        if about == fork.habit:
            return "mistake", fork.habit_mark
    return ("foreign", NEVER) if about in _phrases() else ("unread", None)


@functools.cache
def _phrases() -> frozenset[str]:
    """Phrases of all right procedures and habits; they do not depend on a problem's numbers."""
    forks = [
        fork for template in TEMPLATES.values() for fork in template.draft(random.Random(0)).forks
    ]
    return frozenset(phrase for fork in forks for phrase in (fork.right, fork.habit))
