"""Zone tables: values at the door, and what is refused with which row."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from eo_causal.core.progress import counting
from eo_causal.errors import (
    ConfigError,
    CoverageError,
    EOCausalWarning,
    IntegrityError,
    ReadError,
    TableError,
    TimeAxisError,
    UnitsError,
)
from eo_causal.ingest.tables import read_zone_table, read_zone_tables

HEADER = "Time,Kd490,Temperature,Salinity\n"
ROWS = ["1998-01-01,4.0,29.5,34.1", "1998-02-01,3.5,29.0,33.9", "1998-03-01,5.25,28.5,33.5"]


@pytest.fixture
def write(tmp_path):
    def write_table(rows, header=HEADER, name="zone.csv"):
        path = tmp_path / name
        path.write_text(header + "\n".join(rows) + "\n", encoding="utf-8")
        return path

    return write_table


def test_published_units_become_inverse_metres(write):
    table = read_zone_table(write(ROWS), units="1e-2 m-1")
    np.testing.assert_array_equal(table["kd490"], [0.04, 0.035, 0.0525])
    np.testing.assert_array_equal(table["temperature"], [29.5, 29.0, 28.5])
    assert table["kd490"].attrs["units"] == "m-1"
    assert table["salinity"].attrs["units"] == "1e-3"
    assert table["time"].dtype == "datetime64[ns]"
    assert list(table["time"].dt.strftime("%Y-%m").values) == ["1998-01", "1998-02", "1998-03"]


def test_inverse_metres_stay_as_they_are(write):
    path = write(["2001-05-01,0.04", "2001-06-01,0.05"], header="Time,Kd490\n")
    table = read_zone_table(path, units="m-1")
    np.testing.assert_array_equal(table["kd490"], [0.04, 0.05])
    assert list(table.data_vars) == ["kd490"]


def test_columns_may_stand_in_any_order(write):
    path = write(["29.5,1998-01-01,4.0"], header="Temperature,Time,Kd490\n")
    table = read_zone_table(path, units="1e-2 m-1")
    assert table["kd490"].item() == 0.04
    assert table["temperature"].item() == 29.5


def test_empty_cells_are_missing_and_counted(write):
    path = write(["1998-01-01,,29.5,34", "1998-02-01,NaN,29.0,34", ROWS[2]])
    with counting() as counts:
        table = read_zone_table(path, units="1e-2 m-1")
    assert np.isnan(table["kd490"].to_numpy()).tolist() == [True, True, False]
    assert counts["kd490_months_missing"] == 2
    assert counts["temperature_months_missing"] == 0


def test_absent_months_become_empty_slots_never_interpolated(write):
    with counting() as counts:
        table = read_zone_table(write([ROWS[0], ROWS[2]]), units="1e-2 m-1")
    assert table.sizes["time"] == 3
    assert np.isnan(table["kd490"][1])
    assert counts["months_absent"] == 1


def test_period_is_inclusive_at_both_ends(write):
    table = read_zone_table(write(ROWS), units="1e-2 m-1", period=("1998-02", "1998-03"))
    np.testing.assert_array_equal(table["kd490"], [0.035, 0.0525])


def test_period_without_any_month_is_refused(write):
    with pytest.raises(CoverageError, match="1998-01 to 1998-03"):
        read_zone_table(write(ROWS), units="1e-2 m-1", period=("2005-01", "2005-12"))


def test_unsorted_rows_are_sorted_and_said_so(write):
    with pytest.warns(EOCausalWarning, match="not sorted"):
        table = read_zone_table(write([ROWS[1], ROWS[0], ROWS[2]]), units="1e-2 m-1")
    np.testing.assert_array_equal(table["kd490"], [0.04, 0.035, 0.0525])


def test_other_date_formats_must_be_stated(write):
    path = write(["02/01/1998,4.0,29,34", "02/02/1998,4.1,29,34"])
    with pytest.raises(TimeAxisError, match=r"row 2.*02/01/1998") as caught:
        read_zone_table(path, units="1e-2 m-1")
    assert caught.value.facts["row"] == 2
    table = read_zone_table(path, units="1e-2 m-1", date_format="%d/%m/%Y")
    assert pd.DatetimeIndex(table["time"].values).month.tolist() == [1, 2]


def test_two_rows_of_one_month_are_refused_with_both_rows(write):
    path = write([*ROWS, "1998-02-15,3.0,29,34"])
    with pytest.raises(TimeAxisError, match="1998-02 occurs in rows 3 and 5") as caught:
        read_zone_table(path, units="1e-2 m-1")
    assert caught.value.facts["row"] == 5


@pytest.mark.parametrize("cell", ["inf", "-inf", "4,0", "four", "1_0", "=4", "nan nan"])
def test_cells_that_are_no_finite_number_are_refused_with_row_and_column(write, cell):
    quoted = f'"{cell}"'
    path = write([ROWS[0], f"1998-02-01,4.0,{quoted},34"])
    with pytest.raises(TableError, match="row 3, column Temperature") as caught:
        read_zone_table(path, units="1e-2 m-1")
    assert caught.value.facts["row"] == 3
    assert caught.value.facts["value"] == cell


@pytest.mark.parametrize("value", ["0", "-3.1"])
def test_kd490_that_is_not_positive_is_refused(write, value):
    with pytest.raises(TableError, match="row 3: Kd490") as caught:
        read_zone_table(write([ROWS[0], f"1998-02-01,{value},29,34"]), units="1e-2 m-1")
    assert caught.value.facts["row"] == 3


@pytest.mark.parametrize(
    "header", ["Time,Kd490,Temp\n", "Time,Kd490,Kd490\n", "Date,Kd490\n", "Time,Salinity\n"]
)
def test_unexpected_headers_are_refused(write, header):
    with pytest.raises(TableError, match="its columns are"):
        read_zone_table(write(ROWS, header=header), units="1e-2 m-1")


def test_rows_of_another_length_are_refused(write):
    with pytest.raises(TableError, match="row 3 has 3 cells, the header 4"):
        read_zone_table(write([ROWS[0], "1998-02-01,3.5,29.0"]), units="1e-2 m-1")


def test_table_without_rows_is_refused(write):
    with pytest.raises(TableError, match="no rows"):
        read_zone_table(write([]), units="1e-2 m-1")


def test_text_that_is_not_utf8_names_the_byte(tmp_path):
    path = tmp_path / "zone.csv"
    path.write_bytes(HEADER.encode() + b"1998-01-01,4.0,29.5,\xff34\n")
    with pytest.raises(TableError, match="UTF-8") as caught:
        read_zone_table(path, units="1e-2 m-1")
    assert caught.value.facts["offset"] == len(HEADER) + 20


def test_missing_file_is_a_read_error(tmp_path):
    with pytest.raises(ReadError, match=r"absent\.csv"):
        read_zone_table(tmp_path / "absent.csv", units="m-1")


def test_unknown_units_are_refused(write):
    with pytest.raises(UnitsError, match="km-1"):
        read_zone_table(write(ROWS), units="km-1")


def test_values_of_the_other_convention_are_refused(write):
    with pytest.raises(UnitsError, match="1e-2 m-1"):
        read_zone_table(write(ROWS), units="m-1")
    small = write(["1998-01-01,0.04,29,34", "1998-02-01,0.05,29,34"], name="small.csv")
    with pytest.raises(UnitsError, match="pure water"):
        read_zone_table(small, units="1e-2 m-1")


def test_turbid_water_in_inverse_metres_is_only_a_warning(write):
    path = write(["1998-01-01,0.9,29,34", "1998-02-01,1.2,29,34"])
    with pytest.warns(EOCausalWarning, match="median 1.05") as caught:
        table = read_zone_table(path, units="m-1")
    assert caught[0].message.code == "UnitsWarning"
    np.testing.assert_array_equal(table["kd490"], [0.9, 1.2])


def test_checksum_beside_the_table_is_verified(write):
    path = write(ROWS)
    sidecar = path.with_name(path.name + ".sha256")
    sidecar.write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    read_zone_table(path, units="1e-2 m-1")
    sidecar.write_text("0" * 64)
    with pytest.raises(IntegrityError):
        read_zone_table(path, units="1e-2 m-1")


def test_tables_of_several_zones_share_one_time_axis(write):
    impact = write(ROWS[:2], name="impact.csv")
    control = write(["1998-02-01,4.4", "1998-03-01,4.6"], header="Time,Kd490\n", name="control.csv")
    zones = read_zone_tables({"impact": impact, "control": control}, units="1e-2 m-1")
    assert zones["kd490"].dims == ("zone", "time")
    assert zones["zone"].to_numpy().tolist() == ["impact", "control"]
    expected = [[0.04, 0.035, np.nan], [np.nan, 0.044, 0.046]]
    np.testing.assert_allclose(zones["kd490"], expected, rtol=1e-15)
    assert np.isnan(zones["temperature"].sel(zone="control")).all()
    assert zones["kd490"].attrs["units"] == "m-1"


def test_no_table_at_all_is_a_config_error():
    with pytest.raises(ConfigError, match=r"data\.tables"):
        read_zone_tables({}, units="m-1")
