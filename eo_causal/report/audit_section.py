"""The audit block of a report: seven lines, of which those not run are as loud as warnings."""

from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from eo_causal.audit.report import AuditReport
from eo_causal.report.html import Block, Callout, Table


@dataclass(frozen=True)
class AuditTable(Table):
    """A table of line, status, text, flags, with coloured statuses."""

    @property
    def html(self) -> str:
        """Escaped markup."""
        rows = "".join(_row(*row) for row in _lines(self.table))
        return (
            '<div class="scroll audit"><table><thead><tr><th>audit</th><th>status</th><th>what was'
            f" found, or why it was not run</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )


def audit_table_block(block: pd.DataFrame) -> Block:
    """The block of :func:`~eo_causal.audit.report.audit_block` as a block of a page."""
    return AuditTable(block)


def audit_results(block: pd.DataFrame) -> list[dict[str, Any]]:
    """The block as results.json holds it: line, status, text, and a list of flags."""
    return [
        {"line": line, "status": status, "text": text, "flags": flags}
        for line, status, text, flags in _lines(block)
    ]


def registration_callouts(registration: AuditReport) -> list[Callout]:
    """What stands at the top of a page when the design changed after it was frozen."""
    if registration.status != "warn":
        return []
    return [Callout("warning", "Changed after registration", registration.text)]


def branded(table: pd.DataFrame, registration: AuditReport) -> pd.DataFrame:
    """A table with the keys that changed after the design was frozen as a column, if any did."""
    if registration.status != "warn":
        return table
    return table.assign(changed_after_registration=", ".join(registration.table["key"]))


def _lines(block: pd.DataFrame) -> list[tuple[str, str, str, list[str]]]:
    columns = block[["line", "status", "text", "flags"]].itertuples(index=False, name=None)
    return [
        (line, status, text, [flag for flag in flags.split(", ") if flag])
        for line, status, text, flags in columns
    ]


def _row(line: str, status: str, text: str, flags: list[str]) -> str:
    noted = f'<div class="note">{escape(", ".join(flags))}</div>' if flags else ""
    return (
        f'<tr class="{escape(status)}"><td>{escape(line.replace("_", " "))}</td>'
        f'<td><span class="tag">{escape(status.replace("_", " "))}</span></td>'
        f"<td>{escape(text)}{noted}</td></tr>"
    )
