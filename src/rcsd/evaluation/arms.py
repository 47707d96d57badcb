"""Several evaluations become arms that can be compared, or it is said why they cannot."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcsd import config
from rcsd.errors import DataError
from rcsd.evaluation.compare.sets import AnsweredSet
from rcsd.evaluation.record import DEFAULT_NAME, Evaluation, read_evaluation

# What an answer is asked and graded by: the same in all folders that are compared.
_SAME = ("question", "reference_answer", "rubric")


def parse_arms(words: Sequence[str]) -> dict[str, list[Path]]:
    """Folders by arm, of words such as ``gold=runs/a,runs/b`` or ``runs/c``.

    Folders of one name are seeds of one arm, in one word or in several. A folder without a name
    takes its own, or that of the run that holds it as ``eval``.

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
            own = paths[0].absolute()
            name = own.parent.name if own.name == DEFAULT_NAME else own.name
            if name in arms:
                raise DataError(f"two arms would be called '{name}'; name them: NAME={word}")
            unnamed.add(name)
        elif name in unnamed:
            raise DataError(f"two arms would be called '{name}'; name both of them: NAME=FOLDER")
        arms.setdefault(name, []).extend(paths)
    return arms


def read_arms(folders: Mapping[str, Sequence[Path]]) -> dict[str, list[Evaluation]]:
    """The evaluations of each arm, in order of their training seeds.

    Raises:
        DataError: If a folder is broken, or the folders of an arm are no seeds of one thing: they
            were asked otherwise, or two of them have the same weights.
    """
    arms: dict[str, list[Evaluation]] = {}
    for arm, paths in folders.items():
        read = [read_evaluation(path) for path in paths]
        digests: dict[str, Path] = {}
        for one in read:
            first, own = read[0].settings, one.settings
            found = [name for name in first if first[name] != own[name]]
            if found:
                raise DataError(
                    f"arm '{arm}': {one.path} and {read[0].path} are no seeds of one arm, they "
                    f"differ in {', '.join(found)}; give them two names"
                )
            digest = one.model.digest
            if digest in digests:
                raise DataError(
                    f"arm '{arm}': {one.path} and {digests[digest]} have the same weights and are "
                    "no two seeds; leave one out"
                )
            digests[digest] = one.path
        seeds = [one.model.training_seed for one in read]
        by_seed = sorted(read, key=lambda one: one.model.training_seed or 0)
        arms[arm] = read if None in seeds else by_seed
    return arms


def answered_sets(arms: Mapping[str, Sequence[Evaluation]]) -> tuple[list[AnsweredSet], list[str]]:
    """The sets that all folders have, and in sentences what is left out or differs.

    Raises:
        DataError: If they have none, or its questions, references or rubrics differ.
    """
    every = [one for read in arms.values() for one in read]
    names = list(dict.fromkeys(name for one in every for name in one.sets))
    notes, sets = _notes(arms), []
    for name in names:
        lacking = next((one for one in every if name not in one.sets), None)
        if lacking is not None:
            notes.append(f"Set '{name}' is not compared: {lacking.path} lacks it.")
            continue
        for one in every[1:]:
            _check_same(name, every[0], one)
        answers = {arm: [one.sets[name] for one in read] for arm, read in arms.items()}
        all_answers = [of for seeds in answers.values() for of in seeds]
        greedy = all(of.greedy for of in all_answers)
        sampled = len({of.num_samples for of in all_answers}) == 1
        sets.append(
            AnsweredSet(
                name,
                every[0].sets[name].examples,
                {a: [of.greedy for of in seeds] for a, seeds in answers.items()} if greedy else {},
                {a: [of.sampled for of in seeds] for a, seeds in answers.items()}
                if sampled and all_answers[0].num_samples
                else {},
            )
        )
    if not any(answered.metrics for answered in sets):
        raise DataError("the folders have nothing in common to compare: " + " ".join(notes))
    return sets, notes


def _notes(arms: Mapping[str, Sequence[Evaluation]]) -> list[str]:
    """How the arms were asked otherwise, and how their seeds are paired."""
    settings = {arm: read[0].settings for arm, read in arms.items()}
    notes = []
    for name in next(iter(settings.values())):
        values = {arm: of[name] for arm, of in settings.items()}
        if any(value != next(iter(values.values())) for value in values.values()):
            said = ", ".join(f"{arm}: {_said(of)}" for arm, of in _differing(values).items())
            notes.append(
                f"The arms differ in {name}" + ("." if name == "templates" else f": {said}.")
            )
    seeds = {
        arm: [one.model.training_seed for one in read]
        for arm, read in arms.items()
        if len(read) > 1
    }
    if any(of != next(iter(seeds.values())) for of in seeds.values()):
        said = ", ".join(f"{arm}: {of}" for arm, of in seeds.items())
        notes.append(f"Seeds are paired in the order of the training seeds, which differ: {said}.")
    return notes


def judged_by_others(
    arms: Mapping[str, Sequence[Evaluation]], measured: Mapping[str, Any]
) -> list[str]:
    """A sentence where arms have another judge than the one whose errors were measured."""
    own = config.verdict_settings(measured)
    others = [arm for arm, read in arms.items() if read[0].settings["judge"] != own]
    if not others:
        return []
    return [
        f"The errors were measured of another judge than that of {', '.join(others)}: what is "
        "corrected by them holds only if both err alike."
    ]


def _differing(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of sections the keys that they do not all have alike; any other values as they are."""
    sections = list(values.values())
    if not all(isinstance(section, dict) for section in sections):
        return values
    every = dict.fromkeys(key for section in sections for key in section)
    keys = [key for key in every if any(of.get(key) != sections[0].get(key) for of in sections)]
    return {arm: {key: of[key] for key in keys if key in of} for arm, of in values.items()}


def _said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _check_same(name: str, a: Evaluation, b: Evaluation) -> None:
    first, second = a.sets[name].examples, b.sets[name].examples
    ids = [example.id for example in first], [example.id for example in second]
    where = f"set '{name}' of {b.path} has not the questions of {a.path}"
    if ids[0] != ids[1]:
        if sorted(ids[0]) == sorted(ids[1]):
            raise DataError(f"{where} in the same order; evaluate both on the same data")
        for these, those, one in ((*ids, b), (*reversed(ids), a)):
            missing = [id for id in these if id not in set(those)]
            if missing:
                raise DataError(
                    f"{where}: {one.path} lacks {len(missing)} of {len(these)}, the first: "
                    f"{missing[0]!r}; evaluate both on the same data"
                )
    for left, right in zip(first, second, strict=True):
        for field in _SAME:
            first_value, second_value = getattr(left, field), getattr(right, field)
            if first_value != second_value:
                said = "" if field == "rubric" else f", {second_value!r} for {first_value!r}"
                raise DataError(
                    f"{where}: example {left.id!r} has another {field}{said}; evaluate both on the "
                    "same data"
                )
