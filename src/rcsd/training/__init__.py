"""The training loop and its parts."""

from rcsd.training.trainer import run

__all__ = ["run"]
