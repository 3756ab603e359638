"""What the ground of each footprint consists of: shares of land-cover classes in chips of codes."""

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field, field_validator

from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.errors import DataError
from eo_causal.ingest.catalog import CatalogSettings
from eo_causal.ingest.chip_settings import ChipSettings


class LandCoverClasses(Settings):
    """A map of land-cover classes, read around the places of a study."""

    product: str = Field(description="name of the map, as the report cites it")
    year: int = Field(ge=1900, le=2200, description="year it shows")
    scenes: CatalogSettings = Field(description="its files; one band of codes")
    chips: ChipSettings = Field(description="footprint; that of the images")
    classes: dict[int, str] = Field(min_length=2, description="code -> name")

    @field_validator("classes")
    @classmethod
    def _names_differ(cls, value: dict[int, str]) -> dict[int, str]:
        if len(set(value.values())) < len(value):
            raise ValueError(f"two codes of one name: {value}")
        return value


def class_shares(chips: xr.DataArray, settings: LandCoverClasses) -> pd.DataFrame:
    """Shares of the valid pixels of each footprint that belong to each class.

    Parameters
    ----------
    chips : DataArray (unit, time, band, y, x)
        Codes; one band; the first slot of time is read. NaN = no data.
    settings : LandCoverClasses

    Returns
    -------
    DataFrame
        ``image_key``, ``n_valid`` (pixels of a declared class), then one column a class, which sum to
        1; NaN where a footprint has no valid pixel.

    Raises
    ------
    DataError
        More than one band, or no pixel of any declared class.
    """
    if chips.sizes["band"] != 1:
        raise DataError(
            f"a map of classes has one band, not {chips.sizes['band']}. Name it in scenes.bands.",
            bands=chips["band"].to_numpy().tolist(),
        )  # fmt: skip
    codes = chips.isel(time=0, band=0).to_numpy().reshape(chips.sizes["unit"], -1)
    pixels = np.stack([(codes == code).sum(axis=1) for code in settings.classes], axis=1)
    n_valid = pixels.sum(axis=1)
    seen = int(np.isfinite(codes).sum())
    count(
        footprints=len(codes),
        footprints_without_class=int((n_valid == 0).sum()),
        pixels_classified=int(n_valid.sum()),
        pixels_of_other_codes=seen - int(n_valid.sum()),
    )
    if not n_valid.any():
        raise DataError(
            f"none of {seen:,} pixels of {settings.product} has a declared code"
            f" ({', '.join(map(str, settings.classes))}); found are"
            f" {np.unique(codes[np.isfinite(codes)])[:10].tolist()}. Correct land_cover.classes."
        )
    shares = pixels / np.where(n_valid > 0, n_valid, np.nan)[:, None]
    table = pd.DataFrame(shares, columns=list(settings.classes.values()))
    table.insert(0, "n_valid", n_valid)
    table.insert(0, "image_key", chips["image_key"].to_numpy().astype(str))
    return table
