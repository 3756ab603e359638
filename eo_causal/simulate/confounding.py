"""Studies with chips whose effect is known: confounding that only the image shows, clusters, nulls."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from eo_causal.core.random import generator
from eo_causal.core.units import StudyUnits
from eo_causal.errors import ConfigError

Floats = NDArray[np.float64]
EFFECT = 2.0
ROW_GRADIENT = 0.1
YEAR = 2015
BANDS = ("red", "green", "blue")


@dataclass(frozen=True)
class ConfoundedWorld:
    """Units, what is true of them, and chips.

    Attributes
    ----------
    units : DataFrame
        One row a unit: ``unit_id``, ``image_key``, ``treatment``, ``outcome`` and the world's own
        columns.
    chips : DataArray (unit, time, band, y, x)
        float32, one frame, one entry an image key.
    effect : float
        The true average effect.
    """

    units: pd.DataFrame
    chips: xr.DataArray
    effect: float

    def study_units(self, *covariates: str) -> StudyUnits:
        """The units as estimators take them, with these columns as covariates.

        Clusters are image keys; units have no place.

        Raises
        ------
        ConfigError
            A column the world does not have.
        """
        absent = [name for name in covariates if name not in self.units.columns]
        if absent:
            raise ConfigError(
                f"the world has no column {', '.join(absent)}; it has"
                f" {', '.join(self.units.columns)}.", columns=absent,
            )  # fmt: skip
        table = self.units[["unit_id", "image_key", "treatment", "outcome"]].assign(
            cluster=self.units["image_key"], easting=np.nan, northing=np.nan
        )
        return StudyUnits(table, self.units[list(covariates)].astype(float))


def tutorial(
    seed: int, n: int = 1000, size: int = 64, correlation: float = 0.95
) -> ConfoundedWorld:
    """Half of the confounding is in covariates, half only in the brightness of a band (C3).

    C ~ N(0, 1), X ~ N(0, I_2), logit P(W) = C + X_1 + X_2, Y = 2 W + C + X_1 + X_2 + N(0, 1). Band
    ``red`` is C scaled to [0, 1] in every pixel; ``green`` and ``blue`` are one uniform draw each; all
    darken by 0.1 from the last to the first row.

    Parameters
    ----------
    correlation : float
        Between C and the column ``proxy``, rho C + sqrt(1 - rho^2) N(0, 1).

    Returns
    -------
    ConfoundedWorld
        ``units`` has ``x1``, ``x2``, ``confounder`` (C) and ``proxy``. Adjusting for x1, x2 and the
        confounder is the oracle, for x1 and x2 alone the study that is blind to images.

    Notes
    -----
    After the simulated tutorial of github.com/cjerzak/causalimages-software.
    """
    random = generator(seed, "tutorial")
    confounder, x1, x2 = random.standard_normal((3, n))
    score = confounder + x1 + x2
    treatment = (random.random(n) < 1 / (1 + np.exp(-score))).astype(float)
    outcome = EFFECT * treatment + score + random.standard_normal(n)
    noise = random.standard_normal(n)
    columns = {
        "treatment": treatment,
        "outcome": outcome,
        "x1": x1,
        "x2": x2,
        "confounder": confounder,
        "proxy": correlation * confounder + np.sqrt(1 - correlation**2) * noise,
    }
    red = (confounder - confounder.min()) / np.ptp(confounder)
    levels = np.column_stack([red, random.random((n, 2))])
    return _world(columns, np.arange(n), levels, size, EFFECT)


def clustered(
    seed: int, n_images: int = 200, n_each: int = 5, correlation: float = 0.5, size: int = 16
) -> ConfoundedWorld:
    """A trial in which whole images are treated and units of an image are alike (C4).

    W ~ Bernoulli(1/2) by image; Y = W + sqrt(rho) u_g + sqrt(1 - rho) N(0, 1), u_g ~ N(0, 1). Chips
    say nothing of either.

    Parameters
    ----------
    correlation : float
        Within images, rho.
    """
    random = generator(seed, "clustered")
    image = np.repeat(np.arange(n_images), n_each)
    treatment = (random.random(n_images) < 0.5).astype(float)[image]
    shared, own = random.standard_normal(n_images)[image], random.standard_normal(len(image))
    outcome = treatment + np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    columns = {"treatment": treatment, "outcome": outcome}
    return _world(columns, image, random.random((n_images, 3)), size, 1.0)


def null(seed: int, n: int = 1000, size: int = 16) -> ConfoundedWorld:
    """Neither treatment nor outcome depends on anything (C5).

    W ~ Bernoulli(1/2), Y ~ N(0, 1); a column ``x1`` and the bands' levels are noise.
    """
    random = generator(seed, "null")
    columns = {
        "treatment": (random.random(n) < 0.5).astype(float),
        "outcome": random.standard_normal(n),
        "x1": random.standard_normal(n),
    }
    return _world(columns, np.arange(n), random.random((n, 3)), size, 0.0)


def _world(
    columns: dict[str, Floats], image: NDArray[np.intp], levels: Floats, size: int, effect: float
) -> ConfoundedWorld:
    """Units of images, and chips of even bands with a gradient over the rows."""
    keys = np.array([f"image_{number:05d}" for number in range(len(levels))])
    gradient = ROW_GRADIENT * np.linspace(0, 1, size)
    values = np.broadcast_to(
        levels[:, None, :, None, None] + gradient[:, None], (len(levels), 1, len(BANDS), size, size)
    )
    date = np.datetime64(f"{YEAR}-01-01", "ns")
    chips = xr.DataArray(
        values.astype(np.float32),
        dims=("unit", "time", "band", "y", "x"),
        coords={
            "unit_id": ("unit", keys),
            "image_key": ("unit", keys),
            "band": list(BANDS),
            "datetime": (("unit", "time"), np.full((len(keys), 1), date)),
            "fractional_year": (("unit", "time"), np.full((len(keys), 1), float(YEAR))),
        },
        attrs={"units": "1"},
        name="chips",
    )
    names = {
        "unit_id": [f"unit_{number:05d}" for number in range(len(image))],
        "image_key": keys[image].astype(object),
    }
    return ConfoundedWorld(pd.DataFrame(names | columns), chips, effect)
