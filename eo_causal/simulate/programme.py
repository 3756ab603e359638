"""A randomised programme that works best where the land was getting greener: images in sequence show
for whom, a single image does not.
"""

import json
from dataclasses import dataclass, replace
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
from eo_causal.errors import ConfigError
from eo_causal.simulate.aid import WATER, greenness
from eo_causal.simulate.scenes import (
    BANDS,
    CRS,
    Country,
    SceneSettings,
    earth_coordinates,
    simulate_country,
    write_scenes,
)

Floats = NDArray[np.float64]
Pixels = NDArray[np.intp]
LAND_COVER = {1: "forest", 2: "fields", 3: "town", 4: "water"}
MEAN_EFFECT, EFFECT_OF_CHANGE = 0.4, 0.5
LEVEL, SCHOOLING, PLACE, NOISE = 0.4, 0.3, 0.3, 0.7  # what else moves the outcome
TRIAL_SHARE = 0.6  # of the country, from the west
PATCH = 10  # pixels over which the land turns greener, or less green, together
GAP = 2  # pixels between the squares in which a place lies anywhere
URBAN = 0.5  # built-up share above which land is town
FOREST = 0.62  # greenness above which land is forest


class ProgrammeSettings(Settings):
    """The randomised programme a demo simulates."""

    country: SceneSettings = SceneSettings(
        rows=768, columns=1024, cloud=0.05,
        dates=("2005-07-03", "2007-06-24", "2009-07-10", "2011-07-03"),
    )  # fmt: skip
    n_places: Annotated[int, Field(ge=40, le=100_000)] = Field(
        default=500, description="places of the trial, with one to three groups of people each"
    )
    n_elsewhere: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=300, description="places outside the trial area"
    )
    n_other_kind: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=60, description="of these, in water or in a town, where no place of the trial is"
    )
    treatment_start: str = Field(
        default="2012-01-01", pattern=r"^\d{4}-\d\d-\d\d$", description="first day of the programme"
    )
    change: Annotated[float, Field(ge=0, le=0.1)] = Field(
        default=0.05, description="sd of the change of greenness (NDVI) before the programme"
    )
    chip_pixels: Annotated[int, Field(ge=4, le=128)] = Field(
        default=16, description="side of the land around a place that counts, pixels"
    )


@dataclass(frozen=True)
class Programme:
    """The programme and what is true of it.

    Attributes
    ----------
    country : Country
        Its images, with clouds.
    units : DataFrame
        ``unit_id``, ``place_id``, ``longitude``, ``latitude``, ``offered`` (0/1), ``outcome``,
        ``schooling``, ``age``, and ``effect``, which nobody sees.
    elsewhere : DataFrame
        ``place_id``, ``longitude``, ``latitude``, ``area``, and the unseen ``effect`` and ``kind``
        (``same``, ``water``, ``town``).
    land_cover : (y, x) uint8 array
        Codes of ``LAND_COVER`` on the grid of the images.
    """

    country: Country
    units: pd.DataFrame
    elsewhere: pd.DataFrame
    land_cover: NDArray[np.uint8]


def write_programme(settings: ProgrammeSettings, *, seed: int, folder: Path) -> Path:
    """Simulate the programme and write what an evaluator would get.

    ``folder/scenes`` holds Landsat scenes, ``folder/units.csv`` groups of people with ``offered``
    (0/1), ``outcome``, ``schooling`` and ``age``, ``folder/elsewhere.csv`` places outside the trial
    area, ``folder/land_cover.tif`` classes that ``folder/land_cover_classes.csv`` names, and
    ``folder/truth.json`` the effects.

    Raises
    ------
    ConfigError
        The country has no room for so many places.
    """
    programme = draw_programme(settings, seed)
    units, elsewhere = programme.units, programme.elsewhere
    write_scenes(programme.country, folder)
    for table, name, unseen in (
        (units, "units.csv", ["effect"]), (elsewhere, "elsewhere.csv", ["effect", "kind"])
    ):  # fmt: skip
        table.drop(columns=unseen).to_csv(folder / name, index=False, float_format="%.7f")
    _write_land_cover(programme, folder)
    truth = {
        "ate": float(units["effect"].mean()),
        "modifier": "how much greener the land around the place became before the programme",
        "effects": dict(zip(units["unit_id"], units["effect"], strict=True)),
        "elsewhere_effects": dict(zip(elsewhere["place_id"], elsewhere["effect"], strict=True)),
        "kinds": dict(zip(elsewhere["place_id"], elsewhere["kind"], strict=True)),
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1))
    count(units=len(units), places=units["place_id"].nunique(), places_elsewhere=len(elsewhere))
    return folder


def read_programme_truth(folder: Path) -> dict[str, Any]:
    """What is true of a programme that :func:`write_programme` wrote.

    Returns
    -------
    dict
        ``ate`` (mean effect of the units), ``effects`` by ``unit_id``, ``elsewhere_effects`` and
        ``kinds`` by ``place_id``, and ``modifier``: in words, what the effect follows.
    """
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return truth


def draw_programme(settings: ProgrammeSettings, seed: int) -> Programme:
    """The programme in memory.

    With s the change of a chip's mean greenness (NDVI, no clouds) from the first date to the last
    before the programme, and l its level on that last date, both standardised over the trial's places,
    the effect is tau = 0.4 + 0.5 s. The offer is drawn a place, W ~ Bernoulli(1/2); schooling is
    0.2 l + N(0, 1); outcome = tau W + 0.4 l + 0.3 schooling + N(0, 0.3^2) a place + N(0, 0.7^2).
    The change ends at zero on the last date, so that its level says nothing of it.

    Raises
    ------
    ConfigError
        The country has no room for so many places.
    """
    clear = simulate_country(settings.country.model_copy(update={"cloud": 0.0}), seed)
    land_cover = _land_cover(clear)
    clear = _with_change(clear, settings, seed)
    clouded = simulate_country(settings.country, seed)
    images = np.where(clouded.cloudy[:, None], clouded.images, clear.images)
    trial, same, other, kinds = _places(clear, settings, seed)
    change, level = _seen(clear, settings, trial)
    outside = np.concatenate([same, other])
    change_outside = (_seen(clear, settings, outside)[0] - change.mean()) / change.std()
    units = _units(trial, _standard(change), _standard(level), seed)
    longitude, latitude = earth_coordinates(outside.astype(np.float64))
    elsewhere = pd.DataFrame(
        {
            "place_id": [f"elsewhere-{number:04d}" for number in range(len(outside))],
            "longitude": longitude, "latitude": latitude,
            "area": np.where(outside[:, 0] < settings.country.rows / 2, "north-east", "south-east"),
            "effect": MEAN_EFFECT + EFFECT_OF_CHANGE * change_outside,
            "kind": ["same"] * len(same) + kinds,
        }
    )  # fmt: skip
    return Programme(replace(clouded, images=images), units, elsewhere, land_cover)


def _before(country: Country, settings: ProgrammeSettings) -> Pixels:
    """Positions of the dates before the programme, of which there must be two."""
    dates = np.flatnonzero(country.dates < pd.Timestamp(settings.treatment_start))
    if len(dates) < 2:
        raise ConfigError(
            f"country.dates has {len(dates)} date(s) before {settings.treatment_start}: a change"
            " needs two. Add earlier dates.", dates=len(dates),
        )  # fmt: skip
    return dates


def _with_change(country: Country, settings: ProgrammeSettings, seed: int) -> Country:
    """The country whose dry land turns greener or less green in patches, linearly up to the last date
    before the programme; near infrared and red keep their sum.
    """
    field = generator(seed, "programme", "change").standard_normal(country.town.shape[1:])
    field = gaussian_filter(field, PATCH, mode="wrap")
    green, before = greenness(country.images), _before(country, settings)
    change = settings.change * field / field.std() * (green > WATER).all(axis=0)
    days = np.asarray((country.dates - country.dates[before[-1]]).days, dtype=float)
    share = days / -days[before[0]]
    green = np.clip(green + change * share[:, None, None], -1, 1)
    images, red, nir = country.images.copy(), BANDS.index("red"), BANDS.index("nir")
    both = images[:, red] + images[:, nir]
    images[:, red], images[:, nir] = both * (1 - green) / 2, both * (1 + green) / 2
    return replace(country, images=images)


def _land_cover(country: Country) -> NDArray[np.uint8]:
    """(y, x) codes of ``LAND_COVER``, of the images' mean and the towns at the end."""
    green = greenness(country.images).mean(axis=0)
    kinds = [country.town[-1] > URBAN, green < WATER, green > FOREST]
    return np.select(kinds, [3, 4, 1], default=2).astype(np.uint8)


def _places(
    country: Country, settings: ProgrammeSettings, seed: int
) -> tuple[Pixels, Pixels, Pixels, list[str]]:
    """(place, 2) rows and columns: of the trial, of like places elsewhere, of another kind there, and
    that kind.
    """
    random = generator(seed, "programme", "places")
    side, n_other = settings.chip_pixels, min(settings.n_other_kind, settings.n_elsewhere)
    last = _before(country, settings)[-1]
    green, town = greenness(country.images[last]), country.town[last]
    rows, columns = green.shape
    border = int(TRIAL_SHARE * columns)
    trial, same = (
        _chosen(random, _dry(_shaken(random, (0, rows), within, side), green, side), n)
        for within, n in (
            ((0, border), settings.n_places), ((border, columns), settings.n_elsewhere - n_other)
        )
    )  # fmt: skip
    dense = _grid((0, rows), (border, columns), side, side // 2)
    water = _chips(green, dense, side).mean(axis=(1, 2)) < 0
    built = _chips(town, dense, side).mean(axis=(1, 2)) > URBAN
    other = _chosen(random, dense[water | built], n_other)
    in_water = _chips(town, other, side).mean(axis=(1, 2)) <= URBAN
    return trial, same, other, ["water" if wet else "town" for wet in in_water]


def _grid(rows: tuple[int, int], columns: tuple[int, int], side: int, step: int) -> Pixels:
    """(place, 2) centres, ``step`` apart, of squares of ``side`` pixels within the range."""
    centres = [
        np.arange(low + side // 2, high - (side + 1) // 2 + 1, step)
        for low, high in (rows, columns)
    ]
    return np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, 2)


def _shaken(
    random: np.random.Generator, rows: tuple[int, int], columns: tuple[int, int], side: int
) -> Pixels:
    """(place, 2) centres off a regular grid, whose squares of ``side`` pixels do not overlap."""
    places = _grid(rows, columns, side + GAP, side + GAP)
    return places + random.integers(-(GAP // 2), GAP // 2 + 1, places.shape)


def _dry(places: Pixels, green: Floats, side: int) -> Pixels:
    """The places around which every pixel is green: no water, no town."""
    return places[_chips(green, places, side).min(axis=(1, 2)) > WATER]


def _chosen(random: np.random.Generator, places: Pixels, n: int) -> Pixels:
    if len(places) < n:
        raise ConfigError(
            f"The simulated country has room for {len(places)} of {n} places. Lower n_places,"
            " n_elsewhere or n_other_kind, or enlarge the country.", n=n, room=len(places),
        )  # fmt: skip
    return places[np.sort(random.permutation(len(places))[:n])]


def _chips(image: Floats, places: Pixels, side: int) -> Floats:
    """(place, y, x) squares of the image around the places."""
    half = side // 2
    windows = np.lib.stride_tricks.sliding_window_view(image, (2 * half, 2 * half))
    return np.asarray(windows[places[:, 0] - half, places[:, 1] - half])


def _seen(country: Country, settings: ProgrammeSettings, places: Pixels) -> tuple[Floats, Floats]:
    """Change and last level of the mean greenness of chips before the programme."""
    before = _before(country, settings)
    first, last = (
        _chips(greenness(country.images[date]), places, settings.chip_pixels).mean(axis=(1, 2))
        for date in before[[0, -1]]
    )
    return last - first, last


def _units(places: Pixels, change: Floats, level: Floats, seed: int) -> pd.DataFrame:
    random = generator(seed, "programme", "units")
    groups = random.integers(1, 4, len(places))
    offered = random.integers(0, 2, len(places))
    unseen = random.normal(0, PLACE, len(places))
    place = np.repeat(np.arange(len(places)), groups)
    n = len(place)
    longitude, latitude = earth_coordinates(places.astype(np.float64))
    effect = MEAN_EFFECT + EFFECT_OF_CHANGE * change[place]
    schooling = 0.2 * level[place] + random.standard_normal(n)
    usual = LEVEL * level[place] + SCHOOLING * schooling + unseen[place]
    return pd.DataFrame(
        {
            "unit_id": [f"group-{number:04d}" for number in range(n)],
            "place_id": [f"place-{number:04d}" for number in place],
            "longitude": longitude[place], "latitude": latitude[place], "offered": offered[place],
            "outcome": effect * offered[place] + usual + random.normal(0, NOISE, n),
            "schooling": schooling, "age": random.normal(30, 8, n), "effect": effect,
        }
    )  # fmt: skip


def _write_land_cover(programme: Programme, folder: Path) -> None:
    import rasterio
    from rasterio.transform import Affine

    classes = pd.DataFrame({"code": list(LAND_COVER), "class": list(LAND_COVER.values())})
    classes.to_csv(folder / "land_cover_classes.csv", index=False)
    rows, columns = programme.land_cover.shape
    with rasterio.open(
        folder / "land_cover.tif", "w", driver="GTiff", dtype="uint8", count=1, height=rows,
        width=columns, crs=CRS, transform=Affine(*programme.country.transform), tiled=True,
        blockxsize=128, blockysize=128, compress="deflate", nodata=0,
    ) as target:  # fmt: skip
        target.write(programme.land_cover, 1)
        target.set_band_description(
            1, ", ".join(f"{code} {name}" for code, name in LAND_COVER.items())
        )


def _standard(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())
