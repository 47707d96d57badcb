"""A published file from its import to an evaluated model."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.data.test_layouts import SAMPLES
from tests.support.tiny import tiny_folder

from rcsd.data.rows import read_jsonl

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Why?"},
]
CHAT = {"messages": TURNS, "rubric": [{"criterion": "Names it.", "weight": 4}]}
FORMATS = ["rar", "healthbench", "prbench", "biggen", "verl", "wildchecklists", "chat"]


@pytest.mark.slow  # tests/data/test_layouts.py and test_views.py fail first
@pytest.mark.parametrize("format", FORMATS)
def test_a_published_file_is_imported_checked_shown_learned_from_and_evaluated(
    tmp_path: Path, rcsd: Any, format: str
) -> None:
    row = CHAT if format == "chat" else SAMPLES[format][0][0]
    rows = [json.loads(json.dumps(row).replace("Why?", f"Why {word}?")) for word in "abc"]
    for number, each in enumerate(rows):
        names = ("id", "prompt_id", "task", "sample_id")
        each |= {name: f"row {number}" for name in names if name in each}
    (tmp_path / "source.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    file = tmp_path / "rows.jsonl"
    assert rcsd("data", "import", tmp_path / "source.jsonl", "--out", file)[0] == 0
    assert len(read_jsonl(file)) == 3
    assert rcsd("data", "check", file)[0] == 0
    assert "Why a?" in rcsd("data", "show", file)[1]

    tiny_folder(tmp_path / "model")
    (tmp_path / "chat.jinja").write_text(CHATML)
    data = {"type": "jsonl", "path": str(file)}
    tree = {
        "model": {
            "path": str(tmp_path / "model"),
            "training": {"type": "full"},
            "chat_template": str(tmp_path / "chat.jinja"),
        },
        "data": data,
        "method": {"type": "distill"},
        "sampling": {"max_tokens": 4},
        "optim": {"lr": 0.001},
        "steps": 3,
        "examples_per_step": 2,
        "out": str(tmp_path / "run"),
        "evaluation": {"sets": {"held": data}, "max_tokens": 4},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    code, _, err = rcsd("train", tmp_path / "run.yaml")
    assert code == 0, err
    code, _, err = rcsd("eval", tmp_path / "run", "num_samples=1")
    assert code == 0, err
