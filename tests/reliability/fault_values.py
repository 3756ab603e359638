"""Faults of units, attributes, axes and missing values; see :mod:`reliability.faults`."""

from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr
from reliability.faults import (
    RUN,
    STEP,
    Handling,
    Refusal,
    attributes,
    handled,
    netcdf,
    refused,
    store,
    study,
    water,
)

from eo_causal import errors
from eo_causal.simulate.rasters import write_convention


@refused
def units_of_something_else(chance):
    units = str(chance.choice(["km-1", "km^-1", "mg m-3", "", "1"]))
    attributes(water(chance), units=units)
    return Refusal(errors.UnitsError, ("kd490.nc", "m-1"), {"units": units})


@refused
def an_attribute_that_is_no_number(chance):
    name = str(chance.choice(["scale_factor", "add_offset", "missing_value", "valid_min"]))
    attributes(water(chance), **{name: "see manual"})
    return Refusal(errors.ReadError, ("kd490.nc", "kd490", name), {"attribute": name})


@refused
def a_scale_that_decodes_nothing(chance):
    attributes(water(chance), scale_factor=chance.choice([0.0, np.nan, np.inf]))
    return Refusal(errors.ReadError, ("kd490.nc", "scale_factor"))


@refused
def latitude_and_longitude_swapped(chance):
    cube = water(chance)
    far = 100 + STEP * np.arange(9)[::-1]
    netcdf(cube, lambda dataset: dataset["latitude"].__setitem__(slice(None), far))
    return Refusal(errors.GeorefError, ("kd490.nc", "swapped"))


@refused
def a_coordinate_that_is_missing(chance):
    place = int(chance.integers(9))
    netcdf(water(chance), lambda dataset: dataset["latitude"].__setitem__(place, np.nan))
    return Refusal(errors.GeorefError, ("kd490.nc", "missing values"))


@refused
def grids_that_differ(chance):
    cube = water(chance)
    [*paths] = write_convention(Path.cwd(), cube[:3], "obpg_l3m")
    moved = cube[1:2].assign_coords(latitude=cube["latitude"] + STEP * chance.uniform(0.1, 0.9))
    write_convention(Path.cwd(), moved, "obpg_l3m")
    study(cube, "*L3m*.nc")
    return Refusal(errors.GeorefError, (paths[1].name, "one grid"))


@refused
def a_time_step_twice(chance):
    cube, place = water(chance), int(chance.integers(24))
    netcdf(xr.concat([cube, cube[place : place + 1]], dim="time"))
    month = f"{cube.indexes['time'][place]:%Y-%m-01}"
    return Refusal(errors.TimeAxisError, ("kd490.nc", month, "twice"), {"date": month})


@refused
def a_calendar_without_real_days(chance):
    name = str(chance.choice(["360_day", "noleap", "julian"]))
    netcdf(water(chance), lambda dataset: dataset["time"].setncattr("calendar", name))
    return Refusal(errors.TimeAxisError, ("kd490.nc", name), {"calendar": name})


@refused
def an_index_instead_of_time(chance):
    def spoil(dataset):
        dataset["time"].units = "seconds since 1970-01-01"
        dataset["time"][:] = np.arange(24)

    netcdf(water(chance), spoil)
    return Refusal(errors.TimeAxisError, ("kd490.nc", "index"))


@refused
def time_units_nobody_can_decode(chance):
    units = str(chance.choice(["days since 2008-13-45", "fortnights since 2008-01-01"]))
    netcdf(water(chance), lambda dataset: dataset["time"].setncattr("units", units))
    return Refusal(errors.TimeAxisError, ("kd490.nc",))


@refused
def a_time_that_was_never_written(chance):
    def spoil(dataset):
        dataset["time"][int(chance.integers(24))] = netCDF4.default_fillvals["i8"]

    netcdf(water(chance), spoil)
    return Refusal(errors.TimeAxisError, ("kd490.nc",))


@refused
def an_area_off_the_file(chance):
    netcdf(water(chance))
    command = (*RUN, "--set", "data.bounds=[10, 50, 20, 60]")
    return Refusal(errors.CoverageError, ("kd490.nc", "data.bounds"), command=command)


def _spoiled(chance, **kinds):
    """Truth with some cells missing, and the raw values that stand for them."""
    cube = water(chance)
    raw = cube.to_numpy().copy()
    for place, bad in zip(
        chance.choice(raw.size, len(kinds), replace=False), kinds.values(), strict=True
    ):
        raw.flat[place] = bad
        cube.to_numpy().flat[place] = np.nan
    return cube, raw


@handled
def every_kind_of_missing_value(chance):
    truth, raw = _spoiled(
        chance, inf=np.inf, low=-np.inf, huge=9.97e36, lowest=-3.4e38, other=-999.0
    )

    def spoil(dataset):
        dataset["kd490"].setncatts({"missing_value": np.float64(-999), "valid_max": np.float64(6)})
        dataset["kd490"][:] = raw

    return Handling([netcdf(truth, spoil)], truth)


@handled
def fill_values_an_integer_cannot_hold(chance):
    truth = (water(chance).fillna(0.05) * 1000).round() / 1000
    packed = (truth * 1000).round().astype("u1")
    fill = float(chance.choice([-9999.0, np.nan, 70000.0, 0.5]))
    attrs = {"scale_factor": 0.001, "units": "m-1", "missing_value": fill}
    grid = packed.swap_dims(y="latitude", x="longitude").assign_attrs(attrs)
    grid.to_dataset(name="kd490").to_netcdf("kd490.nc")
    return Handling([Path("kd490.nc")], truth, 1e-6)


@handled
def small_integers_that_would_wrap_around(chance):
    truth = water(chance).fillna(0.05).round(2)
    packed = (truth * 100).round().astype("i1")
    grid = packed.swap_dims(y="latitude", x="longitude")
    grid.attrs = {"scale_factor": 0.01, "add_offset": 0.0, "units": "m-1"}
    grid.to_dataset(name="kd490").to_netcdf("kd490.nc")
    return Handling([Path("kd490.nc")], truth, 1e-6)


@handled
def packed_values_of_a_store(chance):
    truth = water(chance)
    packing = {"dtype": "int16", "scale_factor": 1e-5, "_FillValue": -1}
    return Handling([store(truth, int(chance.choice([2, 3])), **packing)], truth, 1e-5)


@handled
def float_values_of_a_store(chance):
    truth = water(chance)
    return Handling([store(truth, int(chance.choice([2, 3])))], truth)


@handled
def a_block_of_a_store_that_was_never_written(chance):
    truth = water(chance)
    path = store(truth, 2)
    (path / "kd490" / "1.0.0").unlink()
    return Handling([path], truth.where(~truth["time"].isin(truth["time"][6:12])))


@handled
def integer_cells_of_a_file_that_were_never_written(chance):
    truth = water(chance)
    month = int(chance.integers(1, 23))
    truth[month] = np.nan

    packed = np.where(np.isfinite(truth), truth / 1e-5, -32767).round()
    netcdf(truth).unlink()
    with netCDF4.Dataset("kd490.nc", "w") as dataset:
        for name, source in (("time", "time"), ("latitude", "y"), ("longitude", "x")):
            dataset.createDimension(name, truth.sizes[source])
            dataset.createVariable(name, "f8", (name,))[:] = (
                np.arange(24) if name == "time" else truth[name]
            )
        days = truth.indexes["time"] - truth.indexes["time"][0]
        dataset["time"].units = "days since 2008-01-01"
        dataset["time"][:] = days.days
        variable = dataset.createVariable("kd490", "i2", ("time", "latitude", "longitude"))
        variable.setncatts({"scale_factor": 1e-5, "units": "m-1"})
        variable.set_auto_maskandscale(False)
        for step in set(range(24)) - {month}:
            variable[step] = packed[step]
    return Handling([Path("kd490.nc")], truth, 1e-5)


@handled
def a_month_of_clouds(chance):
    truth = water(chance)
    truth[int(chance.integers(24))] = np.nan
    return Handling([netcdf(truth)], truth)


@handled
def months_out_of_order(chance):
    truth = water(chance)
    order = np.roll(np.arange(24), int(chance.integers(1, 23)))
    return Handling([netcdf(truth.isel(time=order))], truth, warning="TimeAxisWarning")


@handled
def months_that_are_absent(chance):
    truth = water(chance)
    gone = chance.choice(np.arange(1, 23), 3, replace=False)
    path = netcdf(truth.isel(time=np.delete(np.arange(24), gone)))
    return Handling([path], truth.where(~truth["time"].isin(truth["time"][gone])))


@handled
def axes_the_other_way_round(chance):
    truth = water(chance)
    kind = str(chance.choice(["erddap", "oc_cci", "cmems"]))
    paths = write_convention(Path.cwd(), truth, kind)
    return Handling(paths, truth, 1e-5 if kind == "cmems" else 0.0)


@handled
def an_area_across_the_date_line(chance):
    cube = water(chance)
    longitude = 180 + STEP * (np.arange(12) - 5.5)
    path = netcdf(cube.assign_coords(longitude=("x", longitude)))
    wrapped = np.where(longitude >= 180, longitude - 360, longitude)
    truth = cube.assign_coords(longitude=("x", wrapped))
    return Handling([path], truth.isel(x=np.r_[6:12, 0:6]))


@handled
def grids_that_differ_by_rounding(chance):
    truth = water(chance, 3)
    paths = write_convention(Path.cwd(), truth, "obpg_l3m")
    paths[1].unlink()
    shift = float(chance.uniform(-5e-4, 5e-4)) * STEP
    write_convention(
        Path.cwd(), truth[1:2].assign_coords(latitude=truth["latitude"] + shift), "obpg_l3m"
    )
    return Handling(paths, truth)


@handled
def local_time_becomes_utc(chance):
    truth = water(chance)
    hours = int(chance.integers(1, 12))

    def zone(dataset):
        elapsed = truth.indexes["time"] - truth.indexes["time"][0]
        dataset["time"].units = f"hours since 2008-01-01 {hours:02d}:00:00 +{hours:02d}:00"
        dataset["time"][:] = elapsed.total_seconds() / 3600

    return Handling([netcdf(truth, zone)], truth)
