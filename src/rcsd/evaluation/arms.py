"""Several evaluations grouped into arms that can be compared, or an error that says why not."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rcsd.errors import DataError
from rcsd.evaluation.compare import GradedSet
from rcsd.evaluation.record import DEFAULT_NAME, EvalRecord, read_record


def parse_arms(words: Sequence[str]) -> dict[str, list[Path]]:
    """Folders by arm, from words such as ``gold=runs/a,runs/b`` or ``runs/c``.

    Folders of one name are seeds of one arm, in one word or in several. A folder without a name
    takes its basename, or that of the run that holds it as ``eval``.
    """
    arms: dict[str, list[Path]] = {}
    unnamed: set[str] = set()
    for word in words:
        name, equals, folders = word.partition("=") if "=" in word else ("", "", word)
        paths = [Path(folder) for folder in folders.split(",")]
        if "" in folders.split(",") or (equals and not name):
            raise DataError(f"'{word}': expected [NAME=]FOLDER[,FOLDER...]")
        if not equals:
            path = paths[0].absolute()
            name = path.parent.name if path.name == DEFAULT_NAME else path.name
        if name in unnamed or (name in arms and not equals):
            raise DataError(f"two arms would be called '{name}'; name both of them: NAME=FOLDER")
        unnamed |= set() if equals else {name}
        arms.setdefault(name, []).extend(paths)
    return arms


def read_arms(folders: Mapping[str, Sequence[Path]]) -> dict[str, list[EvalRecord]]:
    """The evaluations of each arm, in order of their training seeds.

    Raises DataError if a folder is broken, or the folders of an arm are no seeds of one thing:
    their settings differ, or two of them have the same weights.
    """
    arms: dict[str, list[EvalRecord]] = {}
    for arm, paths in folders.items():
        records = [read_record(path) for path in paths]
        digests: dict[str, Path] = {}
        for one in records:
            a, b = records[0].settings, one.settings
            if differing := [name for name in {**a, **b} if a.get(name) != b.get(name)]:
                raise DataError(
                    f"arm '{arm}': {one.path} and {records[0].path} are no seeds of one arm, they "
                    f"differ in {', '.join(differing)}; give them two names"
                )
            if (twin := digests.setdefault(one.model.digest, one.path)) is not one.path:
                raise DataError(
                    f"arm '{arm}': {one.path} and {twin} have the same weights and are no two "
                    "seeds; leave one out"
                )
        if None not in [one.model.training_seed for one in records]:
            records.sort(key=lambda one: one.model.training_seed or 0)
        arms[arm] = records
    return arms


def common_sets(arms: Mapping[str, Sequence[EvalRecord]]) -> tuple[list[GradedSet], list[str]]:
    """The sets that all folders have, and sentences on what is left out or differs.

    Raises DataError if they have none, or its questions, references or rubrics differ.
    """
    every = [one for records in arms.values() for one in records]
    notes, sets = _notes(arms), []
    for name in dict.fromkeys(name for one in every for name in one.sets):
        lacking = next((one for one in every if name not in one.sets), None)
        if lacking is not None:
            notes.append(f"Set '{name}' is not compared: {lacking.path} lacks it.")
            continue
        for one in every[1:]:
            _check_same(name, every[0], one)
        answers = {arm: [one.sets[name] for one in records] for arm, records in arms.items()}
        seeds = [of for of_arm in answers.values() for of in of_arm]
        has_samples = len({of.num_samples for of in seeds}) == 1 and seeds[0].num_samples
        greedy = {arm: [of.greedy for of in of_arm] for arm, of_arm in answers.items()}
        sampled = {arm: [of.sampled for of in of_arm] for arm, of_arm in answers.items()}
        graded = GradedSet(
            name,
            every[0].sets[name].examples,
            greedy if all(of.greedy for of in seeds) else {},
            sampled if has_samples else {},
        )
        sets.append(graded)
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
            notes.append(f"The arms differ in {name}: {_listed(values)}.")
    several = {arm: records for arm, records in arms.items() if len(records) > 1}
    seeds = {arm: [one.model.training_seed for one in of] for arm, of in several.items()}
    if any(of != next(iter(seeds.values())) for of in seeds.values()):
        notes.append(
            f"Seeds are paired in the order of the training seeds, which differ: {_listed(seeds)}."
        )
    return notes


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{arm}: {value}" for arm, value in values.items())


def _check_same(name: str, a: EvalRecord, b: EvalRecord) -> None:
    """Refuse other questions, another order of them, and other references or rubrics."""
    first, second = a.sets[name].examples, b.sets[name].examples
    ids = [[example.id for example in examples] for examples in (first, second)]
    where = f"set '{name}' of {b.path} has not the questions of {a.path}"
    remedy = "; evaluate both on the same data"
    for these, those, one in ((*ids, b), (*reversed(ids), a)):
        if missing := [id for id in these if id not in set(those)]:
            number = f"{len(missing)} of {len(these)}, the first: {missing[0]!r}"
            raise DataError(f"{where}: {one.path} lacks {number}{remedy}")
    if ids[0] != ids[1]:
        raise DataError(f"{where} in the same order{remedy}")
    for left, right in zip(first, second, strict=True):
        for field in ("question", "reference_answer", "rubric"):
            old, new = getattr(left, field), getattr(right, field)
            if old != new:
                values = "" if field == "rubric" else f", {new!r} for {old!r}"
                raise DataError(f"{where}: example {left.id!r} has another {field}{values}{remedy}")
