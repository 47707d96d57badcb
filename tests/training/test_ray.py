"""On a Ray cluster: the numbers of one process, also where workers are killed."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from tests.support.tiny import tiny_folder
from tests.training.test_trainer import trajectory, weights

from rcsd import config
from rcsd.cli import run as cli
from rcsd.errors import ConfigError, RunError
from rcsd.io import read_rows
from rcsd.runs import RunFolder
from rcsd.training.ray import Task, train_on

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
CLOSED = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's name for the loopback address
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
RUN = {
    "model": {"path": "model", "training": {"type": "full"}},
    "data": {"type": "world", "num_examples": 12},
    "method": {"type": "distill"},
    "optim": {"lr": 1e-4, "warmup_steps": 2},
    "sampling": {"max_tokens": 12},
    **{"steps": 30, "examples_per_step": 4, "save_every_steps": 4, "out": "one"},
}
has_ray = find_spec("ray") is not None


def needs_ray(test: Any) -> Any:
    """A slow test, where Ray is installed."""
    return pytest.mark.slow(pytest.mark.skipif(not has_ray, reason="Ray is not installed")(test))


def waited_for(true: Callable[[], Any], process: "subprocess.Popen[str] | None" = None) -> Any:
    """What a condition gives once it holds, while a process runs."""
    deadline = time.monotonic() + 240
    while not (found := true()):
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, "it ended before"
        time.sleep(0.01)
    return found


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def unused_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Head:
    """A cluster of this machine: two workers of one CPU each."""

    def __init__(self) -> None:
        port = unused_port()
        self.address = f"127.0.0.1:{port}"
        words = ["start", "--head", "--block", "--num-cpus=2", f"--port={port}"]
        words += ["--include-dashboard=false", "--node-ip-address=127.0.0.1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *words],
            env=os.environ | CLOSED | QUIET,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        waited_for(lambda: is_listening(port))

    def workers(self, title: str) -> list[psutil.Process]:
        """Of the cluster's processes those that Ray gave such a title."""
        found = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[:1] == [title]:
                    found.append(process)
        return found

    def end(self) -> None:
        own = psutil.Process(self._process.pid)
        for process in (own, *own.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._process.wait(60)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    head = Head()
    yield head
    head.end()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where commands are started: a model, a run."""
    folder = tmp_path_factory.mktemp("ray")
    tiny_folder(folder / "model")
    (folder / "run.yaml").write_text(yaml.safe_dump(RUN))
    return folder


def started(folder: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "rcsd", *words],
        cwd=folder,
        env=os.environ | CLOSED | QUIET | {"RCSD_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def on_cluster(head: Head, folder: Path, *words: str, workers: int = 2) -> Any:
    """A training that was started on the cluster."""
    ray = ("--ray", head.address, "--workers", str(workers))
    return started(folder, "train", "run.yaml", *words, *ray)


def ended(process: "subprocess.Popen[str]", code: int = 0) -> str:
    said, _ = process.communicate(timeout=400)
    assert process.returncode == code, said
    return said


def steps(run: Path) -> list[dict[str, float]]:
    return trajectory(RunFolder(run))


def written(run: Path) -> tuple[bytes, bytes]:
    """Completions and weights."""
    return (run / "completions.jsonl").read_bytes(), weights(RunFolder(run))


@pytest.fixture(scope="module")
def on_two(head: Head, place: Path) -> Path:
    """A run on two workers that nobody kills."""
    ended(on_cluster(head, place, "out=two"))
    return place / "two"


@needs_ray
def test_two_workers_take_the_steps_of_one_process(place: Path, on_two: Path) -> None:
    ended(started(place, "train", "run.yaml"))
    for row, other in zip(steps(place / "one"), steps(on_two), strict=True):
        assert other == pytest.approx(row, rel=1e-5, abs=1e-5)
    assert written(place / "one")[0] == written(on_two)[0]
    assert json.loads((on_two / "run.json").read_text())["config"]["out"] == "two"
    assert not list(place.glob(".two*"))


@needs_ray
def test_a_run_survives_the_kills_of_workers(head: Head, place: Path, on_two: Path) -> None:
    process, run = on_cluster(head, place, "out=killed"), place / "killed"
    # The main worker, which writes, and the other one.
    for num_rows, which in ((6, 0), (18, 1)):
        waited_for(lambda num=num_rows: len(read_rows(run / "metrics.jsonl")) >= num, process)
        workers = sorted(head.workers("ray::RayTrainWorker"), key=lambda worker: worker.pid)
        assert len(workers) == 2
        workers[which].send_signal(signal.SIGKILL)
        waited_for(lambda killed=workers[which]: not killed.is_running(), process)
    assert ended(process).count("the workers were started again") == 2
    assert steps(run) == steps(on_two)
    assert written(run) == written(on_two)


@needs_ray
def test_what_a_user_must_mend_is_said_once(head: Head, place: Path) -> None:
    data = "data={type: jsonl, path: none.jsonl}"
    said = ended(on_cluster(head, place, "out=wrong", data), 2)
    assert said.count("none.jsonl: there is no such file") == 1
    assert "Traceback" not in said
    said = ended(on_cluster(head, place, "out=x", workers=3), 2)
    assert "its machines have: CPU=2" in said


@needs_ray
def test_sigterm_ends_a_run_that_can_go_on(head: Head, place: Path, on_two: Path) -> None:
    process, run = on_cluster(head, place, "out=ended"), place / "ended"
    waited_for(lambda: len(read_rows(run / "metrics.jsonl")) >= 6, process)
    process.send_signal(signal.SIGTERM)
    assert "Traceback" not in ended(process, 143)
    waited_for(lambda: not head.workers("ray::RayTrainWorker"))
    assert len(read_rows(run / "metrics.jsonl")) < RUN["steps"]
    ended(on_cluster(head, place, "out=ended", "--resume"))
    assert steps(run) == steps(on_two)


@needs_ray
def test_a_local_cluster_listens_on_the_loopback_address_alone() -> None:
    code = """
import psutil
from rcsd.training.ray import _connected
with _connected("local"):
    own = psutil.Process()
    found = [c for p in (own, *own.children(recursive=True)) for c in p.net_connections("inet")]
    hosts = {c.laddr.ip.removeprefix("::ffff:") for c in found if c.status == "LISTEN"}
    print("hosts", *sorted(hosts))
"""
    command, env = [sys.executable, "-c", code], os.environ | QUIET
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert "hosts 127.0.0.1\n" in done.stdout, done.stdout + done.stderr


def train(address: str, folder: Path) -> None:
    settings = config.parse_config(RUN | {"out": str(folder / "run")})
    train_on(address, None, settings, False, lambda *_: None, lambda _: None)


def test_how_to_install_ray_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'rcsd\[ray\]'"):
        train("auto", tmp_path)


@needs_ray
@pytest.mark.parametrize("address", ["nonsense", "host:", "ray://host", "127.0.0.1:PORT"])
def test_an_address_where_nobody_listens_is_refused_at_once(address: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(RunError, match=r"cannot connect: .* Expected local, .* or the HOST:PORT"):
        train(address.replace("PORT", str(unused_port())), tmp_path)
    assert time.monotonic() - began < 5


def test_a_worker_without_the_folder_the_version_or_the_runs_files_says_so(tmp_path: Path) -> None:
    settings, installed = config.parse_config(RUN), metadata.version("rcsd")
    shared, here = tmp_path / "a" / "shared", Path.cwd()
    for folder, version, message in (
        (tmp_path, "99.0", "and 99.0 here"),
        (tmp_path / "none", installed, r"does not see the same .*none"),
        (here, installed, "does not see the same .*shared as the .* all machines share"),
    ):
        with pytest.raises(RunError, match=message):
            Task(settings, False, shared, None, folder, None, version).enter()


def test_workers_need_a_cluster_and_processes_this_machine(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN))
    with pytest.raises(ConfigError, match="--workers is for --ray"):
        cli.train(tmp_path / "run.yaml", workers=2)
    with pytest.raises(ConfigError, match="take --workers"):
        cli.train(tmp_path / "run.yaml", processes=2, ray="local")
