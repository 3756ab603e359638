"""The sensitivity pack against published numbers, identities and studies with a known answer."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from eo_causal.audit.bounds import Sample
from eo_causal.audit.sensitivity import (
    SensitivitySettings,
    approximate_risk_ratio,
    benchmark_strength,
    confounding_bias,
    e_value,
    learner_range,
    partial_r2,
    robustness_value,
    rosenbaum_report,
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
        "marginal_sensitivity": "pass", "manski": "pass", "proxy": "pass",
        "learner_range": "not_run",
    }  # fmt: skip
    assert list(found.bounds["lambda"]) == [1.0, 1.25, 1.5, 2.0, 3.0]
    none, its_nuisance = study(0.0)
    weak = sensitivity_pack(none, its_nuisance, "all", without, SensitivitySettings())
    status = {report.name: report.status for report in weak.reports}
    warned = ("robustness_value", "e_value", "rosenbaum", "marginal_sensitivity")
    assert {status[name] for name in warned} == {"warn"}
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
    report = found.reports[0]
    implied, largest = report.table.set_index("check").loc["leaving out the images"]
    e = nuisance.loc[nuisance["arm"] == "all", "propensity"]
    logit = np.log(e / (1 - e))
    assert implied == pytest.approx(np.exp(np.quantile(np.abs(logit), 0.95)))
    assert largest == pytest.approx(np.exp(np.abs(logit).max()))
    assert "the images" in report.text


def test_divergence_bounds_need_a_support():
    with pytest.raises(ValidationError, match="needs `support`"):
        SensitivitySettings(parts=("divergence",))
    units, nuisance = study(1.0)
    settings = SensitivitySettings(parts=("divergence",), support=(-9.0, 9.0))
    report, *others = sensitivity_pack(units, nuisance, "all", {}, settings).reports
    assert [(other.name, other.status) for other in others] == [
        ("proxy", "not_run"), ("learner_range", "not_run"),
    ]  # fmt: skip
    table = report.table.set_index("bound")
    assert (table["lower"] <= table.loc["manski", "lower"] + 1e-6).all()


def test_robustness_allows_for_clusters():
    """Every unit twice: two errors that ignore it, one that does not, and the value at alpha."""
    assert robustness_value(4.0, 500, alpha=0.05, inflation=1.2) < robustness_value(
        4.0, 500, alpha=0.05
    )
    assert robustness_value(4.0, 500, alpha=0.05, inflation=2.1) == 0.0
    units, nuisance = study(0.35, n=300, seed=4)
    once = report_of("robustness_value", units, nuisance).table.set_index("check")["value"]
    table = pd.concat([units.table, units.table.assign(unit_id="again_" + units.table["unit_id"])])
    twice = StudyUnits(table.reset_index(drop=True), pd.concat([units.covariates] * 2))
    repeated = pd.concat([pd.concat([rows] * 2) for _, rows in nuisance.groupby("arm")])
    found = report_of("robustness_value", twice, repeated).table.set_index("check")["value"]
    assert found["robustness value"] == pytest.approx(once["robustness value"], rel=0.02)
    key = "robustness value at 0.05"
    assert found[key] == pytest.approx(once[key], rel=0.05)


def test_a_benchmark_is_worth_its_bias():
    strength = benchmark_strength(0.6, 0.15)
    assert benchmark_strength(0.3, 0.3) == pytest.approx(0.3)
    assert confounding_bias(1, 100, strength, strength) == pytest.approx(
        confounding_bias(1, 100, 0.6, 0.15)
    )


def report_of(name, units, nuisance, **more):
    parts = SensitivitySettings(parts=("robustness_value", "e_value", "rosenbaum"))
    without = {"the images": "tabular"}
    found = sensitivity_pack(units, nuisance, "all", without, parts, **more).reports
    return next(report for report in found if report.name == name)


def test_the_images_are_a_benchmark_beside_the_covariates():
    units, nuisance = study(0.5, strength=1.0)
    image = np.log(nuisance["propensity"] / (1 - nuisance["propensity"]))[:600].tolist()
    report = report_of("robustness_value", units, nuisance, leading=image)
    assert "as strong as the leading component of the images" in report.text
    table = report.table.set_index("check")["value"]
    assert table["as strong as the leading component of the images"] > table["as strong as age"]
    assert report.status == "warn"
    assert report_of("robustness_value", units, nuisance).status == "pass"


def blind_study(effect):
    """The arm without images is the plain difference."""
    units, nuisance = study(effect, n=4000, strength=1.0)
    nuisance.loc[nuisance["arm"] == "tabular", ["mu0", "mu1"]] = 0.0
    return units, nuisance


def test_the_proxy_report_says_which_correlation_would_explain_the_effect():
    units, nuisance = blind_study(1.0)
    report = report_of("proxy", units, nuisance)
    curve = report.table.set_index("correlation")["estimate"]
    removed = units.outcome[units.treatment == 1].sum() - units.outcome[units.treatment == 0].sum()
    removed = removed / 2000 - curve[1.0]
    assert curve[0.8] == pytest.approx(curve[1.0] - 0.36 / 0.64 * removed)
    assert f"only {np.sqrt(removed / (removed + curve[1.0])):.2f}" in report.text
    assert report.status == "pass"
    assert report_of("proxy", *blind_study(0.3)).status == "warn"
    against = report_of("proxy", *blind_study(-0.3))
    assert against.status == "pass"
    assert "only move it further from zero" in against.text


def binary(share_treated, share_untreated, n=400):
    """A trial with half treated and these shares of ones, exactly."""
    treatment = np.repeat([1.0, 0.0], n // 2)
    place = np.tile(np.arange(n // 2), 2) / (n // 2)
    outcome = (place < np.where(treatment == 1, share_treated, share_untreated)).astype(float)
    nothing, number = np.zeros(n), np.arange(n)
    return Sample(treatment, outcome, np.full(n, 0.5), nothing, nothing, number % 5, number)


def study_of(sample):
    ids = [f"u{number}" for number in sample.cluster]
    table = pd.DataFrame({
        "unit_id": ids, "image_key": ids, "treatment": sample.treatment, "outcome": sample.outcome,
        "cluster": ids, "easting": np.nan, "northing": np.nan,
    })  # fmt: skip
    nuisance = pd.DataFrame({"propensity": sample.propensity, "mu0": 0.0, "mu1": 0.0})
    return StudyUnits(table, pd.DataFrame(index=table.index)), nuisance.assign(
        fold=sample.fold, arm="all"
    )


def test_binary_outcomes_have_a_risk_ratio_of_their_own():
    report = report_of("e_value", *study_of(binary(0.3, 0.1)))
    row = report.table.iloc[0]
    assert row["risk_ratio"] == pytest.approx(3.0)
    assert row["e_value"] == pytest.approx(3 + np.sqrt(6))
    assert 1 < row["of_interval"] < row["e_value"]
    harm = report_of("e_value", *study_of(binary(0.1, 0.3))).table.iloc[0]
    assert harm["e_value"] == pytest.approx(row["e_value"])
    assert harm["of_interval"] == pytest.approx(row["of_interval"])
    assert report_of("e_value", *study_of(binary(0.2, 0.2))).status == "warn"
    assert report_of("e_value", *study_of(binary(0.3, 0.0))).status == "not_run"


def test_matched_pairs_look_in_the_direction_of_the_effect():
    benefit, harm = (rosenbaum_report(binary(*shares), 0.05) for shares in ((0.4, 0.1), (0.1, 0.4)))
    assert benefit.status == harm.status == "pass"
    assert benefit.table["gamma"][0] == pytest.approx(harm.table["gamma"][0])
    ones = rosenbaum_report(binary(1.0, 1.0), 0.05)
    assert ones.status == "not_run"
    assert "Only 0 of 200 pairs" in ones.text


def learners(spread, n=3):
    names = [f"learner {number}" for number in range(n)]
    table = pd.DataFrame({"propensity": np.repeat(names, n), "outcome": names * n})
    return table.assign(estimate=np.linspace(1, 1 + spread, n * n), std_error=0.1)


def test_learners_that_differ_by_more_than_two_errors_are_flagged():
    near, far = learner_range(learners(0.19)), learner_range(learners(0.21))
    assert (near.status, near.flags) == ("pass", ())
    assert (far.status, far.flags) == ("warn", ("learner_disagreement",))
    assert "between 1 and 1.21" in far.text
    assert learner_range(learners(0.1, n=2)).status == "not_run"
    gap = learner_range(learners(0.1).iloc[1:])
    assert gap.status == "not_run"
    assert "there are 8 pairs of 3 and 3" in gap.text
    units, nuisance = study(1.0)
    assert report_of("learner_range", units, nuisance, learners=learners(0.1)).status == "pass"
