"""Problem templates from chemistry."""

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
from rcsd.data.world.shapes import Story, conserved_product, ratio, told


@template("chemistry")
def moles_to_mass(rng: Random) -> Draft:
    """Amount times molar mass."""
    amount, (name, molar) = (
        rng.randint(2, 9),
        rng.choice(
            [("water", 18), ("oxygen", 32), ("carbon", 12), ("methane", 16), ("nitrogen", 28)]
        ),
    )
    question = rng.choice(
        [
            f"What is the mass of {amount} mol of {name} with a molar mass of {molar} g/mol?",
            f"How much mass do {amount} mol of {name} have at {molar} g/mol?",
        ]
    )
    return told(
        Story(question, "m = n M", "the molar mass is mass per amount", "g"),
        Fork(
            "multiplies by the molar mass",
            "adds the molar mass",
            expression(f"{amount} * {molar}"),
            expression(f"{amount} + {molar}"),
        ),
        Working((product(amount, molar),), str(amount * molar)),
        Working((f"{amount} + {molar} = {amount + molar}",), str(amount + molar)),
    )


@template("chemistry")
def concentration(rng: Random) -> Draft:
    """Amount over volume."""
    volume, value = rng.randint(2, 9), rng.randint(2, 9)
    amount = volume * value
    question = rng.choice(
        [
            f"{amount} mol of salt are in {volume} L of water. What is the concentration?",
            f"What is the concentration of {amount} mol of sugar in {volume} L?",
        ]
    )
    return ratio(
        Story(question, "c = n / V", "concentration is amount per volume", "mol/L"),
        ("amount", amount),
        ("volume", volume),
    )


@template("chemistry", held_out=True)
def density(rng: Random) -> Draft:
    """Mass over volume."""
    volume, value = rng.randint(2, 9), rng.randint(2, 9)
    mass = volume * value
    question = rng.choice(
        [
            f"A mass of {mass} g is in {volume} L. What is the density?",
            f"What is the density of {mass} g of oxygen in {volume} L?",
        ]
    )
    return ratio(
        Story(question, "D = m / V", "density is mass per volume", "g/L"),
        ("mass", mass),
        ("volume", volume),
    )


@template("chemistry")
def dilution(rng: Random) -> Draft:
    """The amount stays the same when water is added."""
    value, factor, volume = rng.randint(2, 9), rng.randint(2, 4), rng.randint(2, 9)
    start, end = value * factor, volume * factor
    question = rng.choice(
        [
            f"{volume} L of a salt solution of {start} mol/L are filled up to {end} L. "
            "What is the concentration?",
            f"What is the concentration when {volume} L of {start} mol/L are filled up to {end} L?",
        ]
    )
    return conserved_product(
        Story(question, "c2 = c1 V1 / V2", "the amount of salt stays the same", "mol/L"),
        (start, volume),
        end,
    )


@template("chemistry", held_out=True)
def boyle(rng: Random) -> Draft:
    """Pressure times volume stays the same."""
    value, factor, volume = rng.randint(2, 9), rng.randint(2, 4), rng.randint(2, 9)
    start, end = value * factor, volume * factor
    question = rng.choice(
        [
            f"{volume} L of oxygen at a pressure of {start} Pa are filled up to {end} L. "
            "What is the pressure?",
            f"What is the pressure when {volume} L at {start} Pa are filled up to {end} L?",
        ]
    )
    return conserved_product(
        Story(question, "p2 = p1 V1 / V2", "pressure times volume stays the same", "Pa"),
        (start, volume),
        end,
    )


@template("chemistry")
def kelvin(rng: Random) -> Draft:
    """Celsius to kelvin."""
    celsius = rng.randint(2, 99)
    question = rng.choice(
        [
            f"What is {celsius} C on the Kelvin scale?",
            f"A salt solution is at {celsius} C. What is its temperature in Kelvin?",
        ]
    )
    return told(
        Story(question, "T = t + 273", "absolute zero lies at 273 degrees below zero", "K"),
        Fork(
            "adds 273",
            "subtracts from 273",
            expression(f"{celsius} + 273"),
            expression(f"273 - {celsius}"),
        ),
        Working((f"{celsius} + 273 = {celsius + 273}",), str(celsius + 273)),
        Working((f"273 - {celsius} = {273 - celsius}",), str(273 - celsius)),
    )


@template("chemistry")
def mole_ratio(rng: Random) -> Draft:
    """Product from a reaction with a mole ratio, then a mass."""
    amount, ratio = rng.randint(2, 9), rng.randint(2, 4)
    name, molar = rng.choice([("water", 18), ("oxygen", 32), ("carbon", 12), ("methane", 16)])
    made = amount * ratio
    question = rng.choice(
        [
            f"{amount} mol of salt each give {ratio} mol of {name} with {molar} g/mol. "
            "What mass is made?",
            f"What mass of {name} with {molar} g/mol is made if {amount} mol each "
            f"give {ratio} mol?",
        ]
    )
    return told(
        Story(question, "m = n M", "atoms are conserved in a reaction", "g"),
        Fork(
            "uses the mole ratio",
            "forgets the mole ratio",
            expression(f"{amount} * {ratio}"),
            expression(f"{amount} * {molar}"),
        ),
        Working((product(amount, ratio), product(made, molar)), str(made * molar), f"{made} mol"),
        Working((product(amount, molar),), str(amount * molar)),
    )


@template("chemistry")
def half_life(rng: Random) -> Draft:
    """What is left after some half-lives."""
    lives, left = rng.randint(2, 4), rng.randint(2, 29)
    mass = left * 2**lives
    question = rng.choice(
        [
            f"How much of {mass} g of a radioactive salt is left after {lives} half-lives?",
            f"A radioactive stone has {mass} g of carbon. "
            f"How much is left after {lives} half-lives?",
        ]
    )
    steps = tuple(quotient(mass // 2**life, 2) for life in range(lives))
    return told(
        Story(question, "N = N0 / 2^n", "each half-life leaves one half", "g"),
        Fork(
            "halves once per half-life",
            "halves only once",
            expression(f"{2 * left} / 2"),
            final_number(mass // 2),
        ),
        Working(steps, str(left), str(mass // 2)),
        Working((quotient(mass, 2),), str(mass // 2)),
    )


@template("chemistry")
def neutrons(rng: Random) -> Draft:
    """Mass number minus protons."""
    protons, value = rng.randint(6, 40), rng.randint(6, 50)
    mass = protons + value
    question = rng.choice(
        [
            f"An atom has a mass number of {mass} and {protons} protons. "
            "How many neutrons does it have?",
            f"How many neutrons has an atom with mass number {mass} and {protons} protons?",
        ]
    )
    return told(
        Story(question, "N = A - Z", "the mass number counts protons and neutrons", "neutrons"),
        Fork(
            "subtracts the protons",
            "adds the protons",
            expression(f"{mass} - {protons}"),
            expression(f"{mass} + {protons}"),
        ),
        Working((f"{mass} - {protons} = {value}",), str(value)),
        Working((f"{mass} + {protons} = {mass + protons}",), str(mass + protons)),
    )


@template("chemistry")
def pure_mass(rng: Random) -> Draft:
    """Percent of a mass, which may be given in kilograms: two forks."""
    kilos, tens = rng.randint(2, 9), rng.randint(1, 9)
    percent, grams = 10 * tens, kilos * 1000
    convert = f"{kilos} kg = {grams} g"
    question = rng.choice(
        [
            f"A stone of {kilos} kg is {percent} % carbon. How many grams of carbon are in it?",
            f"How many grams of salt are in {kilos} kg of water with {percent} % salt?",
        ]
    )

    def working(converted: bool, share: bool) -> Working:
        mass = grams if converted else kilos
        steps = (convert,) if converted else ()
        value = mass * percent
        steps += (product(mass, percent),)
        if share and converted:
            steps += (quotient(value, 100),)
            value //= 100
        elif share:
            steps += (f"{value} / 100 = {value // 100}.{tens * kilos % 10}",)
            return Working(steps, f"{value // 100}.{tens * kilos % 10}")
        return Working(steps, str(value), f"{grams} g" if converted and share else None)

    return Draft(
        question,
        "m2 = m p / 100",
        "percent means parts of a hundred",
        "g",
        forks=(
            Fork(
                "converts the kilograms to grams",
                "keeps the mass in kilograms",
                number(grams),
                {"type": "not", "check": number(grams)},
            ),
            Fork(
                "divides the percent by 100",
                "forgets to divide by 100",
                {
                    "type": "any",
                    "checks": [
                        expression(f"{kilos * percent} / 100"),
                        expression(f"{grams * percent} / 100"),
                    ],
                },
                {"type": "not", "check": {"type": "contains", "text": "/ 100 ="}},
            ),
        ),
        workings={
            (converted, share): working(converted, share)
            for converted in (True, False)
            for share in (True, False)
        },
    )
