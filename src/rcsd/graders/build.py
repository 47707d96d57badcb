"""Judges of configuration sections."""

from rcsd import config
from rcsd.graders.base import Judge
from rcsd.graders.code import CodeJudge


def build_judge(section: config.Judge) -> Judge:
    """The judge of a section. The client of a server, or torch, is imported only where needed.

    Raises:
        ConfigError: If a variable or folder is missing.
        DataError: If the cache of replies cannot be opened.
        ModelError: If a model in this process cannot be loaded, or has no chat template.
    """
    if isinstance(section, config.CodeJudge):
        return CodeJudge()
    from rcsd.graders.judge import ModelJudge  # noqa: PLC0415 (most runs have no model judge)

    if isinstance(section, config.ModelJudge):
        from rcsd.graders.judge.server import ServerChat  # noqa: PLC0415 (as above)

        return ModelJudge.from_config(section, ServerChat(section))
    from rcsd.graders.judge.local import LocalChat  # noqa: PLC0415 (torch takes seconds)

    return ModelJudge.from_config(section, LocalChat.from_config(section))
