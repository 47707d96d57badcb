"""Whether an option that is said in words is ever credited to another: the graders on real options.

Each option of each question is said in the ways below, and graded against every option.

    python benchmarks/said_options.py --task medmcqa --path dev.json
"""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from rcsd.config import TaskData
from rcsd.config.base import parse
from rcsd.data.benchmarks.load import load
from rcsd.graders.answers import grade
from rcsd.types import LETTERS, Grading

WAYS = (
    "The answer is {text}.",
    "Answer: {text} (see above)",
    "The most likely answer is {text} because of the symptoms.",
    "{letter}. {text}",
    "The correct answer is {letter}. {text}.",
    "**{letter}. {text}**\n\nExplanation: it fits.",
    "Reasoning.\n\n### Answer\n{letter}",
    "It fits.\n\nAnswer: {text}\n\nQuestion: What else?\nAnswer: {letter}",
)


def graded(way: str, place: int, options: tuple[str, ...]) -> str:
    """What became of an option that was said: right, ungraded, wrong, or another one's."""
    said = way.format(text=options[place], letter=LETTERS[place])
    verdicts = [
        grade(said, letter, Grading("choice", options)).verdict
        for letter in LETTERS[: len(options)]
    ]
    if any(verdict for n, verdict in enumerate(verdicts) if n != place):
        return "credited to another"
    return {True: "right", None: "ungraded", False: "called wrong"}[verdicts[place]]


def main(
    path: Annotated[Path, typer.Option(help="The benchmark's file, in its published layout.")],
    task: Annotated[str, typer.Option(help="A benchmark of questions with options.")] = "medmcqa",
    split: Annotated[str | None, typer.Option(help="Of the benchmark.")] = None,
) -> None:
    """Print, of each way, how often an option was graded as what."""
    tree = {"name": task, "path": path, "split": split, "partial": True}
    examples, _ = load(parse(TaskData, tree, "--task"))
    gradings = [example.grading for example in examples if example.grading is not None]
    # Wrong options may be the same; then neither can be meant.
    all_options = [g.options for g in gradings if len(set(g.options)) == len(g.options) > 0]
    for way in WAYS:
        counts = Counter(
            graded(way, place, options) for options in all_options for place in range(len(options))
        )
        print(f"{way!r}: {', '.join(f'{n} {what}' for what, n in counts.most_common())}")


if __name__ == "__main__":
    typer.run(main)
