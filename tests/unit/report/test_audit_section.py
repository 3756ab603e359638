"""The seven lines on a page and in results.json; what was not run is as loud as a warning."""

import jsonschema
import pandas as pd
import pytest

from eo_causal.audit.report import LINES, AuditReport, audit_block, not_run
from eo_causal.impact.check import CheckResult
from eo_causal.report.audit_section import (
    audit_results,
    audit_table_block,
    branded,
    registration_callouts,
)
from eo_causal.report.html import Page, Section, render
from eo_causal.report.impact_audit import impact_audits
from eo_causal.report.results import read_schema

NOTHING = pd.DataFrame()
BLOCK = audit_block(
    {
        "leakage": (AuditReport("dates", "fail", "<b>Late</b> images.", NOTHING, ("late", "bad")),),
        "placebo": (AuditReport("space", "pass", "Rank 1.", NOTHING),),
    }
)
CHANGED = AuditReport(
    "registration", "warn", "Changed since: alpha.", pd.DataFrame({"key": ["alpha", "question"]}),
    ("post_registration_change",),
)  # fmt: skip


def test_all_seven_lines_are_shown_with_their_status_escaped():
    page = Page("t", "q", ["a"], [], [Section("Audit", [audit_table_block(BLOCK)])], "f")
    text = render(page)
    assert text.count("<tr class=") == len(LINES)
    assert '<tr class="fail"><td>leakage</td><td><span class="tag">fail</span>' in text
    assert text.count('<tr class="not_run">') == 5
    assert '<span class="tag">not run</span>' in text
    assert "&lt;b&gt;Late&lt;/b&gt; images." in text
    assert "late, bad" in text
    assert ".audit .warn .tag, .audit .not_run .tag {" in text


def test_results_hold_the_lines_as_the_schema_wants_them():
    found = audit_results(BLOCK)
    assert found[0] == {
        "line": "leakage", "status": "fail", "text": "<b>Late</b> images.", "flags": ["late", "bad"],
    }  # fmt: skip
    assert [item["line"] for item in found] == list(LINES)
    good = {"pipeline": "a", "mode": "default", "run_id": "0" * 12, "headline": ["x"]}
    jsonschema.validate(good | {"audit": found}, read_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good | {"audit": found[1:]}, read_schema())


def test_a_change_after_registration_stands_at_the_top_of_the_page():
    page = Page("t", "q", ["a"], [], [], "f", registration_callouts(CHANGED))
    text = render(page)
    assert "<b>Changed after registration</b>Changed since: alpha." in text
    assert text.index("Changed since") < text.index('<dl class="numbers">')
    assert registration_callouts(not_run("registration", "Not frozen.")) == []


def test_every_table_of_a_changed_design_names_the_keys_and_others_stay_as_they_are():
    table = pd.DataFrame({"effect": [1.0, 2.0]})
    found = branded(table, CHANGED)
    assert found["changed_after_registration"].tolist() == ["alpha, question"] * 2
    assert list(table) == ["effect"]
    assert branded(table, not_run("registration", "Not frozen.")) is table


def checked(**passed):
    return tuple(
        CheckResult(name, verdict, f"{name} said.", NOTHING, {}) for name, verdict in passed.items()
    )


def lines(checks=(), source="policy", controls=({"name": "far", "distance_km": 60.0},), buffer=20):
    specific = {"controls": list(controls), "exclusion_buffer_km": buffer}
    design = {"block": {"design_specific": specific}}
    found = audit_block(impact_audits(checks, source, design, CHANGED))
    return found.set_index("line")


def test_checks_of_an_impact_study_fill_the_lines_they_speak_to():
    found = lines(
        checked(placebo_in_time=True, placebo_in_space=None, scale_sensitivity=False,
                control_contamination=True)
    )  # fmt: skip
    assert found["status"].to_dict() == {
        "leakage": "pass", "spatial": "pass", "measurement_error": "not_run", "placebo": "pass",
        "sensitivity": "fail", "applicability": "not_run", "registration": "warn",
    }  # fmt: skip
    assert "far 60 km" in found.loc["spatial", "text"]


def test_placebos_and_geometry_that_are_missing_become_not_run_with_the_reason():
    found = lines(controls=({"name": "far"},))
    assert found.loc["placebo", "status"] == "not_run"
    assert "checks.placebo_in_time" in found.loc["placebo", "text"]
    assert found.loc["spatial", "status"] == "not_run"
    assert "No geometry" in found.loc["spatial", "text"]
    assert lines(buffer=0).loc["spatial", "status"] == "warn"


@pytest.mark.parametrize(
    ("searched", "status"), [({}, "warn"), ({"search_adjusted": True}, "warn"),
                             ({"search_adjusted": False}, "fail")],
)  # fmt: skip
def test_a_date_taken_from_the_outcome_is_leakage(searched, status):
    found = lines(checked(control_contamination=True, **searched), source="data")
    assert found.loc["leakage", "status"] == status
    assert found.loc["leakage", "flags"] == "date_from_outcome"
