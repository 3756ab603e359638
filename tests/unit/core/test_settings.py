"""Shared setting types accept what they should and say why they refuse."""

import numpy as np
import pytest
from pydantic import ValidationError

from eo_causal.core.settings import Bounds, Month, Period, Settings, month_start


class Example(Settings):
    month: Month = "2019-05"
    period: Period = ("1998-01", "2024-12")
    bounds: Bounds = (122.0, -3.0, 123.0, -2.0)
    share: float = 0.5


def test_months_are_normalised():
    assert Example(month="2019-05-01").month == "2019-05"
    assert month_start("2019-05") == np.datetime64("2019-05-01")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("month", "May 2019", "YYYY-MM"),
        ("month", "2019-13", "YYYY-MM"),
        ("period", ["2024-12", "1998-01"], "before it begins"),
        ("bounds", [123, -3, 122, -2], "west, south, east, north"),
        ("bounds", [-200, -3, 122, -2], "west, south, east, north"),
        ("share", "nan", "finite"),
        ("shrae", 1, "Extra inputs"),
    ],
)
def test_bad_values_are_refused_with_the_reason(field, value, reason):
    with pytest.raises(ValidationError, match=reason):
        Example(**{field: value})


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Example().share = 1.0
