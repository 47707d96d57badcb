"""The card of a trained model: where it comes from, for whoever finds it alone."""

from rcsd import config
from rcsd.models.hub import hub_name


def model_card(settings: config.Config, num_steps: int) -> str:
    """Markdown with the hub's front matter.

    Args:
        settings: The run.
        num_steps: Steps taken; a budget may have ended the run before all of them.
    """
    views = f"the model's view: {settings.learned_view}"
    if settings.has_teacher_view:
        views = (
            f"student's view: {settings.views.student}, teacher's view: {settings.views.teacher}"
        )
    placebo = settings.rubrics.placebo.type
    # A placebo's model is there to be compared with; whoever finds it alone must know that.
    warning = f"; its rubrics were a placebo: `{placebo}`" if placebo != "none" else ""
    return (
        "---\nlibrary_name: transformers\ntags: [rcsd, self-distillation]\n"
        f"base_model: {hub_name(settings.model.path)}\n---\n\n"
        f"# {settings.out.name}\n\n"
        f"Trained by `rcsd` with the method `{settings.method.type}` for {num_steps} steps "
        f"from `{settings.model.path}`; {views}{warning}. "
        "The whole configuration is in `run.json` of the run's folder.\n"
    )
