"""No code of others runs: of pickles, templates, models. No path leaves its folder."""

import ast
import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny import tiny_folder, tiny_model, tiny_tokenizer

from rcsd.config import EvalConfig, FullFineTuning, Lora, Model
from rcsd.config.base import parse
from rcsd.data.views import PromptTemplates, build_conversation, prompt_ids
from rcsd.errors import ConfigError, DataError, ModelError
from rcsd.evaluation.record import read_record
from rcsd.io import write_json
from rcsd.models.hub import refuse_pickles
from rcsd.models.policy import load_policy
from rcsd.models.save import load_merged
from rcsd.types import Example

PACKAGE = Path(__file__).parents[1] / "src" / "rcsd"
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8"))
    for path in PACKAGE.rglob("*.py")
}

# What reads code out of data, or hands data to a shell.
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "torch.load", "yaml.load", "yaml.unsafe_load"),
    *("yaml.full_load", "yaml.load_all", "np.load", "numpy.load", "tempfile.mktemp", "os.system"),
    *("os.popen", "pd.read_pickle", "torch.hub.load"),
}
FORBIDDEN_ARGUMENTS = {
    *("shell=True", "weights_only=False", "trust_remote_code=True", "allow_pickle=True"),
    *("autoescape=False", "verify=False"),
}
CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "datetime.utcnow"}


def called(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_the_package_reads_no_pickles_and_runs_no_text() -> None:
    for name, tree in TREES.items():
        assert not imported(tree) & FORBIDDEN_IMPORTS, name
        calls = called(tree)
        assert not {ast.unparse(call.func) for call in calls} & FORBIDDEN_CALLS, name
        given = {f"{k.arg}={ast.unparse(k.value)}" for call in calls for k in call.keywords}
        assert not given & FORBIDDEN_ARGUMENTS, name


def test_no_time_is_measured_by_a_clock_that_jumps() -> None:
    # A server's Retry-After may be a date, which only the wall clock can be compared with.
    dates = {"http.py": {"time.time"}}
    for name, tree in TREES.items():
        used = {ast.unparse(call.func) for call in called(tree)} & CLOCKS
        assert used == dates.get(name, set()), name


def test_jinja_runs_in_a_sandbox_wherever_templates_are_not_our_own() -> None:
    used = {name: [ast.unparse(call.func) for call in called(tree)] for name, tree in TREES.items()}
    made = {n: [x for x in names if x.endswith("Environment")] for n, names in used.items()}
    for sandbox in made.pop("data/views.py"):
        assert sandbox.endswith("ImmutableSandboxedEnvironment")
    # The report's templates are packaged.
    assert [name for name, names in made.items() if names] == ["evaluation/report.py"]


EVIL_TEMPLATES = [
    *("{{", "{{ 1 / 0 }}", "{{ question + 1 }}", "{{ nothing }}"),
    *("{{ [].append.__self__.__class__ }}", "{% set l = [1] %}{{ l.append(2) }}"),
    *("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ question.__init__.__globals__ }}"),
    "{{ cycler.__init__.__globals__.os.popen('touch pwned').read() }}",
    "{{ '{0.__class__.__base__}'.format(question) }}{{ question.__class__() }}",
    "{% for i in range(100000000) %}{% endfor %}",
    *("{% include '../../../etc/passwd' %}", "{% include '/etc/passwd' %}"),
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
]


@pytest.mark.parametrize("text", EVIL_TEMPLATES)
def test_a_template_that_leaves_its_sandbox_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "answer.jinja").write_text(text)
    with pytest.raises(ConfigError, match=r"template answer\.jinja: .+"):
        build_conversation("answer", Example("1", "why?"), "none", PromptTemplates(tmp_path))
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "text",
    [text for text in EVIL_TEMPLATES if "question" not in text and "nothing" not in text]
    + ["{{ messages[0].__class__.__mro__ }}", "{{ messages.append(1) }}"],
)
def test_a_chat_template_that_leaves_its_sandbox_is_refused(text: str) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = text
    with pytest.raises(ModelError, match=r"the model's chat template fails: .+"):
        prompt_ids(tokenizer, [{"role": "user", "content": "why?"}])
    assert not Path("pwned").exists()


class Bomb:
    """Its pickle makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def loaded(folder: str | Path) -> Any:
    return load_policy(Model(path=str(folder), training=FullFineTuning()))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "x.pt"])
def test_pickled_weights_alone_are_refused_with_how_to_convert_them(
    name: str, tmp_path: Path
) -> None:
    folder, sprung = Path(tiny_folder(tmp_path / "tiny")), tmp_path / "sprung"
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    (folder / name).write_bytes(pickle.dumps(Bomb(sprung)))
    with pytest.raises(ModelError, match=r"weights are pickled.*save_pretrained\(FOLDER\)"):
        loaded(folder)
    # Beside safetensors they are not looked at.
    (tmp_path / "model.safetensors").rename(folder / "model.safetensors")
    loaded(folder)
    assert not sprung.exists()


def test_a_pickled_adapter_is_refused_and_not_read(tmp_path: Path) -> None:
    adapter, sprung = tmp_path / "adapter", tmp_path / "sprung"
    policy = load_policy(Model(path=tiny_folder(tmp_path / "tiny"), training=Lora(rank=2)))
    policy.model.save_pretrained(adapter)
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(sprung)))
    with pytest.raises(ModelError, match=r"adapter_model\.bin: weights are pickled"):
        load_merged(Model(path=str(tmp_path / "tiny")), adapter)
    assert not sprung.exists()


def test_weights_that_anyone_can_write_are_read_as_safetensors_alone(tmp_path: Path) -> None:
    folder = Path(tiny_folder(tmp_path / "tiny"))
    (folder / "model.safetensors").unlink()
    torch.save(tiny_model().state_dict(), folder / "weights.other")
    with pytest.raises(ModelError, match="only safetensors are read"):
        loaded(folder)
    refuse_pickles(tmp_path / "not there")


def test_code_that_comes_with_a_model_does_not_run_unless_it_is_said(tmp_path: Path) -> None:
    folder = Path(tiny_folder(tmp_path / "tiny"))
    classes = {"AutoConfig": "evil.Settings", "AutoModelForCausalLM": "evil.Evil"}
    changes = {"model_type": "evil", "auto_map": classes}
    settings = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    with pytest.raises(ModelError, match=r"(?s)custom code.*model\.trust_remote_code=true"):
        loaded(folder)
    assert not (tmp_path / "sprung").exists()
    assert Model(path="x").trust_remote_code is False


def test_a_model_with_a_broken_file_is_refused_by_its_name(tmp_path: Path) -> None:
    for name, text in (("config.json", "{"), ("tokenizer.json", "{"), ("model.safetensors", "x")):
        folder = Path(tiny_folder(tmp_path / name))
        (folder / name).write_text(text)
        with pytest.raises(ModelError, match=r"model\.path: cannot load .*" + name):
            loaded(folder)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "/etc/x", "a\0b", "a\n", "a\\b"])
def test_names_of_sets_that_would_leave_their_folder_are_refused(name: str, tmp_path: Path) -> None:
    world = {"type": "world", "num_examples": 1}
    tree = {"model": {"path": "x"}, "out": "x", "data": {name: world}}
    with pytest.raises(ConfigError):
        parse(EvalConfig, tree, "eval.yaml")
    good = parse(EvalConfig, {**tree, "data": {"own": world}}, "eval.yaml")
    about = {"path": "x", "digest": "x", "training_seed": None}
    record = {"config": good.model_dump(mode="json"), "model": about, "data_sha256": {name: "0"}}
    write_json(tmp_path / "eval.json", record)
    with pytest.raises(DataError, match="the evaluation is broken"):
        read_record(tmp_path)
