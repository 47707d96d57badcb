r"""Units as people and benchmarks write them, read for conversion.

A unit may hold a factor (``$10^{-8} \mathrm{~m}$``), be glued (``JK^{-1}``), or have two meanings:
``J / mol K`` divides by one or by both, ``lb`` is a mass or a force, a single ``C`` a charge or a
temperature. All readings are kept; what fits the other unit's dimension is what was meant.
"""

import functools
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rcsd.graders.answers.folding import unwrapped

if TYPE_CHECKING:
    import pint

Product = tuple[tuple[str, float], ...]
"""Names of units and their powers."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit.

    Args:
        written: As it was written, without LaTeX and without its factor.
        factor: The number that stands in it.
        readings: What it may mean; empty: it cannot be read.
    """

    written: str = ""
    factor: float = 1.0
    readings: tuple[Product, ...] = field(default=((),))

    @property
    def is_none(self) -> bool:
        """Whether there is none: a bare number, or one times a factor."""
        return not self.written


_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_DEGREE = r"(?:\^\s*\{?\s*\\circ\s*\}?|\{\s*\\circ\s*\}|\\(?:circ|degree)(?![a-zA-Z])|\^\s*°|[°º˚])"
_SPELT = (
    (re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+"), lambda m: "^" + m[0].translate(_SUPERSCRIPTS)),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"\1 / (\2)"),
    (re.compile(rf"{_DEGREE}\s*([CFK])(?![A-Za-z])|([\u2103])"), lambda m: f" deg{m[1] or 'C'} "),
    (re.compile(_DEGREE), " degree "),
    (re.compile(r"(?i)\bdeg(?:ree)?s?\.?\s+(?:C(?:elsius|entigrade)?)\b"), " degC "),
    (re.compile(r"(?i)\bdeg(?:ree)?s?\.?\s+F(?:ahrenheit)?\b"), " degF "),
    (re.compile(r"\\(?:mu|upmu)(?![a-zA-Z])\s*|[\u00b5\u03bc]\s*"), "µ"),
    (re.compile(r"\\Omega(?![a-zA-Z])|[Ω\u2126]"), "ohm "),
    (re.compile(r"\\AA(?![a-zA-Z])|\\(?:mathring|r)\s*\{?\s*A\s*\}?|[Å\u212b]"), "angstrom "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\\$|\bUSD\b|\bUS\s*\$"), " dollar "),
    (re.compile(r"€"), " euro "),
    (
        re.compile(
            r"\\(?:times|cdot|ast)(?![a-zA-Z])|[\u00d7\u00b7\u22c5\u2217\u2022]|\*\*?(?!\*)"
        ),
        "*",
    ),
    (re.compile(r"[\u2212\u2013]"), "-"),
    (re.compile(r"(?i)\b(?:inverse|reciprocal)\s+([a-zµ]+)"), r"\1^-1"),
    (re.compile(r"\bper\b"), "/"),
    (re.compile(r"(?i)\b(?:square|sq\.?)\s+([a-z]+)"), r"\1^2"),
    (re.compile(r"(?i)\bcubic\s+([a-z]+)"), r"\1^3"),
    (re.compile(r"(?i)(?<=[a-z])\s+squared\b"), "^2"),
    (re.compile(r"(?i)(?<=[a-z])\s+cubed\b"), "^3"),
    (re.compile(r"\^\s*\{\s*([^{}]*?)\s*\}"), r"^\1"),
    (re.compile(r"\^\(\s*([+-]?\d+)\s*\)"), r"^\1"),
    (re.compile(r"(?<=[A-Za-z])-(?=[A-Za-z])"), "*"),
    (re.compile(r"[{}$]"), " "),
)


@functools.lru_cache(maxsize=2048)
def spelt(text: str) -> str:
    """A unit, or the text after a number, with one spelling of powers, products and symbols."""
    text = unwrapped(text)
    for pattern, replacement in _SPELT:
        text = pattern.sub(replacement, text)
    return text


_FACTOR = re.compile(
    r"^\s*(?:\*\s*)?(?:(\d+(?:\.\d+)?)\s*\*\s*)?10\s*\^\s*([+-]?\d{1,3})\s*(?:\*\s*)?(?!\d)"
)


@functools.lru_cache(maxsize=1024)
def unit_of(text: str) -> Unit:
    """The unit that a text is, factor included; one without readings where it cannot be read."""
    if text.strip() in ("$", r"\$", r"$\$$"):
        return Unit("dollar", 1.0, ((("dollar", 1.0),),))
    plain = spelt(text).strip()
    factor = 1.0
    if match := _FACTOR.match(plain):
        factor = float(f"{match[1] or 1}e{match[2]}")
        plain = plain[match.end() :].strip()
    plain = re.sub(r"^1\s*/", "/", plain)
    if not plain:
        return Unit("", factor)
    read, rest = unit_at_start(plain)
    if read is None or rest.strip(" .()[]"):
        return Unit(" ".join(plain.split()), factor, ())
    return Unit(read.written, factor, read.readings)


_TOKEN = re.compile(
    r"\s*(?:(?P<mark>[/*])|(?P<open>[(\[])|(?P<close>[)\]])"
    r"|(?P<name>%|[A-Za-zµ]+(?:_[A-Za-z]+)?)"
    r"(?:\s*\^\s*(?P<power>[+-]?\d{1,2}(?:\.\d+|/\d)?)|(?P<glued>[+-]?\d)(?![\d.]))?)"
)


_PER_TIME = re.compile(r"\s*/\s*(?:year|annum|month|day|yr|a)\b")


def unit_at_start(plain: str) -> tuple[Unit | None, str]:
    """The longest unit that a spelt text begins with, and what follows it.

    Words that no unit is named by end it; so do words that are also English ones, such as "in".
    """
    tokens: list[tuple[str, str, float]] = []
    end = whole = depth = 0
    kept = 0  # tokens up to the last that a unit can end with
    while match := _TOKEN.match(plain, end):
        kind = match.lastgroup if match.lastgroup not in ("power", "glued") else "name"
        if kind == "name":
            names = _names(match["name"])
            if not names or _is_word(match["name"], plain[match.end("name") :], first=not tokens):
                break
            tokens.extend(("name", name, 1.0) for name in names[:-1])
            tokens.append(("name", names[-1], _power(match["power"] or match["glued"] or "1")))
            if names == ["percent"]:  # "% per year" is a share all the same
                said = _PER_TIME.match(plain, match.end())
                whole, kept = said.end() if said else match.end(), len(tokens)
                break
        elif kind == "open" and tokens and tokens[-1][0] == "name":
            break  # "micrometers (µm)" says it twice
        else:
            tokens.append((kind or "", match[0].strip(), 0.0))
            depth += (kind == "open") - (kind == "close")
            if depth < 0:
                break
        end = match.end()
        if kind in ("name", "close") and depth == 0:
            whole, kept = end, len(tokens)
    tokens = tokens[:kept]
    if not any(kind == "name" for kind, _, _ in tokens):
        return None, plain
    return Unit(" ".join(plain[:whole].split()), 1.0, tuple(_readings(tokens))), plain[whole:]


def _names(word: str) -> list[str]:
    """Of a unit, or of two that are glued together; empty: pint knows none such."""
    name = name_of(word)
    if name is not None and word != "Nm":  # pint's number of metres
        return [name]
    glued = _GLUED.fullmatch(word)
    names = [name_of(part) for part in glued.groups()] if glued else []
    return [name for name in names if name is not None] if None not in names else []


def _power(text: str) -> float:
    over, _, under = text.partition("/")
    return float(over) / (float(under) or 1.0) if under else float(over)


def _readings(tokens: list[tuple[str, str, float]]) -> Iterator[Product]:
    found = dict.fromkeys((_product(tokens, False), _product(tokens, True)))
    for product in found:
        yield product
    for product in found:
        names = [name for name, _ in product]
        if "pound" in names:
            yield tuple(("force_pound" if n == "pound" else n, power) for n, power in product)
        if any(name == "millisecond" and power < 0 for name, power in product):  # m s^-1
            yield tuple(
                part
                for name, power in product
                for part in (
                    (("meter", 1.0), ("second", power))
                    if name == "millisecond"
                    else ((name, power),)
                )
            )
        if product in ((("coulomb", 1.0),), (("farad", 1.0),)):
            yield (("degree_Celsius" if names[0] == "coulomb" else "degree_Fahrenheit", 1.0),)


def _product(tokens: list[tuple[str, str, float]], all_after: bool) -> Product:
    """Names and powers.

    Args:
        tokens: Names, marks and parentheses.
        all_after: Whether all that follows a slash is divided by, as in ``J / mol K``.
    """
    product: list[tuple[str, float]] = []
    signs, sign = [1.0], 1.0
    for kind, text, power in tokens:
        if text == "/":
            sign = -1.0
        elif kind == "open":
            signs.append(signs[-1] * sign)
            sign = 1.0
        elif kind == "close":
            signs = signs[:-1] or [1.0]
        elif kind == "name":
            product.append((text, signs[-1] * sign * power))
            sign = sign if all_after else 1.0
    return tuple(product)


# Names: what pint lacks, writes otherwise, or takes for something else.
_ALIASES = {
    "rev": "turn", "revs": "turn", "revolution": "turn", "revolutions": "turn", "kmh": "kph",
    "kmph": "kph", "AU": "astronomical_unit", "KJ": "kJ", "KPa": "kPa", "kPA": "kPa", "MPA": "MPa",
    "PA": "Pa", "ATM": "atm", "Kg": "kg", "KG": "kg", "ev": "eV", "Ev": "eV", "Kev": "keV",
    "kev": "keV", "Mev": "MeV", "mev": "MeV", "hz": "Hz", "HZ": "Hz", "Khz": "kHz", "khz": "kHz",
    "KHz": "kHz", "GHZ": "GHz", "MHZ": "MHz", "Mhz": "MHz", "nt": "newton",
    "ftlb": "foot_pound_force", "sec": "second", "mole": "mole", "mols": "mole", "molar": "molar",
    "dollar": "dollar", "dollars": "dollar", "cent": "dollar_cent",
    "cents": "dollar_cent", "euro": "euro", "euros": "euro", "gm": "gram",
    "gms": "gram", "deg": "degree", "degs": "degree", "Å": "angstrom", "Angstrom": "angstrom",
    "pct": "percent", "amps": "ampere", "amp": "ampere", "wavenumber": "wavenumber",
    "centigrade": "degree_Celsius", "degC": "degree_Celsius", "degF": "degree_Fahrenheit",
    "degK": "kelvin", "lbs": "pound", "sqrt": "", "frac": "",
}  # fmt: skip
_COUNTED = re.compile(r"(?i)(?:photon|molecule|atom|electron|particle|ion|neutron|proton|item)s?")
_WORDS = frozenset((
    "a", "am", "an", "and", "are", "as", "at", "be", "by", "count", "dot", "drop", "for", "from",
    "had", "hand", "has", "if", "is", "it", "line", "link", "me", "my", "no", "of", "on", "or",
    "pole", "point", "points", "rod", "so", "than", "that", "the", "times", "to", "up", "us", "was",
    "we", "with", "x", "y", "z", "i", "j", "k", "n", "r", "v", "p", "q", "f", "w",
))  # fmt: skip
_GLUED = re.compile(r"(kJ|kN|kW|kg|kcal|cal|mol|Pa|eV|[JNWCVAKLgms])(mol|Pa|Hz|kg|[JNWCVAKLTgmsh])")


def _is_word(word: str, rest: str, first: bool) -> bool:
    """Whether what could be a unit is more likely a word, or a variable."""
    if word in ("in", "min"):  # inches only at the end: "5 in", not "5 m in the plane"
        follows = re.match(r"\d?\s*(?:$|[.,;)\]/*^])", rest)
        return word == "in" and not (first and follows)
    if word in (
        "e",
        "u",
        "b",
    ):  # elementary charges, atomic masses, barns: only right at the number
        return not first or re.match(r"\s*(?:$|[.,;)\]/*])", rest) is None
    return word in _WORDS


@functools.lru_cache(maxsize=4096)
def name_of(word: str) -> str | None:
    """Pint's name of a unit; None: it knows none such."""
    if len(word) > 40:
        return None
    if _COUNTED.fullmatch(word):
        return "count"
    word = _ALIASES.get(word, word)
    units = registry()
    for candidate in (word, word.lower() if len(word) > 3 and word[0].isupper() else ""):
        try:
            found = units.parse_units(candidate) if candidate else None
        except Exception:  # pint raises whatever its parser stumbles over
            continue
        names = [] if found is None else list(found._units.items())
        if len(names) == 1 and names[0][1] == 1:
            return names[0][0]
    return None


def registry() -> "pint.UnitRegistry[Any]":
    """The units that are known; made once, when first needed: it takes a third of a second."""
    with _MAKING:  # units of two registries do not convert
        return _registry()


_MAKING = threading.Lock()


@functools.cache
def _registry() -> "pint.UnitRegistry[Any]":
    import pint  # noqa: PLC0415

    made = pint.UnitRegistry()
    made.define("dollar = [currency]")
    made.define("dollar_cent = 0.01 dollar")
    made.define("euro = [currency_of_europe]")
    return made


@functools.lru_cache(maxsize=2048)
def _pint_unit(product: Product) -> "pint.Unit":
    units = registry()
    unit = units.Unit("")
    for name, power in product:
        # "J per degree": a difference of temperatures, which has no zero to count from.
        if len(product) > 1 or power != 1.0:
            name = {"degree_Celsius": "delta_degree_Celsius"}.get(name, name)
            name = {"degree_Fahrenheit": "delta_degree_Fahrenheit"}.get(name, name)
        unit = unit * units.Unit(name) ** power
    return unit


def converted(value: float, given: Unit, asked: Unit) -> list[float]:
    """The value in the asked unit, its factor left out; one for each way to read both units.

    Empty: the dimensions agree in none.
    """
    found = []
    for reading in given.readings:
        for wanted in asked.readings:
            theirs, ours = _pint_unit(reading), _pint_unit(wanted)
            if theirs.is_compatible_with(ours):
                found.append(registry().Quantity(value, theirs).to(ours).magnitude)
    return found


def is_temperature(unit: Unit) -> bool:
    """Whether a unit may be a temperature's, so that differences of it convert otherwise."""
    return any(len(r) == 1 and r[0][0] in _TEMPERATURES and r[0][1] == 1.0 for r in unit.readings)


_TEMPERATURES = ("kelvin", "degree_Celsius", "degree_Fahrenheit")


def converted_difference(value: float, given: Unit, asked: Unit) -> float:
    """As `converted`, of a difference of two temperatures."""
    steps = {"kelvin": 1.0, "degree_Celsius": 1.0, "degree_Fahrenheit": 5.0 / 9.0}

    def step(unit: Unit) -> float:
        return next(steps[r[0][0]] for r in unit.readings if len(r) == 1 and r[0][0] in steps)

    return value * step(given) / step(asked)


def is_pure(unit: Unit) -> bool:
    """Whether a unit has no dimension, such as ``%`` or a degree."""
    return bool(unit.readings) and _pint_unit(unit.readings[0]).dimensionless
