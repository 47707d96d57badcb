"""Findings in a file of our rows: what is malformed, repeated, leaked, empty or too long."""

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from datasketch import MinHash, MinHashLSH

from rcsd.data.lines import json_lines
from rcsd.data.lint.rules import Severity
from rcsd.data.rows import example_from_row
from rcsd.data.views import ChatTokenizer, PromptTemplates, answer_conversation, prompt_ids
from rcsd.errors import DataError
from rcsd.types import Example, ViewName

NEAR = 0.8
"""Jaccard similarity of word shingles above which two questions are near-duplicates."""

_SHINGLE_WORDS = 3
_NUM_PERMUTATIONS = 128


@dataclass(frozen=True)
class Finding:
    """Something that a user should know about a file.

    Args:
        severity: An error makes the file unusable, or its test worthless; a warning wants a look.
        kind: What was found, for counting.
        message: What it is and what to do.
        line: The line, counted from 1, or None for the whole file.
        id: The example's id, or None.
        field: The field, or None.
    """

    severity: Severity
    kind: str
    message: str
    line: int | None = None
    id: str | None = None
    field: str | None = None


@dataclass(frozen=True)
class ViewLength:
    """Lengths of a view's prompts, in tokens.

    Args:
        view: What it shows.
        num_examples: Those that have what it shows.
        min_tokens: The shortest.
        median_tokens: The median.
        p95_tokens: The 95th percentile.
        max_tokens: The longest.
        num_over: Those longer than the model's positions, or None where they are unknown.
    """

    view: ViewName
    num_examples: int
    min_tokens: int
    median_tokens: float
    p95_tokens: float
    max_tokens: int
    num_over: int | None


@dataclass(frozen=True)
class CheckReport:
    """What `check_file` found.

    Args:
        path: The file.
        num_rows: Its rows, malformed ones included.
        num_examples: Those that are well-formed.
        num_with: How many of these have a rubric, a reference answer, a solution.
        findings: In the order of the checks, then of the lines.
        lengths: One a view, where a tokenizer was given.
    """

    path: str
    num_rows: int
    num_examples: int
    num_with: dict[str, int]
    findings: tuple[Finding, ...]
    lengths: tuple[ViewLength, ...] = ()

    def count(self, severity: Severity) -> int:
        """How many findings are of that severity."""
        return sum(finding.severity == severity for finding in self.findings)


@dataclass
class _File:
    """The well-formed examples of a file with their lines, and what is wrong with the others."""

    num_rows: int = 0
    examples: list[tuple[int, Example]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def check_file(
    path: str | Path, against: Sequence[str | Path] = (), near: float = NEAR
) -> CheckReport:
    """Schema, duplicates, near-duplicates, overlap with test files, and empty fields of a file.

    Args:
        path: A JSONL file of our rows.
        against: Files that are tested on: none of their questions should stand in this one.
        near: Similarity in (0, 1] from which questions are near-duplicates.

    Raises:
        DataError: If a file cannot be read or holds no row. Malformed rows are findings.
        ValueError: If ``near`` is not in (0, 1].
    """
    if not 0 < near <= 1:
        raise ValueError(f"near must lie in (0, 1], got {near}")
    file = _read(Path(path))
    findings = list(file.findings)
    findings += _duplicates(file.examples)
    findings += _near_duplicates(file.examples, near)
    for test in against:
        findings += _overlap(file.examples, _read(Path(test)), str(test), near)
    findings += _answers_in_questions(file.examples)
    examples = [example for _, example in file.examples]
    num_with = {
        name: sum(getattr(example, name) is not None for example in examples)
        for name in ("rubric", "reference_answer", "solution")
    }
    findings += [
        Finding("info", f"no {name}", f"{len(examples) - num} of {len(examples)} rows", field=name)
        for name, num in num_with.items()
        if num < len(examples)
    ]
    return CheckReport(str(path), file.num_rows, len(examples), num_with, tuple(findings))


def well_formed(path: str | Path) -> list[Example]:
    """The well-formed examples of a file; `check_file` lists the other rows.

    Raises:
        DataError: If the file cannot be read or holds no row.
    """
    return [example for _, example in _read(Path(path)).examples]


def _read(path: Path) -> _File:
    file = _File()
    lines: dict[str, int] = {}
    for line, row in json_lines(path):
        file.num_rows += 1
        try:
            if isinstance(row, DataError):
                raise row
            example = example_from_row(row, path, line)
            if example.id in lines:
                message = f"{example.id!r} is the id of line {lines[example.id]} too"
                raise DataError(message, path, line, "id")
        except DataError as error:
            message = str(error).removeprefix(f"{path}:{line}: ")
            message = message.removeprefix(f"field '{error.field}': ")
            file.findings.append(
                Finding("error", "malformed row", message, line, field=error.field)
            )
        else:
            lines[example.id] = line
            file.examples.append((line, example))
    return file


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:\.\d+)?", text.casefold())


def _shingles(text: str) -> frozenset[str]:
    words = _words(text)
    last = max(1, len(words) - _SHINGLE_WORDS + 1)
    return frozenset(" ".join(words[at : at + _SHINGLE_WORDS]) for at in range(last))


def _same(text: str) -> str:
    """What two questions have in common that differ in case and spaces alone."""
    return " ".join(text.casefold().split())


def jaccard(a: str, b: str) -> float:
    """Similarity of two texts in [0, 1]: shared shingles of three words over all of them."""
    ours, theirs = _shingles(a), _shingles(b)
    return len(ours & theirs) / len(ours | theirs)


def _duplicates(examples: Sequence[tuple[int, Example]]) -> Iterator[Finding]:
    first: dict[str, tuple[int, Example]] = {}
    for line, example in examples:
        earlier_line, earlier = first.setdefault(_same(example.question), (line, example))
        if earlier_line == line:
            continue
        same_rubric = earlier.rubric == example.rubric
        kind = "duplicate question" if same_rubric else "one question, different rubrics"
        message = f"the question of line {earlier_line} too; drop one"
        yield Finding("warning", kind, message, line, example.id, "question")


def _minhash(shingles: Iterable[str]) -> MinHash:
    sketch = MinHash(num_perm=_NUM_PERMUTATIONS, seed=1)
    sketch.update_batch([shingle.encode() for shingle in shingles])
    return sketch


def _index(near: float) -> MinHashLSH:
    # Candidates from well below the threshold, each confirmed exactly: few pairs are missed.
    return MinHashLSH(max(0.1, near - 0.2), num_perm=_NUM_PERMUTATIONS, weights=(0.1, 0.9))


def _near_duplicates(examples: Sequence[tuple[int, Example]], near: float) -> Iterator[Finding]:
    index, earlier = _index(near), dict[int, str]()
    for line, example in examples:
        sketch = _minhash(_shingles(example.question))
        found = _nearest(example.question, index.query(sketch), earlier, near)
        if found is not None:
            message = f"like the question of line {found[0]}: {found[1]:.2f} of the wording"
            yield Finding(
                "warning", "near-duplicate question", message, line, example.id, "question"
            )
        index.insert(line, sketch)
        earlier[line] = example.question


def _nearest(
    question: str, candidates: Iterable[object], questions: dict[int, str], near: float
) -> tuple[int, float] | None:
    """Line and similarity of the likest question; those that are the same are not near."""
    best: tuple[int, float] | None = None
    for line in sorted(line for line in candidates if isinstance(line, int)):
        if _same(questions[line]) == _same(question):
            continue
        similarity = jaccard(question, questions[line])
        if similarity >= near and (best is None or similarity > best[1]):
            best = line, similarity
    return best


def _overlap(
    examples: Sequence[tuple[int, Example]], test: _File, name: str, near: float
) -> Iterator[Finding]:
    if test.findings:
        message = f"{len(test.findings)} malformed rows of {name} were not compared"
        yield Finding("error", "malformed row in a test file", message)
    index = _index(near)
    questions = {line: example.question for line, example in test.examples}
    same: dict[str, list[int]] = defaultdict(list)
    for line, question in questions.items():
        index.insert(line, _minhash(_shingles(question)))
        same[_same(question)].append(line)
    for line, example in examples:
        found = same.get(_same(example.question))
        if found:
            message = f"stands in {name}, line {found[0]}: drop it here"
            yield Finding("error", "test question", message, line, example.id, "question")
            continue
        candidates = index.query(_minhash(_shingles(example.question)))
        nearest = _nearest(example.question, candidates, questions, near)
        if nearest is not None:
            message = f"like {name}, line {nearest[0]}: {nearest[1]:.2f} of the wording"
            yield Finding("warning", "near a test question", message, line, example.id, "question")


def _answers_in_questions(examples: Sequence[tuple[int, Example]]) -> Iterator[Finding]:
    for line, example in examples:
        answer = " ".join(_words(example.reference_answer or ""))
        # Shorter ones, such as an option's letter or a digit, stand in questions by chance.
        if len(answer) > 3 and f" {answer} " in f" {' '.join(_words(example.question))} ":
            shown = textwrap.shorten(example.reference_answer or "", 80, placeholder=" …")
            message = f"{shown!r} stands in the question"
            yield Finding(
                "warning", "answer in the question", message, line, example.id, "reference_answer"
            )


def view_lengths(
    examples: Sequence[Example], tokenizer: ChatTokenizer, max_tokens: int | None
) -> list[ViewLength]:
    """Lengths in tokens of each view that some examples allow, generation header included.

    Args:
        examples: Each view counts those that have what it shows.
        tokenizer: With a chat template.
        max_tokens: The model's positions, or None where they are unknown.

    Raises:
        ModelError: If the model has no chat template.
    """
    words = PromptTemplates()
    lengths = []
    for view in get_args(ViewName):
        counts = []
        for example in examples:
            try:
                conversation = answer_conversation(example, view, words)
            except DataError:
                continue  # it lacks what the view shows; num_examples says how many do not
            counts.append(len(prompt_ids(tokenizer, conversation)))
        if not counts:
            continue
        over = None if max_tokens is None else sum(count > max_tokens for count in counts)
        median, p95 = (float(value) for value in np.percentile(counts, [50, 95]))
        lengths.append(ViewLength(view, len(counts), min(counts), median, p95, max(counts), over))
    return lengths
