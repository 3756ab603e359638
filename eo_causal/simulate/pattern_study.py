"""Repeated pattern worlds: what coarse pixels, or a filter of another width, still see of a confounder."""

import functools
from typing import Annotated, Literal, NamedTuple, Protocol, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field, model_validator

from eo_causal.core.progress import count, track
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError, DataError
from eo_causal.simulate.pattern import (
    MARGIN,
    Floats,
    Images,
    Pool,
    average_pool,
    central,
    draw_units,
    image_score,
    pattern_response,
    study_images,
)

EFFECT = 1.0
COLUMNS = ("confounder", "score", "propensity", "treatment", "outcome")
WAVE = 10
EXAMPLES = (0.15, 0.95)


class Case(NamedTuple):
    """One setting of a study.

    Attributes
    ----------
    value : int
        What varies over the study.
    width : int
        Of the true pattern, pixels.
    factor : int
        By which the image is pooled before it is measured.
    score_width : int
        Of the filter that measures it, pooled pixels.
    """

    value: int
    width: int
    factor: int
    score_width: int


class _StudySettings(Settings):
    n_images: Annotated[int, Field(ge=100, le=100_000)] = Field(
        default=500, description="units of one repetition, one image each"
    )
    n_repetitions: Annotated[int, Field(ge=2, le=100_000)] = Field(
        default=100, description="studies that are simulated and estimated"
    )
    pool: Pool = Field(
        default="max", description="the confounder is the largest response of an image, or the mean"
    )


class ResolutionSettings(_StudySettings):
    """The image is averaged over squares of pixels before the pattern is looked for (C2)."""

    kind: Literal["resolution"]
    width: Annotated[int, Field(ge=2, le=2 * MARGIN)] = Field(
        default=8, description="of the pattern, pixels of full resolution"
    )
    factors: tuple[Annotated[int, Field(ge=1, le=MARGIN)], ...] = Field(
        default=(1, 2, 4, 8, 16), min_length=1, description="full pixels along a pooled pixel"
    )

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        _check_ascending("factors", self.factors)
        uneven = [factor for factor in self.factors if MARGIN % factor]
        if uneven:
            raise ValueError(f"factor {uneven[0]} does not divide the margin of {MARGIN} pixels")
        return self

    def cases(self) -> list[Case]:
        """One a factor; the filter shrinks with the image, down to one pooled pixel."""
        return [Case(r, self.width, r, max(1, self.width // r)) for r in self.factors]


class MisspecificationSettings(_StudySettings):
    """The pattern is looked for with a filter of another width (C1m)."""

    kind: Literal["misspecification"]
    widths: tuple[Annotated[int, Field(ge=2, le=2 * MARGIN)], ...] = Field(
        default=(2, 4, 8, 16, 32), min_length=1, description="of the true pattern, pixels"
    )
    filter_width: Annotated[int, Field(ge=1, le=2 * MARGIN)] = Field(
        default=8, description="of the filter that looks for it, pixels"
    )

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        _check_ascending("widths", self.widths)
        return self

    def cases(self) -> list[Case]:
        """One a width."""
        return [Case(k, k, 1, self.filter_width) for k in self.widths]


PatternStudySettings = Annotated[
    ResolutionSettings | MisspecificationSettings, Field(discriminator="kind")
]
"""Which study; ``kind`` decides."""


class HasChips(Protocol):
    """Chips of dims (unit, time, band, y, x) with coordinate ``valid_fraction (unit, time)``."""

    chips: xr.DataArray


def complete_images(chip_set: HasChips, band: str) -> xr.DataArray:
    """(image, y, x) first frames of one band, of chips without missing pixels.

    Raises
    ------
    ConfigError
        No such band.
    DataError
        No complete chip.
    """
    chips = chip_set.chips.isel(time=0)
    names = list(map(str, chips["band"].to_numpy()))
    if band not in names:
        raise ConfigError(f"data.band: {band} is not a band of the chips: {', '.join(names)}.")
    complete = chips["valid_fraction"].to_numpy() == 1
    if not complete.any():
        raise DataError(f"all {len(complete)} chips have missing pixels; none can be cut from.")
    count(chips=complete.sum(), chips_with_gaps=(~complete).sum())
    chosen = chips.isel(unit=complete, band=names.index(band)).rename(unit="image")
    return chosen.reset_coords(drop=True).rename("images").drop_attrs()


def simulate_pattern_study(
    images: xr.DataArray | None, settings: PatternStudySettings, *, seed: int
) -> xr.Dataset:
    """Units of all repetitions and cases; one dask task a repetition.

    Cases of a repetition share images and random draws, so that they differ by the case alone.

    Parameters
    ----------
    images : DataArray (image, y, x) or None
        To cut windows from; generated fields without them.

    Returns
    -------
    Dataset
        Dims (value, repetition, unit): ``confounder`` U, ``score`` (what the study measures of it),
        ``propensity`` (the true one), ``treatment`` and ``outcome``; the true effect as attribute.
    """
    from dask import base
    from dask.delayed import delayed

    # traverse=False: else dask would load the images before it hands them to the tasks
    source = delayed(images, traverse=False)
    task = delayed(_repetition, pure=False)
    parts: list[Floats] = []
    starts = range(0, settings.n_repetitions, WAVE)
    for start in track(starts, "simulating"):
        numbers = range(start, min(start + WAVE, settings.n_repetitions))
        parts += base.compute(*(task(source, settings, seed, number) for number in numbers))
    count(repetitions=settings.n_repetitions, images=settings.n_repetitions * settings.n_images)
    values = np.stack(parts, axis=2)
    dims = ("value", "repetition", "unit")
    return xr.Dataset(
        {name: (dims, values[position]) for position, name in enumerate(COLUMNS)},
        coords={"value": [case.value for case in settings.cases()]},
        attrs={"effect": EFFECT},
    )


def pattern_examples(
    images: xr.DataArray | None, settings: PatternStudySettings, *, seed: int
) -> xr.Dataset:
    """An image of the first repetition with little and one with much of the first case's confounder.

    Returns
    -------
    Dataset
        In full pixels, NaN outside the central window: ``seen (value, example, y, x)``, the image
        as it is measured; ``response (value, example, y, x)``, to the filter that varies over the
        study (the true one, or that of the pooled image); ``true_place`` and ``measured_place
        (value, example, axis)``, row and column where the true and the measuring filter find most.
    """
    found = study_images(seed, 0, settings.n_images, _values(images))
    cases = settings.cases()
    confounder = image_score(pattern_response(found, cases[0].width), pool=settings.pool)
    ranks = np.round(np.array(EXAMPLES) * (len(confounder) - 1)).astype(int)
    chosen = np.argsort(confounder)[ranks]
    parts: list[tuple[Images, Images, Floats, Floats]] = []
    for case in cases:
        pooled = average_pool(found, case.factor)
        true = _Found(pattern_response(found, case.width)[chosen], 1, case.width)
        measured = pattern_response(pooled, case.score_width)[chosen]
        met = _Found(measured, case.factor, case.score_width)
        varies = true if settings.kind == "misspecification" else met
        seen = _full(pooled[chosen], case.factor)
        parts.append((seen, varies.inside(), true.place(), met.place()))
    names = ("seen", "response", "true_place", "measured_place")
    dims = [("value", "example", "y", "x")] * 2 + [("value", "example", "axis")] * 2
    stacked = [np.stack(items) for items in zip(*parts, strict=True)]
    return xr.Dataset(
        {name: (dim, item) for name, dim, item in zip(names, dims, stacked, strict=True)},
        coords={"value": [case.value for case in cases]},
    )


def _check_ascending(name: str, values: tuple[int, ...]) -> None:
    if list(values) != sorted(set(values)):
        raise ValueError(f"{name}: {list(values)} must ascend, each once")


def _values(images: xr.DataArray | None) -> NDArray[np.generic] | None:
    """In memory; computed here, by whatever process runs the task."""
    return None if images is None else images.compute(scheduler="synchronous").to_numpy()


def _repetition(
    images: xr.DataArray | None, settings: PatternStudySettings, seed: int, repetition: int
) -> Floats:
    """(column, value, unit) of one repetition."""
    found = study_images(seed, repetition, settings.n_images, _values(images))

    @functools.cache
    def score(factor: int, width: int) -> Floats:
        response = pattern_response(average_pool(found, factor), width)
        return image_score(response, factor, settings.pool)

    rows = []
    for case in settings.cases():
        confounder = score(1, case.width)
        random = generator(seed, "pattern", repetition, "units")
        units = draw_units(confounder, random, EFFECT)
        measured = score(case.factor, case.score_width)
        rows.append([confounder, measured, units.propensity, units.treatment, units.outcome])
    return np.array(rows).swapaxes(0, 1)


class _Found(NamedTuple):
    """Responses of some images, in pooled pixels."""

    response: Images
    factor: int
    width: int

    def inside(self) -> Images:
        """In full pixels, NaN outside the central window."""
        kept = np.full_like(self.response, np.nan)
        central(kept, self.factor)[...] = central(self.response, self.factor)
        return _full(kept, self.factor)

    def place(self) -> Floats:
        """(example, 2) row and column, in full pixels, of the middle of the strongest stroke."""
        inner = central(self.response, self.factor)
        best = inner.reshape(len(inner), -1).argmax(axis=1)
        corner = np.stack(np.unravel_index(best, inner.shape[1:]), axis=1) + MARGIN // self.factor
        middle = 0.5 if self.width % 2 == 0 else 0.0
        return np.asarray((corner + middle + 0.5) * self.factor - 0.5)


def _full(images: Images, factor: int) -> Images:
    """Pooled pixels drawn as squares of full ones."""
    return images.repeat(factor, axis=1).repeat(factor, axis=2)
