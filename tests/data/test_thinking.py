"""Text of completions: thinking is told apart by token ids."""

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rcsd.data.rubric import parse_completion
from rcsd.data.thinking import OPENED, CompletionText, after_thinking

WORDS = ["the", "answer", "is", "A", "B", "or", "analysis", "final", "assistant", "commentary"]


def tokenizer(special: list[str], plain: list[str] | None = None) -> PreTrainedTokenizerFast:
    """Words, with added tokens that are special or not."""
    words = {word: number for number, word in enumerate(["[UNK]", *WORDS])}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens(special)
    inner.add_tokens([AddedToken(token, special=False) for token in plain or []])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")


def final(tokenizer: PreTrainedTokenizerFast, text: str, prompt: str = "") -> str | None:
    """Text after thinking, of a completion that is given as text with its marks."""
    ids = tokenizer(text)["input_ids"]
    whole = CompletionText(tokenizer)(tokenizer(prompt)["input_ids"] if prompt else [], ids)
    rest = after_thinking(whole)
    return rest if rest is None else " ".join(rest.split())


HARMONY = tokenizer(["<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|return|>"])
ANALYSIS = "<|channel|> analysis <|message|> the answer is A <|end|>"


def test_the_final_channel_is_the_answer() -> None:
    channel = "<|start|> assistant <|channel|> final <|message|>"
    assert final(HARMONY, f"{ANALYSIS} {channel} the answer is B <|return|>") == "the answer is B"


def test_a_completion_that_ends_in_its_analysis_has_no_answer() -> None:
    assert final(HARMONY, ANALYSIS) is None
    assert final(HARMONY, f"{ANALYSIS} <|start|> assistant") is None
    call = "<|start|> assistant <|channel|> commentary <|message|> the answer is B"
    assert final(HARMONY, f"{ANALYSIS} {call}") is None


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>", "</think>"),
        ("[THINK]", "[/THINK]"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<seed:think>", "</seed:think>"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("◁think▷", "◁/think▷"),
        ("<|thinking_start|>", "<|thinking_end|>"),
    ],
)
@pytest.mark.parametrize("is_special", [True, False])
def test_marks_of_thinking_survive_whether_special_or_not(
    opening: str, closing: str, is_special: bool
) -> None:
    marks = [opening, closing]
    model = tokenizer(marks if is_special else [], [] if is_special else marks)
    assert final(model, f"{opening} the answer is A {closing} the answer is B") == "the answer is B"
    assert final(model, f"{opening} the answer is A") is None
    # A template that opens the block leaves its closing tag alone to the completion.
    assert final(model, f"the answer is A {closing} B", prompt=f"the {opening}") == "B"
    assert final(model, "the answer is A", prompt=f"the {opening}") is None
    # One that inserts an empty block leaves nothing.
    assert final(model, "the answer is A", prompt=f"{opening} {closing}") == "the answer is A"


@pytest.mark.parametrize(
    ("special", "completion", "prompt", "answer"),
    [
        # Gemma 4
        ("<|channel> <channel|>", "<|channel> analysis A <channel|> B", "", "B"),
        ("<|channel> <channel|>", "<|channel> analysis A", "", None),
        # Seed-OSS: a token may follow the tag in the prompt.
        ("<seed:think> </seed:think> <cot>", "A </seed:think> B", "is <seed:think> <cot>", "B"),
        # A question that ends in a tag opens nothing: a header follows.
        ("<think> </think> <|end|>", "A", "the <think> <|end|> assistant", "A"),
        # A word or a switch among the added tokens is no mark.
        ("think /think", "A think the answer is /think B", "", "A the answer is B"),
        # Two blocks, and a closing tag alone.
        ("<think> </think>", "<think> A </think> or <think> A </think> B", "", "B"),
        ("<think> </think>", "A </think> B", "", "B"),
        ("<think> </think>", "<think> A </think> or <think> A", "", None),
    ],
)  # fmt: skip
def test_marks_of_one_model(special: str, completion: str, prompt: str, answer: str | None) -> None:
    assert final(tokenizer(special.split()), completion, prompt) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>It is A.</think>It is B: `</think>` ends it.", "It is B: `</think>` ends it."),
        ('It is B. A "</think>" ends it.', 'It is B. A "</think>" ends it.'),
        ("<think>The tag `</think>` is near. It is A.", None),
        ("<|channel|>analysis<|message|>It is A.", None),
        ("<|channel|>analysis<|message|>A<|end|><|channel|>final<|message|>B", "B"),
        ("Here are my reasoning steps:\nA\n[BEGIN FINAL RESPONSE]\nB", "\nB"),
        ("◁think▷A◁/think▷B", "B"),
        ("The <think> tag opens it.", "The <think> tag opens it."),
    ],
)  # fmt: skip
def test_thinking_in_texts_of_servers(text: str, answer: str | None) -> None:
    assert after_thinking(text) == answer


def test_a_rubric_is_read_behind_thinking_and_from_a_grammar_in_an_opened_block() -> None:
    written = '[{"criterion": "Names light.", "weight": 2}]'
    expected = parse_completion(written, finished=True)
    assert expected is not None
    for text in (f"<think>Hm.</think>\n{written}", OPENED + written):
        assert parse_completion(text, finished=True) == expected
    assert parse_completion(OPENED + written + " or", finished=False) == expected
    assert parse_completion(f"{OPENED}Perhaps {written}", finished=True) is None


def test_other_special_tokens_are_no_text() -> None:
    model = tokenizer(["<|eot|>", "<think>", "</think>", "<|no_think|>"])
    assert final(model, "<|no_think|> the answer is A <|eot|>") == "the answer is A"


def test_without_marks_the_text_is_the_tokenizers() -> None:
    ids = HARMONY("the answer is A <|return|>")["input_ids"]
    text = HARMONY.decode(ids, skip_special_tokens=True)
    assert CompletionText(HARMONY)([], ids) == text
