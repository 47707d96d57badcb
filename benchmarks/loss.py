"""The loss alone, from hidden states: time and memory of ours, of peers and of the plain sibling.

Given the student's and the teacher's hidden states and one frozen output head, the forward KL of
the teacher and its gradient in the student's hidden states; over the whole vocabulary (`full`), or
renormalised on the teacher's top k (`top_k`). Time is relative to one product [T, H] x [H, V],
measured beside: on the top k one is unavoidable, the teacher's; over the whole vocabulary three are
(both forward, the student's backward). All contestants of a support must agree with the plain one.

Axes: T positions, V vocabulary, H hidden, K support.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from measuring import (
    allocated_peak_mib,
    alternating,
    console,
    device_here,
    dtype_on,
    environment,
    medians,
    ratios,
    run_command,
    seconds_of,
    show,
    version_of,
    write_json,
)
from rcsd.methods.losses import (
    forward_kl_terms,
    renormalised_from_logits,
    restrict,
    token_mean,
    top_k_ids,
)
from rcsd.models.cpu_linear import linear
from rcsd.models.logits import HeadPredictions

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From the student's [T, H], the teacher's [T, H] and the head [V, H]: the mean over T."""

PRODUCT = "product"
TRL_CHUNK = 128
"""Positions at a time of TRL's loss on a support; where its trainer's own default is as large as
the batch, nothing would be chunked."""


def ours_full(student_TH: Tensor, teacher_TH: Tensor, head_VH: Tensor) -> Tensor:
    """As `rcsd.methods.distill` with a full support."""

    def divergence(logits_tV: Tensor, teacher_tV: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        terms = forward_kl_terms(teacher_tV.log_softmax(-1), logits_tV.log_softmax(-1))
        return terms.sum(-1), {}

    teacher = HeadPredictions(teacher_TH, head_VH)
    loss_T, _ = HeadPredictions(student_TH, head_VH).losses(divergence, teacher)
    return token_mean(loss_T, len(student_TH))


def ours_top_k(k: int, student_TH: Tensor, teacher_TH: Tensor, head_VH: Tensor) -> Tensor:
    """As `rcsd.methods.distill` with a support that the teacher chooses, renormalised."""
    with torch.no_grad():
        teacher = HeadPredictions(teacher_TH, head_VH)
        ids_TK = teacher.mapped(functools.partial(top_k_ids, k=k))
        log_p_TK = renormalised_from_logits(teacher.logits_at(ids_TK))
    logits_TK = HeadPredictions(student_TH, head_VH).logits_at(ids_TK)
    terms = forward_kl_terms(log_p_TK, renormalised_from_logits(logits_TK))
    return token_mean(terms.sum(-1), len(student_TH))


def plain_full(student_TH: Tensor, teacher_TH: Tensor, head_VH: Tensor) -> Tensor:
    """All logits of both at once."""
    with torch.no_grad():
        log_p_TV = (teacher_TH @ head_VH.T).float().log_softmax(-1)
    log_q_TV = (student_TH @ head_VH.T).float().log_softmax(-1)
    return token_mean(forward_kl_terms(log_p_TV, log_q_TV).sum(-1), len(student_TH))


def plain_top_k(k: int, student_TH: Tensor, teacher_TH: Tensor, head_VH: Tensor) -> Tensor:
    """All logits of both, then K of them."""
    log_p_TK, ids_TK = _teacher_top_k(k, teacher_TH, head_VH)
    logits_TV = (student_TH @ head_VH.T).float()
    log_q_TK = renormalised_from_logits(logits_TV.gather(-1, ids_TK))
    return token_mean(forward_kl_terms(log_p_TK, log_q_TK).sum(-1), len(student_TH))


@torch.no_grad()
def _teacher_top_k(k: int, teacher_TH: Tensor, head_VH: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's renormalised log-probabilities on its top k, and which tokens those are."""
    log_p_TV = (teacher_TH @ head_VH.T).float().log_softmax(-1)
    ids_TK = top_k_ids(log_p_TV, k)
    return restrict(log_p_TV, ids_TK, "renormalise"), ids_TK


def liger_full(chunk_size: int, student_TH: Tensor, teacher_TH: Tensor, head_VH: Tensor) -> Tensor:
    """Liger's chunked distillation in plain PyTorch; it makes the head's gradient too."""
    module = importlib.import_module("liger_kernel.chunked_loss")
    # beta 0 is KL(teacher || student); compiling is for the GPU.
    loss = module.LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0,
        weight_soft_loss=1.0,
        beta=0.0,
        compiled=student_TH.is_cuda,
        chunk_size=chunk_size,
    )
    labels_T = torch.zeros(len(student_TH), dtype=torch.long, device=student_TH.device)
    return loss(student_TH, head_VH, teacher_TH, head_VH, labels_T)


def trl_full(student_TH: Tensor, teacher_TH: Tensor, head_VH: Tensor) -> Tensor:
    """TRL's chunked divergence: both projected in tiles, and once more in the backward pass."""
    module = importlib.import_module("trl.kernels.chunked_divergence")
    # The 0.0 is its beta: KL(teacher || student).
    divergence_T, _ = module.ChunkedDivergenceFunction.apply(
        student_TH, head_VH, None, teacher_TH, head_VH, None, 0.0
    )
    return divergence_T.mean()


def trl_top_k(k: int, student_TH: Tensor, teacher_TH: Tensor, head_VH: Tensor) -> Tensor:
    """TRL's chunked loss on candidates of the teacher, which its server would send."""
    module = importlib.import_module(
        "trl.experimental.async_distillation.async_distillation_trainer"
    )
    log_p_TK, ids_TK = _teacher_top_k(k, teacher_TH, head_VH)
    total, *_ = module._chunked_jsd_loss(
        student_TH,
        head_VH,
        lm_head_bias=None,
        logit_scale=1.0,
        final_logit_softcapping=None,
        target_ids=ids_TK,
        teacher_target_logps=log_p_TK,
        valid_candidate_mask=torch.ones_like(ids_TK, dtype=torch.bool),
        beta=0.0,
        temperature=1.0,
        add_tail_bucket=False,
        teacher_id_idx=None,
        num_teachers=0,
        chunk_size=TRL_CHUNK,
    )
    return total / len(student_TH)


def contestants(k: int) -> dict[str, dict[str, Loss]]:
    """Who can be measured here, by support; for a peer that is not installed, how to install it."""
    found: dict[str, dict[str, Loss]] = {
        "top_k": {
            "ours": functools.partial(ours_top_k, k),
            "plain": functools.partial(plain_top_k, k),
        },
        "full": {"ours": ours_full, "plain": plain_full},
    }
    if version_of("trl") is not None:
        found["top_k"]["trl"] = functools.partial(trl_top_k, k)
        found["full"]["trl"] = trl_full
    if version_of("liger-kernel") is not None:
        found["full"]["liger"] = functools.partial(liger_full, 1024)
        found["full"]["liger, chunks of 128"] = functools.partial(liger_full, 128)
    for package in ("trl", "liger-kernel"):
        if version_of(package) is None:
            console.print(f"{package} is not installed and left out; pip install 'rcsd\\[bench]'")
    return found


def inputs(num: int, hidden: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random hidden states of student and teacher, which are near each other, and a head."""
    device = device_here()
    generator = torch.Generator(device).manual_seed(0)
    like: dict[str, Any] = {"device": device, "generator": generator}
    student_TH = torch.randn(num, hidden, **like)
    teacher_TH = student_TH + 0.3 * torch.randn(num, hidden, **like)
    head_VH = torch.randn(vocabulary, hidden, **like) * 2 / hidden**0.5
    dtype = dtype_on(device)
    return student_TH.to(dtype).requires_grad_(), teacher_TH.to(dtype), head_VH.to(dtype)


def learned(loss: Loss, given: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The loss and its gradient in the student's hidden states."""
    student_TH = given[0]
    student_TH.grad = None
    value = loss(*given)
    value.backward()
    assert student_TH.grad is not None
    return value.detach(), student_TH.grad


def check_agreement(losses: Mapping[str, Loss], given: tuple[Tensor, Tensor, Tensor]) -> None:
    """Refuse to compare what is not the same.

    Raises:
        ValueError: If a contestant's loss or gradient differs from the plain one's.
    """
    expected, expected_TH = learned(losses["plain"], given)
    tolerance = 1e-3 if given[0].dtype == torch.float32 else 5e-2
    for name, loss in losses.items():
        value, gradient_TH = learned(loss, given)
        # Norms in float32: a bfloat16 norm would itself be off by more.
        off = (gradient_TH - expected_TH).float().norm() / expected_TH.float().norm()
        if abs(value - expected) > tolerance * expected or off > tolerance:
            raise ValueError(
                f"{name}: loss {value:.6g} instead of {expected:.6g}, gradient off by {off:.2g}"
            )


def measured(
    losses: Mapping[str, Loss], given: tuple[Tensor, Tensor, Tensor], repetitions: int
) -> dict[str, Any]:
    """Seconds in turn with the product, relative to it; memory beside it."""
    device = given[0].device
    check_agreement(losses, given)  # warms up, too

    def product() -> Tensor:
        with torch.no_grad():
            return linear(given[0], given[2])

    calls: dict[str, Callable[[], object]] = {
        PRODUCT: product,
        **{name: functools.partial(learned, loss, given) for name, loss in losses.items()},
    }
    memory = {name: allocated_peak_mib(call, device) for name, call in calls.items()}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for name in alternating(list(calls), repetitions):
        found[name].append({"seconds": seconds_of(calls[name], device), "memory_mib": memory[name]})
    middle = {name: medians(rows) for name, rows in found.items()}
    return {
        name: {
            "repetitions": rows,
            "medians": middle[name],
            "products": ratios(middle[name], middle[PRODUCT])["seconds"],
        }
        for name, rows in found.items()
    }


def main(
    vocabulary: Annotated[str, typer.Option(help="Sizes V.")] = "49152,151936",
    tokens: Annotated[int, typer.Option(min=1, help="Positions T.")] = 512,
    hidden: Annotated[int, typer.Option(min=1, help="Width H.")] = 1024,
    top_k: Annotated[int, typer.Option(min=2, help="Support K.")] = 20,
    repetitions: Annotated[int, typer.Option(min=1, help="Of every contestant.")] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write it all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, once: does it run?")] = False,
) -> None:
    """The loss alone, beside peers, the plain sibling and the one unavoidable product."""
    sizes = [int(size) for size in vocabulary.split(",")]
    if quick:
        sizes, tokens, hidden, repetitions = [4096], 64, 64, 1
    losses = contestants(top_k)
    results = []
    for size in sizes:
        given = inputs(tokens, hidden, size)
        for support, group in losses.items():
            found = measured(group, given, repetitions)
            results.append({"vocabulary": size, "support": support, "contestants": found})
    show(
        f"Loss and gradient: T {tokens}, H {hidden}, K {top_k}; time in products [T, H] x [H, V]",
        ["support", "V", "", "seconds", "products", "MiB"],
        [
            [
                result["support"],
                result["vocabulary"],
                name,
                row["medians"]["seconds"],
                row["products"],
                row["medians"]["memory_mib"],
            ]
            for result in results
            for name, row in result["contestants"].items()
        ],
    )
    record = {
        "benchmark": "loss",
        **environment(),
        "settings": {
            "vocabulary": sizes,
            "tokens": tokens,
            "hidden": hidden,
            "top_k": top_k,
            "repetitions": repetitions,
        },
        "results": results,
    }
    write_json(json_file, record)


if __name__ == "__main__":
    run_command(main)
