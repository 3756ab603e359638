"""Numbers and units as readers see them."""

import doctest

import pytest

from eo_causal.core import display


def test_examples_of_the_docstrings():
    assert doctest.testmod(display).failed == 0
    assert doctest.testmod(display).attempted >= 3


@pytest.mark.parametrize(
    ("units", "shown"),
    [
        ("m-1", "m⁻¹"), ("m", "m"), ("1e-3", "10⁻³"), ("km2", "km²"), ("kg m-2 s-1", "kg m⁻² s⁻¹"),
    ],
)  # fmt: skip
def test_units(units, shown):
    assert display.show_units(units) == shown


def test_p_of_nothing_is_not_small():
    assert display.show_p(float("nan")) == "= nan"
