"""Rubric-conditioned self-distillation: post-train a language model from rubrics.

`rcsd.config.load_config` and `rcsd.training.trainer.run` are ``rcsd train`` in Python. Nothing
heavy is imported here.
"""

from importlib.metadata import version

__version__ = version("rcsd")
