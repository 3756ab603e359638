"""Sections every report ends with: what was warned of, what each stage did, what ran."""

from typing import Any

import pandas as pd

from eo_causal.report.html import Block, Callout, Code, Paragraph, Section, Table


def warning_blocks(warnings: list[dict[str, str]]) -> list[Block]:
    """One callout a warning of the run."""
    return [
        Callout("warning", f"{item['code']} ({item['stage']})", item["message"])
        for item in warnings
    ]


def ledger_block(ledger: pd.DataFrame) -> Block:
    """What every stage read, used, skipped and failed."""
    return Table(ledger, "Counts of every stage")


def run_sections(provenance: dict[str, Any], config_text: str) -> list[Section]:
    """The resolved config, and what ran on which inputs."""
    versions = pd.DataFrame(provenance["versions"].items(), columns=["library", "version"])
    inputs = pd.DataFrame(provenance["inputs"].items(), columns=["input", "sha256"])
    text = f"Run {provenance['run_id']}, mode {provenance['mode']}, seed {provenance['seed']}."
    blocks: list[Block] = [Paragraph(text), Table(inputs, "Inputs"), Table(versions, "Versions")]
    return [Section("Settings", [Code(config_text)]), Section("Versions and inputs", blocks)]
