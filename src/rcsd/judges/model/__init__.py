"""A model as the judge: asked in words, read strictly, and never taken at more than its word."""

from rcsd.judges.model.account import Account
from rcsd.judges.model.chat import Chat, ChatReply, Request
from rcsd.judges.model.forecast import Forecast, forecast
from rcsd.judges.model.judge import ModelJudge

__all__ = ["Account", "Chat", "ChatReply", "Forecast", "ModelJudge", "Request", "forecast"]
