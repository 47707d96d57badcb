"""Problem templates from biology."""

from random import Random

from rcsd.data.world.drafts import (
    Draft,
    Fork,
    Working,
    expression,
    final_number,
    number,
    product,
    quotient,
    template,
)
from rcsd.data.world.shapes import Story, doublings, net_product, rate_times_hours, told


@template("biology")
def cell_doubling(rng: Random) -> Draft:
    """Growth by doubling."""
    return _doubling(
        rng, rng.choice(["cells", "bacteria"]), "N = N0 2^n", "each cell gives two cells"
    )


@template("biology", held_out=True)
def leaf_doubling(rng: Random) -> Draft:
    """Growth of plants by doubling."""
    return _doubling(rng, "plants", "P = P0 2^n", "each plant gives two plants")


def _doubling(rng: Random, kind: str, formula: str, principle: str) -> Draft:
    start, rounds = rng.randint(2, 29), rng.randint(2, 4)
    question = rng.choice(
        [
            f"{start} {kind} double once per hour. How many {kind} are there after {rounds} h?",
            f"How many {kind} come from {start} {kind} in {rounds} h if they double once per hour?",
        ]
    )
    tuple(product(start * 2**turn, 2) for turn in range(rounds))
    _end, _once = start * 2**rounds, start * 2
    return doublings(Story(question, formula, principle, kind), start, rounds)


@template("biology")
def heartbeats(rng: Random) -> Draft:
    """Beats for each minute, and a time in hours."""
    rate, hours = rng.randint(2, 9) * 10, rng.randint(2, 9)
    question = rng.choice(
        [
            f"A heart beats {rate} times per min. How many beats are there in {hours} h?",
            f"How many beats makes a heart in {hours} h at {rate} beats per min?",
        ]
    )
    return rate_times_hours(
        Story(question, "N = f t", "a rate counts events per time", "beats"), rate, hours
    )


@template("biology")
def breaths(rng: Random) -> Draft:
    """Air breathed in some hours."""
    rate, hours = rng.randint(2, 9), rng.randint(2, 9)
    animal = rng.choice(["runner", "horse", "cyclist"])
    question = rng.choice(
        [
            f"A {animal} breathes {rate} L of air per min. How much air is that in {hours} h?",
            f"How much air does a {animal} breathe in {hours} h at {rate} L per min?",
        ]
    )
    return rate_times_hours(
        Story(question, "V = q t", "a rate counts volume per time", "L"), rate, hours
    )


@template("biology")
def magnification(rng: Random) -> Draft:
    """Image size over true size, in unlike units."""
    size, power = rng.randint(2, 9), rng.randint(2, 9)
    micro, image = size * 10, size * power
    question = rng.choice(
        [
            f"A cell of {micro} um is {image} mm long in a drawing. What is the magnification?",
            f"What is the magnification of a drawing of {image} mm for a cell of {micro} um?",
        ]
    )
    image_micro = image * 1000
    return told(
        Story(question, "M = I / A", "image and object need the same unit", "times"),
        Fork(
            "converts the millimetres to micrometres",
            "keeps the image in millimetres",
            number(image_micro),
            expression(f"{image} * {micro}"),
        ),
        Working(
            (f"{image} mm = {image_micro} um", quotient(image_micro, micro)),
            str(image_micro // micro),
            f"{image_micro} um",
        ),
        Working((product(image, micro),), str(image * micro)),
    )


@template("biology")
def population(rng: Random) -> Draft:
    """Births minus deaths."""
    deaths, net, years = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 9)
    births = deaths + net
    kind = rng.choice(["birds", "horses", "fish"])
    question = rng.choice(
        [
            f"Each year {births} {kind} are born and {deaths} die. "
            f"By how many {kind} does the group grow in {years} years?",
            f"By how many {kind} grows a group in {years} years with {births} births "
            f"and {deaths} deaths per year?",
        ]
    )
    return net_product(
        Story(question, "N = (B - D) t", "a population loses what dies", kind),
        births,
        deaths,
        years,
        "the deaths",
        kind,
    )


@template("biology", held_out=True)
def plant_growth(rng: Random) -> Draft:
    """Gross growth minus losses, over hours."""
    loss, net, hours = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 9)
    gross = loss + net
    question = rng.choice(
        [
            f"Each hour {gross} g of sugar are made and {loss} g are lost. "
            f"How much sugar is left after {hours} h?",
            f"How much sugar is left in {hours} h with {gross} g made and {loss} g lost per hour?",
        ]
    )
    return net_product(
        Story(question, "m = (A - B) t", "only the net growth is left", "g"),
        gross,
        loss,
        hours,
        "the loss",
        "g",
    )


@template("biology")
def food_chain(rng: Random) -> Draft:
    """A tenth of the energy reaches each next level."""
    value, levels = rng.randint(2, 99), rng.randint(2, 3)
    energy = value * 10**levels
    question = rng.choice(
        [
            f"Plants hold {energy} kJ. How much energy reaches {levels} levels up?",
            f"How much of {energy} kJ reaches {levels} levels up in a food chain?",
        ]
    )
    steps = tuple(quotient(energy // 10**level, 10) for level in range(levels))
    return told(
        Story(question, "E = E0 / 10^n", "each level passes on a tenth", "kJ"),
        Fork(
            "divides by ten once per level",
            "divides by ten only once",
            expression(f"{value * 10} / 10"),
            final_number(energy // 10),
        ),
        Working(steps, str(value), str(energy // 10)),
        Working((quotient(energy, 10),), str(energy // 10)),
    )


@template("biology")
def recessive(rng: Random) -> Draft:
    """A quarter of the young show a recessive trait."""
    value = rng.randint(2, 60)
    total = value * 4
    kind = rng.choice(["birds", "fish", "horses"])
    question = rng.choice(
        [
            f"Two mixed parents have {total} {kind} as young. How many show the recessive trait?",
            f"How many of {total} young {kind} of two mixed parents show the recessive trait?",
        ]
    )
    return told(
        Story(question, "N = T / 4", "the trait needs a copy from both parents", kind),
        Fork(
            "takes a quarter of the young",
            "takes half of the young",
            expression(f"{total} / 4"),
            expression(f"{total} / 2"),
        ),
        Working((quotient(total, 4),), str(value)),
        Working((quotient(total, 2),), str(total // 2)),
    )


@template("biology")
def dose(rng: Random) -> Draft:
    """A daily dose by body mass, split over the day."""
    doses, part, rate = rng.randint(2, 4), rng.randint(2, 9), rng.randint(2, 9)
    mass = doses * part
    daily = rate * mass
    question = rng.choice(
        [
            f"A horse of {mass} kg needs {rate} mg per kg and day in {doses} doses. "
            "How much is one dose?",
            f"How much is one dose if {rate} mg per kg and day go in {doses} doses "
            f"to a body of {mass} kg?",
        ]
    )
    return told(
        Story(question, "m1 = r m / n", "all doses together make the daily amount", "mg"),
        Fork(
            "divides by the number of doses",
            "gives the daily amount at once",
            expression(f"{daily} / {doses}"),
            final_number(daily),
        ),
        Working((product(rate, mass), quotient(daily, doses)), str(daily // doses), f"{daily} mg"),
        Working((product(rate, mass),), str(daily)),
    )
