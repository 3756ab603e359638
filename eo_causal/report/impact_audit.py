"""The audit block of an impact study, from what its checks and its design already say."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from eo_causal.audit.report import AuditReport, Status, not_run
from eo_causal.impact.check import CheckResult

_STATUS: dict[bool | None, Status] = {True: "pass", False: "fail", None: "not_run"}
_ERROR = (
    "The error of the satellite product is not known per month, so it is in the interval"
    " only as far as it looks like noise from month to month."
)
_PLACES = (
    "The effect is claimed for the one zone that was studied; nothing is carried to other places."
)


def impact_audits(
    checks: tuple[CheckResult, ...],
    intervention_source: str,
    design: Mapping[str, Any],
    registration: AuditReport,
) -> dict[str, tuple[AuditReport, ...]]:
    """Line of the audit block -> its audits.

    Parameters
    ----------
    checks : tuple of CheckResult
        Checks that ran.
    intervention_source : str
        ``policy``, or ``data`` where the date was found in the outcome.
    design : mapping
        What results.json says about the design; its block holds distances and buffer.
    registration : AuditReport
        Whether the design is the frozen one.
    """
    by_name = {check.name: check for check in checks}

    def line(*names: str) -> tuple[AuditReport, ...]:
        return tuple(_of_check(name, by_name.get(name)) for name in names)

    return {
        "leakage": (
            _date(intervention_source, by_name.get("search_adjusted")),
            *line("control_contamination"),
        ),
        "spatial": (_control_distance(design["block"]["design_specific"]),),
        "measurement_error": (not_run("product_error", _ERROR),),
        "placebo": line("placebo_in_time", "placebo_in_space"),
        "sensitivity": line("leave_one_out", "prior_sensitivity", "scale_sensitivity"),
        "applicability": (not_run("other_places", _PLACES),),
        "registration": (registration,),
    }


def _of_check(name: str, check: CheckResult | None) -> AuditReport:
    title = name.replace("_", " ").capitalize()
    if check is None:
        return not_run(name, f"{title}: not run, because it is switched off (checks.{name}).")
    return AuditReport(name, _STATUS[check.passed], f"{title}: {check.text}", check.table)


def _date(source: str, searched: CheckResult | None) -> AuditReport:
    """A date found in the outcome leaks it into the design."""
    name = "date_from_outcome"
    if source == "policy":
        text = "The date of the intervention comes from outside the outcome."
        return AuditReport(name, "pass", text, pd.DataFrame())
    text = "The date was found in the outcome itself, which selects for a large effect."
    if searched is None:
        text += " Not corrected for: checks.search_adjusted is off."
        return AuditReport(name, "warn", text, pd.DataFrame(), (name,))
    status: Status = "fail" if searched.passed is False else "warn"
    return AuditReport(name, status, f"{text} {searched.text}", searched.table, (name,))


def _control_distance(specific: Mapping[str, Any]) -> AuditReport:
    """How far the controls lie; those inside a stated buffer never come here."""
    controls, buffer = specific["controls"], specific["exclusion_buffer_km"]
    unknown = [item["name"] for item in controls if "distance_km" not in item]
    if unknown:
        return not_run(
            "control_distance",
            f"No geometry, so it is not known how far {', '.join(unknown)} lies from the"
            " impact zone. Give `zones`.",
        )
    listed = ", ".join(f"{item['name']} {item['distance_km']:.0f} km" for item in controls)
    text = f"Distance of the controls from the impact zone: {listed}."
    if buffer == 0:
        text += " No exclusion buffer is stated (design.exclusion_buffer_km)."
        return AuditReport(
            "control_distance", "warn", text, pd.DataFrame(), ("no_exclusion_buffer",)
        )
    text += f" All lie outside the exclusion buffer of {buffer:g} km."
    return AuditReport("control_distance", "pass", text, pd.DataFrame())
