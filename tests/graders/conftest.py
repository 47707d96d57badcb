"""A judge at a server on loopback."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.judge_server import JudgeServer, judge_at, names

from rcsd.graders.judge import ModelJudge


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    served = JudgeServer(names)
    yield served
    served.close()


@pytest.fixture
def judge(server: JudgeServer, tmp_path: Path) -> Callable[..., ModelJudge]:
    return lambda **changes: judge_at(server, tmp_path / "judgements.sqlite", **changes)
