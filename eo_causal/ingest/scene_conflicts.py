"""What rows of a catalog say of each other: two of one scene, two of one band, a band too few."""

import itertools
import math

import pandas as pd

from eo_causal.errors import DataError, IntegrityError
from eo_causal.ingest.scene_table import SceneRow

SECOND = 10**9
SAME_TIME = pd.Timedelta(seconds=1)
SAME_PLACE = 0.01


def mark_duplicate_items(rows: list[SceneRow]) -> list[SceneRow]:
    """Of two items of one scene (platform, time, footprint) only the newest processing stays."""
    items: dict[str, SceneRow] = {}
    for row in rows:
        if row.status == "ok" and row.platform and math.isfinite(row.footprint[0]):
            items.setdefault(row.source, row)
    newest = sorted(
        items.values(), key=lambda row: (row.baseline or "", row.processed), reverse=True
    )
    kept: dict[tuple[str | None, int], list[SceneRow]] = {}
    replaced: dict[str, str] = {}
    for row in newest:
        second = row.datetime.value // SECOND
        near = itertools.chain.from_iterable(
            kept.get((row.platform, second + shift), []) for shift in (-1, 0, 1)
        )
        same = next((other for other in near if _same_scene(row, other)), None)
        if same is None:
            kept.setdefault((row.platform, second), []).append(row)
        else:
            replaced[row.source] = f"the same scene as {same.source}, which is kept"
    return [
        row.without("duplicate", replaced[row.source])
        if row.status == "ok" and row.source in replaced
        else row
        for row in rows
    ]


def _same_scene(row: SceneRow, other: SceneRow) -> bool:
    near = all(
        abs(one - two) <= SAME_PLACE
        for one, two in zip(row.footprint, other.footprint, strict=True)
    )
    return near and abs(row.datetime - other.datetime) <= SAME_TIME


def mark_duplicate_bands(rows: list[SceneRow]) -> list[SceneRow]:
    """The first of several files of one scene and band stays; another content is an error."""
    first: dict[tuple[str, str | None], SceneRow] = {}
    result = []
    for row in rows:
        known = first.setdefault((row.item_id, row.band), row) if row.status == "ok" else row
        if known is row:
            result.append(row)
        elif known.href == row.href or (known.sha256 and known.sha256 == row.sha256):
            result.append(row.without("duplicate", f"the same as {known.href}"))
        else:
            error = IntegrityError(
                f"{row.href}: scene {row.item_id}, band {row.band} is also in {known.href}, with other"
                " content. Keep one, or let `item` of the pattern tell them apart.", path=row.href,
            )  # fmt: skip
            result.append(row.failed(error))
    return result


def missing_bands(
    rows: list[SceneRow], needed: tuple[str, ...], quality_band: str | None
) -> list[SceneRow]:
    """A row for each needed band that a used scene has no row of."""
    scenes: dict[str, SceneRow] = {}
    for row in rows:
        if row.status == "ok":
            scenes.setdefault(row.item_id, row)
    present = {(row.item_id, row.band) for row in rows}
    absent = [
        (row, band) for row in scenes.values() for band in needed
        if (row.item_id, band) not in present
    ]  # fmt: skip
    return [
        SceneRow(
            row.item_id, "", row.datetime, row.datetime_end, row.product, row.platform, band=band,
            role="quality" if band == quality_band else "data",
        ).failed(DataError(f"{row.item_id}: has no band {band}. Choose others in bands."), "missing")
        for row, band in absent
    ]  # fmt: skip
