"""The impact stages of a study: default (Bayesian) or paper (published) mode."""

from typing import Literal

import xarray as xr

from eo_causal.impact.check import CheckResult
from eo_causal.impact.checks import CheckSettings, run_checks
from eo_causal.impact.counterfactual import ImpactResult
from eo_causal.impact.fit import fit_impact
from eo_causal.impact.model import ImpactSettings
from eo_causal.impact.unobserved_components import fit_paper, paper_checks
from eo_causal.impact.zones import RoleSettings, zone_controls, zone_outcome

Mode = Literal["default", "paper"]


def estimate_zone_impact(
    zones: xr.Dataset,
    roles: RoleSettings,
    settings: ImpactSettings,
    mode: Mode,
    *,
    seed: int,
) -> ImpactResult:
    """Effect of the intervention on the impact zone, the headline of a study.

    Parameters
    ----------
    zones : Dataset
        ``kd490 (zone, time)`` in m-1 and the covariates.
    roles, settings
        Which zones, which model.
    mode : {"default", "paper"}
        ``paper`` fits the published maximum-likelihood model (arXiv 2603.07331) instead.
    seed : int
        Seed of the run.
    """
    outcome = zone_outcome(zones, roles.impact)
    controls = zone_controls(zones, roles, settings.covariates)
    if mode == "paper":
        return fit_paper(outcome, controls, settings, seed=seed)
    return fit_impact(outcome, controls, settings, seed=seed)


def check_zone_impact(
    zones: xr.Dataset,
    impact: ImpactResult,
    roles: RoleSettings,
    settings: ImpactSettings,
    checks: CheckSettings,
    mode: Mode,
    *,
    seed: int,
) -> tuple[CheckResult, ...]:
    """The checks beside the headline; paper mode runs the published ones."""
    if mode == "default":
        return run_checks(zones, roles, settings, checks, seed=seed)
    outcome = zone_outcome(zones, roles.impact)
    controls = zone_controls(zones, roles, settings.covariates)
    return paper_checks(outcome, controls, impact, checks, seed=seed)
