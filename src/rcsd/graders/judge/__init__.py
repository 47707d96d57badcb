"""A model as the judge: asked in words, read strictly, and never taken at more than its word."""

from rcsd.graders.judge.account import Account
from rcsd.graders.judge.chat import Chat, ChatReply, Request
from rcsd.graders.judge.forecast import Forecast, forecast
from rcsd.graders.judge.judge import ModelJudge

__all__ = ["Account", "Chat", "ChatReply", "Forecast", "ModelJudge", "Request", "forecast"]
