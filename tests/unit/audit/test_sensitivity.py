"""The sensitivity pack against published numbers, identities and matched pairs by hand."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy.stats import wilcoxon

from eo_causal.audit.sensitivity import (
    SensitivitySettings,
    approximate_risk_ratio,
    confounding_bias,
    e_value,
    matched_pairs,
    partial_r2,
    robustness_value,
    rosenbaum_gamma,
    rosenbaum_p,
    sensitivity_pack,
)
from eo_causal.core.storage import read_value, write_value
from eo_causal.core.units import StudyUnits


def test_robustness_values_of_the_publication():
    t = 0.097316 / 0.023257
    assert partial_r2(t, 783) == pytest.approx(0.0219, abs=1e-4)
    assert robustness_value(t, 783) == pytest.approx(0.1388, abs=1e-4)
    assert robustness_value(t, 783, alpha=0.05) == pytest.approx(0.0763, abs=1e-4)
    assert robustness_value(0.5, 783, alpha=0.05) == 0.0


def test_the_bias_of_a_confounder_is_what_leaving_it_out_does():
    random = np.random.default_rng(0)
    x, u = random.standard_normal((2, 300))
    d = 0.5 * x + 0.7 * u + random.standard_normal(300)
    y = d + x + 2 * u + random.standard_normal(300)

    def fit(outcome, *columns):
        design = np.column_stack([np.ones(300), *columns])
        beta = np.linalg.lstsq(design, outcome, rcond=None)[0]
        rest = outcome - design @ beta
        df = 300 - design.shape[1]
        cov = np.linalg.inv(design.T @ design) * (rest @ rest) / df
        return beta[1], np.sqrt(cov[1, 1]), beta[-1] / np.sqrt(cov[-1, -1]), df

    short, error, _, df = fit(y, d, x)
    long, _, t_outcome, df_long = fit(y, d, x, u)
    _, _, t_treatment, df_treatment = fit(d, x, u)
    found = confounding_bias(
        error, df, partial_r2(t_outcome, df_long), partial_r2(t_treatment, df_treatment)
    )
    assert found == pytest.approx(abs(short - long), abs=1e-10)


def test_e_values():
    assert e_value(3.9) == pytest.approx(7.263, abs=1e-3)
    assert e_value(1.8) == pytest.approx(3.0, abs=1e-3)
    assert e_value(1 / 1.8) == pytest.approx(3.0, abs=1e-3)
    ratio = approximate_risk_ratio(0.5)
    assert (ratio, e_value(ratio)) == (
        pytest.approx(1.576, abs=1e-3),
        pytest.approx(2.529, abs=2e-3),
    )


def test_without_hidden_differences_rosenbaum_is_the_signed_rank_test():
    differences = np.random.default_rng(1).normal(0.3, 1, 60)
    expected = wilcoxon(
        differences, alternative="greater", correction=False, method="asymptotic"
    ).pvalue
    assert rosenbaum_p(differences) == pytest.approx(expected, abs=1e-10)
    gamma = rosenbaum_gamma(differences)
    assert rosenbaum_p(differences, gamma) == pytest.approx(0.05, abs=1e-6)
    assert gamma > 1
    assert rosenbaum_gamma(-differences) == 1.0


def test_pairs_are_near_on_the_propensity_and_nobody_is_used_twice():
    treatment = np.array([1.0, 1, 0, 0, 0])
    propensity = np.array([0.6, 0.3, 0.59, 0.31, 0.95])
    assert matched_pairs(treatment, propensity).tolist() == [[0, 2], [1, 3]]
    far = np.array([0.9, 0.3, 0.1, 0.31, 0.05])
    assert matched_pairs(treatment, far).tolist() == [[1, 3]]


def study(effect, n=600, seed=0, strength=0.3):
    """A strong image confounder (in e and mu), a weak covariate."""
    random = np.random.default_rng(seed)
    image, age = random.standard_normal((2, n))
    e = 1 / (1 + np.exp(-strength * image))
    w = (random.random(n) < e).astype(float)
    y = effect * w + image + 0.2 * age + random.standard_normal(n)
    ids = [f"u{number}" for number in range(n)]
    table = pd.DataFrame({
        "unit_id": ids, "image_key": ids, "treatment": w, "outcome": y, "cluster": ids,
        "easting": np.nan, "northing": np.nan,
    })  # fmt: skip
    mean = image + 0.2 * age
    nuisance = pd.DataFrame(
        {"propensity": e, "mu0": mean, "mu1": mean + effect, "fold": np.arange(n) % 5, "arm": "all"}
    )
    flat = nuisance.assign(propensity=0.5, arm="tabular")
    nuisance = pd.concat([nuisance, flat], ignore_index=True)
    return StudyUnits(table, pd.DataFrame({"age": age})), nuisance


def test_a_large_effect_is_robust_and_none_is_not(tmp_path):
    units, nuisance = study(1.0)
    without = {"the images": "tabular", "nothing": "no such arm"}
    found = sensitivity_pack(
        units, nuisance, "all", without, SensitivitySettings(support=(-9.0, 9.0))
    )
    status = {report.name: report.status for report in found.reports}
    assert status == {
        "robustness_value": "pass", "e_value": "pass", "rosenbaum": "pass",
        "marginal_sensitivity": "pass", "manski": "pass",
    }  # fmt: skip
    assert list(found.bounds["lambda"]) == [1.0, 1.25, 1.5, 2.0, 3.0]
    none, its_nuisance = study(0.0)
    weak = sensitivity_pack(none, its_nuisance, "all", without, SensitivitySettings())
    status = {report.name: report.status for report in weak.reports}
    assert status["robustness_value"] == status["marginal_sensitivity"] == "warn"
    assert status["manski"] == "not_run"
    write_value(found, type(found), tmp_path)
    again = read_value(type(found), tmp_path)
    pd.testing.assert_frame_equal(again.bounds, found.bounds)
    assert [report.text for report in again.reports] == [report.text for report in found.reports]


def test_what_was_observed_measures_the_strength():
    units, nuisance = study(1.0, strength=1.0)
    found = sensitivity_pack(
        units, nuisance, "all", {"the images": "tabular"}, SensitivitySettings(parts=("marginal",))
    )
    (report,) = found.reports
    implied = report.table.set_index("check")["lambda"]["leaving out the images"]
    e = nuisance.loc[nuisance["arm"] == "all", "propensity"]
    logit = np.log(e / (1 - e))
    assert implied == pytest.approx(np.exp(np.quantile(np.abs(logit), 0.95)))
    assert "the images" in report.text


def test_divergence_bounds_need_a_support():
    with pytest.raises(ValidationError, match="needs `support`"):
        SensitivitySettings(parts=("divergence",))
    units, nuisance = study(1.0)
    settings = SensitivitySettings(parts=("divergence",), support=(-9.0, 9.0))
    (report,) = sensitivity_pack(units, nuisance, "all", {}, settings).reports
    table = report.table.set_index("bound")
    assert (table["lower"] <= table.loc["manski", "lower"] + 1e-6).all()
