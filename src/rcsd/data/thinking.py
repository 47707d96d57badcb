"""Text of sampled tokens, thinking marked alike for every model, and what follows the thinking."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

_NAME = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reasoning|reflection)"
_MARK = re.compile(
    rf"\W*?(?:(?P<close>/)|(?:start|begin)(?:_of)?_|(?P<end>end(?:_of)?_))?"
    rf"{_NAME}(?:_(?:start|(?P<over>end)))?\W*",
    re.IGNORECASE,
)
_OPEN = rf"(?:<{_NAME}>|\[THINK\]|<\|begin_of_thought\|>|◁think▷)"
_OPENED = re.compile(rf"(?i){_OPEN}\s*$")
_THINKING_BEGINS = re.compile(rf"(?im)^[^\S\n]*{_OPEN}")
_THINKING_ENDS = re.compile(
    rf"(?i)</{_NAME}>|\[/THINK\]|<\|end_of_thought\|>|◁/think▷|<\|channel\|>final<\|message\|>"
)
_NUM_TAIL = 8
"""Tokens at the end of a prompt among which a template's opening tag stands."""


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
            elif mark := _MARK.fullmatch(token.content):
                ends = mark["close"] or mark["end"] or mark["over"]
                self._marks[token_id] = "</think>" if ends else "<think>"
        self._special = {*self._marks, *self._channel.values()}

    def __call__(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> str:
        """Text of a completion; it begins with ``<think>`` if the prompt ends with such a tag."""
        text = "".join(self._pieces(token_ids))
        tail = list(prompt_ids[-_NUM_TAIL:])
        marks = [self._marks[token] for token in tail if token in self._marks]
        spelled = self._tokenizer.decode(tail, skip_special_tokens=True)
        is_open = marks[-1] == "<think>" if marks else bool(_OPENED.search(spelled))
        return f"<think>\n{text}" if is_open else text

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

    An opening tag counts at the start of a line: elsewhere a text speaks of tags.
    """
    rest = _THINKING_ENDS.split(text)[-1]
    return None if _THINKING_BEGINS.search(rest) else rest
