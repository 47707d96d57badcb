"""Account of one row, written by its reader, and what readers of all formats share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rcsd.data.fields import shortened
from rcsd.errors import DataError


@dataclass
class Notes:
    """Log of one row; its reader writes here.

    Args:
        rules: Rule that decided each criterion or field.
        dropped: Place and reason of each criterion that was left out.
    """

    rules: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def text_tags(source: Mapping[str, Any], *names: str) -> dict[str, str]:
    """Fields that are texts, as tags; what is null or empty is left out."""
    return {
        name: source[name] for name in names if isinstance(source.get(name), str) and source[name]
    }


def text_with_words(text: object, field: str = "") -> str:
    """A text that holds a letter or a digit; a DataError if it is none."""
    if not isinstance(text, str) or not any(map(str.isalnum, text)):
        raise DataError(f"expected a text with words, got {shortened(text)}", field=field)
    return text
