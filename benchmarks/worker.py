"""One contestant in a fresh process, so that nobody's memory counts as another's.

    python benchmarks/worker.py JOB.json RESULT.json

The job says who does what how often (`Job`); the result holds the seconds of every step that was no
warm-up, and the peak of the memory over all of them, above the level after loading.
"""

import json
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measuring import PeakMemory, Stopwatch, device_here
from rcsd.cli.terminal import quieten_libraries
from workload import Work


@dataclass(frozen=True)
class Job:
    """What a process has to do.

    Args:
        contestant: ``ours``, ``trl`` or ``published``.
        work: The step.
        choice: A contestant's own settings: of ours the overrides, of a peer one of its variants.
        num_steps: Steps that count.
        clock: One of `CLOCKS`.
        num_warm_up: Steps before them, which do not.
    """

    contestant: str
    work: Work
    choice: Any
    num_steps: int
    clock: str = "wall"
    num_warm_up: int = 1

    def write(self, file: Path) -> None:
        """Write it for a worker."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_job(file: Path) -> Job:
    """The job of a file."""
    tree = json.loads(file.read_text("utf-8"))
    return Job(**{**tree, "work": Work(**tree["work"])})


def contestant_of(job: Job) -> Any:
    """Who does the job, loaded."""
    # Imported here: a peer may not be installed, and nobody should pay for another's imports.
    if job.contestant == "ours":
        from ours import Ours  # noqa: PLC0415

        return Ours(job.work, job.choice)
    if job.contestant == "trl":
        from trl_sdft import Trl  # noqa: PLC0415

        return Trl(job.work, job.choice)
    from published import Published  # noqa: PLC0415

    return Published(job.work, job.choice)


def done(job: Job) -> dict[str, Any]:
    """Seconds, tokens and memory of the job.

    Raises:
        ValueError: If a step did not learn from the tokens that it should.
    """
    Stopwatch.clock = job.clock
    contestant = contestant_of(job)
    memory = PeakMemory(device_here())
    steps = contestant.run(job.num_warm_up + job.num_steps)
    peak_mib = memory.mib()
    for step in steps:
        if step["tokens"] != job.work.num_tokens:
            raise ValueError(
                f"{job.contestant} learned from {step['tokens']} tokens, not {job.work.num_tokens}"
            )
    return {
        "settings": contestant.settings,
        "memory_mib": peak_mib,
        "steps": [
            {f"{phase}_seconds": value for phase, value in step.items() if phase != "tokens"}
            for step in steps[job.num_warm_up :]
        ],
    }


if __name__ == "__main__":
    quieten_libraries()
    warnings.simplefilter("ignore")  # of libraries; what is wrong raises
    Path(sys.argv[2]).write_text(json.dumps(done(read_job(Path(sys.argv[1])))), encoding="utf-8")
