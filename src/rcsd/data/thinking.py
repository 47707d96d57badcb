"""Text of sampled tokens, thinking marked alike for every model, and what follows the thinking."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

_NAME = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reasoning|reflection)"
_MARK = re.compile(
    rf"(?=[<\[◁])\W*?(?:(?P<close>/)|(?:start|begin)(?:_of)?_|(?P<end>end(?:_of)?_))?"
    rf"{_NAME}(?:_(?:start|(?P<over>end)))?\W*",
    re.IGNORECASE,
)
_GEMMA_4 = {"<|channel>": "<think>", "<channel|>": "</think>"}
_OPEN = rf"(?:<{_NAME}>|\[THINK\]|<\|begin_of_thought\|>|◁think▷)"
_APRIEL = "Here are my reasoning steps:"
_OPENED = re.compile(rf"(?i)(?:{_OPEN}|{_APRIEL})\s*$")
_THINKING_BEGINS = re.compile(rf"(?im)^[^\S\n]*(?:{_OPEN}|<\|channel\|>(?:analysis|commentary)\b)")
_CLOSE = (
    rf"(?:</{_NAME}>|\[/THINK\]|<\|end_of_thought\|>|◁/think▷|<\|channel\|>final<\|message\|>"
    r"|\[BEGIN FINAL RESPONSE\])"
)
_THINKING_ENDS = re.compile(rf"(?i)(?<![`\"]){_CLOSE}|{_CLOSE}(?![`\"])")  # not one in quotes
_NUM_TAIL = 12
"""Tokens at the end of a prompt among which a template's opening tag stands."""

OPENED = "<think>\n"
"""Beginning of a completion's text where its prompt opened a block of thinking."""


class CompletionText:
    """Text of completions without special tokens, thinking between ``<think>`` and ``</think>``.

    Models mark their thinking by tokens of their own, often special ones that decoding drops, and
    some chat templates open it in the prompt: both are read here by token id. Channels
    (gpt-oss): all but ``final`` are thinking.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._marks: dict[int, str] = {}
        self._channel = {"<|channel|>": -1, "<|message|>": -1, "<|start|>": -1}
        for token_id, token in tokenizer.added_tokens_decoder.items():
            if token.content in self._channel:
                self._channel[token.content] = token_id
            elif token.content in _GEMMA_4:
                self._marks[token_id] = _GEMMA_4[token.content]
            elif mark := _MARK.fullmatch(token.content):
                ends = mark["close"] or mark["end"] or mark["over"]
                self._marks[token_id] = "</think>" if ends else "<think>"
        self._special = {*self._marks, *self._channel.values()}

    def __call__(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> str:
        """Text of a completion; it begins with ``<think>`` if the prompt ends with such a tag."""
        text = "".join(self._pieces(token_ids))
        return f"{OPENED}{text}" if self._is_open(prompt_ids[-_NUM_TAIL:]) else text

    def _is_open(self, tail: Sequence[int]) -> bool:
        """True if nothing follows an opening tag at the end of a prompt."""
        places = [place for place, token in enumerate(tail) if token in self._marks]
        start = places[-1] + 1 if places else 0
        spelled = self._tokenizer.decode(list(tail[start:]), skip_special_tokens=True)
        if places and not spelled.strip():
            return self._marks[tail[start - 1]] == "<think>"
        return bool(_OPENED.search(spelled))

    def _pieces(self, token_ids: Sequence[int]) -> Iterator[str]:
        """Texts between marks, and the marks."""
        start, message = self._channel["<|start|>"], self._channel["<|message|>"]
        run: list[int] = []
        in_header = in_channel = False
        for token in token_ids:
            if token not in self._special:
                run.append(token)
                continue
            text = self._tokenizer.decode(run, skip_special_tokens=True)
            run = []
            if token == message:
                if in_channel:
                    yield "</think>" if text.strip().startswith("final") else "\n<think>\n"
                in_header = in_channel = False
                continue
            if not in_header:  # a header, such as a role's name, is no text of the answer
                yield text
            if token in self._marks:
                yield f"\n{mark}\n" if (mark := self._marks[token]) == "<think>" else mark
            in_header = token not in self._marks
            in_channel = in_header and token != start
        if not in_header:
            yield self._tokenizer.decode(run, skip_special_tokens=True)


def after_thinking(text: str) -> str | None:
    """Text after a model's last closing tag of thinking; None: a block of thinking never ends.

    An opening tag counts at the start of a line, a closing one outside quotes: elsewhere a text
    speaks of tags.
    """
    rest = _THINKING_ENDS.split(text)[-1]
    return None if _THINKING_BEGINS.search(rest) else rest


def without_thinking(text: str) -> str:
    """Text after the thinking, for judges and checks; empty: a block of thinking never ends."""
    return after_thinking(text) or ""
