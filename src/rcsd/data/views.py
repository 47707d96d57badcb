"""Views: the conversation of an example that the student or the teacher sees.

Templates are ``templates/*.jinja``; their digests go into the run record. Every view ends with the
model's own generation header, and token ids are made once: what a model sampled is never decoded
and tokenised again.
"""

import datetime
import functools
import json
import re
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox

from rcsd.data.thinking import after_thinking
from rcsd.errors import ConfigError, DataError, ModelError
from rcsd.io import digest
from rcsd.types import Conversation, Example, Message, ViewName

TEMPLATES = Path(__file__).parent / "templates"

CUT = "\ue000"
"""Private-use character that marks a place in rendered text; no template writes it."""

Request = Literal["answer", "analysis", "write_rubric", "analyse_rubric"]
"""Template of a request: for an answer or a rubric (stage 1), or for an analysis of the guidance
before either."""

NO_KWARGS: Mapping[str, Any] = {}
"""No values for the chat template beside those of ``model.chat_template_kwargs``."""

_SET_BY_TRANSFORMERS = {"messages", "add_generation_prompt", "raise_exception", "strftime_now"}
"""Variables that transformers sets whatever a configuration says."""

_FIELDS = {"answer": "reference_answer", "rubric": "rubric", "solution": "solution"}
"""Field of an example that holds each part of a view."""


@dataclass(frozen=True)
class PromptTemplates:
    """Templates that render examples as conversations; those of a folder replace packaged ones."""

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
        environment.filters["points"] = "{:+g}".format
        return environment

    def hashes(self) -> dict[str, str]:
        """SHA-256 digest of each template in use, for the run record."""
        loader, hashes = self._environment.loader, dict[str, str]()
        assert loader is not None
        for name in sorted(path.name for path in TEMPLATES.glob("*.jinja")):
            try:
                hashes[name] = digest(loader.get_source(self._environment, name)[0])
            except (OSError, UnicodeError) as error:
                raise ConfigError(f"template {name}: {_reason(error)}") from error
        return hashes

    def render(self, name: str, **values: object) -> str:
        """Text of the template ``name`` with ``values`` put in.

        Raises ConfigError if the template is malformed, names an undefined value, or is refused by
        the sandbox.
        """
        try:
            return self._environment.get_template(name).render(**values)
        except Exception as error:  # a template may do whatever the sandbox lets it
            raise ConfigError(f"template {name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Message of an error; with its type where jinja did not raise it."""
    is_from_jinja = isinstance(error, jinja2.TemplateError)
    return str(error) if is_from_jinja else f"{type(error).__name__}: {error}"


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def view_fields(view: str) -> dict[str, str]:
    """Fields of an example that a view shows, each with that reason."""
    parts = [part for part in view.split("+") if part in _FIELDS]
    return {_FIELDS[part]: f"the view '{view}' shows it" for part in parts}


def build_conversation(
    request: Request, example: Example, view: ViewName, templates: PromptTemplates
) -> Conversation:
    """Conversation of a request: earlier turns, then the question with the view's parts beside it.

    Raises DataError if the example lacks a part of the view.
    """
    parts = view.split("+")
    values = {p: getattr(example, field) if p in parts else None for p, field in _FIELDS.items()}
    for part in parts:
        if part in _FIELDS and values[part] is None:
            message = f"example {example.id!r} has none, but the view '{view}' shows it"
            raise DataError(message, field=_FIELDS[part])
    guided = view != "none"
    text = templates.render(f"{request}.jinja", question=example.question, guided=guided, **values)
    return [*example.turns, _user(text)]


def user_turn(
    name: Literal["answer_now", "write_rubric_now"], templates: PromptTemplates
) -> Message:
    """User turn after an analysis: the request for the answer or the rubric."""
    return _user(templates.render(f"{name}.jinja"))


def prompt_ids(
    tokenizer: Any, conversation: Conversation, kwargs: Mapping[str, Any] = NO_KWARGS
) -> list[int]:
    """Token ids of a conversation in the model's chat format, up to the generation header.

    ``kwargs``, here and below, are values for the chat template.

    Raises ModelError if the model has no chat template, or one that leaves out a message's text.
    """
    rendered = _rendered(tokenizer, conversation, kwargs)
    for message in conversation:
        text = message["content"].strip()
        if text not in rendered and json.dumps(text)[1:-1] not in rendered:
            raise ModelError(
                f"the chat template leaves out the text of the {message['role']}'s message: it "
                "misspells a variable, or is written for lists of content; set model.chat_template"
            )
    return _ids(tokenizer, rendered)


def continued_ids(
    tokenizer: Any,
    conversation: Conversation,
    turn_ids: list[int],
    following: Message,
    kwargs: Mapping[str, Any] = NO_KWARGS,
) -> list[int]:
    """Token ids of a conversation that continues after a sampled assistant turn.

    They begin with the ids of the prompt and of the turn as they were sampled (without the
    end-of-turn token): only the text after them is tokenised.

    Raises:
        ModelError: If the chat template drops or alters earlier assistant turns.
    """
    answered: Conversation = [*conversation, {"role": "assistant", "content": CUT}]
    text = _rendered(tokenizer, [*answered, following], kwargs)
    # The last one: a question may hold the character as well.
    before, cut, after = text.rpartition(CUT)
    prompt = _rendered(tokenizer, conversation, kwargs)
    # A template may open thinking in a prompt and drop it from earlier turns: the model saw it.
    ends = before.rstrip(), prompt.rstrip()
    if not cut or not (ends[0].startswith(ends[1]) or ends[1].startswith(ends[0])):
        raise ModelError(
            "the chat template drops or alters earlier assistant turns: what it renders before one "
            "is not the prompt that the turn answered; take views.analysis: false, or set "
            "model.chat_template"
        )
    return _ids(tokenizer, prompt) + turn_ids + _ids_after(tokenizer, CUT, after)


def turn_end_id(tokenizer: Any, eos_ids: Collection[int] = ()) -> int | None:
    """Token with which the chat template ends an assistant's turn, or None.

    Where it writes none (GLM-4), the first token of the next turn, if that is one of ``eos_ids``.
    """
    turn: Conversation = [_user("?"), {"role": "assistant", "content": CUT}]
    added = tokenizer.added_tokens_decoder
    for conversation, ends in ((turn, added), ([*turn, _user("?")], eos_ids)):
        try:
            rendered = _rendered(tokenizer, conversation, NO_KWARGS, generation=False)
        except ModelError:
            if conversation is turn:
                raise
            return None  # some templates take one turn alone
        _, cut, after = rendered.rpartition(CUT)
        ids = _ids(tokenizer, after.lstrip())
        if cut and ids and ids[0] in ends:
            return ids[0]
    return None


def target_ids(tokenizer: Any, text: str, kwargs: Mapping[str, Any] = NO_KWARGS) -> list[int]:
    """Token ids of an assistant's turn as the chat template continues its own prompt.

    They include what the template puts around the text, such as an empty block of thinking, up to
    the token that ends the turn.

    Raises:
        ModelError: If what the template renders does not begin with its prompt, or alters the text.
    """
    question: Conversation = [_user("?")]
    prompt = _rendered(tokenizer, question, kwargs)
    answer: Message = {"role": "assistant", "content": text}
    rendered = _rendered(tokenizer, [*question, answer], kwargs, generation=False)
    target = rendered.removeprefix(prompt)
    if target == rendered or text.strip() not in target:
        raise ModelError(
            "the chat template does not continue its prompt with a given answer (it opens a block "
            "of thinking, or cuts the answer), so sft has no target; set model.chat_template, or "
            "model.chat_template_kwargs such as {enable_thinking: false}"
        )
    ids, end = _ids_after(tokenizer, prompt, target), turn_end_id(tokenizer)
    return ids[: len(ids) - ids[::-1].index(end)] if end in ids else ids


def check_template_kwargs(tokenizer: Any, kwargs: Mapping[str, Any], field: str) -> None:
    """Refuse values that the chat template does not use.

    Raises:
        ModelError: Naming the variables that it uses.
    """
    if not kwargs:
        return
    _check_has_template(tokenizer)
    template = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", tokenizer.get_chat_template())
    extensions = ["jinja2.ext.loopcontrols"]
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(extensions=extensions)
    try:
        tree = environment.parse(template)
    except jinja2.TemplateError as error:
        raise ModelError(f"the model's chat template fails: {error}") from error
    # A name that the template sets is a variable all the same where it has a default.
    used = (
        jinja2.meta.find_undeclared_variables(tree)
        - _SET_BY_TRANSFORMERS
        - {*tokenizer.special_tokens_map}
    )
    assigned = {name.name for name in tree.find_all(jinja2.nodes.Name) if name.ctx == "store"}
    probes = tree.find_all((jinja2.nodes.Test, jinja2.nodes.Filter))
    optional = {
        node.node.name
        for node in probes
        if node.name in ("defined", "default") and isinstance(node.node, jinja2.nodes.Name)
    }
    for name in kwargs:
        if name not in used:
            names = ", ".join(sorted(used - (assigned - optional))) or "none"
            raise ModelError(
                f"{field}.{name}: the chat template uses no such variable; it uses: {names}"
            )


def check_chat_template(tokenizer: Any, kwargs: Mapping[str, Any] = NO_KWARGS) -> None:
    """Refuse a chat template whose prompt lacks the header of the assistant's turn.

    A block of thinking or the header of a channel may follow the prompt: models sample these.

    Raises:
        ModelError: Naming what stands between the prompt and the answer.
    """
    question: Conversation = [_user("?")]
    prompt = _rendered(tokenizer, question, kwargs)
    answered = [*question, Message(role="assistant", content=CUT)]
    rendered = _rendered(tokenizer, answered, kwargs, generation=False)
    before, cut, _ = rendered.removeprefix(prompt).partition(CUT)
    continues = cut and rendered.startswith(prompt)
    header = (after_thinking(before) or "").strip() if continues else ""
    if header:
        raise ModelError(
            f"the chat template's prompt lacks the header {header!r} of the assistant's turn: it "
            "ignores add_generation_prompt; set model.chat_template"
        )


def prints_date(tokenizer: Any) -> bool:
    """True if the chat template prints the day on which it is rendered."""
    return "strftime_now" in str(tokenizer.chat_template)


def dated_template(template: str, day: datetime.date) -> str:
    """A chat template with a ``strftime_now`` that prints a given day.

    A macro, since transformers passes no functions on to a template.
    """
    formats = [f"%{flag}{letter}" for letter in string.ascii_letters for flag in ("", "-")]
    values = [(name, value) for name in formats if (value := day.strftime(name)) != name]
    replaced = "".join(f".replace({json.dumps(n)}, {json.dumps(value)})" for n, value in values)
    macro = "{% macro strftime_now(format) %}{{ format" + replaced + " }}{% endmacro %}\n"
    return macro + template


def find_control_token(tokenizer: Any, conversation: Conversation) -> str | None:
    """Control token in the text of a message, where it would end or forge a turn; or None."""
    tokens = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    texts = [message["content"] for message in conversation]
    return next((token for token in tokens if any(token in text for text in texts)), None)


def _check_has_template(tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        raise ModelError(
            "the model has no chat template; take an instruction-tuned model, or set "
            "model.chat_template to a jinja file"
        )


def _rendered(
    tokenizer: Any, conversation: Conversation, kwargs: Mapping[str, Any], generation: bool = True
) -> str:
    _check_has_template(tokenizer)
    try:
        return tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=generation, **kwargs
        )
    except Exception as error:  # foreign code, in the sandbox of transformers
        raise ModelError(f"the model's chat template fails: {_reason(error)}") from error


def _ids_after(tokenizer: Any, before: str, text: str) -> list[int]:
    """Token ids of a text as they follow another: at a start some tokenizers add a space."""
    start, ids = _ids(tokenizer, before), _ids(tokenizer, before + text)
    return ids[len(start) :] if ids[: len(start)] == start else _ids(tokenizer, text)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
