"""Chat templates of published models, made short: prompts, targets, ends, turns that go on."""

import copy
from typing import Any

import pytest
from tests.support.tiny import tiny_tokenizer
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rcsd.data.views import (
    check_chat_template,
    check_template_kwargs,
    continued_ids,
    prompt_ids,
    target_ids,
    turn_end_id,
)
from rcsd.errors import ModelError
from rcsd.types import Conversation, Message

QUESTION: Conversation = [{"role": "user", "content": "What is 2?"}]
NOW: Message = {"role": "user", "content": "Now answer."}
REFUSED = "REFUSED"
TAGS = ["<s>", "</s>", "<think>", "</think>", "[THINK]", "[/THINK]", "[INST]", "[/INST]"]
TAGS += ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|start|>", "<|message|>"]
TAGS += ["<|channel|>", "<|return|>", "<|hy_User|>", "<|hy_Assistant|>", "<|hy_eos|>", "[e~["]


def turns(user: str, assistant: str, header: str, start: str = "") -> str:
    """A template that writes turns one after the other; ``Q`` stands for the content."""
    texts = [text.replace("Q", "' + m.content + '") for text in (user, assistant)]
    return (
        f"{start}{{% for m in messages %}}{{% if m.role == 'user' %}}{{{{ '{texts[0]}' }}}}"
        f"{{% else %}}{{{{ '{texts[1]}' }}}}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ '{header}' }}}}{{% endif %}}"
    )


QWEN_3 = (
    r"{% for m in messages %}<|im_start|>{{ m.role + '\n' }}{% if loop.last and m.role == "
    r"'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content + '<|im_end|>\n' }}"
    r"{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    r"{% if enable_thinking is defined and enable_thinking is false %}"
    r"{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
DEEPSEEK_3_1 = (
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}<s>"
    "{% for m in messages %}{% if m.role == 'user' %}<|hy_User|>{{ m.content }}{% else %}"
    "<|hy_Assistant|></think>{{ m.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|hy_Assistant|>{{ '<think>' if thinking else '</think>' }}"
    "{% endif %}"
)
GPT_OSS = (
    "{% for m in messages %}{% if m.role == 'user' %}<|start|>user<|message|>{{ m.content }}<|end|>"
    "{% else %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
    "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
LISTS = (
    "{% for m in messages %}<|im_start|>{% for c in m.content %}{{ c.text }}{% endfor %}"
    "{% endfor %}"
)
LLAMA_2 = turns("<s>[INST] Q [/INST]", " Q </s>", "")

PLAIN = {
    # Beginning, user's turn, header, what stands before an answer, end of it.
    "llama-3": ("<s>", r"<|user|>\n\nQ<|eot_id|>", r"<|assistant|>\n\n", "", "<|eot_id|>"),
    "mistral": ("<s>", "[INST] Q[/INST]", "", " ", "</s>"),
    "tekken": ("<s>", "[INST]Q[/INST]", "", "", "</s>"),
    "magistral": ("<s>Draft.[THINK]a[/THINK]b", "[INST]Q[/INST]", "", "", "</s>"),
    "gemma": ("<s>", r"<|user|>Q<end_of_turn>\n", r"<|assistant|>\n", "", "<end_of_turn>"),
    "chatml": ("", r"<|im_start|>Q<|im_end|>\n", r"<|im_start|>assistant\n", "", "<|im_end|>"),
    "phi-4": ("", "<|user|>Q<|end|>", "<|assistant|>", "", "<|end|>"),
    "hunyuan": ("", "<|hy_User|>Q", "<|hy_Assistant|>", "", "<|hy_eos|>"),
    "zephyr": ("", r"<|user|>\nQ</s>\n", r"<|assistant|>\n", "", "</s>"),
    "vicuna": ("A chat. ", "USER: Q ", "ASSISTANT:", " ", "</s>"),
    "kimi": ("", "<|user|>Q<|im_end|>", "<|assistant|>", "<think></think>", "<|im_end|>"),
}
TEMPLATES = {
    # Template, end of the prompt, target of "It is 4.", end of a turn.
    name: (
        turns(user, f"{header}{before}Q{end}" + r"\n" * (r"\n" in user), header, start),
        (header or user.partition("Q")[2]).replace(r"\n", "\n"),
        f"{before}It is 4.{end}",
        end,
    )
    for name, (start, user, header, before, end) in PLAIN.items()
} | {
    "llama-2": (LLAMA_2, " [/INST]", " It is 4. </s>", "</s>"),
    "qwen-3": (QWEN_3, "assistant\n", "<think>\n\n</think>\n\nIt is 4.<|im_end|>", "<|im_end|>"),
    "deepseek-3.1": (DEEPSEEK_3_1, "<|hy_Assistant|></think>", "It is 4.</s>", "</s>"),
    "gpt-oss": (
        *(GPT_OSS, "<|start|>assistant"),
        *("<|channel|>final<|message|>It is 4.<|return|>", "<|return|>"),
    ),
    "glm-4": (
        turns(r"<|user|>\nQ", r"<|assistant|>\n<think></think>\nQ", "<|assistant|>"),
        *("<|assistant|>", "\n<think></think>\nIt is 4.", "<|user|>"),
    ),
    "alpaca": (
        turns(r"### Instruction:\nQ\n\n", r"### Response:\nQ\n\n", r"### Response:\n"),
        *("Response:\n", "It is 4.\n\n", None),
    ),
    "r1": (
        turns("<|hy_User|>Q", "<|hy_Assistant|>Q</s>", r"<|hy_Assistant|><think>\n", "<s>"),
        *("<think>\n", REFUSED, "</s>"),
    ),
    "minimax": (
        turns(r"USER\nQ[e~[\n", r"AI\nQ[e~[\n", r"AI\n<think>\n"),
        *("<think>\n", REFUSED, "[e~["),
    ),
    "granite-thinking": (
        turns("<|user|>Q<|end|>", "<|assistant|><|message|>Q<|end|>", "<|assistant|>{}<|message|>"),
        *("<|assistant|>{}<|message|>", REFUSED, "<|end|>"),
    ),
}


def with_template(template: str) -> Any:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_tokens([AddedToken(tag, special=True, normalized=False) for tag in TAGS])
    tokenizer.chat_template = template
    return tokenizer


def target(tokenizer: Any) -> str:
    try:
        return str(tokenizer.decode(target_ids(tokenizer, "It is 4.")))
    except ModelError:
        return REFUSED


@pytest.mark.parametrize("name", TEMPLATES)
def test_prompt_target_and_end_are_the_templates(name: str) -> None:
    template, header, expected, end = TEMPLATES[name]
    tokenizer = with_template(template)
    check_chat_template(tokenizer)
    assert str(tokenizer.decode(prompt_ids(tokenizer, QUESTION))).endswith(header)
    assert target(tokenizer) == expected
    user_id = tokenizer.convert_tokens_to_ids("<|user|>")
    found = turn_end_id(tokenizer, {user_id})
    assert found == (None if end is None else tokenizer.convert_tokens_to_ids(end))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_turn_goes_on_from_the_prompt_that_it_answered(name: str) -> None:
    tokenizer = with_template(TEMPLATES[name][0])
    start = [*prompt_ids(tokenizer, QUESTION), 7, 8]
    if name == "granite-thinking":
        with pytest.raises(ModelError, match="drops or alters earlier assistant turns"):
            continued_ids(tokenizer, QUESTION, [7, 8], NOW)
        return
    ids = continued_ids(tokenizer, QUESTION, [7, 8], NOW)
    assert ids[: len(start)] == start
    rest = str(tokenizer.decode(ids[len(start) :]))
    assert rest.count("Now answer.") == 1
    assert rest.endswith(TEMPLATES[name][1])


def test_content_as_a_list_is_refused() -> None:
    with pytest.raises(ModelError, match="leaves out the text of the user's message"):
        prompt_ids(with_template(LISTS), QUESTION)


def test_the_ids_of_a_target_are_those_it_has_after_its_prompt() -> None:
    """Tokenizers of sentencepiece add a space at the start of a text, which a target is not."""
    words = [
        "[UNK]",
        "▁",
        "▁It",
        "It",
        "▁is",
        "▁4.",
        "▁a",
        "▁[/INST]",
        "▁[INST]",
        "▁?",
        "▁Now",
        *"?.4",
    ]
    inner = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    inner.add_special_tokens(["<s>", "</s>"])
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    tokenizer.chat_template = LLAMA_2
    assert tokenizer.convert_ids_to_tokens(target_ids(tokenizer, "It is 4.")) == [
        *("▁It", "▁is", "▁4.", "▁", "</s>")
    ]
    num_before = len(prompt_ids(tokenizer, QUESTION)) + 1
    rest = continued_ids(tokenizer, QUESTION, [7], NOW)[num_before:]
    assert tokenizer.convert_ids_to_tokens(rest)[:3] == ["▁", "</s>", "<s>"]


# Values for the template


def test_values_for_a_template_reach_prompts_targets_and_turns() -> None:
    tokenizer, off = with_template(QWEN_3), {"enable_thinking": False}
    empty = "<think>\n\n</think>\n\n"
    assert str(tokenizer.decode(prompt_ids(tokenizer, QUESTION, off))).endswith(empty)
    assert not str(tokenizer.decode(prompt_ids(tokenizer, QUESTION))).endswith(empty)
    assert str(tokenizer.decode(target_ids(tokenizer, "It is 4.", off))) == "It is 4.<|im_end|>"
    start = [*prompt_ids(tokenizer, QUESTION, off), 7]
    ids = continued_ids(tokenizer, QUESTION, [7], NOW, off)
    assert ids[: len(start)] == start
    assert str(tokenizer.decode(ids)).endswith(empty)


def test_a_value_that_a_template_does_not_use_is_refused_with_those_that_it_does() -> None:
    for template, used, unused in (
        (QWEN_3, "enable_thinking", "thinking"),
        (DEEPSEEK_3_1, "thinking", "enable_thinking"),
        ("{% set effort = effort | default('low') %}{{ effort }}", "effort", "reasoning_effort"),
        ("{% generation %}{{ level }}{% endgeneration %}{# low #}", "level", "low"),
        ({"default": "{{ mode }}", "rag": "{{ documents }}"}, "mode", "documents"),
        (QWEN_3, "enable_thinking", "messages"),
    ):
        tokenizer = copy.deepcopy(tiny_tokenizer())
        tokenizer.chat_template = template
        check_template_kwargs(tokenizer, {used: 1}, "views.student_kwargs")
        with pytest.raises(ModelError, match=rf"student_kwargs\.{unused}: .* it uses: {used}$"):
            check_template_kwargs(tokenizer, {unused: 1}, "views.student_kwargs")
