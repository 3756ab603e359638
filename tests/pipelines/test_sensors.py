"""A record of two sensors: harmonised from their files, estimated, and reported as such."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from commands import command

from eo_causal.simulate.series import zones_panel
from eo_causal.simulate.zone_rasters import zones_cube

ZONES = {"impact": [122.0, -3.0, 122.25, -2.75], "control": [123.0, -3.0, 123.25, -2.75]}
EFFECT, OFFSET, SLOPE = 0.02, 0.10, 1.05
OLD_ENDS, NEW_BEGINS = 180, 120


def write_sensor(cube, path):
    grid = cube.swap_dims(y="latitude", x="longitude").astype(np.float32)
    grid.to_dataset(name="Kd_490").to_netcdf(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sensors")
    panel = zones_panel(3, n_zones=2, effect=0.0) / 80
    panel.loc["2019-05":, "zone_0"] += EFFECT
    water = zones_cube(panel.set_axis(["impact", "control"], axis=1), ZONES, seed=1)
    random = np.random.default_rng(2)

    def seen(cube):
        return cube * np.exp(random.normal(0, 0.05, cube.shape))

    old = np.exp((np.log(seen(water)) - OFFSET) / SLOPE).isel(time=slice(0, OLD_ENDS))
    write_sensor(old.assign_attrs(units="m-1"), folder / "old.nc")
    write_sensor(
        seen(water).isel(time=slice(NEW_BEGINS, None)).assign_attrs(units="m-1"), folder / "new.nc"
    )
    config = {
        "pipeline": "water_clarity", "seed": 1, "zones": ZONES,
        "data": {
            "sensors": {"old": ["old.nc"], "new": ["new.nc"]},
            "harmonise": {"reference": "new"},
            "sensor_changes": ["2008-01", "2018-12"],
        },
        "impact": {"intervention": "2019-05"},
        "checks": {"placebo_in_time": None, "fit": False},
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(config))
    done = command("run", "study.yaml", "--out", "out", folder=folder)
    assert done.code == 0, done.err
    return folder / "out"


def test_the_line_between_the_sensors_is_found(run):
    line = pd.read_csv(run / "tables" / "harmonisation.csv").iloc[0]
    assert (line["sensor"], line["reference"], line["n_months"]) == ("old", "new", 60)
    assert line["slope"] == pytest.approx(SLOPE, abs=4 * line["variance_slope"] ** 0.5)
    error = 4 * line["variance_intercept"] ** 0.5
    assert line["intercept"] == pytest.approx(OFFSET, abs=error)


def test_the_effect_survives_the_change_of_sensors(run):
    average = json.loads((run / "results.json").read_text())["effect"]["average"]
    low, high = average["interval"]
    assert low < EFFECT < high
    assert low > 0


def test_a_change_of_sensors_near_the_intervention_is_a_warning(run):
    results = json.loads((run / "results.json").read_text())
    assert "SensorChangeWarning" in results["warnings"]
    page = (run / "report.html").read_text()
    assert "changed sensors in 2018-12" in page
    steps = pd.read_csv(run / "tables" / "sensor_changes.csv")
    assert set(steps["month"]) == {"2008-01", "2018-12"}
    assert set(steps["zone"]) == {"impact", "control"}


def test_a_raster_of_known_zone_means_gives_the_fit_of_the_series():
    from eo_causal.impact.fit import exact_effect
    from eo_causal.impact.model import ImpactSettings, build_model
    from eo_causal.ingest.zonal import ZoneSettings, zone_frame, zone_means

    panel = zones_panel(3, n_zones=2).set_axis(["impact", "control"], axis=1)
    cube = zones_cube(panel, ZONES, seed=1, land={"impact": 9})
    means = zone_means(cube, zone_frame(ZONES), ZoneSettings(method="interpolate"))["kd490"]
    xr.testing.assert_allclose(
        means.transpose("time", "zone").drop_attrs(),
        xr.DataArray(panel, dims=("time", "zone")), rtol=1e-10,
    )  # fmt: skip
    found = means.transpose("time", "zone").to_pandas()
    settings = ImpactSettings(intervention="2019-05")
    first, second = (
        exact_effect(build_model(table["impact"], table[["control"]], settings))
        for table in (panel, found)
    )
    assert second == pytest.approx(first, rel=1e-8)
