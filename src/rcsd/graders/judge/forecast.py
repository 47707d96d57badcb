"""What judging would take, before anything is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from rcsd.graders.judge.judge import ModelJudge
from rcsd.types import Example


@dataclass(frozen=True)
class Forecast:
    """Calls, tokens and cost of judging, second attempts left out.

    Args:
        num_calls: That would be made.
        num_cached: That the cache answers.
        prompt_tokens: Of the calls that would be made.
        max_completion_tokens: Of their replies, were each as long as it may be.
        max_cost: By the prices, with the longest replies; None without prices.
        counting: How prompt tokens were counted.
    """

    num_calls: int
    num_cached: int
    prompt_tokens: int
    max_completion_tokens: int
    max_cost: float | None
    counting: str


def forecast(
    judge: ModelJudge, answers: Sequence[tuple[Example, str]], answer_tokens: int = 0
) -> Forecast:
    """What `ModelJudge.judgements` of the answers would take; nothing is asked.

    Args:
        judge: Who would be asked.
        answers: Of what.
        answer_tokens: That an answer may yet get: the texts hold the place of answers that are
            not written.

    Raises:
        DataError: If an example has no rubric.
    """
    keys: set[str] = set()
    num_cached = prompt_tokens = 0
    for call in judge.calls(answers):
        request = judge.request(call, answers)
        key = judge.key(request)
        if judge.cache.read(key) is not None:
            num_cached += 1
        elif key not in keys:
            keys.add(key)
            prompt_tokens += judge.chat.num_tokens(request.conversation)
    prompt_tokens += len(keys) * answer_tokens
    longest = len(keys) * judge.chat.max_tokens
    has_prices = judge.account.prices is not None
    cost = judge.account.cost_of(prompt_tokens, longest) if has_prices else None
    return Forecast(len(keys), num_cached, prompt_tokens, longest, cost, judge.chat.counting)
