r"""Units as people and benchmarks write them, read for conversion by pint.

A unit may hold a factor (``$10^{-8} \mathrm{~m}$``), be glued (``JK^{-1}``), or have two meanings:
``J / mol K`` divides by one or by both, ``lb`` is a mass or a force, a single ``C`` a charge or a
temperature. All readings are kept; what fits the other unit's dimension is what was meant.
"""

import functools
import re
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from rcsd.graders.answers.normalize import normalize_units

if TYPE_CHECKING:
    import pint


class Unit(NamedTuple):
    """A unit as it was written, without LaTeX and without the number that stands in it, its factor.

    Its readings are the expressions of pint that it may mean; empty: it cannot be read.
    """

    written: str = ""
    factor: float = 1.0
    readings: tuple[str, ...] = ("",)

    @property
    def is_none(self) -> bool:
        """True if there is none: a bare number, or one times a factor."""
        return not self.written

    @property
    def is_percent(self) -> bool:
        """True if numbers in it are hundredths."""
        return self.written in ("%", "percent")


_FACTOR = re.compile(
    r"^\s*(?:\*\s*)?(?:(\d+(?:\.\d+)?)\s*\*\s*)?10\s*\^\s*([+-]?\d{1,3})\s*(?:\*\s*)?(?!\d)"
)


@functools.lru_cache(maxsize=1024)
def parse_unit(text: str) -> Unit:
    """Unit that a text is, factor included; one without readings where it cannot be read."""
    if text.strip() in ("$", r"\$", r"$\$$"):
        text = "dollar"
    plain = normalize_units(text).strip()
    factor = 1.0
    if match := _FACTOR.match(plain):
        factor = float(f"{match[1] or 1}e{match[2]}")
        plain = plain[match.end() :].strip()
    plain = re.sub(r"^1\s*/", "/", plain)
    if not plain:
        return Unit("", factor)
    unit, rest = read_unit(plain)
    if unit is None or rest.strip(" .()[]"):
        return Unit(" ".join(plain.split()), factor, ())
    return Unit(unit.written, factor, unit.readings)


_TOKEN = re.compile(
    r"\s*(?:(?P<mark>[/*()\[\]])"
    r"|(?P<name>%|[A-Za-zµ]+(?:_[A-Za-z]+)?)"
    r"(?:\s*\^\s*(?P<power>[+-]?\d{1,2}(?:\.\d+|/[1-9])?)|(?P<glued>[+-]?\d)(?![\d.]))?)"
)
_PER_TIME = re.compile(r"\s*/\s*(?:year|annum|month|day|yr|a)\b")


def read_unit(text: str) -> tuple[Unit | None, str]:
    """The longest unit that a text of `normalize_units` begins with, and what follows it.

    Words that no unit is named by end it; so do words that are also English ones, such as "in".
    """
    tokens: list[str] = []
    end = complete = num_complete = depth = 0  # complete: where a unit can end
    while match := _TOKEN.match(text, end):
        token, name = match["mark"], match["name"]
        if name:
            names = _unit_names(name)
            if not names or _is_word(name, text[match.end("name") :], is_first=not tokens):
                break
            power = match["power"] or match["glued"]
            tokens += [*names[:-1], names[-1] + (f"**({power})" if power else "")]
        elif token in "([" and tokens and tokens[-1] not in "/*([":
            break  # "micrometers (µm)" says it twice
        else:
            tokens.append(token)
            depth += (token in "([") - (token in ")]")
            if depth < 0:
                break
        end = match.end()
        if depth == 0 and token not in ("/", "*"):
            complete, num_complete = end, len(tokens)
        if tokens[-1] == "percent":  # "% per year" is a share all the same
            per_time = _PER_TIME.match(text, end)
            complete = per_time.end() if per_time else end
            break
    tokens = tokens[:num_complete]
    if not any(token[0].isalpha() for token in tokens):
        return None, text
    return Unit(" ".join(text[:complete].split()), 1.0, _readings(tokens)), text[complete:]


def _readings(tokens: list[str]) -> tuple[str, ...]:
    """Expressions that the tokens may mean: what follows a slash is divided by, once or all."""
    readings = [_expression(tokens, divides_all) for divides_all in (False, True)]
    for reading in readings[:]:
        readings.append(re.sub(r"\bpound\b", "force_pound", reading))
        readings.append(re.sub(r"\bmillisecond\*\*\(-", "meter*second**(-", reading))  # m s^-1
        readings += {"coulomb": ["degree_Celsius"], "farad": ["degree_Fahrenheit"]}.get(reading, [])
    return tuple(dict.fromkeys(readings))


def _expression(tokens: list[str], divides_all: bool) -> str:
    """Expression of pint; what follows a slash may all be divided by, as in ``J / mol K``."""
    text, mark, divides = "1", "*", [False]
    for token in tokens:
        if token in "/*":
            mark = token
            divides[-1] |= token == "/"
        elif token in "([":
            text, mark = f"{text}{mark}(1", "*"
            divides.append(False)
        elif token in ")]":
            text, mark = text + ")", "*"
            divides.pop()
        else:
            divides_this = mark == "/" or (divides_all and divides[-1])
            text, mark = f"{text}{'/' if divides_this else '*'}{token}", "*"
    return (text + ")" * (len(divides) - 1)).removeprefix("1*")


def _unit_names(word: str) -> list[str]:
    """Name of a unit, or of two that are glued together; empty: pint has none such."""
    name = unit_name(word)
    if name is not None and word != "Nm":  # pint's number of metres
        return [name]
    glued = _GLUED.fullmatch(word)
    names = [unit_name(part) for part in glued.groups()] if glued else []
    return [name for name in names if name is not None] if None not in names else []


CURRENCIES = ("dollar", "euro", "sterling", "yen", "yuan", "rupee", "franken")
# Names that pint lacks, writes otherwise, or takes for something else.
_ALIASES = {
    "rev": "turn", "revs": "turn", "revolution": "turn", "revolutions": "turn", "kmh": "kph",
    "kmph": "kph", "AU": "astronomical_unit", "KJ": "kJ", "KPa": "kPa", "kPA": "kPa", "MPA": "MPa",
    "PA": "Pa", "ATM": "atm", "Kg": "kg", "KG": "kg", "ev": "eV", "Ev": "eV", "Kev": "keV",
    "kev": "keV", "Mev": "MeV", "mev": "MeV", "hz": "Hz", "HZ": "Hz", "Khz": "kHz", "khz": "kHz",
    "KHz": "kHz", "GHZ": "GHz", "MHZ": "MHz", "Mhz": "MHz", "nt": "newton",
    "ftlb": "foot_pound_force", "sec": "second", "mols": "mole", "dollars": "dollar",
    "USD": "dollar", "EUR": "euro", "euros": "euro", "Euro": "euro", "GBP": "sterling",
    "JPY": "yen", "CNY": "yuan", "RMB": "yuan", "INR": "rupee", "rupees": "rupee", "CHF": "franken",
    "cent": "dollar_cent", "cents": "dollar_cent", "gm": "gram", "gms": "gram",
    "deg": "degree", "degs": "degree", "Angstrom": "angstrom", "pct": "percent", "amps": "ampere",
    "amp": "ampere", "centigrade": "degree_Celsius", "degK": "kelvin", "lbs": "pound", "sqrt": "",
    "frac": "",
}  # fmt: skip
_COUNTED = re.compile(r"(?i)(?:photon|molecule|atom|electron|particle|ion|neutron|proton|item)s?")
_WORDS = frozenset((
    "a", "am", "an", "and", "are", "as", "at", "be", "by", "count", "dot", "drop", "for", "from",
    "had", "hand", "has", "if", "is", "it", "line", "link", "me", "my", "no", "of", "on", "or",
    "pole", "point", "points", "rod", "so", "than", "that", "the", "times", "to", "up", "us", "was",
    "we", "with", "x", "y", "z", "i", "j", "k", "n", "r", "v", "p", "q", "f", "w",
))  # fmt: skip
_GLUED = re.compile(r"(kJ|kN|kW|kg|kcal|cal|mol|Pa|eV|[JNWCVAKLgms])(mol|Pa|Hz|kg|[JNWCVAKLTgmsh])")


def _is_word(word: str, rest: str, is_first: bool) -> bool:
    """True if what could be a unit is more likely a word, or a variable."""
    if word in ("in", "min"):  # inches only at the end: "5 in", not "5 m in the plane"
        return word == "in" and not (is_first and re.match(r"\d?\s*(?:$|[.,;)\]/*^])", rest))
    if word in ("e", "u", "b"):  # charges, atomic masses, barns: only right at the number
        return not is_first or re.match(r"\s*(?:$|[.,;)\]/*])", rest) is None
    return word in _WORDS


@functools.lru_cache(maxsize=4096)
def unit_name(word: str) -> str | None:
    """Pint's name of a unit; None: it has none such."""
    if len(word) > 40:
        return None
    if _COUNTED.fullmatch(word):
        return "count"
    word = "percent" if word == "%" else _ALIASES.get(word, word)
    for candidate in (word, word.lower() if len(word) > 3 and word[0].isupper() else ""):
        try:
            units = _registry().parse_units(candidate) if candidate else None
        except Exception:  # pint raises whatever its parser stumbles over
            continue
        names = [] if units is None else list(units._units.items())
        if len(names) == 1 and names[0][1] == 1:
            return names[0][0]
    return None


_REGISTRY_LOCK = threading.Lock()  # units of two registries do not convert


def _registry() -> "pint.UnitRegistry[Any]":
    with _REGISTRY_LOCK:
        return _make_registry()


@functools.cache
def _make_registry() -> "pint.UnitRegistry[Any]":
    """Units of pint, and money; made when first needed: it takes a third of a second."""
    import pint  # noqa: PLC0415

    registry = pint.UnitRegistry()
    for name in CURRENCIES:  # none converts into another
        registry.define(f"{name} = [currency_{name}]")
    registry.define("dollar_cent = 0.01 dollar")
    return registry


@functools.lru_cache(maxsize=2048)
def _pint_unit(reading: str) -> "pint.Unit":
    # In a product, such as "J per degree", pint takes a degree for a difference of temperatures.
    return _registry().parse_units(reading)


def convert(value: float, source: Unit, target: Unit) -> list[float]:
    """Value in the target unit, factors left out; one for each way to read both units.

    Empty: the dimensions agree in none.
    """
    return [
        _registry().Quantity(value, ours).to(theirs).magnitude
        for ours in map(_pint_unit, source.readings)
        for theirs in map(_pint_unit, target.readings)
        if ours.is_compatible_with(theirs)
    ]


def is_temperature(unit: Unit) -> bool:
    """True if a unit measures temperatures."""
    return not {"kelvin", "degree_Celsius", "degree_Fahrenheit"}.isdisjoint(unit.readings)


def is_dimensionless(unit: Unit) -> bool:
    """True if a unit has no dimension, such as ``%`` or a degree."""
    return bool(unit.readings) and _pint_unit(unit.readings[0]).dimensionless
