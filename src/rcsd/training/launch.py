"""Start the processes of a run by torchrun, and join their process group."""

import importlib.util
import logging
import os
from collections.abc import Sequence
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from rcsd import config
from rcsd.distributed import GRACE_SECONDS, Interrupts, Ranks, end_with_parent, exit_in_words
from rcsd.errors import ConfigError, RunError

_LAUNCHER = "RCSD_LAUNCHER"
"""Environment variable of ranks: process id of the launcher that they end with."""


def launch(num: int, arguments: Sequence[str]) -> int:
    """Run the command line in several processes of this machine, by torchrun.

    Returns the exit code of the first process that failed, or 0. One that exits with an error comes
    before one that was killed: where both end at once, the second is a consequence. Raises RunError
    if processes were killed, and none exited with an error.
    """
    # Otherwise torchrun gives each process one thread, with a warning.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num)))
    # The processes print their errors themselves.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        os.environ[_LAUNCHER] = str(os.getpid())
        options = ["--standalone", f"--nproc-per-node={num}", f"--shutdown-timeout={GRACE_SECONDS}"]
        options += ["--log-dir", os.devnull]  # else a temporary folder stays
        run(parse_args([*options, "-m", "rcsd", *arguments]))
    except ChildFailedError as error:
        rank, first = min(error.failures.items(), key=lambda f: (f[1].exitcode < 0, f[1].timestamp))
        if first.exitcode < 0:
            raise RunError(
                f"process {rank} {exit_in_words(first.exitcode)}; go on with --resume"
            ) from error
        return first.exitcode
    except SignalException as error:
        return 128 + error.sigval
    finally:
        os.environ.pop(_LAUNCHER, None)
    return 0


def is_main() -> bool:
    """True on the main process, by the launcher's variables."""
    return os.environ.get("RANK", "0") == "0"


def build_accelerator(settings: config.Config) -> tuple[Accelerator, Ranks]:
    """Devices, precision, trackers and ranks, from the configuration and torchrun's variables.

    Raises ConfigError if a tracker is not installed, or the launcher asks for another sharding.
    """
    for name in settings.trackers:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"trackers: {name} is not installed; pip install {name}")
    if launcher := os.environ.get(_LAUNCHER):
        end_with_parent(int(launcher))
    precision = settings.precision or "no"
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        # Of a run before in this process; accelerate refuses another precision than that one's.
        AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=precision,
        log_with=list(settings.trackers) or None,
        project_dir=str(settings.out),
        step_scheduler_with_optimizer=False,
        # Without a device accelerate overlooks the other processes unless it is told.
        cpu=not torch.accelerator.is_available() and "WORLD_SIZE" in os.environ,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(seconds=settings.processes.timeout_seconds))
        ],
    )
    refuse_other_sharding(accelerator.distributed_type)
    lockstep = settings.processes.sharding == "fsdp"
    if lockstep and accelerator.num_processes == 1:
        raise ConfigError(
            "processes.sharding: fsdp shards weights among processes, and there is one; start more "
            "with --processes N, or leave it out"
        )
    places = accelerator.process_index, accelerator.num_processes
    return accelerator, Ranks(*places, Interrupts(only_at_collectives=lockstep), lockstep)


def refuse_other_sharding(kind: DistributedType) -> None:
    """Refuse sharding that a launcher configures, with a ConfigError that says what to do instead.

    DeepSpeed runs backward passes and steps itself, and a step here has any number of
    micro-batches, repeated where memory runs out.
    """
    if kind in (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM):
        raise ConfigError(
            f"the launcher asks for {kind.value}; launch plain processes (accelerate launch "
            "--multi_gpu, or torchrun), and for sharded weights set processes.sharding: fsdp in "
            "the run's file"
        )
