"""The data section of a configuration becomes examples."""

from dataclasses import asdict

from rcsd import config
from rcsd.data.rar import import_rar
from rcsd.data.rows import read_jsonl
from rcsd.types import Example
from rcsd.world.corpus import Corpus, CorpusMix
from rcsd.world.problems import examples


def load_examples(section: config.Data) -> tuple[list[Example], dict[str, object]]:
    """Examples of a data section, and what a run's record says of their import.

    Raises:
        DataError: Naming file, line and field of what is malformed.
    """
    match section:
        case config.JsonlData(path=path):
            return read_jsonl(path), {}
        case config.RarData(path=path):
            rows, report = import_rar(path)
            return rows, asdict(report)
        case config.WorldData(split="train", rubrics="drawn"):
            corpus = Corpus(CorpusMix(), section.seed)
            return [corpus.followed_example(f"drawn-{n}") for n in range(section.num_examples)], {}
        case _:
            return examples(section.split, section.num_examples, section.seed), {}
