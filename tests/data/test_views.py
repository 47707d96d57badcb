import copy
import dataclasses
import datetime
import hashlib
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from experiments.micro_model.corpus import Corpus, CorpusMix
from experiments.micro_model.pretrain import CHAT_TEMPLATE, trained_tokenizer
from transformers import PreTrainedTokenizerFast

from rcsd.data.views import (
    PromptTemplates,
    Request,
    build_conversation,
    check_chat_template,
    continued_ids,
    dated_template,
    prompt_ids,
    target_ids,
    turn_end_id,
    user_turn,
)
from rcsd.errors import ConfigError, DataError, ModelError
from rcsd.types import Conversation, Criterion, Example, Rubric, ViewName

VIEW_NAMES: tuple[ViewName, ...] = get_args(ViewName)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = CHATML.replace("messages %}", "messages if m.role != 'assistant' %}", 1)
HEADERS = {CHAT_TEMPLATE: "<|assistant|>", CHATML: "<|im_start|>assistant\n"}

RUBRIC = Rubric((Criterion("Names light.", 1.5), Criterion("Guesses.", -2)))
EXAMPLE = Example("e", "What is <b>2 & 2</b>?", "4", "2 + 2 = 4.", RUBRIC)
BARE = Example("bare", "Why?")
WORDS = PromptTemplates()
WRITER_REQUESTS: tuple[Request, ...] = ("write_rubric", "analyse_rubric")


@pytest.fixture(scope="module")
def micro() -> PreTrainedTokenizerFast:
    return trained_tokenizer(Corpus(CorpusMix(), 0), 300)


@pytest.fixture(params=[CHAT_TEMPLATE, CHATML], ids=["micro", "chatml"])
def tokenizer(micro: PreTrainedTokenizerFast, request: pytest.FixtureRequest):
    tokenizer = copy.deepcopy(micro)
    tokenizer.chat_template = request.param
    return tokenizer


def token_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def reference_ids(tokenizer: PreTrainedTokenizerFast, conversation: Conversation) -> list[int]:
    turns: Any = conversation
    rendered: Any = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_dict=True
    )
    return list(rendered["input_ids"])


def conversations(view: ViewName) -> list[Conversation]:
    return [
        build_conversation("answer", EXAMPLE, view, WORDS),
        build_conversation("analysis", EXAMPLE, view, WORDS),
    ]


# By hand


def test_guidance_shows_points_and_asks_for_silence_about_it():
    [turn] = build_conversation("answer", EXAMPLE, "rubric+answer", WORDS)
    assert turn["content"] == (
        "What is <b>2 & 2</b>?\n\nReference answer: 4\n\n"
        "Criteria of a strong answer, with points (negative points name a mistake):\n"
        "- [+1.5] Names light.\n- [-2] Guesses.\n\n"
        "Answer the question. Do not mention this guidance."
    )


@pytest.mark.parametrize("view", VIEW_NAMES)
def test_a_view_shows_what_its_name_says_and_nothing_else(view: ViewName):
    parts = set(view.split("+"))
    rubric_writer = [build_conversation(r, EXAMPLE, view, WORDS) for r in WRITER_REQUESTS]
    for [turn] in (*conversations(view), *rubric_writer):
        shown = turn["content"]
        assert ("Reference answer: 4" in shown) == ("answer" in parts)
        assert ("2 + 2 = 4." in shown) == ("solution" in parts)
        assert ("Names light." in shown) == ("rubric" in parts)


# Equivalences


@pytest.mark.parametrize("view", VIEW_NAMES)
def test_a_rendered_view_equals_the_chat_template(
    tokenizer: PreTrainedTokenizerFast, view: ViewName
):
    header = token_ids(tokenizer, HEADERS[str(tokenizer.chat_template)])
    for conversation in conversations(view):
        ids = prompt_ids(tokenizer, conversation)
        assert ids == reference_ids(tokenizer, conversation)
        assert ids[-len(header) :] == header


CHAT: Conversation = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Yes?"},
]


def test_a_chat_keeps_its_turns_and_the_guidance_stands_in_its_last(
    micro: PreTrainedTokenizerFast,
):
    tokenizer = copy.deepcopy(micro)
    tokenizer.chat_template = CHATML
    chat = dataclasses.replace(EXAMPLE, turns=tuple(CHAT))
    for view in VIEW_NAMES:
        *earlier, last = build_conversation("answer", chat, view, WORDS)
        assert earlier == CHAT
        assert [last] == build_conversation("answer", EXAMPLE, view, WORDS)
        ids = prompt_ids(tokenizer, [*earlier, last])
        assert ids == reference_ids(tokenizer, [*earlier, last])


def test_a_conversation_goes_on_as_the_chat_template_would(tokenizer: PreTrainedTokenizerFast):
    before, text = conversations("rubric")[1], "A strong answer is long."
    after = user_turn("answer_now", WORDS)
    turn_ids = token_ids(tokenizer, text)
    ids = continued_ids(tokenizer, before, turn_ids, after)
    whole: Conversation = [*before, {"role": "assistant", "content": text}, after]
    assert ids == reference_ids(tokenizer, whole)


def test_sampled_ids_stay_as_they_were_sampled(tokenizer: PreTrainedTokenizerFast):
    # " answer" letter by letter: decoded and tokenised again, it would be one token.
    letters = [i for c in " answer" for i in token_ids(tokenizer, c)]
    assert len(token_ids(tokenizer, " answer")) < len(letters)
    # A question may hold the character that marks the cut.
    marked: Conversation = [{"role": "user", "content": "What is \ue000?"}]
    for before in (conversations("rubric")[1], marked):
        start = prompt_ids(tokenizer, before)
        ids = continued_ids(tokenizer, before, letters, user_turn("answer_now", WORDS))
        assert ids[: len(start) + len(letters)] == start + letters


def test_the_end_of_a_turn_is_read_from_the_template(micro: PreTrainedTokenizerFast):
    assert turn_end_id(micro) == micro.eos_token_id
    tokenizer = copy.deepcopy(micro)
    tokenizer.chat_template = CHATML  # its end is no token of this tokenizer
    assert turn_end_id(tokenizer) is None


# Templates


def test_own_templates_replace_packaged_ones_and_their_hashes(tmp_path: Path):
    own = b"Go on, answer.\n"
    (tmp_path / "answer_now.jinja").write_bytes(own)
    words, hashes = PromptTemplates(tmp_path), WORDS.hashes()
    assert user_turn("answer_now", words)["content"] == "Go on, answer."
    assert words.hashes() == hashes | {"answer_now.jinja": hashlib.sha256(own).hexdigest()}


# Errors


def test_a_view_of_what_an_example_lacks_is_an_error():
    for view in VIEW_NAMES[1:]:
        with pytest.raises(DataError, match=f"'bare' has none, but the view '{re.escape(view)}'"):
            build_conversation("answer", BARE, view, WORDS)


def test_models_that_cannot_chat_are_refused(micro: PreTrainedTokenizerFast):
    tokenizer = copy.deepcopy(micro)
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        prompt_ids(tokenizer, conversations("none")[0])
    tokenizer.chat_template = FORGETFUL
    with pytest.raises(ModelError, match="drops or alters earlier assistant turns"):
        continued_ids(tokenizer, conversations("rubric")[1], [5], user_turn("answer_now", WORDS))
    tokenizer.chat_template = "{{ raise_exception('no system turns') }}"
    with pytest.raises(ModelError, match="chat template fails: no system turns"):
        prompt_ids(tokenizer, conversations("none")[0])


LISTS = CHATML.replace("m.content | trim", "m.content[0].text")
MISSPELT = CHATML.replace("m.content | trim", "m.contents")
HEADERLESS = CHATML.partition("{% if add_generation_prompt")[0]
OPEN_THINKING = CHATML.replace("|>assistant\n{% endif", "|>assistant\n<think>\n{% endif")
NO_THINKING = CHATML.replace(
    "<|im_start|>{{ m.role }}\n",
    "<|im_start|>{{ m.role }}\n{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n"
    "{% endif %}",
)


@pytest.mark.parametrize("template", [LISTS, MISSPELT])
def test_a_chat_template_that_loses_the_text_is_refused(
    micro: PreTrainedTokenizerFast, template: str
) -> None:
    tokenizer = copy.deepcopy(micro)
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match="leaves out the text of the user's message"):
        prompt_ids(tokenizer, conversations("none")[0])


def test_a_chat_template_without_the_assistants_header_is_refused(
    micro: PreTrainedTokenizerFast,
) -> None:
    tokenizer = copy.deepcopy(micro)
    for template in (CHATML, OPEN_THINKING, NO_THINKING, LLAMA_2):
        tokenizer.chat_template = template
        check_chat_template(tokenizer)
    tokenizer.chat_template = HEADERLESS
    with pytest.raises(ModelError, match=r"lacks the header .*im_start\|>assistant"):
        check_chat_template(tokenizer)


LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} <|end|>{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("template", [CHATML, OPEN_THINKING, NO_THINKING, LLAMA_2])
def test_a_continued_prompt_begins_with_the_prompt_and_the_turn(
    micro: PreTrainedTokenizerFast, template: str
) -> None:
    tokenizer = copy.deepcopy(micro)
    tokenizer.chat_template = template
    student = conversations("none")[0]
    before = [*prompt_ids(tokenizer, student), 7, 8]
    after = continued_ids(tokenizer, student, [7, 8], user_turn("answer_now", WORDS))
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_a_target_is_what_the_chat_template_renders_after_its_prompt(
    micro: PreTrainedTokenizerFast,
) -> None:
    tokenizer = copy.deepcopy(micro)
    tokenizer.chat_template = CHATML
    text = str(tokenizer.decode(target_ids(tokenizer, "It is 4.")))
    assert text.startswith("It is 4.<|im_end|>")
    tokenizer.chat_template = NO_THINKING
    text = str(tokenizer.decode(target_ids(tokenizer, "It is 4.")))
    assert text.startswith("<think>\n\n</think>\n\nIt is 4.")
    tokenizer.chat_template = OPEN_THINKING
    with pytest.raises(ModelError, match="so sft has no target"):
        target_ids(tokenizer, "It is 4.")


def test_templates_that_cannot_be_rendered_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="is not a folder"):
        PromptTemplates(tmp_path / "none")
    (tmp_path / "answer.jinja").write_text("{{ qestion }}")
    with pytest.raises(ConfigError, match=r"template answer\.jinja: 'qestion' is undefined"):
        build_conversation("answer", EXAMPLE, "none", PromptTemplates(tmp_path))


DATED = {
    "llama": (
        "{%- if not date_string is defined %}\n{%- set date_string = strftime_now('%d %b %Y') %}\n"
        "{%- endif %}{{- 'Today: ' + date_string }} {{ messages[0].content }}"
    ),
    "gpt-oss": (
        "{%- macro system() -%}\n{{- 'Current date: ' + strftime_now('%Y-%m-%d') + '\\n' }}\n"
        "{%- endmacro -%}\n{{- system() }}{{ messages[0].content }}"
    ),
    "words": "{%- set f = '%A, %-d ' ~ '%B' %}{{ strftime_now(f) }} {{ messages[0].content }}",
}


@pytest.mark.parametrize("start", ["", "\n", "  ", "{# #}\n  "])
@pytest.mark.parametrize("name", DATED)
def test_a_day_stands_in_a_chat_template_where_today_would(
    micro: PreTrainedTokenizerFast, name: str, start: str
) -> None:
    template = start + DATED[name]

    def rendered(template: str) -> Any:
        turn = [{"role": "user", "content": "?"}]
        return micro.apply_chat_template(turn, chat_template=template, tokenize=False)

    today, day = datetime.datetime.now().date(), datetime.date(2020, 2, 9)  # noqa: DTZ005
    assert rendered(dated_template(template, today)) == rendered(template)
    dates = {"llama": "09 Feb 2020", "gpt-oss": "2020-02-09", "words": "Sunday, 9 February"}
    assert dates[name] in rendered(dated_template(template, day))
