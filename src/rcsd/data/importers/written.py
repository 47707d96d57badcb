"""Rubrics as models write them: JSON, often broken. Named repairs, and nothing invented."""

import json
import re
from dataclasses import dataclass
from typing import Any

from rcsd.errors import DataError

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
    """What a model wrote.

    Args:
        items: The elements of its list.
        repairs: Name and detail of each repair.
        dropped: Place and reason of each fragment that was left out.
    """

    items: list[Any]
    repairs: list[tuple[str, str]]
    dropped: list[str]


def read_written(text: str) -> Written:
    """The list that a model wrote, strictly if it can be, else with named repairs.

    Valid JSON is altered in one case: where it turned commands of LaTeX into control characters.
    Only what is JSON in the text is read. Reasoning is never searched for criteria: a draft in it
    counts only if it is whole and the last thing in the text. A list that is cut off keeps its
    whole elements; the fragment at its end is left out.

    Raises:
        DataError: If there is no list, or what there is cannot be mended honestly.
    """
    repairs: list[tuple[str, str]] = []
    part = _json_part(text.strip(), repairs)
    part = _with_latex(part, repairs)
    try:
        value = json.loads(part)
    except (ValueError, RecursionError):
        return _element_by_element(part, repairs)
    if not isinstance(value, list):
        raise DataError(f"expected a JSON list, got {type(value).__name__}", field="rubric")
    return Written(value, repairs, [])


def _json_part(text: str, repairs: list[tuple[str, str]]) -> str:
    """The text without reasoning and fences around its JSON."""
    if "</think>" in text:
        text = text.rpartition("</think>")[2].strip()
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
        f"reasoning with no whole JSON list at its end, got {text[-40:]!r} there",
        field="rubric",
    )


def _with_latex(part: str, repairs: list[tuple[str, str]]) -> str:
    r"""The text with every backslash of LaTeX doubled, if some can be nothing else.

    A new line before "e.g." reads as the command ``\ne``, and one before "u is" as ``\nu``: these
    count only where others show that the writer did not double backslashes.
    """
    if all(part.startswith("n", found.end()) for found in _LATEX.finditer(part)):
        return part
    part, num_doubled = _LATEX.subn(r"\1\\\\", part)
    repairs.append(("backslash of LaTeX doubled", f"{num_doubled} times"))
    return part


def _element_by_element(part: str, repairs: list[tuple[str, str]]) -> Written:
    """The elements of a list that is broken somewhere."""
    start = _START.match(part)
    if start is None:
        raise DataError(f"is not JSON and holds no criterion: {part[:40]!r}", field="rubric")
    items: list[Any] = []
    dropped: list[str] = []
    position = start.end()
    while position < len(part) and part[position] == "{":
        try:
            item, end = json.JSONDecoder().raw_decode(part, position)
        except (ValueError, RecursionError) as error:
            following = _NEXT.search(part, position) or _LAST.search(part, position)
            if following is None:
                dropped.append(f"rubric[{len(items)}]: cut off: {part[position:]!r}")
                repairs.append(("cut off: whole criteria kept", f"{len(items)} criteria"))
                break
            end = following.start() + 1
            item = _mended(part[position:end], str(error))
            repairs.append(("mended by json-repair", f"rubric[{len(items)}]: {error}"))
        items.append(item)
        position = len(part) - len(part[end:].lstrip(" \t\r\n,"))
    else:
        rest = part[position:]
        if rest.strip() == "":
            repairs.append(("cut off: whole criteria kept", f"{len(items)} criteria"))
        elif rest.strip() != "]":
            raise DataError(f"is not JSON: after the criteria comes {rest[:40]!r}", field="rubric")
    if not items:
        raise DataError(f"is cut off within the first criterion: {part[-40:]!r}", field="rubric")
    return Written(items, repairs, dropped)


def _mended(element: str, problem: str) -> dict[str, Any]:
    """One element, mended by json-repair; its texts must stand in the original as they are."""
    # Imported here: few imports need it.
    import json_repair  # noqa: PLC0415

    item = json_repair.loads(element)
    texts = (
        [value for value in item.values() if isinstance(value, str)]
        if isinstance(item, dict)
        else []
    )
    verbatim = all(json.dumps(t, ensure_ascii=False)[1:-1] in element for t in texts)
    if not isinstance(item, dict) or not texts or not verbatim:
        raise DataError(f"cannot be mended without inventing words: {problem}", field="rubric")
    return item
