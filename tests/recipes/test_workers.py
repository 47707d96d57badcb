"""Steps run after those that they need, here or in separate processes."""

import os
import re
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from tests.support.launched import SERVER, codes, terminate, wait_for
from tests.support.steps import nap, note, talk

from rcsd.distributed import Interrupts, Terminated
from rcsd.errors import DataError, RunError
from rcsd.recipes import workers
from rcsd.recipes.workers import Step, StepProgress, run_steps


def touch(progress: StepProgress, path: Path, needs: tuple[str, ...]) -> None:
    """Leave a file, if those that it needs exist."""
    missing = [need for need in needs if not (path.parent / need).is_file()]
    assert not missing, f"{path.name} ran before {missing}"
    path.write_text("done")
    progress(1, 1, "")


def refuse(progress: StepProgress) -> None:
    raise DataError("the row is malformed", "a.jsonl", 3)


def touching(folder: Path, name: str, *needs: str) -> Step:
    return Step(name, needs, [folder / name], touch, (folder / name, needs))


def steps_in(folder: Path) -> list[Step]:
    return [
        touching(folder, "report", "train", "write"),
        touching(folder, "train", "write"),
        touching(folder, "write"),
        touching(folder, "probe"),
    ]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_step_runs_once_after_those_that_it_needs(tmp_path: Path, jobs: int) -> None:
    (tmp_path / "probe").write_text("earlier")
    calls: list[tuple[str, int, int, str]] = []
    run_steps(steps_in(tmp_path), jobs, lambda *call: calls.append(call))
    stages = [stage for stage, *_ in calls]
    assert sorted(stages) == ["probe", "report", "train", "write"]
    assert stages.index("write") < stages.index("train") < stages.index("report")
    # A step whose files exist is skipped.
    assert ("probe", 1, 1, "done before") in calls
    assert (tmp_path / "probe").read_text() == "earlier"


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_error_of_a_step_arrives_as_it_was_and_what_is_done_stays(
    tmp_path: Path, jobs: int
) -> None:
    failing = Step("fail", ("write",), (), refuse)
    after = touching(tmp_path, "after", "fail")
    with pytest.raises(DataError, match=r"a\.jsonl:3: the row is malformed"):
        run_steps([*steps_in(tmp_path), failing, after], jobs, lambda *_: None)
    assert (tmp_path / "write").is_file()
    assert not (tmp_path / "after").exists()


# Signals. The main process is a copy of one that has imported everything; its workers are new ones.


def main(folder: Path, steps: list[Step], grace: float) -> None:
    """Run the steps in a group of their own, where no shell ignores signals; note an error."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    workers.GRACE_SECONDS = grace
    try:
        run_steps(steps, 2, lambda *_: None)
    except RunError as error:
        (folder / "error").write_text(str(error))
        sys.exit(2)


def started(folder: Path, *steps: Step, grace: float = 60) -> tuple[BaseProcess, list[int]]:
    """The main process, and the processes of its steps once all have begun."""
    process = SERVER.Process(target=main, args=(folder, list(steps), grace))
    process.start()
    for step in steps:
        wait_for(folder / step.name, " ")
    return process, [int((folder / step.name).read_text()) for step in steps]


def assert_all_end(process: BaseProcess, pids: list[int], code: int) -> None:
    """The main process ends with a code, and its workers within seconds."""
    assert codes([process]) == [code]
    ends = time.monotonic() + 20
    while left := [pid for pid in pids if psutil.pid_exists(pid)]:
        assert time.monotonic() < ends, f"{left} are left"
        time.sleep(0.05)


def napping(folder: Path, name: str, heeds: bool = True) -> Step:
    return Step(name, (), (), nap, (folder / name, heeds))


ENDS = [
    ("KILL", "parent", -9),
    ("TERM", "group", 143),
    *(
        pytest.param(*row, marks=pytest.mark.slow)
        for row in [
            ("TERM", "parent", 143),
            ("HUP", "parent", 129),
            ("INT", "parent", 130),
            ("HUP", "group", 129),
            ("INT", "group", 130),
            ("KILL", "group", -9),
        ]
    ),
]


@pytest.mark.parametrize(("name", "target", "code"), ENDS)
def test_workers_end_with_the_main_process_and_its_exit_code_names_the_signal(
    tmp_path: Path, name: str, target: str, code: int
) -> None:
    process, pids = started(tmp_path, napping(tmp_path, "one"), napping(tmp_path, "two"))
    assert process.pid is not None
    (os.kill if target == "parent" else os.killpg)(process.pid, signal.Signals[f"SIG{name}"])
    assert_all_end(process, pids, code)


@pytest.mark.parametrize(
    ("number", "which", "message"),
    [
        (9, 0, r"the process of step 'one' was ended by signal 9 \(SIGKILL\), probably for want"),
        pytest.param(15, 0, r"of step 'one' was ended by signal 15 \(SIG", marks=pytest.mark.slow),
        pytest.param(9, 1, r"of a waiting step was ended by signal 9", marks=pytest.mark.slow),
        pytest.param(15, 1, r"of a waiting step was ended by signal 15", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_is_killed_ends_the_others_and_the_error_names_step_and_signal(
    tmp_path: Path, number: int, which: int, message: str
) -> None:
    idle = Step("two", (), (), note, (tmp_path / "two",))
    process, pids = started(tmp_path, napping(tmp_path, "one"), idle)
    time.sleep(0.5 * which)  # it is told that its step is done
    os.kill(pids[which], number)
    assert_all_end(process, pids, 2)
    assert re.search(message, (tmp_path / "error").read_text())


@pytest.mark.slow
def test_a_worker_that_does_not_end_on_sigterm_is_killed(tmp_path: Path) -> None:
    process, pids = started(tmp_path, napping(tmp_path, "one", heeds=False), grace=0.5)
    terminate(process)
    assert_all_end(process, pids, 143)


@pytest.mark.slow
def test_a_worker_goes_on_where_nobody_reads_its_progress(tmp_path: Path) -> None:
    def progress(*_: object) -> None:
        wait_for(tmp_path / "talk", "said")

    run_steps([Step("talk", (), (), talk, (tmp_path / "talk",))], 2, progress)
    assert (tmp_path / "talk").read_text() == "said"


@pytest.mark.slow
def test_a_fault_of_ours_in_a_worker_brings_its_traceback(tmp_path: Path) -> None:
    wrong = Step("wrong", (), (), note, (None,))
    with pytest.raises(RuntimeError, match="in note"):
        run_steps([wrong], 2, lambda *_: None)


def test_a_signal_that_a_step_did_not_act_on_ends_the_steps_after_it(tmp_path: Path) -> None:
    """As at the end of a training, which is then done."""

    def finish(progress: StepProgress) -> None:
        with Interrupts().handling_signals():
            os.kill(os.getpid(), signal.SIGTERM)

    after = touching(tmp_path, "after", "finish")
    with pytest.raises(Terminated) as stopped:
        run_steps([Step("finish", (), (), finish), after], 1, lambda *_: None)
    assert stopped.value.code == 143
    assert not (tmp_path / "after").exists()
