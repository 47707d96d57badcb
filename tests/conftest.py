"""What holds for every test: no network, nobody's cache, the same examples each time."""

import os
import sys

# Before anything imports the hub's client. HF_HUB_OFFLINE=0 lets tests marked `network` reach it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

from rcsd import cli, http
from rcsd.cli import terminal

hypothesis.settings.register_profile("rcsd", derandomize=True, deadline=None)
hypothesis.settings.load_profile("rcsd")

# Tiny tensors gain nothing from threads, and sums keep their order.
torch.set_num_threads(1)

# Servers of tests fail on purpose, and are asked again at once.
http.FIRST_PAUSE = 0.01


def pytest_configure(config: pytest.Config) -> None:
    """Where slow tests run too, hostile input has many cases."""
    if "not slow" not in config.option.markexpr:
        os.environ.setdefault("RCSD_NUM_CASES", "3000")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched models and cached analyses of a test go to its own folder."""
    monkeypatch.setenv("RCSD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def rcsd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Exit code, standard output and standard error of ``rcsd WORDS``, on wide lines."""
    for each in (terminal.console, terminal.errors):
        monkeypatch.setattr(each, "_width", 200)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rcsd", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 0
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err.replace("\n", "")

    return run
