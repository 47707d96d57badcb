"""Calls, tokens and cost of a judge, held to a budget; and the rate of its requests."""

import threading
from collections import Counter
from dataclasses import dataclass, field

from rcsd import config
from rcsd.graders.judge.chat import ChatReply


@dataclass(frozen=True)
class Forecast:
    """Calls, tokens and cost of judging, without second attempts.

    Args:
        num_calls: Calls to be made.
        num_cached: Calls that the cache answers.
        prompt_tokens: Tokens of the prompts of the calls to be made.
        max_completion_tokens: Tokens of their replies, each as long as allowed.
        max_cost: Cost with the longest replies; None without prices.
        counting: How prompt tokens were counted.
    """

    num_calls: int
    num_cached: int
    prompt_tokens: int
    max_completion_tokens: int
    max_cost: float | None
    counting: str


@dataclass
class CostTracker:
    """Calls, tokens and cost of one judge in one process; None: no prices, or no limit."""

    prices: config.Prices | None = None
    max_calls: int | None = None
    max_cost: float | None = None
    num_calls: int = 0
    """Requests begun."""
    num_cached: int = 0
    """Requests that the cache answered."""
    num_retried: int = 0
    """Requests repeated because the first reply lacked a verdict."""
    num_failed: int = 0
    """Replies that lacked a verdict or a score."""
    num_attempts: int = 0
    """HTTP requests of all answered calls: a busy server takes several for one."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """Time spent waiting for judgements."""
    unscored: Counter[str] = field(default_factory=Counter)
    """Missing verdicts and scores, by kind of reason."""
    _reserved: dict[str, float] = field(default_factory=dict)

    def reserve(self, key: str, prompt_tokens: int, completion_tokens: int) -> bool:
        """Count a call and set its maximum cost aside; False: the budget does not allow it.

        Both numbers of tokens are upper bounds.
        """
        most = self.price(prompt_tokens, completion_tokens)
        spent = self.cost + sum(self._reserved.values())
        if self.max_calls is not None and self.num_calls >= self.max_calls:
            return False
        if self.max_cost is not None and spent + most > self.max_cost:
            return False
        self._reserved[key] = most
        self.num_calls += 1
        return True

    def settle(self, key: str, reply: ChatReply) -> None:
        """Replace what was set aside for a call by what it took."""
        self._reserved.pop(key, None)
        self.num_attempts += reply.num_attempts
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens

    def release(self) -> None:
        """Drop what was set aside for calls that get no reply."""
        self._reserved.clear()

    @property
    def cost(self) -> float:
        """Cost so far, in the currency of the prices."""
        return self.price(self.prompt_tokens, self.completion_tokens)

    def price(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Cost of tokens; 0 without prices."""
        if self.prices is None:
            return 0.0
        prompt, completion = self.prices.prompt, self.prices.completion
        return (prompt_tokens * prompt + completion_tokens * completion) / 1e6

    def metrics(self) -> dict[str, float]:
        """All counts, by names of a run's metrics."""
        names = ("num_calls", "num_cached", "num_retried", "num_failed", "num_attempts")
        names += ("prompt_tokens", "completion_tokens", "seconds")
        metrics: dict[str, float] = {f"judge/{name}": getattr(self, name) for name in names}
        metrics["judge/num_unscored"] = self.unscored.total()
        if self.prices is not None:
            metrics["judge/cost"] = self.cost
        for kind, count in sorted(self.unscored.items()):
            metrics[f"judge/num_unscored/{kind.replace(' ', '_')}"] = count
        return metrics


class RateLimiter:
    """Spaces requests evenly, so that no minute has more than are allowed; None: no limit."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._per_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._lock, self._next_start = threading.Lock(), 0.0

    def wait_seconds(self, num_tokens: int, now: float) -> float:
        """Wait of a request that could begin now; its turn is taken."""
        with self._lock:
            start = max(now, self._next_start)
            self._next_start = start + max(self._per_request, num_tokens * self._per_token)
        return start - now
