"""Every section of a configuration, and how it is read. A docstring under each field."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcsd.config.base import Section, load, parse
from rcsd.config.data import *
from rcsd.config.engines import *
from rcsd.config.evaluation import *
from rcsd.config.graders import *
from rcsd.config.methods import *
from rcsd.config.model import *
from rcsd.config.run import *
from rcsd.runs import RunFolder


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Configuration from a YAML file and ``key=value`` overrides; ConfigError as `base.parse`."""
    return load(Config, path, overrides)


def load_judging(path: str | Path) -> Judging:
    """A judge from a YAML file; ConfigError as `base.parse`."""
    return load(Judging, path, ())


def parse_config(tree: Mapping[str, Any], source: str = "config") -> Config:
    """Configuration from a tree of plain values; ConfigError as `base.parse`."""
    return parse(Config, tree, source)


def config_of_run(folder: RunFolder) -> Config:
    """Configuration of a run, as its record has it; UserError if the record is broken.

    An initial model that lay beside the run, and was moved together with it, is found there.
    """
    settings = parse_config(folder.read_record()["config"], str(folder.record))
    path = Path(settings.model.path)
    beside = folder.path / os.path.relpath(path, settings.out)
    if path.is_relative_to(settings.out.parent) and beside.exists() and not path.exists():
        model = settings.model.model_copy(update={"path": str(beside.resolve())})
        settings = settings.model_copy(update={"model": model})
    return settings
