"""One STAC item (1.0.0-beta.1 to 1.1) as rows of the scenes table.

Nothing is fetched here. What an item says is checked value by value: a wrong value refuses the item
or the asset, never the whole file.
"""

import functools
import hashlib
import itertools
import math
import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eo_causal.errors import (
    DataError,
    EOCausalError,
    GeorefError,
    IntegrityError,
    TimeAxisError,
)
from eo_causal.ingest.scene_table import NOWHERE, Degrees, SceneRow, degree_bounds, grid_bounds

VERSIONS = r"1\.[01](\.\d+)?(-[a-z]+\.\d+)?"
NO_BANDS = ("thumbnail", "overview")
PROCESSED = (
    "s2:generation_time", "processing:datetime", "odc:processing_datetime", "updated", "created",
)  # fmt: skip
REFLECTANCE = r"(SR_)?B\d+A?(\.TIF)?|coastal|blue|green|red|rededge\d?|nir(08|09)?|swir(16|22)"
PRODUCTS = (
    (r"sentinel-s?2-(c1-)?l2a", REFLECTANCE, "sentinel2_l2a"),
    (r"sentinel-s?2-(c1-)?l1c", REFLECTANCE, "sentinel2_l1c"),
    (r"landsat-c2-?l2", REFLECTANCE, "landsat_c2_l2"),
    (r"landsat-c2-?l2", r"lwir(11)?|ST_B\d+(\.TIF)?", "landsat_c2_l2_temperature"),
)
MULTIHASHES = {
    b"\x11\x14": "sha1", b"\x12\x20": "sha256", b"\x13\x40": "sha512", b"\x14\x40": "sha3_512",
    b"\x16\x20": "sha3_256", b"\xd5\x01\x10": "md5",
}  # fmt: skip


class StacItem(BaseModel):
    """The parts of an item that are used, by type."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    id: str = Field(pattern=r"^[^\x00-\x1f]+$")
    stac_version: str = Field(pattern=f"^{VERSIONS}$")
    properties: dict[str, Any]
    assets: dict[str, dict[str, Any]]
    bbox: list[float] | None = None
    collection: str | None = None


@dataclass(frozen=True)
class Document:
    """One item, or why there is none.

    Attributes
    ----------
    path : Path
        The file it is in.
    source : str
        File and position in it.
    content : dict
    failure : EOCausalError or None
    """

    path: Path
    source: str
    content: dict[str, Any]
    failure: EOCausalError | None = None


def resolved(href: str, folder: Path) -> str:
    """An href as a URL or a path, relative ones from the folder of the file that holds it."""
    return href if "://" in href else str(folder / href)


def check_multihash(path: Path, checksum: str, sha256: str | None) -> str | None:
    """Compare a file with a multihash; returns its SHA-256 where that is known.

    Parameters
    ----------
    checksum : str
        Hexadecimal multihash, as in ``file:checksum``.
    sha256 : str or None
        The file's SHA-256, where it was computed before.

    Raises
    ------
    DataError
        No multihash, or one of an unknown kind.
    IntegrityError
        The file differs.
    """
    algorithm, expected = parse_multihash(checksum)
    known = sha256 if algorithm == "sha256" else None
    if not known:
        with path.open("rb") as stream:
            known = hashlib.file_digest(stream, algorithm).hexdigest()
    if known != expected:
        raise IntegrityError(
            f"{path}: its {algorithm} is not {expected[:16]}... as the item says. Download it again.",
            path=str(path), expected=expected,
        )  # fmt: skip
    return known if algorithm == "sha256" else sha256


def parse_multihash(checksum: str) -> tuple[str, str]:
    """Algorithm and hexadecimal digest of a multihash.

    >>> parse_multihash("1220" + "ab" * 32)[0]
    'sha256'
    """
    try:
        raw = bytes.fromhex(checksum)
    except ValueError:
        raw = b""
    for prefix, algorithm in MULTIHASHES.items():
        if raw.startswith(prefix) and len(raw) == len(prefix) + prefix[-1]:
            return algorithm, raw[len(prefix) :].hex()
    raise DataError(
        f"file:checksum {checksum[:20]!r} is no multihash of a known kind"
        f" ({', '.join(MULTIHASHES.values())}). Correct the item.", checksum=checksum,
    )  # fmt: skip


def document_rows(document: Document, wanted: tuple[str, ...] = ()) -> list[SceneRow]:
    """Rows of all image assets of an item; one refused row where it cannot be read.

    Parameters
    ----------
    wanted : tuple of str
        Names of bands. An asset of another key whose only band has such a name or common name
        takes that name.
    """
    name = str(document.content.get("id") or document.path.stem)
    blank = SceneRow(name, str(document.path), source=document.source)
    if document.failure is not None:
        return [blank.failed(document.failure)]
    try:
        item = _item(document)
        base = _item_row(item, document)
        keys = [key for key, asset in item.assets.items() if _is_image(key, asset)]
        if not keys:
            raise DataError(f"{name}: holds no image asset (GeoTIFF or JPEG 2000).", item_id=name)
    except EOCausalError as error:
        return [blank.failed(error)]
    names = _band_names(item, keys, wanted)
    return [row for key in keys for row in _asset_rows(item, key, names[key], base, document.path)]


def _item(document: Document) -> StacItem:
    try:
        return StacItem.model_validate(document.content)
    except ValidationError as error:
        [first, *_] = error.errors()
        place = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{document.source}: {place} = {str(first['input'])[:40]!r} is not what STAC 1.0.0-beta.1"
            f" to 1.1 has there ({first['msg']}). Correct the item.", field=place,
        ) from error  # fmt: skip


def _item_row(item: StacItem, document: Document) -> SceneRow:
    """What the item says of all its assets."""
    facts = item.properties
    start, end = _times(item)
    footprint = _footprint(item)
    applied = facts.get("earthsearch:boa_offset_applied", facts.get("sentinel:boa_offset_applied"))
    row = SceneRow(
        item.id, "", start, end,
        platform=_text(facts.get("platform")) or _text(facts.get("eo:platform")),
        baseline=_baseline(item),
        offset_applied=applied if isinstance(applied, bool) else None,
        cloud_cover=_number(facts.get("eo:cloud_cover")),
        source=document.source, footprint=footprint,
        processed=next((str(facts[name]) for name in PROCESSED if facts.get(name)), ""),
    )  # fmt: skip
    return row.placed(footprint)


def _times(item: StacItem) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The item's date and NaT, or start and end where its date is null."""
    facts = item.properties
    if facts.get("datetime") is not None:
        return _time(item, "datetime"), pd.NaT
    start = _time(item, "start_datetime")
    end = _time(item, "end_datetime") if facts.get("end_datetime") else pd.NaT
    if end < start:
        raise TimeAxisError(f"{item.id}: ends ({end}) before it begins ({start}).", item_id=item.id)
    return start, end


def _time(item: StacItem, name: str) -> pd.Timestamp:
    text: Any = item.properties.get(name)
    try:
        stamp = pd.Timestamp(datetime.fromisoformat(text))
        utc = stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo else stamp
        return utc.as_unit("ns")
    except (TypeError, ValueError, OverflowError) as error:
        raise TimeAxisError(
            f"{item.id}: {name} {text!r} is no date and time. Correct the item.",
            item_id=item.id, field=name, value=text,
        ) from error  # fmt: skip


def _footprint(item: StacItem) -> Degrees:
    box = item.bbox
    if box is None:
        return NOWHERE
    corners = box if len(box) == 4 else [*box[:2], *box[3:5]]
    west, south, east, north = corners if len(box) in (4, 6) else NOWHERE
    if not (abs(west) <= 180 and abs(east) <= 180 and -90 <= south <= north <= 90):
        raise GeorefError(
            f"{item.id}: bbox {box} is no box in degrees. Correct the item.", item_id=item.id
        )
    return west, south, east, north


def _baseline(item: StacItem) -> str | None:
    facts = item.properties
    stated = facts.get("s2:processing_baseline") or facts.get("sentinel:processing_baseline")
    if stated:
        return str(stated)
    names = (facts.get("s2:product_uri"), facts.get("sentinel:product_id"), item.id)
    found = next(filter(None, (re.search(r"_N(\d\d)(\d\d)_", str(name)) for name in names)), None)
    return f"{found[1]}.{found[2]}" if found else None


def _is_image(key: str, asset: dict[str, Any]) -> bool:
    roles = asset.get("roles")
    named = [key, *(roles if isinstance(roles, list) else [])]
    if any(role in NO_BANDS for role in named):
        return False
    media = _text(asset.get("type"))
    if media:
        return any(word in media.lower() for word in ("tiff", "jp2"))
    return str(asset.get("href")).split("?")[0].lower().endswith((".tif", ".tiff", ".jp2"))


def _bands(asset: dict[str, Any]) -> list[dict[str, Any]]:
    """What the asset says of each of its bands, by the older or the newer fields."""
    pairs: Any = itertools.zip_longest(
        _listed(asset, "eo:bands"), _listed(asset, "raster:bands"), fillvalue={}
    )
    return _listed(asset, "bands") or [{**raster, **optical} for optical, raster in pairs]


def _listed(asset: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = asset.get(name)
    items = value if isinstance(value, list) else []
    return [item if isinstance(item, dict) else {} for item in items]


def _band_names(item: StacItem, keys: list[str], wanted: tuple[str, ...]) -> dict[str, str]:
    """Asset key -> its name: the key, or a wanted name that only this asset's one band has."""
    single = {
        key: _bands(item.assets[key])[0] for key in keys if len(_bands(item.assets[key])) == 1
    }
    names = {key: key for key in keys}
    for name in wanted:
        matching = [
            key
            for key, band in single.items()
            if name in (band.get("name"), band.get("common_name"), band.get("eo:common_name"))
        ]
        if name not in keys and len(matching) == 1:
            names[matching[0]] = name
    return names


def _asset_rows(item: StacItem, key: str, name: str, base: SceneRow, path: Path) -> list[SceneRow]:
    """One row per band of an asset; a single one without a number where the item names none."""
    asset = item.assets[key]
    href = _text(asset.get("href"))
    row = replace(
        base, href=resolved(href or "", path.parent), band=name,
        product=_product(item, key),
        checksum=_text(asset.get("file:checksum")) or "",
    )  # fmt: skip
    try:
        if href is None:
            raise DataError(f"{item.id}: asset {key!r} has no href.", item_id=item.id, asset=key)
        row = _gridded(row, {**item.properties, **asset})
    except EOCausalError as error:
        return [row.failed(error)]
    bands = _bands(asset)
    if len(bands) <= 1:
        return [_numbered(row, name, 1 if bands else None, {**asset, **(bands or [{}])[0]})]
    return [
        _numbered(row, f"{name}.{band.get('name') or number}", number, {**asset, **band})
        for number, band in enumerate(bands, start=1)
    ]


def _product(item: StacItem, key: str) -> str | None:
    """The product of an asset, where collection and key tell."""
    return next(
        (
            product
            for collection, asset, product in PRODUCTS
            if re.match(collection, item.collection or "") and re.fullmatch(asset, key)
        ),
        None,
    )


def _numbered(row: SceneRow, name: str, number: int | None, facts: dict[str, Any]) -> SceneRow:
    return replace(
        row, band=name, band_index=number, nodata=_number(facts.get("nodata")),
        scale=_number(facts.get("scale", facts.get("raster:scale"))),
        offset=_number(facts.get("offset", facts.get("raster:offset"))),
    )  # fmt: skip


def _gridded(row: SceneRow, facts: dict[str, Any]) -> SceneRow:
    """The row with the grid that the projection fields describe; says which are absent."""
    crs = _crs(row.item_id, facts)
    transform = _numbers(facts.get("proj:transform"), (6, 9))
    shape = _numbers(facts.get("proj:shape"), (2,))
    if transform is not None:
        a, b, _, d, e, _ = transform[:6]
        if not (a > 0 > e and b == d == 0):
            raise GeorefError(
                f"{row.item_id}: proj:transform {list(transform)} is not north up.",
                item_id=row.item_id,
            )
    if shape is not None and not all(size >= 1 and size == int(size) for size in shape):
        raise GeorefError(
            f"{row.item_id}: proj:shape {list(shape)} is no number of rows and columns.",
            item_id=row.item_id,
        )
    given = {"CRS": crs, "proj:transform": transform, "proj:shape": shape}
    absent = [name for name, value in given.items() if value is None]
    rows, columns = (int(shape[0]), int(shape[1])) if shape else (None, None)
    row = replace(
        row, crs=crs, rows=rows, columns=columns, transform=transform[:6] if transform else None,
        reason=f"the item gives no {', '.join(absent)}" if absent else "",
    )  # fmt: skip
    if crs is None or transform is None or rows is None or columns is None:
        return row
    return row.placed(degree_bounds(crs, grid_bounds(transform[:6], rows, columns), row.item_id))


def _crs(item_id: str, facts: dict[str, Any]) -> str | None:
    """WKT of the first projection field that is there."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    code, wkt, json_form = (facts.get(f"proj:{name}") for name in ("code", "wkt2", "projjson"))
    code = code or (facts.get("proj:epsg") and f"EPSG:{facts['proj:epsg']}")
    try:
        if code and re.fullmatch(r"[A-Za-z]+:\d+", str(code)):
            return _wkt(str(code))
        if code:
            raise CRSError(f"{code} is no AUTHORITY:CODE")
        if wkt:
            return CRS.from_wkt(str(wkt)).to_wkt()
        return CRS.from_json_dict(json_form).to_wkt() if isinstance(json_form, dict) else None
    except CRSError as error:
        told = " ".join(str(error).split())[:80]
        raise GeorefError(
            f"{item_id}: its projection fields name no known CRS ({told}). Correct the item.",
            item_id=item_id,
        ) from error  # fmt: skip


@functools.lru_cache(maxsize=256)
def _wkt(code: str) -> str:
    from pyproj import CRS

    return CRS.from_user_input(code).to_wkt()


def _numbers(value: Any, lengths: tuple[int, ...]) -> tuple[float, ...] | None:
    """A list of finite numbers of one of these lengths, or None where there is no such list."""
    if not isinstance(value, list) or len(value) not in lengths:
        return None
    numbers = tuple(_number(item) for item in value)
    return numbers if all(map(math.isfinite, numbers)) else None


def _number(value: Any) -> float:
    """A finite number, or NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if abs(value) <= 1e300 else math.nan


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
