"""Choices among options: by letter, by text, or both.

A letter that stands alone is a letter, unless it is the text of another option. An answer that
names several options, or a letter beside the text of another option, is ambiguous. A letter
followed by a reason (``C. Because A is wrong``) is that letter. Small letters count where they
cannot be words: alone, in parentheses, before a point at the start, after "option". The texts of
options are looked for before letters within a sentence, where a letter may belong to a name: "25 C"
and "B cells" name no option. What is denied, doubted or asked is not chosen.

An answer that says that it has none ("none of these", "I do not know"), or that shares neither a
word nor a number with any option, is wrong; one that shares some is ungraded.
"""

import re
import unicodedata
from collections.abc import Sequence

from rcsd.graders.answers.normalize import holds_phrase, normalize_words, unwrap_latex
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
_MENTION = re.compile(  # not "25 C", "A-level", "A.M."
    rf"(?i:\b{_NAMED})\s+\(?([A-Za-z])\b(?![-\u2013\u2014]\w)|[(\[]([A-Za-z])[)\]]"
    r"|(?<![\w'\u2019.\u2013\u2014-])(?<!\d )(?<![\d ]\u00b0)"
    r"([A-Z])(?![\w'\u2019\u2013\u2014+-]|\.\w)"
)
_AFTER = re.compile(  # "B cells" goes on
    r"\s+(?:\d|(?!(?:is|are|was|and|or|because|since|as|which|that|due|for|would|seems|has|best|but"
    r"|rather|instead|not|nor|most|must|should|fits|can|could|cannot|may|might|does|then|to|with"
    r"|here|if|although|along|together|plus|also|through)\b)[a-z\u03b1-\u03c9])"
)
_PRONOUN = re.compile(
    r"I (?:would|will|can|could|may|might|should|must|do|did|have|am|was|think|go|choose|pick)\b"
)
_L = r"\(?(?<![\w'\u2019-])[A-Za-z](?![\w'\u2019-])\)?"
_LETTERS = rf"{_L}(?:\s*(?:,|\bor\b|\band\b|\bnor\b|/|&)+\s*{_L})*"
_NOT = (
    r"(?:not|never|wrong|incorrect|false|unlikely|hardly|least|exclud\w+|eliminat\w+|reject\w*"
    r"|discard\w*|rul\w+|distractors?)\b"
)
_DENIED = re.compile(
    r"(?i)(?:\b(?:not|isn't|neither|nor|never|rather than|instead of|except|unlike|anything but"
    r"|all but|exclud\w+|eliminat\w+|reject\w*|discard\w*|rul\w+ out|(?:wrong|incorrect|false) \w+"
    rf" (?:is|are))|\\neg|\u00ac):?\s*(?:(?:be|the|{_NAMED}|either)\s+)*(?<![a-z]){_LETTERS}"
    rf"|(?:\b{_NAMED}\s+)?{_LETTERS}\s+(?:(?:is|are|was|were|seems?|can|should|must|has|have)\s+"
    rf"(?:(?!not only)\w+\s+){{0,3}}?{_NOT}|\w+n['\u2019]t\b|cannot\b|\w+ not\b|fails?\b)"
    r"[^.,;:?!\n]*"
)
_DOUBTS = re.compile(
    rf"(?i)\?|\b(?:{_NOT}|(?:no|neither|nor|or|either|instead|except|without|opposite|absence|lacks?"
    r"|fails?|cannot|anything but|rather|unlike|stop\w*|avoid\w*|contraindicat\w+|non"
    r"|seems?|appears?|might|may be|could be|probably|possibly|perhaps|maybe|guess\w*)\b)"
    r"|n['\u2019]t\b|[不错误非]|排除|아니|틀린|ではな|間違"
)
_REASON = re.compile(
    r"(?:because|since|as|it|this|that|the|an?|is|due|for|which|all|both|not?|none)$"
)
_NO_OPTION = ("none of the above", "none of these", "none", "all of the above", "all of these")
REFUSES = re.compile(  # gives no answer, and says so
    r"(?i)^\W*(?:n/?a|none|unknown|error\b.*|no (?:answer|option|choice)|i\s?d\s?k)\W*$"
    r"|\b(?:none|neither|not (?:one|any|listed|among|given|included|present))\b.*"
    r"\b(?:options?|choices?|answers?|alternatives?|list|above|these|given)\b"
    r"|\bnot (?:listed|given|provided|included|among them)\b|\bno (?:valid|correct|suitable) \w+"
    r"|\bi(?:'m| am| do| don't| cannot| can't)\b.*"
    r"\b(?:unsure|know|sure|sorry|determine|tell|answer)\b"
    r"|\b(?:cannot|can't|can not|could not|unable to|impossible to)\b.*"
    r"\b(?:determined?|answer(?:ed)?|decided?|tell|told)\b"
    r"|\b(?:not enough|insufficient) (?:information|data)\b"
)
_CJK = "\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af"
_BESIDE_CJK = re.compile(rf"(?<=[{_CJK}])(?=[A-Za-z(])|(?<=[A-Za-z)])(?=[{_CJK}])")


Choice = tuple[int | None, str]
"""Index of the option that an answer chooses, and why; `BEYOND`: what is certainly no option; None:
it cannot be told."""

BEYOND = -1


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
    text = _BESIDE_CJK.sub(" ", text)
    if re.fullmatch(r"[A-Z](?:[\s+>|&-]+[A-Z])+", text):
        return None, f"names several options: {text}"
    if alone := re.fullmatch(r"[\s({\[]*([A-Za-z])[\s)}\].:]*", text):
        return _by_letter(alone[1], options)
    if by_text := _by_text(text, options):
        return by_text
    affirmed = _DENIED.sub(" ", text)
    opening = _OPENING.match(affirmed)
    begin = opening.end() if opening else 0
    if first := _FIRST.match(affirmed, begin) or _FIRST.match(affirmed):
        letter, rest = next(filter(None, first.groups())), affirmed[first.end() :]
        is_article = (
            letter in "AaIi" and rest[:1] == " " and not re.match(r"\s+(?:is|as|for)\b", rest)
        )
        if begin or not is_article:
            return _by_letter_and_text(letter, rest, options)
    by_phrase = _by_phrase(text, options)
    if by_phrase is None and not _DOUBTS.search(text):
        by_phrase = _by_text(re.split(r"\b(?:is|are)\s+(?:the|an?)?\b", text)[-1], options)
    if by_phrase and by_phrase[0] is not None:
        return by_phrase
    refusal = _refusal(text, affirmed, options)
    return refusal or by_phrase or _by_mention(affirmed, text, options)


def _refusal(text: str, affirmed: str, options: Sequence[str]) -> Choice | None:
    """`BEYOND` for an answer that says that it has none; None: it does not."""
    refuses = REFUSES.search(text)
    if refuses is None or _mentioned_letters(affirmed.replace("N/A", ""), options):
        return None
    is_option = any(_stems(refuses[0]) & _stems(option) for option in options)
    return (None if is_option else BEYOND), f"says that it is no option: {refuses[0][:40]!r}"


_FILLERS = re.compile(
    r"an?|the|and|as|at|be|by|for|from|i|in|is|it|of|on|or|so|that|this|to|was|we|with|options?|answer"
)


def _stems(text: str) -> set[str]:
    """Words of a text without their endings, but for those that say nothing."""
    words = normalize_words(text).split()
    return {
        re.sub(r"(?:es|s|ing|ed|e|on|um|us|a|i|is)$", "", word)
        for word in words
        if not _FILLERS.fullmatch(word)
    }


def _twins(letter: str, options: Sequence[str]) -> set[str]:
    """Letters of the options with the same text as one; only wrong options have any but their own.

    Which of them is chosen does not matter.
    """
    text = options[LETTERS.index(letter)].strip()
    return {LETTERS[i] for i, option in enumerate(options) if option.strip() == text}


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
    if others := _mentioned_letters(rest, options) - {name}:
        return None, f"names several options: {', '.join(sorted({name, *others}))}"
    if re.match(r"\s*[,/&]\s*[a-z]\b", rest):  # "c,a,b,d"
        return None, f"names several letters: {(letter + rest)[:40]!r}"
    if re.match(r"(?i)[\s).\]]*(?:\?|\(?(?:wrong|incorrect|false)\b)", rest):
        return None, f"asks whether it is {name}, or denies it"
    chosen, reason = _by_letter(letter, options)
    if chosen == BEYOND and re.search(r"\w", rest):  # "H - reflex" may be a name
        by_text = _by_text(rest, options)
        return (BEYOND if by_text and by_text[0] == BEYOND else None), reason
    if chosen is None or chosen == BEYOND:
        return chosen, reason
    species = re.match(r"\. ([a-z]+)", rest)  # "C. difficile" is a name
    shared = set(normalize_words(rest).split()) & set(normalize_words(options[chosen]).split())
    if species and not shared and not _REASON.match(species[1]):
        return None, f"{(letter + rest)[:40]!r} may be a name"
    text = rest.lstrip(" ).:,;=]\u2013\u2014-")
    for part in (text, text.strip("() ."), re.split(r"(?<=\w)[.,;](?=\s|$)|\n", text)[0]):
        by_text = _by_text(part, options)
        if by_text and by_text[0] != BEYOND:
            if by_text[0] is None or LETTERS[by_text[0]] in _twins(name, options):
                break
            other = LETTERS[by_text[0]]
            return None, f"contradicts itself: the letter {name} beside the text of {other}"
    return chosen, reason


def _by_text(text: str, options: Sequence[str]) -> Choice | None:
    """The option whose text this is; None: it is the text of none."""
    words = normalize_words(text)
    normalized = [normalize_words(option) for option in options]
    for form, forms in (text.strip(), [option.strip() for option in options]), (words, normalized):
        fits = [LETTERS[i] for i, option in enumerate(forms) if form and option == form]
        if fits and set(fits) - _twins(fits[0], options):
            return None, f"ambiguous: fits the texts of {' and '.join(fits)}"
        if fits:
            return LETTERS.index(fits[0]), f"the text of option {fits[0]}"
    stems = _stems(text)
    near = {LETTERS[i] for i, option in enumerate(options) if stems == _stems(option) != set()}
    if near and not re.match(r"\W*[A-Z]\b", text):  # not "A. London"
        is_one = near <= _twins(min(near), options)
        return (LETTERS.index(min(near)) if is_one else None), "nearly the text of an option"
    return (BEYOND, f"{words!r} is none of the options") if words in _NO_OPTION else None


def _by_phrase(text: str, options: Sequence[str]) -> Choice | None:
    """The option whose text a sentence holds; None: it holds none."""
    words = normalize_words(text)
    phrases = {
        LETTERS[i]: normalize_words(option)
        for i, option in enumerate(options)
        if LETTERS[i] == min(_twins(LETTERS[i], options))
    }
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
    if others := _mentioned_letters(rest, options) - _twins(names[0], options):
        return None, f"ambiguous: the text of {names[0]} beside {', '.join(sorted(others))}"
    return index, f"holds the text of option {names[0]}"


def _by_mention(affirmed: str, text: str, options: Sequence[str]) -> Choice:
    """The one option that a sentence, without what it denies, speaks for by its letter."""
    letters = sorted(_mentioned_letters(affirmed, options))
    if len(letters) > 1:
        return None, f"names several options: {', '.join(letters)}"
    if not letters:
        names = "".join(LETTERS[: len(options)])
        may_name = re.search(rf"(?<![\w'])[{names}](?![\w'])", text) or _is_close(text, options)
        return (None if may_name else BEYOND), "names no option by letter or by its text"
    if _DOUBTS.search(affirmed):
        return None, f"doubts: {letters[0]} beside a negation, a doubt or a question"
    return _by_letter(letters[0], options)


def _is_close(text: str, options: Sequence[str]) -> bool:
    """True if an answer shares a word, a number or a symbol with an option."""
    has_symbols = re.search(r"[^\x00-\x7f]|\\[a-z]", text)  # another language, or mathematics
    if has_symbols or not all(map(_stems, options)):
        return True
    ours, *others = (
        [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*", part)]
        for part in (text, *options)
    )
    is_near = any(abs(a - b) <= 0.05 * abs(b) for a in ours for rest in others for b in rest)
    return is_near or any(_stems(text) & _stems(option) for option in options)


def _mentioned_letters(text: str, options: Sequence[str]) -> set[str]:
    """Letters of options in a sentence that are neither words nor parts of names."""
    letters = {
        next(filter(None, match.groups())).upper()
        for match in _MENTION.finditer(text)
        if match[3] is None
        or not (_AFTER.match(text, match.end()) or _PRONOUN.match(text, match.start(3)))
    }
    return letters & set(LETTERS[: len(options)])
