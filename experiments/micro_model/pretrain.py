"""Pretraining of the micro model: ``python -m experiments.micro_model.pretrain --out FOLDER``.

Deterministic for a seed and a thread count. The shipped weights are the default settings' outcome
(see the model card beside them).
"""

import itertools
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.distributed
import torch.multiprocessing
import torch.nn.functional as F
import typer
from experiments.micro_model.corpus import Corpus, CorpusMix
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rcsd.types import Conversation

SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def trained_tokenizer(corpus: Corpus, num_conversations: int) -> Any:
    """Byte-level BPE whose tokens are words with their space, single digits, and punctuation."""
    bpe = Tokenizer(models.BPE())
    words = Regex(r" ?\d| ?\p{L}+| ?[^\s\p{L}\d]+|\s+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1536,
        special_tokens=list(SPECIAL),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    turns = (
        turn["content"]
        for conversation in itertools.islice(corpus, num_conversations)
        for turn in conversation
    )
    bpe.train_from_iterator(turns, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|pad|>", eos_token="<|end|>", model_max_length=1024
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def micro_model(tokenizer: Any) -> LlamaForCausalLM:
    """The architecture: a Llama of 1.8M parameters."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=160,
            intermediate_size=448,
            num_hidden_layers=5,
            num_attention_heads=5,
            num_key_value_heads=5,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokenised(tokenizer: Any, conversation: Conversation) -> tuple[list[int], list[bool]]:
    """Token ids, and which of them are learned: the assistant's turns, their end included."""
    ids: list[int] = []
    learned: list[bool] = []
    for turn in conversation:
        head = tokenizer.convert_tokens_to_ids(f"<|{turn['role']}|>")
        body = tokenizer(turn["content"], add_special_tokens=False)["input_ids"]
        body = [*body, tokenizer.eos_token_id]
        ids += [head, *body]
        learned += [False] + [turn["role"] == "assistant"] * len(body)
    return ids, learned


def batches(
    corpus: Corpus, tokenizer: Any, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Padded ids and learned-masks of like lengths: a pool is sorted, cut and shuffled."""
    source = iter(corpus)
    while True:
        pool = [tokenised(tokenizer, c) for c in itertools.islice(source, 16 * batch_size)]
        pool.sort(key=lambda row: len(row[0]))
        cut = [pool[start : start + batch_size] for start in range(0, len(pool), batch_size)]
        corpus.rng.shuffle(cut)
        for rows in cut:
            length = max(len(ids) for ids, _ in rows)
            ids_BT = torch.zeros(len(rows), length, dtype=torch.long)
            learned_BT = torch.zeros(len(rows), length, dtype=torch.bool)
            for row, (ids, learned) in enumerate(rows):
                ids_BT[row, : len(ids)] = torch.tensor(ids)
                learned_BT[row, : len(ids)] = torch.tensor(learned)
            yield ids_BT, learned_BT


def next_token_loss(
    model: LlamaForCausalLM, ids_BT: torch.Tensor, learned_BT: torch.Tensor
) -> torch.Tensor:
    """Mean negative log-likelihood of the learned tokens, in nats.

    Rows are padded on the right, so causal attention alone keeps real positions off the padding.
    """
    hidden_BTH = model.model(ids_BT, use_cache=False).last_hidden_state[:, :-1]
    learned_BT = learned_BT[:, 1:]
    logits_TV = model.lm_head(hidden_BTH[learned_BT])
    return F.cross_entropy(logits_TV, ids_BT[:, 1:][learned_BT])


def schedule(step: int, num_steps: int, decay: float, warmup: int = 100) -> float:
    """Share of the peak rate: warm up, stay, then fall linearly over the last part."""
    return min(1.0, (step + 1) / warmup, (num_steps - step) / (decay * num_steps))


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are orthogonalised: Muon (https://kellerjordan.github.io/posts/muon).

    ``torch.optim.Muon`` iterates in bfloat16, which takes seconds a step on processors without
    matrix units; this one keeps float32. On this corpus it reached a loss of 0.95 nats in the time
    in which AdamW reached 1.13 (experiments/LOG.md).

    Args:
        params: Matrices.
        lr: Learning rate; updates are scaled to the size of AdamW's (arXiv 2502.16982).
    """

    def __init__(self, params: Iterable[torch.Tensor], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every matrix."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                momentum = state.setdefault("momentum", torch.zeros_like(matrix))
                momentum.mul_(0.95).add_(matrix.grad)
                update = _orthogonal(matrix.grad + 0.95 * momentum)
                matrix.add_(update, alpha=-0.2 * group["lr"] * max(matrix.shape) ** 0.5)


def _orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Nearly the nearest orthogonal matrix, by five Newton-Schulz iterations."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


def optimizers(model: LlamaForCausalLM, peak: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the rest."""
    inner = {name for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name}
    matrices = [p for name, p in model.named_parameters() if name in inner]
    rest = [p for name, p in model.named_parameters() if name not in inner]
    return [
        Muon(matrices, peak),
        torch.optim.AdamW(rest, lr=peak, betas=(0.9, 0.98), weight_decay=0.0),
    ]


@dataclass(frozen=True)
class Pretraining:
    """One pretraining.

    Args:
        out: Folder for the model.
        init: Folder of a model to go on from, or None to start from random weights.
        steps: Optimizer steps.
        batch_size: Conversations a step, over all workers.
        peak: Peak learning rate.
        presence_share: Share of the rubrics whose mere presence helps.
        seed: Of data and weights.
        workers: Processes with one thread each. On small matrices two of them do nearly twice the
            work of one process with two threads.
        decay: Share of the steps, at the end, over which the rate falls to 0.
        save_every: Steps between saves.
    """

    out: Path
    init: Path | None
    steps: int
    batch_size: int
    peak: float
    presence_share: float
    seed: int
    workers: int
    decay: float
    save_every: int


def pretrain(rank: int, settings: Pretraining, rendezvous: str) -> None:
    """One worker's part: its own conversations, gradients averaged over all workers."""
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=settings.workers
    )
    mix = CorpusMix(presence_share=settings.presence_share)
    if settings.init is None:
        tokenizer = trained_tokenizer(Corpus(mix, settings.seed), 30_000)
        model = micro_model(tokenizer)
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(settings.init)
        model = LlamaForCausalLM.from_pretrained(settings.init)
    optimizer_list = optimizers(model, settings.peak)
    corpus = Corpus(mix, 1000 * (settings.seed + 1) + rank)
    source = batches(corpus, tokenizer, settings.batch_size // settings.workers)
    start, num_tokens, losses = time.monotonic(), 0, []
    for step in range(settings.steps):
        ids_BT, learned_BT = next(source)
        for group in itertools.chain.from_iterable(o.param_groups for o in optimizer_list):
            group["lr"] = settings.peak * schedule(step, settings.steps, settings.decay)
        loss = next_token_loss(model, ids_BT, learned_BT)
        loss.backward()
        average_gradients(model, settings.workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizer_list:
            optimizer.step()
            optimizer.zero_grad()
        num_tokens += ids_BT.numel() * settings.workers
        losses.append(loss.item())
        if rank == 0 and step % 100 == 99:
            log = {
                "step": step + 1,
                "loss_nats": round(sum(losses) / len(losses), 4),
                "num_tokens": num_tokens,
                "seconds": round(time.monotonic() - start),
            }
            losses = []
            typer.echo(json.dumps(log))
        if rank == 0 and ((step + 1) % settings.save_every == 0 or step + 1 == settings.steps):
            model.save_pretrained(settings.out)
            tokenizer.save_pretrained(settings.out)
    torch.distributed.destroy_process_group()


def average_gradients(model: LlamaForCausalLM, workers: int) -> None:
    """The mean of all workers' gradients, in one message."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= workers
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def main(  # noqa: PLR0913 (a command line)
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    init: Annotated[Path | None, typer.Option(help="Folder of a model to go on from.")] = None,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 4500,
    batch_size: Annotated[int, typer.Option(help="Conversations a step.")] = 32,
    peak: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-3,
    presence_share: Annotated[float, typer.Option(help="Rubrics whose presence helps.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of data and weights.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes, one thread each.")] = 2,
    decay: Annotated[float, typer.Option(help="Share of steps in which the rate falls.")] = 0.4,
    save_every: Annotated[int, typer.Option(help="Steps between saves.")] = 200,
) -> None:
    """Train the micro model from scratch."""
    settings = Pretraining(
        out, init, steps, batch_size, peak, presence_share, seed, workers, decay, save_every
    )
    with tempfile.TemporaryDirectory() as scratch:
        torch.multiprocessing.spawn(pretrain, (settings, f"{scratch}/rendezvous"), workers)


if __name__ == "__main__":
    typer.run(main)
