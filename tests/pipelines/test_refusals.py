"""What is wrong ends in one line, the right exit code, and nothing under a final name."""

import netCDF4
import numpy as np
import pytest
import xarray as xr
from commands import DEMO, command

from eo_causal.simulate.coast import CoastSettings, simulate_coast
from eo_causal.simulate.rasters import write_convention

CONFIG = """
pipeline: water_clarity
data: {{files: ["{pattern}"], period: [2010-01, 2019-12]}}
zones:
  impact: [122.25, -2.7917, 122.4583, -2.5833]
  control: [123.0833, -2.75, 123.375, -2.4583]
zone_means: {{min_valid_fraction: 0.25}}
roles: {{fill: interpolate}}
impact: {{intervention: 2017-06, engine: exact, covariates: [kd490]}}
breaks: {{n_bootstrap: 99}}
"""


@pytest.fixture(scope="module")
def cube():
    settings = CoastSettings(
        start="2010-01", n_months=120, intervention="2017-06", missing=0.05, effect=0.009
    )
    return simulate_coast(settings, seed=3).kd490


def study(folder, cube, convention="generic", text=CONFIG, **changes):
    """Write rasters and a config; returns the config's path."""
    (folder / "in").mkdir()
    write_convention(folder / "in", cube, convention)
    path = folder / "study.yaml"
    path.write_text(text.format(pattern="in/*", **changes))
    return path


def refused(done, folder, code, *words):
    """One line on standard error, the code, and no output."""
    assert done.code == code, done.err
    last = done.err.strip().splitlines()[-1]
    assert "Traceback" not in done.err
    for word in words:
        assert word in last, done.err
    run = folder / "runs" / "study"
    assert not (run / "results.json").exists()
    assert not (run / "report.html").exists()
    assert not (run / "maps").exists()
    assert not [path for path in run.rglob("*") if ".tmp-" in path.name]


def test_a_good_study_runs(tmp_path, cube):
    study(tmp_path, cube)
    done = command("run", "study.yaml", folder=tmp_path)
    assert done.code == 0, done.err
    assert "Report: runs/study/report.html" in done.out


def test_truncated_file(tmp_path, cube):
    study(tmp_path, cube)
    path = tmp_path / "in" / "kd490.nc"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    done = command("run", "study.yaml", folder=tmp_path)
    refused(done, tmp_path, 3, "ReadError", "kd490.nc", "damaged or ends early")


def test_damaged_block_in_the_middle(tmp_path, cube):
    study(tmp_path, cube)
    path = tmp_path / "in" / "kd490.nc"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(bytes(data))
    done = command("run", "study.yaml", folder=tmp_path)
    refused(done, tmp_path, 3, "ReadError", "kd490.nc")


def test_months_missing_over_the_intervention(tmp_path, cube):
    months = cube.indexes["time"].strftime("%Y-%m")
    gap = np.isin(months, ["2017-04", "2017-05", "2017-06", "2017-07"])
    study(tmp_path, cube.isel(time=~gap))
    done = command("run", "study.yaml", folder=tmp_path)
    refused(done, tmp_path, 3, "TimeAxisError", "2017-04", "2017-07", "allow_event_gap")


def test_a_zone_on_land(tmp_path, cube):
    text = CONFIG.replace("[122.25, -2.7917, 122.4583, -2.5833]", "[122.0, -2.7, 122.12, -2.6]")
    study(tmp_path, cube, text=text)
    done = command("run", "study.yaml", folder=tmp_path)
    refused(done, tmp_path, 3, "CoverageError", "'impact'", "ever valid")


def test_a_zone_off_the_raster(tmp_path, cube):
    text = CONFIG.replace("[122.25, -2.7917, 122.4583, -2.5833]", "[-2.8, 22, -2.5, 22.4]")
    study(tmp_path, cube, text=text)
    done = command("run", "study.yaml", folder=tmp_path)
    refused(done, tmp_path, 3, "CoverageError", "'impact'", "swapped")


def test_a_covariate_with_missing_months(tmp_path, cube):
    control = cube.where(~((cube.longitude > 123) & (cube.time == np.datetime64("2012-03-01"))))
    study(tmp_path, control, text=CONFIG.replace("roles: {{fill: interpolate}}\n", ""))
    done = command("run", "study.yaml", folder=tmp_path)
    refused(done, tmp_path, 3, "DataError", "'kd490'", "2012-03", "roles.fill")


@pytest.mark.compiles
def test_one_chain_is_no_posterior(tmp_path, cube):
    study(tmp_path, cube)
    options = ["--set", "impact.engine=nuts", "--set", "impact.chains=1"]
    done = command("run", "study.yaml", *options, folder=tmp_path)
    refused(done, tmp_path, 5, "ConvergenceError", "chains 1 < 4", "R-hat")
    [draws] = (tmp_path / "runs" / "study" / "failed").glob("*.nc")
    with xr.open_dataset(draws) as kept:
        assert kept.sizes["chain"] == 1


def test_fill_that_was_not_declared_is_no_water(tmp_path, cube):
    study(tmp_path, cube.where((cube["time"].dt.year < 2018) | cube.isnull(), 0.0))
    done = command("run", "study.yaml", folder=tmp_path)
    refused(done, tmp_path, 3, "DataError", "Kd490 of 0 or below", "2018-01")


@pytest.mark.parametrize("month", ["2030-01", "1990-01"])
def test_an_intervention_outside_the_data(tmp_path, cube, month):
    study(tmp_path, cube)
    done = command("run", "study.yaml", "--set", f"impact.intervention={month}", folder=tmp_path)
    refused(done, tmp_path, 2, "ConfigError", month, "does not lie within the data")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (["data.simulate.effect=0.1"], "simulate"),
        (["roles.controls=[control, control]"], "named twice"),
        (["mode=paper", "impact.scale=log"], "impact.scale"),
    ],
)
def test_settings_that_cannot_go_together(tmp_path, cube, changes, word):
    study(tmp_path, cube.interpolate_na("time"))
    sets = [item for change in changes for item in ("--set", change)]
    done = command("run", "study.yaml", *sets, folder=tmp_path)
    assert done.code == 2, done.err
    assert word in done.err
    assert not (tmp_path / "runs" / "study" / "results.json").exists()


def test_five_mistakes_are_listed_at_once(tmp_path):
    (tmp_path / "bad.yaml").write_text(
        "pipeline: water_clarity\n"
        "impact:\n  intervension: 2019-05\n  level_prior_sd: -1\n  engine: magic\n"
        "zones: {impact: [3, 2, 1, 0]}\nseed: x\n"
    )
    for verb in ("run", "plan"):
        done = command(verb, "bad.yaml", folder=tmp_path)
        assert done.code == 2
        for key in (
            "impact.intervension is not a known key; did you mean impact.intervention?",
            "impact.intervention is missing", "impact.level_prior_sd", "impact.engine",
            "zones.impact", "seed",
        ):  # fmt: skip
            assert key in done.err
        assert "line 3" in done.err
        assert "bad.yaml" in done.err
        assert "Traceback" not in done.err
    assert not (tmp_path / "runs").exists()


def test_files_outside_the_allowed_folders_are_refused(tmp_path, cube):
    outside = tmp_path / "outside"
    outside.mkdir()
    [path] = write_convention(outside, cube, "generic")
    work = tmp_path / "work"
    work.mkdir()
    (work / "study.yaml").write_text(CONFIG.format(pattern=path))
    done = command("run", "study.yaml", folder=work)
    refused(done, work, 4, "UnsafeSourceError", "data.roots")
    allowed = command("plan", "study.yaml", "--set", f"data.roots=[{outside}]", folder=work)
    assert allowed.code == 0


def test_wrong_units_are_refused(tmp_path, cube):
    study(tmp_path, cube)
    with netCDF4.Dataset(tmp_path / "in" / "kd490.nc", "a") as dataset:
        dataset["kd490"].units = "km-1"
    done = command("run", "study.yaml", folder=tmp_path)
    refused(done, tmp_path, 3, "UnitsError", "km-1")


def test_a_failed_run_withdraws_older_outputs_and_keeps_finished_stages(tmp_path, cube):
    study(tmp_path, cube)
    assert command("run", "study.yaml", folder=tmp_path).code == 0
    done = command("run", "study.yaml", "--set", "impact.intervention=2010-03", folder=tmp_path)
    refused(done, tmp_path, 3, "DataError", "too few")
    assert command("run", "study.yaml", folder=tmp_path).code == 0
    assert (tmp_path / "runs" / "study" / "report.html").exists()


def test_a_held_folder_is_not_shared(tmp_path, cube):
    study(tmp_path, cube)
    run = tmp_path / "runs" / "study"
    run.mkdir(parents=True)
    (run / "run.lock").write_text('{"host": "elsewhere", "pid": 1, "started": "2026-01-01"}')
    done = command("run", "study.yaml", folder=tmp_path)
    assert done.code == 6
    assert "elsewhere" in done.err
    assert command("run", "study.yaml", "--force", folder=tmp_path).code == 0


def test_locked_inputs_must_stay_the_same(tmp_path, cube):
    study(tmp_path, cube)
    assert command("lock", "study.yaml", folder=tmp_path).code == 0
    options = ["--set", "data.lock=inputs.lock"]
    assert command("plan", "study.yaml", *options, folder=tmp_path).code == 0
    with netCDF4.Dataset(tmp_path / "in" / "kd490.nc", "a") as dataset:
        dataset["kd490"][0, 0, 0] = 0.05
    done = command("run", "study.yaml", *options, folder=tmp_path)
    refused(done, tmp_path, 3, "IntegrityError", "inputs.lock")


def test_demo_config_is_not_found_by_a_strangers_pipeline(tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "water_clarity.py").write_text("raise SystemExit(99)")
    assert command("plan", DEMO, folder=tmp_path).code == 0
