"""Secrets of the environment, keys and addresses reach no file and no terminal."""

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tiny import tiny_folder

from rcsd import redact
from rcsd.config import Model, parse_config
from rcsd.data.rows import write_jsonl
from rcsd.data.world.problems import examples
from rcsd.errors import ConfigError, DataError
from rcsd.redact import REDACTED, guard_libraries, redacted

# Not real, and put together here so that scanners of repositories pass over them.
KEYS = (
    *("hf_" + "aB3" * 11, "sk-" + "proj-" + "x7Yz" * 8, "sk-" + "ant-api03-" + "q9" * 20),
    *("ghp_" + "Z1y" * 12, "github_pat_" + "11AB_c2" * 6, "AKIA" + "ABCD1234EFGH5678"),
    *("xoxb-" + "123456789012-abcdef", "AIza" + "Sy0" * 11 + "ab"),
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + "c2ln",
    "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIabc\n-----END RSA " + "PRIVATE KEY-----",
)
PLANTED = {"HF_TOKEN": "planted-value-one", "WANDB_API_KEY": "planted,value two"}
PLANTED |= {"MY_DB_PASSWORD": "planted/value?three", "AWS_SECRET_ACCESS_KEY": "planted+value/four="}


@pytest.fixture
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:8])
def test_well_known_keys_are_blotted_out_of_a_sentence(key: str) -> None:
    assert redacted(f"got {key!s}, expected a path") == f"got {REDACTED}, expected a path"


CREDENTIALS = [
    ("https://me:word@host/a", "https://[redacted]@host/a"),
    (str(Path("https://me:w@rd@host/a")), "https:/[redacted]@host/a"),
    ("https://host/a?token=abc&b=1", "https://host/a?token=[redacted]&b=1"),
    ("x?a=1&X-Amz-Signature=00ff", "x?a=1&X-Amz-Signature=[redacted]"),
    ("Authorization: Bearer 0123456789abcdefgh", "Authorization: Bearer [redacted]"),
]
HARMLESS = ["runs/hf_model/key=value", "a@b.org asks: what?design=blue", "optim.lr=1e-5"]
HARMLESS += ["sk-learn-experiments-2024-with-a-long-name", "0123456789abcdef" * 4]
HARMLESS += ["the bearer of this ring carries responsibility"]


@pytest.mark.parametrize(("text", "shown"), [*CREDENTIALS, *zip(HARMLESS, HARMLESS, strict=True)])
def test_credentials_are_blotted_out_and_words_are_not(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_values_are_secrets_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, is_secret in [
        ("SERVICE_TOKEN", "long enough", True),
        ("SERVICE_TOKENS_2", "as long as that", True),
        ("SERVICE_TOKEN", "short", False),
        ("TOKENIZERS_PARALLELISM", "not a secret", False),
        ("SSH_KEY_FILE", "/home/me/id_rsa", False),
        ("EDITOR", "some-editor", False),
    ]:
        monkeypatch.setenv(name, value)
        assert (redacted(f"a {value} b") == f"a {REDACTED} b") is is_secret
        monkeypatch.delenv(name)


def test_a_registered_value_is_a_secret_whatever_its_variable_and_a_placeholder_is_not() -> None:
    for value, is_secret in [("k/y+with=odd", True), ("k3y-7", True), ("EMPTY", False)]:
        redact.register_secret(value)
        assert (redacted(f"a {value} b") == f"a {REDACTED} b") is is_secret
    assert redacted("a k%2Fy%2Bwith%3Dodd b") == f"a {REDACTED} b"


@given(st.text(), st.sampled_from([*KEYS, "https://me:word@host/?token=abc"]))
def test_what_is_blotted_out_once_stays_as_it_is(text: str, key: str) -> None:
    once = redacted(f"{text} {key} {text}")
    assert redacted(once) == once
    assert key not in once


WHOLE: dict[str, Any] = {
    "model": {"path": "builtin:micro"},
    "data": {"type": "jsonl", "path": "rows.jsonl"},
    "method": {"type": "distill"},
    "optim": {"lr": 1e-3},
    "steps": 1,
    "out": "runs/x",
}
DEEP = {"path": "x", "chat_template_kwargs": {"deep": [{"key": KEYS[0]}]}}


@pytest.mark.parametrize(
    ("place", "tree"),
    [
        ("model.path", {"model": {"path": "https://me:planted@host/model"}}),
        ("data.path", {"data": {"type": "jsonl", "path": "rows.jsonl?token=planted"}}),
        ("model.chat_template_kwargs", {"model": DEEP}),
        ("out", {"out": "planted-value-one"}),
    ],
)
@pytest.mark.usefixtures("_planted")
def test_a_configuration_that_holds_a_secret_is_refused(place: str, tree: Any) -> None:
    with pytest.raises(ConfigError, match=f"{place}: .*holds a secret") as caught:
        parse_config(WHOLE | tree)
    assert not any(secret in str(caught.value) for secret in ("planted", KEYS[0]))
    with pytest.raises(ValueError, match="holds a secret") as raw:
        Model(path=KEYS[0])
    assert KEYS[0] not in str(raw.value)


def test_errors_hold_no_secrets_and_keep_file_line_and_field() -> None:
    error = DataError(f"got {KEYS[0]}", Path("rows.jsonl"), 3, "question")
    assert str(error) == f"rows.jsonl:3: field 'question': got {REDACTED}"
    assert KEYS[0] not in repr(error)


def test_log_lines_and_warnings_of_libraries_hold_no_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard_libraries()
    logging.getLogger("some.library").warning("asked %s\x1b[2J", KEYS[0])
    assert caplog.messages == [f"asked {REDACTED}<U+001B>[2J"]
    shown = warnings.formatwarning(f"asked {KEYS[0]}\rb", UserWarning, "x.py", 1, "")
    assert shown == f"x.py:1: UserWarning: asked {REDACTED}<U+000D>b\n"
    ours = warnings.formatwarning(f"asked {KEYS[0]}", UserWarning, redact.__file__, 1)
    assert ours == f"Warning: asked {REDACTED}\n"


@pytest.mark.usefixtures("_planted")
def test_no_file_of_a_run_and_nothing_on_the_terminal_holds_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rcsd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(examples("train", 4, 0), "rows.jsonl")
    model = {"path": tiny_folder(tmp_path / "tiny"), "training": {"type": "lora", "rank": 2}}
    lengths = {"max_tokens": 6}
    sizes = {"steps": 2, "examples_per_step": 2, "save_every_steps": 1}
    more = {"sampling": lengths, "evaluation": {"data": WHOLE["data"]} | lengths}
    Path("run.yaml").write_text(yaml.safe_dump(WHOLE | {"model": model} | sizes | more))
    code, *said = rcsd("train", "run.yaml")
    assert code == 0
    for words in (
        ("train", "run.yaml", "model.path=https://me:planted@host/model"),
        ("train", "run.yaml", "data.path=rows.jsonl?token=planted-token"),
        ("train", "run.yaml", f"out={KEYS[0]}"),
        ("data", "check", "https://me:planted@host/rows.jsonl"),
    ):
        refused, *more_said = rcsd(*words)
        assert refused == 2
        said += more_said
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    names = {path.name for path in written}
    assert {"run.json", "metrics.jsonl", "completions.jsonl", "report.html", "README.md"} <= names
    for secret in ("planted", KEYS[0]):
        assert secret not in "".join(said).replace("\n", "")
        assert not any(secret.encode() in path.read_bytes() for path in written)
