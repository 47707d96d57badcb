"""Views: an example becomes the conversation that the student or the teacher sees.

The words are in ``templates/*.jinja``; their hash goes into the run record. Every view ends with
the model's own generation header, and token ids are made once: what a model sampled is never
decoded and tokenised again.
"""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jinja2
import jinja2.sandbox

from rcsd.errors import ConfigError, DataError, ModelError
from rcsd.types import Conversation, Example, Message, ViewName

TEMPLATES = Path(__file__).parent / "templates"

CUT = "\ue000"
"""A private-use character that marks a place: no template writes it, no data set should hold it."""


@runtime_checkable
class ChatTokenizer(Protocol):
    """What views need of a tokenizer: a chat template, and text to ids."""

    chat_template: Any
    added_tokens_decoder: Any

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:
        """Render a conversation in the model's own format."""
        ...

    def __call__(self, text: str, **kwargs: Any) -> Any:
        """Tokenise a text."""
        ...


def _points(weight: float) -> str:
    return f"{weight:+g}"


@dataclass(frozen=True)
class Words:
    """The templates that make conversations of examples.

    Args:
        folder: A folder whose ``.jinja`` files replace the packaged ones of the same name, or None.
    """

    folder: Path | None = None

    def __post_init__(self) -> None:
        """Refuse a folder that is not there."""
        if self.folder is not None and not self.folder.is_dir():
            raise ConfigError(f"views.templates: {self.folder} is not a folder")

    @functools.cached_property
    def _environment(self) -> jinja2.Environment:
        folders = [self.folder, TEMPLATES] if self.folder is not None else [TEMPLATES]
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            loader=jinja2.FileSystemLoader(folders), undefined=jinja2.StrictUndefined
        )
        environment.filters["points"] = _points
        return environment

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each template in use, for the run record."""
        hashes = {}
        for name in sorted(path.name for path in TEMPLATES.glob("*.jinja")):
            assert self._environment.loader is not None
            try:
                source = self._environment.loader.get_source(self._environment, name)[0]
            except (OSError, UnicodeError) as error:
                raise ConfigError(f"template {name}: {_reason(error)}") from error
            hashes[name] = hashlib.sha256(source.encode()).hexdigest()
        return hashes

    def render(self, name: str, **values: object) -> str:
        """Text of the template ``name`` with ``values`` put in.

        Raises:
            ConfigError: If the template is malformed, names a value that there is not, or does what
                a sandbox refuses.
        """
        try:
            return self._environment.get_template(name).render(**values)
        except Exception as error:  # a template may do whatever the sandbox lets it
            raise ConfigError(f"template {name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What went wrong; of errors that are not jinja's own, also their kind."""
    is_own = isinstance(error, jinja2.TemplateError)
    return str(error) if is_own else f"{type(error).__name__}: {error}"


def missing_parts(example: Example, view: ViewName) -> list[str]:
    """What the view shows, and the example does not have: ``answer``, ``rubric``, ``solution``."""
    return [part for part, value in _parts(example, view).items() if value is None]


def _parts(example: Example, view: ViewName) -> dict[str, Any]:
    """What the view shows beside the question, by name; None where the example lacks it."""
    values = {
        "answer": example.reference_answer,
        "rubric": example.rubric,
        "solution": example.solution,
    }
    return {part: value for part, value in values.items() if part in view.split("+")}


def _shown(example: Example, view: ViewName) -> dict[str, Any]:
    """What the view lets through of the example; what it needs must be there."""
    missing = missing_parts(example, view)
    if missing:
        field = "reference_answer" if missing[0] == "answer" else missing[0]
        raise DataError(
            f"example {example.id!r} has none, but the view '{view}' shows it", field=field
        )
    nothing = {"answer": None, "solution": None, "rubric": None}
    parts = _parts(example, view)
    return {"question": example.question, "guided": bool(parts), **nothing, **parts}


def answer_conversation(example: Example, view: ViewName, words: Words) -> Conversation:
    """Conversation in which the question is asked, with what the view shows beside it."""
    return [_user(words.render("answer.jinja", **_shown(example, view)))]


def analysis_conversation(example: Example, view: ViewName, words: Words) -> Conversation:
    """Conversation that asks for an analysis of the guidance, before the answer."""
    return [_user(words.render("analysis.jinja", **_shown(example, view)))]


def answer_now(words: Words) -> Message:
    """User turn after an analysis: now answer."""
    return _user(words.render("answer_now.jinja"))


def rubric_conversation(example: Example, view: ViewName, words: Words) -> Conversation:
    """Conversation that asks for a rubric (stage 1), with what the view shows beside the question.

    The student's view is ``none`` or ``answer``; the teacher's shows the gold rubric as well.
    """
    return [_user(words.render("write_rubric.jinja", **_shown(example, view)))]


def rubric_analysis_conversation(example: Example, view: ViewName, words: Words) -> Conversation:
    """Conversation that asks for an analysis of the guidance, before the rubric."""
    return [_user(words.render("analyse_rubric.jinja", **_shown(example, view)))]


def rubric_now(words: Words) -> Message:
    """User turn after an analysis: now write the rubric."""
    return _user(words.render("write_rubric_now.jinja"))


def prompt_ids(tokenizer: ChatTokenizer, conversation: Conversation) -> list[int]:
    """Token ids of a conversation in the model's chat format, up to the generation header.

    Raises:
        ModelError: If the model has no chat template.
    """
    return _ids(tokenizer, _rendered(tokenizer, conversation))


def continued_ids(
    tokenizer: ChatTokenizer,
    conversation: Conversation,
    turn_ids: list[int],
    following: Message,
) -> list[int]:
    """Token ids of a conversation that goes on after a sampled assistant turn.

    The sampled ids stay as they are; only the text around them is tokenised. So the turn keeps the
    first tokens and the exact tokenisation that the model chose.

    Args:
        tokenizer: With a chat template.
        conversation: What the turn answers.
        turn_ids: The sampled tokens, without the end-of-turn token.
        following: The user turn after it.

    Returns:
        Ids up to the next generation header.

    Raises:
        ModelError: If the chat template drops or alters earlier assistant turns.
    """
    text = _rendered(tokenizer, [*conversation, {"role": "assistant", "content": CUT}, following])
    # The last one: a question may hold the character as well.
    before, cut, after = text.rpartition(CUT)
    if not cut:
        raise ModelError("the chat template drops earlier assistant turns: no room for an analysis")
    return _ids(tokenizer, before) + turn_ids + _ids(tokenizer, after)


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def turn_end_id(tokenizer: ChatTokenizer) -> int | None:
    """The token with which the chat template ends an assistant's turn, or None."""
    conversation: Conversation = [_user("?"), {"role": "assistant", "content": CUT}]
    _, cut, after = _rendered(tokenizer, conversation, generation=False).rpartition(CUT)
    ids = _ids(tokenizer, after)
    return ids[0] if cut and ids and ids[0] in tokenizer.added_tokens_decoder else None


def control_token_in(tokenizer: ChatTokenizer, conversation: Conversation) -> str | None:
    """A control token that stands in a message's text, where it would end or forge a turn."""
    tokens = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    texts = [message["content"] for message in conversation]
    return next((token for token in tokens if any(token in text for text in texts)), None)


def _rendered(tokenizer: ChatTokenizer, conversation: Conversation, generation: bool = True) -> str:
    if not tokenizer.chat_template:
        raise ModelError(
            "the model has no chat template; take an instruction-tuned model, or set "
            "model.chat_template to a jinja file"
        )
    try:
        return tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=generation
        )
    except Exception as error:  # foreign code, in the sandbox of transformers
        raise ModelError(f"the model's chat template fails: {_reason(error)}") from error


def _ids(tokenizer: ChatTokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
