"""A model as the judge: prompts, strict reading of replies, cache and budget."""

from rcsd.graders.judge.judge import ModelJudge

__all__ = ["ModelJudge"]
