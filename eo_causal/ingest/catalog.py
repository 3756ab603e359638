"""The catalog: which files hold which scenes, found by name or from STAC items, only headers read.

Nothing is skipped in silence: a file that is not used is a row with a status and a reason.
"""

import fnmatch
import functools
import glob
import math
import re
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, field_validator, model_validator

from eo_causal.core.progress import count, track
from eo_causal.core.settings import Bounds, Period, Settings
from eo_causal.core.sources import InputFiles, SourcePolicy, default_policy, without_secrets
from eo_causal.errors import (
    ConfigError,
    DataError,
    EOCausalError,
    ReadError,
    TimeAxisError,
)
from eo_causal.ingest.archive import is_archive, unpacked
from eo_causal.ingest.datasets import dataset_path, find_dataset
from eo_causal.ingest.image_files import ReadSettings
from eo_causal.ingest.image_header import ImageHeader, read_image_header
from eo_causal.ingest.products import PRODUCTS, find_product
from eo_causal.ingest.read import verify_sidecar
from eo_causal.ingest.scene_checks import check_failed, days_from_period, nothing_usable
from eo_causal.ingest.scene_conflicts import (
    mark_duplicate_bands,
    mark_duplicate_items,
    missing_bands,
)
from eo_causal.ingest.scene_dates import SPANS, parse_date, parse_dates
from eo_causal.ingest.scene_table import SceneRow, degree_bounds, gap_degrees, scene_table
from eo_causal.ingest.stac import local_files, read_items
from eo_causal.ingest.stac_item import check_multihash

ITEM_FILES = (".json", ".geojson")


class CatalogSettings(Settings):
    """Which files are scenes, and which of them are used."""

    kind: Literal["files", "stac"] = "files"
    dataset: str | None = Field(default=None, description="named data set; files are taken from it")
    files: tuple[str, ...] = Field(
        min_length=1,
        description="paths or patterns (** = all folders below) of images, tar archives or STAC files",
    )
    pattern: str | None = Field(
        default=None,
        description="regular expression of a whole file name; groups date, date_end, item, band",
    )
    date_format: str = Field(
        default="%Y%m%d",
        description="of group date: strptime codes, SYYYYDDDYYYYDDD or YYYYMMDD_YYYYMMDD",
    )
    date: str | None = Field(
        default=None, pattern=r"^\d{4}-\d\d-\d\d$", description="of files whose name holds none"
    )
    band_names: tuple[str, ...] = Field(
        default=(), description="names of a multi-band file's bands, in its order"
    )
    bands: tuple[str, ...] = Field(
        default=(),
        description="bands to use, all by default; names them too where a file has as many",
    )
    quality_band: str | None = Field(default=None, description="band that says what is usable")
    product: str | None = Field(default=None, description="what the numbers mean")
    baseline: str | None = Field(
        default=None, description="Sentinel-2 processing baseline where the item says none"
    )
    offset_applied: bool | None = Field(
        default=None,
        description="whether the Sentinel-2 offset was added, where the item is silent",
    )
    period: Period | None = Field(default=None, description="months, both included")
    bounds: Bounds | None = Field(default=None, description="area to read")
    max_cloud: float | None = Field(
        default=None, ge=0, le=100, description="percent; scenes that do not say it pass"
    )
    max_failed: float = Field(
        default=0.0, ge=0, le=1, description="share of wanted bands that may be unusable"
    )
    read: ReadSettings = ReadSettings()

    @field_validator("product")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in PRODUCTS:
            raise ValueError(f"{value!r} is not known; known: {', '.join(PRODUCTS)}")
        return value

    @model_validator(mode="after")
    def _names_can_be_read(self) -> "CatalogSettings":
        groups = _groups(self.pattern)
        if self.kind == "stac" and self.pattern is not None:
            raise ValueError(
                "`pattern` reads names of files; STAC items say their dates themselves"
            )
        if self.kind == "files" and "date" not in groups and not self.date and self.period:
            raise ValueError("`period` needs dates: give `pattern` a group `date`, or `date`")
        if self.date:
            datetime.fromisoformat(self.date)
        if "band" in groups and "item" not in groups:
            raise ValueError(
                "`pattern` has a group `band`; it needs a group `item` that joins bands"
            )
        if self.date_format not in SPANS and "%Y" not in self.date_format:
            raise ValueError(f"date_format {self.date_format!r} holds no year, for example %Y%m%d")
        return self

    def below(self, folder: Path) -> "CatalogSettings":
        """The same with its patterns counted from a folder."""
        return self.model_copy(update={"files": tuple(str(folder / name) for name in self.files)})

    @property
    def needed(self) -> tuple[str, ...]:
        """Bands that every scene must have."""
        extra = (self.quality_band,) if self.quality_band else ()
        return tuple(dict.fromkeys((*self.bands, *extra)))

    @property
    def wanted(self) -> tuple[str, ...]:
        """Bands that are used; none = whatever a scene has."""
        return self.needed if self.bands else ()


def _groups(pattern: str | None) -> set[str]:
    try:
        groups = set(re.compile(pattern or "").groupindex)
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression ({error})") from error
    unknown = groups - {"date", "date_end", "item", "band"}
    if unknown:
        raise ValueError(
            f"pattern has groups {', '.join(sorted(unknown))}; known: date, date_end, item, band"
        )
    return groups


def catalog_paths(settings: CatalogSettings, *, policy: SourcePolicy | None = None) -> list[Path]:
    """The files a catalog depends on, sorted by name; for STAC its assets on disk too.

    Raises
    ------
    ConfigError
        A pattern matches nothing.
    DataError
        The data set is not on this computer.
    """
    found = {path: None for pattern in settings.files for path in _matches(pattern, settings)}
    paths = sorted(found, key=lambda path: (path.name, str(path)))
    if settings.kind == "files":
        return paths
    checked = local_files(paths, policy or default_policy())
    return sorted(checked, key=lambda path: (path.name, str(path)))


def _matches(pattern: str, settings: CatalogSettings) -> list[Path]:
    if settings.dataset is not None:
        names = fnmatch.filter(find_dataset(settings.dataset).files, pattern)
        found = [dataset_path(settings.dataset, name) for name in names]
        place = f"data set {settings.dataset}"
    else:
        found = [path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file()]
        place = f"files below {Path.cwd()}"
    if not found:
        raise ConfigError(
            f"data.files: {pattern!r} matches none of the {place}. Correct it.", pattern=pattern
        )
    return found


def read_catalog(
    files: InputFiles, settings: CatalogSettings, *, policy: SourcePolicy | None = None
) -> pd.DataFrame:
    """Describe scenes: one row per file and band, with grid, date, product, status and reason.

    Parameters
    ----------
    files : InputFiles
        Of :func:`catalog_paths`.
    settings : CatalogSettings
    policy : SourcePolicy, optional
        What may be opened; the usual folders and no host by default.

    Returns
    -------
    DataFrame
        Columns of :class:`eo_causal.ingest.scene_table.SceneRow`, sorted by file name.

    Raises
    ------
    DataError, SecurityError
        More than ``max_failed`` of the wanted bands cannot be used; of the class of the first one.
    CoverageError
        No usable scene; says why and what is nearest.
    """
    policy = policy or default_policy()
    policy = replace(policy, resolver=functools.cache(policy.resolver))
    hashes = dict(zip(files.paths, files.sha256, strict=True))
    found = (_item_rows if settings.kind == "stac" else _named_rows)(hashes, settings, policy)
    rows = [
        row
        for first in track(found, "reading headers", total=len(found))
        for row in _described(_filtered(first, settings), settings, policy, hashes)
    ]
    rows = mark_duplicate_items(rows)
    rows = mark_duplicate_bands(rows)
    rows += missing_bands(rows, settings.needed, settings.quality_band)
    _count(rows, settings)
    check_failed(rows, settings.max_failed)
    if not any(row.status == "ok" for row in rows):
        raise nothing_usable(rows, settings.period, settings.bounds)
    return scene_table(rows)


def _item_rows(
    hashes: dict[str, str], settings: CatalogSettings, policy: SourcePolicy
) -> list[SceneRow]:
    items = [Path(name) for name in hashes if name.lower().endswith(ITEM_FILES)]
    return [
        replace(
            row,
            product=settings.product or row.product,
            baseline=row.baseline or settings.baseline,
            offset_applied=settings.offset_applied
            if row.offset_applied is None
            else row.offset_applied,
            role=_role(row.band, settings),
        )
        for row in read_items(items, policy, settings.needed)
    ]


def _named_rows(
    hashes: dict[str, str], settings: CatalogSettings, policy: SourcePolicy
) -> list[SceneRow]:
    """One row per file, what its name says; archives are unpacked and their files' hashes added."""
    rows = []
    for name in list(hashes):
        try:
            path = Path(str(policy.check(name)))
            members = unpacked(path, hashes[name]) if is_archive(path) else {path: hashes[name]}
        except EOCausalError as error:
            rows.append(SceneRow(Path(name).stem, name).failed(error))
            continue
        hashes |= {str(member): digest for member, digest in members.items()}
        rows += [_named_row(member, settings) for member in members]
    return sorted(rows, key=lambda row: (Path(row.href).name, row.href))


def _named_row(path: Path, settings: CatalogSettings) -> SceneRow:
    """What the name of a file says."""
    blank = SceneRow(
        path.stem, str(path), product=settings.product, baseline=settings.baseline,
        offset_applied=settings.offset_applied, source=str(path),
        datetime=parse_date(path, settings.date, "%Y-%m-%d") if settings.date else pd.NaT,
    )  # fmt: skip
    if settings.pattern is None:
        return blank
    match = re.fullmatch(settings.pattern, path.name)
    if match is None:
        return blank.without("refused", "the name does not match the pattern")
    parts = match.groupdict()
    row = replace(
        blank, item_id=parts.get("item") or path.stem, band=parts.get("band"),
        role=_role(parts.get("band"), settings),
    )  # fmt: skip
    if not parts.get("date"):
        undated = settings.period is not None and pd.isna(row.datetime)
        return row.failed(TimeAxisError(f"{path}: its name holds no date.")) if undated else row
    try:
        start, end = parse_dates(path, parts["date"], parts.get("date_end"), settings.date_format)
    except TimeAxisError as error:
        return row.failed(error)
    return replace(row, datetime=start, datetime_end=end)


def _role(band: str | None, settings: CatalogSettings) -> Literal["data", "quality"]:
    return "quality" if band is not None and band == settings.quality_band else "data"


def _filtered(row: SceneRow, settings: CatalogSettings) -> SceneRow:
    """The row, or why it is outside what was asked for; what is not known yet passes."""
    if row.status != "ok":
        return row
    reason = _outside(row, settings)
    return row.without("outside", reason) if reason else row


def _outside(row: SceneRow, settings: CatalogSettings) -> str:
    """Why a row is outside what was asked for; empty where it is not, or where it is not known."""
    days = days_from_period(row, settings.period)
    if days:
        return "before the period" if days < 0 else "after the period"
    if settings.bounds is not None and gap_degrees(row.bounds, settings.bounds) > 0:
        return "outside the bounds"
    if settings.max_cloud is not None and row.cloud_cover > settings.max_cloud:
        return "cloud above max_cloud"
    if row.band is not None and not _is_wanted(row, settings.wanted):
        return "band not asked for"
    return ""


def _is_wanted(row: SceneRow, wanted: tuple[str, ...]) -> bool:
    """Whether a band, or one of a file whose bands are not known yet, was asked for."""
    if not wanted or row.band in wanted:
        return True
    return row.band_index is None and any(name.startswith(f"{row.band}.") for name in wanted)


def _described(
    row: SceneRow, settings: CatalogSettings, policy: SourcePolicy, hashes: dict[str, str]
) -> list[SceneRow]:
    """One row per band, with what the file's header says; filtered again by what is known now."""
    shown = replace(row, href=without_secrets(row.href))
    if row.status != "ok":
        return [shown]
    try:
        checked = policy.check(row.href)
        if isinstance(checked, str):
            rows = [shown]
        else:
            rows = _header_rows(replace(row, href=str(checked)), checked, settings, hashes)
        filtered = [_filtered(one, settings) for one in rows]
        return [_valued(one) if one.status == "ok" else one for one in filtered]
    except EOCausalError as error:
        return [shown.failed(error)]


def _header_rows(
    row: SceneRow, path: Path, settings: CatalogSettings, hashes: dict[str, str]
) -> list[SceneRow]:
    if not path.exists():
        error = ReadError(f"{path}: does not exist. Fetch it, or leave it out.", path=str(path))
        return [row.failed(error, "missing")]
    sha256 = hashes.get(str(path)) or None
    verify_sidecar(path)
    if row.checksum:
        sha256 = check_multihash(path, row.checksum, sha256)
    status = path.stat()
    header = _header(path, (status.st_mtime_ns, status.st_size), settings.read)
    rows, columns = header.shape
    row = replace(
        row, crs=header.crs, transform=header.transform, rows=rows, columns=columns, reason="",
        bytes=status.st_size, sha256=sha256,
    ).placed(degree_bounds(header.crs, header.bounds, str(path)))  # fmt: skip
    return [
        _tagged(replace(row, band=name, band_index=number, role=_role(name, settings)), header)
        for name, number in _bands(row, header, settings).items()
    ]


@functools.lru_cache(maxsize=4096)
def _header(path: Path, stamp: tuple[int, int], settings: ReadSettings) -> ImageHeader:
    """The header of a file as it is now: another stamp, another header."""
    return read_image_header(path, settings)


def _bands(row: SceneRow, header: ImageHeader, settings: CatalogSettings) -> dict[str, int]:
    """Name -> number of the bands a row stands for."""
    numbers = header.bands
    if row.band is not None and row.band_index is not None:
        if row.band_index not in numbers:
            raise DataError(f"{header.path}: has {len(numbers)} bands, the item says more.")
        return {row.band: row.band_index}
    if row.band is not None:
        single = len(numbers) == 1
        return {row.band if single else f"{row.band}.{number}": number for number in numbers}
    described = tuple(text or "" for text in header.descriptions[: len(numbers)])
    usable = len(set(described)) == len(described) and all(described)
    if settings.band_names:
        names = settings.band_names
    elif usable and (not settings.wanted or set(settings.wanted) <= set(described)):
        names = described
    else:
        names = settings.wanted or tuple(str(number) for number in numbers)
    if len(names) != len(numbers) or len(set(names)) != len(names):
        raise DataError(
            f"{header.path}: has {len(numbers)} bands, the config names {', '.join(names)}. Name each"
            " band once, in the file's order, in band_names.", path=str(header.path),
        )  # fmt: skip
    return dict(zip(names, numbers, strict=True))


def _tagged(row: SceneRow, header: ImageHeader) -> SceneRow:
    """The row with its band's own nodata, scale and offset, where the file declares any."""
    position = (row.band_index or 1) - 1
    nodata = header.nodata[position]
    scale, offset = header.scales[position], header.offsets[position]
    if nodata is not None:
        row = replace(row, nodata=nodata)
    return replace(row, scale=scale, offset=offset) if (scale, offset) != (1.0, 0.0) else row


def _valued(row: SceneRow) -> SceneRow:
    """The row with the scale and offset that its product prescribes."""
    if row.role == "quality":
        return replace(row, product=row.product or "generic", scale=1.0, offset=0.0)
    product = find_product(
        row.product or "generic", baseline=row.baseline, offset_applied=row.offset_applied
    )
    tags = (row.scale, row.offset)
    scale, offset = (
        given if given is not None else tag if math.isfinite(tag) else default
        for given, tag, default in zip(
            (product.scale, product.offset), tags, (1.0, 0.0), strict=True
        )
    )
    return replace(row, product=product.name, scale=scale, offset=offset)


def _count(rows: list[SceneRow], settings: CatalogSettings) -> None:
    used = [row for row in rows if row.status == "ok"]
    count(scenes_used=len({row.item_id for row in used}), bands_used=len(used))
    if settings.max_cloud is not None:
        count(cloud_cover_unknown=sum(math.isnan(row.cloud_cover) for row in used))
    for status, number in Counter(row.status for row in rows if row.status != "ok").items():
        count(**{f"bands_{status}": number})
