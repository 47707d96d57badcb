"""Rubrics as models write them: JSON, often broken. Named repairs, and nothing invented."""

import json
import re
from dataclasses import dataclass
from typing import Any

from rcsd.errors import DataError
from rcsd.io import after_thinking, mend_json

# A backslash of LaTeX that JSON would refuse (\vec) or, worse, take for a control character: \times
# is a tab and "imes". After b, f, n, r and t only known commands count, and none that reads as a
# character and a word: \textra and \tan extra are a tab.
_LATEX = re.compile(
    r"(?<!\\)((?:\\\\)*)\\(?="
    r"[^\"'\\/bfnrtu]"
    r"|u(?![0-9a-fA-F]{4}|[0-9a-fA-F]{0,3}\Z)"
    r"|text[a-z]*\{|tan(?![a-z]| [a-z]{2})"
    r"|(?:bar|begin|beta|big|binom|bmod|boldsymbol|bra|frac|forall|nabla|ne|neq|neg|not|nu|rangle"
    r"|rho|right[a-z]*|tanh|tau|textstyle|theta|tilde|times|to|triangle)(?![a-z]))"
)
_FENCE = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)```\s*", re.DOTALL)
_START = re.compile(r"\[\s*(?=\{\s*\")")
_NEXT = re.compile(r"\}\s*,\s*(?=\{\s*\")")
_LAST = re.compile(r"\}\s*\]\s*$")


@dataclass(frozen=True)
class Written:
    """List that a model wrote.

    Args:
        items: Its elements.
        repairs: Name and detail of each repair.
        dropped: Place and reason of each fragment that was left out.
    """

    items: list[Any]
    repairs: list[tuple[str, str]]
    dropped: list[str]


def parse_written(text: str) -> Written:
    """List that a model wrote: strict JSON, else with named repairs.

    Valid JSON is altered in one case: where it turned commands of LaTeX into control characters.
    Reasoning is never searched for criteria: a draft in it counts only if it is complete and the
    last thing in the text. A list that is cut off keeps its complete elements; the fragment at its
    end is left out.

    Raises:
        DataError: If there is no list, or it cannot be mended without inventing words.
    """
    repairs: list[tuple[str, str]] = []
    part = _with_latex(_json_part(text.strip(), repairs), repairs)
    try:
        value = json.loads(part)
    except (ValueError, RecursionError):
        return _element_by_element(part, repairs)
    if not isinstance(value, list):
        raise DataError(f"expected a JSON list, got {type(value).__name__}", field="rubric")
    return Written(value, repairs, [])


def _json_part(text: str, repairs: list[tuple[str, str]]) -> str:
    """Text without the reasoning and fences around its JSON."""
    answer = after_thinking(text)
    if answer is not None and answer != text:
        text = answer.strip()
        repairs.append(("JSON taken from after the reasoning", "it ends with </think>"))
    fence = _FENCE.fullmatch(text)
    if fence is not None:
        repairs.append(("code fence removed", ""))
        return fence[1].strip()
    if text.startswith(("[", "{")):
        return text
    for start in _START.finditer(text):
        try:
            _, end = json.JSONDecoder().raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        if text[end:].strip() in ("", "```"):
            repairs.append(("JSON taken from after the reasoning", f"{start.start()} characters"))
            return text[start.start() : end]
    raise DataError(
        f"reasoning with no whole JSON list at its end, got {text[-40:]!r} there", field="rubric"
    )


def _with_latex(part: str, repairs: list[tuple[str, str]]) -> str:
    r"""Text with every backslash of LaTeX doubled, if some can be nothing else.

    A new line before "e.g." reads as the command ``\ne``, and one before "u is" as ``\nu``: these
    count only where others show that the writer did not double backslashes.
    """
    if all(part.startswith("n", match.end()) for match in _LATEX.finditer(part)):
        return part
    part, num_doubled = _LATEX.subn(r"\1\\\\", part)
    repairs.append(("backslash of LaTeX doubled", f"{num_doubled} times"))
    return part


def _element_by_element(part: str, repairs: list[tuple[str, str]]) -> Written:
    """Elements of a list that is broken somewhere."""
    start = _START.match(part)
    if start is None:
        raise DataError(f"is not JSON and holds no criterion: {part[:40]!r}", field="rubric")
    items: list[Any] = []
    position, fragment = start.end(), ""
    while part.startswith("{", position):
        try:
            item, end = json.JSONDecoder().raw_decode(part, position)
        except (ValueError, RecursionError) as error:
            following = _NEXT.search(part, position) or _LAST.search(part, position)
            if following is None:
                fragment = part[position:]
                break
            end = following.start() + 1
            item = _mended(part[position:end], str(error))
            repairs.append(("mended by json-repair", f"rubric[{len(items)}]: {error}"))
        items.append(item)
        position = len(part) - len(part[end:].lstrip(" \t\r\n,"))
    rest = part[position:].strip()
    if fragment or not rest:
        repairs.append(("cut off: whole criteria kept", f"{len(items)} criteria"))
    elif rest != "]":
        raise DataError(f"is not JSON: after the criteria comes {rest[:40]!r}", field="rubric")
    if not items:
        raise DataError(f"is cut off within the first criterion: {part[-40:]!r}", field="rubric")
    dropped = [f"rubric[{len(items)}]: cut off: {fragment!r}"] if fragment else []
    return Written(items, repairs, dropped)


def _mended(element: str, problem: str) -> dict[str, Any]:
    """Element mended by json-repair; its texts must stand in the original as they are."""
    try:
        item = mend_json(element)
    except ValueError as error:
        raise DataError(f"cannot be mended: {problem}; {error}", field="rubric") from error
    values = item.values() if isinstance(item, dict) else ()
    texts = [value for value in values if isinstance(value, str)]
    if not texts or not all(json.dumps(t, ensure_ascii=False)[1:-1] in element for t in texts):
        raise DataError(f"cannot be mended without inventing words: {problem}", field="rubric")
    return item
