"""What the settings of a study with images say of its design."""

from typing import Any

from eo_causal.run.design import Design


def image_design(config: Any, name: str, sensitivity: list[str]) -> Design:
    """The design of a config with ``units``, ``study``, ``data``, ``chips``, ``encoders``, ``folds``,
    ``estimate``, ``audit`` and ``report``.

    Parameters
    ----------
    config : CausalConfig
        Its settings that compute.
    name : str
        The design's id where none is typed.
    sensitivity : list of str
        What is asked of the estimate.

    Raises
    ------
    DesignError
        The settings contradict one another.
    """
    study, estimate, audit = config.study, config.estimate, config.audit
    cluster = study.cluster or config.units.image_key
    specific: dict[str, Any] = {"overlap": f"clip {estimate.clip:g}"}
    if config.design.strategy == "rct":
        specific = {"strata": [], "cluster": cluster}
        if estimate.design_probability is not None:
            specific["p_treat"] = estimate.design_probability
    return config.design.complete(name, config.question, {
        "units": {"geometry": "point", "id": config.units.unit_id or "row", "crs": "EPSG:4326"},
        "treatment": {
            "name": study.treatment, "column": study.treatment,
            "start_date": audit.treatment_start, "announcement_date": audit.announcement_date,
            "assignment": "randomised" if estimate.randomised else "observed",
            "cluster": cluster,
        },
        "outcome": {"name": study.outcome, "source": "survey", "units": config.report.units,
                    "support": config.outcome_support},
        "confounders": {
            "tabular": [c for c in study.covariates if c not in study.exclude],
            "imagery": {
                "bands": config.chips.bands, "window": config.data.window,
                "encoder": ", ".join(config.encoders),
                "must_precede_treatment": not audit.allow_leakage,
            },
        },
        "inference": {
            "se": None if estimate.std_error == "auto" else estimate.std_error,
            "cutoff_km": estimate.cutoff_km, "folds": config.folds.kind,
            "block_km": config.folds.block_km, "alpha": round(1 - estimate.level, 6),
        },
        "sensitivity": sensitivity,
        "placebos": ["negative_outcome"] if audit.negative_outcomes else [],
        "design_specific": specific,
    })  # fmt: skip
