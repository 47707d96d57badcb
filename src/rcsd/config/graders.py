"""Judges of answers: checks in code, or a model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from rcsd.config.base import SECRET_NAME, Section, ServerSection, checked_address

_NAMED = BeforeValidator(lambda value: {"type": value} if isinstance(value, str) else value)
"""``judge: code`` for ``judge: {type: code}``."""


class CodeJudge(Section):
    """Exact verdicts by the criteria's own checks; a criterion without one stays unscored."""

    type: Literal["code"] = "code"


class AskCriterion(Section):
    """One request per criterion: most requests, no influence between criteria.

    Scores are the points of met criteria over all positive points (HealthBench, arXiv 2505.08775).
    """

    type: Literal["criterion"] = "criterion"
    cannot_tell: bool = False
    """True if the prompt offers ``cannot tell`` beside met and not met; such a criterion is
    unscored, and counted apart from failures."""


class AskSeveral(Section):
    """Several criteria per request; verdicts are matched by number, scored as ``criterion``."""

    type: Literal["several"]
    criteria_per_call: int = Field(default=10, ge=2)
    """Maximum number of criteria in one request."""
    cannot_tell: bool = False
    """The same as for ``criterion``."""


class AskHolistic(Section):
    """One request per rubric: the judge weighs the criteria itself and gives one score.

    Scores are 1 to 10: the lowest becomes 0, the highest 1. There are no verdicts. Rubrics as
    Rewards (arXiv 2507.17746) calls it implicit aggregation.
    """

    type: Literal["holistic"]


Asks = Annotated[AskCriterion | AskSeveral | AskHolistic, Field(discriminator="type"), _NAMED]


class Prices(Section):
    """Prices of a million tokens, in any currency."""

    prompt: float = Field(ge=0)
    """Price of prompts."""
    completion: float = Field(ge=0)
    """Price of replies, thinking included."""


class ModelJudge(ServerSection):
    """A model behind an OpenAI-compatible address, hosted or served by ``vllm serve``."""

    type: Literal["model"]
    url: str
    """Address of the server, without ``/chat/completions``: ``http://gpu7:8000/v1``."""
    model: str
    """Name of the model on the server."""
    asks: Asks = AskCriterion()
    """Content of a request: ``criterion``, ``{type: several, criteria_per_call: 10}``, or
    ``holistic``."""
    runs_checks: bool = True
    """True if code decides the criteria that have a check, without a request, and the model the
    rest; ``holistic`` weighs all of them."""
    shows_reference: bool = False
    """True if the prompt shows the reference answer of examples that have one."""
    temperature: float | None = Field(default=0.0, ge=0)
    """Sampling temperature; None sends none, for models that take no temperature."""
    max_tokens: int = Field(default=1024, ge=16)
    """Maximum tokens of a reply, thinking included. A reply that is cut off is no verdict."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the sampling; repeats and second attempts derive other seeds."""
    max_calls: int | None = Field(default=None, ge=1)
    """Maximum number of calls of all processes of a job; None: no limit. Cached replies take no
    call. What is left stays unscored, with the reason ``budget``, and a run that is rewarded by it
    ends."""
    max_total_tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and replies, of all processes of a job, after which no call begins."""
    max_cost: float | None = Field(default=None, gt=0)
    """Cost by ``prices``, of all processes of a job, after which no call begins."""
    prices: Prices | None = None
    """Prices of the model; with them the cost is counted."""
    cache: Path | None = None
    """SQLite file of all replies; None: ``judgements.sqlite`` in the folder of caches
    (RCSD_CACHE)."""
    templates: Path | None = None
    """Folder of jinja files that replace the packaged prompts; None: the packaged ones."""
    response_format: Literal["json_schema", "json_object", "text"] = "json_schema"
    """Constraint on replies; ``text`` sends none. Where a server refuses one, the next is taken for
    the rest of the command."""
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the reply's token limit in requests; OpenAI's newer models want the second."""
    sends_seed: bool = True
    """True if the seed is sent; some servers refuse it."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of each request, such as ``{reasoning_effort: low}``; no keys or tokens, which
    ``api_key_variable`` is for."""
    max_concurrent: int = Field(default=16, ge=1)
    """Maximum number of requests in flight."""
    read_timeout_seconds: float = Field(default=300.0, gt=0)
    """Longest silence during a request, in seconds: more than the longest reply takes."""

    @model_validator(mode="after")
    def _has_prices(self) -> "ModelJudge":
        if self.max_cost is not None and self.prices is None:
            raise ValueError("max_cost: needs prices")
        return self

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        url = checked_address(url, "http://gpu7:8000/v1")
        if url.endswith("/chat/completions"):
            raise ValueError("leave /chat/completions out")
        return url

    @field_validator("extra")
    @classmethod
    def _has_no_other_fields(cls, extra: dict[str, Any]) -> dict[str, Any]:
        fields = {"model", "messages", "temperature", "max_tokens", "max_completion_tokens", "seed"}
        fields |= {"response_format", "stream", "n"}
        if taken := sorted(fields & set(extra)):
            raise ValueError(f"{', '.join(taken)}: set by fields of the judge, or by nobody")
        if secret := [name for name in _names(extra) if SECRET_NAME.search(name)]:
            raise ValueError(
                f"{', '.join(secret)}: extra stands in records; name the environment variable that "
                "holds a key in api_key_variable"
            )
        return extra


def _names(value: object) -> Iterator[str]:
    """Names in a tree of fields, at any depth."""
    if isinstance(value, Mapping):
        yield from map(str, value)
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _names(inner)


_BUDGET = {"max_calls", "max_total_tokens", "max_cost", "prices"}
JUDGE_ACCESS = {*ServerSection.model_fields, *_BUDGET, "cache", "max_concurrent"}
"""Access, budget and cache of a judge: none of it changes a verdict."""


class JudgePanel(Section):
    """Several models; a verdict is what more than half of them say, else the criterion is unscored.

    Written as a list of judges.
    """

    type: Literal["panel"]
    judges: list[ModelJudge] = Field(min_length=2)
    """The judges, each with its own budget; they ask criterion by criterion, or several."""

    @field_validator("judges")
    @classmethod
    def _can_vote(cls, judges: list[ModelJudge]) -> list[ModelJudge]:
        if any(judge.asks.type == "holistic" for judge in judges):
            raise ValueError("asks: holistic gives no verdicts to vote with; take criterion")
        if len({judge.runs_checks for judge in judges}) > 1:
            raise ValueError("runs_checks: the same for all judges")
        seen = [judge.model_dump(exclude=JUDGE_ACCESS) for judge in judges]
        if any(judge in seen[:place] for place, judge in enumerate(seen)):
            raise ValueError("the same judge twice has two equal votes; take another model or seed")
        return judges


def _panel(value: object) -> object:
    """``judge: [{...}, {...}]`` for ``judge: {type: panel, judges: [...]}``."""
    return {"type": "panel", "judges": value} if isinstance(value, list) else value


Judge = Annotated[
    CodeJudge | ModelJudge | JudgePanel,
    Field(discriminator="type"),
    _NAMED,
    BeforeValidator(_panel),
]
"""Judge of an evaluation or of a training run."""


class Judging(Section):
    """Root of the file of `rcsd judge check`."""

    judge: Judge
    """The judge."""
