"""What judging took, and what it may take."""

from collections import Counter
from dataclasses import dataclass, field

from rcsd import config
from rcsd.graders.judge.chat import ChatReply


@dataclass
class Account:
    """Calls, tokens and cost of one judge in one process, held to a budget.

    Args:
        prices: Of tokens; None: cost is not counted.
        max_calls: Calls, at most; None: no limit.
        max_cost: Cost, at most; None: no limit.
    """

    prices: config.Prices | None = None
    max_calls: int | None = None
    max_cost: float | None = None
    num_calls: int = 0
    """Requests that were begun."""
    num_cached: int = 0
    """Replies that the cache held."""
    num_retried: int = 0
    """Requests that were made since the first reply was of no use."""
    num_failed: int = 0
    """Replies without some verdict or score that was asked for."""
    num_attempts: int = 0
    """Attempts of all answered requests: a busy server takes several for one."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """In which judgements were waited for."""
    unscored: Counter[str] = field(default_factory=Counter)
    """Verdicts and scores that are missing, by kind of reason."""
    _held: dict[str, float] = field(default_factory=dict)

    def begin(self, key: str, prompt_tokens: int, completion_tokens: int) -> bool:
        """Set aside what a call may cost at most, and count it; False: the budget forbids it.

        Args:
            key: Of the request.
            prompt_tokens: At most.
            completion_tokens: At most.
        """
        most = self.cost_of(prompt_tokens, completion_tokens)
        if self.max_calls is not None and self.num_calls >= self.max_calls:
            return False
        if self.max_cost is not None and self.cost + sum(self._held.values()) + most > (
            self.max_cost
        ):
            return False
        self._held[key] = most
        self.num_calls += 1
        return True

    def end(self, key: str, reply: ChatReply) -> None:
        """Put down what a call took."""
        self._held.pop(key, None)
        self.num_attempts += reply.num_attempts
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens

    def release(self) -> None:
        """Give back what was set aside for calls that will get no reply."""
        self._held.clear()

    @property
    def cost(self) -> float:
        """In the currency of the prices; the same in whatever order replies came."""
        return self.cost_of(self.prompt_tokens, self.completion_tokens)

    def cost_of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """By the prices; 0 without."""
        if self.prices is None:
            return 0.0
        prompt, completion = self.prices.prompt, self.prices.completion
        return (prompt_tokens * prompt + completion_tokens * completion) / 1e6

    def metrics(self) -> dict[str, float]:
        """Everything as numbers, by names for a run's metrics."""
        found: dict[str, float] = {
            "judge/num_calls": self.num_calls,
            "judge/num_cached": self.num_cached,
            "judge/num_retried": self.num_retried,
            "judge/num_failed": self.num_failed,
            "judge/num_attempts": self.num_attempts,
            "judge/prompt_tokens": self.prompt_tokens,
            "judge/completion_tokens": self.completion_tokens,
            "judge/seconds": self.seconds,
            "judge/num_unscored": self.unscored.total(),
        }
        if self.prices is not None:
            found["judge/cost"] = self.cost
        kinds = sorted(self.unscored.items())
        return found | {f"judge/num_unscored/{kind.replace(' ', '_')}": n for kind, n in kinds}
