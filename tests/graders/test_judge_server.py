"""A judge's model behind an address: servers that are busy, away, or something else."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.judge_server import ANSWER, EXAMPLE, JudgeServer

from rcsd.errors import RunError
from rcsd.graders.judge import ModelJudge

Made = Callable[..., ModelJudge]


@pytest.mark.parametrize(
    "fault",
    [
        (429, "slow down", {"Retry-After": "0"}),
        (409, "locked"),
        (400, "odd", {"x-should-retry": "true"}),
        (500, "oops"),
        "drop",
        "hang",
    ],
)
def test_a_server_that_is_busy_or_breaks_off_is_asked_again(
    judge: Made, server: JudgeServer, fault: Any
) -> None:
    server.faults.extend([fault, fault])
    made = judge(read_timeout_seconds=0.2, max_concurrent=1)
    [said] = made.judgements([ANSWER])
    assert said.score == 0.75
    assert made.metrics()["judge/num_attempts"] == 5
    assert made.metrics()["judge/num_calls"] == 3


def test_a_server_says_when_it_is_asked_again_and_whether(judge: Made, server: JudgeServer) -> None:
    server.faults.append((503, "away", {"Retry-After": "0.2"}))
    began = time.monotonic()
    judge(max_concurrent=1).judgements([ANSWER])
    assert time.monotonic() - began >= 0.2
    server.faults.append((503, "gone", {"x-should-retry": "false"}))
    with pytest.raises(RunError, match="refused with 503"):
        judge(max_concurrent=1, seed=1).judgements([ANSWER])


def test_a_server_that_stays_away_is_an_error_and_what_came_is_kept(
    judge: Made, server: JudgeServer
) -> None:
    made = judge(max_concurrent=1, patience_seconds=0.1)
    server.faults.extend([None, None, *[(503, "away")] * 30])
    with pytest.raises(RunError, match=r"no answer after .* 503: away.*replies so far are in the"):
        made.judgements([ANSWER])
    server.faults.clear()
    num_asked = len(server.asked)
    again = judge()
    assert again.judgements([ANSWER])[0].score == 0.75
    assert len(server.asked) == num_asked + 1
    assert again.metrics()["judge/num_cached"] == 2


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "judge.api_key_variable"),
        (402, "no credit"),
        (403, "may not use this model"),
        (404, "judge.url or judge.model is wrong"),
        (400, "see what it says"),
    ],
)
def test_a_refusal_is_said_at_the_first_call_and_nothing_more_is_asked(
    judge: Made, server: JudgeServer, status: int, remedy: str
) -> None:
    server.faults.extend([(status, "no <b>")] * 9)
    with pytest.raises(RunError, match=rf"refused with {status}: no <b>.*{remedy}|{remedy}"):
        judge(max_concurrent=2).judgements([ANSWER] * 3)
    assert len(server.asked) <= 2


def test_a_limit_that_no_prompt_can_meet_is_said_at_the_first_call(
    judge: Made, server: JudgeServer
) -> None:
    said = "'max_tokens' is too large: 1024. This model's maximum context length is 512 tokens"
    server.faults.extend([(400, said), None, (400, said)])
    made = judge(max_concurrent=1)
    with pytest.raises(RunError, match="maximum context length is 512"):
        made.judgements([ANSWER])
    [answered] = made.judgements([ANSWER])  # once it has served, it is that prompt
    assert answered.reasons == ("", "too long", "")


def test_something_else_than_a_chat_server_is_an_error_but_later_garbage_is_unscored(
    judge: Made, server: JudgeServer
) -> None:
    server.faults.append((200, "<html>login</html>"))
    with pytest.raises(RunError, match="not a chat server's: Invalid JSON"):
        judge(max_concurrent=1).judgements([ANSWER])
    html = (200, "<html>late</html>")
    server.faults.extend([None, html, {"choices": []}, html, html])
    [said] = judge(max_concurrent=1).judgements([ANSWER])
    assert said.verdicts == (True, None, None)
    assert set(said.reasons[1:]) == {"garbage"}


def test_no_more_requests_are_in_flight_than_allowed_and_order_is_kept(
    judge: Made, server: JudgeServer
) -> None:
    server.delay_seconds = 0.02
    answers = [(EXAMPLE, f"iron {n}" if n % 2 else f"tin {n}") for n in range(8)]
    said = judge(max_concurrent=4).judgements(answers)
    assert [each.verdicts[0] for each in said] == [bool(n % 2) for n in range(8)]
    assert 1 < server.most_at_once <= 4
