"""Named choices of published methods: a preset fills in what a configuration leaves out.

A configuration that says something else than its preset is refused: the name would be wrong.
``run.json`` holds the outcome. Model, data, optimizer and length are nobody's preset.

rcsd        forward KL on the teacher's top 20, no clip, the rubric alone: the text of arXiv
            2606.19327, and the defaults here.
opsd        OPSD (arXiv 2601.18734): the solution in the teacher's view; JSD with beta 0.5 over the
            whole vocabulary at temperature 1.1; samples at 1.1, top-p 0.95, top-k 20. As the
            scripts of its repository had it on 5 March 2026, but for their mean over micro-batches;
            later versions are said to clip the divergence.
rgsd        RGSD (arXiv 2606.12507): the rubric alone, JSD with beta 0.5. The paper masks the tokens
            of a model's thinking; here all completion tokens count. Full vocabulary: chosen by us.
rcsd-paper  The released code of RCSD: answer and rubric in the teacher's view, analysis first, the
            entry clip at 0.05 that reverses gradients (`rcsd.methods.losses.clip_entries`);
            samples at 1.2, top-p 0.95, top-k 20. Its defects that are no choices are not reproduced
            (docs/method.md).
"""

from collections.abc import Mapping
from typing import Any, Literal

PresetName = Literal["rcsd", "opsd", "rgsd", "rcsd-paper"]

_TOP_20 = {"type": "teacher_top_k", "k": 20, "outside": "renormalise"}
_JSD = {"divergence": {"type": "jsd", "beta": 0.5}, "support": {"type": "full"}}
_PLAIN = {"clip": {"type": "none"}, "temperature": 1.0}
_RCSD = {"divergence": {"type": "forward_kl"}, "support": _TOP_20, **_PLAIN}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "rcsd": {"method": _RCSD, "views": {"teacher": "rubric"}},
    "opsd": {
        "method": {**_JSD, **_PLAIN, "temperature": 1.1},
        "views": {"teacher": "solution"},
        "sampling": {"temperature": 1.1, "top_p": 0.95, "top_k": 20},
    },
    "rgsd": {"method": {**_JSD, **_PLAIN}, "views": {"teacher": "rubric"}},
    "rcsd-paper": {
        "method": {**_RCSD, "clip": {"type": "entry", "max_nats": 0.05}},
        "views": {"teacher": "rubric+answer", "analysis": True},
        "sampling": {"temperature": 1.2, "top_p": 0.95, "top_k": 20},
    },
}
"""By name: what each fills into the sections of a run."""


def filled(tree: Mapping[str, Any], name: Any, section: str) -> dict[str, Any]:
    """A section's tree with what a preset says where the tree says nothing."""
    is_preset = isinstance(name, str) and name in PRESETS
    values = PRESETS[name].get(section, {}) if is_preset else {}
    return {**values, **tree}


def named(method: Any) -> list[str]:
    """Names of the presets in a method's tree: its own, or those of its phases and terms."""
    if isinstance(method, list):
        return [name for item in method for name in named(item)]
    if not isinstance(method, Mapping):
        return []
    names = [method["preset"]] if isinstance(method.get("preset"), str) else []
    return names + [name for value in method.values() for name in named(value)]
