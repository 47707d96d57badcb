"""One of several options: its letter, its text, or both.

A letter that stands alone is a letter, also where an option's text is one. An answer that names
several options, or a letter beside the text of another option, is ambiguous. A letter followed by a
reason (``C. Because A is wrong``) is that letter. Small letters count where they cannot be words:
alone, in parentheses, before a point at the start, after "option".
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rcsd.errors import DataError
from rcsd.judges.grading.folding import folded, holds_phrase, unwrapped, without_articles
from rcsd.types import LETTERS

_NAMED = r"(?:options?|choices?|answers?|letters?|statements?|alternatives?)"
_OPENING = re.compile(
    r"^\s*(?:(?:it is|it's|i (?:would )?choose|i pick)\s+)?(?:the\s+)?"
    rf"(?:{_NAMED}\s*(?:is\s+|:\s*)?)?",
    re.IGNORECASE,
)
_FIRST = re.compile(
    r"[(\[]\s*([A-Za-z])\s*[)\]]|([A-Za-z])(?=\s*(?:[).:,;=\]\u2013\u2014]|-\s|\())"
    r"|([A-Z])(?=\s*$|\s+(?:because|since|as|is|due|which|for)\b)|([a-z])(?=\s*$)"
)
_MENTION = re.compile(
    rf"(?i:\b{_NAMED})\s+\(?([A-Za-z])\b"
    r"|[(\[]([A-Za-z])[)\]]"
    r"|(?<![\w'\u2019.])([A-Z])(?![\w'\u2019])(?!\.\w)"
)
_DENIED = re.compile(
    r"(?i)\b(?:not|isn't|neither|nor|rather than|instead of|except|unlike|excluding|rules? out)"
    rf"\s+(?:(?:the|{_NAMED}|either)\s+)*\(?([A-Za-z])\b(?:\s*(?:,|or|nor)\s*\(?([A-Z])\b)*\)?"
    rf"|(?:\b{_NAMED}\s+)?\(?(?<![\w])([A-Z])\)?\s+(?:is|are|was)\s+"
    r"(?:not|wrong|incorrect|false|ruled|eliminated)\b"
)
_LISTED = re.compile(r"^[\s).\]]*(?:[,/&+]|or\b|and\b)\s*(?i:option\s+)?\(?([A-Za-z])(?![\w'])")
_NO_OPTION = ("none of the above", "none of these", "none", "all of the above", "all of these")


@dataclass(frozen=True, slots=True)
class Choice:
    """What an answer chooses.

    Args:
        place: Of the option, counted from 0; None: it cannot be told, or there is no such option.
        reason: Why.
        beyond: The answer certainly names what is none of the options.
    """

    place: int | None
    reason: str
    beyond: bool = False


def place_of(reference: str, options: Sequence[str]) -> int:
    """The option that a reference means: by its letter, or by its text.

    Raises:
        DataError: If options stand there twice, or the reference is neither.
    """
    texts = [option.strip() for option in options]
    for option in texts:
        if texts.count(option) > 1:
            raise DataError(f"{option!r} stands there twice; options must differ", field="options")
    letters = LETTERS[: len(texts)]
    if len(reference.strip()) == 1 and reference.strip() in letters:
        return letters.index(reference.strip())
    if reference.strip() in texts:
        return texts.index(reference.strip())
    raise DataError(
        f"the reference {reference!r} is neither one of {', '.join(letters)} nor an option",
        field="options",
    )


def choice(answer: str, options: Sequence[str]) -> Choice:
    """The option that a final answer chooses."""
    said = unicodedata.normalize("NFKC", unwrapped(answer).replace("**", " ")).strip(
        " \t\n*_$.`\"'"
    )
    said = re.sub(r"[$`]|\\[()\[\]]", " ", said)
    alone = re.fullmatch(r"[\s({\[]*([A-Za-z])[\s)}\].:]*", said)
    if alone:
        return _lettered(alone[1], options)
    whole = _by_text(said, options)
    if whole is not None:
        return whole
    opening = _OPENING.match(said)
    begins = opening.end() if opening else 0
    first = _FIRST.match(said, begins) or _FIRST.match(said)
    letter = next(filter(None, first.groups()), None) if first else None
    if first and letter and not (begins == 0 and _is_word(letter, said[first.end() :])):
        return _with_text(letter, said[first.end() :], options)
    return _mentioned(said, options)


def _is_word(letter: str, rest: str) -> bool:
    """Whether a letter at the start may be the article or the pronoun."""
    return letter in "AaIi" and re.match(r"\s+(?:is|as|for)\b", rest) is None and rest[:1] == " "


def _lettered(letter: str, options: Sequence[str]) -> Choice:
    place = LETTERS.find(letter.upper())
    if place < len(options):
        return Choice(place, f"option {letter.upper()}")
    last = LETTERS[len(options) - 1]
    return Choice(None, f"{letter.upper()} is none of the options A to {last}", beyond=True)


def _with_text(letter: str, rest: str, options: Sequence[str]) -> Choice:
    """A letter, and what follows it: another letter, an option's text, or a reason."""
    listed = _LISTED.match(rest)
    if listed and listed[1].upper() != letter.upper() and listed[1].upper() in LETTERS:
        word = listed[1] == "a" or (
            listed[1] in "AI" and not re.match(r"\W|$", rest[listed.end() :])
        )
        if not word:
            return Choice(None, f"names several options: {letter.upper()} and {listed[1].upper()}")
    chosen = _lettered(letter, options)
    text = rest.lstrip(" ).:,;=]\u2013\u2014-")
    for part in (text, text.strip("() ."), re.split(r"(?<=\w)[.,;](?=\s|$)|\n", text)[0]):
        other = _by_text(part, options)
        if other is not None and not other.beyond and chosen.place is not None:
            if other.place is None or other.place == chosen.place:
                return chosen
            named = f"the letter {letter.upper()} beside the text of {LETTERS[other.place]}"
            return Choice(None, f"contradicts itself: {named}")
    return chosen


def _by_text(said: str, options: Sequence[str], articles: bool = True) -> Choice | None:
    """The option whose text this is; None: of none.

    Args:
        said: A text.
        options: All of them.
        articles: Whether they count: an "A" at the start may be a letter.
    """
    folds: list[Callable[[str], str]] = [str.strip, folded]
    if not articles:
        folds.append(lambda text: without_articles(folded(text)))
    for fold in folds:
        wanted = fold(said)
        fits = [place for place, option in enumerate(options) if wanted and fold(option) == wanted]
        if len(fits) > 1:
            names = " and ".join(LETTERS[place] for place in fits)
            return Choice(None, f"ambiguous: fits the texts of {names}")
        if fits:
            return Choice(fits[0], f"the text of option {LETTERS[fits[0]]}")
    if folded(said) in _NO_OPTION:
        return Choice(None, f"{folded(said)!r} is none of the options", beyond=True)
    return None


def _mentioned(said: str, options: Sequence[str]) -> Choice:
    """The one option that a sentence speaks for, by letter, else by text."""
    kept = _DENIED.sub(" ", said)
    letters = set()
    for match in _MENTION.finditer(kept):
        letter = next(filter(None, match.groups()))
        is_alone = match[3] is not None
        if is_alone and letter in "AI" and re.match(r"\s+[a-z]", kept[match.end() :]):
            follows = re.match(r"\s+(?:is|are|and|or|because|since|as)\b", kept[match.end() :])
            if not follows:
                continue  # an article, the pronoun
        if letter.upper() in LETTERS[: len(options)]:
            letters.add(letter.upper())
    if len(letters) == 1:
        return _lettered(letters.pop(), options)
    if letters:
        return Choice(None, f"names several options: {', '.join(sorted(letters))}")
    return _by_phrase(kept, options, denied=kept != said)


def _by_phrase(said: str, options: Sequence[str], denied: bool) -> Choice:
    whole = _by_text(said, options, articles=False)
    if whole is not None and not denied:
        return whole
    words = folded(said)
    held = [place for place, option in enumerate(options) if holds_phrase(words, folded(option))]
    # "sulphuric acid" also holds "acid": the longest of nested texts is what is said.
    held = [
        place
        for place in held
        if not any(
            place != other and holds_phrase(folded(options[other]), folded(options[place]))
            for other in held
        )
    ]
    doubts = re.search(r"(?i)\b(?:not|no|never|neither|nor|n't|or|either|instead|except)\b", said)
    if len(held) == 1 and not doubts and not denied:
        return Choice(held[0], f"holds the text of option {LETTERS[held[0]]}")
    if len(held) > 1:
        names = ", ".join(LETTERS[place] for place in held)
        return Choice(None, f"ambiguous: holds the texts of {names}")
    return Choice(None, "names no option by letter or by its text")
