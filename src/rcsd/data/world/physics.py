"""Problem templates from physics."""

from random import Random

from rcsd.data.world.drafts import Draft, Fork, Working, expression, product, quotient, template
from rcsd.data.world.shapes import Story, half_square, net_product, rate_times_minutes, ratio, told


@template("physics")
def run_distance(rng: Random) -> Draft:
    """A runner, a rate and minutes."""
    speed, minutes = rng.randint(2, 9), rng.randint(2, 9)
    mover = rng.choice(["runner", "cyclist", "boat", "cart"])
    question = rng.choice(
        [
            f"A {mover} moves at {speed} m/s for {minutes} min. How far does it go?",
            f"How far does a {mover} go in {minutes} min at {speed} m/s?",
        ]
    )
    return rate_times_minutes(
        Story(question, "d = v t", "distance is speed times time", "m"), speed, minutes
    )


@template("physics")
def lamp_energy(rng: Random) -> Draft:
    """Power for some minutes."""
    power, minutes = rng.randint(2, 9), rng.randint(2, 9)
    device = rng.choice(["lamp", "heater", "motor", "pump"])
    question = rng.choice(
        [
            f"A {power} W {device} runs for {minutes} min. How much energy does it use?",
            f"How much energy does a {device} of {power} W use in {minutes} min?",
        ]
    )
    return rate_times_minutes(
        Story(question, "E = P t", "power is energy per time", "J"), power, minutes
    )


@template("physics", held_out=True)
def current_charge(rng: Random) -> Draft:
    """Charge of a current that flows for minutes."""
    current, minutes = rng.randint(2, 9), rng.randint(2, 9)
    question = rng.choice(
        [
            f"A current of {current} A runs for {minutes} min. How much charge does it move?",
            f"How much charge does a current of {current} A move in {minutes} min?",
        ]
    )
    return rate_times_minutes(
        Story(question, "Q = I t", "current is charge per time", "C"), current, minutes
    )


@template("physics")
def kinetic_energy(rng: Random) -> Draft:
    """Half the mass times the square of the speed."""
    mass, speed = rng.randrange(2, 19, 2), rng.randint(2, 9)
    body = rng.choice(["cart", "ball", "boat", "cyclist"])
    question = rng.choice(
        [
            f"What is the kinetic energy of a {mass} kg {body} that moves at {speed} m/s?",
            f"A {body} of {mass} kg moves at {speed} m/s. How much kinetic energy does it have?",
        ]
    )
    _square, _half = speed * speed, mass // 2
    return half_square(
        Story(question, "E = 1/2 m v^2", "kinetic energy grows with the square of the speed", "J"),
        mass,
        speed,
    )


@template("physics", held_out=True)
def spring_energy(rng: Random) -> Draft:
    """Half the stiffness times the square of the length."""
    stiffness, length = rng.randrange(2, 19, 2), rng.randint(2, 9)
    question = rng.choice(
        [
            f"A spring of {stiffness} N/m is stretched by {length} m. "
            "How much energy does it have?",
            f"What is the energy of a {stiffness} N/m spring that is stretched by {length} m?",
        ]
    )
    _square, _half = length * length, stiffness // 2
    return half_square(
        Story(question, "E = 1/2 k x^2", "spring energy grows with the square of the stretch", "J"),
        stiffness,
        length,
    )


@template("physics")
def fall_distance(rng: Random) -> Draft:
    """Free fall with g = 10 m/s^2."""
    time = rng.randint(2, 12)
    body = rng.choice(["ball", "stone", "drop"])
    question = rng.choice(
        [
            f"A {body} falls from rest for {time} s with g = 10 m/s^2. How far does it fall?",
            f"How far does a {body} fall from rest in {time} s with g = 10 m/s^2?",
        ]
    )
    return half_square(
        Story(
            question,
            "d = 1/2 g t^2",
            "the distance of a fall grows with the square of the time",
            "m",
        ),
        10,
        time,
    )


@template("physics")
def pressure(rng: Random) -> Draft:
    """Force over area."""
    area, value = rng.randint(2, 9), rng.randint(2, 9)
    force = area * value
    question = rng.choice(
        [
            f"A force of {force} N acts on {area} m^2. What is the pressure?",
            f"What is the pressure of a force of {force} N on an area of {area} m^2?",
        ]
    )
    return ratio(
        Story(question, "p = F / A", "pressure is force per area", "Pa"),
        ("force", force),
        ("area", area),
    )


@template("physics")
def momentum(rng: Random) -> Draft:
    """Mass times speed; the habit squares the speed."""
    # Unequal, or the habit's square would look like the right product.
    mass, speed = rng.sample(range(2, 10), 2)
    body = rng.choice(["ball", "cart", "stone"])
    question = rng.choice(
        [
            f"A {mass} kg {body} moves at {speed} m/s. What is its momentum?",
            f"What is the momentum of a {body} of {mass} kg that moves at {speed} m/s?",
        ]
    )
    square = speed * speed
    return told(
        Story(question, "p = m v", "momentum is mass times speed", "kg m/s"),
        Fork(
            "uses the first power of the speed",
            "uses the square of the speed",
            expression(f"{mass} * {speed}"),
            expression(f"{mass} * {square}"),
        ),
        Working((product(mass, speed),), str(mass * speed)),
        Working((product(speed, speed), product(mass, square)), str(mass * square)),
    )


@template("physics")
def current(rng: Random) -> Draft:
    """Ohm's law."""
    resistance, value = rng.randint(2, 9), rng.randint(2, 9)
    voltage = resistance * value
    question = rng.choice(
        [
            f"A voltage of {voltage} V acts on a resistor of {resistance} Ohm. "
            "What is the current?",
            f"What is the current in a resistor of {resistance} Ohm at {voltage} V?",
        ]
    )
    return ratio(
        Story(question, "I = V / R", "a larger resistance makes the current smaller", "A"),
        ("voltage", voltage),
        ("resistance", resistance),
    )


@template("physics")
def series_voltage(rng: Random) -> Draft:
    """Resistors in series add; then Ohm's law."""
    # At least 3: two times two is two plus two.
    first, second, amps = rng.randint(3, 9), rng.randint(2, 9), rng.randint(2, 9)
    total, wrong = first + second, first * second
    question = rng.choice(
        [
            f"Resistors of {first} Ohm and {second} Ohm in series carry {amps} A. "
            "What is the voltage?",
            f"What is the voltage on {first} Ohm and {second} Ohm in series at {amps} A?",
        ]
    )
    return told(
        Story(question, "V = I R", "resistors in series carry the same current", "V"),
        Fork(
            "adds the resistances",
            "multiplies the resistances",
            expression(f"{first} + {second}"),
            expression(f"{first} * {second}"),
        ),
        Working(
            (f"{first} + {second} = {total}", product(amps, total)),
            str(amps * total),
            f"{total} Ohm",
        ),
        Working((product(first, second), product(amps, wrong)), str(amps * wrong)),
    )


@template("physics")
def heat(rng: Random) -> Draft:
    """Heat from a difference of temperatures."""
    mass, rise, start = rng.randint(2, 9), rng.randint(2, 9), rng.randint(11, 19)
    end, capacity = start + rise, rng.choice([2, 4])
    question = rng.choice(
        [
            f"How much heat takes {mass} kg with c = {capacity} kJ/kg from {start} C to {end} C?",
            f"A body of {mass} kg with c = {capacity} kJ/kg is heated from {start} C to {end} C. "
            "How much heat does it take?",
        ]
    )
    stuff = mass * capacity
    return told(
        Story(question, "Q = m c (T2 - T1)", "heat depends on the change of the temperature", "kJ"),
        Fork(
            "subtracts the starting temperature",
            "uses the final temperature alone",
            expression(f"{end} - {start}"),
            expression(f"{stuff} * {end}"),
        ),
        Working(
            (f"{end} - {start} = {rise}", product(mass, capacity), product(stuff, rise)),
            str(stuff * rise),
            f"{rise} C",
        ),
        Working((product(mass, capacity), product(stuff, end)), str(stuff * end)),
    )


@template("physics")
def friction_work(rng: Random) -> Draft:
    """Work of the net force."""
    friction, net, distance = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 9)
    force = friction + net
    body = rng.choice(["cart", "stone", "boat"])
    question = rng.choice(
        [
            f"A {body} is pulled {distance} m with {force} N against a friction of {friction} N. "
            "What is the net work?",
            f"What is the net work of {force} N on a {body} over {distance} m "
            f"with a friction of {friction} N?",
        ]
    )
    return net_product(
        Story(question, "W = F d", "only the net force adds energy", "J"),
        force,
        friction,
        distance,
        "the friction",
        "N",
    )


@template("physics")
def highway(rng: Random) -> Draft:
    """Kilometres an hour must become metres a second."""
    tens, time = rng.randint(1, 9), rng.randint(2, 9)
    fast, speed = 18 * tens, 5 * tens
    question = rng.choice(
        [
            f"A cart moves at {fast} km/h for {time} s. How far does it go?",
            f"How far does a boat go in {time} s at {fast} km/h?",
        ]
    )
    return told(
        Story(question, "d = v t", "distance is speed times time", "m"),
        Fork(
            "converts the speed to m/s",
            "keeps the speed in km/h",
            expression(f"{fast} km/h = {speed} m/s"),
            expression(f"{fast} * {time}"),
        ),
        Working(
            (f"{fast} km/h = {speed} m/s", product(speed, time)),
            str(speed * time),
            f"{speed} m/s",
        ),
        Working((product(fast, time),), str(fast * time)),
    )


@template("physics")
def gram_energy(rng: Random) -> Draft:
    """Kinetic energy with two forks: grams, and the factor one half."""
    kilos, speed = rng.randrange(2, 9, 2), rng.randint(2, 9)
    grams, square, _half = kilos * 1000, speed * speed, kilos // 2
    question = rng.choice(
        [
            f"What is the kinetic energy of a {grams} g ball that moves at {speed} m/s?",
            f"A stone of {grams} g moves at {speed} m/s. How much kinetic energy does it have?",
        ]
    )
    convert = f"{grams} g = {kilos} kg"

    def working(kg: bool, halved: bool) -> Working:
        mass = kilos if kg else grams
        steps = (convert,) if kg else ()
        steps += (product(speed, speed),)
        if halved:
            steps += (quotient(mass, 2),)
            mass //= 2
        return Working(
            (*steps, product(mass, square)),
            str(mass * square),
            f"{kilos} kg" if kg and halved else None,
        )

    return Draft(
        question,
        "E = 1/2 m v^2",
        "kinetic energy grows with the square of the speed",
        "J",
        forks=(
            Fork(
                "converts the grams to kilograms",
                "keeps the mass in grams",
                expression(convert),
                {"type": "not", "check": expression(convert)},
            ),
            Fork(
                "includes the factor one half",
                "leaves out the factor one half",
                {"type": "any", "checks": [expression(f"{kilos} / 2"), expression(f"{grams} / 2")]},
                {
                    "type": "any",
                    "checks": [
                        expression(f"{kilos} * {square}"),
                        expression(f"{grams} * {square}"),
                    ],
                },
            ),
        ),
        workings={
            (kg, halved): working(kg, halved) for kg in (True, False) for halved in (True, False)
        },
    )
