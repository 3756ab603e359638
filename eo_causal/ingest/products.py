"""What the numbers of known imagery products mean: scale, offset, fill and valid range, as data.

Sources: Sentinel-2 processing baseline 04.00 notes, Landsat Collection 2 Level-2 guide, MOD13Q1 v6
user guide, specs of the other products.
"""

from dataclasses import dataclass

from eo_causal.errors import ConfigError, DataError

BASELINE_WITH_OFFSET = 4.0
SENTINEL2_OFFSET = -1000.0
SENTINEL2_QUANTIFICATION = 10_000.0


@dataclass(frozen=True)
class Product:
    """How raw numbers become values: ``raw * scale + offset``; what is no value at all.

    Attributes
    ----------
    name : str
    scale, offset : float or None
        None = what the file's own tags say (1 and 0 where it says nothing).
    fill : tuple of float
        Raw numbers that stand for nothing, though the file may not declare them.
    valid_min, valid_max : float or None
        Raw numbers outside are no values.
    units : str
    has_classes : bool
        Integer classes: never averaged, resampled by nearest neighbour only.
    """

    name: str
    scale: float | None = None
    offset: float | None = None
    fill: tuple[float, ...] = ()
    valid_min: float | None = None
    valid_max: float | None = None
    units: str = "1"
    has_classes: bool = False


PRODUCTS = {
    product.name: product
    for product in (
        Product("generic"),
        Product("sentinel2_l2a", 1e-4, 0.0, (0,)),
        Product("sentinel2_l1c", 1e-4, 0.0, (0,)),
        Product("landsat_c2_l2", 2.75e-5, -0.2, (0,)),
        Product("landsat_c2_l2_temperature", 0.00341802, 149.0, (0,), units="K"),
        Product("landsat_c1_l1", 1.0, 0.0, (0,)),
        Product("mod13q1", 1e-4, 0.0, (-3000,), -2000, 10_000),
        Product("viirs_nightlights", units="nW cm-2 sr-1"),
        Product("dmsp"),
        Product("naip", 1.0, 0.0),
        Product("rgb_composite", 1.0, 0.0),
        Product("land_cover", 1.0, 0.0, has_classes=True),
    )
}


def find_product(
    name: str, *, baseline: str | None = None, offset_applied: bool | None = None
) -> Product:
    """The rules of a product, for one scene.

    Parameters
    ----------
    name : str
        Key of ``PRODUCTS``.
    baseline : str, optional
        Processing baseline of a Sentinel-2 scene, such as ``04.00``. From that one on -1000 is
        added to the raw numbers. The date decides nothing: old dates are processed again.
    offset_applied : bool, optional
        What the scene's item says: True = whoever made the file has added the offset already.

    Raises
    ------
    ConfigError
        Unknown product; lists the known ones.
    DataError
        A Sentinel-2 scene whose baseline is not known.
    """
    if name not in PRODUCTS:
        raise ConfigError(
            f"product {name!r} is not known; known: {', '.join(PRODUCTS)}.", product=name
        )
    product = PRODUCTS[name]
    if not name.startswith("sentinel2"):
        return product
    if offset_applied:
        return product
    if baseline is None:
        raise DataError(
            f"{name}: the processing baseline of the scene is not known, so neither is its offset."
            " Give the baseline, or say that the offset was applied.", product=name,
        )  # fmt: skip
    if _number(baseline) < BASELINE_WITH_OFFSET:
        return product
    shift = SENTINEL2_OFFSET / SENTINEL2_QUANTIFICATION
    return Product(name, product.scale, shift, product.fill)


def _number(baseline: str) -> float:
    try:
        return float(baseline.upper().removeprefix("N"))
    except ValueError as error:
        raise DataError(
            f"processing baseline {baseline!r} is no number such as 04.00.", baseline=baseline
        ) from error
