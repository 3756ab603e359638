"""What each strategy must state besides, and what contradicts it."""

from typing import Literal

from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.run.design_blocks import (
    Date,
    DesignBlocks,
    Name,
    Strategy,
    Window,
    first_moment,
    last_moment,
    refuse,
)


class Rct(Settings):
    """A randomised trial."""

    p_treat: float = Field(gt=0, lt=1, description="probability of treatment by design")
    strata: tuple[str, ...] = Field(description="columns within which it was randomised; [] = none")
    cluster: str | None = Field(description="column that was randomised as a whole; null = units")

    def check(self, design: DesignBlocks) -> None:
        """Refuse a trial that was not randomised."""
        if design.treatment.assignment != "randomised":
            refuse(
                "treatment.assignment", design.treatment.assignment,
                "strategy rct needs a randomised treatment. Set strategy: conditional_exogeneity,"
                " or state that it was randomised.",
            )  # fmt: skip


class ConditionalExogeneity(Settings):
    """Adjustment for observed confounders, images among them."""

    overlap: Name = Field(description="rule for propensities near 0 and 1, for example clip 0.01")

    def check(self, design: DesignBlocks) -> None:
        """Refuse a design without confounders."""
        found = design.confounders
        if not found.tabular and found.imagery is None:
            refuse(
                "confounders", "empty",
                "strategy conditional_exogeneity adjusts for at least one. Name columns or imagery.",
            )  # fmt: skip


class Panel(Settings):
    """Repeated observations of units, some of which are untreated."""

    unit: Name
    time: Name
    comparison: Literal["never_treated", "not_yet"] = Field(
        description="which untreated unit-periods serve as comparison"
    )
    anticipation_periods: int = Field(ge=0)
    approach: Name

    def check(self, design: DesignBlocks) -> None:
        """Refuse one column in two roles."""
        if self.unit == self.time:
            refuse("design_specific.time", self.time, "it is the unit too. Name the period column.")


class PanelDml(Panel):
    """Panel double machine learning."""

    approach: Literal["fd_exact", "cre_general", "cre_normal", "wg_approx"]


class ControlUnit(Settings):
    """A control series and how far it lies from the treated place."""

    name: Name
    distance_km: float | None = Field(default=None, ge=0, description="null = not known")


class Bsts(Settings):
    """One series before and after a date, explained by control series."""

    intervention_date: Date
    pre: Window
    post: Window
    controls: tuple[ControlUnit, ...]
    exclusion_buffer_km: float = Field(ge=0)
    placebo_units: tuple[str, ...]

    def check(self, design: DesignBlocks) -> None:
        """Refuse overlapping periods and controls the intervention may have reached."""
        start = first_moment(self.intervention_date)
        if self.pre[1] is None or last_moment(self.pre[1]) >= start:
            refuse(
                "design_specific.pre", self.pre,
                f"it must end before the intervention ({self.intervention_date}). Shorten it.",
            )  # fmt: skip
        if self.post[0] is None or first_moment(self.post[0]) <= last_moment(self.pre[1]):
            refuse(
                "design_specific.post", self.post,
                f"it overlaps pre, which ends {self.pre[1]}. Begin it later.",
            )  # fmt: skip
        for control in self.controls:
            if control.distance_km is not None and control.distance_km < self.exclusion_buffer_km:
                refuse(
                    "design_specific.controls", control.name,
                    f"it lies {control.distance_km:g} km away, inside the buffer of"
                    f" {self.exclusion_buffer_km:g} km. Drop it, or shrink exclusion_buffer_km.",
                )  # fmt: skip


class Rdd(Settings):
    """Regression discontinuity."""

    running: Name
    cutoff: float
    bandwidth: float = Field(gt=0)
    kernel: Literal["triangular", "uniform", "epanechnikov"]

    def check(self, design: DesignBlocks) -> None:
        """Refuse the running variable as an outcome."""
        if self.running == design.outcome.name:
            refuse(
                "design_specific.running", self.running, "it is the outcome. Name another column."
            )


class Iv(Settings):
    """An instrument."""

    instrument: Name
    monotonicity: Literal["increasing", "decreasing"] = Field(
        description="the direction in which the instrument moves everybody's treatment"
    )

    def check(self, design: DesignBlocks) -> None:
        """Refuse an instrument that is adjusted for."""
        if self.instrument in design.confounders.tabular:
            refuse(
                "design_specific.instrument", self.instrument,
                "it is among confounders.tabular too. Keep it in one place.",
            )  # fmt: skip


Specific = Rct | ConditionalExogeneity | PanelDml | Panel | Bsts | Rdd | Iv

SPECIFIC: dict[Strategy, type[Specific]] = {
    "rct": Rct, "conditional_exogeneity": ConditionalExogeneity, "did": Panel, "bsts": Bsts,
    "rdd": Rdd, "iv": Iv, "panel_dml": PanelDml,
}  # fmt: skip
