"""Repeated trials in which effects follow the change, the last level, or nothing of what images show."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.core.tasks import compute_tasks
from eo_causal.simulate.heterogeneity import ChipWorld, Followed, changing_brightness

COVARIATE = "baseline"


class TrialStudySettings(Settings):
    """How large the trials of a world are, and how many."""

    n_units: Annotated[int, Field(ge=100, le=100_000)] = Field(
        default=400, description="units of one trial, one image sequence each"
    )
    n_repetitions: Annotated[int, Field(ge=2, le=100_000)] = Field(
        default=20, description="trials of each world"
    )
    n_frames: Annotated[int, Field(ge=2, le=50)] = Field(default=4, description="of a sequence")
    size_pixels: Annotated[int, Field(ge=8, le=256)] = Field(default=16, description="of a chip")
    survey_error: Annotated[float, Field(ge=0)] = Field(
        default=2.0,
        description="sd of the error of the covariate, which measures the first level (sd 2)",
    )


@dataclass(frozen=True)
class RepeatedTrials:
    """Trials of one world.

    Attributes
    ----------
    chips : DataArray (repetition, unit, time, band, y, x)
        float32; drawn where it is used.
    units : DataFrame
        ``repetition``, the columns of study units (unit_id, image_key, treatment, outcome, cluster,
        easting, northing: NaN), the covariate ``baseline`` and the true ``effect``.
    """

    chips: xr.DataArray
    units: pd.DataFrame


def simulate_trials(world: Followed, settings: TrialStudySettings, *, seed: int) -> RepeatedTrials:
    """All trials of one world; one dask task a repetition.

    A repetition has the same images, treatments and errors in every world, so that worlds differ by
    what the effect follows alone. The covariate is what a survey says of the first level.
    """
    import dask.array
    from dask.delayed import delayed

    numbers = range(settings.n_repetitions)
    first = draw_trial(world, settings, seed, 0).chips
    draw = delayed(_pixels, pure=True)
    blocks = [
        dask.array.from_delayed(draw(world, settings, seed, number), (1, *first.shape), first.dtype)
        for number in numbers
    ]
    coordinates = {str(name): value for name, value in first.coords.items()}
    chips = xr.DataArray(
        dask.array.concatenate(blocks), dims=("repetition", *first.dims), coords=coordinates,
        attrs=first.attrs, name="chips",
    )  # fmt: skip
    table = delayed(trial_units, pure=False)
    tables = compute_tasks([table(world, settings, seed, number) for number in numbers])
    count(trials=len(tables), units=len(tables) * settings.n_units)
    return RepeatedTrials(chips, pd.concat(tables, ignore_index=True))


def draw_trial(
    world: Followed, settings: TrialStudySettings, seed: int, repetition: int
) -> ChipWorld:
    """Chips and units of one repetition."""
    own = int(generator(seed, "trials", repetition).integers(2**31))
    return changing_brightness(
        own, settings.n_units, world, settings.n_frames, settings.size_pixels
    )


def trial_units(
    world: Followed, settings: TrialStudySettings, seed: int, repetition: int
) -> pd.DataFrame:
    """The table of units of one repetition."""
    drawn = draw_trial(world, settings, seed, repetition).units
    error = generator(seed, "survey", repetition).normal(0, settings.survey_error, len(drawn))
    names = drawn.index.to_numpy(dtype=str)
    return pd.DataFrame({
        "repetition": repetition, "unit_id": names, "image_key": names,
        "treatment": drawn["treatment"].to_numpy(float), "outcome": drawn["outcome"].to_numpy(),
        "cluster": names, "easting": np.nan, "northing": np.nan,
        COVARIATE: drawn["start"].to_numpy() + error, "effect": drawn["effect"].to_numpy(),
    })  # fmt: skip


def _pixels(world: Followed, settings: TrialStudySettings, seed: int, repetition: int) -> Any:
    return draw_trial(world, settings, seed, repetition).chips.to_numpy()[None]
