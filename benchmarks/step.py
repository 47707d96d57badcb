"""One optimizer step, sampling to optimizer: ours beside TRL's and that of RCSD's released code.

All contestants do the same work, and it is checked: random prompts of exactly the lengths given,
exactly as many new tokens each, at temperature 1, a loss on the top k, the same adapters. Each runs
in fresh processes, in turn. A peer's settings are tried first, and its fastest is taken.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from limits import limit_of, record_of
from measuring import (
    CLOCKS,
    Stopwatch,
    alternating,
    console,
    device_here,
    dtype_on,
    environment,
    matmul_rate,
    medians,
    memory_rate,
    ratios,
    run_command,
    show,
    version_of,
    write_json,
)
from worker import Job
from workload import MODELS, Work

PEERS = ("trl", "published")
PHASES = ("analysis", "sampling", "teacher", "student", "optimizer", "step")


class WorkerError(Exception):
    """A contestant failed; the message is the end of what it said."""


def result_of(job: Job) -> dict[str, Any]:
    """What a worker measured, in a process of its own.

    Raises:
        WorkerError: If it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "job.json", Path(folder) / "result.json"
        job.write(asked)
        worker = str(Path(__file__).with_name("worker.py"))
        process = subprocess.run(
            [sys.executable, worker, str(asked), str(answer)],
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode != 0:
            raise WorkerError(f"{job.contestant}: {process.stderr.strip()[-2000:]}")
        return json.loads(answer.read_text("utf-8"))


def variants_of(peer: str, work: Work) -> list[dict[str, Any]]:
    """The settings of a peer that may be its fastest; all do the same work.

    Of TRL bf16 goes by the device, and vLLM samples for nobody here.
    """
    if peer == "published":
        return [{"gradient_checkpointing": False}, {"gradient_checkpointing": True}]
    num = work.num_completions
    sizes = [size for size in (num, num // 2, 1) if size > 0 and num % size == 0]
    choices = [(size, False) for size in dict.fromkeys(sizes)] + [(num, True)]
    return [
        {"per_device_train_batch_size": size, "gradient_checkpointing": checkpointing}
        for size, checkpointing in choices
    ]


def fastest(
    peer: str, work: Work, clock: str, quick: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The peer's fastest settings, and what was tried; with ``quick`` its first, untried.

    Raises:
        WorkerError: If all failed.
    """
    variants = variants_of(peer, work)
    if quick:
        return variants[0], []
    tried = []
    for variant in variants:
        try:
            seconds = result_of(Job(peer, work, variant, 1, clock))["steps"][0]["step_seconds"]
            tried.append({"settings": variant, "step_seconds": seconds})
            console.print(f"tried {peer} {variant}: {seconds:.3g} s")
        except WorkerError as error:  # such as too little memory for the whole batch at once
            tried.append({"settings": variant, "error": str(error)})
    worked = [trial for trial in tried if "step_seconds" in trial]
    if not worked:
        raise WorkerError(tried[0]["error"])
    return min(worked, key=lambda trial: trial["step_seconds"])["settings"], tried


def measured(
    work: Work, choices: dict[str, Any], repetitions: int, num_steps: int, clock: str
) -> dict[str, dict[str, Any]]:
    """Every repetition and the medians of all contestants, who take turns."""
    found: dict[str, dict[str, Any]] = {}
    for name in alternating(list(choices), repetitions):
        result = result_of(Job(name, work, choices[name], num_steps, clock))
        mine = found.setdefault(name, {"settings": result["settings"], "repetitions": []})
        for step in result["steps"]:
            spent = step["step_seconds"] - step.get("analysis_seconds", 0.0)
            step |= {"step_without_analysis_seconds": spent, "memory_mib": result["memory_mib"]}
            mine["repetitions"].append(step)
    for mine in found.values():
        mine["medians"] = medians(mine["repetitions"])
        mine["tokens_per_second"] = work.num_tokens / mine["medians"]["step_seconds"]
    return {name: found[name] for name in choices}


def compared(contestants: dict[str, dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Each peer's medians over ours, without the units in the names."""
    ours = contestants["ours"]["medians"]
    return {
        name: {
            quantity.rsplit("_", 1)[0]: value
            for quantity, value in ratios(contestant["medians"], ours).items()
        }
        for name, contestant in contestants.items()
        if name != "ours"
    }


def limited(contestants: dict[str, dict[str, Any]], work: Work) -> dict[str, Any]:
    """The machine's rates, the least seconds there, and each contestant's fraction of the limit."""
    device = device_here()
    flops, rate = matmul_rate(device, dtype_on(device)), memory_rate(device)
    limit = limit_of(work, flops, rate, dtype_on(device))
    least = {**asdict(limit), "step_without_analysis": limit.step}
    return {
        "matmul_flops_per_second": flops,
        "read_bytes_per_second": rate,
        **record_of(work, limit),
        "fractions": {
            name: {
                phase: seconds / contestant["medians"][f"{phase}_seconds"]
                for phase, seconds in least.items()
            }
            for name, contestant in contestants.items()
        },
    }


def print_tables(record: dict[str, Any]) -> None:
    """The record's numbers, for people."""
    contestants, fractions = record["contestants"], record["limit"]["fractions"]
    model, clock = record["settings"]["work"]["model"], record["settings"]["clock"]
    units = [f"{phase}_seconds" for phase in PHASES]
    show(
        f"Seconds of a step of {model}, {clock} clock, medians",
        ["", *PHASES, "MiB", "tokens/s"],
        [
            [
                name,
                *[c["medians"].get(unit) for unit in units],
                c["medians"]["memory_mib"],
                c["tokens_per_second"],
            ]
            for name, c in contestants.items()
        ],
    )
    shown = (*PHASES[1:], "step_without_analysis", "memory")
    show(
        "The peer's over ours: above 1, ours needs less",
        ["", *shown],
        [[name, *[found.get(n) for n in shown]] for name, found in record["ratios"].items()],
    )
    phases = ("sampling", "teacher", "student", "step_without_analysis")
    show(
        "Fraction of the limit: least seconds on this machine over seconds",
        ["", *phases],
        [[name, *[found[p] for p in phases]] for name, found in fractions.items()],
    )


def present(peers: Sequence[str]) -> list[str]:
    """The peers that are installed; for the others, how to install them.

    Raises:
        BadParameter: If there is no such peer.
    """
    unknown = [peer for peer in peers if peer not in PEERS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r}; there are {', '.join(PEERS)}")
    missing = "trl" in peers and version_of("trl") is None
    if missing:
        console.print("trl is not installed and left out; pip install 'rcsd\\[bench]'")
    return [peer for peer in peers if not (peer == "trl" and missing)]


def main(
    peers: Annotated[str, typer.Option(help="trl, published, or both.")] = "trl,published",
    model: Annotated[str, typer.Option(help=", ".join(MODELS))] = "smollm2",
    teacher_prefix: Annotated[int, typer.Option(min=2, help="Tokens of its prompt.")] = 768,
    student_prefix: Annotated[int, typer.Option(min=1, help="Tokens of its prompt.")] = 128,
    completions: Annotated[int, typer.Option(min=1, help="Of each example (G).")] = 4,
    completion_tokens: Annotated[int, typer.Option(min=2, help="Of each completion.")] = 128,
    examples: Annotated[int, typer.Option(min=1, help="Of the step.")] = 1,
    top_k: Annotated[int, typer.Option(min=2, help="Support of the loss.")] = 20,
    analysis_tokens: Annotated[
        int, typer.Option(min=0, help="Of the analysis, which ours has cached; in the prefix.")
    ] = 128,
    lora_rank: Annotated[int, typer.Option(min=1, help="Rank; alpha is twice it.")] = 64,
    repetitions: Annotated[int, typer.Option(min=1, help="Processes of each contestant.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of each process.")] = 2,
    clock: Annotated[
        str, typer.Option(help="wall; or cpu, for a busy machine, with OMP_NUM_THREADS=1.")
    ] = "wall",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of our run, as in rcsd train.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write it all.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One step each, peers' settings untried: a first look.")
    ] = False,
) -> None:
    """One optimizer step: ours beside TRL's SDFTTrainer and RCSD's released code."""
    if model not in MODELS:
        raise typer.BadParameter(f"--model {model}; there are {', '.join(MODELS)}")
    if clock not in CLOCKS or (clock == "cpu" and device_here().type == "cuda"):
        raise typer.BadParameter("--clock: wall, or where there is no GPU cpu")
    Stopwatch.clock = clock
    if not max(student_prefix, analysis_tokens) < teacher_prefix:
        raise typer.BadParameter("--teacher-prefix must exceed --student-prefix and the analysis")
    work = Work(
        model,
        teacher_prefix,
        student_prefix,
        examples,
        completions,
        completion_tokens,
        top_k,
        analysis_tokens,
        lora_rank,
    )
    repetitions, steps = (1, 1) if quick else (repetitions, steps)
    here = environment()
    choices: dict[str, Any] = {"ours": list(set_ or [])}
    tried: dict[str, Any] = {}
    try:
        for peer in present(peers.split(",")):
            choices[peer], tried[peer] = fastest(peer, work, clock, quick)
        contestants = measured(work, choices, repetitions, steps, clock)
    except WorkerError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(1) from error
    for peer, trials in tried.items():
        contestants[peer]["tried"] = trials
    record = {
        "benchmark": "step",
        **here,
        "settings": {
            "work": asdict(work),
            "repetitions": repetitions,
            "steps": steps,
            "clock": clock,
        },
        "contestants": contestants,
        "ratios": compared(contestants),
        "limit": limited(contestants, work),
    }
    print_tables(record)
    write_json(json_file, record)


if __name__ == "__main__":
    run_command(main)
