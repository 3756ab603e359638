"""A small country seen from above: fields, forest, water and growing towns, under clouds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter

from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.simulate.scene_files import CLEAR, CLOUD, FILL, Transform, write_codes, write_scene

Floats = NDArray[np.float64]

BANDS = ("green", "red", "nir", "swir1")
REFLECTANCE = {
    "forest": (0.06, 0.04, 0.34, 0.14),
    "fields": (0.10, 0.10, 0.27, 0.24),
    "town": (0.19, 0.22, 0.25, 0.31),
    "water": (0.05, 0.03, 0.02, 0.01),
}
"""Typical surface reflectance in the four bands."""

CRS = "EPSG:32736"
PIXEL = 30.0
WEST, NORTH = 500_010.0, 9_900_000.0
N_TOWNS = 7


class SceneSettings(Settings):
    """The country a demo simulates."""

    rows: Annotated[int, Field(ge=64, le=4096)] = 384
    columns: Annotated[int, Field(ge=64, le=4096)] = 640
    dates: tuple[str, ...] = Field(
        default=("2014-02-11", "2015-07-20", "2016-01-06", "2017-08-02", "2018-03-10", "2019-06-27"),
        min_length=1, description="days on which the satellite passes, YYYY-MM-DD",
    )  # fmt: skip
    cloud: Annotated[float, Field(ge=0, lt=0.9)] = Field(
        default=0.2, description="mean share of a scene hidden by clouds"
    )
    n_units: Annotated[int, Field(ge=10, le=100_000)] = 240
    noise: Annotated[float, Field(ge=0)] = Field(default=0.012, description="reflectance units")
    outcome_noise: Annotated[float, Field(ge=0)] = Field(
        default=0.5, description="sd of what the images do not show, in sd of the outcome"
    )


@dataclass(frozen=True)
class Country:
    """A simulated country and what is true about it.

    Attributes
    ----------
    images : (date, band, y, x) float32 array
        Reflectance; NaN outside the swath.
    cloudy : (date, y, x) bool array
    town : (date, y, x) float64 array
        Built-up share of each pixel.
    dates : DatetimeIndex
    transform : 6 floats
        EPSG:32736, metres.
    units : DataFrame
        unit_id, longitude, latitude, town (number of the nearest), wealth (standardised).
    """

    images: NDArray[np.float32]
    cloudy: NDArray[np.bool_]
    town: Floats
    dates: pd.DatetimeIndex
    transform: Transform
    units: pd.DataFrame


def simulate_country(settings: SceneSettings, seed: int) -> Country:
    """Simulate the country; same settings and seed, same numbers.

    Towns grow at speeds of their own. Wealth of a place is its built-up share at the last date plus
    its growth, both standardised, plus noise that no image shows.
    """
    random = generator(seed, "country")
    shape = (settings.rows, settings.columns)
    dates = pd.DatetimeIndex(settings.dates)
    forest = _share(_field(random, shape, 14) + 0.3)
    water = _share(8 * (_field(random, shape, 22) - 1.6))
    centres = random.uniform(0.1, 0.9, (N_TOWNS, 2)) * np.array(shape)
    town = _towns(random, shape, centres, dates)
    texture = 0.02 * _field(random, shape, 0.8)
    images = np.empty((len(dates), len(BANDS), *shape), dtype=np.float32)
    for number, date in enumerate(dates):
        season = np.sin(2 * np.pi * date.day_of_year / 365.25)
        surface = _surface(forest, water, town[number], season) + texture
        images[number] = surface + settings.noise * random.standard_normal(surface.shape)
    cloudy = np.stack([_clouds(random, shape, settings.cloud) for _ in dates])
    images = np.where(cloudy[:, None], 0.7 + 0.05 * texture, np.clip(images, 0.001, 1.2))
    units = _units(random, settings, town, centres)
    transform = (PIXEL, 0.0, WEST, 0.0, -PIXEL, NORTH)
    return Country(images.astype(np.float32), cloudy, town, dates, transform, units)


def write_country(settings: SceneSettings, *, seed: int, folder: Path) -> Path:
    """Simulate the country and write it as a data centre would.

    ``folder/scenes`` holds the scenes (see :func:`write_scenes`), ``folder/units.csv`` the places
    with their wealth, ``folder/truth.json`` what the images cannot show.
    """
    country = simulate_country(settings, seed)
    write_scenes(country, folder)
    country.units.to_csv(folder / "units.csv", index=False, float_format="%.7f")
    share = 1 / (1 + settings.outcome_noise**2)
    truth = {"outcome": "wealth", "share_of_variance_in_images": round(share, 4)}
    (folder / "truth.json").write_text(json.dumps(truth, indent=1))
    count(units=len(country.units))
    return folder


def write_scenes(country: Country, folder: Path) -> None:
    """Write ``folder/scenes``: two scenes a date, west and east, one Landsat Collection 2 file a band
    and the quality band QA_PIXEL.
    """
    (folder / "scenes").mkdir()
    columns = country.images.shape[-1]
    half = columns // 2
    n_files = 0
    for number, date in enumerate(country.dates):
        for path, part in (("170060", slice(0, half)), ("169060", slice(half, None))):
            name = f"LC08_L2SP_{path}_{date:%Y%m%d}_02_T1"
            corner = _shifted(country.transform, part.start or 0)
            codes = np.where(country.cloudy[number, :, part], CLOUD, CLEAR).astype(np.uint16)
            codes[:2, :2] = FILL
            write_codes(folder / "scenes" / f"{name}_QA_PIXEL.TIF", codes, corner, CRS)
            image = country.images[number][:, :, part].copy()
            image[:, codes == FILL] = np.nan
            for band, values in zip(BANDS, image, strict=True):
                write_scene(
                    folder / "scenes" / f"{name}_{band}.TIF", values[None], corner, CRS,
                    "landsat_c2_l2",
                )  # fmt: skip
            n_files += len(BANDS) + 1
    count(files_written=n_files, dates=len(country.dates))


def read_country_truth(folder: Path) -> dict[str, Any]:
    """What is true of a country that :func:`write_country` wrote."""
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return truth


def _field(random: np.random.Generator, shape: tuple[int, int], width: float) -> Floats:
    """White noise smoothed over ``width`` pixels (wrapped), unit variance."""
    field = gaussian_filter(random.standard_normal(shape), width, mode="wrap")
    return np.asarray(field / field.std())


def _share(score: Floats) -> Floats:
    """A score as a share between 0 and 1."""
    return np.asarray(1 / (1 + np.exp(-4 * score)))


def _towns(
    random: np.random.Generator,
    shape: tuple[int, int],
    centres: Floats,
    dates: pd.DatetimeIndex,
) -> Floats:
    """(date, y, x): built-up share; blocks of houses fill up outwards from each centre."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    houses = _field(random, shape, 1.3)
    years = np.asarray((dates - dates[0]).days) / 365.25
    reach = random.uniform(12, 30, len(centres))
    growth = random.uniform(0, 0.12, len(centres))
    built = np.empty((len(dates), *shape))
    for number, year in enumerate(years):
        density = np.full(shape, -1.2)
        for (row, column), size, speed in zip(centres, reach, growth, strict=True):
            distance = np.hypot(rows - row, columns - column)
            density += 3.2 * np.exp(-0.5 * (distance / (size * (1 + speed * year))) ** 2)
        built[number] = _share(density + 0.6 * houses)
    return built


def _surface(forest: Floats, water: Floats, town: Floats, season: float) -> Floats:
    """(band, y, x) reflectance of mixed pixels; fields are greener in their season."""
    green_up = np.array([-0.01, -0.02, 0.06, -0.02])[:, None, None] * season
    kinds = {name: np.array(values)[:, None, None] for name, values in REFLECTANCE.items()}
    land = forest * kinds["forest"] + (1 - forest) * (kinds["fields"] + green_up)
    dry = (1 - town) * land + town * kinds["town"]
    return np.asarray((1 - water) * dry + water * kinds["water"])


def _clouds(
    random: np.random.Generator, shape: tuple[int, int], mean_share: float
) -> NDArray[np.bool_]:
    if mean_share == 0:
        return np.zeros(shape, dtype=bool)
    share = random.beta(1, (1 - mean_share) / mean_share)
    field = _field(random, shape, 18)
    return np.asarray(field < np.quantile(field, share))


def _units(
    random: np.random.Generator, settings: SceneSettings, town: Floats, centres: Floats
) -> pd.DataFrame:
    margin = 20
    shape = np.array(town.shape[1:])
    places = random.uniform(margin, shape - margin, (settings.n_units, 2))
    level = np.stack([gaussian_filter(built, 8) for built in (town[0], town[-1])])
    rows, columns = places.astype(int).T
    now, growth = level[1, rows, columns], (level[1] - level[0])[rows, columns]
    signal = _standard(_standard(now) + _standard(growth))
    noise = _standard(random.standard_normal(settings.n_units))
    wealth = _standard(signal + settings.outcome_noise * noise)
    nearest = np.hypot(*(places[:, :, None] - centres.T[None]).swapaxes(0, 1)).argmin(axis=1)
    longitude, latitude = earth_coordinates(places)
    names = [f"place-{number:04d}" for number in range(settings.n_units)]
    table = {"unit_id": names, "longitude": longitude, "latitude": latitude}
    return pd.DataFrame({**table, "town": nearest, "wealth": wealth})


def earth_coordinates(places: Floats) -> tuple[Floats, Floats]:
    """Longitude and latitude of (place, 2) rows and columns of the country's pixels."""
    from pyproj import Transformer

    to_earth = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    easting, northing = WEST + places[:, 1] * PIXEL, NORTH - places[:, 0] * PIXEL
    longitude, latitude = to_earth.transform(easting, northing)
    return longitude, latitude


def _standard(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-12))


def _shifted(transform: Transform, columns: int) -> Transform:
    across, _, west, _, down, north = transform
    return (across, 0.0, west + columns * across, 0.0, down, north)
