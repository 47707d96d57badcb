"""What holds for every test: no network, nobody's cache, the same examples each time."""

import os

# Before anything imports the hub's client. HF_HUB_OFFLINE=0 lets tests marked `network` reach it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("rcsd", derandomize=True, deadline=None)
hypothesis.settings.load_profile("rcsd")

# Tiny tensors gain nothing from threads, and sums keep their order.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched models and cached analyses of a test go to its own folder."""
    monkeypatch.setenv("RCSD_CACHE", str(tmp_path / "cache"))
