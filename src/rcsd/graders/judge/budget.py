"""Budget of a judge, over all processes of a job."""

import os
from collections.abc import Mapping

import psutil

from rcsd import config
from rcsd.graders.judge.cache import ReplyCache
from rcsd.graders.judge.server import ChatReply
from rcsd.io import digest

VARIABLE = "RCSD_JOB"
"""Environment variable that names a job; commands that are given the same share their budgets."""


def job_name() -> str:
    """Name of this process's job: the launcher's of its ranks, or its own.

    Process ids are used again, so the time of the start belongs to it.
    """
    is_rank = int(os.environ.get("WORLD_SIZE") or 1) > 1
    process = psutil.Process(os.getppid() if is_rank else os.getpid())
    address = [os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT")]
    return ":".join([str(process.pid), f"{process.create_time():.2f}", *address])


# Processes that this one starts inherit the name.
os.environ.setdefault(VARIABLE, job_name())


class Budget:
    """Limits of a judge's calls, tokens and cost, counted in its cache.

    Judges of equal settings in one job share them. Calls are exact. Tokens and cost are known once
    a reply is there: after the limit no call begins, and those in flight end.
    """

    def __init__(self, section: config.ModelJudge, cache: ReplyCache) -> None:
        self._cache = cache
        self._job = f"{os.environ[VARIABLE]} {digest(section.model_dump_json())[:16]}"
        conditions = []
        if section.max_calls is not None:
            conditions.append(f"calls < {section.max_calls}")
        if section.max_total_tokens is not None:
            conditions.append(f"prompt_tokens + completion_tokens < {section.max_total_tokens}")
        if section.max_cost is not None and section.prices is not None:
            prompt, completion = section.prices.prompt, section.prices.completion
            spent = f"prompt_tokens * {prompt!r} + completion_tokens * {completion!r}"
            conditions.append(f"{spent} < {section.max_cost * 1e6!r}")
        self._condition = " AND ".join(conditions)

    def begin_call(self) -> bool:
        """True if one more call is within the limits; it is counted."""
        return not self._condition or self._cache.begin_call(self._job, self._condition)

    def spend(self, reply: ChatReply) -> None:
        """Count a reply."""
        if self._condition:
            self._cache.spend(self._job, reply.prompt_tokens, reply.completion_tokens)


def cost(section: config.ModelJudge, counts: Mapping[str, float]) -> float | None:
    """Cost of tokens by the section's prices; None without prices."""
    if (prices := section.prices) is None:
        return None
    prompt, completion = counts["prompt_tokens"], counts["completion_tokens"]
    return (prompt * prices.prompt + completion * prices.completion) / 1e6
