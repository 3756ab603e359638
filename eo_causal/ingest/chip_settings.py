"""How chips are cut."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from eo_causal.core.settings import Settings
from eo_causal.ingest.composite import Period
from eo_causal.ingest.image_files import ReadSettings
from eo_causal.ingest.quality import QualitySettings

MAX_PIXELS = 4096
Pixels = Annotated[int, Field(ge=1, le=MAX_PIXELS)]
Metres = Annotated[float, Field(gt=0)]


class ChipSettings(Settings):
    """Footprint, grid, dates and what to do where pixels are missing."""

    size_pixels: Pixels | None = Field(
        default=None,
        description="side of a chip; 64 by default, for polygons what holds the largest",
    )
    size_m: Metres | None = Field(default=None, description="side of a chip in metres instead")
    buffer_m: float = Field(default=0, ge=0, description="margin around polygons")
    grid: Literal["native", "local"] = Field(
        default="native",
        description="native: pixels of the images, never resampled; local: each place's UTM zone",
    )
    resolution_m: Metres | None = Field(default=None, description="pixel of the local grid")
    resampling: Literal["nearest", "bilinear", "cubic"] = "bilinear"
    max_snap: float = Field(
        default=0.5, ge=0, le=0.5, description="shift in pixels that images of one grid may have"
    )
    bands: tuple[str, ...] = Field(default=(), description="which, in which order; all by default")
    time: Literal["observed", "periods"] = Field(
        default="observed", description="each place's own dates, or composites on one time axis"
    )
    period: Period = "year"
    method: Literal["median", "mean", "geometric_mean", "medoid", "first"] = "median"
    min_count: int = Field(default=1, ge=1, description="images a composite pixel needs")
    max_slots: int | None = Field(default=None, ge=1, description="dates kept of each place")
    select: Literal["evenly", "clearest", "latest"] = Field(
        default="evenly", description="which dates are kept"
    )
    min_separation_days: float = Field(default=0, ge=0)
    quality: QualitySettings = Field(
        default=QualitySettings(), description="how the quality band is read, where there is one"
    )
    min_valid_fraction: float = Field(
        default=0.5, ge=0, le=1, description="dates of a place with less are emptied"
    )
    edge: Literal["keep", "drop", "error"] = Field(
        default="keep", description="chips that reach over the edge of all images"
    )
    empty_unit: Literal["error", "drop"] = Field(
        default="error", description="places without any usable date"
    )
    max_failed: float = Field(default=0, ge=0, le=1, description="share of reads that may fail")
    retries: int = Field(default=2, ge=0, le=10)
    displacement_m: float = Field(
        default=0, ge=0, description="how far survey coordinates were moved at most"
    )
    read: ReadSettings = ReadSettings()
    batch_bytes: int = Field(
        default=2**26, ge=2**16, description="decoded bytes of a task; changes no value"
    )

    @field_validator("bands")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"{', '.join(value)}: name each band once")
        return value

    @model_validator(mode="after")
    def _one_size(self) -> "ChipSettings":
        if self.size_pixels is not None and self.size_m is not None:
            raise ValueError("give size_pixels or size_m, not both")
        if self.grid == "local" and self.resolution_m is None:
            raise ValueError("grid: local needs resolution_m")
        if self.grid == "native" and self.resolution_m is not None:
            raise ValueError("resolution_m belongs to grid: local; native keeps that of the images")
        return self
