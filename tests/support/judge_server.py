"""A server that judges as it is told to, and fails when it is told to."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.faulty_server import FaultyServer

from rcsd import config
from rcsd.config.base import parse
from rcsd.graders.judge import ModelJudge
from rcsd.types import Criterion, Example, Rubric

RUBRIC = Rubric((Criterion("Names iron.", 3), Criterion("Names gold.", 1), Criterion("Errs.", -2)))
EXAMPLE = Example("a", "Which metal rusts?", rubric=RUBRIC)
ANSWER = (EXAMPLE, "Iron does.")
USAGE = {"prompt_tokens": 400, "completion_tokens": 20}


def data_of(prompt: str) -> tuple[str, dict[int, str]]:
    """Answer and criteria by number, from between the delimiters of a prompt."""
    mark = re.search(r"<<<([0-9a-f]{16}) answer\n", prompt)
    assert mark is not None
    parts = re.findall(rf"<<<{mark[1]} (\w+) ?(\d*)[^\n]*\n(.*?)\n{mark[1]}>>>", prompt, re.S)
    [answer] = [text for kind, _, text in parts if kind == "answer"]
    return answer, {int(number): text for kind, number, text in parts if kind == "criterion"}


def chat(text: str | None, finish: str = "stop", **more: Any) -> dict[str, Any]:
    """The body of a reply."""
    message = {"role": "assistant", "content": text} | more
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": USAGE}


class JudgeServer(FaultyServer):
    """Serves ``/v1/chat/completions``; a fault may also be a body, or a text that the judge says.

    A criterion's text and an answer get the verdict ``meets``, under the request's seed.
    """

    def __init__(self, meets: Callable[[str, str, int], Any] = lambda *_: True) -> None:
        self.meets, self.explanation = meets, ""
        self.about: dict[str, str] = {}  # model and fingerprint
        super().__init__("/v1")

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [body for _, body, _ in self.requests]

    def reply(self, body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        answer, criteria = data_of(prompt)
        seed = body.get("seed", 0)
        if '"score"' in prompt:
            return json.dumps(
                {"score": self.meets("", answer, seed), "explanation": self.explanation}
            )
        rows = [
            {"criterion": n, "explanation": self.explanation, "met": self.meets(text, answer, seed)}
            for n, text in criteria.items()
        ]
        return json.dumps({"verdicts": rows} if '"verdicts"' in prompt else rows[0])

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        return 200, chat(self.reply(body)) | self.about

    def meet(self, fault: Any, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        if isinstance(fault, str) and fault != "hang":
            return 200, chat(fault), {}
        return (200, fault, {}) if isinstance(fault, dict) else super().meet(fault, path, body)


def names(criterion: str, answer: str, seed: int) -> bool:
    """Whether the last word of the criterion stands in the answer."""
    return criterion.split()[-1].rstrip(".").casefold() in answer.casefold()


def model_section(server: JudgeServer, **changes: Any) -> config.ModelJudge:
    tree = {"type": "model", "url": server.url, "model": "m", "patience_seconds": 5}
    section = parse(config.Judging, {"judge": {**tree, **changes}}, "judge.yaml").judge
    assert isinstance(section, config.ModelJudge)
    return section


def judge_at(server: JudgeServer, cache: Path, **changes: Any) -> ModelJudge:
    section = model_section(server, **{"cache": cache, **changes})
    return ModelJudge(section)
