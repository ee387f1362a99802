"""Parse units: the dimension of a unit, and its size in the base unit of that dimension.

>>> unit("cm^2") == unit("square centimetres")
True
>>> unit("km/h").dimension == unit("m/s").dimension
True

Units are converted within a dimension only. Each temperature scale and each currency is a dimension of its
own, because no factor converts Celsius to Fahrenheit. So is each word that is no unit (`apples`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from vigos_cli.grading.expression import REAL, Value, power, times

F = Fraction
TABLE: Mapping[str, Mapping[str, Value]] = {  # dimension: {names and symbols: size in the base unit}
    "length": {
        "mm millimeter millimetre": F(1, 1000), "cm centimeter centimetre": F(1, 100),
        "dm decimeter decimetre": F(1, 10), "m meter metre": F(1), "km kilometer kilometre": F(1000),
        "µm um micrometer micrometre micron": F(1, 10**6), "nm nanometer nanometre": F(1, 10**9),
        "in inch inches": F(254, 10000), "ft foot feet": F(3048, 10000), "yd yard": F(9144, 10000),
        "mi mile": F(1609344, 1000), "海里": F(1852), "米": F(1), "厘米": F(1, 100), "千米 公里": F(1000),
    },
    "mass": {
        "mg milligram": F(1, 1000), "g gram gramme": F(1), "kg kilogram kilo": F(1000),
        "µg ug microgram": F(1, 10**6), "lb lbs pound": F(45359237, 100000),
        "oz ounce": F(28349523125, 10**9), "ton tonne": F(10**6), "克": F(1), "千克 公斤": F(1000),
    },
    "time": {
        "ms msec millisecond": F(1, 1000), "s sec second": F(1), "min minute": F(60), "h hr hour": F(3600),
        "day": F(86400), "week wk": F(604800), "µs us microsecond": F(1, 10**6), "ns nanosecond": F(1, 10**9),
    },
    "year": {"year yr yrs": F(1), "month": F(1, 12), "decade": F(10), "century centuries": F(100)},
    "angle": {"° degree deg": F(1), "rad radian": 180 / REAL.pi, "度": F(1)},
    "current": {"A amp ampere": F(1), "mA milliamp milliampere": F(1, 1000)},
    "voltage": {"V volt": F(1), "mV millivolt": F(1, 1000), "kV kilovolt": F(1000)},
    "resistance": {"Ω ohm": F(1), "kΩ kohm kiloohm": F(1000), "MΩ": F(10**6)},
    "power": {"W watt": F(1), "mW": F(1, 1000), "kW kilowatt": F(1000), "MW megawatt": F(10**6)},
    "energy": {"J joule": F(1), "kJ kilojoule": F(1000), "cal calorie": F(4184, 1000), "kcal": F(4184)},
    "force": {"N newton": F(1), "kN kilonewton": F(1000)},
    "pressure": {"Pa pascal": F(1), "kPa kilopascal": F(1000), "MPa": F(10**6), "atm": F(101325)},
    "frequency": {"Hz hertz": F(1), "kHz": F(1000), "MHz": F(10**6), "GHz": F(10**9)},
    "temperature": {"K kelvin": F(1)},
    "Celsius": {"°C ℃ celsius": F(1)},
    "Fahrenheit": {"°F ℉ fahrenheit": F(1)},
    "amount": {"mol mole": F(1), "mmol": F(1, 1000)},
    "data": {"byte": F(1), "KB kB": F(1000), "MB": F(10**6), "GB": F(10**9), "TB": F(10**12)},
    "dollar": {"$ dollar usd us$": F(1), "cent ¢": F(1, 100)},
    "euro": {"€ euro eur": F(1)}, "sterling": {"£ gbp": F(1)}, "yen": {"¥ yen yuan rmb 元": F(1)},
    "share": {"% percent pct": F(1, 100), "‰": F(1, 1000)},
    "length^3": {"l L liter litre": F(1, 1000), "ml mL milliliter millilitre": F(1, 10**6), "cc": F(1, 10**6),
                 "gal gallon": F(3785411784, 10**12)},
    "length time^-1": {"mph": F(44704, 100000), "kph kmh": F(5, 18)},
}  # fmt: skip
TRAILING = re.compile(
    r"(?:^| |-)(?:old|long|wide|tall|high|deep|thick|away|apart|each|in (?:total|all|length|width)|total)$"
)
ATOM = re.compile(r"\s*(?P<join>per |/|\*|-(?=[a-zA-Z]))?\s*(?P<power>square |cubic |sq\.? |cu\.? )?"
                  r"(?P<name>°\s?[CF]\b|us\$|[$€£¥¢%‰°℃℉]|[^\W\d_]+)\.?(?:(?:\s?\^\s?)?\{?(?P<exponent>-?[1-9])\}?)?"
                  r"(?P<after> squared| cubed)?")  # fmt: skip
DEGREES = re.compile(
    r"(?:°|\bdegrees?|\bdeg\.?) ?(c(?=elsius\b|\b)|f(?=ahrenheit\b|\b))[a-z]*", re.IGNORECASE
)
WORD = re.compile(r"[^\W\d_][\w'-]*(?: [^\W\d_][\w'-]*){0,5}")
NO_UNIT = "and or not to than more less fewer plus minus if is are was but between over no"
POWERS = {"sq": 2, "sq.": 2, "square": 2, "cu": 3, "cu.": 3, "cubic": 3, "squared": 2, "cubed": 3}


@dataclass(frozen=True, slots=True)
class Unit:
    """A factor to the dimension's own unit, and the dimension: base dimensions with their exponents."""

    factor: Value
    dimension: tuple[tuple[str, int], ...]


def bare(text: str) -> str:
    """What follows a number, without brackets around it and without words such as `old` that are no unit."""
    text = text.strip().rstrip(".,;!")
    return TRAILING.sub("", text[1:-1] if text[:1] == "(" and text[-1:] == ")" else text)


@lru_cache(maxsize=2048)
def unit(text: str) -> Unit | None:
    """The unit that a phrase names. Other words count things; None for what cannot be a unit."""
    if not text or len(text) > 40:
        return None
    return _known(DEGREES.sub(lambda match: f"°{match[1].upper()}", text)) or _opaque(text)


def _known(text: str) -> Unit | None:
    factor: Value = F(1)
    dimension: Counter[str] = Counter()
    at, below = 0, False
    while at < len(text):
        match = ATOM.match(text, at)
        if match is None or (at == 0 and match["join"]):
            return None
        at = match.end()
        below = match["join"] in ("/", "per ") or (below and match["join"] is not None)
        found = _look_up(match["name"])
        if found is None:
            return None
        exponent = int(match["exponent"] or 1)
        for written in (match["power"], match["after"]):
            exponent *= POWERS.get((written or "").strip(), 1)
        exponent = -exponent if below else exponent
        worth, bases = found
        factor = times(factor, power(worth, Fraction(exponent)))
        for base, count in bases.items():
            dimension[base] += count * exponent
    return Unit(factor, tuple(sorted((b, n) for b, n in dimension.items() if n)))


def _look_up(name: str) -> tuple[Value, Mapping[str, int]] | None:
    """The size and dimension of a symbol as written, or of a name in any case, in the plural too."""
    name = name.replace(" ", "")
    lower = name.lower()
    if name in NAMES or len(name) < 2:
        return NAMES.get(name)
    return (
        NAMES.get(lower)
        or LOWER.get(lower)
        or (NAMES.get(lower[:-1]) if len(lower) > 3 and lower[-1] == "s" else None)
    )


def _opaque(text: str) -> Unit | None:
    """Things that are counted: one to six words. Words such as `more` say that the number is no answer."""
    lower = text.lower()
    if (len(text) < 3 and text.isascii()) or not WORD.fullmatch(lower):
        return None
    if set(NO_UNIT.split()) & set(lower.split()):
        return None
    words = (singular(word) for word in lower.split() if word not in ("a", "an", "the", "of", "in"))
    return Unit(F(1), (("counted " + " ".join(words), 1),))


def singular(word: str) -> str:
    """A rough singular, the same for both sides of a comparison."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _dimension(text: str) -> dict[str, int]:
    """`length time^-1` as exponents by name."""
    parts = (part.partition("^") for part in text.split())
    return {name: int(exponent or 1) for name, _, exponent in parts}


NAMES: dict[str, tuple[Value, Mapping[str, int]]] = {
    name: (worth, _dimension(dimension))
    for dimension, units in TABLE.items()
    for names, worth in units.items()
    for name in names.split()
}
LOWER = {name.lower(): found for name, found in NAMES.items() if len(name) > 1}
