"""A model as the judge: prompts, strict reading of replies, cache and budget."""

from rcsd.graders.judge.judge import ModelJudge
from rcsd.graders.judge.server import ChatReply

__all__ = ["ChatReply", "ModelJudge"]
