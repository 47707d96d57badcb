"""One of several options: its letter, its text, or both.

A letter that stands alone is a letter, unless it is the text of another option. An answer that
names several options, or a letter beside the text of another option, is ambiguous. A letter
followed by a reason (``C. Because A is wrong``) is that letter. Small letters count where they
cannot be words: alone, in parentheses, before a point at the start, after "option". The texts of
options are looked for before letters within a sentence, where a letter may belong to a name:
"vitamin C", "25 C", "B cells" name no option. What is denied, doubted or asked is not chosen.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rcsd.errors import DataError
from rcsd.graders.answers.folding import folded, holds_phrase, unwrapped, without_articles
from rcsd.types import LETTERS

_NAMED = r"(?:options?|choices?|answers?|letters?|statements?|alternatives?)"
_OPENING = re.compile(
    r"^\s*(?:(?:it is|it's|i (?:would )?choose|i pick)\s+)?(?:the\s+)?"
    rf"(?:{_NAMED}\s*(?:is\s+|:\s*)?)?",
    re.IGNORECASE,
)
_FIRST = re.compile(
    r"[(\[]\s*([A-Za-z])\s*[)\]]|([A-Za-z])(?!\.[A-Z]\.)(?=\s*(?:[).:,;=\]]|\s[-\u2013\u2014]\s|\())"
    r"|([A-Z])(?=\s*$|\s+(?:because|since|as|is|due|which|for|it is)\b)|([a-z])(?=\s*$)"
)
_MENTION = re.compile(
    rf"(?i:\b{_NAMED})\s+\(?([A-Za-z])\b(?![-\u2013\u2014]\w)"
    r"|[(\[]([A-Za-z])[)\]]"
    r"|(?<![\w'\u2019.\u2013\u2014-])([A-Z])(?![\w'\u2019\u2013\u2014+-])(?!\.\w)"
)
_BEFORE = re.compile(  # what a letter follows that is no part of a name: "vitamin C", "25 C" are
    r"(?i)(?:^|[^\w\s\u00b0]\s*|\b(?:is|are|was|be|it's|that's|choose|chose|pick|select|say|with|for"
    r"|therefore|so|hence|thus|but|and|or|not|both|either|neither|nor|actually|definitely|clearly"
    rf"|likely|probably|only|than|to|of|then|between|also|plus|{_NAMED})\s+)$"
)
_AFTER = re.compile(  # "B cells" goes on
    r"\s+(?:\d|(?!(?:is|are|was|and|or|because|since|as|which|that|due|for|would|seems|has|best|but|rather"
    r"|instead|not|nor|most|must|should|fits|matches|can|could|cannot|may|might|does|then|to|with"
    r"|here|if|although|though|along|together|plus|also|alongside)\b)[a-z\u03b1-\u03c9])"
)
_L = r"\(?(?<![\w'\u2019-])[A-Za-z](?![\w'\u2019-])\)?"
_LETTERS = rf"{_L}(?:\s*(?:,|\bor\b|\band\b|\bnor\b|/|&)+\s*{_L})*"
_BAD = (
    r"(?:not|never|wrong|incorrect|false|unlikely|implausible|impossible|hardly|least|distractors?"
    r"|ruled|eliminated|excluded|discarded|dismissed|rejected|no longer|inconsistent|out)\b"
)
_DENIED = re.compile(
    r"(?i)(?:\b(?:not|isn't|cannot be|can't be|neither|nor|never|rather than|instead of|except"
    r"|unlike"
    r"|anything but|all but|everything but|unlikely to be|excluding|exclude[sd]?|eliminat\w+"
    r"|discard\w*|reject\w*|dismiss\w*|rul\w+ out|think about|what about"
    r"|(?:wrong|incorrect|false|unlikely|implausible) \w+ (?:is|are|would be)|opposite of)"
    rf"|\\neg|\u00ac)\s*(?:(?:the|{_NAMED}|either)\s+)*(?<![a-z]){_LETTERS}"
    rf"|(?:\b{_NAMED}\s+)?{_LETTERS}\s+(?:(?:is|are|was|were|seems?|looks?|can|could|should|must"
    rf"|has|have)\s+(?:(?!not only)\w+\s+){{0,3}}?{_BAD}"
    r"|(?:isn|aren|wasn|doesn|don|can|couldn|won|wouldn)['\u2019]t\b"
    r"|cannot\b|(?:does|do|did|will|would) not\b|fails?\b)[^.,;:?!\n]*"
)
_DOUBTS = re.compile(
    r"(?i)\?|\b(?:not|no|never|neither|nor|or|either|instead|except|without|opposite|absence|lack|lacks"
    r"|fails?|cannot|wrong|incorrect|false|unlikely|hardly|least|exclud\w+|eliminat\w+|discard\w*"
    r"|reject\w*|ruled?|distractors?|anything but|rather|unlike|stop\w*|avoid\w*|contraindicat\w+"
    r"|discontinu\w+|non)\b|n['\u2019]t\b"
)
_LISTED = re.compile(
    r"^[\s).\]]*(?:[,;/&+(\u2013\u2014-]|\b(?=(?:or|and|to|then|through|but|as well)\b))"
    r"\s*(?:(?:or|and|to|through|then|alternatively|but|also"
    r"|as well as)\s+)*(?i:option\s+)?\(?([A-Za-z])(?![\w'])"
)
_HEDGED = re.compile(r"\b(?:could|might|may) (?:\w+ )?be \(?([A-Z])\b")
_AFTER_POINT = re.compile(
    r"(?:because|since|as|it|this|that|the|an?|is|due|for|which|all|both|not?|none)$"
)
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
    answer = re.sub(r"~~[^~]+~~", " ", answer)  # struck out
    said = unicodedata.normalize("NFKC", unwrapped(answer).replace("**", " ")).strip(
        " \t\n*_$.`\"'"
    )
    said = re.sub(r"[$`]|\\[()\[\]]", " ", said)
    if re.fullmatch(r"[A-Z](?:[\s+>|&-]+[A-Z])+", said):
        return Choice(None, f"names several options: {said}")
    alone = re.fullmatch(r"[\s({\[]*([A-Za-z])[\s)}\].:]*", said)
    if alone:
        return _lettered(alone[1], options)
    whole = _by_text(said, options)
    if whole is not None:
        return whole
    by_phrase = _by_phrase(said, options)
    if by_phrase is not None and _folded_starts(said, by_phrase.place, options):
        return by_phrase  # "Category B patients", "A. Smith": its letter is none
    denied, said = said, _DENIED.sub(" ", said)
    said = (
        said
        if said == denied
        else re.sub(r"(?i)^[\s,;:.]*(?:(?:but|so|hence|and)\b\s*)?", "", said)
    )
    opening = _OPENING.match(said)
    begins = opening.end() if opening else 0
    first = _FIRST.match(said, begins) or _FIRST.match(said)
    letter = next(filter(None, first.groups()), None) if first else None
    if first and letter and not (begins == 0 and _is_word(letter, said[first.end() :])):
        return _with_text(letter, said[first.end() :], options)
    return by_phrase or _mentioned(said, options)


def _is_word(letter: str, rest: str) -> bool:
    """Whether a letter at the start may be the article or the pronoun."""
    return letter in "AaIi" and re.match(r"\s+(?:is|as|for)\b", rest) is None and rest[:1] == " "


def _lettered(letter: str, options: Sequence[str]) -> Choice:
    if letter in (option.strip() for option in options):
        place = [option.strip() for option in options].index(letter)
        if place != LETTERS.find(letter.upper()):
            return Choice(
                None, f"ambiguous: {letter} is a letter, and the text of {LETTERS[place]}"
            )
    place = LETTERS.find(letter.upper())
    if place < len(options):
        return Choice(place, f"option {letter.upper()}")
    last = LETTERS[len(options) - 1]
    return Choice(None, f"{letter.upper()} is none of the options A to {last}", beyond=True)


def _with_text(letter: str, rest: str, options: Sequence[str]) -> Choice:
    """A letter, and what follows it: another letter, an option's text, or a reason."""
    listed = _LISTED.match(rest)
    other = listed[1] if listed else letter
    if other.upper() != letter.upper() and other.upper() in LETTERS and other not in ("a", "I"):
        return Choice(None, f"names several options: {letter.upper()} and {other.upper()}")
    if len(set(re.findall(r"(?<![(\w])([A-Z])[.)]\s+\w", rest)) - {letter.upper()}) > 1:
        return Choice(None, f"a list that begins with {letter.upper()}")
    if re.match(r"(?i)[\s).\]]*(?:\?|\(?(?:wrong|incorrect|false)\b)", rest):
        return Choice(None, f"asks whether it is {letter.upper()}, or denies it")
    if (hedge := _HEDGED.search(rest)) and hedge[1] != letter.upper():
        return Choice(None, f"says {letter.upper()}, but that it may be {hedge[1]}")
    chosen = _lettered(letter, options)
    species = re.match(r"\. ([a-z]+)", rest)  # "C. difficile" is a name
    if chosen.beyond and re.search(r"\w", rest):  # "H - reflex" may be a name
        whole = _by_text(rest, options)
        return chosen if whole is not None and whole.beyond else Choice(None, chosen.reason)
    named = "" if chosen.place is None else options[chosen.place]
    shared = set(folded(rest).split()) & set(folded(named).split())
    if named and species and not shared and not _AFTER_POINT.match(species[1]):
        return Choice(None, f"{(letter + rest)[:40]!r} may be a name")
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
    """The one option that a sentence speaks for by its letter.

    Args:
        said: What it says, without what it denies.
        options: All of them.
    """
    letters = _letters(said, options)
    if len(letters) > 1:
        return Choice(None, f"names several options: {', '.join(sorted(letters))}")
    if letters and not _DOUBTS.search(said):
        return _lettered(letters.pop(), options)
    if letters:
        return Choice(None, f"doubts: {letters.pop()} beside a negation, a doubt or a question")
    return Choice(None, "names no option by letter or by its text")


def _letters(said: str, options: Sequence[str]) -> set[str]:
    """Letters of options in a sentence that are neither words nor parts of names."""
    letters = set()
    for match in _MENTION.finditer(said):
        letter = next(filter(None, match.groups()))
        if match[3] is not None:
            follows = said[match.end() :]
            if not _BEFORE.search(said[max(0, match.start() - 24) : match.start()]) or _AFTER.match(
                follows
            ):
                continue
        if letter.upper() in LETTERS[: len(options)]:
            letters.add(letter.upper())
    return letters


def _by_phrase(said: str, options: Sequence[str]) -> Choice | None:
    """The option whose text a sentence holds; None: it holds none."""
    whole = _by_text(said, options, articles=False)
    if whole is not None and not re.match(r"A\b", said):
        return whole
    words = folded(said)
    texts = [folded(option) for option in options]
    held = [
        place for place, text in enumerate(texts) if len(text) > 1 and holds_phrase(words, text)
    ]
    # "sulphuric acid" also holds "acid": the longest of nested texts is what is said.
    held = [
        place
        for place in held
        if not any(place != other and holds_phrase(texts[other], texts[place]) for other in held)
    ]
    if not held:
        return None
    if len(held) > 1:
        names = ", ".join(LETTERS[place] for place in held)
        return Choice(None, f"ambiguous: holds the texts of {names}")
    name = LETTERS[held[0]]
    rest = _without(said, options[held[0]])
    if _DOUBTS.search(rest):
        return Choice(None, f"holds the text of {name} beside a negation, a doubt or a question")
    if others := _letters(rest, options) - {name}:
        return Choice(None, f"ambiguous: the text of {name} beside {', '.join(sorted(others))}")
    return Choice(held[0], f"holds the text of option {name}")


def _without(said: str, option: str) -> str:
    """A sentence without the text of an option, and the letters and negations that stand in it."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", unwrapped(option)))
    return re.sub(r"(?i)\b" + r"\W+".join(words) + r"\b", " \u2026 ", said) if words else said


def _folded_starts(said: str, place: int | None, options: Sequence[str]) -> bool:
    """Whether a sentence begins with the text of an option that is more than a word."""
    text = "" if place is None else folded(options[place])
    return " " in text and f"{folded(said)} ".startswith(f"{text} ")
