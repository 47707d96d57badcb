"""Several models as one judge: majorities, ties, agreement."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.judge_server import ANSWER, EXAMPLE, RUBRIC, JudgeServer, names

from rcsd import config
from rcsd.config.base import parse
from rcsd.errors import ConfigError
from rcsd.graders.base import build_judge, verdict_settings
from rcsd.graders.judge import JudgePanel
from rcsd.graders.judge.panel import fleiss_kappa
from rcsd.types import Criterion, Example, Rubric


@pytest.fixture
def others() -> Iterator[list[JudgeServer]]:
    """Two more servers, which say what they like."""
    servers = [JudgeServer(names) for _ in range(2)]
    yield servers
    for server in servers:
        server.close()


Panel = Callable[..., JudgePanel]


def section(*servers: JudgeServer, **changes: Any) -> config.Judge:
    tree = [
        {"type": "model", "url": server.url, "model": f"m{n}", "patience_seconds": 5, **changes}
        for n, server in enumerate(servers)
    ]
    return parse(config.Judging, {"judge": tree}, "judge.yaml").judge


@pytest.fixture
def panel(server: JudgeServer, others: list[JudgeServer], tmp_path: Path) -> Panel:
    def build(num: int = 3, **changes: Any) -> JudgePanel:
        cache = str(tmp_path / "judgements.sqlite")
        made = build_judge(section(*[server, *others][:num], cache=cache, **changes))
        assert isinstance(made, JudgePanel)
        return made

    return build


@pytest.mark.parametrize(
    ("says", "verdict", "reason"),
    [
        ([True, True, False], True, ""),
        ([False, True, False], False, ""),
        ([True, True, "unsure"], True, ""),
        ([True, False], None, "no majority: 1 met, 1 not met, 0 unscored"),
        ([True, False, "unsure"], None, "no majority: 1 met, 1 not met, 1 unscored"),
        ([True, "unsure", "unsure"], None, "no majority: 1 met, 0 not met, 2 unscored"),
        ([True, "unsure"], None, "no majority: 1 met, 0 not met, 1 unscored"),
    ],
)
def test_a_verdict_is_what_more_than_half_of_all_judges_say(
    panel: Panel,
    server: JudgeServer,
    others: list[JudgeServer],
    says: list[Any],
    verdict: bool | None,
    reason: str,
) -> None:
    for each, met in zip([server, *others], says, strict=False):
        each.meets = lambda criterion, answer, seed, met=met: (
            met if "iron" in criterion else names(criterion, answer, seed)
        )
    [said] = panel(len(says)).judgements([ANSWER])
    assert said.verdicts == (verdict, False, False)
    assert said.reasons == (reason, "", "")


def test_each_judges_vote_and_explanation_stand_in_the_explanation(
    panel: Panel, server: JudgeServer, others: list[JudgeServer]
) -> None:
    server.explanation = "It says so."
    others[0].meets = lambda *_: False
    [said] = panel(2).judgements([ANSWER])
    assert said.explanations[0] == "m0: met. It says so.\nm1: not met."


def test_the_spent_budget_of_a_judge_is_the_reason_where_it_decides(panel: Panel) -> None:
    [said] = panel(2, max_calls=2).judgements([ANSWER])
    assert said.reasons == ("", "", "budget")


def test_metrics_are_sums_and_the_record_has_each_judge_and_their_agreement(
    panel: Panel, others: list[JudgeServer]
) -> None:
    others[0].meets = lambda *_: True
    made = panel(2)
    made.judgements([ANSWER, (EXAMPLE, "Gold.")])
    metrics, record = made.metrics(), made.record()
    assert metrics["judge/num_calls"] == 12
    # m0 calls 2 of 6 criteria met, m1 all: equal on 2, and p = 8/12.
    assert (metrics["judge/num_compared"], metrics["judge/num_differ"]) == (6, 4)
    agreement = record["agreement"]
    assert agreement["differ_share"] == pytest.approx(4 / 6)
    assert agreement["fleiss_kappa"] == pytest.approx((1 / 3 - 5 / 9) / (4 / 9))
    assert [each["name"] for each in record["judges"]] == ["m0", "m1"]
    assert record["judges"][1]["judge/num_calls"] == 6


def test_criteria_decided_by_code_are_no_votes(panel: Panel) -> None:
    checked = Criterion("Names gold.", 1, "", {"type": "contains", "text": "gold"})
    example = Example("a", "Which?", rubric=Rubric((RUBRIC.criteria[0], checked)))
    made = panel(2)
    [said] = made.judgements([(example, "Iron.")])
    assert said.verdicts == (True, False)
    assert made.metrics()["judge/num_compared"] == made.metrics()["judge/num_checked"] == 1


def test_a_sample_asks_all_judges_again_and_keeps_its_own_agreement(
    panel: Panel, server: JudgeServer
) -> None:
    made = panel(2)
    made.judgements([ANSWER])
    again = made.resampled(1)
    again.judgements([ANSWER])
    assert len(server.asked) == 6
    assert made.metrics()["judge/num_compared"] == again.metrics()["judge/num_compared"] == 3


@pytest.mark.parametrize(
    ("votes", "num_judges", "kappa"),
    [
        # Fleiss (1971) by hand: 4 criteria of 3 judges, p = 7/12, P = (1 + 1/3 + 1 + 1/3) / 4.
        ({3: 1, 2: 1, 1: 0, 0: 1}, 3, (7 / 9 - 41 / 81) / (40 / 81)),
        ({2: 5, 0: 5}, 2, 1.0),
        ({1: 10}, 2, -1.0),
        ({2: 5}, 2, None),
        ({}, 2, None),
    ],
)
def test_fleiss_kappa_is_that_of_the_votes(
    votes: dict[int, int], num_judges: int, kappa: float | None
) -> None:
    assert fleiss_kappa(Counter(votes), num_judges) == (
        kappa if kappa is None else pytest.approx(kappa)
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ([{"asks": "holistic"}, {}], "holistic gives no verdicts"),
        ([{"runs_checks": False}, {}], "runs_checks: the same"),
        ([{}, {"model": "m0"}], "two equal votes"),
        ([{}], "at least 2 items"),
        ([{}, {"modle": "x"}], r"judge\.1\.modle: unknown key; did you mean 'model'"),
    ],
)
def test_judges_that_cannot_vote_are_refused(
    server: JudgeServer, changes: list[dict[str, Any]], problem: str
) -> None:
    tree = [
        {"type": "model", "url": server.url, "model": f"m{n}", **change}
        for n, change in enumerate(changes)
    ]
    with pytest.raises(ConfigError, match=problem):
        parse(config.Judging, {"judge": tree}, "judge.yaml")


def test_the_settings_of_a_panel_are_those_that_verdicts_depend_on(server: JudgeServer) -> None:
    tree = verdict_settings(section(server, server).model_dump(mode="json"))
    assert [each["model"] for each in tree["judges"]] == ["m0", "m1"]
    assert not {"url", "max_calls", "headers", "query", "cache"} & set(tree["judges"][0])
