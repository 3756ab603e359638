"""One known cube written the way real producers write their files."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

Convention = Literal["obpg_l3m", "oc_cci", "erddap", "cmems", "olci", "generic"]


def write_convention(folder: Path, cube: xr.DataArray, convention: Convention) -> list[Path]:
    """Write a Kd490 cube in one producer's convention.

    Parameters
    ----------
    folder : Path
        Existing folder.
    cube : DataArray (time, y, x)
        m-1, y decreasing, with ``latitude (y)`` and ``longitude (x)``.
    convention : str
        ``obpg_l3m`` one file a month without time axis; ``oc_cci`` ascending latitude and the
        classic fill; ``erddap`` longitudes 0..360 and seconds; ``cmems`` packed int16 with a
        depth axis of length one; ``olci`` Zarr v2; ``generic`` plain NetCDF.

    Returns
    -------
    list of Path
        The files, sorted.
    """
    writers = {
        "obpg_l3m": _write_obpg, "oc_cci": _write_cci, "erddap": _write_erddap,
        "cmems": _write_cmems, "olci": _write_olci, "generic": _write_generic,
    }  # fmt: skip
    return sorted(writers[convention](folder, cube))


def _plain(cube: xr.DataArray, name: str, latitude: str, longitude: str) -> xr.Dataset:
    """A CF dataset with dimension coordinates under the given names."""
    return xr.Dataset(
        {name: (("time", latitude, longitude), cube.to_numpy(), {"units": "m-1"})},
        coords={
            "time": cube["time"].to_numpy(),
            latitude: (latitude, cube["latitude"].to_numpy(), {"units": "degrees_north"}),
            longitude: (longitude, cube["longitude"].to_numpy(), {"units": "degrees_east"}),
        },
    )


def _write_netcdf(dataset: xr.Dataset, path: Path, name: str, **encoding: Any) -> list[Path]:
    sizes = tuple(1 if dim == "time" else dataset.sizes[dim] for dim in dataset[name].dims)
    settings = {"zlib": True, "complevel": 4, "chunksizes": sizes, **encoding}
    dataset.to_netcdf(path, engine="netcdf4", encoding={name: settings})
    return [path]


def _write_generic(folder: Path, cube: xr.DataArray) -> list[Path]:
    dataset = _plain(cube, "kd490", "latitude", "longitude")
    return _write_netcdf(dataset, folder / "kd490.nc", "kd490", _FillValue=np.float32(np.nan))


def _write_cmems(folder: Path, cube: xr.DataArray) -> list[Path]:
    dataset = _plain(cube.isel(y=slice(None, None, -1)), "KD490", "latitude", "longitude")
    dataset = dataset.expand_dims(depth=[0.5], axis=1)
    dataset["KD490"] = dataset["KD490"].transpose("time", "depth", "latitude", "longitude")
    dataset["KD490"].attrs = {
        "units": "m-1",
        "valid_min": np.int16(0),
        "valid_max": np.int16(32000),
    }
    dataset.attrs = {"producer": "CMEMS (simulated)", "title": "simulated ocean colour"}
    packed = {"dtype": "int16", "scale_factor": 1e-5, "add_offset": 0.0, "_FillValue": np.int16(-1)}
    return _write_netcdf(dataset, folder / "kd490_cmems.nc", "KD490", **packed)


def _write_cci(folder: Path, cube: xr.DataArray) -> list[Path]:
    dataset = _plain(cube.isel(y=slice(None, None, -1)), "kd_490", "lat", "lon")
    dataset["kd_490"].attrs = {"units": "m-1", "grid_mapping": "crs"}
    dataset.attrs = {"title": "ESA CCI Ocean Colour Product", "project": "simulated"}
    fill = np.float32(9.969209968386869e36)
    return _write_netcdf(dataset, folder / "kd490_cci.nc", "kd_490", _FillValue=fill)


def _write_erddap(folder: Path, cube: xr.DataArray) -> list[Path]:
    turned = cube.assign_coords(longitude=cube["longitude"] % 360)
    turned = turned.isel(x=np.argsort(turned["longitude"].to_numpy()))
    dataset = _plain(turned, "k490", "latitude", "longitude")
    dataset.attrs = {"cdm_data_type": "Grid", "title": "simulated"}
    fill = np.float32(-9999999.0)
    settings = {"zlib": True, "_FillValue": fill}
    seconds = {"units": "seconds since 1970-01-01T00:00:00Z", "dtype": "float64"}
    path = folder / "kd490_erddap.nc"
    dataset.to_netcdf(path, engine="netcdf4", encoding={"k490": settings, "time": seconds})
    return [path]


def _write_obpg(folder: Path, cube: xr.DataArray) -> list[Path]:
    paths = []
    for stamp in cube.indexes["time"]:
        last = stamp + np.timedelta64(stamp.days_in_month - 1, "D")
        name = f"S{stamp:%Y%j}{last:%Y%j}.L3m_MO_KD490_Kd_490_9km.nc"
        month = _plain(cube.sel(time=[stamp]), "Kd_490", "lat", "lon").isel(time=0, drop=True)
        low, high = np.float32(0.01), np.float32(6.0)
        month["Kd_490"].attrs = {"units": "m^-1", "valid_min": low, "valid_max": high}
        month["palette"] = (("rgb", "eightbitcolor"), np.zeros((3, 256), np.uint8))
        month.attrs = {
            "processing_level": "L3 Mapped",
            "time_coverage_start": f"{stamp:%Y-%m-%dT00:00:00.000Z}",
            "product_name": name,
        }
        encoding: dict[str, Any] = {
            "Kd_490": {"zlib": True, "_FillValue": np.float32(-32767.0)},
            "lat": {"_FillValue": np.float64(-999.0)},
            "lon": {"_FillValue": np.float64(-999.0)},
        }
        month.to_netcdf(folder / name, engine="netcdf4", encoding=encoding)
        paths.append(folder / name)
    return paths


def _write_olci(folder: Path, cube: xr.DataArray) -> list[Path]:
    dataset = _plain(cube.astype(np.float64), "kd489", "lat", "lon")
    dataset["kd489"].attrs = {"units": "m^-1"}
    path = folder / "kd489.zarr"
    dataset.to_zarr(path, mode="w-", zarr_format=2, consolidated=False)
    return [path]
