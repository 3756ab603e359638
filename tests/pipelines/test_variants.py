"""The demo asked other questions: what the report says must follow."""

import json

import pytest
from commands import DEMO, command


def answer(folder, *sets):
    """results.json and the page of the demo with other settings."""
    changes = [item for change in sets for item in ("--set", change)]
    done = command("run", DEMO, "--out", folder / "run", *changes, folder=folder)
    assert done.code == 0, done.err
    results = json.loads((folder / "run" / "results.json").read_text())
    return results, (folder / "run" / "report.html").read_text()


def test_clearer_water_has_signs_that_agree(tmp_path):
    results, page = answer(tmp_path, "data.simulate.effect=-0.006", "impact.scale=log")
    average = results["effect"]["average"]
    low, high = average["interval"]
    assert results["truth"]["average"] == pytest.approx(-0.6)
    assert low < average["estimate"] < high < 0
    assert f"the estimate {average['estimate']:.3g}" in page
    assert "attenuation fell" in results["headline"][0]
    assert "geometric" in results["headline"][0]
    assert "deeper (change +" in results["headline"][1]
    placebo = results["placebo_in_time"]
    assert placebo["effect"] == pytest.approx(results["effect"]["relative"]["estimate"], abs=0.03)
    assert abs(placebo["drift"]) < 0.1  # a log ratio, not multiplied for display
    assert "log ratio" in page
    assert "Try impact.scale: log" not in page


def test_another_zone_has_no_effect_to_know(tmp_path):
    results, _ = answer(tmp_path, "roles.impact=open_sea", "checks.placebo_in_time=null")
    assert results["truth"]["average"] == 0
    low, high = results["effect"]["average"]["interval"]
    assert low < 0 < high


def test_another_date_has_no_known_truth(tmp_path):
    results, page = answer(tmp_path, "impact.intervention=2012-01", "checks.placebo_in_time=null")
    assert results["truth"] is None
    assert "true average effect" not in page
