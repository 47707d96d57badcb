"""Problem templates from earth science."""

from random import Random

from rcsd.data.world.drafts import (
    Draft,
    Fork,
    Working,
    expression,
    final_number,
    product,
    quotient,
    template,
)
from rcsd.data.world.shapes import Story, net_product, rate_times_minutes, ratio, told


@template("earth science")
def quake_wave(rng: Random) -> Draft:
    """Distance of an earthquake wave."""
    speed, minutes = rng.randint(2, 9), rng.randint(2, 9)
    question = rng.choice(
        [
            f"An earthquake wave moves at {speed} km/s for {minutes} min. How far does it go?",
            f"How far does an earthquake wave go in {minutes} min at {speed} km/s?",
        ]
    )
    return rate_times_minutes(
        Story(question, "d = v t", "distance is speed times time", "km"), speed, minutes
    )


@template("earth science", held_out=True)
def river_volume(rng: Random) -> Draft:
    """Water that a river moves in some minutes."""
    flow, minutes = rng.randint(2, 9), rng.randint(2, 9)
    question = rng.choice(
        [
            f"A river moves {flow} L of water per s. How much water is that in {minutes} min?",
            f"How much water does a river move in {minutes} min at {flow} L per s?",
        ]
    )
    return rate_times_minutes(
        Story(question, "V = q t", "a rate counts volume per time", "L"), flow, minutes
    )


@template("earth science")
def sediment_age(rng: Random) -> Draft:
    """Thickness over rate."""
    rate, value = rng.randint(2, 9), rng.randint(2, 9)
    depth = rate * value
    question = rng.choice(
        [
            f"A layer of mud is {depth} mm deep and grows {rate} mm per year. How old is it?",
            f"How old is a layer of {depth} mm of mud that grows {rate} mm per year?",
        ]
    )
    return ratio(
        Story(question, "t = d / r", "old layers lie below young layers", "years"),
        ("depth", depth),
        ("rate", rate),
    )


@template("earth science", held_out=True)
def glacier_age(rng: Random) -> Draft:
    """Length of ice over its rate of melting."""
    rate, value = rng.randint(2, 9), rng.randint(2, 9)
    length = rate * value
    question = rng.choice(
        [
            f"A layer of ice is {length} m deep and loses {rate} m per year. "
            "How many years are left?",
            f"How many years are left for {length} m of ice that loses {rate} m per year?",
        ]
    )
    return ratio(
        Story(question, "t = L / r", "a rate counts length per time", "years"),
        ("length", length),
        ("rate", rate),
    )


@template("earth science")
def lapse_rate(rng: Random) -> Draft:
    """Air cools by 6 degrees for each kilometre: two forks."""
    km, start = rng.randint(2, 9), rng.randint(60, 99)
    metres, drop = km * 1000, 6 * km
    convert = f"{metres} m = {km} km"
    question = rng.choice(
        [
            f"The air is at {start} F and changes by 6 F per km. What is it {metres} m up?",
            f"What is the temperature {metres} m up if the ground is at {start} F "
            "and it changes by 6 F per km?",
        ]
    )

    def working(converted: bool, cools: bool) -> Working:
        change = 6 * (km if converted else metres)
        steps = (convert,) if converted else ()
        steps += (product(6, km if converted else metres),)
        value = start - change if cools else start + change
        steps += (f"{start} {'-' if cools else '+'} {change} = {value}",)
        return Working(steps, str(value), f"{drop} F" if converted and cools else None)

    return Draft(
        question,
        "T = T0 - 6 h",
        "rising air cools",
        "F",
        forks=(
            Fork(
                "converts the metres to kilometres",
                "keeps the height in metres",
                expression(convert),
                {"type": "not", "check": expression(convert)},
            ),
            Fork(
                "subtracts the change from the ground temperature",
                "adds the change to the ground temperature",
                {
                    "type": "any",
                    "checks": [
                        expression(f"{start} - {drop}"),
                        expression(f"{start} - {drop * 1000}"),
                    ],
                },
                {
                    "type": "any",
                    "checks": [
                        expression(f"{start} + {drop}"),
                        expression(f"{start} + {drop * 1000}"),
                    ],
                },
            ),
        ),
        workings={
            (converted, cools): working(converted, cools)
            for converted in (True, False)
            for cools in (True, False)
        },
    )


@template("earth science")
def river_flow(rng: Random) -> Draft:
    """Width times depth times speed."""
    width = rng.randint(2, 9)
    # Unequal, or leaving out the depth would not show.
    depth, speed = rng.sample(range(2, 10), 2)
    area = width * depth
    question = rng.choice(
        [
            f"A river is {width} m wide and {depth} m deep and moves at {speed} m/s. "
            "What is its flow?",
            f"What is the flow of a river of {width} m by {depth} m at {speed} m/s?",
        ]
    )
    return told(
        Story(question, "Q = w d v", "flow is area times speed", "m^3/s"),
        Fork(
            "multiplies by the depth",
            "leaves out the depth",
            expression(f"{width} * {depth}"),
            expression(f"{width} * {speed}"),
        ),
        Working((product(width, depth), product(area, speed)), str(area * speed), f"{area} m^2"),
        Working((product(width, speed),), str(width * speed)),
    )


@template("earth science")
def plate_motion(rng: Random) -> Draft:
    """Centimetres a year, over centuries, in metres."""
    rate, centuries = rng.randint(2, 9), rng.randint(2, 9)
    years = centuries * 100
    total = rate * years
    question = rng.choice(
        [
            f"A plate moves {rate} cm per year. How many metres is that in {years} years?",
            f"How many metres does a plate move in {years} years at {rate} cm per year?",
        ]
    )
    metres = rate * centuries
    return told(
        Story(question, "d = v t", "distance is speed times time", "m"),
        Fork(
            "converts the centimetres to metres",
            "keeps the distance in centimetres",
            expression(f"{total} cm = {metres} m"),
            final_number(total),
        ),
        Working((product(rate, years), f"{total} cm = {metres} m"), str(metres), f"{total} cm"),
        Working((product(rate, years),), str(total)),
    )


@template("earth science")
def rainfall(rng: Random) -> Draft:
    """Rain per hour on a field for some hours, less what flows off."""
    loss, net, area = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 9)
    rain = loss + net
    question = rng.choice(
        [
            f"On each m^2 fall {rain} L of rain and {loss} L flow off. "
            f"How much water stays on {area} m^2?",
            f"How much water stays on {area} m^2 if {rain} L fall and {loss} L flow off per m^2?",
        ]
    )
    return net_product(
        Story(question, "V = (R - F) A", "water that flows off does not stay", "L"),
        rain,
        loss,
        area,
        "what flows off",
        "L",
    )


@template("earth science")
def map_scale(rng: Random) -> Draft:
    """Centimetres on a map become metres, then kilometres."""
    length, scale = rng.randint(2, 9), rng.randint(2, 9)
    total = length * scale * 1000
    km = length * scale
    question = rng.choice(
        [
            f"On a map 1 cm is {scale * 1000} m. How many km are {length} cm?",
            f"How many km are {length} cm on a map on which 1 cm is {scale * 1000} m?",
        ]
    )
    return told(
        Story(question, "d = s x", "a map keeps the ratio of lengths", "km"),
        Fork(
            "converts the metres to kilometres",
            "keeps the distance in metres",
            expression(f"{total} m = {km} km"),
            final_number(total),
        ),
        Working((product(length, scale * 1000), f"{total} m = {km} km"), str(km), f"{total} m"),
        Working((product(length, scale * 1000),), str(total)),
    )


@template("earth science")
def moon_weight(rng: Random) -> Draft:
    """Weight on the Moon, which is a sixth of that on Earth."""
    mass = rng.randint(1, 16) * 6
    earth = mass * 10
    question = rng.choice(
        [
            f"What is the weight of {mass} kg on the Moon with g = 10 m/s^2 on Earth?",
            f"A stone of {mass} kg lies on the Moon. "
            "What is its weight, with g = 10 m/s^2 on Earth?",
        ]
    )
    return told(
        Story(question, "W = m g / 6", "the Moon pulls with a sixth", "N"),
        Fork(
            "divides by six for the Moon",
            "uses the weight on Earth",
            expression(f"{earth} / 6"),
            final_number(earth),
        ),
        Working((product(mass, 10), quotient(earth, 6)), str(earth // 6), f"{earth} N"),
        Working((product(mass, 10),), str(earth)),
    )
