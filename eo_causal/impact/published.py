"""Numbers of a publication beside those of a run, each with its difference."""

import pandas as pd
from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.impact.check import CheckResult
from eo_causal.impact.counterfactual import ImpactResult
from eo_causal.impact.optics import DepthResult


class PublishedSettings(Settings):
    """What a publication reports for the same study, in report units (``report.display_scale``)."""

    source: str = Field(description="where the numbers stand, for example an arXiv id")
    average: float | None = None
    relative: float | None = Field(default=None, description="a fraction")
    p_value: float | None = None
    cumulative: float | None = None
    euphotic_depth_change: float | None = Field(default=None, description="m")
    placebos_larger: int | None = Field(
        default=None, description="placebo dates with a larger effect"
    )


def compare_with_publication(
    impact: ImpactResult,
    checks: tuple[CheckResult, ...],
    depth: DepthResult,
    published: PublishedSettings,
    scale: float,
    units: str,
) -> pd.DataFrame:
    """One row per published number.

    Parameters
    ----------
    scale, units : float, str
        Display scale of the outcome and the units it leads to.

    Returns
    -------
    DataFrame
        quantity, units, published, here, difference.
    """
    placebo = next((check for check in checks if check.name == "placebo_in_time"), None)
    larger = None if placebo is None else placebo.summary.get("n_larger")
    rows = [
        ("average effect", units, published.average, impact.average.estimate * scale),
        ("relative effect", "1", published.relative, impact.relative.estimate),
        ("p-value", "1", published.p_value, impact.p_value),
        ("cumulative effect", units, published.cumulative, impact.cumulative.estimate * scale),
        ("euphotic depth change", "m", published.euphotic_depth_change, depth.change.estimate),
        ("placebos larger than the effect", "1", published.placebos_larger, larger),
    ]
    table = pd.DataFrame(rows, columns=["quantity", "units", "published", "here"])
    table = table.dropna(subset=["published", "here"]).reset_index(drop=True)
    numbers = table[["published", "here"]].astype(float)
    return table.assign(
        published=numbers["published"], here=numbers["here"],
        difference=numbers["here"] - numbers["published"],
    )  # fmt: skip
