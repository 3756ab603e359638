"""Which pixels a quality band calls usable: rules as data, one per product and collection.

Sources: Landsat Collection 1 Level-1 and Collection 2 quality band descriptions (USGS), Sentinel-2
L2A scene classification (ESA), Fmask codes of Zhu and Woodcock (2012).
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError, DataError


class QualitySettings(Settings):
    """How a quality band is used."""

    rule: str | None = Field(
        default=None, description="name of the rule; by the band's name and the product otherwise"
    )
    dilate_pixels: int = Field(
        default=0, ge=0, description="rows and columns by which unusable areas grow"
    )


@dataclass(frozen=True)
class Cause:
    """What some values of a code mean.

    Attributes
    ----------
    name : str
    values : tuple of int
        Of the bits below.
    bit, width : int
        First bit, from 0, and number of bits; the whole code by default.
    keeps : bool
        Such pixels stay usable and are only counted.
    """

    name: str
    values: tuple[int, ...] = (1,)
    bit: int = 0
    width: int = 16
    keeps: bool = False


@dataclass(frozen=True)
class QualityRule:
    """The meaning of a quality band.

    Attributes
    ----------
    name : str
    bands : str
        Regular expression of the names the band goes by, in capitals.
    products : tuple of str
        Products it belongs to; the band of another one is never read by it.
    causes : tuple of Cause
        The first that holds counts.
    n_codes : int
        Codes are 0 to one below; others, and NaN, are fill.
    usable : tuple of int or None
        The only usable codes, where the rule says so; others without a cause are ``unknown``.
    """

    name: str
    bands: str
    products: tuple[str, ...]
    causes: tuple[Cause, ...]
    n_codes: int
    usable: tuple[int, ...] | None = None


RULES = {
    rule.name: rule
    for rule in (
        QualityRule(
            "landsat_c1_bqa", r"(.*_)?BQA", ("landsat_c1_l1",),
            (Cause("fill", bit=0, width=1), Cause("cloud", bit=4, width=1),
             Cause("shadow", (3,), bit=7, width=2), Cause("snow", (3,), bit=9, width=2),
             Cause("cirrus", (3,), bit=11, width=2)),
            2**16,
        ),
        QualityRule(
            "landsat_c2_qa_pixel", r"(.*_)?QA_?PIXEL",
            ("landsat_c2_l2", "landsat_c2_l2_temperature"),
            (Cause("fill", bit=0, width=1), Cause("dilated_cloud", bit=1, width=1),
             Cause("cirrus", bit=2, width=1), Cause("cloud", bit=3, width=1),
             Cause("shadow", bit=4, width=1), Cause("snow", bit=5, width=1)),
            2**16,
        ),
        QualityRule(
            "sentinel2_scl", r"(.*_)?SCL(_\d+M)?", ("sentinel2_l2a",),
            (Cause("fill", (0,)), Cause("defective", (1,)), Cause("shadow", (3,)),
             Cause("cloud", (8, 9)), Cause("cirrus", (10,)), Cause("snow", (11,)),
             Cause("dark", (2,), keeps=True), Cause("unclassified", (7,), keeps=True)),
            12,
        ),
        QualityRule(
            "fmask", r"(.*_)?FMASK", (),
            (Cause("fill", (255,)), Cause("shadow", (2,)), Cause("snow", (3,)),
             Cause("cloud", (4,))),
            2**8, usable=(0, 1),
        ),
    )
}  # fmt: skip


def find_quality(name: str | None, band: str, product: str) -> QualityRule:
    """The rule of a quality band.

    Parameters
    ----------
    name : str or None
        Key of ``RULES``; None = the one that the band's name belongs to.
    band : str
        Name of the band in the scenes table, such as ``BQA`` or ``qa_pixel``.
    product : str
        Product of the scene.

    Raises
    ------
    ConfigError
        Unknown rule; lists the known ones.
    DataError
        Band or product belong to another rule, or none fits: the same bits mean other things there.
    """
    if name is not None and name not in RULES:
        raise ConfigError(
            f"quality rule {name!r} is not known; known: {', '.join(RULES)}.", name=name
        )
    plain = band.upper().removesuffix(".TIF")
    named = [rule.name for rule in RULES.values() if re.fullmatch(rule.bands, plain)]
    owned = [rule.name for rule in RULES.values() if product in rule.products]
    chosen = name or next(iter(named), None)
    if chosen is None:
        raise DataError(
            f"band {band!r} goes by no name of a quality band. Give quality.rule, one of"
            f" {', '.join(RULES)}.", band=band,
        )  # fmt: skip
    wrong_band = bool(named) and chosen not in named
    wrong_product = bool(RULES[chosen].products and owned) and chosen not in owned
    if wrong_band or wrong_product:
        other = named[0] if wrong_band else owned[0]
        raise DataError(
            f"quality rule {chosen}: band {band!r} of product {product!r} is one of rule {other}, whose"
            " codes mean other things. Correct quality.rule, the band or the product.",
            rule=chosen, band=band, product=product,
        )  # fmt: skip
    return RULES[chosen]


@dataclass(frozen=True)
class QualityMask:
    """What a quality band says of each pixel.

    Attributes
    ----------
    valid : boolean array
        True = usable.
    counts : dict
        Cause -> number of pixels, each pixel once; ``clear`` are usable ones without any cause.
    """

    valid: NDArray[np.bool_]
    counts: dict[str, int]


def quality_mask(codes: NDArray[Any], rule: QualityRule, *, dilate_pixels: int = 0) -> QualityMask:
    """Which pixels are usable, and why the others are not.

    Parameters
    ----------
    codes : (..., y, x) array
        Raw codes; floats may hold NaN.
    rule : QualityRule
    dilate_pixels : int
        Everything within so many rows and columns of an unusable pixel is unusable too
        (``grown``). Fill does not grow: it is where an image ends, not what hides the ground.
    """
    codes = np.asarray(codes)
    with np.errstate(invalid="ignore"):
        known = (codes >= 0) & (codes < rule.n_codes) & (codes == np.floor(codes))
    whole = np.where(known, codes, 0).astype(np.int64)
    valid = known.copy()
    counts = {"fill": int(known.size - known.sum())}
    fill = ~known
    for cause in rule.causes:
        if not cause.keeps:
            hit = valid & _holds(whole, cause)
            fill |= hit & (cause.name == "fill")
            counts[cause.name] = counts.get(cause.name, 0) + int(hit.sum())
            valid &= ~hit
    if rule.usable is not None:
        unknown = valid & ~np.isin(whole, rule.usable)
        counts["unknown"] = int(unknown.sum())
        valid &= ~unknown
    if dilate_pixels:
        before = int(valid.sum())
        valid &= ~_grown(~valid & ~fill, dilate_pixels)
        counts["grown"] = before - int(valid.sum())
    counts["clear"] = int(valid.sum())
    for cause in rule.causes:
        if cause.keeps:
            counts[cause.name] = int((valid & _holds(whole, cause)).sum())
            counts["clear"] -= counts[cause.name]
    return QualityMask(valid, counts)


def _holds(codes: NDArray[np.int64], cause: Cause) -> NDArray[np.bool_]:
    return np.isin((codes >> cause.bit) & (2**cause.width - 1), cause.values)


def _grown(bad: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Areas with a margin of rows and columns, each image of a stack by itself."""
    from scipy.ndimage import maximum_filter

    size = (1,) * (bad.ndim - 2) + (2 * pixels + 1,) * 2
    grown: NDArray[np.bool_] = maximum_filter(bad, size=size, mode="nearest")
    return grown
