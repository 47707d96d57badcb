"""Shapes that several templates share: the same procedure and habit behind another story."""

from dataclasses import dataclass

from rcsd.data.world.drafts import (
    Draft,
    Fork,
    Working,
    expression,
    final_number,
    number,
    product,
    quotient,
    single,
)


@dataclass(frozen=True)
class Story:
    """What a shape is told about: the texts of a draft.

    Args:
        question: The problem's text.
        formula: Such as ``E = P t``.
        principle: A sentence without its full stop, in lower case.
        unit: Of the answer.
    """

    question: str
    formula: str
    principle: str
    unit: str


def told(story: Story, fork: Fork, right: Working, habit: Working) -> Draft:
    """A draft with one fork."""
    texts = (story.question, story.formula, story.principle, story.unit)
    return Draft(*texts, **single(fork, right, habit))


def rate_times_minutes(story: Story, rate: int, minutes: int) -> Draft:
    """A rate for each second, and a time in minutes; the habit keeps the minutes."""
    seconds = minutes * 60
    return told(
        story,
        Fork(
            "converts the minutes to seconds",
            "keeps the time in minutes",
            number(seconds),
            expression(f"{rate} * {minutes}"),
        ),
        Working(
            (f"{minutes} min = {seconds} s", product(rate, seconds)),
            str(rate * seconds),
            f"{seconds} s",
        ),
        Working((product(rate, minutes),), str(rate * minutes)),
    )


def rate_times_hours(story: Story, rate: int, hours: int) -> Draft:
    """A rate for each minute, and a time in hours; the habit keeps the hours."""
    minutes = hours * 60
    convert = f"{hours} h = {minutes} min"
    return told(
        story,
        Fork(
            "converts the hours to minutes",
            "keeps the time in hours",
            expression(convert),
            expression(f"{rate} * {hours}"),
        ),
        Working((convert, product(rate, minutes)), str(rate * minutes), f"{minutes} min"),
        Working((product(rate, hours),), str(rate * hours)),
    )


def half_square(story: Story, factor: int, base: int) -> Draft:
    """Half a factor times a square; the habit leaves out the half."""
    square, half = base * base, factor // 2
    return told(
        story,
        Fork(
            "includes the factor one half",
            "leaves out the factor one half",
            expression(f"{factor} / 2"),
            expression(f"{factor} * {square}"),
        ),
        Working(
            (product(base, base), quotient(factor, 2), product(half, square)),
            str(half * square),
            str(square),
        ),
        Working((product(base, base), product(factor, square)), str(factor * square)),
    )


def ratio(story: Story, top: tuple[str, int], bottom: tuple[str, int]) -> Draft:
    """A quotient of two named numbers; the habit multiplies them."""
    (above, a), (below, b) = top, bottom
    return told(
        story,
        Fork(
            f"divides the {above} by the {below}",
            f"multiplies the {above} by the {below}",
            expression(f"{a} / {b}"),
            expression(f"{a} * {b}"),
        ),
        Working((quotient(a, b),), str(a // b)),
        Working((product(a, b),), str(a * b)),
    )


def net_product(story: Story, gross: int, loss: int, times: int, lost: str, unit: str) -> Draft:
    """A difference times a number; the habit forgets the loss.

    Args:
        story: The texts.
        gross: What comes.
        loss: What goes.
        times: How often.
        lost: What goes, in words, such as "the friction".
        unit: Of the difference.
    """
    net = gross - loss
    return told(
        story,
        Fork(
            f"subtracts {lost}",
            f"ignores {lost}",
            expression(f"{gross} - {loss}"),
            expression(f"{gross} * {times}"),
        ),
        Working(
            (f"{gross} - {loss} = {net}", product(net, times)), str(net * times), f"{net} {unit}"
        ),
        Working((product(gross, times),), str(gross * times)),
    )


def conserved_product(story: Story, before: tuple[int, int], after: int) -> Draft:
    """A product that stays the same, over the final volume; the habit stops at the product."""
    total = before[0] * before[1]
    return told(
        story,
        Fork(
            "divides by the final volume",
            "leaves out the final volume",
            expression(f"{total} / {after}"),
            final_number(total),
        ),
        Working((product(*before), quotient(total, after)), str(total // after), str(total)),
        Working((product(*before),), str(total)),
    )


def doublings(story: Story, start: int, rounds: int) -> Draft:
    """A number that doubles each hour; the habit doubles it once."""
    end, once = start * 2**rounds, start * 2
    return told(
        story,
        Fork(
            "doubles once per hour",
            "doubles only once",
            expression(f"{end // 2} * 2"),
            final_number(once),
        ),
        Working(tuple(product(start * 2**turn, 2) for turn in range(rounds)), str(end), str(once)),
        Working((product(start, 2),), str(once)),
    )
