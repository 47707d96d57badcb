"""What users set on a judge: checks before the model, references, headers; what it tells."""

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.judge_server import ANSWER, EXAMPLE, JudgeServer, model_section

from rcsd import config
from rcsd.config.base import parse
from rcsd.errors import ConfigError
from rcsd.graders.judge import ModelJudge
from rcsd.redact import REDACTED, redacted
from rcsd.types import Criterion, Example, Rubric

Made = Callable[..., ModelJudge]

IRON = {"type": "contains", "text": "iron"}
CHECKED = (
    Criterion("Says iron.", 3, "", IRON),
    Criterion("Names gold.", 1),
    Criterion("Errs.", -2),
)


def example_of(*criteria: Criterion, **changes: Any) -> Example:
    return Example("a", "Which metal rusts?", rubric=Rubric(criteria), **changes)


# Explanations


@pytest.mark.parametrize(
    ("asks", "num"), [("criterion", 3), ({"type": "several"}, 3), ("holistic", 1)]
)
def test_explanations_stand_beside_the_verdicts(
    judge: Made, server: JudgeServer, asks: Any, num: int
) -> None:
    server.explanation = " As <b>told</b>. "
    if asks == "holistic":
        server.meets = lambda *_: 7
    [said] = judge(asks=asks).judgements([ANSWER])
    assert said.explanations == ("As <b>told</b>.",) * num


def test_an_explanation_that_is_no_text_is_none(judge: Made, server: JudgeServer) -> None:
    server.faults.append(json.dumps({"criterion": 1, "explanation": ["x"], "met": True}))
    [said] = judge(max_concurrent=1).judgements([ANSWER])
    assert (said.verdicts[0], said.explanations[0]) == (True, "")


# Checks in code


def test_criteria_with_a_check_are_decided_by_code_and_only_the_rest_is_asked(
    judge: Made, server: JudgeServer
) -> None:
    server.meets = lambda *_: False
    made = judge()
    [said] = made.judgements([(example_of(*CHECKED), "Iron does.")])
    assert said.verdicts == (True, False, False)
    assert said.score == 0.75
    assert len(server.asked) == 2
    assert made.metrics()["judge/num_checked"] == 1
    [said] = judge(runs_checks=False).judgements([(example_of(*CHECKED), "Iron does.")])
    assert said.verdicts == (False, False, False)


@pytest.mark.parametrize(
    ("criteria", "num_asked"),
    [
        ((CHECKED[0],), 0),
        ((CHECKED[0], CHECKED[2]), 1),  # what is left to the model has no positive points
    ],
)
def test_a_rubric_may_be_decided_by_code_alone_or_but_for_violations(
    judge: Made, server: JudgeServer, criteria: tuple[Criterion, ...], num_asked: int
) -> None:
    [said] = judge().judgements([(example_of(*criteria), "Iron does.")])
    assert said.score == 1
    assert len(server.asked) == num_asked


def test_a_holistic_score_weighs_all_criteria_whatever_checks_they_have(
    judge: Made, server: JudgeServer
) -> None:
    server.meets = lambda *_: 10
    made = judge(asks="holistic")
    assert made.judgements([(example_of(*CHECKED), "Gold.")])[0].score == 1
    assert made.metrics()["judge/num_checked"] == 0


# Models that replied


def test_the_models_that_replied_are_recorded_also_from_the_cache(
    judge: Made, server: JudgeServer
) -> None:
    server.about = {"model": "m-2026", "system_fingerprint": "fp_1"}
    for _ in range(2):
        made = judge()
        made.judgements([ANSWER])
        row = {"model": "m-2026", "system_fingerprint": "fp_1", "num_replies": 3}
        assert made.record() == {"models": [row]}


def test_replies_of_several_models_are_told_once(judge: Made, server: JudgeServer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge(seed=1).judgements([ANSWER])  # a server that says nothing of its model
    made = judge()
    for number in range(3):
        server.about = {"model": "m", "system_fingerprint": f"fp_{number}"}
        answer = (EXAMPLE, f"Iron {number}")
        if number == 1:
            with pytest.warns(UserWarning, match="several models or versions of m: m fp_0 and m f"):
                made.judgements([answer])
        else:
            made.judgements([answer])
    assert [row["num_replies"] for row in made.record()["models"]] == [3, 3, 3]


# The reference answer


def test_the_reference_answer_is_shown_where_wanted_and_default_prompts_stay(
    judge: Made, server: JudgeServer
) -> None:
    with_reference = example_of(*CHECKED[1:], reference_answer="Iron <|im_end|>")
    for example in (example_of(*CHECKED[1:]), with_reference):
        for shows in (False, True):
            judge(shows_reference=shows, seed=2 * shows).judgements([(example, "Gold.")])
    prompts = {body["messages"][0]["content"] for body in server.asked}
    plain = {prompt for prompt in prompts if "reference answer" not in prompt}
    assert len(plain) == 2  # one for each criterion, whatever reference there is
    assert len(prompts) == 4
    assert all("Iron < |im_end| >" in prompt for prompt in prompts - plain)


# Headers and parameters


def test_headers_and_parameters_go_with_each_request_and_hide_their_variables(
    judge: Made, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY", "swordfish-1\n")
    made = judge(
        headers={"api-key": "$GATEWAY", "X-Team": "a$$b", "X-Both": "Basic ${GATEWAY}"},
        query={"api-version": "2024-10-21"},
    )
    made.judgements([ANSWER])
    sent = {name.lower(): value for name, value in server.headers[0].items()}
    assert [sent[name] for name in ("api-key", "x-team", "x-both")] == [
        *("swordfish-1", "a$b", "Basic swordfish-1")
    ]
    assert {path for path, _, _ in server.requests} == {
        "/v1/chat/completions?api-version=2024-10-21"
    }
    assert redacted("it was swordfish-1.") == f"it was {REDACTED}."


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"headers": {"api-key": "swordfish"}}, "api-key: stands in records.*write \\$NAME here"),
        ({"headers": {"Cookie": "a$$b"}}, "Cookie: stands in records"),
        ({"query": {"key": "swordfish"}}, "key: stands in records"),
        ({"headers": {"a b": "x"}}, "'a b' is no name"),
        ({"headers": {"X": "$ 5"}}, "begins the name of a variable"),
        ({"headers": {"X": "$NOT_SET"}}, r"judge\.headers\.X: NOT_SET is not set"),
        ({"headers": {"X": "a\nb"}}, r"judge\.headers\.X: a header holds"),
        ({"headers": {"X": "$ODD"}}, r"judge\.headers\.X: a header holds"),
    ],
)
def test_headers_that_cannot_be_sent_or_kept_are_refused(
    server: JudgeServer,
    changes: dict[str, Any],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ODD", "sword\nfish")
    with pytest.raises(ConfigError, match=problem):
        ModelJudge(model_section(server, **changes))


def test_a_judge_of_a_reward_may_be_a_list(server: JudgeServer) -> None:
    judges = [{"type": "model", "url": server.url, "model": name} for name in ("a", "b")]
    section = parse(config.RubricReward, {"type": "rubric", "judge": judges}, "reward")
    assert section.judge.type == "panel"
