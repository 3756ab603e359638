"""The report of a chips-and-embeddings run: results.json, tables, figures and one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import geopandas
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.report.embed_figures import principal, shown_bands, write_figures
from eo_causal.report.html import (
    Block,
    Callout,
    KeyNumber,
    Page,
    Paragraph,
    Picture,
    Section,
    Table,
    render,
)
from eo_causal.report.results import write_results
from eo_causal.report.run_sections import ledger_block, run_sections, warning_blocks
from eo_causal.report.tables import write_table

MAX_PAIRS = 100_000


class EmbedReportSettings(Settings):
    """How the report looks."""

    outcome: str | None = Field(
        default=None, description="numeric column of the units that colours the embeddings"
    )


class Chips(Protocol):
    """What the report needs of a set of chips (see :class:`eo_causal.ingest.chips.ChipSet`)."""

    chips: xr.DataArray
    files: pd.DataFrame
    failures: pd.DataFrame
    overlap: pd.DataFrame


@dataclass(frozen=True)
class EmbedStudy:
    """Everything the report is made of.

    Attributes
    ----------
    title, question : str
    chip_set : ChipSet
    catalog : DataFrame or None
        Scenes with status and reason; None for chips that came ready made.
    units : GeoDataFrame or None
    embeddings : dict of DataArray (unit, feature)
        Encoder -> features, in the order of the chips.
    outcome_name : str
        Column of the units that colours the embeddings; empty for none.
    truth : dict or None
        Of a simulated study.
    ledger, warnings, provenance, config_text
        As in every report.
    """

    title: str
    question: str
    chip_set: Any
    catalog: pd.DataFrame | None
    units: geopandas.GeoDataFrame | None
    embeddings: dict[str, xr.DataArray]
    outcome_name: str
    truth: dict[str, Any] | None
    ledger: pd.DataFrame
    warnings: list[dict[str, str]]
    provenance: dict[str, Any]
    config_text: str

    @property
    def outcome(self) -> NDArray[np.float64] | None:
        """Mean outcome of the units of each chip, in the order of the chips."""
        if self.units is None or not self.outcome_name:
            return None
        mean = self.units.groupby("image_key")[self.outcome_name].mean()
        return mean.reindex(self.chip_set.chips["image_key"].to_numpy().astype(str)).to_numpy()


def write_embed_report(study: EmbedStudy, settings: EmbedReportSettings, *, folder: Path) -> None:
    """Write every output below ``folder``; no coordinate of a place leaves the stage cache."""
    facts = chip_facts(study)
    encoders = encoder_table(study)
    answer = headline(study, facts, encoders)
    results = {
        "pipeline": study.provenance["pipeline"], "mode": study.provenance["mode"],
        "run_id": study.provenance["run_id"], "headline": answer, "chips": facts,
        "embeddings": {row["encoder"]: row for row in encoders.to_dict("records")},
        "truth": study.truth,
    }  # fmt: skip
    write_results(folder, results)
    tables = _tables(study, encoders)
    for name, table in tables.items():
        write_table(folder / "tables", name, table)
    for name, embedding in study.embeddings.items():
        write_table(folder / "tables", f"embedding_{name}", embedding_frame(embedding))
    pictures = write_figures(study, folder / "figures")
    page = Page(
        title=study.title, question=study.question, answer=answer,
        numbers=key_numbers(facts, encoders), sections=_sections(study, tables, pictures),
        footer=f"Run {study.provenance['run_id']}, eo_causal {study.provenance['versions']['eo_causal']}."
        " Every number on this page is also in results.json and the tables folder.",
    )  # fmt: skip
    (folder / "report.html").write_text(render(page), encoding="utf-8")


def chip_facts(study: EmbedStudy) -> dict[str, Any]:
    """Counts and shares of the chips, as JSON values."""
    chips = study.chip_set.chips
    used = np.isfinite(chips["fractional_year"].to_numpy())
    years = chips["fractional_year"].to_numpy()[used]
    valid = chips["valid_fraction"].to_numpy()[used]
    return {
        "n_chips": int(chips.sizes["unit"]), "n_slots": int(chips.sizes["time"]),
        "bands": list(map(str, chips["band"].to_numpy())),
        "size_pixels": int(chips.sizes["y"]), "n_images": int(used.sum()),
        "images_per_chip": float(used.sum(axis=1).mean()),
        "valid_fraction": float(valid.mean()) if len(valid) else 0.0,
        "first_year": float(years.min()) if len(years) else None,
        "last_year": float(years.max()) if len(years) else None,
        "n_overlapping_pairs": len(study.chip_set.overlap),
        "n_failed_reads": len(study.chip_set.failures),
    }  # fmt: skip


def encoder_table(study: EmbedStudy) -> pd.DataFrame:
    """One row an encoder: features, those that vary, share of the first two components."""
    rows = []
    for name, embedding in study.embeddings.items():
        features = embedding.to_numpy().astype(float)
        places, share = principal(embedding)
        row = {
            "encoder": name, "n_features": features.shape[1],
            "n_constant": int((features.std(axis=0) == 0).sum()),
            "share_of_first_two": float(share[:2].sum()),
        }  # fmt: skip
        if study.outcome is not None:
            row["correlation_with_outcome"] = _correlation(places[:, 0], study.outcome)
        rows.append(row)
    return pd.DataFrame(rows)


def _correlation(values: NDArray[np.float64], outcome: NDArray[np.float64]) -> float | None:
    """Of the first component; None where either does not vary."""
    known = np.isfinite(outcome)
    if known.sum() < 3 or values[known].std() == 0 or outcome[known].std() == 0:
        return None
    return float(np.corrcoef(values[known], outcome[known])[0, 1])


def embedding_frame(embedding: xr.DataArray) -> pd.DataFrame:
    """Features as a table, one row a chip, with its ids."""
    features = pd.DataFrame(
        embedding.to_numpy(), columns=list(map(str, embedding["feature"].to_numpy()))
    )
    ids = {name: embedding[name].to_numpy().astype(str) for name in ("unit_id", "image_key")}
    return pd.concat([pd.DataFrame(ids), features], axis=1)


def headline(study: EmbedStudy, facts: dict[str, Any], encoders: pd.DataFrame) -> list[str]:
    """What was made, in a few sentences."""
    first = (
        f"{facts['n_chips']:,} chips of {facts['size_pixels']} x {facts['size_pixels']} pixels and"
        f" {len(facts['bands'])} bands, with {facts['images_per_chip']:.1f} usable images each on average"
        f" ({facts['valid_fraction']:.0%} of their pixels valid)."
    )
    names = ", ".join(f"{row.encoder} ({row.n_features})" for row in encoders.itertuples())
    sentences = [first, f"Embeddings (features): {names}."]
    if facts["n_failed_reads"]:
        sentences.append(f"{facts['n_failed_reads']:,} reads failed and are listed below.")
    if facts["n_overlapping_pairs"]:
        sentences.append(
            f"{facts['n_overlapping_pairs']:,} pairs of chips share ground: folds must keep them together."
        )
    return sentences


def key_numbers(facts: dict[str, Any], encoders: pd.DataFrame) -> list[KeyNumber]:
    """The row of large numbers."""
    span = (
        ""
        if facts["first_year"] is None
        else f"{facts['first_year']:.1f} to {facts['last_year']:.1f}"
    )
    return [
        KeyNumber("chips", f"{facts['n_chips']:,}", f"{facts['n_slots']} slots of time"),
        KeyNumber("images a chip", f"{facts['images_per_chip']:.1f}", span),
        KeyNumber("valid pixels", f"{facts['valid_fraction']:.0%}", "of the images used"),
        KeyNumber("failed reads", f"{facts['n_failed_reads']:,}"),
        KeyNumber("encoders", f"{len(encoders)}", f"{int(encoders['n_features'].sum())} features"),
    ]


def _tables(study: EmbedStudy, encoders: pd.DataFrame) -> dict[str, pd.DataFrame]:
    chip_set = study.chip_set
    tables = {
        "encoders": encoders, "files": chip_set.files, "failures": chip_set.failures,
        "overlap": chip_set.overlap.head(MAX_PAIRS), "slots": slot_table(chip_set.chips),
    }  # fmt: skip
    if study.catalog is not None:
        tables["scenes"] = scene_status(study.catalog)
    return tables


def slot_table(chips: xr.DataArray) -> pd.DataFrame:
    """One row a slot: places seen, first and last date, mean valid share."""
    times = chips["datetime"].to_numpy()
    valid = chips["valid_fraction"].to_numpy()
    rows = []
    for slot in range(chips.sizes["time"]):
        seen = ~np.isnat(times[:, slot])
        dates = times[seen, slot]
        rows.append(
            {
                "slot": slot, "places": int(seen.sum()),
                "first": str(dates.min())[:10] if len(dates) else None,
                "last": str(dates.max())[:10] if len(dates) else None,
                "valid_share": float(valid[seen, slot].mean()) if len(dates) else np.nan,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def scene_status(catalog: pd.DataFrame) -> pd.DataFrame:
    """Scenes by status and reason, most frequent first."""
    named = catalog.assign(reason=catalog["reason"].fillna("").astype(str).str.slice(0, 120))
    grouped = named.groupby(["status", "reason"], as_index=False).agg(
        scenes=("item_id", "nunique"), bands=("item_id", "size")
    )
    return grouped.sort_values(["bands", "status"], ascending=[False, True], ignore_index=True)


def _sections(
    study: EmbedStudy, tables: dict[str, pd.DataFrame], pictures: dict[str, Path]
) -> list[Section]:
    _, colours = shown_bands(list(map(str, study.chip_set.chips["band"].to_numpy())))
    chips: list[Block] = [
        Picture(
            pictures["chips"],
            f"Some places (rows) through time (columns); red, green and blue show {colours}. Grey"
            " pixels are missing, white squares are empty slots.",
        )
    ]
    coverage: list[Block] = [
        Picture(
            pictures["coverage"], "How much of each used chip is valid, and when places were seen."
        )
    ]
    if "where" in pictures:
        coverage.append(
            Picture(
                pictures["where"],
                "Mean valid share by area. Cells with fewer than five places are left blank.",
            )
        )
    coverage.append(Table(tables["slots"], "Slots of the time axis"))
    return [
        Section("Chips", chips),
        Section("Embeddings", _embeddings(study, tables, pictures)),
        Section("Coverage", coverage),
        Section("Data: what was read, used and missing", _data(study, tables)),
        *run_sections(study.provenance, study.config_text),
    ]


def _embeddings(
    study: EmbedStudy, tables: dict[str, pd.DataFrame], pictures: dict[str, Path]
) -> list[Block]:
    blocks: list[Block] = [Table(tables["encoders"], "Encoders")]
    for name, embedding in study.embeddings.items():
        caption = f"{name}: the two main directions of {embedding.sizes['feature']} features"
        caption += f", coloured by {study.outcome_name}." if study.outcome is not None else "."
        blocks.append(Picture(pictures[f"embedding_{name}"], caption))
    if study.truth is not None:
        share = study.truth["share_of_variance_in_images"]
        blocks.append(
            Paragraph(
                f"Simulated data: the images can explain {share:.0%} of the variance of"
                f" {study.truth['outcome']}; the rest no image shows."
            )
        )
    return blocks


def _data(study: EmbedStudy, tables: dict[str, pd.DataFrame]) -> list[Block]:
    blocks = warning_blocks(study.warnings)
    failures = study.chip_set.failures
    if len(failures):
        blocks.append(Table(failures, "Reads that failed, after all retries"))
    else:
        blocks.append(Callout("pass", "Failed reads", "None: every file that was needed was read."))
    if "scenes" in tables:
        blocks.append(Table(tables["scenes"], "Scenes of the catalog by status"))
    blocks.append(
        Table(tables["files"], "Files read: windows, reads, bytes, pixels masked by cause")
    )
    blocks.append(ledger_block(study.ledger))
    return blocks
