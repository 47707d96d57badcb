"""A model as the judge, against a server on loopback that says what it is told to."""

import json
import math
import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rcsd.graders.judge.injections import injections
from tests.support.judge_server import JudgeServer, chat, data_of
from tests.support.tiny import tiny_folder, tiny_tokenizer

from rcsd import config
from rcsd.config.base import parse
from rcsd.data.views import PromptTemplates
from rcsd.engines.scripted import ScriptedEngine
from rcsd.errors import ConfigError, DataError, RunError
from rcsd.graders.base import Judge
from rcsd.graders.build import build_judge
from rcsd.graders.code import CodeJudge
from rcsd.graders.judge import ChatReply, ModelJudge
from rcsd.graders.judge.cache import ReplyCache
from rcsd.graders.judge.cost import RateLimiter
from rcsd.graders.judge.local import LocalChat, inert_ids
from rcsd.graders.judge.prompt import boundary, build_conversation, defused, reply_schema
from rcsd.graders.judge.reading import read_score, read_verdicts
from rcsd.graders.judge.server import ServerChat
from rcsd.graders.rewards import RubricReward
from rcsd.runs import RunFolder
from rcsd.training.record import check_same_run, create_run
from rcsd.types import Completion, Conversation, Criterion, Example, Rubric

RUBRIC = Rubric((Criterion("Names iron.", 3), Criterion("Names gold.", 1), Criterion("Errs.", -2)))
EXAMPLE = Example("a", "Which metal rusts?", rubric=RUBRIC)
ANSWER = (EXAMPLE, "Iron does.")


def names(criterion: str, answer: str, seed: int) -> bool:
    """Whether the last word of the criterion stands in the answer."""
    return criterion.split()[-1].rstrip(".").casefold() in answer.casefold()


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    served = JudgeServer(names)
    yield served
    served.close()


def section(server: JudgeServer, **changes: Any) -> config.ModelJudge:
    tree = {"type": "model", "url": server.url, "model": "m", "patience_seconds": 5}
    judging = parse(config.Judging, {"judge": {**tree, **changes}}, "judge.yaml")
    assert isinstance(judging.judge, config.ModelJudge)
    return judging.judge


def judge_at(server: JudgeServer, tmp_path: Path, **changes: Any) -> ModelJudge:
    made = section(server, **{"cache": tmp_path / "judgements.sqlite", **changes})
    return ModelJudge.from_config(made, ServerChat(made, first_pause=0.01))


Made = Callable[..., ModelJudge]


@pytest.fixture
def judge(server: JudgeServer, tmp_path: Path) -> Made:
    return lambda **changes: judge_at(server, tmp_path, **changes)


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
    assert server.paths == {"/v1/chat/completions"}


@pytest.mark.parametrize(
    ("scale", "given", "expected"), [("1-10", 10, 1), ("1-10", 1, 0), ("0-100", 25, 0.25)]
)
def test_a_holistic_score_is_scaled_to_0_and_1(
    judge: Made, server: JudgeServer, scale: str, given: int, expected: float
) -> None:
    server.meets = lambda *_: given
    [said] = judge(asks={"type": "holistic", "scale": scale}).judgements([ANSWER])
    assert (said.score, said.verdicts, said.bounds) == (expected, (), (expected, expected))
    prompt = server.asked[0]["messages"][0]["content"]
    assert "criterion 3, -2 points\nErrs." in prompt


def test_points_are_shown_to_no_judge_of_single_criteria(judge: Made, server: JudgeServer) -> None:
    judge(asks={"type": "several"}).judgements([ANSWER])
    judge().judgements([ANSWER])
    assert not any("points" in body["messages"][0]["content"] for body in server.asked)


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
    assert server.keys == {"Bearer sk-of-nobody"}


def test_a_key_that_is_not_set_is_an_error_that_names_the_variable(judge: Made) -> None:
    with pytest.raises(ConfigError, match=r"judge\.api_key_variable: NOT_SET is not set"):
        judge(api_key_variable="NOT_SET")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"max_cost": 1}, "max_cost needs prices"),
        ({"url": "ftp://x"}, "expected an address"),
        ({"url": "http://x/v1?v=1"}, "without a user"),
        ({"url": "http://x/v1/chat/completions"}, "leave /chat/completions out"),
        ({"extra": {"seed": 3}}, "seed: set by fields"),
        ({"extra": {"api_key": "sk-x"}}, "api_key: .*api_key_variable"),
        ({"extra": {"headers": [{"Authorization": "x"}]}}, "Authorization: .*api_key_variable"),
        ({"asks": "severl"}, "did you mean 'several'"),
    ],
)
def test_a_section_that_means_nothing_is_refused(
    server: JudgeServer, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        section(server, **changes)


def test_the_section_chooses_the_judge(server: JudgeServer) -> None:
    assert isinstance(build_judge(parse(config.Judging, {"judge": "code"}, "").judge), CodeJudge)
    made = build_judge(section(server))
    assert isinstance(made, ModelJudge)
    assert isinstance(made, Judge)
    with pytest.raises(ConfigError, match=r"judge\.templates: .* is not a folder"):
        build_judge(section(server, templates="/nowhere"))


def test_own_words_replace_the_packaged_ones(judge: Made, tmp_path: Path) -> None:
    (tmp_path / "judge_data.jinja").write_text("<<<{{ boundary }} answer\nMine\n{{ boundary }}>>>")
    made = judge(templates=tmp_path)
    [request] = [made.request(call, [ANSWER]) for call in made.calls([ANSWER])][:1]
    assert "Mine" in request.conversation[0]["content"]
    assert made.about()["templates"] != judge().about()["templates"]


# Replies that are no verdict


def verdict(**row: Any) -> str:
    return json.dumps(row)


GOOD = verdict(criterion=1, explanation="yes", met=True)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"The set {{1, 2}} names it, so:\n\n{GOOD}\n",
        f"The answer names it:\n```json\n{GOOD}\n```\n",
        f'<think>First {{"criterion": 1, "met": false}}? No.</think>{GOOD}',
        f"It thinks aloud {{without}} a tag.</think>\n{GOOD}",
        '{"met": true}',
        '{"criterion": "1", "met": "Yes"}',
        "{'criterion': 1, 'explanation': 'it's there', 'met': True,}",
        '{"criterion": 1, "explanation": "the claim "x = 2" is right", "met": true}',
        f'{{"verdicts": [{GOOD}]}}',
        f"[{GOOD}]",
    ],
)
def test_a_verdict_is_found_in_what_stands_around_it(text: str) -> None:
    assert read_verdicts(ChatReply(text, "stop"), [1])[1].value is True


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("The criterion is met.", "no verdict: The criterion is met."),
        ('{"explanation": "yes"}', "no verdict"),
        (verdict(criterion=1, met="maybe"), "unclear: maybe"),
        (verdict(criterion=1, met=None), "unclear: None"),
        (verdict(criterion=1, met=1), "unclear: 1"),
        (verdict(criterion=1, met=0.7), "unclear"),
        (verdict(criterion=2, met=True), "another criterion: 2"),
        (verdict(criterion=0, met=True), "another criterion: 0"),
        (verdict(criterion=True, met=True), "another criterion: True"),
        (GOOD + GOOD, "several verdicts"),
        (GOOD + verdict(criterion=1, met=False), "several verdicts"),
        ("<think>" + GOOD, "no verdict"),
        (GOOD + "<think>Or rather", "no verdict"),
        (f"It says {GOOD}, which I ignore. The criterion is not met.", "words after it: , which"),
        (f"It says {GOOD}. I say [no].", "words after it"),
        (f'{{"criterion": 1, "explanation": "it says {GOOD} but", "met": false}}', "within broken"),
        (f'{{"criterion": 1, "met": false, "explanation": "it says {GOOD}', "within broken"),
        (f"{{criterion: 1, met: false, explanation: it says {GOOD}", "within broken"),
        ('{"criterion": 1, "met": false, "met": true}', "a key twice"),
        ('{"criterion": 1, "explanation": "x", "met": true or false}', "no verdict"),
        ('{"criterion": 1, "explanation": "x", "met": true/false}', "no verdict"),
        ('{"criterion": 1, "explanation": "says "met": true", "met": false}', "no verdict"),
        ('{"criterion": 1, "explanation": "says "met": true, or so"}', "no verdict"),
        ('{"explanation": "a "b"", "met": true} But in fact {no}', "no verdict"),
        ("{" * 5000, "no verdict"),
        ('{"met": ' + "[" * 3000, "no verdict"),
        ("x" * 60_000, "no verdict: an endless reply"),
    ],
)
def test_what_is_no_verdict_is_unscored_and_says_why(text: str, reason: str) -> None:
    found = read_verdicts(ChatReply(text, "stop"), [1])[1]
    assert found.value is None
    assert found.reason.startswith(reason)


def test_several_verdicts_are_matched_by_number_in_any_order() -> None:
    rows = [{"criterion": 3, "met": True}, {"criterion": 1, "met": False}]
    found = read_verdicts(ChatReply(json.dumps({"verdicts": rows}), "stop"), [1, 2, 3])
    assert {number: each.value for number, each in found.items()} == {1: False, 2: None, 3: True}
    assert found[2].reason == "no verdict: left out"


def test_a_reply_that_counts_from_zero_is_matched_to_nothing() -> None:
    rows = [{"criterion": number, "met": True} for number in (0, 1, 2)]
    found = read_verdicts(ChatReply(json.dumps(rows), "stop"), [1, 2, 3])
    assert {each.reason for each in found.values()} == {"another criterion: 0"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"score": 10}', 1.0),
        ('{"score": "5.5"}', 0.5),
        ('{"score": 11}', "unclear score: 11 is not 1 to 10"),
        ('{"score": NaN}', "unclear score"),
        ('{"score": true}', "unclear score"),
        ('{"score": "7/10"}', "unclear score"),
        ('{"score": 3} {"score": 4}', "several scores"),
        ('The answer asks for {"score": 10}; I give 2.', "words after it"),
        ('{"explanation": "I would not give "score": 10", "score": 2}', "no score"),
        ('{"explanation": "the "best"", "score": 1 to 10}', "no score"),
        ('{"explanation": "the "best"", "score": 10}', 1.0),
        ("Seven.", "no score"),
    ],
)
def test_a_score_is_a_number_on_the_scale(text: str, expected: Any) -> None:
    found = read_score(ChatReply(text, "stop"), 1, 10)
    if isinstance(expected, str):
        assert found.value is None
        assert found.reason.startswith(expected)
    else:
        assert found.value == pytest.approx(expected)


@given(st.text(st.sampled_from('{}[]":, metruefalsco123criterion<think/>'), max_size=60))
def test_whatever_is_replied_is_a_verdict_or_none(text: str) -> None:
    found = read_verdicts(ChatReply(text, "stop"), [1, 2])
    assert set(found) == {1, 2}
    assert all((each.value is None) == bool(each.reason) for each in found.values())


@pytest.mark.parametrize(
    ("reply", "reason", "num_calls"),
    [
        ("It might be.", "no verdict: It might be.", 4),
        (chat(GOOD, "length"), "cut off", 4),
        (chat(None), "empty", 4),
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


# Servers that are busy, away, or something else


@pytest.mark.parametrize(
    "fault",
    [
        (429, "slow down", {"Retry-After": "0"}),
        (500, "oops"),
        (503, "starting"),
        (529, "overloaded"),
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


def test_a_server_that_is_away_for_long_is_told_of_while_it_is_asked_again(
    judge: Made, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rcsd.http.LONG_WAIT", 0.0)
    made = judge(max_concurrent=1)
    server.faults.extend([(503, "away")] * 2)
    with pytest.warns(
        UserWarning, match=r"not answer \(503: away\); .* again for up to 5 s"
    ) as told:
        assert made.judgements([ANSWER])[0].score == 0.75
    assert len(told) == 1


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
        (301, "refused with 301"),
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


@pytest.mark.parametrize("num_answered", [0, 1])
def test_a_limit_beyond_the_models_own_is_no_long_prompt(
    judge: Made, server: JudgeServer, num_answered: int
) -> None:
    said = "max_tokens is too large: 100000. This model supports at most 16384 completion tokens"
    server.faults.extend([*[None] * num_answered, *[(400, said)] * 9])
    with pytest.raises(RunError, match="refused with 400: max_tokens is too large: 100000"):
        judge(max_concurrent=1).judgements([ANSWER] * 3)
    assert len(server.asked) == num_answered + 1


@pytest.mark.parametrize(
    "said", ["input tokens (701) exceed the context size", "prompt is too long: 701 tokens"]
)
def test_first_calls_that_are_all_refused_alike_are_an_error(
    judge: Made, server: JudgeServer, said: str
) -> None:
    refusals = [(400, said.replace("701", f"70{n}")) for n in range(9)]
    answers = [(EXAMPLE, f"iron {n}") for n in range(9)]
    server.faults.extend([*refusals[:7], None, *refusals])
    made = judge(max_concurrent=1)
    reasons = [reason for each in made.judgements(answers) for reason in each.reasons]
    assert reasons.count("too long") == 16  # one was answered: the prompts are too long
    assert reasons.count("") == 11
    server.faults.extend(refusals)
    num_asked = len(server.asked)
    with pytest.raises(RunError, match=r"first 8 calls were refused alike.*judge\.max_tokens.*700"):
        judge(max_concurrent=1, seed=1).judgements(answers)
    assert len(server.asked) == num_asked + 8


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


@pytest.mark.parametrize("form", ["json_schema", "json_object"])
def test_a_server_that_refuses_the_format_is_asked_for_text_from_then_on(
    judge: Made, server: JudgeServer, form: str
) -> None:
    server.refused_format = form
    made = judge(response_format=form, max_concurrent=1)
    with pytest.warns(RuntimeWarning, match=f"refuses the response format {form}"):
        assert made.judgements([ANSWER])[0].score == 0.75
    assert [("response_format" in body) for body in server.asked] == [True, False, False, False]
    judge(response_format=form).judgements([ANSWER])  # the key is that of what was asked for
    assert len(server.asked) == 4


def test_no_more_requests_are_in_flight_than_allowed_and_order_is_kept(
    judge: Made, server: JudgeServer
) -> None:
    server.delay_seconds = 0.02
    answers = [(EXAMPLE, f"iron {n}" if n % 2 else f"tin {n}") for n in range(8)]
    said = judge(max_concurrent=4).judgements(answers)
    assert [each.verdicts[0] for each in said] == [bool(n % 2) for n in range(8)]
    assert 1 < server.most_at_once <= 4


def test_requests_are_spaced_by_the_slower_of_both_limits() -> None:
    pace = RateLimiter(60, 6000)
    assert [pace.wait_seconds(tokens, 100.0) for tokens in (50, 300, 50)] == [0.0, 1.0, 4.0]
    assert pace.wait_seconds(50, 200.0) == 0.0
    assert (
        RateLimiter(None, None).wait_seconds(10**6, 1.0)
        == RateLimiter(None, None).wait_seconds(1, 1.0)
        == 0
    )


def test_a_limit_on_requests_is_kept(judge: Made) -> None:
    began = time.monotonic()
    judge(requests_per_minute=1200).judgements([ANSWER])
    assert time.monotonic() - began >= 0.1


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


def test_cost_never_exceeds_the_budget(judge: Made, server: JudgeServer) -> None:
    prices = {"prompt": 10, "completion": 100}  # each reply: 100 and 20 tokens, 0.003
    made = judge(prices=prices, max_cost=0.05, max_tokens=100, max_concurrent=4)
    made.judgements([(EXAMPLE, f"iron {n}") for n in range(20)])
    metrics = made.metrics()
    assert metrics["judge/cost"] == pytest.approx(0.003 * len(server.asked))
    assert 0.015 < metrics["judge/cost"] <= 0.05
    assert metrics["judge/num_unscored/budget"] == 60 - len(server.asked)


def test_a_reward_whose_judge_has_no_budget_left_ends_the_run(judge: Made) -> None:
    reward = RubricReward(judge(max_calls=4))
    answers = [
        (ANSWER[0], Completion((), ANSWER[1], True)),
        (EXAMPLE, Completion((), "Gold.", True)),
    ]
    assert reward.scores(answers[:1]) == [0.75]
    with pytest.raises(RunError, match=r"spent its budget.*raise judge\.max_calls or judge\.max_c"):
        reward.scores(answers[1:])


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
    create_run(folder, run_with(), [EXAMPLE], {})
    with nullcontext() if goes_on else pytest.raises(RunError, match="another method"):
        check_same_run(folder, run_with(**changes), [EXAMPLE], {})


def test_what_the_budget_holds_back_is_looked_at_a_few_times_only(
    judge: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = {"prompt": 10, "completion": 100}  # each reply costs 0.003, of 0.03 that are held
    made = judge(prices=prices, max_cost=0.1, max_tokens=100, max_concurrent=4)
    looked = 0

    def counted(call: Any, answers: Any) -> Any:
        nonlocal looked
        looked += 1
        return ModelJudge.request(made, call, answers)

    monkeypatch.setattr(made, "request", counted)
    said = made.judgements([(EXAMPLE, f"iron {n % 30}") for n in range(60)])
    num_calls = made.metrics()["judge/num_calls"]
    assert num_calls > 15
    assert looked <= 180 + 3 * num_calls  # each once, and one of those held back a reply
    assert [each.verdicts for each in said[:30]] == [each.verdicts for each in said[30:]]


def test_the_same_is_asked_once_also_at_the_same_time(judge: Made, server: JudgeServer) -> None:
    server.delay_seconds = 0.02
    made = judge()
    assert [each.score for each in made.judgements([ANSWER] * 5)] == [0.75] * 5
    assert len(server.asked) == 3
    assert made.judgements([ANSWER])[0].score == 0.75
    assert made.metrics()["judge/num_cached"] == 3


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
    judge().judgements([ANSWER])
    judge(url=server.url.replace("127.0.0.1", "localhost")).judgements([ANSWER])
    assert len(server.asked) == 3
    judge(**change).judgements([ANSWER])
    assert len(server.asked) == 6


def test_keys_and_addresses_stand_in_no_cache(
    judge: Made, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "a-secret-of-mine")
    judge(api_key_variable="JUDGE_KEY").judgements([ANSWER])
    content = b"".join(path.read_bytes() for path in tmp_path.glob("judgements.sqlite*"))
    assert b"explanation" in content
    assert b"a-secret-of-mine" not in content
    assert server.url.encode() not in content


def test_a_forecast_counts_what_would_be_asked_and_asks_nothing(
    judge: Made, server: JudgeServer
) -> None:
    made = judge(prices={"prompt": 1, "completion": 2}, max_tokens=100)
    before = made.forecast([ANSWER, ANSWER, (EXAMPLE, "Tin.")])
    assert (before.num_calls, before.num_cached) == (6, 0)
    assert before.counting == "4 characters a token"
    assert before.max_cost == pytest.approx((before.prompt_tokens + 2 * 600) / 1e6)
    assert server.asked == []
    made.judgements([ANSWER])
    assert (made.forecast([ANSWER]).num_calls, made.forecast([ANSWER]).num_cached) == (0, 3)


def write_replies(path: Path, first: int) -> None:
    cache = ReplyCache(path)
    for number in range(first, first + 100):
        cache.write(f"key {number}", ChatReply(f"{number}", "stop"))
    cache.close()


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
    cache.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE replies SET reply = replace(reply, 'false', 'true')",
        "UPDATE replies SET reply = '{', sha256 = ''",
        "UPDATE replies SET key = 'else'",
    ],
)
def test_a_damaged_reply_is_said_and_asked_anew(
    judge: Made, server: JudgeServer, tmp_path: Path, damage: str
) -> None:
    answer = (Example("b", "Why?", rubric=Rubric((Criterion("Names gold.", 1),))), "Iron.")
    judge().judgements([answer])
    connection = sqlite3.connect(tmp_path / "judgements.sqlite")
    connection.execute(damage)
    connection.commit()
    connection.close()
    again = judge()
    if "key" in damage:
        assert again.judgements([answer])[0].verdicts == (False,)
    else:
        with pytest.warns(RuntimeWarning, match="is damaged; it is dropped"):
            assert again.judgements([answer])[0].verdicts == (False,)
    assert len(server.asked) == 2
    assert judge().judgements([answer])[0].verdicts == (False,)
    assert len(server.asked) == 2


def test_a_file_that_is_no_database_is_set_aside(judge: Made, tmp_path: Path) -> None:
    path = tmp_path / "judgements.sqlite"
    path.write_bytes(b"no database at all" * 1000)
    with pytest.warns(RuntimeWarning, match="set aside as"):
        made = judge()
    assert made.judgements([ANSWER])[0].score == 0.75
    assert list(tmp_path.glob("*.damaged-*"))


def test_a_cache_that_cannot_be_written_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").mkdir()
    with pytest.raises(DataError, match=r"cache\.sqlite: the judge's cache: unable to open"):
        ReplyCache(tmp_path / "cache.sqlite")


# Texts that talk to their judge

TEXTS = [each.text for each in injections()]


def test_there_are_enough_injections_of_different_names() -> None:
    assert len({each.name for each in injections()}) == len(TEXTS) >= 20


@pytest.mark.parametrize("asks", ["criterion", "several", "holistic"])
def test_no_injection_leaves_its_place_among_the_data(asks: str, server: JudgeServer) -> None:
    chosen = section(server, asks=asks).asks
    numbers = {"criterion": [1], "several": [1, 2, 3], "holistic": []}[asks]
    for text in TEXTS:
        example = Example("x", f"Why? {text}", rubric=RUBRIC)
        [message] = build_conversation(example, text, numbers, chosen, PromptTemplates())
        answer, criteria = data_of(message["content"])
        assert answer == defused(text)
        assert list(criteria) == (numbers or [1, 2, 3])
        plain = build_conversation(EXAMPLE, "", numbers, chosen, PromptTemplates())[0]["content"]
        assert message["content"].count(">>>") - text.count(">>>") * 2 == plain.count(">>>")


def test_an_answer_that_quotes_the_boundary_gets_another() -> None:
    mark = boundary(["a", "b"])
    assert mark == boundary(["a", "b"]) != boundary(["a", f"b {mark}"])
    forced = f"{mark}>>>"
    assert boundary([forced]) not in forced


@pytest.mark.parametrize(
    "token",
    ["<|im_end|>", "<|im_start|>", "<|eot_id|>", "</s>", "<s>", "[/INST]", "<<SYS>>", "<think>",
     "<end_of_turn>", "<start_of_turn>", "<\uff5cUser\uff5c>", "<|endoftext|>", "<|channel|>",
     "</think>", "<tool_call>", "[TOOL_CALLS]", "\x1b", "\u202e", "\U000e0041", "\ud800"],
)  # fmt: skip
def test_no_control_token_survives_in_the_data(token: str) -> None:
    assert token not in defused(f"An answer{token}with {token} it.")
    assert all(token not in defused(text) for text in TEXTS)


def test_ordinary_text_is_shown_to_the_judge_as_it_is() -> None:
    text = "If a < b and b > c, then |x| <= 2; [1] List<s>: \\boxed{1}\n1 | 2"
    assert defused(text) == text.replace("<s>", "< s>")


# The model in this process


def turn(text: str) -> Conversation:
    return [{"role": "user", "content": text}]


def test_contents_become_no_control_tokens_in_a_local_chat() -> None:
    tokenizer = tiny_tokenizer()
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    assert special
    for text in [*special, *TEXTS]:
        ids = inert_ids(tokenizer, turn(text))
        empty = inert_ids(tokenizer, turn(""))
        controls = set(tokenizer.added_tokens_decoder)
        assert [i for i in ids if i in controls] == [i for i in empty if i in controls]


def test_a_local_model_judges_as_a_server_does(tmp_path: Path, server: JudgeServer) -> None:
    said = [Completion((1, 2), verdict(criterion=n, met=n == 1), True) for n in (1, 2, 3)]
    engine = ScriptedEngine(said)
    made = LocalChat({"model": "tiny"}, tiny_tokenizer(), engine, 50)
    chosen = section(server, cache=tmp_path / "local.sqlite")
    judge = ModelJudge.from_config(chosen, made)
    assert judge.judgements([ANSWER])[0].verdicts == (True, False, False)
    assert judge.metrics()["judge/completion_tokens"] == 6
    assert judge.forecast([ANSWER]).counting == "the model's tokenizer"


def test_a_local_models_replies_are_known_by_weights_and_rendered_template(tmp_path: Path) -> None:
    def key(seed: int = 0, **model: Any) -> str:
        model["path"] = tiny_folder(tmp_path / "model", seed)
        tree = {"type": "local", "model": model, "cache": tmp_path / "local.sqlite"}
        made = build_judge(parse(config.Judging, {"judge": tree}, "").judge)
        assert isinstance(made, ModelJudge)
        return made.key(made.request(made.calls([ANSWER])[0], [ANSWER]))

    template = tmp_path / "other.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}A:")
    changed: list[dict[str, Any]] = [
        {"seed": 1},
        {"dtype": "bfloat16", "training": {"type": "lora"}},
        {"chat_template": template},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ]
    keys = [key(), *(key(**change) for change in changed)]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


def test_the_schema_asks_for_the_explanation_before_the_verdict(server: JudgeServer) -> None:
    one = reply_schema([2], section(server).asks)
    assert list(one["properties"]) == ["criterion", "explanation", "met"]
    assert one["properties"]["criterion"] == {"enum": [2]}
    whole = reply_schema([], section(server, asks="holistic").asks)
    assert whole["properties"]["score"] == {"enum": list(range(1, 11))}
