"""A word before a run whose teacher has nothing to teach."""

from collections.abc import Callable

from rcsd import config
from rcsd.engines import PolicyEngine
from rcsd.loading import load_examples
from rcsd.models import Policy
from rcsd.probe.gains import MIN_QUESTIONS
from rcsd.probe.headroom import Answerer, teacher_headroom
from rcsd.prompting import prompt_room
from rcsd.ranks import Ranks
from rcsd.types import Decoding

HEADROOM_EXAMPLES = 32
"""Questions that are answered in both views before a run, to warn where there is no headroom."""


def warn_without_headroom(
    settings: config.Config,
    policy: Policy,
    engine: PolicyEngine,
    on_warning: Callable[[str], None],
    ranks: Ranks,
) -> None:
    """Tell whoever starts a run that its teacher knows no better than its student.

    Args:
        settings: The run.
        policy: Before any step.
        engine: Answers in both views.
        on_warning: Told so, or that nobody can say.
        ranks: Processes that all ask for the same.
    """
    is_control = settings.rubrics.placebo.type != "none"
    if is_control or not settings.has_teacher_view or settings.views.writes == "rubric":
        return
    sampling, evaluation = settings.sampling, settings.evaluation
    max_tokens = sampling.max_tokens if evaluation is None else evaluation.max_tokens
    room = prompt_room(policy, sampling.max_prompt_tokens, max_tokens)
    answerer = Answerer(policy, engine, settings.views, Decoding(max_tokens), room, ranks=ranks)
    examples, _ = load_examples(settings.probed_data)
    gain = teacher_headroom(answerer, examples, HEADROOM_EXAMPLES, settings.seed)
    if gain is None or gain.n < MIN_QUESTIONS:
        on_warning(
            "headroom is unknown: too few answers can be graded, for want of checks and numeric "
            "references"
        )
    elif gain.low <= 0:
        on_warning(
            f"no headroom: in the view '{settings.views.teacher}' the model scores "
            f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}] over '{settings.views.student}' "
            f"on {gain.n} examples, so there may be nothing to learn; 'rcsd probe' says more"
        )
