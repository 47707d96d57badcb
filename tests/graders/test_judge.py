"""A model as the judge, against a server on loopback."""

import json
import math
import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tests.support.judge_server import ANSWER, EXAMPLE, JudgeServer, chat, data_of, model_section

from rcsd import config
from rcsd.cli.judge import judging_lines
from rcsd.config.base import parse
from rcsd.errors import ConfigError, DataError, RunError
from rcsd.graders.judge import ModelJudge
from rcsd.graders.judge.budget import job_name
from rcsd.graders.judge.cache import ReplyCache
from rcsd.graders.judge.server import ChatReply
from rcsd.io import digest
from rcsd.runs import RunFolder
from rcsd.training.record import write_or_check_record

GOOD = '{"criterion": 1, "explanation": "yes", "met": true}'
Made = Callable[..., ModelJudge]

# What is asked, and what verdicts amount to


@pytest.mark.parametrize(
    ("asks", "num_calls"),
    [("criterion", 3), ({"type": "several", "criteria_per_call": 2}, 2)],
)
def test_verdicts_on_each_criterion_make_the_score_of_the_rubric(
    judge: Made, server: JudgeServer, asks: Any, num_calls: int
) -> None:
    said = judge(asks=asks).judgements([ANSWER, (EXAMPLE, "Iron and gold, which errs.")])
    assert [each.verdicts for each in said] == [(True, False, False), (True, True, True)]
    assert [each.score for each in said] == [0.75, 0.5]  # 3/4, (3 + 1 - 2)/4
    assert said[0].reasons == ("", "", "")
    assert len(server.asked) == 2 * num_calls
    assert {path for path, _, _ in server.requests} == {"/v1/chat/completions"}


@pytest.mark.parametrize(("score", "expected"), [(10, 1), (1, 0), (5.5, 0.5)])
def test_a_holistic_score_is_scaled_to_0_and_1(
    judge: Made, server: JudgeServer, score: float, expected: float
) -> None:
    server.meets = lambda *_: score
    [said] = judge(asks="holistic").judgements([ANSWER])
    assert (said.score, said.verdicts, said.bounds) == (expected, (), (expected, expected))
    prompt = server.asked[0]["messages"][0]["content"]
    assert "criterion 3, -2 points\nErrs." in prompt


def test_a_request_says_model_limit_temperature_seed_and_schema(
    judge: Made, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-of-nobody")
    judge(
        temperature=0.5,
        max_tokens=99,
        seed=7,
        api_key_variable="JUDGE_KEY",
        extra={"reasoning_effort": "low", "max_thinking_tokens": 9},
        limit_name="max_completion_tokens",
    ).judgements([ANSWER])
    body = server.asked[0]
    assert {key: body[key] for key in body if key not in ("messages", "response_format")} == {
        "model": "m", "temperature": 0.5, "max_completion_tokens": 99, "seed": 7,
        "reasoning_effort": "low", "max_thinking_tokens": 9,
    }  # fmt: skip
    assert body["response_format"]["json_schema"]["schema"]["required"][-1] == "met"
    assert {key for *_, key in server.requests} == {"Bearer sk-of-nobody"}
    judge(response_format="text").judgements([ANSWER])
    assert "response_format" not in server.asked[-1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": "ftp://x"}, "expected an address"),
        ({"url": "http://x/v1/chat/completions"}, "leave /chat/completions out"),
        ({"extra": {"seed": 3}}, "seed: set by fields"),
        ({"extra": {"api_key": "sk-x"}}, "api_key: .*api_key_variable"),
        ({"asks": "severl"}, "did you mean 'several'"),
        ({"templates": "/nowhere"}, r"judge\.templates: .* is not a folder"),
        ({"api_key_variable": "NOT_SET"}, r"judge\.api_key_variable: NOT_SET is not set"),
    ],
)
def test_a_section_that_means_nothing_is_refused(
    server: JudgeServer, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        ModelJudge(model_section(server, **changes))


@pytest.mark.parametrize(
    ("reply", "reason", "num_calls"),
    [
        ("It might be.", "no verdict: It might be.", 4),
        (chat(GOOD[:30], "length"), "cut off", 4),
        (chat(None), "empty", 4),
        (chat(f"The criterion is not met. {GOOD}"), "contradicted", 4),
        (chat(GOOD.replace("yes", "one or two sentences")), "quoted from the prompt", 4),
        (chat(GOOD, "content_filter"), f"refused: {GOOD}"[:60], 3),
        (chat(None, refusal="I cannot judge this."), "refused: I cannot judge this.", 3),
        ((400, '{"error": {"code": "content_filter"}}'), "refused", 3),
        ((400, "This model's maximum context length is 512 tokens"), "too long", 3),
    ],
)
def test_what_stays_unscored_has_its_reason_and_bounds(
    judge: Made, server: JudgeServer, reply: Any, reason: str, num_calls: int
) -> None:
    made = judge(max_concurrent=1)
    server.faults.append(reply)
    if num_calls == 4:  # the second attempt comes after the other criteria
        server.faults.extend([None, None, reply])
    [said] = made.judgements([ANSWER])
    assert said.verdicts == (None, False, False)
    assert math.isnan(said.score)
    assert said.bounds == (0.0, 0.75)
    assert said.reasons[0].startswith(reason)
    assert said.reasons[1:] == ("", "")
    assert len(server.asked) == num_calls
    assert made.metrics()["judge/num_unscored"] == 1
    assert made.metrics()["judge/num_retried"] == num_calls - 3


def test_what_a_first_reply_leaves_open_is_asked_once_more_with_another_seed(
    judge: Made, server: JudgeServer
) -> None:
    rows = [{"criterion": 1, "met": True}, {"criterion": 3, "met": "unsure"}]
    server.faults.append(json.dumps({"verdicts": rows}))
    made = judge(asks={"type": "several"})
    [said] = made.judgements([ANSWER])
    assert said.verdicts == (True, False, False)
    asked = [data_of(body["messages"][0]["content"])[1] for body in server.asked]
    assert [list(each) for each in asked] == [[1, 2, 3], [2, 3]]
    assert [body["seed"] for body in server.asked] == [0, 1]
    assert made.metrics()["judge/num_retried"] == made.metrics()["judge/num_failed"] == 1


# Budget, cache, repeats


def test_no_call_is_made_beyond_the_budget_and_what_is_left_says_so(
    judge: Made, server: JudgeServer
) -> None:
    made = judge(max_calls=4)
    said = made.judgements([ANSWER, (EXAMPLE, "Gold.")])
    assert said[0].score == 0.75
    assert said[1].verdicts == (False, None, None)
    assert said[1].reasons == ("", "budget", "budget")
    assert made.metrics()["judge/num_unscored/budget"] == 2
    assert len(server.asked) == 4
    more = judge(max_calls=2).judgements([ANSWER, (EXAMPLE, "Gold.")])
    assert [each.score for each in more] == [0.75, 0.25]  # cached ones cost no call


def judge_in_process(url: str, cache: Path, first: int, limits: dict[str, Any]) -> None:
    tree = {"type": "model", "url": url, "model": "m", "cache": cache, **limits}
    section = parse(config.Judging, {"judge": tree}, "judge.yaml").judge
    assert isinstance(section, config.ModelJudge)
    ModelJudge(section).judgements([(EXAMPLE, f"Answer {n}.") for n in range(first, first + 4)])


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"max_calls": 7}, 7),
        # Seven of 420 each, and those in flight in two other processes.
        ({"max_total_tokens": 2900}, 9),
        ({"max_cost": 3e-4, "prices": {"prompt": 0.1, "completion": 0.2}}, 9),
    ],
)
def test_a_budget_holds_over_all_processes_of_a_job(
    server: JudgeServer, tmp_path: Path, limits: dict[str, Any], most: int
) -> None:
    context = multiprocessing.get_context("fork")
    cache, limits = tmp_path / "c.sqlite", {"max_concurrent": 1, **limits}
    workers = [
        context.Process(target=judge_in_process, args=(server.url, cache, first, limits))
        for first in (0, 10, 20)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert 7 <= len(server.asked) <= most


def test_ranks_of_one_launcher_are_one_job_and_other_commands_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert job_name().startswith(f"{os.getpid()}:")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert job_name().startswith(f"{os.getppid()}:")
    one = job_name()
    monkeypatch.setenv("MASTER_PORT", "29501")  # another job, as Ray starts it
    assert job_name() != one


def test_attempts_that_time_out_are_counted(judge: Made, server: JudgeServer) -> None:
    server.faults.append("hang")
    made = judge(read_timeout_seconds=0.2, max_concurrent=1)
    assert made.judgements([ANSWER])[0].score == 0.75
    assert made.metrics()["judge/num_timeouts"] == 1


def test_a_cost_without_prices_is_refused(server: JudgeServer) -> None:
    with pytest.raises(ConfigError, match="max_cost: needs prices"):
        model_section(server, max_cost=1)


@pytest.mark.parametrize(
    ("changes", "goes_on"),
    [({"max_calls": 100, "url": "http://gpu9:8000/v1"}, True), ({"temperature": 1.0}, False)],
)
def test_a_run_is_resumed_with_a_larger_budget_of_its_judge_and_not_with_another_judge(
    tmp_path: Path, changes: dict[str, Any], goes_on: bool
) -> None:
    def run_with(**more: Any) -> config.Config:
        judge = {"type": "model", "url": "http://gpu1:8000/v1", "model": "m", "max_calls": 1}
        reward = {"type": "rubric", "judge": judge | more}
        tree = {
            "model": {"path": "builtin:micro", "training": {"type": "full"}},
            "data": {"type": "world", "split": "train", "num_examples": 2},
            "method": {"type": "grpo", "rewards": [reward]},
            "optim": {"lr": 1e-3},
            "completions_per_example": 2,
            "steps": 1,
            "out": str(tmp_path / "run"),
        }
        return parse(config.Config, tree, "run.yaml")

    folder = RunFolder(tmp_path / "run")
    write_or_check_record(folder, run_with(), [EXAMPLE], {}, resume=False)
    with nullcontext() if goes_on else pytest.raises(RunError, match="another method"):
        write_or_check_record(folder, run_with(**changes), [EXAMPLE], {}, resume=True)


def test_another_sample_is_another_judgement_on_the_same_account(
    judge: Made, server: JudgeServer
) -> None:
    server.meets = lambda criterion, answer, seed: seed == 0
    made = judge()
    assert made.judgements([ANSWER])[0].verdicts == (True, True, True)
    assert made.resampled(1).judgements([ANSWER])[0].verdicts == (False, False, False)
    assert made.metrics()["judge/num_calls"] == 6
    judge().resampled(1).judgements([ANSWER])
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "change", [{"model": "n"}, {"temperature": 1.0}, {"max_tokens": 50}, {"seed": 1}]
)
def test_a_changed_parameter_is_asked_anew_and_a_changed_address_is_not(
    judge: Made, server: JudgeServer, change: dict[str, Any]
) -> None:
    assert [each.score for each in judge().judgements([ANSWER] * 5)] == [0.75] * 5
    judge(url=server.url.replace("127.0.0.1", "localhost")).judgements([ANSWER])
    assert len(server.asked) == 3
    judge(**change).judgements([ANSWER])
    assert len(server.asked) == 6


def test_a_reply_without_a_verdict_is_asked_for_again_by_the_next_run(
    judge: Made, server: JudgeServer
) -> None:
    server.faults.extend(["It might be."] * 2)
    first = judge(max_concurrent=1, asks={"type": "several"})
    assert set(first.judgements([ANSWER])[0].reasons) == {"no verdict: It might be."}
    again = judge(max_concurrent=1, asks={"type": "several"})
    assert again.judgements([ANSWER])[0].score == 0.75
    assert len(server.asked) == 3


def test_a_second_attempt_that_gave_the_verdict_is_served_to_the_next_run(
    judge: Made, server: JudgeServer
) -> None:
    server.meets = lambda criterion, answer, seed: seed == 1
    server.faults.append("It might be.")
    first = judge(max_concurrent=1, asks={"type": "several"}).judgements([ANSWER])
    assert judge(asks={"type": "several"}).judgements([ANSWER]) == first
    assert first[0].verdicts == (True, True, True)
    assert len(server.asked) == 2


def test_a_cached_reply_that_gives_no_verdict_is_not_served(
    judge: Made, server: JudgeServer, tmp_path: Path
) -> None:
    judge().judgements([ANSWER])
    with sqlite3.connect(tmp_path / "judgements.sqlite") as connection:
        row = json.dumps({"text": "It might be.", "finish": "stop"})
        connection.execute("UPDATE reply_by_request SET reply = ?", (row,))
    connection.close()
    assert judge().judgements([ANSWER])[0].score == 0.75
    assert len(server.asked) == 6


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_reply_that_a_server_takes_for_reasoning_is_read(
    judge: Made, server: JudgeServer, name: str
) -> None:
    thought = chat("\n", **{name: f"It names iron.\n{GOOD}"})
    draft = chat(None, **{name: f'{{"criterion": 2, "met": true}}? {"Hm. " * 9}'})
    server.faults.extend([thought, draft])
    [said] = judge(max_concurrent=1).judgements([ANSWER])
    assert said.verdicts == (True, False, False)
    assert len(server.asked) == 4


def test_a_judge_that_cannot_tell_is_not_asked_again_and_counted_apart(
    judge: Made, server: JudgeServer
) -> None:
    server.meets = lambda criterion, *_: "cannot tell" if "gold" in criterion else True
    made = judge(asks={"type": "criterion", "cannot_tell": True})
    [said] = made.judgements([ANSWER])
    assert said.verdicts == (True, None, True)
    assert said.reasons == ("", "cannot tell", "")
    metrics = made.metrics()
    assert (metrics["judge/num_failed"], metrics["judge/num_retried"]) == (0, 0)
    assert metrics["judge/num_unscored/cannot_tell"] == 1
    assert judge(asks=made.asks).judgements([ANSWER]) == [said]
    assert len(server.asked) == 3


def test_cut_prompts_cut_replies_and_the_cost_are_counted_and_said(
    judge: Made, server: JudgeServer
) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 20}
    server.faults.append({**chat(GOOD, "length"), "usage": usage})
    made = judge(max_concurrent=1, prices={"prompt": 1.0, "completion": 10.0})
    made.judgements([(EXAMPLE, "Iron rusts in wet air. " * 50)])
    metrics = made.metrics()
    assert (metrics["judge/num_cut_prompts"], metrics["judge/num_cut_replies"]) == (1, 1)
    tokens = metrics["judge/prompt_tokens"] + 10 * metrics["judge/completion_tokens"]
    assert metrics["judge/cost"] == pytest.approx(tokens / 1e6)
    lines = "\n".join(judging_lines(metrics))
    assert "counts fewer tokens than they have words: 1;" in lines
    assert "Replies that reached judge.max_tokens: 1." in lines
    assert "Cost by judge.prices: " in lines


def test_keys_and_addresses_stand_in_no_cache(
    judge: Made, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "a-secret-of-mine")
    judge(api_key_variable="JUDGE_KEY").judgements([ANSWER])
    content = b"".join(path.read_bytes() for path in tmp_path.glob("judgements.sqlite*"))
    parts = [part in content for part in (b"explanation", b"a-secret-of", server.url.encode())]
    assert parts == [True, False, False]


def write_replies(path: Path, first: int) -> None:
    cache = ReplyCache(path)
    for number in range(first, first + 100):
        cache.write(f"key {number}", ChatReply(f"{number}", "stop"))


def test_two_processes_and_several_threads_write_to_one_cache(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.sqlite"
    context = multiprocessing.get_context("fork")
    workers: list[Any] = [
        context.Process(target=write_replies, args=(path, first)) for first in (0, 50)
    ]
    workers += [threading.Thread(target=write_replies, args=(path, n)) for n in (100, 150)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers[:2]] == [0, 0]
    cache = ReplyCache(path)
    assert [cache.read(f"key {n}") for n in range(250)] == [
        ChatReply(str(n), "stop") for n in range(250)
    ]


KEYS = [digest(str(n)) for n in range(600)]


def damage(path: Path, start: int, num: int) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + num] = b"\xa5" * num
    path.write_bytes(content)


def filled_cache(path: Path) -> ReplyCache:
    cache = ReplyCache(path)
    for key in KEYS:
        cache.write(key, ChatReply(key * 4, "stop"))
    return cache


@pytest.mark.parametrize("opens_before", [True, False])
def test_a_damaged_page_of_a_cache_loses_its_replies_alone(
    tmp_path: Path, opens_before: bool
) -> None:
    path = tmp_path / "cache.sqlite"
    filled_cache(path)
    other = ReplyCache(path) if opens_before else None
    damage(path, 4096 * 10, 4096)
    cache = ReplyCache(path)
    with pytest.warns(UserWarning, match="damaged .* set aside as cache.sqlite.damaged-1"):
        found = [cache.read(key) for key in KEYS]
    lost = [key for key, reply in zip(KEYS, found, strict=True) if reply is None]
    assert 0 < len(lost) < 100
    for key in lost:
        cache.write(key, ChatReply("anew", "stop"))
    assert ReplyCache(path).read(lost[0]) == ChatReply("anew", "stop")
    if other is not None:  # another process goes on in the new file
        assert other.read(lost[-1]) == ChatReply("anew", "stop")


def test_a_damaged_row_of_a_cache_is_requested_again(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    cache = filled_cache(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE reply_by_request SET reply = '{\"te' WHERE key = ?", KEYS[:1])
    connection.close()
    with pytest.warns(UserWarning, match="replies that cannot be read are requested again"):
        assert cache.read(KEYS[0]) is None
    cache.write(KEYS[0], ChatReply("anew", "stop"))
    assert cache.read(KEYS[0]) == ChatReply("anew", "stop")
    assert cache.read(KEYS[1]) is not None


def test_a_cache_of_which_nothing_is_left_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"no database at all" * 1000)
    with pytest.warns(UserWarning, match="0 of its replies are kept"):
        cache = ReplyCache(path)
    cache.write(KEYS[0], ChatReply("anew", "stop"))
    assert cache.read(KEYS[0]) == ChatReply("anew", "stop")
    assert (tmp_path / "cache.sqlite.damaged-1").read_bytes().startswith(b"no database")


def test_a_cache_that_cannot_be_opened_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"no database at all" * 1000)
    with pytest.raises(DataError, match=r"text: the judge's cache: file is not a database"):
        ReplyCache(tmp_path / "text")
