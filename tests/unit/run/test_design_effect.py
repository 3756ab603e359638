"""Published gold values, computed from design blocks (PyPI package causaldata)."""

import causaldata
import pytest

from eo_causal.errors import DesignError
from eo_causal.run.design import Design
from eo_causal.run.design_effect import effect_of_design

RELATIVE = 1e-5


def design(strategy, outcome, treatment, assignment, specific, tabular=(), unit="row"):
    return Design.model_validate({
        "id": "gold", "strategy": strategy, "estimand": {"population": "the units of the data set"},
        "units": {"geometry": "none", "id": unit},
        "treatment": {"name": treatment, "column": treatment, "assignment": assignment},
        "outcome": {"name": outcome, "source": "survey"}, "confounders": {"tabular": tabular},
        "design_specific": specific,
    })  # fmt: skip


def test_a_trial():
    table = causaldata.nsw_mixtape.load_pandas().data
    specific = {"p_treat": 185 / 445, "strata": [], "cluster": None}
    found = effect_of_design(design("rct", "re78", "treat", "randomised", specific), table)
    assert found.estimate == pytest.approx(1794.34240, rel=RELATIVE)
    assert found.std_error == pytest.approx(670.99655, rel=RELATIVE)


def test_difference_in_differences():
    table = causaldata.organ_donations.load_pandas().data
    treated = (table["State"] == "California") & table["Quarter"].isin(
        ["Q32011", "Q42011", "Q12012"]
    )
    specific = {
        "unit": "State", "time": "Quarter", "comparison": "never_treated",
        "anticipation_periods": 0, "approach": "two_way_fixed_effects",
    }  # fmt: skip
    plan = design("did", "Rate", "T", "observed", specific, unit="State")
    found = effect_of_design(plan, table.assign(T=treated.astype(float)))
    assert found.estimate == pytest.approx(-0.0224589744, rel=RELATIVE)
    assert found.std_error == pytest.approx(0.0067207655, rel=RELATIVE)


def test_an_instrument():
    table = causaldata.close_college.load_pandas().data
    controls = ["exper", "black", "south", "married", "smsa"]
    specific = {"instrument": "nearc4", "monotonicity": "increasing"}
    found = effect_of_design(design("iv", "lwage", "educ", "observed", specific, controls), table)
    assert found.estimate == pytest.approx(0.124164235, rel=RELATIVE)
    assert found.std_error == pytest.approx(0.049157730, rel=RELATIVE)


def test_other_strategies_name_their_pipeline():
    plan = design("conditional_exogeneity", "y", "w", "observed", {"overlap": "clip 0.01"}, ["x"])
    with pytest.raises(DesignError, match="Run its pipeline"):
        effect_of_design(plan, causaldata.nsw_mixtape.load_pandas().data)
