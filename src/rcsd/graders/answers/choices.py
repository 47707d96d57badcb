"""Choices among options: by letter, by text, or both.

A letter that stands alone is a letter, unless it is the text of another option. An answer that
names several options, or a letter beside the text of another option, is ambiguous. A letter
followed by a reason (``C. Because A is wrong``) is that letter. Small letters count where they
cannot be words: alone, in parentheses, before a point at the start, after "option". The texts of
options are looked for before letters within a sentence, where a letter may belong to a name:
"vitamin C", "25 C", "B cells" name no option. What is denied, doubted or asked is not chosen.
"""

import re
import unicodedata
from collections.abc import Sequence

from rcsd.errors import DataError
from rcsd.graders.answers.normalize import (
    holds_phrase,
    normalize_words,
    unwrap_latex,
    without_articles,
)
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


Choice = tuple[int | None, str]
"""Index of the option that an answer chooses, and why; `BEYOND`: what is certainly no option; None:
it cannot be told."""

BEYOND = -1


def option_index(reference: str, options: Sequence[str]) -> int:
    """Index of the option that a reference means: by its letter, or by its text.

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


def compare_choices(answer: str, index: int, options: Sequence[str]) -> tuple[bool | None, str]:
    """Verdict on an answer that should choose an option, and why; None: it cannot be told."""
    chosen, reason = choose(answer, options)
    if chosen is None or chosen == index:
        return (None if chosen is None else True), reason
    return False, reason if chosen == BEYOND else f"{reason}, not {LETTERS[index]}"


def choose(answer: str, options: Sequence[str]) -> Choice:
    """Find the option that a final answer chooses."""
    answer = re.sub(r"~~[^~]+~~", " ", answer)  # struck out
    text = unicodedata.normalize("NFKC", unwrap_latex(answer).replace("**", " "))
    text = re.sub(r"[$`]|\\[()\[\]]", " ", text.strip(" \t\n*_$.`\"'"))
    if re.fullmatch(r"[A-Z](?:[\s+>|&-]+[A-Z])+", text):
        return None, f"names several options: {text}"
    if alone := re.fullmatch(r"[\s({\[]*([A-Za-z])[\s)}\].:]*", text):
        return _by_letter(alone[1], options)
    if by_text := _by_text(text, options):
        return by_text
    by_phrase = _by_phrase(text, options)
    if by_phrase and _starts_with_option(text, by_phrase[0], options):
        return by_phrase  # "Category B patients", "A. Smith": its letter is none
    affirmed = _DENIED.sub(" ", text)
    if affirmed != text:
        affirmed = re.sub(r"(?i)^[\s,;:.]*(?:(?:but|so|hence|and)\b\s*)?", "", affirmed)
    opening = _OPENING.match(affirmed)
    begin = opening.end() if opening else 0
    if first := _FIRST.match(affirmed, begin) or _FIRST.match(affirmed):
        letter, rest = next(filter(None, first.groups())), affirmed[first.end() :]
        is_article = (
            letter in "AaIi" and rest[:1] == " " and not re.match(r"\s+(?:is|as|for)\b", rest)
        )
        if begin or not is_article:
            return _by_letter_and_text(letter, rest, options)
    return by_phrase or _by_mention(affirmed, options)


def _by_letter(letter: str, options: Sequence[str]) -> Choice:
    texts, index = [option.strip() for option in options], LETTERS.find(letter.upper())
    if letter in texts and texts.index(letter) != index:
        other = LETTERS[texts.index(letter)]
        return None, f"ambiguous: {letter} is a letter, and the text of {other}"
    if index < len(options):
        return index, f"option {letter.upper()}"
    return BEYOND, f"{letter.upper()} is none of the options A to {LETTERS[len(options) - 1]}"


def _by_letter_and_text(letter: str, rest: str, options: Sequence[str]) -> Choice:
    """A letter, and what follows it: another letter, an option's text, or a reason."""
    name = letter.upper()
    if doubt := _find_doubt(name, rest):
        return None, doubt
    chosen, reason = _by_letter(letter, options)
    if chosen == BEYOND and re.search(r"\w", rest):  # "H - reflex" may be a name
        by_text = _by_text(rest, options)
        return (BEYOND if by_text and by_text[0] == BEYOND else None), reason
    if chosen is None or chosen == BEYOND:
        return chosen, reason
    species = re.match(r"\. ([a-z]+)", rest)  # "C. difficile" is a name
    shared = set(normalize_words(rest).split()) & set(normalize_words(options[chosen]).split())
    if species and not shared and not _AFTER_POINT.match(species[1]):
        return None, f"{(letter + rest)[:40]!r} may be a name"
    text = rest.lstrip(" ).:,;=]\u2013\u2014-")
    for part in (text, text.strip("() ."), re.split(r"(?<=\w)[.,;](?=\s|$)|\n", text)[0]):
        by_text = _by_text(part, options)
        if by_text and by_text[0] != BEYOND:
            if by_text[0] in (None, chosen):
                break
            other = LETTERS[by_text[0]]
            return None, f"contradicts itself: the letter {name} beside the text of {other}"
    return chosen, reason


def _find_doubt(name: str, rest: str) -> str:
    """Why what follows a letter may not affirm it; empty: it does."""
    listed = _LISTED.match(rest)
    if listed and listed[1].upper() != name and listed[1] not in ("a", "I"):
        return f"names several options: {name} and {listed[1].upper()}"
    if len(set(re.findall(r"(?<![(\w])([A-Z])[.)]\s+\w", rest)) - {name}) > 1:
        return f"a list that begins with {name}"
    if re.match(r"(?i)[\s).\]]*(?:\?|\(?(?:wrong|incorrect|false)\b)", rest):
        return f"asks whether it is {name}, or denies it"
    hedge = _HEDGED.search(rest)
    return f"says {name}, but that it may be {hedge[1]}" if hedge and hedge[1] != name else ""


def _by_text(text: str, options: Sequence[str], articles: bool = True) -> Choice | None:
    """The option whose text this is; None: it is the text of none.

    Args:
        text: A text.
        options: All of them.
        articles: Whether they count: an "A" at the start may be a letter.
    """
    words = normalize_words(text)
    forms = [(text.strip(), [option.strip() for option in options])]
    forms.append((words, [normalize_words(option) for option in options]))
    if not articles:
        forms.append((without_articles(words), [without_articles(form) for form in forms[1][1]]))
    for form, option_forms in forms:
        fits = [LETTERS[i] for i, option in enumerate(option_forms) if form and option == form]
        if len(fits) > 1:
            return None, f"ambiguous: fits the texts of {' and '.join(fits)}"
        if fits:
            return LETTERS.index(fits[0]), f"the text of option {fits[0]}"
    return (BEYOND, f"{words!r} is none of the options") if words in _NO_OPTION else None


def _by_phrase(text: str, options: Sequence[str]) -> Choice | None:
    """The option whose text a sentence holds; None: it holds none."""
    by_text = _by_text(text, options, articles=False)
    if by_text and not re.match(r"A\b", text):
        return by_text
    words = normalize_words(text)
    phrases = {LETTERS[i]: normalize_words(option) for i, option in enumerate(options)}
    held = {name: p for name, p in phrases.items() if len(p) > 1 and holds_phrase(words, p)}
    # "sulphuric acid" also holds "acid": the longest of nested texts is meant.
    names = [
        name
        for name, phrase in held.items()
        if not any(name != n and holds_phrase(other, phrase) for n, other in held.items())
    ]
    if len(names) != 1:
        return (None, f"ambiguous: holds the texts of {', '.join(names)}") if names else None
    index = LETTERS.index(names[0])
    # The rest of the sentence, without the letters and negations that stand in the option.
    option_words = re.findall(r"\w+", unicodedata.normalize("NFKC", unwrap_latex(options[index])))
    rest = re.sub(r"(?i)\b" + r"\W+".join(option_words) + r"\b", " \u2026 ", text)
    if _DOUBTS.search(rest):
        return None, f"holds the text of {names[0]} beside a negation, a doubt or a question"
    if others := _mentioned_letters(rest, options) - {names[0]}:
        return None, f"ambiguous: the text of {names[0]} beside {', '.join(sorted(others))}"
    return index, f"holds the text of option {names[0]}"


def _starts_with_option(text: str, index: int | None, options: Sequence[str]) -> bool:
    """True if a sentence begins with the text of an option that is more than a word."""
    phrase = "" if index is None else normalize_words(options[index])
    return " " in phrase and f"{normalize_words(text)} ".startswith(f"{phrase} ")


def _by_mention(text: str, options: Sequence[str]) -> Choice:
    """The one option that a sentence, without what it denies, speaks for by its letter."""
    letters = sorted(_mentioned_letters(text, options))
    if len(letters) > 1:
        return None, f"names several options: {', '.join(letters)}"
    if not letters:
        return None, "names no option by letter or by its text"
    if _DOUBTS.search(text):
        return None, f"doubts: {letters[0]} beside a negation, a doubt or a question"
    return _by_letter(letters[0], options)


def _mentioned_letters(text: str, options: Sequence[str]) -> set[str]:
    """Letters of options in a sentence that are neither words nor parts of names."""
    letters = set()
    for match in _MENTION.finditer(text):
        before, after = text[max(0, match.start() - 24) : match.start()], text[match.end() :]
        if match[3] is None or (_BEFORE.search(before) and not _AFTER.match(after)):
            letters.add(next(filter(None, match.groups())).upper())
    return letters & set(LETTERS[: len(options)])
