"""Units of measure as shops and shoppers write them, named in many languages by CLDR, converted by
pint."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

#: What shops mean where pint would read something else, or nothing: "M" is a molar to it, "ML" a
#: megalitre, "pcs" a parsec.
_SHOP_UNITS = {
    **{unit: unit for unit in ("mm", "cm", "dm", "m", "km", "ft", "yd", "mg", "g", "kg", "oz")},
    **{unit: unit for unit in ("lb", "ml", "cl", "dl", "l", "w", "kw", "v", "h", "min", "s")},
    **dict.fromkeys(('"', "''", "″", "”", "in", "inch", "inches", "zoll", "pouces", "tum"), "in"),
    **dict.fromkeys(("inche", "pulg", "inç", "coll"), "in"),
    **dict.fromkeys(("'", "′", "’", "foot", "feet", "fot"), "ft"),
    **dict.fromkeys(("lbs", "pound", "pounds"), "lb"),
    **dict.fromkeys(("yard",), "yd"),
    **dict.fromkeys(("watt",), "W"),
    **dict.fromkeys(("volt",), "V"),
    **dict.fromkeys(("gr", "gram", "grams", "gramm", "克", "гр"), "g"),
    **dict.fromkeys(("kilo", "kilos", "kgs", "公斤", "千克", "кило"), "kg"),
    **dict.fromkeys(("ltr", "lt", "lts", "litre", "liter", "litres", "liters", "升"), "l"),
    **dict.fromkeys(("cms", "厘米", "公分"), "cm"),
    **dict.fromkeys(("mtr", "mts", "metre", "meter", "metres", "meters", "米"), "m"),
    **dict.fromkeys(("毫米",), "mm"),
    **dict.fromkeys(("毫升", "mls"), "ml"),
    **dict.fromkeys(("fl oz", "fl. oz", "fl.oz", "fl. oz.", "floz"), "fluid_ounce"),
    "fluid_ounce": "fluid_ounce",
    **dict.fromkeys(("gal", "gals"), "gallon"),
    **dict.fromkeys(("qt", "qts"), "quart"),
    **dict.fromkeys(("amp", "amps"), "A"),
    **dict.fromkeys(("sqft", "sq ft", "sf", "ft2"), "ft^2"),
    **dict.fromkeys(("sq in",), "in^2"),
    **dict.fromkeys(("sq yd",), "yd^2"),
    **dict.fromkeys(("cu ft", "cuft"), "ft^3"),
    **dict.fromkeys(("cu yd",), "yd^3"),
    **dict.fromkeys(("sqm", "qm", "sq m", "m2"), "m^2"),
    **dict.fromkeys(("cm2",), "cm^2"),
    **dict.fromkeys(("m3",), "m^3"),
    **dict.fromkeys(("cm3", "ccm"), "cm^3"),
    **dict.fromkeys(("gsm",), "g/m^2"),
    **dict.fromkeys(("°c", "° c", "ºc", "celsius"), "degC"),
    **dict.fromkeys(("°f", "° f", "ºf", "fahrenheit"), "degF"),
    **dict.fromkeys(("°", "deg", "degrees"), "degree"),
    **dict.fromkeys(("hz", "khz", "mhz", "ghz"), ""),  # by pint's own capitals, below
    **dict.fromkeys(("mah",), "mAh"),
    **dict.fromkeys(("ah",), "Ah"),
    **dict.fromkeys(("wh",), "Wh"),
    **dict.fromkeys(("kwh",), "kWh"),
    **dict.fromkeys(("kb", "kbyte"), "kB"),
    **dict.fromkeys(("mb", "mbyte"), "MB"),
    **dict.fromkeys(("gb", "gbyte", "go"), "GB"),
    **dict.fromkeys(("tb", "tbyte"), "TB"),
    **dict.fromkeys(("1", "pk", "pack", "packs", "piece"), "1"),
    **dict.fromkeys(("pcs", "pc", "pieces", "stk", "stück", "st", "count", "ct", "个", "件"), "1"),
    **dict.fromkeys(("%", "percent", "prozent"), "percent"),
    **dict.fromkeys(("hrs", "hr", "hour", "hours", "std"), "h"),
    **dict.fromkeys(("mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("day", "days", "d", "tage"), "day"),
}
_SHOP_UNITS |= {"hz": "Hz", "khz": "kHz", "mhz": "MHz", "ghz": "GHz", "w": "W", "v": "V"}
_SHOP_UNITS |= {"kw": "kW"}
#: Units by their names in CLDR, which has their words in all languages.
_CLDR_UNITS = {
    **{f"length-{long}": unit for long, unit in (
        ("millimeter", "mm"), ("centimeter", "cm"), ("meter", "m"), ("kilometer", "km"),
        ("inch", "in"), ("foot", "ft"), ("yard", "yd"),
    )},
    **{f"volume-{long}": unit for long, unit in (
        ("milliliter", "ml"), ("centiliter", "cl"), ("deciliter", "dl"), ("liter", "l"),
        ("gallon", "gallon"), ("quart", "quart"),
    )},
    **{f"mass-{long}": unit for long, unit in (
        ("milligram", "mg"), ("gram", "g"), ("kilogram", "kg"), ("ounce", "oz"), ("pound", "lb"),
    )},
    "power-watt": "W", "power-kilowatt": "kW", "electric-volt": "V", "electric-ampere": "A",
    "digital-gigabyte": "GB", "digital-terabyte": "TB", "digital-megabyte": "MB",
}  # fmt: skip
_LOCALES = (
    "en", "de", "fr", "es", "it", "nl", "pt", "pl", "sv", "da", "nb", "fi", "cs", "sk", "hu", "ro",
    "hr", "bg", "lt", "lv", "et", "tr", "ru", "uk", "el", "ar", "he", "fa", "hi", "th", "vi", "id",
    "ja", "ko", "zh", "zh_Hant",
)  # fmt: skip
#: A Latin word of CLDR's with fewer letters may be another word: pie, fit, stop.
_MIN_LATIN_LETTERS = 5
_OTHER_WORDS = frozenset(("livre", "livres"))  # a book, too
#: The units of normal forms; others come in pint's base units.
_NORMAL_UNITS = ("mm", "ml", "g", "W", "V", "A", "Hz")
#: Only this goes to pint: its parser evaluates powers.
_POWERS = {"2": 2, "3": 3, "²": 2, "³": 3}
_WORDS = r"[^\W\d_]{1,24}(?:[²³]|\^?[23])?"
_UNIT = re.compile(rf"^{_WORDS}(?:\s?[/·*]\s?{_WORDS}){{0,2}}\.?$")


@lru_cache(1)
def _registry() -> Any:
    import pint  # 0.3 s: only where a catalogue has units

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True)


@lru_cache(4096)
def _pint_unit(text: str) -> Any:
    """The unit as pint has it; None where the text is no unit."""
    text = " ".join(text.split())
    word = text.casefold().rstrip(".")
    if (shop_unit := _SHOP_UNITS.get(word) or unit_words().get(word)) is not None:
        return _registry().Unit("" if shop_unit == "1" else shop_unit)
    if not _UNIT.match(text):
        return None
    text = re.sub(r"\^?([23²³])", lambda match: f"**{_POWERS[match[1]]}", text.rstrip("."))
    for spelling in dict.fromkeys((text.replace("·", "*"), text.replace("·", "*").lower())):
        try:
            return _registry().parse_units(spelling)
        except Exception:
            continue
    return None


@lru_cache(4096)
def base_of(unit: str) -> str | None:
    """The unit's base: equal for units that convert into each other; None where it is no unit."""
    parsed = _pint_unit(unit)
    return None if parsed is None else str(_registry().get_base_units(parsed)[1])


@lru_cache(4096)
def conversion(unit: str, to: str) -> tuple[float, float] | None:
    """Factor and offset from one unit to another; None where they do not measure the same."""
    base = base_of(unit)
    if base is None or base != base_of(to):
        return None
    quantity = _registry().Quantity
    zero, one = (
        float(quantity(number, _pint_unit(unit)).to(_pint_unit(to)).magnitude)
        for number in (0.0, 1.0)
    )
    return one - zero, zero


def convert(number: float, unit: str, to: str) -> float | None:
    """The number in the unit `to`, to 12 digits; "" is a number without a unit, which is taken to
    be in `to`."""
    if not unit or unit == to:
        return number
    if (line := conversion(unit, to)) is None:
        return None
    return float(f"{number * line[0] + line[1]:.12g}")


@lru_cache(1)
def unit_words() -> Mapping[str, str]:
    """The unit, by a name that pint has, of every word for one: shops' own, and CLDR's in 36
    locales; in lower case, without a final point. "1" is a piece."""
    words: dict[str, str] = {}
    doubtful: set[str] = set()
    for word, unit in _cldr_words():
        if words.setdefault(word, unit) != unit:
            doubtful.add(word)
    plain = {word: unit for word, unit in _SHOP_UNITS.items() if unit}
    return {
        word: unit for word, unit in words.items() if word not in doubtful | _OTHER_WORDS
    } | plain


def _cldr_words() -> Iterator[tuple[str, str]]:
    from babel.units import format_unit

    for locale in _LOCALES:
        for name, unit in _CLDR_UNITS.items():
            for length in ("long", "short"):
                for count in (1, 2, 5):
                    text = format_unit(count, name, length, locale=locale)
                    word = unicodedata.normalize("NFKC", text).replace(str(count), "").strip(" .")
                    is_latin = word[:1] < "\u0250"
                    if word and " " not in word and len(word) >= _MIN_LATIN_LETTERS * is_latin:
                        yield word.casefold(), unit


@lru_cache(4096)
def normal_form(number: float, unit: str) -> str | None:
    """Equal for equal quantities: "127 mm" of 5 in and of 12.7 cm; None where it is no unit."""
    base = base_of(unit)
    if base is None:
        return None
    if base == "dimensionless":
        return f"{number:.6g} {'pcs' if (name := str(_pint_unit(unit))) == base else name}"
    quantity = _registry().Quantity(number, _pint_unit(unit))
    for to in _NORMAL_UNITS:
        if base_of(to) == base:
            return f"{quantity.to(_pint_unit(to)).magnitude:.6g} {to}"
    return f"{quantity.to_base_units().magnitude:.6g} {base}"
