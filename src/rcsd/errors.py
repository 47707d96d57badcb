"""The errors that a user can cause. Each says what is wrong, where, and what to do."""

from pathlib import Path

from rcsd.redact import redacted


class UserError(Exception):
    """An error that the user can mend; the command line prints it without a traceback (exit 2)."""

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class ConfigError(UserError):
    """A configuration that cannot be run."""


class ModelError(UserError):
    """A model, tokenizer or chat template that cannot be used."""


class RunError(UserError):
    """A run folder, checkpoint or training state that does not allow going on."""


class NoVerdictsError(RunError):
    """Steps in a row without any verdict of a judge."""


class OtherRankError(RunError):
    """Another process of the run failed; it says why."""


class LostRankError(RunError):
    """Another process of the run ended without a word, or answers no more."""


class RubricError(UserError):
    """A rubric or criterion that is malformed, or whose check cannot be carried out."""


class DataError(UserError):
    """A malformed row of data."""

    def __init__(
        self,
        message: str,
        path: str | Path | None = None,
        line: int | str | None = None,
        field: str | None = None,
    ) -> None:
        self.path, self.line, self.field = path, line, field
        self.message = redacted(message)
        place = ":".join(str(part) for part in (path, line) if part is not None)
        parts = [place, f"field '{field}'" if field else "", message]
        super().__init__(": ".join(part for part in parts if part))

    def at(self, path: str | Path | None, line: int | str | None) -> "DataError":
        """The same error with its place in a file."""
        return DataError(self.message, path, line, self.field)
