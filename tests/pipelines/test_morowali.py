"""The Morowali study, default and as published, from its configs to its numbers."""

import json

import numpy as np
import pytest
import xarray as xr
from commands import ROOT, command

pytestmark = pytest.mark.compiles


@pytest.fixture(scope="module")
def studies(data_folder, tmp_path_factory):
    if not (data_folder / "ocean-color" / "morowali_imip" / "salinity_temp.nc").is_file():
        pytest.skip("the Morowali data set is absent")
    folder = tmp_path_factory.mktemp("morowali")
    for name in ("morowali", "morowali_paper"):
        config = ROOT / "configs" / f"{name}.yaml"
        done = command("run", config, "--out", folder / name, folder=folder)
        assert done.code == 0, done.err
    return folder


def results_of(studies, name):
    return json.loads((studies / name / "results.json").read_text())


@pytest.fixture(scope="module")
def default(studies):
    return results_of(studies, "morowali")


@pytest.fixture(scope="module")
def paper(studies):
    return results_of(studies, "morowali_paper")


def test_bayesian_effect_and_its_interval(default):
    average = default["effect"]["average"]
    assert average["units"] == "1e-2 m-1"
    assert average["estimate"] == pytest.approx(0.79, abs=0.02)
    assert average["interval"] == pytest.approx([0.49, 1.11], abs=0.03)
    change = default["euphotic_depth"]["change"]
    assert change["estimate"] == pytest.approx(-14.9, abs=0.5)
    assert change["interval"][0] < change["estimate"] < change["interval"][1] < 0


def test_sampler_is_recorded_and_agrees_with_the_exact_posterior(default):
    found = default["diagnostics"]
    assert found["sampler"] == "pymc"
    assert found["r_hat"] <= 1.01
    assert min(found["ess_bulk"], found["ess_tail"]) >= 400
    assert found["n_divergences"] == 0
    assert max(found["agreement_with_exact"].values()) <= 1


def test_break_of_the_published_study_is_found_in_both_modes(default, paper):
    for results in (default, paper):
        assert results["breakpoints"] == {"impact": ["2019-05"], "control": []}
        raw = results["raw_difference_in_differences"]["estimate"]
        assert raw == pytest.approx(1.0863, abs=1e-4)


def test_published_effect_at_the_maximum_of_the_likelihood(paper):
    effect = paper["effect"]
    assert paper["diagnostics"]["log_likelihood"] >= -34.93
    assert effect["average"]["estimate"] == pytest.approx(0.671, abs=0.003)
    assert effect["average"]["std_error"] == pytest.approx(0.268, abs=0.002)
    assert effect["relative"]["estimate"] == pytest.approx(0.1424, abs=0.0008)
    assert effect["p_value"] == pytest.approx(0.0122, abs=0.0004)
    assert effect["cumulative"]["estimate"] == pytest.approx(45.6, abs=0.2)
    assert paper["euphotic_depth"]["change"]["estimate"] == pytest.approx(-12.2, abs=0.1)


def test_published_placebos_and_leave_one_out(paper, studies):
    placebo = paper["placebo_in_time"]
    assert (placebo["n"], placebo["p_value"]) == (40, pytest.approx(1 / 41))
    assert placebo["mean"] == pytest.approx(0.041, abs=0.003)
    assert placebo["sd"] == pytest.approx(0.111, abs=0.003)
    import pandas as pd

    table = pd.read_csv(studies / "morowali_paper" / "tables" / "check_leave_one_out.csv")
    effects = table.set_index("dropped")["mean"] * 100
    expected = {"kd490": 0.7175, "temperature": 0.6786, "salinity": 0.6799}
    for name, value in expected.items():
        assert effects[name] == pytest.approx(value, abs=0.004), name


def test_published_numbers_stand_beside_ours(paper, studies):
    shown = {row["quantity"]: row["published"] for row in paper["published"]}
    assert shown["average effect"] == 0.6765
    assert shown["relative effect"] == 0.1438
    assert shown["p-value"] == 0.0117
    assert shown["cumulative effect"] == 46.0
    assert shown["euphotic depth change"] == -12.3
    page = (studies / "morowali_paper" / "report.html").read_text()
    assert "Published and computed" in page
    assert "early stop of an optimiser" in page


def test_default_report_says_where_it_departs_from_the_paper(studies, default):
    page = (studies / "morowali" / "report.html").read_text()
    assert "Where this departs from the publication" in page
    assert "0.6765" in page
    assert "association with the date" in default["headline"][2]


def test_raster_equals_the_tables_along_the_published_path(studies):
    import pandas as pd

    table = pd.read_csv(studies / "morowali" / "tables" / "raster_check.csv")
    assert len(table) == 4
    assert (table["published_path"] <= 2e-6).all()
    assert set(table["n_cells"]) == {5, 20}


def test_land_cover_of_both_modes(default, paper):
    assert default["land_cover"]["built_area_km2"]["2024"] == pytest.approx(46.1789, abs=1e-4)
    assert paper["land_cover"]["uniform_rate_paper"] == pytest.approx(1.0978, abs=0.001)


def test_posterior_file_holds_the_draws_behind_the_interval(studies, default):
    with xr.open_dataset(studies / "morowali" / "posterior.nc", engine="netcdf4") as draws:
        assert draws.sizes["chain"] == 4
        average = draws["effect"].mean("time") * 100
        low, high = np.quantile(average, [0.025, 0.975])
    assert default["effect"]["average"]["interval"] == pytest.approx([low, high], rel=1e-9)
