"""Views: the conversation of an example that the student or the teacher sees.

Templates are ``templates/*.jinja``; their digests go into the run record. Every view ends with the
model's own generation header, and token ids are made once: what a model sampled is never decoded
and tokenised again.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jinja2
import jinja2.sandbox

from rcsd.errors import ConfigError, DataError, ModelError
from rcsd.io import digest
from rcsd.types import Conversation, Example, Message, ViewName

TEMPLATES = Path(__file__).parent / "templates"

CUT = "\ue000"
"""Private-use character that marks a place in rendered text; no template writes it."""


@runtime_checkable
class ChatTokenizer(Protocol):
    """Interface of a tokenizer: a chat template, and text to token ids."""

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
class PromptTemplates:
    """Templates that render examples as conversations.

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
        """SHA-256 digest of each template in use, for the run record."""
        hashes = {}
        for name in sorted(path.name for path in TEMPLATES.glob("*.jinja")):
            assert self._environment.loader is not None
            try:
                source = self._environment.loader.get_source(self._environment, name)[0]
            except (OSError, UnicodeError) as error:
                raise ConfigError(f"template {name}: {_reason(error)}") from error
            hashes[name] = digest(source)
        return hashes

    def render(self, name: str, **values: object) -> str:
        """Text of the template ``name`` with ``values`` put in.

        Raises:
            ConfigError: If the template is malformed, names an undefined value, or is refused
                by the sandbox.
        """
        try:
            return self._environment.get_template(name).render(**values)
        except Exception as error:  # a template may do whatever the sandbox lets it
            raise ConfigError(f"template {name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Message of an error; with its type where jinja did not raise it."""
    is_from_jinja = isinstance(error, jinja2.TemplateError)
    return str(error) if is_from_jinja else f"{type(error).__name__}: {error}"


def missing_parts(example: Example, view: ViewName) -> list[str]:
    """Parts of the view that the example lacks: ``answer``, ``rubric``, ``solution``."""
    return [part for part, value in _parts(example, view).items() if value is None]


def _parts(example: Example, view: ViewName) -> dict[str, Any]:
    """Parts of the view beside the question, by name; None where the example lacks one."""
    values = {
        "answer": example.reference_answer,
        "rubric": example.rubric,
        "solution": example.solution,
    }
    return {part: value for part, value in values.items() if part in view.split("+")}


def _template_values(example: Example, view: ViewName) -> dict[str, Any]:
    """Values for the template: the question, and the parts of the view, which must be there."""
    missing = missing_parts(example, view)
    if missing:
        field = "reference_answer" if missing[0] == "answer" else missing[0]
        raise DataError(
            f"example {example.id!r} has none, but the view '{view}' shows it", field=field
        )
    nothing = {"answer": None, "solution": None, "rubric": None}
    parts = _parts(example, view)
    return {"question": example.question, "guided": bool(parts), **nothing, **parts}


def answer_conversation(
    example: Example, view: ViewName, templates: PromptTemplates
) -> Conversation:
    """Request for an answer: the question, with the parts of the view beside it."""
    return [_user(templates.render("answer.jinja", **_template_values(example, view)))]


def analysis_conversation(
    example: Example, view: ViewName, templates: PromptTemplates
) -> Conversation:
    """Request for an analysis of the guidance, before the answer."""
    return [_user(templates.render("analysis.jinja", **_template_values(example, view)))]


def answer_now(templates: PromptTemplates) -> Message:
    """User turn after an analysis: the request for the answer."""
    return _user(templates.render("answer_now.jinja"))


def rubric_conversation(
    example: Example, view: ViewName, templates: PromptTemplates
) -> Conversation:
    """Request for a rubric (stage 1), with the parts of the view beside the question.

    The student's view is ``none`` or ``answer``; the teacher's shows the gold rubric as well.
    """
    return [_user(templates.render("write_rubric.jinja", **_template_values(example, view)))]


def rubric_analysis_conversation(
    example: Example, view: ViewName, templates: PromptTemplates
) -> Conversation:
    """Request for an analysis of the guidance, before the rubric."""
    return [_user(templates.render("analyse_rubric.jinja", **_template_values(example, view)))]


def rubric_now(templates: PromptTemplates) -> Message:
    """User turn after an analysis: the request for the rubric."""
    return _user(templates.render("write_rubric_now.jinja"))


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
    """Token ids of a conversation that continues after a sampled assistant turn.

    The sampled ids stay as they are; only the text around them is tokenised. So the turn keeps the
    first tokens and the exact tokenisation that the model chose.

    Args:
        tokenizer: With a chat template.
        conversation: Messages before the sampled turn.
        turn_ids: Sampled tokens, without the end-of-turn token.
        following: User turn after it.

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
    """Token with which the chat template ends an assistant's turn, or None."""
    conversation: Conversation = [_user("?"), {"role": "assistant", "content": CUT}]
    _, cut, after = _rendered(tokenizer, conversation, generation=False).rpartition(CUT)
    ids = _ids(tokenizer, after)
    return ids[0] if cut and ids and ids[0] in tokenizer.added_tokens_decoder else None


def find_control_token(tokenizer: ChatTokenizer, conversation: Conversation) -> str | None:
    """Control token in the text of a message, where it would end or forge a turn; or None."""
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
