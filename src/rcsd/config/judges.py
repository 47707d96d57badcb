"""Judges that a run can ask too: checks in code, or a model behind an address."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from rcsd.config.base import Section, checked_address

# How a judge is reached, paced, paid and kept: none of it changes a verdict.
_MEANS = {
    "url",
    "api_key_variable",
    "cache",
    "max_calls",
    "max_cost",
    "prices",
    "max_concurrent",
    "requests_per_minute",
    "tokens_per_minute",
    "connect_timeout_seconds",
    "read_timeout_seconds",
    "patience_seconds",
}
# The last part of a name: max_thinking_tokens is a number of them.
_SECRET = re.compile(r"(?i)(?:key|token|secret|password|credentials?|authorization)$")


class CodeJudge(Section):
    """Exact verdicts by the criteria's own checks; a criterion without one stays unscored."""

    type: Literal["code"] = "code"
    """Selects the checks."""


class AskCriterion(Section):
    """One call for each criterion: the most calls, and nothing said of one colours another.

    Scores are the points of met criteria over all positive points (HealthBench, arXiv 2505.08775).
    """

    type: Literal["criterion"] = "criterion"
    """Selects one criterion a call."""


class AskSeveral(Section):
    """Several criteria a call; replies are matched by number, and scored as with ``criterion``."""

    type: Literal["several"]
    """Selects several criteria a call."""
    criteria_per_call: int = Field(default=10, ge=2)
    """Criteria in one call, at most."""


class AskHolistic(Section):
    """One call for the whole rubric: the judge weighs the criteria itself and gives one score.

    Rubrics as Rewards (arXiv 2507.17746) calls it implicit aggregation. There are no verdicts.
    """

    type: Literal["holistic"]
    """Selects one score for the whole."""
    scale: Literal["1-10", "0-100"] = "1-10"
    """Whole numbers that the judge chooses from; the lowest becomes 0, the highest 1."""


Asks = Annotated[
    AskCriterion | AskSeveral | AskHolistic,
    Field(discriminator="type"),
    BeforeValidator(lambda given: {"type": given} if isinstance(given, str) else given),
]


class Prices(Section):
    """What a server charges, in any currency."""

    prompt: float = Field(ge=0)
    """For a million prompt tokens."""
    completion: float = Field(ge=0)
    """For a million completion tokens, those of its thinking included."""


class AskedModel(Section):
    """How any model is asked for judgements, and where its replies are kept."""

    asks: Asks = AskCriterion()
    """What one call asks for: ``criterion``, ``{type: several, criteria_per_call: 10}``, or
    ``holistic``."""
    temperature: float | None = Field(default=0.0, ge=0)
    """Of the judge's sampling; None sends none, for models that take no temperature."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest reply, in tokens, thinking included. A reply that is cut off there is no verdict."""
    seed: int = Field(default=0, ge=0)
    """Of the judge's sampling; repeats and second attempts have seeds of their own."""
    max_calls: int | None = Field(default=None, ge=1)
    """Calls of one process, at most; what is left then stays unscored, with the reason ``budget``,
    and a run that is rewarded by it ends. None: as many as it takes. What the cache holds takes no
    call."""
    cache: Path | None = None
    """SQLite file of all replies; None: ``judgements.sqlite`` in the folder of caches
    (RCSD_CACHE)."""
    templates: Path | None = None
    """Folder of jinja files that replace the packaged words; None takes the packaged ones."""


class ModelJudge(AskedModel):
    """A model behind an OpenAI-compatible address: a hosted one, or one's own ``vllm serve``."""

    type: Literal["model"]
    """Selects the model."""
    url: str
    """Of the server, up to what ``/chat/completions`` follows: ``http://gpu7:8000/v1``."""
    model: str
    """Name of the model on the server."""
    api_key_variable: str | None = None
    """Name of the environment variable that holds the key for ``Authorization: Bearer``; None sends
    none. The key itself is never written anywhere."""
    response_format: Literal["json_schema", "json_object", "text"] = "json_schema"
    """How replies are held to JSON. Where the server refuses the first two, it is asked for text.
    Text is read tolerantly in any case."""
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the limit of a reply; OpenAI's newer models want the second."""
    sends_seed: bool = True
    """Whether the seed is sent; some servers refuse it."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of each request, such as ``{reasoning_effort: low}``; no keys or tokens, which
    ``api_key_variable`` is for."""
    max_concurrent: int = Field(default=16, ge=1)
    """Requests in flight together, at most."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Requests begun in a minute, at most, evenly spaced; None: no limit."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Tokens in a minute, at most, of prompts (estimated) and of the longest replies; None: no
    limit."""
    prices: Prices | None = None
    """What the server charges; None: cost is not counted."""
    max_cost: float | None = Field(default=None, gt=0)
    """Cost of one process, at most, in the currency of the prices. No call is made that could
    exceed it; what is left then stays unscored, with the reason ``budget``."""
    connect_timeout_seconds: float = Field(default=10.0, gt=0)
    """Longest wait for a connection."""
    read_timeout_seconds: float = Field(default=300.0, gt=0)
    """Longest silence while a request is answered, which is as long as the longest reply."""
    patience_seconds: float = Field(default=600.0, ge=0)
    """How long a request is tried again where the server is away or busy, with growing pauses; then
    the command ends, and all replies so far are in the cache."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        url = checked_address(url, "http://gpu7:8000/v1")
        if url.endswith("/chat/completions"):
            raise ValueError("leave /chat/completions out")
        return url

    @field_validator("extra")
    @classmethod
    def _is_no_field_of_ours(cls, extra: dict[str, Any]) -> dict[str, Any]:
        own = {"model", "messages", "temperature", "max_tokens", "max_completion_tokens", "seed"}
        own |= {"response_format", "stream", "n"}
        if taken := sorted(own & set(extra)):
            raise ValueError(f"{', '.join(taken)}: set by fields of the judge, or by nobody")
        if secret := [name for name in _names(extra) if _SECRET.search(name)]:
            raise ValueError(
                f"{', '.join(secret)}: extra stands in records; name the environment variable that "
                "holds a key in api_key_variable"
            )
        return extra

    @model_validator(mode="after")
    def _can_count(self) -> "ModelJudge":
        if self.max_cost is not None and self.prices is None:
            raise ValueError("max_cost needs prices: {prompt: ..., completion: ...}")
        return self


def _names(value: object) -> Iterator[str]:
    """Names in a tree of fields, at any depth."""
    if isinstance(value, Mapping):
        yield from map(str, value)
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _names(part)


def verdict_settings(tree: Any) -> Any:
    """A configuration's tree without how its judges are reached, paced, paid and cached.

    What a judge says goes by the rest, as in the cache of its replies: a run may go on with a
    larger budget, and answers judged through two addresses are judged by the same.
    """
    if isinstance(tree, Mapping):
        means = _MEANS if "asks" in tree else set()
        return {name: verdict_settings(of) for name, of in tree.items() if name not in means}
    return [verdict_settings(of) for of in tree] if isinstance(tree, list) else tree


RunJudge = Annotated[
    CodeJudge | ModelJudge,
    Field(discriminator="type"),
    BeforeValidator(lambda given: {"type": given} if isinstance(given, str) else given),
]
"""Who judges in a run."""
