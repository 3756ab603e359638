"""A country in which an aid agency chose places by what it saw from above."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit

from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.simulate.scenes import (
    BANDS,
    REFLECTANCE,
    Country,
    SceneSettings,
    earth_coordinates,
    simulate_country,
    write_scenes,
)

Floats = NDArray[np.float64]
WATER = 0.15  # greenness below which a pixel is water
ROOFS = 2  # half the side of the buildings a project puts up, pixels


class AidSettings(Settings):
    """The aid programme a demo simulates."""

    country: SceneSettings = SceneSettings(
        rows=768, columns=1024, cloud=0.05,
        dates=("2008-07-04", "2010-06-24", "2015-07-08"),
    )  # fmt: skip
    n_units: Annotated[int, Field(ge=40, le=100_000)] = Field(default=800, description="villages")
    treatment_start: str = Field(
        default="2012-01-01", pattern=r"^\d{4}-\d\d-\d\d$", description="first day of the programme"
    )
    effect: float = Field(default=0.5, description="of a project on the outcome, in its units")
    selection: float = Field(
        default=1.0, description="how far the visible confounder moves the log odds of a project"
    )
    chip_pixels: Annotated[int, Field(ge=4, le=128)] = Field(
        default=16, description="side of what the agency looked at, pixels"
    )


def write_aid_country(settings: AidSettings, *, seed: int, folder: Path) -> Path:
    """Simulate the programme and write what an evaluator would get.

    ``folder/scenes`` holds Landsat scenes of before and after the programme, ``folder/villages.csv``
    villages with ``project`` (0/1), ``outcome``, ``schooling``, ``elevation`` and ``old_outcome``
    (measured before the programme), ``folder/truth.json`` the effect.
    """
    country = simulate_country(settings.country, seed)
    villages, places = draw_villages(settings, seed)
    treated = places[villages["project"].to_numpy() == 1]
    write_scenes(_with_roofs(country, treated, settings), folder)
    villages.to_csv(folder / "villages.csv", index=False, float_format="%.7f")
    truth = {
        "ate": settings.effect,
        "confounder": "how bare the land around the village looks (lack of greenness)",
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1))
    count(units=len(villages), treated=len(treated))
    return folder


def read_aid_truth(folder: Path) -> dict[str, Any]:
    """What is true of a programme that :func:`write_aid_country` wrote."""
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return truth


def draw_villages(settings: AidSettings, seed: int) -> tuple[pd.DataFrame, NDArray[np.intp]]:
    """Villages on dry land, and the (village, 2) rows and columns of their pixels.

    The confounder U is how bare the land looked: minus the mean greenness (NDVI) of the chip on the
    last date before the programme, without clouds, standardised; schooling S follows it loosely.
    W ~ Bernoulli(expit(a U + S / 2)), outcome = effect W + U + S / 2 + N(0, 1/4); ``old_outcome`` is
    drawn alike without the effect.
    """
    random = generator(seed, "aid")
    half = settings.chip_pixels // 2
    green = _greenness(settings, seed)
    anywhere = random.uniform(half, np.array(green.shape) - half, (4 * settings.n_units, 2))
    chips = [
        (place, green[place[0] - half : place[0] + half, place[1] - half : place[1] + half])
        for place in np.floor(anywhere).astype(np.intp)
    ]
    dry = [(place, chip.mean()) for place, chip in chips if (chip > WATER).all()]
    places = np.array([place for place, _ in dry[: settings.n_units]])
    level = np.array([mean for _, mean in dry[: settings.n_units]])
    seen = (level.mean() - level) / level.std()
    schooling = 0.3 * seen + random.standard_normal(len(seen))
    project = random.binomial(1, expit(settings.selection * seen + schooling / 2))
    usual = seen + schooling / 2
    outcome = settings.effect * project + usual + random.normal(0, 0.5, len(seen))
    longitude, latitude = earth_coordinates(places.astype(np.float64))
    villages = pd.DataFrame(
        {
            "unit_id": [f"village-{number:04d}" for number in range(len(seen))],
            "longitude": longitude, "latitude": latitude, "project": project, "outcome": outcome,
            "schooling": schooling, "elevation": random.normal(1100, 60, len(seen)),
            "old_outcome": usual + random.normal(0, 0.5, len(seen)),
        }
    )  # fmt: skip
    return villages, places


def greenness(images: NDArray[np.float32]) -> Floats:
    """(..., y, x) normalised difference of near infrared and red of (..., band, y, x) reflectance."""
    red, nir = (images[..., BANDS.index(name), :, :].astype(float) for name in ("red", "nir"))
    return np.asarray((nir - red) / (nir + red))


def _greenness(settings: AidSettings, seed: int) -> Floats:
    """(y, x) greenness on the last date before the programme, without clouds."""
    clear = simulate_country(settings.country.model_copy(update={"cloud": 0.0}), seed)
    before = int(np.flatnonzero(clear.dates < pd.Timestamp(settings.treatment_start))[-1])
    return greenness(clear.images[before])


def _with_roofs(country: Country, places: NDArray[np.intp], settings: AidSettings) -> Country:
    """The country with the buildings of the projects, in every scene since the programme began."""
    images, cloudy = country.images.copy(), country.cloudy
    roof = np.array(REFLECTANCE["town"], dtype=np.float32)[:, None, None] * 1.3
    for date in np.flatnonzero(country.dates >= pd.Timestamp(settings.treatment_start)):
        for row, column in places:
            window = np.s_[row - ROOFS : row + ROOFS, column - ROOFS : column + ROOFS]
            clear = ~cloudy[date][window]
            images[date][:, *window] = np.where(clear, roof, images[date][:, *window])
    return replace(country, images=images)
