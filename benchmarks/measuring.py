"""What every benchmark shares: the machine's record, timing, peak memory, medians, tables, JSON."""

import ctypes
import gc
import importlib.metadata
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from rcsd.models.cpu_linear import linear

MIB = 2**20
PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl", "liger-kernel")

# TRL warns of what is experimental in it, which is what we measure.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

console = Console(width=None if sys.stdout.isatty() else 120)


def run_command(main: Callable[..., None]) -> None:
    """Run a script's function by its command line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()


def device_here() -> torch.device:
    """The accelerator that contestants run on, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_on(device: torch.device) -> torch.dtype:
    """What weights are kept in: bfloat16 on a GPU, float32 on a CPU."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def environment() -> dict[str, Any]:
    """Hardware and versions that a number was measured with."""
    return {"hardware": hardware(), "versions": versions()}


def hardware() -> dict[str, Any]:
    """CPU, cores, threads, memory, and the GPU where there is one."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "gpu_memory_mib": (
            torch.cuda.get_device_properties(0).total_memory // MIB
            if torch.cuda.is_available()
            else None
        ),
    }


def versions() -> dict[str, str | None]:
    """Python, the libraries (None: not installed) and the revision of this repository."""
    return {
        "python": platform.python_version(),
        **{package: version_of(package) for package in PACKAGES},
        "rcsd": _revision(),
    }


def version_of(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """Git's revision of this repository, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""The time that passes; or the process's own on the processor, which leaves out what others do, so
that contestants can be compared on a busy machine. With one thread: threads that wait spin."""


class Stopwatch:
    """Seconds of named phases, added up; the device is waited for at both ends."""

    clock: str = "wall"
    """Which of `CLOCKS` all stopwatches of a process go by."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count what is inside as part of a phase."""
        synchronise(self._device)
        began = CLOCKS[Stopwatch.clock]()
        try:
            yield
        finally:
            synchronise(self._device)
            self._seconds[phase] += CLOCKS[Stopwatch.clock]() - began

    def wrapped(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose calls count as part of a phase."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(phase):
                return function(*args, **kwargs)

        return timed

    def taken(self) -> dict[str, float]:
        """The seconds since the last call, by phase."""
        seconds = dict(self._seconds)
        self._seconds.clear()
        return seconds


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """How long one call takes."""
    watch = Stopwatch(device)
    with watch("call"):
        function()
    return watch.taken()["call"]


class PeakMemory:
    """The highest memory since it was started, above the level at its start.

    On a GPU what PyTorch allocated. On a CPU the resident memory of the process: its high-water
    mark, which Linux can put back to the present level. Elsewhere the highest of the process's life
    counts, which is right in a fresh process alone.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self._start = torch.cuda.memory_allocated(device)
            return
        if sys.platform == "linux":
            # What was freed but not given back would hide what is allocated next.
            ctypes.CDLL(None).malloc_trim(0)
            with suppress(OSError):  # where it is not allowed, as elsewhere
                Path("/proc/self/clear_refs").write_text("5")
        self._start = _resident("VmRSS")

    def mib(self) -> float:
        """Its height, in MiB."""
        if self._device.type == "cuda":
            return (torch.cuda.max_memory_allocated(self._device) - self._start) / MIB
        return (_resident("VmHWM") - self._start) / MIB


def allocated_peak_mib(function: Callable[[], object], device: torch.device) -> float:
    """The most that PyTorch holds at once during a call, above the level before it, in MiB.

    Exact and the same each time, where the process's memory depends on what was freed before; but
    slow, so nothing is timed in the same call.
    """
    if device.type == "cuda":
        memory = PeakMemory(device)
        function()
        return memory.mib()
    activities = [ProfilerActivity.CPU]
    with _silent_errors(), profile(activities=activities, profile_memory=True) as profiled:
        function()
    kineto: Any = profiled.profiler and profiled.profiler.kineto_results
    changes = [event for event in kineto.events() if event.name() == "[memory]"]
    ordered = sorted(changes, key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in ordered), default=0) / MIB


@contextmanager
def _silent_errors() -> Iterator[None]:
    """Nothing on the process's error stream: the profiler's library writes lines on it."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _resident(field: str) -> int:
    """Resident memory of this process in bytes: VmRSS, the present, or VmHWM, the highest."""
    found = _field(Path("/proc/self/status"), field)
    if found is not None:
        return int(found.split()[0]) * 1024
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def _field(file: Path, name: str) -> str | None:
    """The value of a line ``name: value``, or None."""
    if not file.is_file():
        return None
    lines = (line.partition(":") for line in file.read_text("utf-8").splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), None)


def alternating(names: Sequence[str], repetitions: int) -> Iterator[str]:
    """All names in every repetition; who begins changes, so that drift meets all alike."""
    for repetition in range(repetitions):
        start = repetition % len(names)
        yield from (*names[start:], *names[:start])


def medians(repetitions: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each quantity over repetitions."""
    return {
        name: statistics.median(repetition[name] for repetition in repetitions)
        for name in repetitions[0]
    }


def ratios(peer: Mapping[str, float], ours: Mapping[str, float]) -> dict[str, float | None]:
    """The peer's quantity over ours, where both have it; above 1: ours needs less.

    None where ours needs nothing that could be measured.
    """
    return {
        name: value / ours[name] if ours[name] > 0 else None
        for name, value in peer.items()
        if name in ours
    }


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large square matrix product; the best of several.

    By PyTorch's own library or by oneDNN, whichever `rcsd.models.cpu_linear` takes here.
    """
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = min(seconds_of(lambda: linear(a, b), device) for _ in range(6))
    return 2 * size**3 / best


def memory_rate(device: torch.device) -> float:
    """Bytes a second of reading far more than the caches hold; the best of several."""
    num_bytes = 4 * 2**30 if device.type == "cuda" else 2**29
    matrix = torch.ones(num_bytes // 4 // 4096, 4096, device=device)
    vector = torch.ones(4096, device=device)
    return num_bytes / min(seconds_of(lambda: matrix @ vector, device) for _ in range(6))


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; numbers with three significant digits, None as a dash."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*map(_shown, row))
    console.print(table)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def write_json(file: Path | None, record: Mapping[str, Any]) -> None:
    """Write a benchmark's record where one is asked for."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
