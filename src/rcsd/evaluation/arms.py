"""Several evaluations grouped into arms that can be compared, or an error that says why not."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rcsd.errors import DataError
from rcsd.evaluation.compare import GradedSet
from rcsd.evaluation.record import DEFAULT_NAME, EvalRecord, read_record

# Fields that answers are asked and graded by: the same in all folders that are compared.
_SAME = ("question", "reference_answer", "rubric")


def parse_arms(words: Sequence[str]) -> dict[str, list[Path]]:
    """Folders by arm, from words such as ``gold=runs/a,runs/b`` or ``runs/c``.

    Folders of one name are seeds of one arm, in one word or in several. A folder without a name
    takes its basename, or that of the run that holds it as ``eval``.

    Raises:
        DataError: If a name or a folder is missing, or two words without a name take the same one.
    """
    arms: dict[str, list[Path]] = {}
    unnamed: set[str] = set()
    for word in words:
        name, equals, folders = word.partition("=")
        paths = [Path(folder) for folder in (folders if equals else name).split(",")]
        if not name or "" in (folders if equals else name).split(","):
            raise DataError(f"'{word}': expected [NAME=]FOLDER[,FOLDER...]")
        if not equals:
            path = paths[0].absolute()
            name = path.parent.name if path.name == DEFAULT_NAME else path.name
            if name in arms:
                raise DataError(f"two arms would be called '{name}'; name them: NAME={word}")
            unnamed.add(name)
        elif name in unnamed:
            raise DataError(f"two arms would be called '{name}'; name both of them: NAME=FOLDER")
        arms.setdefault(name, []).extend(paths)
    return arms


def read_arms(folders: Mapping[str, Sequence[Path]]) -> dict[str, list[EvalRecord]]:
    """The evaluations of each arm, in order of their training seeds.

    Raises:
        DataError: If a folder is broken, or the folders of an arm are no seeds of one thing: their
            settings differ, or two of them have the same weights.
    """
    arms: dict[str, list[EvalRecord]] = {}
    for arm, paths in folders.items():
        records = [read_record(path) for path in paths]
        first, digests = records[0], dict[str, Path]()
        for one in records:
            a, b = first.settings, one.settings
            differing = [name for name in {**a, **b} if a.get(name) != b.get(name)]
            if differing:
                raise DataError(
                    f"arm '{arm}': {one.path} and {first.path} are no seeds of one arm, they "
                    f"differ in {', '.join(differing)}; give them two names"
                )
            digest = one.model.digest
            if digest in digests:
                raise DataError(
                    f"arm '{arm}': {one.path} and {digests[digest]} have the same weights and are "
                    "no two seeds; leave one out"
                )
            digests[digest] = one.path
        if None not in [one.model.training_seed for one in records]:
            records.sort(key=lambda one: one.model.training_seed or 0)
        arms[arm] = records
    return arms


def common_sets(arms: Mapping[str, Sequence[EvalRecord]]) -> tuple[list[GradedSet], list[str]]:
    """The sets that all folders have, and sentences on what is left out or differs.

    Raises:
        DataError: If they have none, or its questions, references or rubrics differ.
    """
    every = [one for records in arms.values() for one in records]
    names = list(dict.fromkeys(name for one in every for name in one.sets))
    notes, sets = _notes(arms), []
    for name in names:
        lacking = next((one for one in every if name not in one.sets), None)
        if lacking is not None:
            notes.append(f"Set '{name}' is not compared: {lacking.path} lacks it.")
            continue
        for one in every[1:]:
            _check_same(name, every[0], one)
        answers = {arm: [one.sets[name] for one in records] for arm, records in arms.items()}
        numbers = {of.num_samples for seeds in answers.values() for of in seeds}
        has_greedy = all(of.greedy for seeds in answers.values() for of in seeds)
        has_samples = len(numbers) == 1 and numbers != {0}
        greedy = {arm: [of.greedy for of in seeds] for arm, seeds in answers.items()}
        sampled = {arm: [of.sampled for of in seeds] for arm, seeds in answers.items()}
        examples = every[0].sets[name].examples
        sets.append(
            GradedSet(name, examples, greedy if has_greedy else {}, sampled if has_samples else {})
        )
    if not any(graded.metrics for graded in sets):
        raise DataError("the folders have nothing in common to compare: " + " ".join(notes))
    return sets, notes


def _notes(arms: Mapping[str, Sequence[EvalRecord]]) -> list[str]:
    """Sentences on settings that differ between arms, and on how their seeds are paired."""
    settings = {arm: records[0].settings for arm, records in arms.items()}
    notes = []
    for name in dict.fromkeys(name for of in settings.values() for name in of):
        values = {arm: json.dumps(of.get(name)) for arm, of in settings.items()}
        if len(set(values.values())) > 1:
            texts = ", ".join(f"{arm}: {value}" for arm, value in values.items())
            notes.append(f"The arms differ in {name}: {texts}.")
    seeds = {
        arm: [one.model.training_seed for one in records]
        for arm, records in arms.items()
        if len(records) > 1
    }
    if any(of != next(iter(seeds.values())) for of in seeds.values()):
        texts = ", ".join(f"{arm}: {of}" for arm, of in seeds.items())
        notes.append(f"Seeds are paired in the order of the training seeds, which differ: {texts}.")
    return notes


def _check_same(name: str, a: EvalRecord, b: EvalRecord) -> None:
    first, second = a.sets[name].examples, b.sets[name].examples
    ids = [example.id for example in first], [example.id for example in second]
    where = f"set '{name}' of {b.path} has not the questions of {a.path}"
    if ids[0] != ids[1]:
        for these, those, one in ((*ids, b), (*reversed(ids), a)):
            missing = [id for id in these if id not in set(those)]
            if missing:
                raise DataError(
                    f"{where}: {one.path} lacks {len(missing)} of {len(these)}, the first: "
                    f"{missing[0]!r}; evaluate both on the same data"
                )
        raise DataError(f"{where} in the same order; evaluate both on the same data")
    for left, right in zip(first, second, strict=True):
        for field in _SAME:
            old, new = getattr(left, field), getattr(right, field)
            if old != new:
                values = "" if field == "rubric" else f", {new!r} for {old!r}"
                raise DataError(
                    f"{where}: example {left.id!r} has another {field}{values}; evaluate both on "
                    "the same data"
                )
