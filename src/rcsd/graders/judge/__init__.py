"""A model as the judge: prompts, strict reading of replies, cache and budget."""

from rcsd.graders.judge.chat import Chat, ChatReply, Request
from rcsd.graders.judge.cost import CostTracker, Forecast
from rcsd.graders.judge.judge import ModelJudge

__all__ = ["Chat", "ChatReply", "CostTracker", "Forecast", "ModelJudge", "Request"]
