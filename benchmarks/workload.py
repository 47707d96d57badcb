"""What all contestants of a benchmark are given alike: model, prompts of exact lengths, lengths."""

import random
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from measuring import device_here, dtype_on
from rcsd.models.hub import model_folder

_QWEN3: dict[str, Any] = {
    "vocab_size": 151_936,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40_960,
}
QWEN3: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": {
        **_QWEN3, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "tie_word_embeddings": True,
    },
    "qwen3-1.7b": {
        **_QWEN3, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
        "num_attention_heads": 16, "tie_word_embeddings": True,
    },
    "qwen3-8b": {
        **_QWEN3, "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "tie_word_embeddings": False,
    },
}  # fmt: skip
"""The published shapes; their weights are drawn at random, which costs and takes the same."""

BUILTIN = ("micro", "smollm2")
MODELS = (*BUILTIN, *QWEN3)


@dataclass(frozen=True)
class Work:
    """One optimizer step: what every contestant has to do.

    Args:
        model: One of `MODELS`.
        teacher_prefix: Tokens of the teacher's prompt, the analysis included where one is written.
        student_prefix: Tokens of the student's prompt.
        examples: Examples of the step.
        completions: Completions of each example, G.
        completion_tokens: Tokens of each completion, exactly.
        top_k: Support of the divergence.
        analysis_tokens: Tokens of the teacher's analysis, for who writes it in every step.
        lora_rank: Rank of the adapters on all linear layers but the head; their alpha is twice it.
    """

    model: str
    teacher_prefix: int
    student_prefix: int
    examples: int
    completions: int
    completion_tokens: int
    top_k: int
    analysis_tokens: int
    lora_rank: int

    @property
    def num_completions(self) -> int:
        """Completions of the step."""
        return self.examples * self.completions

    @property
    def num_tokens(self) -> int:
        """Completion tokens of the step, all of them learned from."""
        return self.num_completions * self.completion_tokens

    def prompts(self, step: int) -> list[tuple[list[int], list[int]]]:
        """The step's random prompts: the student's, and the teacher's, which begins with it.

        Out of the middle half of the vocabulary, where no tokenizer keeps its control tokens.
        """
        vocab_size = config_of(self.model).vocab_size
        drawn = random.Random(step)
        ids = range(vocab_size // 4, 3 * vocab_size // 4)
        teachers = [drawn.choices(ids, k=self.teacher_prefix) for _ in range(self.examples)]
        return [(teacher[: self.student_prefix], teacher) for teacher in teachers]


def config_of(name: str) -> PretrainedConfig:
    """The shape of a model."""
    if name in QWEN3:
        return Qwen3Config(**QWEN3[name])
    return AutoConfig.from_pretrained(model_folder(f"builtin:{name}"))


def small_config(vocab_size: int) -> PretrainedConfig:
    """A decoder of some 1.6M weights without the embedding."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )


def model_and_tokenizer(name: str) -> tuple[Any, Any]:
    """A model on the device of this machine, in the type for it, and its tokenizer.

    Raises:
        ModelError: If a built-in model has not been fetched.
    """
    if name in QWEN3:
        return random_model(config_of(name))
    device = device_here()
    folder = model_folder(f"builtin:{name}")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype_on(device))
    for parameter in model.parameters():
        # Not pages of the mapped file, which would count as memory once they are first read.
        parameter.data = parameter.data.clone()
    return model.to(device), AutoTokenizer.from_pretrained(folder)


def random_model(shape: PretrainedConfig) -> tuple[Any, Any]:
    """A model with random weights, and a tokenizer whose words are numbers."""
    device = device_here()
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(shape, dtype=dtype_on(device))
    return model, number_tokenizer(shape.vocab_size, shape.vocab_size - 1)


def number_tokenizer(vocab_size: int, end_id: int) -> Any:
    """A tokenizer whose words are the ids themselves, so that a text has the tokens asked for.

    Args:
        vocab_size: Ids 1 to ``vocab_size - 1`` are words; 0 pads.
        end_id: Ends a turn. One outside the model's vocabulary is never sampled.
    """
    # Control tokens are looked for inside of words too, so their names hold no digits.
    words = {str(token_id): token_id for token_id in range(1, vocab_size) if token_id != end_id}
    words |= {"<pad>": 0, "<end>": end_id}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<end>",
        pad_token="<pad>",
        padding_side="left",
        chat_template="{% for m in messages %}{{ m['content'] }} {{ eos_token }}{% endfor %}",
    )


def text_of(ids: list[int]) -> str:
    """What the number tokenizer reads as these ids."""
    return " ".join(map(str, ids))
