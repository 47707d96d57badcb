"""A judge's model behind an address: servers that are busy, away, refuse, or are something else."""

import ast
import gzip
import inspect
import json
import os
import re
import signal
import ssl
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.judge_server import ANSWER, EXAMPLE, JudgeServer, chat, model_section

from rcsd import config, http
from rcsd.errors import ConfigError, RunError
from rcsd.graders import rewards
from rcsd.graders.judge import ModelJudge, cache, failures
from rcsd.graders.judge import judge as judge_module
from rcsd.graders.judge import server as server_module
from rcsd.types import Message

Made = Callable[..., ModelJudge]

GOOD = json.dumps({"criterion": 1, "explanation": "", "met": True})
POLICY = '{"error": {"message": "Rejected by our content policy.", "code": "content_policy"}}'
GROQ = '{"error": {"message": "Failed to generate JSON.", "code": "json_validate_failed"}}'
QUOTA = '{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'
NOW = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ANSWERS = [(EXAMPLE, f"iron {number}") for number in range(40)]


def is_about(text: str, fault: Any) -> Callable[[Any], Any]:
    """The fault of prompts that hold a text."""
    return lambda body: fault if text in body["messages"][0]["content"] else None


# What is asked again


@pytest.mark.parametrize(
    "fault",
    [
        *[(status, "slow down") for status in (408, 409, 425, 429, 500, 502, 503, 504, 529)],
        (429, "slow down", {"Retry-After": "0"}),
        (400, "odd", {"x-should-retry": "true"}),
        (200, '{"error": {"code": 502, "message": "upstream"}}'),
        (200, '{"error": {"code": "rate_limit_exceeded", "message": "slow"}}'),
        {"error": {"type": "overloaded_error", "message": "busy"}},
        {"choices": [{"error": {"code": 503}, "finish_reason": "error", "message": {}}]},
        (200, '{"choices": [{"message": {"content": "cut'),
        f"{NOW}Content-Length: 999\r\n\r\n{{".encode(),
        f"{NOW}Transfer-Encoding: chunked\r\n\r\n5\r\n{{".encode(),
        (200, b"not gzip", {"Content-Encoding": "gzip"}),
        "drop",
        "hang",
    ],
    ids=lambda fault: str(fault)[:40],
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


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"Retry-After": "2"}, 2, 2),
        ({"Retry-After": "0.25"}, 0.25, 0.25),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25, 0.25),
        ({"Retry-After": format_datetime(datetime.now(timezone.utc) + timedelta(9))}, 9e4, 8e5),
        *[({"Retry-After": text}, 0, 0) for text in ("-3", "soon", "nan", "inf", "99999 BC", "")],
        ({}, 0, 0),
    ],
)
def test_a_server_says_in_several_ways_how_long_to_wait(
    headers: dict[str, str], low: float, high: float
) -> None:
    assert low <= http._retry_after_seconds(httpx2.Headers(headers)) <= high


def test_the_wait_that_a_server_asks_for_is_kept(judge: Made, server: JudgeServer) -> None:
    server.faults.append((503, "away", {"Retry-After": "0.2"}))
    began = time.monotonic()
    judge(max_concurrent=1).judgements([ANSWER])
    assert time.monotonic() - began >= 0.2


# Bodies


@pytest.mark.parametrize(
    "fault",
    [
        (200, gzip.compress(json.dumps(chat(GOOD)).encode()), {"Content-Encoding": "gzip"}),
        f"{NOW}Transfer-Encoding: chunked\r\n\r\n{len(json.dumps(chat(GOOD))):x}\r\n"
        f"{json.dumps(chat(GOOD))}\r\n0\r\n\r\n".encode(),
        f"{NOW}Connection: close\r\n\r\n{json.dumps(chat(GOOD))}".encode(),
        chat([{"type": "text", "text": GOOD[:20]}, {"type": "text", "text": GOOD[20:]}]),  # pyright: ignore[reportArgumentType]
        chat([{"type": "thinking", "thinking": [{"text": "?"}]}, {"type": "text", "text": GOOD}]),  # pyright: ignore[reportArgumentType]
    ],
)
def test_compressed_and_chunked_bodies_and_contents_in_parts_are_read(
    judge: Made, server: JudgeServer, fault: Any
) -> None:
    server.faults.append(fault)
    [said] = judge(max_concurrent=1).judgements([ANSWER])
    assert said.verdicts == (True, False, False)


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
    assert all(reason.startswith("garbage: ") for reason in said.reasons[1:])


@pytest.mark.parametrize(
    ("refused", "sent"),
    [
        ((), ["json_schema", "json_schema"]),
        (("json_schema",), ["json_schema", "json_object", "json_object"]),
        (("json_schema", "json_object"), ["json_schema", "json_object", None, None]),
    ],
)
def test_a_format_that_a_server_refuses_is_replaced_for_the_rest_of_the_job(
    judge: Made, server: JudgeServer, refused: tuple[str, ...], sent: list[str | None]
) -> None:
    def format_in(body: Any) -> str | None:
        return body.get("response_format", {}).get("type")

    def fault(body: Any) -> Any:
        return (400, "response_format is unavailable") if format_in(body) in refused else None

    server.fault_of = fault
    made = judge(max_concurrent=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert made.judgements([ANSWER])[0].score == 0.75
        made.judgements([(EXAMPLE, "Gold.")])
    assert len(caught) == len(refused)
    assert [format_in(body) for body in server.asked[: len(sent)]] == sent
    assert len(server.asked) == 6 + len(refused)


# What is not asked again


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ((401, "no <b>"), "refused with 401: no <b>; .*judge.api_key_variable"),
        ((402, "no"), "no credit"),
        ((429, QUOTA), r"refused with 429: You exceeded .* \(insufficient_quota\); .*quota left"),
        ((200, QUOTA), "quota left"),
        ((200, '{"error": {"code": "invalid_api_key"}}'), "judge.api_key_variable"),
        ((403, "no"), "may not use this model"),
        ((404, "no"), "judge.url or judge.model is wrong"),
        ((400, "max_tokens: use max_completion_tokens"), "judge.limit_name"),
    ],
)
def test_a_wrong_key_address_or_account_is_said_at_the_first_call_and_nothing_more_is_asked(
    judge: Made, server: JudgeServer, fault: Any, remedy: str
) -> None:
    server.faults.extend([fault] * 9)
    with pytest.raises(RunError, match=remedy):
        judge(max_concurrent=1).judgements([ANSWER] * 3)
    assert len(server.asked) == 1


def test_a_limit_that_no_prompt_can_meet_is_said_at_the_first_call(
    judge: Made, server: JudgeServer
) -> None:
    said = "'max_tokens' is too large: 1024. This model's maximum context length is 512 tokens"
    server.faults.extend([(400, said), None, (400, said)])
    made = judge(max_concurrent=1)
    with pytest.raises(RunError, match="maximum context length is 512"):
        made.judgements([ANSWER])
    [answered] = made.judgements([ANSWER])  # once it has served, it is that prompt
    assert answered.reasons[1].startswith("too long: 400: ")


def test_a_tls_fault_is_said_at_the_first_attempt(judge: Made, server: JudgeServer) -> None:
    began = time.monotonic()
    with pytest.raises(RunError, match=r"whether it begins with http or https \(judge.url\)"):
        judge(url=server.url.replace("http", "https"), max_concurrent=1).judgements([ANSWER])
    assert time.monotonic() - began < 3
    for cause, remedy in [
        (ssl.SSLCertVerificationError("self-signed certificate"), "SSL_CERT_FILE"),
        (ssl.SSLEOFError("EOF occurred"), ""),
        (ConnectionRefusedError(111, "refused"), ""),
    ]:
        error = httpx2.ConnectError("failed")
        error.__cause__ = cause
        assert remedy in http._permanent_fault(error)
        assert bool(remedy) == bool(http._permanent_fault(error))
    assert http._permanent_fault(httpx2.UnsupportedProtocol("no"))


@pytest.mark.parametrize("fault", ["silence", "drip", (503, "away"), "drop", "refused"])
def test_a_request_has_one_deadline_over_all_its_attempts(
    judge: Made, server: JudgeServer, fault: Any
) -> None:
    server.fault_of = lambda body: fault
    made = judge(patience_seconds=0.5)
    if fault == "refused":
        server.close()
    began = time.monotonic()
    with pytest.raises(RunError, match=r"no answer after .*judge\.patience_seconds waits longer"):
        made.judgements([ANSWER])
    assert time.monotonic() - began < 2


# One prompt's trouble


TROUBLES = [
    ((400, POLICY), "refused: 400: Rejected by our content policy. (content_policy)"),
    ((403, "flagged by moderation"), "refused: 403: flagged by moderation"),
    ((413, "Payload"), "too long: 413: Payload"),
    ((400, "This model's maximum context length is 512 tokens"), "too long: 400: This model's"),
    ((400, GROQ), "garbage: 400: Failed to generate JSON. (json_validate_failed)"),
    ((200, POLICY), "refused: 400: Rejected"),
    *[((status, "odd"), f"failed: {status}: odd") for status in (400, 401, 403, 404, 405, 422)],
    ((503, "gone", {"x-should-retry": "false"}), "failed: 503: gone"),
    ((500, "oops"), "failed: no answer: 500: oops"),
    ((429, "slow", {"Retry-After": "3600"}), "failed: no answer: 429: slow"),
    ("drop", "failed: no answer: RemoteProtocolError"),
    ("silence", "failed: no answer: the server was silent"),
]


@pytest.mark.parametrize(("fault", "reason"), TROUBLES, ids=lambda each: str(each)[:40])
def test_one_prompts_trouble_is_unscored_with_its_reason_and_asked_again_by_the_next_command(
    judge: Made, server: JudgeServer, fault: Any, reason: str
) -> None:
    server.fault_of = is_about("tin", fault)
    answers = [ANSWER, (EXAMPLE, "Only tin."), (EXAMPLE, "Gold.")]
    # No later command ends at it, though it is the only thing left, unless it is the key's fault.
    for _ in range(1 if fault[0] in (401, 404) else 2):
        said = judge(max_concurrent=1, patience_seconds=0.4).judgements(answers)
        assert [each.score for each in (said[0], said[2])] == [0.75, 0.25]
        assert said[1].verdicts == (None, None, None)
        assert all(each.startswith(reason) for each in said[1].reasons)
    server.fault_of = lambda body: None
    num_asked, made = len(server.asked), judge()
    assert made.judgements(answers)[1].verdicts == (False, False, False)
    assert len(server.asked) == num_asked + 3
    assert made.metrics()["judge/num_cached"] == 6


@pytest.mark.parametrize(
    ("fault", "num_asked"),
    [((400, "odd"), 9), ((400, POLICY), 20), ((500, "oops", {"x-should-retry": "false"}), 9)],
)
def test_where_nothing_was_ever_replied_failures_alike_end_the_job(
    judge: Made, server: JudgeServer, fault: Any, num_asked: int
) -> None:
    server.fault_of = lambda body: fault
    with pytest.raises(RunError, match=r"requests in a row, for \d answers, failed alike; .*cache"):
        judge(max_concurrent=1).judgements(ANSWERS)
    assert len(server.asked) <= num_asked
    is_own = fault[1] == POLICY
    with nullcontext() if is_own else pytest.raises(RunError, match=f"refused with {fault[0]}"):
        judge(max_concurrent=1).judgements([ANSWER])  # a job of less


def test_after_a_reply_many_failures_alike_end_the_job_and_others_do_not(
    judge: Made, server: JudgeServer
) -> None:
    def made() -> ModelJudge:
        return judge(max_concurrent=1, asks={"type": "several"})

    made().judgements(ANSWERS[:1])
    server.fault_of = lambda body: (400, "odd")
    with pytest.raises(RunError, match=r"20 requests in a row, for 20 answers, .*400: odd"):
        made().judgements(ANSWERS)
    server.fault_of = lambda body: (400 + 5 * (len(server.asked) % 2), "odd")  # not alike
    judged = made().judgements(ANSWERS)
    assert [each.score for each in judged].count(0.75) == 1
    server.fault_of = lambda body: (400, POLICY)  # of each prompt, as the server says
    assert "refused" in made().judgements(ANSWERS)[-1].reasons[0]
    server.fault_of = lambda body: (429, QUOTA)
    with pytest.raises(RunError, match="no credit or quota left"):
        made().judgements(ANSWERS)


def test_a_server_that_goes_away_ends_the_job_and_what_came_is_kept(
    judge: Made, server: JudgeServer
) -> None:
    judge().judgements(ANSWERS[:2])
    server.close()
    made = judge(patience_seconds=0.5)
    with pytest.raises(RunError, match=r"no answer after .*refused.*replies so far are in the"):
        made.judgements(ANSWERS)
    assert made.judgements(ANSWERS[:2])[1].score == 0.75


# Interruptions


@pytest.mark.parametrize("fault", ["silence", "drip", (503, "x", {"Retry-After": "4"}), "refused"])
def test_ctrl_c_ends_within_two_seconds_and_keeps_the_replies_that_came(
    judge: Made, server: JudgeServer, fault: Any
) -> None:
    server.fault_of = is_about("tin", fault)
    if fault == "refused":
        judge().judgements([ANSWER])
        server.close()
    made = judge(max_concurrent=2)
    pressed = list[float]()

    def press() -> None:
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.5, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        made.judgements([ANSWER, (EXAMPLE, "Only tin.")])
    assert time.monotonic() - pressed[0] < 2
    assert judge(max_calls=1).judgements([ANSWER])[0].score == 0.75  # from the cache


def test_replies_that_arrived_are_handed_over_when_a_job_ends(server: JudgeServer) -> None:
    chat_server = server_module.ServerChat(model_section(server))
    server.faults.extend([chat(GOOD)] * 3)
    handed = list[str]()

    def on_reply(request: Any, reply: Any) -> None:
        time.sleep(0.3)  # the others arrive meanwhile
        handed.append(reply.text)
        if len(handed) == 1:
            raise KeyboardInterrupt

    requests = [
        server_module.Request([Message(role="user", content=str(n))], {}, seed=0) for n in range(3)
    ]
    with pytest.raises(KeyboardInterrupt):
        chat_server.ask(iter(requests), on_reply)
    assert len(handed) == 4  # that of the interruption once more, which does no harm


# Keys


KEY = "k3y/with+odd=chars"


@pytest.mark.parametrize("fault", [(401, f"wrong: Bearer {KEY}"), (200, f"<p>{KEY}</p>")])
def test_a_key_is_in_no_error_even_if_the_server_echoes_it_where_errors_are_cut(
    judge: Made, server: JudgeServer, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    monkeypatch.setenv("UNSUSPICIOUS", f" {KEY}\r\n")
    for padding in (0, 180, 290, 490):
        server.faults.append((fault[0], "-" * padding + fault[1]))
        with pytest.raises(RunError) as caught:
            judge(api_key_variable="UNSUSPICIOUS", max_concurrent=1).judgements([ANSWER])
        assert "k3y" not in "".join(traceback.format_exception(caught.value))
        server.faults.clear()
    assert {key for *_, key in server.requests} == {f"Bearer {KEY}"}


def test_an_echoed_key_is_in_no_cache_and_no_reason(
    judge: Made, server: JudgeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNSUSPICIOUS", KEY)
    echo = json.dumps({"criterion": 1, "explanation": f"You sent {KEY}.", "met": True})
    server.faults.extend([echo, (400, json.dumps({"error": {"message": f"odd {KEY}"}}))])
    [said] = judge(api_key_variable="UNSUSPICIOUS", max_concurrent=1).judgements([ANSWER])
    assert said.verdicts == (True, None, False)
    assert said.reasons[1] == "failed: 400: odd [redacted]"
    content = b"".join(path.read_bytes() for path in tmp_path.glob("judgements.sqlite*"))
    assert b"You sent [redacted]." in content
    assert b"k3y" not in content


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("k3y-one\r\nX-Other: 1", "white space or a character beyond ASCII"),
        ("Bearer k3y-two", "without 'Bearer'"),
        ("k3y-ключ", "beyond ASCII"),
        ("k3y\x00", "white space or a character"),
        (" \n", "is not set"),
    ],
)
def test_a_key_that_no_header_can_hold_is_refused_at_the_start(
    judge: Made, monkeypatch: pytest.MonkeyPatch, value: str, problem: str
) -> None:
    if "\x00" not in value:  # which no environment holds
        monkeypatch.setenv("ODD", value)
    else:
        monkeypatch.setattr(os, "environ", {**os.environ, "ODD": value})
    with pytest.raises(ConfigError, match=rf"judge\.api_key_variable: .*{problem}") as caught:
        judge(api_key_variable="ODD")
    assert "k3y" not in str(caught.value)


def test_a_key_in_place_of_its_variables_name_is_not_quoted(judge: Made) -> None:
    with pytest.raises(ConfigError, match="the name of a variable, not a key") as caught:
        judge(api_key_variable="k3y-1234567890")
    assert "k3y" not in str(caught.value)


# Settings


def test_every_setting_that_an_error_of_the_judge_names_exists() -> None:
    modules = (server_module, failures, judge_module, cache, rewards)
    nodes = [node for module in modules for node in ast.walk(ast.parse(inspect.getsource(module)))]
    texts = [str(node.value) for node in nodes if isinstance(node, ast.Constant)]
    named = {name for text in texts for name in re.findall(r"\bjudge\.(\w+)", text)}
    named |= set(re.findall(r"\{(?:self\.)?setting\}\.(\w+)", inspect.getsource(http)))
    assert {"api_key_variable", "url", "patience_seconds", "response_format"} <= named
    assert named - set(config.ModelJudge.model_fields) == set()


def test_no_more_requests_are_in_flight_than_allowed_and_order_is_kept(
    judge: Made, server: JudgeServer
) -> None:
    server.delay_seconds = 0.02
    answers = [(EXAMPLE, f"iron {n}" if n % 2 else f"tin {n}") for n in range(8)]
    said = judge(max_concurrent=4).judgements(answers)
    assert [each.verdicts[0] for each in said] == [bool(n % 2) for n in range(8)]
    assert 1 < server.most_at_once <= 4
