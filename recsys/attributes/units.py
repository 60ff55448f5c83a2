"""Units of measure as shops write them, converted by pint."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

#: What shops mean where pint would read something else, or nothing: "M" is a molar to it, "ML" a
#: megalitre, "pcs" a parsec.
_SHOP_UNITS = {
    **{unit: unit for unit in ("mm", "cm", "dm", "m", "km", "ft", "yd", "mg", "g", "kg", "oz")},
    **{unit: unit for unit in ("lb", "ml", "cl", "dl", "l", "w", "kw", "v", "h", "min", "s")},
    **dict.fromkeys(('"', "''", "″", "”", "in", "inch", "inches", "zoll", "pouces", "tum"), "in"),
    **dict.fromkeys(("'", "′", "’", "foot", "feet"), "ft"),
    **dict.fromkeys(("lbs", "pound", "pounds"), "lb"),
    **dict.fromkeys(("gr", "gram", "grams", "gramm", "克"), "g"),
    **dict.fromkeys(("kilo", "kilos", "kgs", "公斤", "千克"), "kg"),
    **dict.fromkeys(("ltr", "litre", "liter", "litres", "liters", "升"), "l"),
    **dict.fromkeys(("cms", "厘米", "公分"), "cm"),
    **dict.fromkeys(("mtr", "metre", "meter", "metres", "meters", "米"), "m"),
    **dict.fromkeys(("毫米",), "mm"),
    **dict.fromkeys(("毫升", "mls"), "ml"),
    **dict.fromkeys(("fl oz", "fl. oz", "fl.oz", "fl. oz.", "floz"), "fluid_ounce"),
    **dict.fromkeys(("sqm", "qm", "sq m"), "m^2"),
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
    **dict.fromkeys(("pcs", "pc", "pieces", "stk", "stück", "st", "count", "ct", "个", "件"), "1"),
    **dict.fromkeys(("%", "percent", "prozent"), "percent"),
    **dict.fromkeys(("hrs", "hr", "hour", "hours", "std"), "h"),
    **dict.fromkeys(("mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("day", "days", "d", "tage"), "day"),
}
_SHOP_UNITS |= {"hz": "Hz", "khz": "kHz", "mhz": "MHz", "ghz": "GHz", "w": "W", "v": "V"}
_SHOP_UNITS |= {"kw": "kW"}
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
    if (shop_unit := _SHOP_UNITS.get(text.casefold().rstrip("."))) is not None:
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
