"""How numbers and units look in sentences, tables and figures; files for programs keep them plain."""

import re

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def show_number(value: float) -> str:
    """Four significant digits, thousands separated.

    >>> show_number(0.123456), show_number(-78573.9), show_number(2017.0)
    ('0.1235', '-78,574', '2017')
    """
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def show_p(value: float) -> str:
    """A p-value with its relation sign; never "= 0.000".

    >>> show_p(0.0431), show_p(0.0002)
    ('= 0.043', '< 0.001')
    """
    return f"= {value:.3f}" if value >= 0.0005 or value != value else "< 0.001"


def show_units(units: str) -> str:
    """Units with true exponents; the unit one is empty.

    >>> show_units("1e-2 m-1"), show_units("degrees_C"), show_units("1")
    ('10⁻² m⁻¹', '°C', '')
    """
    if units == "1":
        return ""
    units = {"degrees_C": "°C", "degC": "°C"}.get(units, units)
    powers = re.sub(r"\b1e(-?\d+)", lambda found: "10" + _raised(found[1]), units)
    return re.sub(r"(?<=[A-Za-z])(-?\d+)\b", lambda found: _raised(found[1]), powers)


def _raised(digits: str) -> str:
    return digits.translate(_SUPERSCRIPT)
