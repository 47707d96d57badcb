"""Prompts that are chats: a question with the system prompt and the turns before it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rcsd.data.fields import shortened
from rcsd.errors import DataError
from rcsd.types import Message

_ROLES = {
    **{"system": "system", "developer": "system", "user": "user", "human": "user"},
    **{"assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatbot": "assistant"},
}
_TEXT_PARTS = ("text", "input_text", "output_text")


def read_prompt(prompt: Any, field: str, system: Any = None) -> tuple[list[Message], str]:
    """Earlier turns and question of a prompt: a text, or a list of messages that a user ends.

    Messages have ``role`` and ``content``, or ``from`` and ``value``. Text parts are joined by an
    empty line, system turns at the beginning likewise.

    Raises DataError of an image, of another role, or of a chat that another than a user ends.
    """
    if isinstance(prompt, Mapping) and "messages" in prompt:
        prompt = prompt["messages"]
    if isinstance(prompt, str):
        turns = [Message(role="user", content=prompt)]
    elif isinstance(prompt, list) and prompt:
        turns = [_message(turn, f"{field}[{index}]") for index, turn in enumerate(prompt)]
    else:
        message = f"expected a text or a list of messages, got {shortened(prompt)}"
        raise DataError(message, field=field)
    if isinstance(system, str) and system.strip():
        turns = [Message(role="system", content=system), *turns]
    while len(turns) > 1 and turns[0]["role"] == turns[1]["role"] == "system":
        joined = f"{turns[0]['content']}\n\n{turns[1]['content']}"
        turns = [Message(role="system", content=joined), *turns[2:]]
    return _check_order(turns, field)


def _check_order(turns: list[Message], field: str) -> tuple[list[Message], str]:
    turns = [turn for turn in turns if turn["role"] != "system" or turn["content"].strip()]
    if not turns:
        raise DataError("the question is missing", field=field)
    *earlier, last = turns
    if last["role"] != "user":
        message = f"the last turn is the {last['role']}'s; expected a user's turn to answer"
        raise DataError(message, field=field)
    for index, turn in enumerate(earlier):
        if turn["role"] == "system" and index:
            raise DataError("a system turn stands after other turns", field=field)
        if not turn["content"].strip():
            raise DataError(f"the {turn['role']}'s turn is empty", field=field)
    return earlier, last["content"]


def numbered_turns(questions: Sequence[Any], replies: Sequence[Any]) -> list[dict[str, Any]]:
    """Messages of the columns ``prompt_0, response_0, prompt_1, ...``; absent ones are left out."""
    turns = []
    for index, question in enumerate(questions):
        turns.append({"role": "user", "content": question})
        if index < len(questions) - 1:
            reply = replies[index] if index < len(replies) else None
            turns.append({"role": "assistant", "content": reply})
    return turns


def _message(turn: Any, field: str) -> Message:
    if not isinstance(turn, Mapping):
        raise DataError(f"expected a message, got {shortened(turn)}", field=field)
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if role not in _ROLES:
        allowed = ", ".join(_ROLES)
        message = f"turns of role {shortened(role)} are not supported; allowed are {allowed}"
        raise DataError(message, field=field)
    if turn.get("tool_calls"):
        raise DataError("tool calls are not supported", field=field)
    return {"role": _ROLES[role], "content": _text(content, field)}  # pyright: ignore[reportReturnType]


def _text(content: Any, field: str) -> str:
    if isinstance(content, str):
        return content
    parts = []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        text = part.get("text") if isinstance(part, Mapping) else part
        if isinstance(kind, str) and "image" in kind:
            raise DataError("images are not supported; import the rows without them", field=field)
        if kind not in _TEXT_PARTS or not isinstance(text, str):
            got = shortened(kind if text is None else text)
            raise DataError(f"expected a text or text parts, got {got}", field=field)
        parts.append(text)
    return "\n\n".join(parts)
