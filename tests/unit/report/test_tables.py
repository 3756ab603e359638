"""Tables as people see them: shared decimals, dashes for the missing, everything escaped."""

import numpy as np
import pandas as pd
import pytest

from eo_causal.report.tables import format_column, html_table, write_table


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4.19, -0.0212, np.nan], ["4.190", "-0.021", "–"]),
        ([281.1234, 7.0], ["281.1", "7.0"]),
        ([12.0, 300.0], ["12", "300"]),
        ([46.0, 0.00025], ["46", "0.00025"]),
        ([1e-6, 2e-6], ["1e-06", "2e-06"]),
        ([12345.6, 1.0], ["12,346", "1"]),
        ([0.0, 0.0], ["0", "0"]),
        ([np.inf, 1.5], ["inf", "1.500"]),
    ],
)
def test_numbers_of_a_column_share_their_decimals(values, expected):
    assert format_column(pd.Series(values)) == expected


def test_p_values_are_never_zero():
    texts = format_column(pd.Series([0.0431, 1e-20, np.nan, 1.0]), p_values=True)
    assert texts == ["0.043", "< 0.001", "–", "1.000"]


def test_integers_booleans_and_months_keep_their_look():
    assert format_column(pd.Series([12, 1_376_566])) == ["12", "1,376,566"]
    assert format_column(pd.Series([True, False])) == ["yes", "no"]
    assert format_column(pd.Series(pd.to_datetime(["2019-05-01", None]))) == ["2019-05", "–"]


def test_markup_in_data_is_text():
    table = pd.DataFrame({"<b>zone</b>": ["<script>alert(1)</script>", "a & b"]})
    page = html_table(table)
    assert "<script>" not in page
    assert "<b>" not in page
    assert "a &amp; b" in page


def test_long_tables_say_what_is_left_out():
    page = html_table(pd.DataFrame({"n": range(10)}), max_rows=4)
    assert page.count("<tr>") == 5
    assert "6 more rows" in page


def test_a_table_without_rows_keeps_its_head():
    page = html_table(pd.DataFrame({"zone": pd.Series(dtype=str), "n": pd.Series(dtype=float)}))
    assert page.count("<th") == 2 + 1  # and <thead>
    assert "<td" not in page


def test_files_hold_full_precision(tmp_path):
    table = pd.DataFrame({"value": [1 / 3, np.nan]}, index=pd.Index(["a", "b"], name="zone"))
    write_table(tmp_path, "numbers", table)
    back = pd.read_parquet(tmp_path / "numbers.parquet")
    assert back["value"][0] == 1 / 3
    assert back["zone"].tolist() == ["a", "b"]
    assert (tmp_path / "numbers.csv").read_text() == "zone,value\na,0.3333333333333333\nb,\n"
