"""The form every audit answers in, and the block of seven lines that stands beside every estimate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

Status = Literal["pass", "warn", "fail", "not_run"]
LINES = (
    "leakage", "spatial", "measurement_error", "placebo", "sensitivity", "applicability",
    "registration",
)  # fmt: skip


@dataclass(frozen=True)
class AuditReport:
    """One audit.

    Attributes
    ----------
    name : str
        Stable name.
    status : str
        ``pass``, ``warn``, ``fail``, or ``not_run``; then ``text`` is the reason.
    text : str
        One or two sentences with the numbers.
    table : DataFrame
        One row a check.
    flags : tuple of str
        Machine-readable, for example ``leak_gap``.
    """

    name: str
    status: Status
    text: str
    table: pd.DataFrame
    flags: tuple[str, ...] = ()


def not_run(name: str, reason: str) -> AuditReport:
    """An audit that could not be made, and why; printed as loudly as a warning."""
    return AuditReport(name, "not_run", reason, pd.DataFrame())


def audit_block(found: Mapping[str, tuple[AuditReport, ...]]) -> pd.DataFrame:
    """Seven lines: the worst status of the audits of each, with their sentences.

    Parameters
    ----------
    found : mapping
        Line -> its audits. A line without any is ``not_run``.

    Returns
    -------
    DataFrame
        line, status, text, flags (comma separated); one row a line, in the order of ``LINES``.
    """
    order: tuple[Status, ...] = ("fail", "warn", "pass", "not_run")
    rows = []
    for line in LINES:
        audits = found.get(line, ()) or (not_run(line, "this pipeline has no such audit yet"),)
        status = next(s for s in order if any(audit.status == s for audit in audits))
        flags = [flag for audit in audits for flag in audit.flags]
        text = " ".join(audit.text for audit in audits)
        rows.append({"line": line, "status": status, "text": text, "flags": ", ".join(flags)})
    return pd.DataFrame(rows)
