"""Documents of a run: ``run.json``, its comparison on resume, and the model card."""

import json
from collections.abc import Mapping, Sequence

from rcsd.config import Config
from rcsd.data.views import PromptTemplates
from rcsd.errors import RunError
from rcsd.graders.base import verdict_settings
from rcsd.io import fingerprint, surroundings, write_json
from rcsd.models.cpu_linear import linear_backend
from rcsd.models.hub import hub_name
from rcsd.runs import RunFolder
from rcsd.types import Example

# What a resumed run may change, beside how a judge is reached and paid: nothing that the metrics
# depend on.
_MAY_CHANGE = {"save_every_steps", "keep_checkpoints", "trackers", "out", "evaluation", "processes"}
# Files whose content the facts hold, so that they may be moved.
_MAY_MOVE = {"model": ("path", "chat_template"), "data": ("path",), "views": ("templates",)}


def write_or_check_record(
    folder: RunFolder,
    settings: Config,
    examples: Sequence[Example],
    facts: Mapping[str, object],
    resume: bool,
) -> None:
    """Make a run's folder with its record, or compare with the record of the run that is resumed.

    On resume the facts, such as what was left out, must be the same too. Raises RunError if the
    folder exists, or there is no such run, or naming what differs.
    """
    now = settings.model_dump(mode="json")
    same = {
        "template_sha256": PromptTemplates(settings.views.templates).hashes(),
        "data_sha256": fingerprint(examples),
        **facts,
    }
    if not resume:
        about = {"linear": linear_backend(), "num_examples": len(examples)}
        folder.create({"config": now, **surroundings(), **about, **same})
        return
    record = folder.read_record()
    # The learning rate of the steps behind must not depend on how many are ahead.
    is_longer = settings.steps > record["config"].get("steps", settings.steps)
    is_allowed = is_longer and settings.optim.schedule == "constant"
    may_change = _MAY_CHANGE | ({"steps"} if is_allowed else set())
    keys = sorted(
        key
        for key in now
        if key not in may_change
        and _settled(key, now[key]) != _settled(key, record["config"].get(key))
    )
    if keys:
        names = ", ".join(keys)
        raise RunError(
            f"{folder.path} was started with another {names}; cannot resume (steps may only grow, "
            "and with optim.schedule: constant)"
        )
    # As JSON has them: tuples come back as lists.
    same = json.loads(json.dumps(same))
    changed = sorted(key for key in same if same[key] != record.get(key))
    if changed:
        what = ", ".join(changed)
        raise RunError(f"{what} changed since {folder.path} was started; cannot resume")
    config = record["config"] | {name: now[name] for name in _MAY_MOVE}
    config |= {"steps": settings.steps} if is_longer else {}
    if config != record["config"]:
        write_json(folder.record, {**record, "config": config})


def _settled(key: str, section: object) -> object:
    """The part of a section that a resumed run may not change."""
    if isinstance(section, Mapping) and key in _MAY_MOVE:
        return {name: value for name, value in section.items() if name not in _MAY_MOVE[key]}
    return verdict_settings(section)


def model_card(settings: Config, num_steps: int) -> str:
    """Markdown with the hub's front matter, after so many steps."""
    views = f"the model's view: {settings.learned_view}"
    if settings.has_teacher_view:
        student, teacher = settings.views.student, settings.views.teacher
        views = f"student's view: {student}, teacher's view: {teacher}"
    placebo = settings.rubrics.placebo.type
    # A placebo's model is there to be compared with; whoever finds it alone must know that.
    warning = f"; its rubrics were a placebo: `{placebo}`" if placebo != "none" else ""
    kwargs = settings.chat_template_kwargs
    format_ = f"; prompts by the chat template with `{json.dumps(kwargs)}`" if kwargs else ""
    return (
        "---\nlibrary_name: transformers\ntags: [rcsd, self-distillation]\n"
        f"base_model: {hub_name(settings.model.path)}\n---\n\n"
        f"# {settings.out.name}\n\n"
        f"Trained by `rcsd` with the method `{settings.method.type}` for {num_steps} steps "
        f"from `{settings.model.path}`; {views}{format_}{warning}. "
        "The whole configuration is in `run.json` of the run's folder.\n"
    )
