"""Rates of several splits and of several rankings, summed up by hand."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.errors import DataError
from eo_causal.estimate.rate_summary import holm, over_splits


def split_table(estimate, ratio, p_value):
    return pd.DataFrame({
        "metric": ["autoc", "qini"], "estimate": [estimate, 0.0], "std_error": [0.5, 0.1],
        "ratio": [ratio, 0.0], "p_value": [p_value, 0.5], "p_two_sided": [2 * p_value, 1.0],
    })  # fmt: skip


def test_splits_are_summed_up_by_medians_and_a_range():
    """Ordered p-values .01, .02, .03: 3/2 of the second; errors sqrt(.25 + 1), .5, sqrt(.25 + 4)."""
    tables = [split_table(1, 2, 0.03), split_table(2, 3, 0.01), split_table(4, 2.5, 0.02)]
    found = over_splits(tables).set_index("metric").loc["autoc"]
    assert found["estimate"] == 2
    assert found["std_error"] == pytest.approx(np.sqrt(1.25))
    assert (found["ratio"], found["split_low"], found["split_high"]) == (2.5, 2, 3)
    assert found["p_value"] == pytest.approx(0.03)
    assert found["p_two_sided"] == pytest.approx(0.06)
    assert found["n_splits"] == 3


def test_one_split_keeps_its_numbers_and_no_p_value_exceeds_one():
    table = split_table(1, 2, 0.03)
    found = over_splits([table])
    columns = table.columns.tolist()
    pd.testing.assert_frame_equal(found[columns], table)
    assert over_splits([table] * 4)["p_value"].tolist() == pytest.approx([0.06, 1])


def test_splits_of_pooled_rates_have_no_p_value():
    table = split_table(1, 2, 0.03).drop(columns=["p_value", "p_two_sided"])
    assert "p_value" not in over_splits([table, table])


def test_holm_by_hand():
    """.01 x 3, then .02 x 2, then .9."""
    assert holm(np.array([0.9, 0.01, 0.02])) == pytest.approx([0.9, 0.03, 0.04])


@pytest.mark.parametrize("values", [[], [0.1, np.nan], [0.1, 1.2]])
def test_holm_refuses_what_is_no_p_value(values):
    with pytest.raises(DataError, match="all in \\[0, 1\\]"):
        holm(np.array(values))
