"""A country whose roofs show how wealthy places are, surveyed in part, with trials in the rest of it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError
from eo_causal.simulate.scenes import (
    REFLECTANCE,
    Country,
    SceneSettings,
    earth_coordinates,
    simulate_country,
    write_scenes,
)

Floats = NDArray[np.float64]
Pixels = NDArray[np.intp]
GREEN = 0.06  # near infrared above red by this in every pixel: dry land without a town
REGION = 0.6  # share of the variance of wealth that neighbours share
SHARED = 4  # cells over which they do
LEAST_ROOFS, MOST_ROOFS = 0.05, 0.6  # of a cell's pixels


class WealthSettings(Settings):
    """The country and its trials that a demo simulates."""

    country: SceneSettings = SceneSettings(
        rows=832, columns=1280, cloud=0.0, dates=("2018-07-03",)
    )  # fmt: skip
    cell_pixels: Annotated[int, Field(ge=8, le=64)] = Field(
        default=16, description="side of a place, pixels; no two places share ground"
    )
    n_survey: Annotated[int, Field(ge=100)] = Field(default=800, description="surveyed places")
    n_trial: Annotated[int, Field(ge=20)] = Field(default=450, description="places of each trial")
    effects: dict[str, float] = Field(
        default={"grants": 0.6, "training": 0.3},
        description="randomised trials and what they add to wealth, sd of wealth",
    )
    n_pilot: Annotated[int, Field(ge=0)] = Field(
        default=330, description="places of each trial that were surveyed too"
    )
    without_pilot: tuple[str, ...] = Field(
        default=("training",), description="trials in which no place was surveyed"
    )
    sited: str | None = Field(
        default="roads",
        description="a programme that was sited by what can be seen, without effect",
    )
    blur: Annotated[float, Field(ge=0)] = Field(
        default=0.6, description="what moves roofs besides wealth, sd of wealth"
    )


@dataclass(frozen=True)
class WealthCountry:
    """The country and what is true of it.

    Attributes
    ----------
    country : Country
        With the roofs of all places.
    survey : DataFrame
        ``unit_id``, ``longitude``, ``latitude``, ``region``, ``wealth``.
    trials : dict
        Name -> DataFrame of ``unit_id``, ``longitude``, ``latitude``, ``treated`` (0/1),
        ``wealth_measured`` (NaN outside the pilot) and ``wealth``, which nobody knows.
    effects : dict
        Name -> difference in mean wealth that a survey of all its places would find.
    """

    country: Country
    survey: pd.DataFrame
    trials: dict[str, pd.DataFrame]
    effects: dict[str, float]


def write_wealth_country(settings: WealthSettings, *, seed: int, folder: Path) -> Path:
    """Simulate the country and write what a mapping team and its users would get.

    ``folder/scenes`` holds Landsat scenes, ``folder/survey.csv`` surveyed places with ``wealth``,
    ``folder/trial_<name>.csv`` places with ``treated`` and ``wealth_measured`` for a pilot,
    ``folder/truth.json`` the effects.

    Raises
    ------
    ConfigError
        The country has no room for so many places.
    """
    found = draw_wealth_country(settings, seed)
    write_scenes(found.country, folder)
    found.survey.to_csv(folder / "survey.csv", index=False, float_format="%.7f")
    for name, table in found.trials.items():
        seen = table.drop(columns="wealth")
        seen.to_csv(folder / f"trial_{name}.csv", index=False, float_format="%.7f")
    truth = {"trials": found.effects}
    (folder / "truth.json").write_text(json.dumps(truth, indent=1))
    n_trial = sum(map(len, found.trials.values()))
    count(places_surveyed=len(found.survey), places_in_trials=n_trial, trials=len(found.trials))
    return folder


def read_wealth_truth(folder: Path) -> dict[str, Any]:
    """What is true of a country that :func:`write_wealth_country` wrote."""
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return truth


def draw_wealth_country(settings: WealthSettings, seed: int) -> WealthCountry:
    """The country in memory.

    Wealth is standard normal over dry places, 60 % of its variance shared by neighbours. In randomised
    trials W ~ Bernoulli(1/2) adds the effect; the sited programme goes where roofs are many,
    W ~ Bernoulli(expit(2 z)), z = standardised share of roofs, and adds nothing. A pixel is a roof with
    probability 0.05 + 0.55 expit(1.5 (wealth + blur N(0, 1))), drawn after the trials, so that images
    show what treatment did to wealth and nothing else of it.

    Raises
    ------
    ConfigError
        The country has no room for so many places.
    """
    random = generator(seed, "wealth")
    country = simulate_country(settings.country, seed)
    cells = _dry_cells(country, settings.cell_pixels)
    names = [*settings.effects, *([settings.sited] if settings.sited else [])]
    wanted = settings.n_survey + len(names) * settings.n_trial
    if len(cells) < wanted:
        raise ConfigError(
            f"The simulated country has room for {len(cells)} of {wanted} places. Lower n_survey or"
            " n_trial, or enlarge the country.", n=wanted, room=len(cells),
        )  # fmt: skip
    wealth = _wealth(random, cells, country, settings.cell_pixels)
    order = random.permutation(len(cells))
    roles = np.split(order[:wanted], settings.n_survey + settings.n_trial * np.arange(len(names)))
    treated = np.zeros(len(cells))
    for name, own in zip(names, roles[1:], strict=True):
        if name in settings.effects:
            treated[own] = random.integers(0, 2, len(own))
            wealth[own] += settings.effects[name] * treated[own]
    share = expit(1.5 * (wealth + settings.blur * random.standard_normal(len(cells))))
    if settings.sited:
        own = roles[-1]
        seen = (share[own] - share[own].mean()) / share[own].std()
        treated[own] = random.random(len(own)) < expit(2 * seen)
    roofs = LEAST_ROOFS + (MOST_ROOFS - LEAST_ROOFS) * share
    images = _with_roofs(random, country, cells, roofs, settings.cell_pixels)
    tables = {
        name: _table(name, cells[own], settings.cell_pixels).assign(
            treated=treated[own].astype(int),
            wealth_measured=_piloted(wealth[own], name, settings),
            wealth=wealth[own],
        )
        for name, own in zip(names, roles[1:], strict=True)
    }
    survey = _table("survey", cells[roles[0]], settings.cell_pixels)
    region = cells[roles[0]] // 8
    survey["region"] = [f"region-{row}-{column}" for row, column in region]
    effects = {
        name: float(t["wealth"][t["treated"] == 1].mean() - t["wealth"][t["treated"] == 0].mean())
        for name, t in tables.items()
    }
    return WealthCountry(
        replace(country, images=images), survey.assign(wealth=wealth[roles[0]]), tables, effects
    )


def _dry_cells(country: Country, side: int) -> Pixels:
    """(cell, 2) rows and columns of cells whose every pixel is green."""
    red, nir = country.images[-1, 1], country.images[-1, 2]
    rows, columns = red.shape[0] // side, red.shape[1] // side
    cut = np.s_[: rows * side, : columns * side]
    green = (nir - red)[cut].reshape(rows, side, columns, side).min(axis=(1, 3))
    return np.argwhere(green > GREEN)


def _wealth(random: np.random.Generator, cells: Pixels, country: Country, side: int) -> Floats:
    shape = tuple(size // side for size in country.town.shape[1:])
    field = gaussian_filter(random.standard_normal(shape), SHARED, mode="wrap")
    shared = field[cells[:, 0], cells[:, 1]]
    shared = (shared - shared.mean()) / shared.std()
    own = random.standard_normal(len(cells))
    return np.asarray(np.sqrt(REGION) * shared + np.sqrt(1 - REGION) * own)


def _with_roofs(
    random: np.random.Generator, country: Country, cells: Pixels, share: Floats, side: int
) -> NDArray[np.float32]:
    """Images in which each cell's pixels are roofs with its probability."""
    images = country.images.copy()
    roof = np.array(REFLECTANCE["town"], dtype=np.float32)[:, None] * 1.3
    for (row, column), probability in zip(cells * side, share, strict=True):
        built = random.random((side, side)) < probability
        window = images[:, :, row : row + side, column : column + side]
        window[:, :, built] = roof
    return images


def _piloted(wealth: Floats, name: str, settings: WealthSettings) -> Floats:
    """Measured in the first places, which are in random order."""
    n = 0 if name in settings.without_pilot else settings.n_pilot
    return np.where(np.arange(len(wealth)) < n, wealth, np.nan)


def _table(name: str, cells: Pixels, side: int) -> pd.DataFrame:
    middles = (cells * side + side // 2 + 0.25).astype(np.float64)  # off the edges of pixels
    longitude, latitude = earth_coordinates(middles)
    ids = [f"{name}-{number:04d}" for number in range(len(cells))]
    return pd.DataFrame({"unit_id": ids, "longitude": longitude, "latitude": latitude})
