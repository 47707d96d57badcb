"""Models as judges: prompts, strict reading of replies, cache and budget, and their votes."""

from rcsd.graders.judge.judge import ModelJudge
from rcsd.graders.judge.panel import JudgePanel

__all__ = ["JudgePanel", "ModelJudge"]
