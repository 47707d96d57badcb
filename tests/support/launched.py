"""Runs in processes of their own, which can be killed."""

import itertools
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from rcsd import config
from rcsd.training.batches import ShuffledBatches
from rcsd.training.trainer import run

PATIENCE_SECONDS = 120
SERVER = multiprocessing.get_context("forkserver")
# Once for all processes: they are copies of one that has imported everything.
SERVER.set_forkserver_preload(["rcsd.training.trainer", "tiny", "launched"])


def on_ranks(
    settings: Sequence[config.Config], resume: bool = False, prepare: Any = None, *arguments: Any
) -> list[BaseProcess]:
    """Start a run with one process for each of the settings, which may differ.

    Each process first calls ``prepare``, a function of a module, with its rank and the arguments.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank, one in enumerate(settings):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(settings), "MASTER_PORT": port}
        variables = {n: str(v) for n, v in place.items()} if len(settings) > 1 else {}
        arguments_of_rank = (variables, one, resume, prepare, (rank, *arguments))
        processes.append(SERVER.Process(target=_run, args=arguments_of_rank, daemon=True))
        processes[-1].start()
    return processes


def codes(processes: Sequence[BaseProcess]) -> list[int | None]:
    """Exit codes of all, none of which may hang."""
    ends = time.monotonic() + PATIENCE_SECONDS
    for process in processes:
        process.join(max(0.0, ends - time.monotonic()))
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
    assert not hanging, "a process hangs"
    return [process.exitcode for process in processes]


def wait_for(path: Path, text: str = "") -> None:
    """Until a file is there and holds a text."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not (path.is_file() and text in path.read_text()):
        assert time.monotonic() < ends, f"{path} is not written"
        time.sleep(0.005)


def before(
    owner: Any, method: str, do: Callable[[int], object], patch: pytest.MonkeyPatch | None = None
) -> None:
    """Call a function before each call of a method from now on, with the number of the call."""
    called, calls = getattr(owner, method), itertools.count(1)

    def patched(*args: Any, **kwargs: Any) -> Any:
        do(next(calls))
        return called(*args, **kwargs)

    (patch or pytest.MonkeyPatch()).setattr(owner, method, patched)


def slowly(rank: int) -> None:
    """Each step takes long enough for whoever watches the run to see it."""
    before(ShuffledBatches, "take", lambda _: time.sleep(0.2))


def terminate(process: BaseProcess, number: int = signal.SIGTERM) -> None:
    """Send a signal, as a scheduler does, or a terminal."""
    assert process.pid is not None
    os.kill(process.pid, number)


def _run(variables: Any, settings: Any, resume: bool, prepare: Any, arguments: Any) -> None:
    os.environ.update(variables | {"MASTER_ADDR": "127.0.0.1"})
    torch.set_num_threads(1)
    if prepare is not None:
        prepare(*arguments)
    run(settings, resume=resume)
