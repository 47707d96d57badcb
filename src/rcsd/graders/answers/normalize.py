r"""One spelling of LaTeX, operators, numbers, units and words, for all that is compared.

====================  ==========================================================================
function              normalises
====================  ==========================================================================
`unwrap_latex`        commands that only set type, LaTeX spaces, superscripts
`normalize_math`      also operators, minus signs, fractions, powers, thousands commas
`normalize_units`     also symbols and names of units
`normalize_quantity`  also every other way to write a number; what numbers are read from
`normalize_words`     letter case and punctuation; what texts and options are compared by
====================  ==========================================================================
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence

MAX_CHARACTERS = 2_000
"""Characters of an answer that are read for a number or an expression."""

_Replacement = str | Callable[[re.Match[str]], str]
Rules = Sequence[tuple[re.Pattern[str], _Replacement]]
"""Patterns and what replaces them, in order."""

_SUPERSCRIPT = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207b]+")
_COMMAND = (
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|it|sf|tt|bb|cal|normal)|boldsymbol|bm"
    r"|mbox|hbox|emph|operatorname\*?|underline|displaystyle)"
)
_TYPE = re.compile(
    r"\\(?:text(?:bf|it|sf|tt|normal|up)|math(?:bf|it|sf|tt|cal|normal|rm(?=\s*\{\s*e\s*\}))|boldsymbol"
    r"|bm|emph|underline|fbox|boxed|text(?=\s*\{\s*\d)|colorbox\s*\{[^{}]*\}|textcolor\s*\{[^{}]*\})"
    r"\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
    r"|\\color\s*\{[^{}]*\}|\\displaystyle(?![a-zA-Z])"
)
_WRAPPED = re.compile(_COMMAND + r"\s*\{([^{}]*)\}")
_LEFT_OVER = re.compile(_COMMAND + r"(?![a-zA-Z])|\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])")
_SPACES = re.compile(r"\\[,;:! ]|\\(?:quad|qquad|thinspace|hspace\{[^{}]*\})(?![a-zA-Z])|[~\u00a0]")


def apply_rules(rules: Rules, text: str) -> str:
    """Text after each replacement in turn."""
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _unwrap(pattern: re.Pattern[str], replacement: _Replacement, text: str) -> str:
    r"""Text after replacements in up to four nested levels, such as ``\mathbf{\text{C}}``."""
    for _ in range(4):
        shorter = pattern.sub(replacement, text)
        if shorter == text:
            break
        text = shorter
    return text


_ENVIRONMENT = re.compile(
    r"\\(?:begin|end)\s*\{(?:aligned|align\*?|split|gathered|equation\*?)\}"
    r"|\\begin\s*\{array\}\s*\{\s*[lcr]\s*\}(?P<only>[^&]*?)\\end\s*\{array\}"
)


def unwrap_type(text: str) -> str:
    r"""Text without LaTeX that sets colour, weight, frames or lines; ``10²`` becomes ``10^{2}``."""
    text = _ENVIRONMENT.sub(lambda m: f" {m['only'] or ''} ", text)
    text = _SUPERSCRIPT.sub(lambda m: f"^{{{unicodedata.normalize('NFKC', m[0])}}}", text)
    return _unwrap(_TYPE, lambda m: f" {m[1] or ''} ", text)


@functools.lru_cache(maxsize=2048)
def unwrap_latex(text: str) -> str:
    r"""Text without LaTeX that only sets type, as ``\text``; ``10²`` becomes ``10^2``."""
    text = _SUPERSCRIPT.sub(lambda m: "^" + unicodedata.normalize("NFKC", m[0]), text)
    return _SPACES.sub(" ", _LEFT_OVER.sub(" ", _unwrap(_WRAPPED, r" \1 ", text)))


_MATH: Rules = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{(\s*[\w.]+\s*)\}"), r"\1 / \2"),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"\1 / (\2)"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])|[\u00d7\u00b7\u22c5\u2217\u2022]"), " * "),
    (re.compile(r"\\div(?![a-zA-Z])|\u00f7"), " / "),
    (re.compile(r"[\u2212\u2013]"), "-"),  # minus sign, en dash
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[()\[\]]|\$"), " "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"(?<=[\w)])\*\*(?=[\w(])"), "^"),
    (re.compile(r"\*\*"), ""),  # bold
    (re.compile(r"[^\S\n]+"), " "),
    (re.compile(r" ?\n[ \n]*"), "\n"),
    (re.compile(r"(?<=\d) ?[xX] ?(?=\d)"), " * "),
    (re.compile(r" ?\^ ?(?:\{ ?([^{}]*)\})?"), r"^\1"),
    (re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\d,])"), lambda m: m[0].replace(",", "")),
)


@functools.lru_cache(maxsize=512)
def normalize_math(text: str) -> str:
    r"""Text with one spelling of arithmetic: ``* / - ^``, no LaTeX, no thousands commas.

    ``3\,\text{min} \times 1{,}000`` becomes ``3 min * 1000`` up to whitespace.
    """
    return apply_rules(_MATH, unwrap_latex(text))


_DEGREE = r"(?:\^\s*\{?\s*\\circ\s*\}?|\{\s*\\circ\s*\}|\\(?:circ|degree)(?![a-zA-Z])|\^\s*°|[°º˚])"
_CHINESE = {
    "千米": "km", "公里": "km", "厘米": "cm", "毫米": "mm", "纳米": "nm", "米": "m", "秒": "s",
    "分钟": "min", "小时": "h", "千克": "kg", "公斤": "kg", "克": "g", "牛顿": "N", "牛": "N",
    "焦耳": "J", "焦": "J", "瓦特": "W", "瓦": "W", "伏特": "V", "伏": "V", "安培": "A", "安": "A",
    "摄氏度": "degC", "度": "degree", "开尔文": "K", "摩尔": "mol", "升": "L", "元": "yuan",
}  # fmt: skip
_UNITS: Rules = (
    (
        re.compile(rf"(?<=[\d\s/])(?:{'|'.join(_CHINESE)})(?![\u4e00-\u9fff])"),
        lambda m: f" {_CHINESE[m[0]]} ",
    ),
    (re.compile(rf"{_DEGREE}\s*([CFK])(?![A-Za-z])|([\u2103])"), lambda m: f" deg{m[1] or 'C'} "),
    (re.compile(_DEGREE), " degree "),
    (re.compile(r"\\(?:mu|upmu)(?![a-zA-Z])\s*|[\u00b5\u03bc]\s*"), "µ"),
    (re.compile(r"\\Omega(?![a-zA-Z])|[Ω\u2126]"), "ohm "),
    (re.compile(r"\\AA(?![a-zA-Z])|\\(?:mathring|r)\s*\{?\s*A\s*\}?|[Å\u212b]"), "angstrom "),
    (re.compile(r"(?i)\b(?:inverse|reciprocal)\s+([a-zµ]+)"), r"\1^-1"),
    (re.compile(r"\bper\b"), "/"),
    (re.compile(r"(?i)\b(?:square|sq\.?)\s+([a-z]+)"), r"\1^2"),
    (re.compile(r"(?i)\bcubic\s+([a-z]+)"), r"\1^3"),
    (re.compile(r"(?i)(?<=[a-z])\s+squared\b"), "^2"),
    (re.compile(r"(?i)(?<=[a-z])\s+cubed\b"), "^3"),
    (re.compile(r"\^\(\s*([+-]?\d+)\s*\)"), r"^\1"),
    (re.compile(r"(?<=[A-Za-z])-(?=[A-Za-z])"), "*"),
    (re.compile(r"[{}]"), " "),
)


@functools.lru_cache(maxsize=2048)
def normalize_units(text: str) -> str:
    """Text with one spelling of arithmetic, and of the symbols, powers and products of units."""
    return apply_rules(_UNITS, normalize_math(text.replace("\\$", " dollar ")))


_D = r"\d+(?:\.\d+)?|\.\d+"
_NUMBERS: Rules = (
    (
        re.compile("[\u00bc-\u00be\u2153-\u215e]"),  # ½
        lambda m: " {}/{} ".format(*unicodedata.normalize("NFKC", m[0]).split("\u2044")),
    ),
    # Uncertainties: "5.3 \pm 0.1", "5.3(2)"; a leading "\pm 5" stays, and is two values.
    (re.compile(rf"(?<=\d)\s*(?:\\pm|±|\+/-|\+-)\s*(?:{_D})(?:\s*%|[eE][+-]?\d+)?"), ""),
    (re.compile(r"(\d\.\d+)\(\d{1,2}\)(?!\d)"), r"\1"),
    # Groups of three digits: "1{,}000", "1 000", "1.000,5", "1.000.000"; a decimal comma: "3,5".
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<![\d.,^])(\d{1,3})((?: \d{3})+)(?![\d,^])"), lambda m: m[0].replace(" ", "")),
    (
        re.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{3})+,\d+(?![\d.,])"),
        lambda m: m[0].replace(".", "").replace(",", "."),
    ),
    (re.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.,])"), lambda m: m[0].replace(".", "")),
    (re.compile(r"(?<![\w.,(\[])(?!\d{1,3},\d{3}(?!\d))(\d+),(\d+)(?![\d.,])"), r"\1.\2"),
    (re.compile(r"(?<![\w.,])0,(\d+)(?![\d.,])"), r"0.\1"),
    (re.compile(r"\\(?:approx|simeq|sim|cong|equiv|thickapprox)(?![a-zA-Z])|≃|≅|≡"), " ≈ "),
    # One and a half.
    (re.compile(r"(?<![\w.^}])(\d+)\s*\\[dt]?frac\s*\{?(\d+)\}?\s*\{?(\d+)\}?"), r"\1 \2/\3"),
    (re.compile(r"(?i)(?<=\d)\s+and\s+(?:a|one)\s+half\b"), " 1/2"),
    (re.compile(r"(?i)(^|[=≈:]|\b(?:is|about))\s*(?:minus|negative)\s+(?=[.\d])"), r"\1 -"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(rf"\\sqrt(?=\s*\{{(?!\s*(?:{_D})\s*\}}))"), r"\\root"),  # of more than a number
    (re.compile(r"\*\*(?=\s?[({+-]?\s?\d)"), "^"),
)
_BRACKETED = re.compile(rf"(?<![\w)])\(\s*([+-]?(?:{_D})(?:\s*\*\s*10\^[+-]?\d+)?)\s*\)")


@functools.lru_cache(maxsize=4096)
def normalize_quantity(text: str) -> str:
    """Answer with one spelling of numbers, operators and units, in which numbers are found."""
    text = re.sub(r"\\\\(?![a-zA-Z])|&", " ", unwrap_type(text[:MAX_CHARACTERS]))
    text = re.sub(r"(?<=\\circ)\s*\}?\s*\$(?=\s*[CFK]\b)", " ", text)  # "$27^\circ$C"
    text = re.sub(r"(?<=[\u4e00-\u9fff])(?=\d)", " ", text)
    for sign, name in (
        ("\u20ac", "euro"),
        ("\u00a3", "sterling"),
        ("\u00a5", "yen"),
        ("\u20b9", "rupee"),
    ):
        text = text.replace(sign, f" {name} ")
    text = unwrap_latex(text).replace("\\$", " dollar ")
    text = _BRACKETED.sub(r"\1", normalize_units(apply_rules(_NUMBERS, text))).strip()
    text = re.sub(r"(?<=\d)\s+1\s*/\s*(?=[a-zA-Z(])", " / ", text)  # "5 1/s"
    return re.sub(r"^-\s+", "-", text)


@functools.lru_cache(maxsize=2048)
def normalize_words(text: str) -> str:
    """Text in small letters, without punctuation and with single spaces.

    What tells numbers and formulas apart stays: signs, points and commas within numbers, operators.
    """
    plain = unicodedata.normalize("NFKC", unwrap_latex(text)).casefold()
    plain = re.sub(r"\^\s*\{\s*([^{}]*?)\s*\}", r"^\1", plain)
    plain = re.sub(r"[\u2212\u2013\u2014]", "-", plain)
    plain = re.sub(r"(?<!\d)[.,](?!\d)|(?<=\d)[.,](?!\d)|(?<!\d),", " ", plain)
    plain = re.sub(r"(?<=[^\W\d])-(?=[^\W\d])|-(?=\s)|(?<=[^\W\d])['\u2019](?=\w)", " ", plain)
    plain = re.sub(r"[\\$*_`\"\u201c\u201d\u2018\u2019'{}()\[\]:;!?]+", " ", plain)
    return " ".join(plain.split())


def holds_phrase(words: str, phrase: str) -> bool:
    """True if normalised words hold a phrase as whole words."""
    return f" {phrase} " in f" {words} "
