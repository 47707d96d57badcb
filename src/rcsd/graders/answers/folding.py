"""Texts without what does not change their meaning: markup, LaTeX marks, forms of characters."""

import functools
import re
import unicodedata

_COMMAND = (
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|it|sf|tt|bb|cal|normal)|boldsymbol|bm"
    r"|mbox|hbox|emph|operatorname\*?|underline|displaystyle)"
)
_WRAPPED = re.compile(_COMMAND + r"\s*\{([^{}]*)\}")
_LEFT_OVER = re.compile(_COMMAND + r"(?![a-zA-Z])|\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])")
_SPACES = re.compile(r"\\[,;:! ]|\\(?:quad|qquad|thinspace|hspace\{[^{}]*\})(?![a-zA-Z])|[~\u00a0]")


_SUPERSCRIPT = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207b]+")


@functools.lru_cache(maxsize=2048)
def unwrapped(text: str) -> str:
    r"""The text without LaTeX that only sets type, as ``\\text``; ``10²`` becomes ``10^2``."""
    text = _SUPERSCRIPT.sub(lambda m: "^" + unicodedata.normalize("NFKC", m[0]), text)
    for _ in range(4):  # nested, such as \mathbf{\text{C}}
        shorter = _WRAPPED.sub(r" \1 ", text)
        if shorter == text:
            break
        text = shorter
    return _SPACES.sub(" ", _LEFT_OVER.sub(" ", text))


@functools.lru_cache(maxsize=2048)
def folded(text: str) -> str:
    """The text in small letters, without punctuation and with single spaces.

    What tells numbers and formulas apart stays: signs, points and commas within numbers, operators.
    """
    plain = unicodedata.normalize("NFKC", unwrapped(text)).casefold()
    plain = re.sub(r"\^\s*\{\s*([^{}]*?)\s*\}", r"^\1", plain)
    plain = re.sub(r"[\u2212\u2013\u2014]", "-", plain)
    plain = re.sub(r"(?<!\d)[.,](?!\d)|(?<=\d)[.,](?!\d)|(?<!\d),", " ", plain)
    plain = re.sub(r"(?<=[^\W\d])-(?=[^\W\d])|-(?=\s)|(?<=[^\W\d])['\u2019](?=\w)", " ", plain)
    plain = re.sub(r"[\\$*_`\"\u201c\u201d\u2018\u2019'{}()\[\]:;!?]+", " ", plain)
    return " ".join(plain.split())


def without_articles(words: str) -> str:
    """A folded text without a, an and the."""
    return " ".join(word for word in words.split() if word not in ("a", "an", "the"))


def holds_phrase(words: str, phrase: str) -> bool:
    """Whether a folded text holds another as whole words."""
    return f" {phrase} " in f" {words} "
