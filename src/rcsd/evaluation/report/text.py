"""Numbers and foreign text as readers may see them."""

import textwrap
import unicodedata

MEAN_LETTER_WIDTH = 0.56
"""Of a sans-serif face, as a share of its size; a little generous."""
MINUS = "\N{MINUS SIGN}"


def spaced(name: str) -> str:
    """A key as words: ``new_numbers`` -> ``new numbers``."""
    return name.replace("_", " ")


def number(value: float, signed: bool = False) -> str:
    """About three significant digits, two decimals at least below 10, with a true minus sign."""
    size = abs(value)
    if 0 < size < 0.0005:
        digits = powered(size)
    else:
        decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size == 0 or size >= 0.005 else 3
        digits = f"{size:,.{decimals}f}"
    sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
    return sign + digits


def powered(value: float) -> str:
    """Scientific notation without padding: ``3e-5``, with true minus signs."""
    mantissa, exponent = f"{value:.2e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}".replace("-", MINUS)


def p_value_text(p_value: float | None) -> str:
    """``0.034``, ``< 0.001``, or a dash where there is none."""
    if p_value is None:
        return "\N{EN DASH}"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def text_width(text: str, size: float) -> float:
    """Estimated width of text in a sans-serif face of that size; wide East Asian letters count."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return size * (MEAN_LETTER_WIDTH * (len(text) - wide) + 1.0 * wide)


def shortened(text: str, width: float, size: float) -> str:
    """Text cut to a width, with an ellipsis where something is missing."""
    if text_width(text, size) <= width:
        return text
    end = len(text)
    while end > 1 and text_width(text[:end] + "…", size) > width:
        end -= 1
    return text[:end].rstrip() + "…"


def wrapped(text: str, width: float, size: float, max_lines: int) -> list[str]:
    """Text broken into lines of a width, with an ellipsis where more lines would be needed."""
    num_letters = max(8, int(width * len(text) / max(1.0, text_width(text, size))))
    return textwrap.wrap(text, num_letters, max_lines=max_lines, placeholder="…") or [""]
