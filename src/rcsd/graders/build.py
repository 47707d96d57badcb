"""The judge that a section asks for."""

from rcsd import config
from rcsd.data.views import PromptTemplates
from rcsd.errors import ConfigError
from rcsd.graders.base import Judge
from rcsd.graders.code import CodeJudge
from rcsd.graders.judge.account import Account
from rcsd.graders.judge.cache import ReplyCache
from rcsd.graders.judge.chat import Chat
from rcsd.graders.judge.judge import ModelJudge
from rcsd.graders.judge.server import ServerChat
from rcsd.io import cache_folder


def chosen_judge(section: config.Judge) -> Judge:
    """Checks in code, or a model behind an address.

    Raises:
        ConfigError: If a variable or folder is missing; or for a model in this process, which
            `rcsd.graders.judge.local` makes.
        DataError: If the cache cannot be opened.
    """
    match section:
        case config.CodeJudge():
            return CodeJudge()
        case config.ModelJudge():
            return asking_judge(section, ServerChat(section))
        case _:
            raise ConfigError("judge.type local: this command needs {type: model} or {type: code}")


def account_of(judge: Judge) -> dict[str, float]:
    """What a judge was asked and what it took, by names of metrics; nothing where code judges."""
    return judge.account.metrics() if isinstance(judge, ModelJudge) else {}


def asking_judge(section: config.ModelJudge | config.LocalJudge, chat: Chat) -> ModelJudge:
    """A model as the judge.

    Args:
        section: How it is asked.
        chat: The model.

    Raises:
        ConfigError: If the folder of templates is missing.
        DataError: If the cache cannot be opened.
    """
    folder = section.templates
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"judge.templates: {folder} is not a folder")
    cache = ReplyCache(section.cache or cache_folder() / "judgements.sqlite")
    prices = section.prices if isinstance(section, config.ModelJudge) else None
    max_cost = section.max_cost if isinstance(section, config.ModelJudge) else None
    account = Account(prices, section.max_calls, max_cost)
    return ModelJudge(chat, section.asks, PromptTemplates(folder), cache, account, section.seed)
