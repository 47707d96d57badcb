"""Families of problems: drafts drawn from a table of texts and numbers (``families.yaml``)."""

import ast
import functools
import operator
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

Field = Literal["physics", "chemistry", "biology", "earth science"]
Names = dict[str, Any]
"""Numbers and words of a problem by name."""


class Fork(NamedTuple):
    """A place where the right procedure and the model's bad habit part.

    Each is a phrase, such as "converts the minutes to seconds"; its mark is the check
    (`rcsd.data.checks`) that an answer took it.
    """

    right: str
    habit: str
    right_mark: Mapping[str, Any]
    habit_mark: Mapping[str, Any]


class Working(NamedTuple):
    """One way through a problem: steps such as ``"4 * 180 = 720"``, and the final number.

    The key is an intermediate value worth asking for, or None where there is none but the answer.
    """

    steps: tuple[str, ...]
    value: str
    key: str | None = None


class Draft(NamedTuple):
    """A problem before its rubric is written.

    The principle is a sentence without its full stop, in lower case. There are one or two forks,
    and a working for each choice at them (True: right).
    """

    question: str
    formula: str
    principle: str
    unit: str
    forks: tuple[Fork, ...]
    workings: Mapping[tuple[bool, ...], Working]

    @property
    def right(self) -> Working:
        """The working that goes right at every fork."""
        return self.workings[(True,) * len(self.forks)]


class Template(NamedTuple):
    """A family of problems that differ in numbers and wording."""

    name: str
    field: Field
    held_out: bool
    draft: Callable[[random.Random], Draft]


def _draft(table: Mapping[str, Any], rng: random.Random) -> Draft:
    names = dict(_draws(table["draws"], rng))
    _compute(table.get("let", {}), names)
    question = rng.choice(table["questions"]).format(**names)
    formula, principle, unit = (text.format(**names) for text in table["law"])
    if "shape" in table:
        table, names = _shape(table["shape"], names)
    key = table["key"].format(**names) if "key" in table else None
    forks = table["forks"] if "forks" in table else [table["fork"]]
    workings: dict[tuple[bool, ...], Working] = {}
    sides = table.get("workings") or {side: table[side] for side in ("right", "habit")}
    for side, texts in sides.items():
        choices = tuple(one.strip() == "right" for one in side.split(","))
        steps = tuple(step for text in texts for step in _steps(text.format(**names)))
        value = steps[-1].partition(" = ")[2].split()[0]
        workings[choices] = Working(steps, value, key if all(choices) else None)
    return Draft(
        question, formula, principle, unit, tuple(_fork(fork, names) for fork in forks), workings
    )


def _draws(specs: Mapping[str, Any], rng: random.Random) -> Iterator[tuple[str, Any]]:
    """Names and their values, drawn in order; whole numbers and choices alone are drawn."""
    for names, spec in specs.items():
        several = [name.strip() for name in names.split(",")]
        value: Any
        if isinstance(spec, list):
            value = rng.choice(spec)
        else:
            count, low, high, step = re.fullmatch(
                r"(?:(\d) of )?(\d+)\.\.(\d+)(?: by (\d+))?", spec
            ).groups()  # pyright: ignore[reportOptionalMemberAccess] (a table of ours)
            numbers = range(int(low), int(high) + 1, int(step or 1))
            value = rng.sample(numbers, int(count)) if count else rng.choice(numbers)
        yield from zip(several, value if len(several) > 1 else [value], strict=True)


def _shape(call: str, names: Names) -> tuple[Mapping[str, Any], Names]:
    """The table of a shape, and its arguments by its own names; quoted ones are texts."""
    name, arguments = call.removesuffix(")").split("(")
    parameters, table = _shapes()[name]
    values = [text[1:-1] if text.startswith("'") else names[text] for text in arguments.split(", ")]
    inner = dict(zip(parameters, values, strict=True))
    _compute(table.get("let", {}), inner)
    return table, inner


def _compute(let: Mapping[str, str], names: Names) -> None:
    for name, expression in let.items():
        names[name] = _value(expression, names)


_OPERATORS: Mapping[type, Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip


def _value(expression: str, names: Names) -> int:
    """A whole number from an expression of names and numbers, such as ``18 * tens``."""
    return _evaluate(_parsed(expression), names)


def _evaluate(node: ast.expr, names: Names) -> int:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name):
            return names[name]
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_evaluate(left, names), _evaluate(right, names))
    raise ValueError(f"{ast.unparse(node)!r} is no arithmetic")


@functools.cache
def _parsed(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body


def _fork(table: Mapping[str, Any], names: Names) -> Fork:
    phrases = (table[side].format(**names) for side in ("right", "habit"))
    marks = (_mark(table[side], names) for side in ("right_mark", "habit_mark"))
    return Fork(*phrases, *marks)


def _mark(mark: Any, names: Names) -> dict[str, Any]:
    """A check from its short form: a text is an expression that stands in the answer."""
    match mark:
        case str():
            return {"type": "expression", "text": mark.format(**names)}
        case {"not": inner}:
            return {"type": "not", "check": _mark(inner, names)}
        case {"any": inner}:
            return {"type": "any", "checks": [_mark(each, names) for each in inner]}
        case {"contains": text}:
            return {"type": "contains", "text": text}
    [(kind, name)] = mark.items()
    return {"type": kind, "value": names[name]}


def _steps(text: str) -> Iterator[str]:
    """A step as it stands, worked out, or worked out again and again from its own result."""
    if "=" in text:
        yield text
        return
    once, _, times = text.partition(", ")
    left, sign, right = once.split()
    for _ in range(int(times.split()[0]) if times else 1):
        if sign == "/" and int(left) % int(right):
            raise ValueError(f"{right} does not divide {left}")
        result = str(_value(f"{left} {sign.replace('/', '//')} {right}", {}))
        yield f"{left} {sign} {right} = {result}"
        left = result


@functools.cache
def tables() -> Mapping[str, Any]:
    """``families.yaml``."""
    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


@functools.cache
def _shapes() -> Mapping[str, tuple[list[str], Mapping[str, Any]]]:
    """Parameters and table of each shape by name."""
    signatures = {}
    for signature, table in tables()["shapes"].items():
        name, _, parameters = signature.removesuffix(")").partition("(")
        signatures[name] = parameters.split(", "), table
    return signatures


TEMPLATES: Mapping[str, Template] = {
    name: Template(
        name, table["field"], table.get("held_out", False), functools.partial(_draft, table)
    )
    for name, table in tables()["families"].items()
}
"""Every family by name."""
